"""What each linear layer of a trained language model reads, and what each method does to its output: no method changes the model here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.models.anatomy import anatomy
from lib.models.calibration import Statistics, output_error, sequentially
from lib.pruning import wanda
from lib.pruning.sparsegpt import best, sparsegpt
from lib.quantization import smoothquant
from lib.quantization.awq import awq
from lib.quantization.gptq import gptq
from lib.quantization.grid import nearest
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.language.subjects import OwnLM, PretrainedLM

#: Features drawn of the layer with the strongest outlier: as many as a page can show.
SHOWN = 192


@dataclass(frozen=True, kw_only=True)
class LayersRun(Spec):
    """Relative error Σ‖Wx - Ŵx‖² / Σ‖Wx‖² of each layer's output, on the dense model's inputs, by method, and outliers of the inputs.

    Arrays: ``errors`` [[layer, method, error]]; ``outliers`` [[layer, largest |x| of all features over the median feature's]];
    ``channels`` of the layer read from a norm with the strongest outlier: [largest |x|, largest |w|, the same two after
    SmoothQuant] of the strongest features, the strongest first, and ``channel_layer`` names it.
    ``every``  layers of each ``every``-th block are compressed
    """

    experiment: ClassVar[str] = "language-layers"

    model: PretrainedLM | OwnLM = field(default_factory=OwnLM)
    density: float = 0.5
    bits: int = 3
    group: int | None = 64
    every: int = 1

    @property
    def builds_on(self) -> tuple[Spec, ...]:
        return (self.model.trained(self.seed),) if isinstance(self.model, OwnLM) else ()

    def run(self, session: Session) -> Outcome:
        subject = self.model.subject(session, self.seed)
        normed = {reads[0]: reads for block in anatomy(subject.model).blocks for reads in (block.reads1, block.reads2)}
        errors, outliers, strongest = [], [], (0.0, "", None)
        numbers = {id(layer): number for number, block in enumerate(subject.blocks) for layer in block.modules()}

        def look(layers: dict[str, nn.Linear], statistics: Statistics) -> None:
            nonlocal strongest
            ratio = float(statistics.largest_I.max() / statistics.largest_I.median().clamp(min=1e-12))
            first = next(iter(layers.values()))
            for name in layers:
                outliers.append([name, ratio])
            if first in normed and ratio > strongest[0]:
                strongest = (ratio, next(iter(layers)), channels([layer.weight for layer in normed[first]], statistics))
            if numbers[id(first)] % self.every == 0:
                errors.extend(self.errors(layers, statistics))
            session.report(numbers[id(first)] / len(subject.blocks), next(iter(layers)))

        sequentially(subject.model, subject.blocks, subject.calibration, look)
        return Outcome(
            significant({"channel_layer": strongest[1], "channel_ratio": strongest[0]}),
            arrays=significant({"errors": errors, "outliers": outliers, "channels": strongest[2]}),
            data=subject.data,
        )

    def errors(self, layers: dict[str, nn.Linear], statistics: Statistics) -> list[list]:
        weights = [layer.weight.detach() for layer in layers.values()]
        scaled = awq(weights, statistics, self.bits, self.group)
        found = []
        for name, W_OI, awq_OI in zip(layers, weights, scaled, strict=True):
            changed = {
                "magnitude": W_OI * best(W_OI.abs(), self.density),
                "wanda": W_OI * wanda.rows(wanda.score(W_OI, statistics), self.density),
                "sparsegpt": sparsegpt(W_OI, statistics, density=self.density)[0],
                "nearest": nearest(W_OI, self.bits, self.group),
                "awq": awq_OI,
                "gptq": gptq(W_OI, statistics, self.bits, self.group),
            }
            found += [[name, method, output_error(W_OI, changed_OI, statistics)] for method, changed_OI in changed.items()]
        return found


@torch.no_grad()
def channels(weights: list[Tensor], statistics: Statistics) -> list[list[float]]:
    """[largest |x|, largest |w|, both after SmoothQuant] of each feature, the strongest inputs first, :data:`SHOWN` of them."""
    scale_I = smoothquant.scale_of(weights, statistics)
    w_I = torch.stack([weight.detach().abs().amax(0) for weight in weights]).amax(0)
    x_I = statistics.largest_I
    order = x_I.argsort(descending=True)[:SHOWN]
    return torch.stack([x_I, w_I, x_I / scale_I, w_I * scale_I], 1)[order].tolist()
