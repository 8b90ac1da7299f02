"""MetaPruning: training the PruningNet, searching widths with it, training what was found: the pruning chapter's Specs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from scipy.stats import spearmanr
from torch import Tensor

from lib.data.images import ImageBatches, ImageSet, Split, normalise
from lib.measure import cost as measure
from lib.models.cnn import BaselineCNN, CNNConfig
from lib.pruning.meta import SCALES, Genes, PruningNet, macs, stochastic_loss
from lib.pruning.meta_search import Evolution, evolve
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import ImageRun, scored, tested
from lib.studies.base.weights import loaded
from lib.system.checks import require
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss

#: Training images by which the batch norms of a candidate are set.
CALIBRATION = 512

#: Controls use at least this share of the budget.
NEAR = 0.9

#: Random networks drawn to find the controls.
DRAWS = 100_000


@dataclass(frozen=True, kw_only=True)
class PruningNetRun(ImageRun):
    """Train the network that makes the weights of all pruned versions of ``model``."""

    experiment: ClassVar[str] = "pruning-meta-net"

    model: CNNConfig

    def run(self, session: Session) -> Outcome:
        images = self.images(session)
        torch.manual_seed(self.seed)
        net = PruningNet(self.model).to(session.device)
        middle = (len(SCALES) // 2,) * len(self.model.widths)

        def evaluate(net: PruningNet) -> dict[str, float]:
            """At the middle scale of all layers, as one point of many."""
            net.scales = middle
            net.calibrate(calibration(images))
            return scored(net, images.validation, images, self.recipe, "val")

        batches = ImageBatches(images.train, images, self.recipe.batch_size, self.augmentation, self.seed)
        history = fit(
            net,
            batches,
            stochastic_loss,
            self.recipe,
            seed=self.seed,
            evaluate=evaluate,
            checkpoint=session.checkpoint,
            report=session.report,
        )
        session.save_weights(net)
        metrics = {"diverged": history.diverged, "train_seconds": history.seconds, "parameters": measure.parameters(net)}
        return Outcome(significant(metrics), significant(history.curves), data=images.provenance())

    def load(self, session: Session) -> PruningNet:
        """The trained PruningNet in evaluation mode; trained first where it is not here."""
        return loaded(self, PruningNet(self.model), session)


@dataclass(frozen=True, kw_only=True)
class MetaRun(Spec):
    """Search the best widths within a budget, and train from scratch: them, equal scales, and random ones at the same cost.

    ``budget``    multiply-adds, as a share of the whole network's
    ``searched``  validation images by which candidates are compared
    ``controls``  random networks that use 90 to 100 % of the budget
    ``recipe``    of each training from scratch
    """

    experiment: ClassVar[str] = "pruning-meta"

    parent: PruningNetRun
    budget: float = 0.25
    searched: int = 1000
    evolution: Evolution = field(default_factory=Evolution)
    controls: int = 6
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        require(0 < self.budget <= 1, f"budget is {self.budget}: it must be a share of the multiply-adds, in (0, 1]")
        require(
            self.searched >= 1 and self.controls >= 0,
            f"searched is {self.searched} and controls {self.controls}: at least 1 image, and no negative number",
        )

    def run(self, session: Session) -> Outcome:
        images = self.parent.images(session)
        search = Search(self, images, self.parent.load(session))
        session.report(0.0, "search")
        ranked = evolve(len(self.parent.model.widths), len(SCALES), search.predict, search.within, self.evolution, self.seed)
        chosen = {"winner": ranked[0][0], "uniform": search.uniform()}
        chosen |= {f"control {number}": genes for number, genes in enumerate(search.controls(self.controls), 1)}
        networks = []
        for number, (name, genes) in enumerate(chosen.items()):
            session.report(0.3 + 0.7 * number / len(chosen), f"{name} from scratch")
            row = {
                "name": name,
                "widths": list(search.net.widths(genes)),
                "mac_share": search.share(genes),
                "predicted": search.predict(genes),
            }
            networks.append(row | self.from_scratch(search.config(genes), images, session, number))
        predicted, final = ([row[name] for row in networks] for name in ("predicted", "test_accuracy"))
        metrics = {
            "candidates": len(ranked),
            "winner_predicted": predicted[0],
            "uniform_predicted": predicted[1],
            "winner_test_accuracy": final[0],
            "uniform_test_accuracy": final[1],
            "best_control_test_accuracy": max(final[2:], default=None),
            "mean_control_test_accuracy": mean(final[2:]),
            "rank_correlation": rank_correlation(predicted, final),
        }
        arrays = {"networks": networks, "found": [score for _, score in ranked[:50]]}
        return Outcome(significant(metrics), arrays=significant(arrays), data=images.provenance())

    def from_scratch(self, config: CNNConfig, images: ImageSet, session: Session, number: int) -> dict[str, float]:
        """A plain network of these widths, trained as any other, and its scores."""
        torch.manual_seed(self.seed)
        model = BaselineCNN(config).to(session.device)
        batches = ImageBatches(images.train, images, self.recipe.batch_size, self.parent.augmentation, self.seed)
        fit(
            model,
            batches,
            classification_loss(self.recipe.label_smoothing),
            self.recipe,
            seed=self.seed,
            checkpoint=session.checkpoint / str(number),
        )
        return tested(model, images, self.recipe) | {"parameters": measure.parameters(model)}


class Search:
    """What the search asks of a candidate, each answer kept."""

    def __init__(self, spec: MetaRun, images: ImageSet, net: PruningNet):
        self.spec, self.images, self.net = spec, images, net
        held = images.validation
        self.held = Split(held.images[: spec.searched], held.labels[: spec.searched])
        self.calibration = list(calibration(images))
        self.predicted: dict[Genes, float] = {}

    def config(self, genes: Genes) -> CNNConfig:
        return self.net.config.with_widths(self.net.widths(genes))

    def share(self, genes: Genes) -> float:
        side = self.images.shape[-1]
        return macs(self.net.config, self.net.widths(genes), side) / macs(self.net.config, self.net.config.widths, side)

    def within(self, genes: Genes) -> bool:
        return self.share(genes) <= self.spec.budget

    def predict(self, genes: Genes) -> float:
        """Accuracy on held-out images with generated weights."""
        if genes not in self.predicted:
            self.net.scales = genes
            self.net.calibrate(self.calibration)
            scores = evaluate_classifier(self.net, self.held, self.images, precision=self.spec.recipe.precision)
            self.predicted[genes] = scores["accuracy"]
        return self.predicted[genes]

    def uniform(self) -> Genes:
        """The largest scale for all layers within the budget; from the first layer on, one step more where it still fits:
        31 scales are too few for a fair comparison otherwise.  Raises ValueError where even the smallest is too much.
        """
        layers = len(self.net.config.widths)
        fitting = [genes for gene in range(len(SCALES)) if self.within(genes := (gene,) * layers)]
        require(fitting, f"budget is {self.spec.budget}: even the smallest network costs more")
        genes = fitting[-1]
        for layer in range(layers):
            more = genes[:layer] + (min(genes[layer] + 1, len(SCALES) - 1),) + genes[layer + 1 :]
            genes = more if self.within(more) else genes
        return genes

    def controls(self, number: int) -> list[Genes]:
        """Random networks near the budget, the same for the same seed.  Raises ValueError where there are hardly any."""
        rng, found = random.Random(self.spec.seed + 1), []
        for _ in range(DRAWS):
            if len(found) == number:
                return found
            genes = tuple(rng.randrange(len(SCALES)) for _ in self.net.config.widths)
            if NEAR * self.spec.budget <= self.share(genes) <= self.spec.budget and genes not in found:
                found.append(genes)
        raise ValueError(
            f"budget is {self.spec.budget}: only {len(found)} of {number} random networks come near it; ask for fewer controls"
        )


def calibration(images: ImageSet) -> Iterator[Tensor]:
    """Inputs by which batch norms are set: training images in portions of 128, without distortions."""
    yield from normalise(images.train.images[:CALIBRATION], images).split(128)


def rank_correlation(predicted: list[float], final: list[float]) -> float | None:
    """Spearman's, from -1 to 1; None where there are fewer than three networks, or all are alike."""
    if len(predicted) < 3 or len(set(predicted)) == 1 or len(set(final)) == 1:
        return None
    return float(spearmanr(predicted, final).statistic)


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
