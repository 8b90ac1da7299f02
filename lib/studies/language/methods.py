"""What is done to a trained language model without training it.  Each method changes a subject in place.

A method's ``bits`` are those that a weight of the blocks takes in a file; embedding, norms and head keep 16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.models.anatomy import anatomy, linear_layers
from lib.models.calibration import Statistics, gather, sequentially
from lib.pruning import wanda
from lib.pruning.block_influence import influences, least
from lib.pruning.sparsegpt import best, sparsegpt
from lib.pruning.structure import NM
from lib.quantization import smoothquant
from lib.quantization.activations import rounded_inputs
from lib.quantization.awq import awq
from lib.quantization.gptq import gptq
from lib.quantization.grid import bits_per_weight, nearest
from lib.quantization.rescale import move
from lib.quantization.sparse import sparse_and_rounded
from lib.quantization.stream import rotate_stream
from lib.studies.language.subjects import Subject
from lib.system.checks import one_of, require

#: Bits of a weight that is stored as it is.
WHOLE = 16


@dataclass(frozen=True)
class Untouched:
    """The model as it was trained."""

    def apply(self, subject: Subject, seed: int) -> dict:
        return {}

    def running(self, model: nn.Module) -> AbstractContextManager:
        """What holds while the compressed model runs."""
        return nullcontext()

    def bits(self, inputs: int) -> float:
        """Of each weight of a linear layer whose rows have so many."""
        return WHOLE


@dataclass(frozen=True)
class PrunedLM(Untouched):
    """Weights set to zero, the same share in each linear layer: ``density`` of them stay, or ``pattern`` "2:4".

    ``by``   "magnitude" (the largest |w| of a layer), "wanda" or "sparsegpt"
    ``per``  what wanda compares: weights of a "row", or of the whole "layer"
    ``bits_left``, ``group``  a grid for the weights that stay: in the same sweep for sparsegpt, by rounding to nearest for the others
    """

    by: str = "magnitude"
    density: float = 0.5
    pattern: str = ""
    per: str = "row"
    bits_left: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        one_of("by", self.by, ("magnitude", "wanda", "sparsegpt"))
        one_of("pattern", self.pattern, ("", "2:4"))
        one_of("per", self.per, ("row", "layer"))
        require(not self.pattern or self.density == 0.5, "2:4 keeps half of the weights: leave density at 0.5")

    @property
    def structure(self) -> NM | None:
        return NM(2, 4) if self.pattern else None

    def apply(self, subject: Subject, seed: int) -> dict:
        if self.by == "magnitude":
            for layer in linear_layers(subject.model):
                self.keep(layer, layer.weight.detach().abs())
        elif self.by == "wanda":
            sequentially(
                subject.model,
                subject.blocks,
                subject.calibration,
                lambda layers, statistics: [
                    self.keep(layer, wanda.score(layer.weight, statistics), rows=self.per == "row") for layer in layers.values()
                ],
            )
        else:
            sequentially(subject.model, subject.blocks, subject.calibration, self.sweep)
        return {}

    def keep(self, layer: nn.Linear, score_OI: Tensor, rows: bool = False) -> None:
        mask_OI = self.mask(score_OI, rows)
        kept_OI = layer.weight.detach() * mask_OI
        layer.weight.data.copy_(nearest(kept_OI, self.bits_left, self.group) if self.bits_left else kept_OI)

    def mask(self, score_OI: Tensor, rows: bool) -> Tensor:
        """Bool [O, I]."""
        if self.structure:
            return self.structure.mask(score_OI)
        return wanda.rows(score_OI, self.density) if rows else best(score_OI, self.density)

    def sweep(self, layers: Mapping[str, nn.Linear], statistics: Statistics) -> None:
        chosen = {"structure": self.structure} if self.structure else {"density": self.density}
        for layer in layers.values():
            if self.bits_left:
                weight_OI, _ = sparse_and_rounded(layer.weight, statistics, self.bits_left, group=self.group, **chosen)
            else:
                weight_OI, _ = sparsegpt(layer.weight, statistics, **chosen)
            layer.weight.data.copy_(weight_OI)

    def bits(self, inputs: int) -> float:
        """One bit says of each weight whether it is there; 2:4's two positions in four take as many."""
        if not self.bits_left:
            return 1 + self.density * WHOLE
        return 1 + self.density * self.bits_left + bits_per_weight(inputs, self.bits_left, self.group) - self.bits_left


@dataclass(frozen=True)
class RoundedLM(Untouched):
    """Weights on even grids of 2^``bits_each`` values, one for ``group`` neighbours of a row, or for the row.

    ``by``  "nearest", "gptq" or "awq"
    """

    by: str = "nearest"
    bits_each: int = 4
    group: int | None = None
    symmetric: bool = False

    def __post_init__(self) -> None:
        one_of("by", self.by, ("nearest", "gptq", "awq"))

    def apply(self, subject: Subject, seed: int) -> dict:
        if self.by == "nearest":
            for layer in linear_layers(subject.model):
                layer.weight.data.copy_(nearest(layer.weight, self.bits_each, self.group, self.symmetric))
        else:
            sequentially(subject.model, subject.blocks, subject.calibration, self.change)
        return {}

    def change(self, layers: Mapping[str, nn.Linear], statistics: Statistics) -> None:
        weights = [layer.weight for layer in layers.values()]
        if self.by == "gptq":
            found = [gptq(weight, statistics, self.bits_each, self.group, self.symmetric) for weight in weights]
        else:
            cut = [name.rpartition(".")[2] not in ("q", "k", "q_proj", "k_proj") for name in layers]
            found = awq(weights, statistics, self.bits_each, self.group, self.symmetric, cut)
        for layer, weight_OI in zip(layers.values(), found, strict=True):
            layer.weight.data.copy_(weight_OI)

    def bits(self, inputs: int) -> float:
        return bits_per_weight(inputs, self.bits_each, self.group, self.symmetric)


@dataclass(frozen=True)
class RoundedActivationsLM(Untouched):
    """What the linear layers read on ``activation_bits``, a grid per token, and their weights on ``weight_bits``, a grid per row.

    ``by``     "nearest" alone, after "smoothquant", or after a "rotation" of the whole model
    ``alpha``  of SmoothQuant: which part of the difficulty goes to the weights
    Scales are moved where the authors move them, from norms into what reads those.
    """

    by: str = "nearest"
    weight_bits: int = 8
    activation_bits: int = 8
    alpha: float = 0.5

    def __post_init__(self) -> None:
        one_of("by", self.by, ("nearest", "smoothquant", "rotation"))

    def apply(self, subject: Subject, seed: int) -> dict:
        if self.by == "smoothquant":
            smooth(subject, self.alpha)
        elif self.by == "rotation":
            rotate_stream(subject.model, seed)
        for layer in linear_layers(subject.model):
            layer.weight.data.copy_(nearest(layer.weight, self.weight_bits, symmetric=True))
        return {}

    def running(self, model: nn.Module) -> AbstractContextManager:
        return rounded_inputs(linear_layers(model), self.activation_bits)

    def bits(self, inputs: int) -> float:
        return bits_per_weight(inputs, self.weight_bits, symmetric=True)


@torch.no_grad()
def smooth(subject: Subject, alpha: float) -> None:
    """Move the outliers of what each norm writes into the layers that read it, in place."""
    parts = anatomy(subject.model).blocks
    readers = [(norm, reads) for block in parts for norm, reads in ((block.norm1, block.reads1), (block.norm2, block.reads2))]
    statistics = gather(lambda: run(subject), [reads[0] for _, reads in readers])
    for norm, reads in readers:
        move(norm, reads, smoothquant.scale_of([layer.weight for layer in reads], statistics[reads[0]], alpha))


def run(subject: Subject) -> None:
    for batch in subject.calibration:
        subject.model(batch)


@dataclass(frozen=True)
class ShortenedLM(Untouched):
    """``count`` blocks less: those with the least Block Influence, as many at "random", or the "last" ones but one."""

    by: str = "influence"
    count: int = 1

    def __post_init__(self) -> None:
        one_of("by", self.by, ("influence", "random", "last"))

    def apply(self, subject: Subject, seed: int) -> dict:
        there = len(subject.blocks)
        require(0 < self.count < there, f"{self.count} of {there} blocks cannot be removed: leave one at least")
        scores = influences(subject.model, subject.blocks, subject.calibration)
        gone = {
            "influence": lambda: least(scores, self.count),
            "random": lambda: sorted(torch.randperm(there, generator=torch.Generator().manual_seed(seed))[: self.count].tolist()),
            "last": lambda: list(range(there - 1 - self.count, there - 1)),
        }[self.by]()
        remove(subject.blocks, gone)
        return {"influences": scores, "removed": gone}


def remove(blocks: nn.ModuleList, numbers: Iterable[int]) -> None:
    for number in sorted(numbers, reverse=True):
        del blocks[number]
