"""What it costs to leave places out at inference: V-MoE's question, asked of a trained network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from safetensors.torch import load_model

from lib.models.vit import ViT
from lib.moe.routers.token_choice import NoisyTokenChoice
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.images import available_images
from lib.studies.moe.vit import ViTRun
from lib.system.checks import require
from lib.training.evaluate import evaluate_classifier

#: Who is served first, of the policies that V-MoE compares.
SERVED = ("arrival", "priority")


@dataclass(frozen=True, kw_only=True)
class InferenceRun(Spec):
    """Evaluate the parent, whose router is V-MoE's, with every capacity factor of ``factors`` and every policy.

    Nothing is trained.  How many tokens share the places is the evaluation's batch.
    """

    experiment: ClassVar[str] = "moe-capacity-inference"

    parent: ViTRun
    factors: tuple[float, ...] = (0.25, 0.5, 1.0)

    def __post_init__(self) -> None:
        require(self.parent.moe and self.parent.moe.router == "vmoe", "the parent's router must be V-MoE's, which can leave tokens out")

    def run(self, session: Session) -> Outcome:
        images = available_images(self.parent.dataset, self.parent.train_examples, session.device)
        model = ViT(self.parent.geometry(images)).to(session.device)
        load_model(model, str(session.weights(self.parent)))
        routers = [module for module in model.modules() if isinstance(module, NoisyTokenChoice)]

        def accuracy() -> float:
            return evaluate_classifier(model, images.test, images, precision=self.parent.recipe.precision)["accuracy"]

        metrics = {"test_accuracy_dropless": accuracy()}
        for policy in SERVED:
            for factor in self.factors:
                for router in routers:
                    router.policy, router.capacity_factor, router.limits_inference = policy, factor, True
                metrics[f"test_accuracy_{policy}_{factor:g}"] = accuracy()
        return Outcome(significant(metrics), data=images.provenance())
