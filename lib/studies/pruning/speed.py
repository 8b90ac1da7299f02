"""What sparsity is worth in time: one network dense, masked, in sparse forms and physically smaller, taking turns."""

from __future__ import annotations

import copy
import math
import statistics
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from lib.measure.cost import file_bytes, ratio, take_turns
from lib.models.mlp import MLPConfig
from lib.models.vgg import VGGConfig
from lib.pruning.allocate import masks
from lib.pruning.coarsen import closed
from lib.pruning.mask import Masks, attach, bake, density, prunable
from lib.pruning.physical import remove
from lib.pruning.score import magnitude
from lib.pruning.sparse import sparse, stored
from lib.pruning.structure import structure
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.pruning.coarsen import channels_left
from lib.studies.pruning.dense import build
from lib.system.checks import require

#: "masked": with the parametrization, as in training.  "zeros": baked, so zeros are stored and multiplied like any number.
#: "csr", "bsr": compressed rows of single weights, of tiles.  "removed": without the channels that are empty.
#: "2:4": in half precision against a dense network in half precision, on NVIDIA GPUs only.
FORMS = ("masked", "zeros", "csr", "bsr", "removed", "2:4")


@dataclass(frozen=True, kw_only=True)
class SpeedRun(Spec):
    """Time an untrained network at one density in all its forms.  It depends on where zeros are, not on the other values.

    A VGG shows convolutions, whose sparse forms first lay out patches; a fully connected network shows the products alone.

    Scores are magnitudes, layers equally dense.  Unstructured for "masked", "zeros" and "csr"; tiles for "bsr"; whole
    filters for "removed", so many that about ``density`` of the weights is left when what reads them is gone too.

    ``density``  share of the weights that stays; 2:4 keeps a half, whatever it is
    ``batch``    images per call
    ``block``    side of the tiles
    ``rounds``   in which all forms take turns
    """

    experiment: ClassVar[str] = "pruning-speed"

    model: VGGConfig | MLPConfig = field(default_factory=VGGConfig)
    density: float = 0.05
    batch: int = 1
    block: int = 16
    rounds: int = 15

    def __post_init__(self) -> None:
        require(0 < self.density <= 1, f"density is {self.density}: it must be a share of the weights in (0, 1]")
        require(
            self.batch >= 1 and self.block >= 1 and self.rounds >= 2,
            f"batch {self.batch}, block {self.block}, rounds {self.rounds}: at least 1 image, tiles of 1×1 and 2 rounds",
        )

    @torch.no_grad()
    def run(self, session: Session) -> Outcome:
        model = build(self.model, self.seed).to(session.device).eval()
        config = self.model
        shape = (config.inputs,) if isinstance(config, MLPConfig) else (config.channels, config.side, config.side)
        inputs = torch.randn(self.batch, *shape, device=session.device)
        kept = {name: self.kept(model, name) for name in ("unstructured", "block", "filter")}
        kept["filter"] = closed(model, kept["filter"], shape)
        wearing = {name: settled(attach(copy.deepcopy(model), found), shape) for name, found in kept.items()}
        networks = {
            "dense": settled(model, shape),
            "masked": wearing["unstructured"],
            "zeros": bake(copy.deepcopy(wearing["unstructured"])),
            "csr": sparse(wearing["unstructured"], "csr"),
            "bsr": sparse(wearing["block"], "bsr", self.block),
            "removed": remove(wearing["filter"], kept["filter"], shape),
        }
        differences = {
            name: error(networks[name], wearing[pattern], inputs)
            for name, pattern in (("csr", "unstructured"), ("bsr", "block"), ("removed", "filter"))
        }
        calls = {name: forward(network, inputs) for name, network in networks.items()}
        if session.device.type == "cuda":
            pairs = masks(magnitude(prunable(model)), 0.5, structure("2:4"), "uniform")
            half = settled(attach(copy.deepcopy(model), pairs), shape)
            networks |= {"dense half": bake(copy.deepcopy(half)).half(), "2:4": sparse(half, "2:4")}
            calls |= {name: forward(networks[name], inputs.half()) for name in ("dense half", "2:4")}
        seconds = take_turns(calls, self.rounds, session.device)
        metrics = {f"{name}_ms": 1000 * statistics.median(values) for name, values in seconds.items()}
        for name in (name for name in FORMS if name in seconds):
            metrics |= {
                f"{name}_{what}": value for what, value in ratio(seconds[name], seconds["dense half" if name == "2:4" else "dense"]).items()
            }
            if name in differences:
                metrics |= {f"{name}_difference": differences[name], f"{name}_stored": stored(networks[name])}
        metrics |= {
            "dense_stored": stored(model),
            "threads": torch.get_num_threads(),
            "dense_bytes": file_bytes(model),
            "zeros_bytes": file_bytes(networks["zeros"]),
            "removed_bytes": file_bytes(networks["removed"]),
            "removed_channels": channels_left(kept["filter"]),
            **{f"{name}_density": density(found) for name, found in kept.items()},
        }
        return Outcome(significant(metrics))

    def kept(self, model: nn.Module, name: str) -> Masks:
        scores = magnitude(prunable(model))
        if name != "filter":
            kind = f"block {self.block}x{self.block}" if name == "block" else name
            return masks(scores, self.density, structure(kind), "uniform", floor=1)
        first, *middle, last = (score.numel() for score in scores.values())
        head = list(scores)[-1]  # whose outputs are the classes
        found = masks(
            {layer: score for layer, score in scores.items() if layer != head},
            share_of_channels(first + last, sum(middle), self.density),
            structure(name),
            "uniform",
            floor=1,
        )
        return found | {head: torch.ones_like(scores[head], dtype=torch.bool)}


def share_of_channels(outer: int, inner: int, density: float) -> float:
    """The share s of the hidden channels with s · outer + s² · inner = density · (outer + inner).

    ``outer`` weights touch an input or an output of the network, so they go with one channel; ``inner`` ones with either
    of two.
    """
    wanted = density * (outer + inner)
    return wanted / outer if not inner else (math.sqrt(outer**2 + 4 * inner * wanted) - outer) / (2 * inner)


def forward(network: nn.Module, inputs: torch.Tensor):
    def call() -> torch.Tensor:
        with torch.no_grad():
            return network(inputs)

    return call


def settled(network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """With the statistics of noise in its batch norms, else the signal of a thin network fades to numbers that are slow."""
    noise = torch.randn(32, *shape, device=next(network.parameters()).device)
    update_bn([noise], network)
    return network


def error(one: nn.Module, other: nn.Module, inputs: torch.Tensor) -> float:
    return (one(inputs) - other(inputs)).abs().max().item()
