"""Quantizing a pruned network, writing it to a real file, and what an established library makes of it: the pruning chapter's Specs."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import nn

from lib.data.images import ImageBatches, ImageSet
from lib.distillation.hinton import hinton_loss
from lib.pruning.mask import attach, count, density, masks_of, prunable
from lib.quantization import packed
from lib.quantization.catalogue import FOLDER, SUFFIX, evaluate
from lib.quantization.codebook import books, quantize, reassign, share_norms
from lib.quantization.fold import baked, fold, halved
from lib.quantization.torchao_baseline import quantized, stored_bytes
from lib.quantization.train import pruning_too, reassigning
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session, Store, obtain
from lib.studies.base.image_run import scored, tested
from lib.studies.pruning.dense import DenseRun, build
from lib.system.checks import one_of, require
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe, fit
from lib.training.losses import Loss, classification_loss

#: Temperature of distillation.
TEMPERATURE = 4.0


@dataclass(frozen=True, kw_only=True)
class QuantizedRun(Spec):
    """Give the parent's network codebooks and train it with them.

    ``parent``      a dense run, or one that has pruned its dense parent
    ``bits``        of a code: 2^bits values per section and layer
    ``grid``        sections: (1, 1), one codebook per layer, or (16, 4), up to 64 of them
    ``density``     share of the weights to prune to in the same training (jointly); None: the parent's masks stay
    ``allocation``  and ``floor`` of that pruning, see :mod:`lib.pruning.allocate`
    ``end``         share of the training after which pruning ends
    ``settle``      share of it after which codes stay as they are
    ``every``       steps between new codes, where nothing is pruned: codes that wait are those of weights that have moved on
    ``prune_every`` steps between prunings, where there are any; codes are then new after each step
    ``distil``      share of the loss that the dense network, as a teacher, has
    ``recipe``      with AdamW: an entry's gradient is a sum over its weights, too large for SGD
    """

    experiment: ClassVar[str] = "pruning-quantized"

    parent: Spec
    bits: int = 4
    grid: tuple[int, int] = (1, 1)
    density: float | None = None
    allocation: str = "lamp"
    floor: int = 4
    end: float = 0.5
    settle: float = 0.75
    every: int = 20
    prune_every: int = 20
    distil: float = 0.0
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, f"bits is {self.bits}: a code must have 1 to 8")
        require(self.density is None or 0 < self.density <= 1, f"density is {self.density}: it must be a share of the weights, or None")
        require(0 < self.end <= self.settle <= 1, f"end {self.end} and settle {self.settle} must be shares of the training in this order")
        for name in ("every", "prune_every"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: it must be a number of steps from 1")
        require(self.recipe.optimizer == "adamw", f"optimizer is {self.recipe.optimizer!r}: codebooks need 'adamw'")

    def run(self, session: Session) -> Outcome:
        dense, recipe = dense_parent(self), self.recipe
        images = self.images(session)
        batches = ImageBatches(images.train, images, recipe.batch_size, dense.augmentation, self.seed)
        model = attach_as_is(self.parent.load(session))
        before = scored(model, images.validation, images, recipe, "val")["val_accuracy"]
        quantize(model, self.bits, self.grid)
        at_once = scored(model, images.validation, images, recipe, "val")["val_accuracy"]
        history = fit(
            model,
            batches,
            self.loss(session),
            recipe,
            seed=self.seed,
            after_step=self.hook(recipe.epochs * batches.steps),
            evaluate=lambda model: watched(model, images, recipe),
            checkpoint=session.checkpoint,
            report=session.report,
        )
        masks = masks_of(model)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "weights": count(masks),
            "density": density(masks),
            "entries": sum(book.entries.numel() for book in books(model).values()),
            "unsettled": unsettled(model),
            "val_accuracy_before": before,
            "val_accuracy_at_once": at_once,
            **tested(model, images, recipe),
        }
        session.save_weights(baked(copy.deepcopy(model)))
        return Outcome(significant(metrics), significant(history.curves), data=images.provenance())

    def hook(self, steps: int):
        last = max(1, round(self.settle * steps))
        if self.density is None:
            return reassigning(self.every, last)
        end = max(1, round(self.end * steps))
        return pruning_too(self.density, end, min(self.prune_every, end), last, self.allocation, self.floor)

    def loss(self, session: Session) -> Loss:
        if not self.distil:
            return classification_loss(self.recipe.label_smoothing)
        return hinton_loss(dense_parent(self).load(session), TEMPERATURE, self.distil, self.recipe.label_smoothing)

    def images(self, session: Session) -> ImageSet:
        return dense_parent(self).images(session)

    def load(self, session: Session) -> nn.Module:
        """The plain network with its few values and its zeros, in evaluation mode; trained first where it is not here."""
        model = build(dense_parent(self).model, self.seed)
        model.load_state_dict(load_file(session.weights(self)))
        return model.to(session.device).eval()


@dataclass(frozen=True, kw_only=True)
class PackedRun(Spec):
    """Write the parent's network to a file, read it back, and tell its size, its accuracy and how robust it is.

    ``parent``    a dense, pruned or quantized run
    ``half``      whether all numbers are rounded to 16 bits first; a weight without a code then counts as 16 bits
    ``norm_bits`` of codes for scales, shifts and biases, one codebook per vector; None: each keeps its own value
    ``attacked``  test images that FGSM and PGD-7 are tried on; None for all
    """

    experiment: ClassVar[str] = "pruning-packed"

    parent: Spec
    half: bool = True
    norm_bits: int | None = None
    attacked: int | None = 500

    def __post_init__(self) -> None:
        require(self.norm_bits is None or 1 <= self.norm_bits <= 8, f"norm_bits is {self.norm_bits}: a code must have 1 to 8, or None")

    def run(self, session: Session) -> Outcome:
        images = dense_parent(self).images(session)
        network = fold(self.parent.load(session), images.shape)
        network = share_norms(network, self.norm_bits) if self.norm_bits else network
        network = halved(network) if self.half else network
        path = self.path(session)
        packed.write(
            network,
            path,
            {
                "dataset": images.name,
                "variant": images.variant,
                "fingerprint": images.fingerprint,
                "bits": str(getattr(self.parent, "bits", 16 if self.half else 32)),
                "seed": str(self.seed),
            },
        )
        require(same_bits(network, packed.read(path)), "the file does not give back what was written")
        found = evaluate(path, images, attacked=self.attacked, device=session.device)
        layers = found.pop("layers")
        metrics = {("test_accuracy" if name == "accuracy" else name): value for name, value in found.items()}
        metrics["val_accuracy"] = evaluate_classifier(network.to(session.device), images.validation, images)["accuracy"]
        return Outcome(significant(metrics), arrays=significant({"layers": layers}), data=images.provenance())

    def path(self, session: Session) -> Path:
        """Where the file is left, for :func:`export`."""
        return session.folder / f"model{SUFFIX}"


@dataclass(frozen=True, kw_only=True)
class TorchaoRun(Spec):
    """The parent's network with torchao's weights of 8 or 4 bits, without further training."""

    experiment: ClassVar[str] = "pruning-torchao"

    parent: Spec
    bits: int = 8

    def __post_init__(self) -> None:
        one_of("bits", str(self.bits), ("4", "8"))

    def run(self, session: Session) -> Outcome:
        images = dense_parent(self).images(session)
        plain = fold(self.parent.load(session), images.shape)
        model = quantized(plain, self.bits).to(session.device)
        weights = sum(weight.numel() for weight in prunable(plain).values())
        spent = stored_bytes(model, self.bits)
        metrics = {
            "bytes": spent,
            "bytes_dense": 4 * weights,
            "file_ratio": 4 * weights / spent,
            "claimed_ratio": 32 / self.bits,
            **tested(model, images, dense_parent(self).recipe),
        }
        return Outcome(significant(metrics), data=images.provenance())


def dense_parent(spec: Spec) -> DenseRun:
    """The dense run that all began with."""
    while not isinstance(spec, DenseRun):
        require(hasattr(spec, "parent"), f"{type(spec).__name__} has no dense run among its parents: give one that has")
        spec = spec.parent
    return spec


def attach_as_is(model: nn.Module) -> nn.Module:
    """The network with masks that keep its zeros, in place; masks that it has stay."""
    if masks_of(model):
        return model
    return attach(model, {name: weight != 0 for name, weight in prunable(model).items()})


def watched(model: nn.Module, images: ImageSet, recipe: Recipe) -> dict[str, float]:
    return scored(model, images.validation, images, recipe, "val") | {"density": density(masks_of(model))}


def unsettled(model: nn.Module) -> int:
    """Codes that would change if they were chosen once more; the network stays as it is."""
    return reassign(copy.deepcopy(model))


def same_bits(first: nn.Module, second: nn.Module) -> bool:
    """Whether all parameters are equal to the last bit."""
    theirs = second.state_dict()
    return all(torch.equal(tensor.view(torch.int32), theirs[name].view(torch.int32)) for name, tensor in first.state_dict().items())


def export(spec: PackedRun, name: str, folder: Path = FOLDER, store: Store | None = None, device: str | None = None) -> Path:
    """Put the run's file into ``data/models/`` as ``name``; run first, or again, where it is not on this machine."""
    store = store or Store.default()
    made = store.scratch(spec) / f"model{SUFFIX}"
    results = obtain([spec], store=store, device=device, recompute=not made.exists())
    require(not results.missing, f"{name} cannot be exported: {results.missing[0].reason if results.missing else ''}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(made, Path(folder) / f"{name}{SUFFIX}"))
