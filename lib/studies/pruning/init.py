"""Pruning before any training: which scores leave a network that can still be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from lib.data.images import ImageBatches, ImageSet, Split
from lib.pruning.collapse import collapsed, purge
from lib.pruning.mask import count, total
from lib.pruning.schedule import prune_in_rounds, rounds
from lib.pruning.score import SCORES, Batch
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import scored, tested
from lib.studies.pruning.dense import DenseRun, build
from lib.system.checks import one_of, require
from lib.training.loop import fit
from lib.training.losses import classification_loss

#: Which weights are scored and trained.
STARTS = ("ours", "official")

#: Images per class that scores with a gradient look at, as in the SynFlow paper's comparison.
PER_CLASS = 10

#: Rounds of SynFlow; the other scores prune at once.
SYNFLOW_ROUNDS = 100


@dataclass(frozen=True, kw_only=True)
class InitialRun(Spec):
    """Prune the network of ``dense`` as it is at first, all layers together, and train what is left by the same recipe.

    ``dense`` is not run: it says which network, images and recipe.  A network in which a layer has lost all its weights is
    not trained, since its output cannot depend on its input; it is scored as it is.

    ``start``  the weights that are scored: "ours", as :mod:`lib.models` draws them, or "official", see :func:`official`
    """

    experiment: ClassVar[str] = "pruning-initial"

    dense: DenseRun
    score: str = "magnitude"
    density: float = 0.1
    start: str = "ours"

    def __post_init__(self) -> None:
        one_of("score", self.score, SCORES)
        one_of("start", self.start, STARTS)
        require(0 < self.density <= 1, f"density is {self.density}: it must be a share of the weights in (0, 1]")

    def run(self, session: Session) -> Outcome:
        dense, recipe = self.dense, self.dense.recipe
        images = dense.images(session)
        model = build(dense.model, self.seed)
        model = (official(model) if self.start == "official" else model).to(session.device)
        densities = rounds("exponential", SYNFLOW_ROUNDS, self.density) if self.score == "synflow" else [self.density]
        masks = prune_in_rounds(model, self.score, densities, few(images), seed=self.seed)
        empty = collapsed(masks)
        history = None
        if not empty:
            history = fit(
                model,
                dense.batches(images, self.seed),
                classification_loss(recipe.label_smoothing),
                recipe,
                seed=self.seed,
                evaluate=lambda model: scored(model, images.validation, images, recipe, "val"),
                checkpoint=session.checkpoint,
                report=session.report,
            )
        everything, alive = total(masks), count(masks)
        metrics = {
            "collapsed": bool(empty),
            "empty_layers": len(empty),
            "diverged": bool(history and history.diverged),
            "train_seconds": history.seconds if history else 0.0,
            "weights": alive,
            "all_weights": everything,
            "compression": everything / alive,
            "on_paths": count(purge(model, masks, images.shape)),
            **tested(model, images, recipe),
        }
        arrays = {
            "weights_by_layer": [int(mask.count_nonzero()) for mask in masks.values()],
            "all_weights_by_layer": [mask.numel() for mask in masks.values()],
        }
        return Outcome(significant(metrics), significant(history.curves if history else {}), arrays, images.provenance())


@torch.no_grad()
def official(model: nn.Module) -> nn.Module:
    """The model with the weights that the SynFlow paper's code draws (``Models/lottery_vgg.py``), all of them anew.

    Convolutions and linear layers by ``kaiming_normal_`` with its defaults, so by their number of *inputs*; biases 0.  With
    PyTorch's default for the linear layer, which is far smaller, a global threshold would empty the head alone, and first.
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def few(images: ImageSet) -> list[Batch]:
    """One batch of training images, the same number of each class, without distortions."""
    number = min(len(images.train), PER_CLASS * images.classes)
    part = Split(images.train.images[:number], images.train.labels[:number])
    return [ImageBatches(part, images, number).batch(0, 0)]
