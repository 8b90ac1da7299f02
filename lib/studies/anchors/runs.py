"""Converged networks that readers recognise, and their recipes: what chapters compare with and start from.

    AnchorRun(model=…, recipe=…, augmentation=…)    one run, of at most forty minutes on two cores
    pieces(run)                                     a longer one: a chain of Specs, each of which goes on from the one before

How each recipe was found on validation images, and what was dropped on the way, stands in the log of the ledger.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import nn

from lib.data.images import ImageBatches, ImageSet, Split, normalise
from lib.measure import cost as measure
from lib.models.vgg import VGG, VGGConfig
from lib.models.vit import ViT, ViTConfig
from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig, whiten
from lib.runs import checkpoint as training_state
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.answers import written
from lib.studies.base.image_run import ImageRun, scored
from lib.system.checks import require
from lib.system.precision import autocast, resolved
from lib.system.whole_file import replacing
from lib.training.loop import History, fit
from lib.training.losses import classification_loss

NETWORKS = {WhitenedCNNConfig: WhitenedCNN, VGGConfig: VGG, ViTConfig: ViT}

#: Training images from which a whitened stem is computed.
WHITENED = 5000

#: Images per forward pass of the last evaluation.
CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class AnchorRun(ImageRun):
    """Train a network from scratch until it has converged for its budget, look at the test images once, keep its weights.

    ``pieces``   Specs that the training is cut into; all but the last are :class:`AnchorPiece`
    """

    experiment: ClassVar[str] = "anchor"

    dataset: str = "cifar10"
    model: WhitenedCNNConfig | VGGConfig | ViTConfig
    pieces: int = 1

    def __post_init__(self) -> None:
        require(
            1 <= self.pieces <= max(1, self.recipe.epochs),
            f"pieces is {self.pieces}: a run of {self.recipe.epochs} epochs has 1 to {self.recipe.epochs}",
        )

    @property
    def builds_on(self) -> tuple[Spec, ...]:
        return (AnchorPiece(parent=self, number=self.pieces - 1, seed=self.seed),) if self.pieces > 1 else ()

    def run(self, session: Session) -> Outcome:
        go_on_from(self.builds_on, session)
        model, history, images = self.train(session)
        session.save_weights(model)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "parameters": measure.parameters(model),
            "flops": measure.flops(model.cpu(), normalise(images.test.images[:1].cpu(), images)),
            "precision": resolved(self.recipe.precision, session.device),
            "train_loss": history.curves["train_loss"][-1],
        }
        model.to(session.device)
        arrays = {}
        for name, split in (("val", images.validation), ("test", images.test)):
            plain, mirrored = answers(model, split, images, self.recipe.precision)
            metrics[f"{name}_accuracy"] = plain.double().mean().item()
            if self.augmentation.flip or self.augmentation.alternate:  # a mirrored digit is another sign
                metrics[f"{name}_accuracy_mirrored"] = mirrored.double().mean().item()
            arrays[f"{name}_correct"] = written(plain)
        return Outcome(significant(metrics), significant(history.curves), arrays, images.provenance())

    def train(self, session: Session, until: int | None = None) -> tuple[nn.Module, History, ImageSet]:
        """The network after training, or after ``until`` epochs of it; goes on from the state in ``session.checkpoint``."""
        images = self.images(session)
        model = self.build(images).to(session.device)
        recipe = self.recipe
        batches = ImageBatches(images.train, images, recipe.batch_size, self.augmentation, self.seed)
        history = fit(
            model,
            batches,
            classification_loss(recipe.label_smoothing),
            recipe,
            seed=self.seed,
            until=until,
            evaluate=lambda model: scored(model, images.validation, images, recipe, "val"),
            checkpoint=session.checkpoint,
            within_epochs=True,
            report=session.report,
        )
        return model, history, images

    def build(self, images: ImageSet) -> nn.Module:
        """The network as it is before training, on the CPU."""
        torch.manual_seed(self.seed)
        model = NETWORKS[type(self.model)](self.model)
        if isinstance(model, WhitenedCNN):
            whiten(model, normalise(images.train.images[:WHITENED], images).cpu())
        return model

    def load(self, session: Session, images: ImageSet) -> nn.Module:
        """The trained network in evaluation mode; trained first where its weights are not on this machine."""
        model = self.build(images)
        model.load_state_dict(load_file(session.weights(self)))
        return model.to(session.device).eval()


@dataclass(frozen=True, kw_only=True)
class AnchorPiece(Spec):
    """The first ``number`` of the pieces of ``parent``; what it leaves for the next is the state of the training."""

    experiment: ClassVar[str] = "anchor-piece"

    parent: AnchorRun
    number: int

    def __post_init__(self) -> None:
        require(
            1 <= self.number < self.parent.pieces,
            f"number is {self.number}: a run in {self.parent.pieces} pieces has 1 to {self.parent.pieces - 1} before the last",
        )

    @property
    def builds_on(self) -> tuple[Spec, ...]:
        return (replace(self, number=self.number - 1),) if self.number > 1 else ()

    def run(self, session: Session) -> Outcome:
        go_on_from(self.builds_on, session)
        until = round(self.number * self.parent.recipe.epochs / self.parent.pieces)
        _, history, images = self.parent.train(session, until)
        hand_over(session.checkpoint / training_state.FILE, session.weights_path)
        return Outcome(
            significant(
                {
                    "epochs": history.epochs,
                    "diverged": history.diverged,
                    "train_seconds": history.seconds,
                    "val_accuracy": history.curves["val_accuracy"][-1],
                }
            ),
            data=images.provenance(),
        )


def pieces(run: AnchorRun) -> list[Spec]:
    """The Specs of a run in order, the run itself last."""
    return [*(AnchorPiece(parent=run, number=number, seed=run.seed) for number in range(1, run.pieces)), run]


def go_on_from(before: tuple[Spec, ...], session: Session) -> None:
    """Put the state that the piece before left, run first where it is not here, where training looks for one.

    Own progress stays.
    """
    state = session.checkpoint / training_state.FILE
    for piece in before:
        if not state.exists():
            hand_over(session.weights(piece), state)


def hand_over(source: Path, target: Path) -> None:
    """Copy a file so that ``target`` is whole or not there."""
    with replacing(target) as part:
        shutil.copyfile(source, part)


@torch.no_grad()
def answers(model: nn.Module, split: Split, images: ImageSet, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether the class of each image is right, bool [N] each: of the image, and of the mean logits of it and its mirror image."""
    plain, both = [], []
    for inputs, labels in zip(split.images.split(CHUNK), split.labels.split(CHUNK)):
        inputs = normalise(inputs, images)
        with autocast(inputs.device, precision):
            logits, other = model(inputs), model(inputs.flip(-1))
        plain.append((logits.argmax(-1) == labels).cpu())
        both.append(((logits + other).argmax(-1) == labels).cpu())
    return torch.cat(plain), torch.cat(both)
