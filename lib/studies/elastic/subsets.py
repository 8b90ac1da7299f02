"""Which units should a sub-network keep?  One trained network, every policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from lib.data.images import ImageSet, normalise
from lib.elastic import importance
from lib.elastic.config import PRESETS, presets
from lib.elastic.reorder import reorder
from lib.elastic.subnet import DEPTHS, EXPERTS, Policy
from lib.elastic.supernet import ElasticViT
from lib.runs.results import Outcome
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.elastic.vit import ElasticRun, part
from lib.studies.moe.api import routing_tables
from lib.system.precision import autocast
from lib.training.evaluate import evaluate_classifier

#: Training images that importance is measured on; validation images behind a table of routing.
CALIBRATION = 1000

#: Draws of a random policy that are averaged.
DRAWS = 5

#: Shares of the heads and of the hidden units that stay when only these are cut.
CUTS = {"two_thirds": 2 / 3, "one_third": 1 / 3}


@dataclass(frozen=True, kw_only=True)
class SubsetRun(Spec):
    """Validation accuracy of sub-networks of equal size, whose experts, layers, heads or units were chosen differently.

    Experts by REAP, layers by the loss without them, both on training images; heads and hidden units by L1 norm.
    """

    experiment: ClassVar[str] = "elastic-subsets"

    parent: ElasticRun

    def run(self, session: Session) -> Outcome:
        images = self.parent.images(session)
        model = self.parent.network(images, session)
        offered = self.parent.offered or self.parent.space
        calibration = part(images.train, CALIBRATION)
        scores = importance.reap(model, normalise(calibration.images, images))
        precision = self.parent.recipe.precision
        ranking = importance.rank(
            scores, importance.layers(model, lambda network: evaluate_classifier(network, calibration, images, precision=precision)["loss"])
        )
        torch.manual_seed(self.seed)

        def accuracy() -> float:
            return evaluate_classifier(model, images.validation, images, precision=precision)["accuracy"]

        def mean_accuracy(size, policy: Policy) -> float:
            draws = DRAWS if "random" in (policy.experts, policy.depth) else 1
            found = []
            for _ in range(draws):
                model.use(size, policy, ranking)
                found.append(accuracy())
            return sum(found) / draws

        metrics = {"whole": accuracy()}
        fewer_experts = offered.fitted(experts=PRESETS["small"]["experts"])
        for policy in EXPERTS:
            metrics[f"experts_{policy}"] = mean_accuracy(fewer_experts, Policy(experts=policy))
        fewer_layers = offered.fitted(depth=PRESETS["small"]["depth"])
        for policy in DEPTHS:
            metrics[f"depth_{policy}"] = mean_accuracy(fewer_layers, Policy(depth=policy))

        routing = {
            name: self.routing_by_class(model.use(size), images)
            for name, size in {"by_class_whole": offered.largest, "by_class_small": presets(offered)["small"]}.items()
        }
        largest = offered.largest
        for order in ("as_trained", "by_importance"):
            if order == "by_importance":
                reorder(model)
            for name, cut in CUTS.items():
                for axis in ("heads", "hidden"):
                    model.use(replace(largest, **{axis: round(cut * getattr(largest, axis))}))
                    metrics[f"{axis}_{name}_{order}"] = accuracy()
        reap = [[round(value, 5) for value in layer.tolist()] for layer in scores]
        return Outcome(metrics, arrays={"reap": reap, "layers": list(ranking.layers)} | routing, data=images.provenance())

    @torch.no_grad()
    def routing_by_class(self, model: ElasticViT, images: ImageSet) -> list[list[int]]:
        """Shares of the experts of the last active layer, in thousandths, by class: [E, classes]."""
        held = part(images.validation, CALIBRATION)
        with autocast(held.images.device, self.parent.recipe.precision):
            routings = model.with_routing(normalise(held.images, images))[1]
        return routing_tables(routings, held.labels, images.classes)["by_class"]
