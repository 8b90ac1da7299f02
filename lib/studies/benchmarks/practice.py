"""Making one trained network smaller or faster: the Spec of the benchmarks chapter's first regime, the practitioner's benchmark.

CompressedRun(parent=anchor, method=Sparse(1 / 4), recipe=Recipe(epochs=1, …))
CompressedRun(parent=CompressedRun(parent=anchor, method=Channels((24, 88, 88)), recipe=…), method=Rounded(8))
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

from safetensors.torch import load_file
from torch import nn

from lib.data.images import ImageBatches, ImageSet
from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig
from lib.pruning.mask import sparsity
from lib.quantization.fold import baked
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.anchors.runs import AnchorRun
from lib.studies.base.images import available_images
from lib.studies.benchmarks.compress import Compression
from lib.studies.benchmarks.rows import row
from lib.studies.benchmarks.stage import forward_flops
from lib.studies.benchmarks.task import TRAINING
from lib.system.checks import require
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import History, Recipe, fit

#: Added to the seed of the fine-tuning's batches, so that they come in another order than in the parent's training.
FRESH = 1000


@dataclass(frozen=True, kw_only=True)
class CompressedRun(Spec):
    """Compress a trained network by one method, train it for the budget, and judge what is read back from its file.

    ``parent``  the trained network, or a compressed one that a method without training goes on with
    ``recipe``  of the training: its epochs are the budget; None for a method without training

    Metrics: those of :func:`lib.studies.benchmarks.rows.row`; ``density``; of the training ``steps``, ``images_seen``,
    ``train_flops`` (the teacher's passes included), ``train_seconds``, ``diverged``; ``val_before``, the validation accuracy
    when it begins.  After a compressed parent they are its training's, which had to be paid for.
    """

    experiment: ClassVar[str] = "compressed"

    parent: AnchorRun | CompressedRun
    method: Compression
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        require(
            (self.recipe is not None) == self.method.trained,
            f"recipe is {self.recipe}, but {type(self.method).__name__} "
            f"{'is trained: give it one' if self.method.trained else 'needs no training: leave it at None'}",
        )
        require(
            isinstance(self.parent, AnchorRun) or not self.method.trained,
            "a compressed parent has had its training: only a method without one may follow, else budgets are unequal",
        )

    @property
    def anchor(self) -> AnchorRun:
        """The trained network that everything began from."""
        return self.parent if isinstance(self.parent, AnchorRun) else self.parent.anchor

    @property
    def model(self) -> WhitenedCNNConfig:
        """The geometry of the compressed network."""
        return self.method.geometry(self.parent.model)

    @property
    def label(self) -> str:
        """A line without the settings of the trained network and of the recipe."""
        before = "" if isinstance(self.parent, AnchorRun) else f" after {self.parent.method}"
        return f"{self.experiment} seed={self.seed} {self.method}{before}"

    def run(self, session: Session) -> Outcome:
        anchor = self.anchor
        images = available_images(anchor.dataset, anchor.train_examples, session.device)
        batches = ImageBatches(
            images.train,
            images,
            anchor.recipe.batch_size if self.recipe is None else self.recipe.batch_size,
            anchor.augmentation,
            self.seed + FRESH,
        )
        teacher = self.parent.load(session, images)
        model = self.method.begin(copy.deepcopy(teacher), images, batches, self.seed)
        before = {"val_before": self.accuracy(model, images)} if self.recipe else {}
        history = self.train(model, teacher, batches, images, session) if self.recipe else None
        plain = baked(copy.deepcopy(model)).eval()
        session.save_weights(plain)
        metrics, arrays = row(
            plain,
            images,
            anchor.recipe.precision,
            session.folder,
            bits=self.method.bits_of_numbers,
            runs_as=lambda read: self.method.as_it_runs(read, images),
        )
        metrics |= before | {"density": 1 - sparsity(plain)} | self.spent(model, teacher, history, images, session)
        return Outcome(significant(metrics), significant(history.curves if history else {}), arrays, images.provenance())

    def train(self, model: nn.Module, teacher: nn.Module, batches: ImageBatches, images: ImageSet, session: Session) -> History:
        training = self.method.training(model, teacher, batches, self.recipe, self.seed)
        history = fit(
            model,
            batches,
            training.loss,
            self.recipe,
            seed=self.seed,
            optimizers=training.optimizers,
            after_step=training.after_step,
            evaluate=lambda model: {"val_accuracy": self.accuracy(model, images)},
            checkpoint=session.checkpoint,
            report=session.report,
        )
        training.finish(model)
        return history

    def accuracy(self, model: nn.Module, images: ImageSet) -> float:
        return evaluate_classifier(model, images.validation, images, precision=self.anchor.recipe.precision)["accuracy"]

    def spent(
        self, model: nn.Module, teacher: nn.Module, history: History | None, images: ImageSet, session: Session
    ) -> dict[str, float | bool]:
        """What the training took; without one, what the parent's did, which is nothing for an anchor."""
        if history is None:
            names = ("steps", "images_seen", "train_flops", "train_seconds", "diverged")
            if isinstance(self.parent, AnchorRun):
                return dict(zip(names, (0, 0, 0.0, 0.0, False)))
            found = session.store.get(self.parent).metrics
            return {name: found[name] for name in names}
        steps = history.diverged_at or history.epochs * batch_count(images, self.recipe)
        seen = steps * min(self.recipe.batch_size, len(images.train))
        flops = TRAINING * forward_flops(model, images.shape) + (forward_flops(teacher, images.shape) if self.method.taught else 0)
        return {
            "steps": steps,
            "images_seen": seen,
            "train_flops": seen * flops,
            "train_seconds": history.seconds,
            "diverged": history.diverged,
        }

    def load(self, session: Session, images: ImageSet) -> nn.Module:
        """The finished network in 32 bits and evaluation mode; made first where its weights are not on this machine."""
        model = WhitenedCNN(self.model)
        model.load_state_dict(load_file(session.weights(self)))
        return model.to(session.device).eval()


def batch_count(images: ImageSet, recipe: Recipe) -> int:
    """Return the steps of an epoch."""
    return len(images.train) // min(recipe.batch_size, len(images.train))
