"""Self-distillation and early exit: one network with classifiers at several depths, and the thresholds to leave it by."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lib.data.images import ImageBatches, ImageSet, Split, normalise
from lib.distillation.early_exit import Setting, answers, ensemble, exit_flops, infer, judged, search_thresholds, sweep_thresholds
from lib.distillation.exits import ExitConfig, ExitNet
from lib.distillation.self_distillation import self_distillation_loss
from lib.measure import cost as measure
from lib.models.resnet import ResNetConfig
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import ImageRun, fitted
from lib.studies.base.weights import loaded
from lib.system.checks import require
from lib.system.precision import autocast
from lib.training.losses import classification_loss

#: Images that go through a network at a time when all classifiers are judged.
CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class ExitRun(ImageRun):
    """Train a residual network with classifiers at several depths, from scratch, and test all of them once.

    ``places``     blocks behind which a shallow classifier stands, see :class:`~lib.distillation.exits.ExitConfig`; empty:
                   the plain network, trained on labels
    ``alpha``, ``weight``, ``temperature``, ``reference``   of the loss, see
                   :func:`~lib.distillation.self_distillation.self_distillation_loss`; the authors' weight of 0.03 is for
                   CIFAR-100.  α = 0 and weight 0: labels alone at each depth
    """

    experiment: ClassVar[str] = "distillation-exits"

    model: ResNetConfig = field(default_factory=ResNetConfig)
    places: tuple[int, ...] = ()
    attention: bool = True
    alpha: float = 0.3
    weight: float = 0.03
    temperature: float = 3.0
    reference: str = "deepest"

    def __post_init__(self) -> None:
        ExitConfig(self.model, self.places, self.attention)  # refuses places that are none
        self_distillation_loss(self.alpha, self.weight, self.temperature, self.reference)

    def run(self, session: Session) -> Outcome:
        images = self.images(session)
        torch.manual_seed(self.seed)
        model = self.network().to(session.device)
        batches = ImageBatches(images.train, images, self.recipe.batch_size, self.augmentation, self.seed)
        loss = (
            self_distillation_loss(self.alpha, self.weight, self.temperature, self.reference)
            if self.places
            else classification_loss(self.recipe.label_smoothing)
        )
        history = fitted(
            session,
            images,
            model,
            batches,
            loss,
            self.recipe,
            seed=self.seed,
        )
        session.save_weights(model)
        with torch.device("meta"):
            flops = exit_flops(self.network(), images.shape)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "train_loss": history.curves["train_loss"][-1],
            "parameters": measure.parameters(model),
            "deployed_parameters": measure.parameters(model.backbone),
            "flops_per_image": flops[-1],
            "classifiers": model.count,
        }
        arrays = {"flops_by_exit": flops}
        for name, split in (("val", images.validation), ("test", images.test)):
            logits_KBC = all_logits(model, split, images, self.recipe.precision)
            by_exit = accuracies(logits_KBC, split.labels)
            arrays[f"{name}_accuracy_by_exit"] = by_exit
            metrics[f"{name}_accuracy"] = by_exit[-1]
            metrics[f"{name}_accuracy_ensemble"] = accuracies(ensemble(logits_KBC)[None], split.labels)[0]
        return Outcome(significant(metrics), significant(history.curves), significant(arrays), images.provenance())

    def network(self) -> ExitNet:
        return ExitNet(ExitConfig(self.model, self.places, self.attention))

    def load(self, session: Session) -> ExitNet:
        """The trained network, in evaluation mode; trained first where it is not here."""
        return loaded(self, self.network(), session)


@dataclass(frozen=True, kw_only=True)
class ExitSearch(Spec):
    """Find thresholds for a trained network's shallow classifiers on validation images, and test what was found once.

    ``parent``                     a trained network with shallow classifiers
    ``population``, ``generations``   of NSGA-II
    ``timed``                      test images that are really left early, one at a time, with a stopwatch
    """

    experiment: ClassVar[str] = "distillation-thresholds"

    parent: ExitRun
    population: int = 32
    generations: int = 25
    timed: int = 100

    def __post_init__(self) -> None:
        require(self.parent.places, "the parent has no shallow classifier to leave at: give it places")

    def run(self, session: Session) -> Outcome:
        images, model, precision = self.parent.images(session), self.parent.load(session), self.parent.recipe.precision
        flops = exit_flops(model, images.shape)
        held, tested = (answers(all_logits(model, split, images, precision)).cpu() for split in (images.validation, images.test))
        labels, test_labels = images.validation.labels.cpu(), images.test.labels.cpu()
        start = time.perf_counter()
        found = search_thresholds(held, labels, flops, population=self.population, generations=self.generations, seed=self.seed)
        seconds = time.perf_counter() - start
        alike = sweep_thresholds(held, labels, flops)
        best = max(found, key=lambda setting: setting.accuracy)

        def row(setting: Setting) -> dict:
            test = judged(tested, test_labels, flops, setting.thresholds)
            return {
                "thresholds": [round(t, 4) for t in setting.thresholds],
                "val_accuracy": setting.accuracy,
                "val_flops": setting.flops,
                "test_accuracy": test.accuracy,
                "test_flops": test.flops,
            }

        # All of the front for claims, in short; some of it in full for the figure.
        rows = [row(setting) for setting in found]
        arrays = {
            "front_val_accuracy": [r["val_accuracy"] for r in rows],
            "front_test_flops": [r["test_flops"] for r in rows],
            "found": thinned(rows),
            "alike": [row(setting) for setting in thinned(alike)],
            "flops_by_exit": flops,
            "sure": sure_shares(tested, test_labels),
        }
        metrics = {
            "whole_flops": flops[-1],
            "search_seconds": seconds,
            "looked_at": self.population * self.generations,
            **self.timing(model, images, best),
        }
        return Outcome(significant(metrics), {}, significant(arrays), images.provenance())

    @torch.no_grad()
    def timing(self, model: ExitNet, images: ImageSet, setting: Setting) -> dict[str, float]:
        """Milliseconds of an image, one at a time: leaving early by ``setting``, and through the network without exits."""
        inputs = normalise(images.test.images[: self.timed], images).split(1)
        turns = iter(range(10**9))

        def early() -> object:
            return infer(model, inputs[next(turns) % len(inputs)], setting.thresholds)

        def whole() -> object:
            return model(inputs[next(turns) % len(inputs)]).argmax().item()

        device = inputs[0].device
        seconds = measure.take_turns({"early": early, "whole": whole}, self.timed, device)
        return {f"{name}_ms": 1000 * sum(found) / len(found) for name, found in seconds.items()} | {
            "timed_val_accuracy": setting.accuracy,
            "timed_flops": setting.flops,
        }


def thinned(settings: list, most: int = 24) -> list:
    """At most ``most`` of a front, evenly spread, both ends among them."""
    if len(settings) <= most:
        return settings
    return [settings[round(i * (len(settings) - 1) / (most - 1))] for i in range(most)]


def sure_shares(probabilities_KBC: Tensor, labels: Tensor, limits: tuple[float, ...] = (0.5, 0.7, 0.9, 0.95, 0.99)) -> list[dict]:
    """For each shallow classifier and threshold: the share of images it is sure of, and how often it is right there."""
    found = []
    for place, probabilities_BC in enumerate(probabilities_KBC[:-1]):
        highest, predicted = probabilities_BC.max(-1)
        for limit in limits:
            sure = highest > limit
            right = (predicted == labels)[sure].double().mean().item() if sure.any() else None
            found.append({"exit": place + 1, "threshold": limit, "share": sure.double().mean().item(), "accuracy": right})
    return found


@torch.no_grad()
def all_logits(model: ExitNet, split: Split, images: ImageSet, precision: str) -> Tensor:
    """Logits [K, N, C] of all classifiers for all images of a split."""
    model.eval()
    found = []
    for part in split.images.split(CHUNK):
        with autocast(part.device, precision):
            found.append(model.all_exits(normalise(part, images))[0].float())
    return torch.cat(found, 1)


def accuracies(logits_KBC: Tensor, labels: Tensor) -> list[float]:
    return (logits_KBC.argmax(-1) == labels).double().mean(1).tolist()
