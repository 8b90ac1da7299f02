"""Training one elastic vision transformer, or an ordinary one of some size: most of the elastic chapter's Specs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from lib.data.images import ImageBatches, ImageSet, Split
from lib.elastic.compute import Paced, step_cost
from lib.elastic.config import Size, Space, presets
from lib.elastic.cost import cost
from lib.elastic.loss import elastic_loss
from lib.elastic.samplers import Sampler
from lib.elastic.supernet import ElasticViT, geometry
from lib.models.vit import ViT, ViTConfig
from lib.moe.layer import MoEConfig
from lib.moe.losses import moe_classification_loss
from lib.runs.results import Outcome, significant
from lib.runs.store import Session
from lib.studies.base.image_run import ImageRun
from lib.studies.base.weights import loaded
from lib.system.checks import one_of, require
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import fit
from lib.training.losses import classification_loss

#: Validation images behind everything that is not a test accuracy: a grid of sub-networks, curves, the wall.
PROBE = 2000

#: Share of all parameters, and of the active ones, at which ERNIE 5.0 (arXiv 2602.04705) reports 99.5 % of the quality.
BUDGET = (0.36, 0.54)


@dataclass(frozen=True, kw_only=True)
class ElasticRun(ImageRun):
    """Train one network so that sub-networks can be cut out of it, and look at these without further training.

    ``space``     the sub-networks on offer; its largest is the network
    ``offered``   sizes that are looked at after training, None: the space's own.  An ordinary network, trained
                  with a rigid space, can so be asked for the same sub-networks
    ``sampler``   which sub-networks a step trains; None: the whole network always, as usual
    ``moe``       the mixture, but for its experts and k; None: dense FFNs
    ``d_model``, ``patch``, ``stem``  width of the transformer, side of its patches in pixels, what makes tokens of them
    ``recipe``    its epochs are those of the whole network's ordinary training
    ``equal``     what a sampler's training has in common with the baseline's: "compute", so that it gets fewer
                  or more steps as they cost more or less compute, or the number of "steps"
    """

    experiment: ClassVar[str] = "elastic-vit"

    space: Space
    offered: Space | None = None
    sampler: Sampler | None = None
    moe: MoEConfig | None = None
    d_model: int = 48
    patch: int = 2
    stem: str = "patch"
    equal: str = "compute"

    def __post_init__(self) -> None:
        one_of("equal", self.equal, ("compute", "steps"))
        require((self.moe is not None) == self.space.moe, "a space with experts needs moe, one without must not have it")

    def run(self, session: Session) -> Outcome:
        images = self.images(session)
        offered = self.offered or self.space
        probe = part(images.validation, PROBE)
        model, metrics, curves = self.train(images, probe, session)

        def accuracy(size: Size, split: Split = probe) -> float:
            return self.accuracy(model, size, split, images)

        grid, affordable = self.grid(offered, model.config, accuracy)
        named = self.named(offered)
        if affordable:
            named["budget"] = max(affordable, key=affordable.get)
        for name, size in named.items():
            metrics |= self.measured(name, size, model.config, accuracy, images)
        arrays = {"grid": grid} | self.wall(offered, accuracy)
        return Outcome(significant(metrics), significant(curves), arrays, images.provenance())

    def train(self, images: ImageSet, probe: Split, session: Session) -> tuple[ElasticViT, dict, dict[str, list]]:
        """The trained network, whose weights are left for others; metrics of its training; curves."""
        torch.manual_seed(self.seed)
        plain = ViT(self.geometry(images)).to(session.device)
        model = ElasticViT(plain.config).to(session.device)
        model.load_state_dict(plain.state_dict())  # both start from the same weights
        batches = ImageBatches(images.train, images, self.recipe.batch_size, self.augmentation, self.seed)
        relative = step_cost(self.sampler, self.space, model.config) if self.sampler else 1.0
        steps = batches.steps if self.equal == "steps" else max(1, round(batches.steps / relative))
        paced = Paced(batches, steps, self.recipe.epochs)
        offered = self.offered or self.space

        def evaluate(_: ElasticViT) -> dict[str, float]:
            values = {
                "val_accuracy_smallest": self.accuracy(model, offered.smallest, probe, images),
                "val_accuracy": self.accuracy(model, offered.largest, probe, images),
            }
            model.use(self.space.largest)  # what ordinary training trains
            return values

        model.use(self.space.largest)
        history = fit(
            model,
            paced,
            self.loss(paced),
            self.recipe,
            seed=self.seed,
            evaluate=evaluate,
            checkpoint=session.checkpoint,
            report=session.report,
        )
        session.save_weights(model)
        whole = cost(self.space.largest, model.config)
        metrics = {
            "diverged": history.diverged,
            "train_loss": history.curves["train_loss"][-1],
            "train_seconds": history.seconds,
            "steps": paced.steps * history.epochs,
            "step_cost": relative,
            "train_flops": 3 * whole.flops * relative * paced.steps * history.epochs * batches.batch_size,
        }
        return model, metrics, history.curves

    def accuracy(self, model: ElasticViT, size: Size, split: Split, images: ImageSet) -> float:
        """Accuracy of a sub-network, which stays switched on."""
        return evaluate_classifier(model.use(size), split, images, precision=self.recipe.precision)["accuracy"]

    def grid(self, offered: Space, config: ViTConfig, accuracy: Callable[[Size], float]) -> tuple[list, dict[Size, float]]:
        """Size, cost and accuracy of every sub-network whose layers are alike; the accuracies of those in :data:`BUDGET`."""
        whole = cost(self.space.largest, config)
        rows, affordable = [], {}
        for size in offered.sizes() if offered.elastic_axes else ():
            spent = cost(size, config)
            rows.append(
                [
                    size.depth,
                    size.heads,
                    size.hidden,
                    size.experts,
                    size.k,
                    spent.parameters,
                    spent.active_parameters,
                    spent.flops,
                    accuracy(size),
                ]
            )
            if spent.parameters <= BUDGET[0] * whole.parameters and spent.active_parameters <= BUDGET[1] * whole.active_parameters:
                affordable[size] = rows[-1][-1]
        return rows, affordable

    def measured(self, name: str, size: Size, config: ViTConfig, accuracy: Callable[..., float], images: ImageSet) -> dict:
        """Cost of one named sub-network, its accuracy on validation images, and the one look at the test set."""
        spent = cost(size, config)
        return {
            f"size_{name}": size.label,
            f"parameters_{name}": spent.parameters,
            f"active_parameters_{name}": spent.active_parameters,
            f"flops_{name}": spent.flops,
            f"val_accuracy_{name}": accuracy(size),
            f"test_accuracy_{name}": accuracy(size, images.test),
        }

    def named(self, offered: Space) -> dict[str, Size]:
        """The sub-networks that are tested: every choice of a single elastic axis, else the presets and the smallest."""
        axes = offered.elastic_axes
        if len(axes) > 1:
            return presets(offered) | {"smallest": offered.smallest}
        choices = {f"{axis}_{value}": replace(offered.largest, **{axis: value}) for axis in axes for value in getattr(offered, axis)}
        return {"large": offered.largest} | choices

    def wall(self, offered: Space, accuracy: Callable[[Size], float]) -> dict[str, list]:
        """Validation accuracy of the whole network with other numbers of experts per token than it was trained with."""
        if not offered.moe:
            return {}
        largest = offered.largest
        ks = [k for k in WALL if k <= largest.experts]
        return {"wall_k": ks, "wall_accuracy": [accuracy(replace(largest, k=k)) for k in ks]}

    def loss(self, paced: Paced):
        smoothing = self.recipe.label_smoothing
        if self.sampler is not None:
            return elastic_loss(self.sampler, self.space, paced.progress, smoothing)
        return moe_classification_loss(smoothing) if self.space.moe else classification_loss(smoothing)

    def geometry(self, images: ImageSet) -> ViTConfig:
        shape = images.train.images.shape
        return geometry(
            self.space,
            width=self.d_model,
            moe=self.moe,
            image_size=shape[-1],
            channels=shape[1],
            patch=self.patch,
            classes=images.classes,
            stem=self.stem,
        )

    def network(self, images: ImageSet, session: Session) -> ElasticViT:
        """The trained network, in evaluation mode; trained first where its weights are not on this machine."""
        return loaded(self, ElasticViT(self.geometry(images)), session)


#: Experts per token at which the scaling wall is looked for.
WALL = (1, 2, 3, 4, 6, 8)


def part(split: Split, images: int) -> Split:
    return Split(split.images[:images], split.labels[:images])
