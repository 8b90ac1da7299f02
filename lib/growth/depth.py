"""Deeper by copies of blocks: silent ones, which keep the function, or whole ones, which do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.growth.growth import Growth
from lib.growth.layout import block_of
from lib.growth.moments import Moments
from lib.growth.networks import Config
from lib.growth.rates import Factors
from lib.system.checks import one_of, require

#: Where a block writes into the residual stream: what a silent copy has zeros in.
WRITES = ("attention.out.", "ffn.down.", "ffn.fc2.", "ffn.experts.w_out", "ffn.experts.b_out")

#: Ways to deepen; True: new blocks are silent.
HOW = {"interleaved": True, "top": True, "stack": False, "interpose": False, "copy-last": False}


@dataclass(frozen=True)
class Deepen(Growth):
    """``depth`` blocks, each a copy of one of the old ones.  With 0 1 2 3 → 6 blocks, and ' for silent copies:

    "interleaved"  0 1 1' 2 3 3'   LLaMA-Pro (Wu et al., arXiv 2401.02415): each group of blocks is followed by a copy of
                                   its last one
    "top"          0 1 2 3 3' 3'   all new ones on top
    "stack"        0 1 2 3 0 1 2 3 (8 blocks)  G_stack (Du et al., arXiv 2405.15319): the whole, repeated
    "interpose"    0 0 1 2 2 3     each followed by its copies (arXiv 2510.08008)
    "copy-last"    0 1 2 3 3 3     the last one, again and again

    A silent copy has zeros in all that it writes, for a mixture in every expert, and so is the identity until it has learnt
    something.  Its norms stay: a gain of zero would leave a SwiGLU block without any gradient.

    AdamW's moments stay with the first copy of each block and start from zero, at step 0, in the others.
    """

    depth: int
    how: str = "interleaved"

    def __post_init__(self) -> None:
        one_of("how", self.how, HOW)

    def plan(self, old_depth: int) -> tuple[tuple[int, bool], ...]:
        """For each new block, the old one that it copies, and whether it is silent.

        Raises ValueError if the new depth is below the old one, or is no multiple of it for "stack".
        """
        new, old = self.depth, old_depth
        require(new >= old, f"depth is {new}, the model has {old} blocks: choose more")
        require(self.how != "stack" or new % old == 0, f"{new} blocks are no whole number of stacks of {old}: choose a multiple")
        match self.how:
            case "stack":
                sources = [place % old for place in range(new)]
            case "interleaved":  # block i ends its share of the new ones, of which there are (i + 1)·new/old up to here
                sources = [i for i in range(old) for _ in range((i + 1) * new // old - i * new // old)]
            case "interpose":
                sources = [place * old // new for place in range(new)]
            case "top" | "copy-last":
                sources = [min(place, old - 1) for place in range(new)]
        return tuple((source, HOW[self.how] and source in sources[:place]) for place, source in enumerate(sources))

    def config(self, config: Config) -> Config:
        self.plan(config.depth)
        return replace(config, depth=self.depth)

    def exact(self, config: Config) -> bool:
        return HOW[self.how] or self.depth == config.depth

    def weights(self, config: Config, tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        silent = {place for place, (_, silent) in enumerate(self.plan(config.depth)) if silent}

        def copied(name: str) -> Tensor:
            place, inner = block_of(name)
            tensor = tensors[self.source(config, name)]
            return torch.zeros_like(tensor) if place in silent and inner.startswith(WRITES) else tensor

        return {name: copied(name) for name in self.names(config, tensors)}

    def moments(self, config: Config, moments: Moments, seed: int) -> Moments:
        sources = [source for source, _ in self.plan(config.depth)]
        kept = {
            name: self.source(config, name)
            for name in self.names(config, moments.first)
            if (place := block_of(name)[0]) is None or sources.index(sources[place]) == place
        }
        return Moments(*({new: old[name] for new, name in kept.items()} for old in (moments.first, moments.second, moments.step)))

    def names(self, config: Config, tensors: dict[str, Tensor]) -> list[str]:
        """The larger model's names for ``tensors``."""
        outside = [name for name in tensors if block_of(name)[0] is None]
        inside = [(block, inner) for block, inner in map(block_of, tensors) if block is not None]
        return outside + [
            f"blocks.{place}.{inner}"
            for place, (source, _) in enumerate(self.plan(config.depth))
            for block, inner in inside
            if block == source
        ]

    def source(self, config: Config, name: str) -> str:
        place, inner = block_of(name)
        return name if place is None else f"blocks.{self.plan(config.depth)[place][0]}.{inner}"

    def rate(self, config: Config, name: str) -> Factors:
        return Factors()
