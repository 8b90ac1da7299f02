"""Net2WiderNet (Chen et al., ICLR 2016, arXiv 1511.05641): any larger FFN, by copying random hidden units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from lib.growth.copies import Copies, Copying, copies_of
from lib.growth.growth import generator
from lib.growth.layout import block_of
from lib.growth.networks import Config
from lib.system.checks import require


@dataclass(frozen=True)
class Net2Wider(Copying):
    """FFNs of ``hidden`` units, or experts of hidden / split: the old units, then copies of random ones.

    What a unit passes on is divided by the number of its copies, so the function is kept.  All experts of a layer copy
    the same units.  No learning rate of a whole tensor can follow units with different numbers of copies: it is the one
    for their mean (our choice).
    """

    hidden: int

    def config(self, config: Config) -> Config:
        require(self.hidden >= config.hidden, f"hidden is {self.hidden}, the FFN has {config.hidden} units: choose more")
        split = config.moe.split if config.moe else 1
        require(self.hidden % split == 0, f"hidden {self.hidden} cannot be cut into split={split} experts: choose a multiple")
        return replace(config, hidden=self.hidden)

    def exact(self, config: Config) -> bool:
        return True

    def copies(self, config: Config, name: str, seed: int) -> Callable[[str, int], Copies | None]:
        block, _ = block_of(name)

        def drawn(kind: str, size: int) -> Copies | None:
            if kind != "hidden":
                return None
            added = size * self.hidden // config.hidden - size  # an expert has only a share of the units
            # Drawn for the layer, not the parameter: what makes a unit and what reads it must agree.
            more = torch.randint(size, (added,), generator=generator(seed, f"blocks.{block}.ffn"))
            return copies_of(torch.cat([torch.arange(size), more]))

        return drawn
