"""The dense network that pruning starts from, and what all of the pruning chapter's runs share."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib.data.images import ImageBatches, ImageSet
from lib.measure import cost as measure
from lib.models.mlp import MLP, MLPConfig
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vgg import VGG, VGGConfig
from lib.pruning.mask import prunable
from lib.runs import tensor_file
from lib.runs.results import Outcome, significant
from lib.runs.store import Session
from lib.studies.base.image_run import ImageRun, scored, tested
from lib.studies.base.portions import Portions
from lib.system.checks import require
from lib.training.loop import Batches, History, fit
from lib.training.losses import classification_loss

NETWORKS = {MLPConfig: MLP, VGGConfig: VGG, ResNetConfig: ResNet}


def build(config: MLPConfig | VGGConfig | ResNetConfig, seed: int) -> nn.Module:
    """The network of that geometry, on the CPU, with the weights that belong to ``seed``."""
    torch.manual_seed(seed)
    return NETWORKS[type(config)](config)


@dataclass(frozen=True, kw_only=True)
class DenseRun(ImageRun):
    """Train a network without masks, from scratch, and keep its weights for others.

    ``portion``    steps of one of the recipe's "epochs", after which the validation images are looked at; None for one
                   pass over the training images
    ``snapshots``  steps after which the weights are kept too; 0 for those it starts with
    """

    experiment: ClassVar[str] = "pruning-dense"

    model: MLPConfig | VGGConfig | ResNetConfig
    portion: int | None = None
    snapshots: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.portion is None or self.portion >= 1, f"portion is {self.portion}: it must be a number of steps from 1, or None")
        require(all(step >= 0 for step in self.snapshots), f"snapshots is {self.snapshots}: steps count from 0, the start")

    def run(self, session: Session) -> Outcome:
        images = self.images(session)
        batches, recipe = self.batches(images), self.recipe
        steps = recipe.epochs * batches.steps
        require(not self.snapshots or max(self.snapshots) <= steps, f"snapshots is {self.snapshots}, but training has {steps} steps")
        model, history = self.trained(session, images)
        if (kept := self.kept(session, history)) is None:
            # Training that was resumed does not pass those steps again.
            shutil.rmtree(session.checkpoint, ignore_errors=True)
            model, history = self.trained(session, images)
            kept = self.kept(session, history)
            require(kept is not None, f"weights that were written to {session.folder} cannot be read back")
        session.save_weights(model, **(kept or {}))
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "steps": steps,
            "parameters": measure.parameters(model),
            "weights": sum(w.numel() for w in prunable(model).values()),
            **tested(model, images, recipe),
        }
        return Outcome(significant(metrics), significant(history.curves), data=images.provenance())

    def trained(self, session: Session, images: ImageSet) -> tuple[nn.Module, History]:
        """Train, or go on where an earlier process stopped, and write the snapshots that are passed."""
        model = build(self.model, self.seed).to(session.device)
        if 0 in self.snapshots:
            keep(model, session.checkpoint, 0)
        history = fit(
            model,
            self.batches(images),
            classification_loss(self.recipe.label_smoothing),
            self.recipe,
            seed=self.seed,
            checkpoint=session.checkpoint,
            report=session.report,
            after_step=lambda model, step: keep(model, session.checkpoint, step) if step in self.snapshots else None,
            evaluate=lambda model: scored(model, images.validation, images, self.recipe, "val"),
        )
        return model, history

    def kept(self, session: Session, history: History) -> dict[str, dict[str, Tensor]] | None:
        """Return the snapshots by their names in the file of weights; None where one is damaged or gone.

        Training that diverged did not come to all of them.
        """
        found = {}
        for step in self.snapshots:
            path = snapshot(session.checkpoint, step)
            try:
                found[at(step)] = tensor_file.read(path)[0]
            except FileNotFoundError:
                if not history.diverged:
                    print(f"{path} is gone: training starts from the beginning", file=sys.stderr)
                    return None
            except tensor_file.Unreadable as error:
                print(f"{error}: it is removed, and training starts from the beginning", file=sys.stderr)
                path.unlink()
                return None
        return found

    def batches(self, images: ImageSet, seed: int | None = None, first: int = 0) -> Batches:
        """The training batches; ``seed`` draws another order and other distortions than the run's own."""
        seed = self.seed if seed is None else seed
        batches = ImageBatches(images.train, images, self.recipe.batch_size, self.augmentation, seed)
        return Portions(batches, self.portion or batches.steps, first) if self.portion or first else batches

    def load(self, session: Session, step: int | None = None) -> nn.Module:
        """The trained network in evaluation mode, or as it was after ``step``; trained first where it is not here."""
        require(step is None or step in self.snapshots, f"the weights after step {step} were not kept: name it in snapshots")
        tensors = load_file(session.weights(self))
        prefix = "" if step is None else at(step) + "."
        model = build(self.model, self.seed)
        model.load_state_dict({name: tensors[prefix + name] for name in model.state_dict()})
        return model.to(session.device).eval()


def at(step: int) -> str:
    return f"step{step}"


def snapshot(folder: Path, step: int) -> Path:
    """Where weights are kept until training has ended: beside its state, and removed with it once the result is written."""
    return folder / "snapshots" / f"{at(step)}.safetensors"


def keep(model: nn.Module, folder: Path, step: int) -> None:
    """Write the weights to a file of their own: a run that is killed and resumed does not pass that step again."""
    tensor_file.write(snapshot(folder, step), model.state_dict())
