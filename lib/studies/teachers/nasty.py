"""A teacher that is trained to mislead its students, and a look at what it says: the Specs on nasty teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.data.images import ImageBatches, Split, normalise
from lib.distillation.nasty import contradiction, nasty_loss
from lib.distillation.taps import features
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import fitted, tested
from lib.studies.base.pictures import png
from lib.studies.base.weights import loaded
from lib.studies.distillation.api import Config, PlainRun, TaughtRun, answers, network, own_seed, sizes
from lib.system.checks import require
from lib.training.loop import Recipe

#: A class that has at least this much of the likeliest class's softened probability is a peak.
PEAK = 0.5


@dataclass(frozen=True, kw_only=True)
class NastyRun(TaughtRun):
    """Train a nasty teacher from scratch, away from what ``parent``, a normally trained network, says.

    ``omega``        weight of the contradiction; 0 trains a second normal network
    ``temperature``  τ of the contradiction
    ``model``        geometry of the teacher; None: the parent's.  Another one makes the parent a weaker or stronger
                     adversary
    ``recipe``       None: the parent's
    """

    experiment: ClassVar[str] = "distillation-nasty"

    parent: PlainRun
    omega: float = 0.04
    temperature: float = 4.0
    model: Config | None = None
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        require(self.omega >= 0, f"omega is {self.omega}: it must not be negative")
        require(self.temperature > 0, f"temperature is {self.temperature}: it must be above 0")

    def build(self) -> nn.Module:
        return network(self.parent.model if self.model is None else self.model)

    def run(self, session: Session) -> Outcome:
        images, recipe = self.images(session), self.recipe or self.parent.recipe
        normal = self.parent.load(session)
        seed = own_seed(self)
        torch.manual_seed(seed)
        model = self.build().to(session.device)
        batches = ImageBatches(images.train, images, recipe.batch_size, self.augmentation, seed)
        history = fitted(
            session,
            images,
            model,
            batches,
            nasty_loss(normal, self.temperature, self.omega, recipe.label_smoothing),
            recipe,
            seed=seed,
        )
        session.save_weights(model)
        own, usual = (answers(net, images.test, images, recipe) for net in (model, normal))
        labels = images.test.labels.to(own.device)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            **sizes(model, images),
            "normal_accuracy": (usual.argmax(-1) == labels).float().mean().item(),
            "contradiction": contradiction(own, usual, self.temperature).item(),
            "peaks": peaks(own, self.temperature),
            "normal_peaks": peaks(usual, self.temperature),
            **tested(model, images, recipe),
        }
        return Outcome(significant(metrics), significant(history.curves), data=images.provenance())

    def load(self, session: Session) -> nn.Module:
        """The nasty teacher, in evaluation mode; trained first where it is not here."""
        return loaded(self, self.build(), session)


def peaks(logits: Tensor, temperature: float) -> float:
    """Mean number of classes with at least half of the likeliest one's softened probability, that one among them."""
    softened = (logits / temperature).softmax(-1)
    return (softened >= PEAK * softened.amax(-1, keepdim=True)).sum(-1).float().mean().item()


@dataclass(frozen=True, kw_only=True)
class GalleryRun(Spec):
    """What a nasty teacher and the normal network it was trained against make of the same validation images.

    ``examples``  images whose softened probabilities are shown, the first of each class in turn
    ``points``    images of the t-SNE maps of features and of logits
    """

    experiment: ClassVar[str] = "distillation-gallery"

    parent: NastyRun
    examples: int = 6
    points: int = 200

    def __post_init__(self) -> None:
        require(
            self.examples >= 1 and self.points >= 10,
            f"examples is {self.examples} and points is {self.points}: at least 1 and 10 are needed",
        )

    def run(self, session: Session) -> Outcome:
        from sklearn.manifold import TSNE  # imported here: slow, and only galleries need it
        from sklearn.metrics import silhouette_score

        images = self.parent.images(session)
        networks = {"normal": self.parent.parent.load(session), "nasty": self.parent.load(session)}
        chosen = first_of_each(images.validation, images.classes, self.examples)
        some = images.validation.first(self.points)
        labels = some.labels.cpu()
        metrics: dict[str, float] = {}
        arrays: dict[str, list] = {
            "pictures": [png(picture) for picture in images.validation.images[chosen]],
            "picture_labels": images.validation.labels[chosen].tolist(),
            "labels": labels.tolist(),
        }
        for name, net in networks.items():
            with torch.no_grad():
                logits = net(normalise(images.validation.images[chosen], images)).float()
                seen = features(net, normalise(some.images, images)).float()
            arrays[f"probabilities_{name}"] = (logits / self.parent.temperature).softmax(-1).tolist()
            for what, values in (("features", seen.pooled), ("logits", seen.logits)):
                found = values.cpu().numpy()
                flat = TSNE(perplexity=min(30, (self.points - 1) / 3), init="pca", random_state=self.seed).fit_transform(found)
                arrays[f"map_{what}_{name}"] = [[round(float(x), 2) for x in row] for row in flat]
                metrics[f"silhouette_{what}_{name}"] = float(silhouette_score(found, labels))
        return Outcome(significant(metrics), {}, significant(arrays), images.provenance())


def first_of_each(split: Split, classes: int, count: int) -> list[int]:
    """Indices of the first image of class 0, 1, 2 … and then of the second, until there are ``count``."""
    labels, found = split.labels.tolist(), []
    for turn in range(len(labels)):
        for label in range(classes):
            places = [place for place, other in enumerate(labels) if other == label]
            if turn < len(places) and len(found) < count:
                found.append(places[turn])
        if len(found) == count:
            break
    return found
