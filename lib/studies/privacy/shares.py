"""A replaced network on shares: is the answer right, and what do two parties send?  And how well polynomials fit a real network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.data.images import normalise
from lib.measure import cost as measure
from lib.privacy.activation import KINDS
from lib.privacy.fold import folded
from lib.privacy.inference import SharedNetwork
from lib.privacy.ledger import PHASES
from lib.privacy.polynomial import evaluate
from lib.privacy.replace import calibrate, masked_relus, replaced
from lib.privacy.sharing import Parties
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.privacy.train import CALIBRATION, BaselineRun, ReplacedRun
from lib.system.checks import require
from lib.training.evaluate import evaluate_classifier

#: Passes of one image of which the fastest is kept.
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class SharedRun(Spec):
    """Run the parent's network on shares for some validation images, with each of ``bits`` after the point.

    Compared with the same folded network in float64.  Bytes, rounds and ``compute_seconds`` are of one image by itself, at
    ``bits[0]``; the seconds are those of both parties' share of the computation, which happens in one process here.
    """

    experiment: ClassVar[str] = "privacy-shared"
    version: ClassVar[int] = 2  # 2: with compute_seconds

    parent: ReplacedRun
    images: int = 32
    bits: tuple[int, ...] = (14, 8, 10, 12, 16, 18, 20, 22, 24, 26)

    def __post_init__(self) -> None:
        require(self.images >= 1 and self.bits, "give at least one image and one number of bits")

    def run(self, session: Session) -> Outcome:
        # 64-bit integer convolutions exist on the CPU only.
        data = self.parent.parent.images(session).to("cpu")
        model = folded(self.parent.load(session).cpu())
        inputs = normalise(data.validation.images[: self.images], data)
        with torch.no_grad():
            plain = model.double()(inputs.double())
        model.float()
        errors, agreements = [], []
        for place, bits in enumerate(self.bits):
            logits = SharedNetwork(model, Parties(self.seed, bits))(inputs)
            errors.append((logits - plain).abs().amax(1))
            agreements.append((logits.argmax(1) == plain.argmax(1)).double().mean().item())
            session.report((place + 1) / len(self.bits), f"{bits} bits after the point")
        single = Parties(self.seed, self.bits[0])
        SharedNetwork(model, single)(inputs[:1])
        ledger = single.ledger
        timed = SharedNetwork(model, Parties(self.seed, self.bits[0]))
        compute = min(measure.timed(lambda: timed(inputs[:1]), 1, torch.device("cpu")) for _ in range(REPEATS))
        layers = masked_relus(model)
        relus, positions = sum(layer.count for layer in layers), sum(layer.mask.numel() for layer in layers)
        metrics = {
            "relus": relus,
            "polynomials": positions - relus,
            "max_error": errors[0].max().item(),
            "median_error": errors[0].median().item(),
            "agreement": agreements[0],
            "largest_logit": plain.abs().max().item(),
            **{f"{phase}_bytes": ledger.total(phase) for phase in PHASES},
            "online_rounds": ledger.rounds["online"],
            "compute_seconds": compute,
            **{f"online_bytes_{name}": count for name, count in ledger.by_operation("online").items()},
        }
        arrays = {
            "bits": list(self.bits),
            "max_error": [error.max().item() for error in errors],
            "median_error": [error.median().item() for error in errors],
            "agreement": agreements,
        }
        return Outcome(significant(metrics), arrays=significant(arrays), data=data.provenance())


@dataclass(frozen=True, kw_only=True)
class PolynomialRun(Spec):
    """How far each polynomial is from the ReLU on the parent's real activations, and the accuracy when it replaces them all.

    Nothing is trained.  Errors are per layer, mean square, in units of the ReLU's own mean square; "best" is the polynomial of
    degree 2 that least squares finds for each channel on the same activations.
    """

    experiment: ClassVar[str] = "privacy-polynomials"

    parent: BaselineRun

    def run(self, session: Session) -> Outcome:
        data, model = self.parent.images(session), self.parent.load(session)
        inputs = normalise(data.train.images[:CALIBRATION], data)
        metrics, arrays = {}, {}
        for kind in KINDS:
            network = replaced(model, data.shape, kind)
            calibrate(network, inputs.split(128))
            layers = masked_relus(network)
            before = activations(network, inputs)
            arrays[f"error_{kind}"] = [relative_error(evaluate(layer.coefficients, x), x) for layer, x in zip(layers, before)]
            if kind == "quadratic":
                arrays["error_best"] = [relative_error(least_squares(x), x) for x in before]
                arrays["skew_and_kurtosis"] = [shape_of(x) for x in before]
            for layer in layers:
                layer.freeze(torch.zeros_like(layer.mask))
            scores = evaluate_classifier(network, data.validation, data)
            metrics[f"val_accuracy_{kind}"] = scores["accuracy"]
        return Outcome(significant(metrics), arrays=significant(arrays), data=data.provenance())


@torch.no_grad()
def activations(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    """What enters each replaced layer, [B, C, H, W]."""
    found: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda layer, args: found.append(args[0])) for layer in masked_relus(network)]
    network.eval()(inputs)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def relative_error(approximation: Tensor, x: Tensor) -> float:
    return ((approximation - x.relu()).square().mean() / x.relu().square().mean().clamp(min=1e-12)).item()


@torch.no_grad()
def least_squares(x: Tensor) -> Tensor:
    """The best square polynomial of each channel's ReLU, evaluated on its own inputs [B, C, H, W]."""
    flat = x.transpose(0, 1).flatten(1).double()
    powers = torch.stack([torch.ones_like(flat), flat, flat.square()], -1)
    found = torch.linalg.lstsq(powers, flat.relu()[..., None]).solution
    return (powers @ found)[..., 0].view(x.transpose(0, 1).shape).transpose(0, 1).to(x.dtype)


def shape_of(x: Tensor) -> list[float]:
    """Mean over channels of skewness and excess kurtosis: 0 and 0 for a normal distribution."""
    flat = x.transpose(0, 1).flatten(1).double()
    z = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True).clamp(min=1e-9)
    return [z.pow(3).mean().item(), z.pow(4).mean().item() - 3]
