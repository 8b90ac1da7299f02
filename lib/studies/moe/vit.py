"""Training one vision transformer, dense or with experts: most of the mixtures chapter's Specs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from safetensors.torch import load_model
from torch import Tensor

from lib.data.images import ImageBatches, ImageSet, normalise
from lib.measure import cost as measure
from lib.models.vit import ViT, ViTConfig, preset
from lib.models.vit_merge import merge_to_dense
from lib.moe.diagnostics import dead_experts, expert_by_class, expert_by_position, load_entropy, max_load, stability
from lib.moe.gate import Gate
from lib.moe.layer import MoEConfig
from lib.moe.losses import moe_classification_loss
from lib.moe.routers import ROUTERS
from lib.moe.routers.adamix import adamix_loss
from lib.moe.routers.hash import fit_patch_codes
from lib.moe.routers.partition import expert_weight_averaging
from lib.moe.routers.thor import thor_loss
from lib.moe.routing import Routing, routing
from lib.moe.sparse_to_dense import copy_non_expert_weights, sparse_to_dense_loss
from lib.runs.results import Outcome, significant
from lib.runs.store import Session
from lib.studies.base.image_run import ImageRun, scored
from lib.system.device import synchronise
from lib.system.precision import autocast
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import History, fit
from lib.training.losses import classification_loss

#: Accuracy whose first epoch the Switch-ViT project reports.
THRESHOLD = 0.75

#: Routing tables are kept for this many epochs, evenly spread over training.
SNAPSHOTS = 4

#: Held-out images that routing tables and usage weights are taken from.
PROBE_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class ViTRun(ImageRun):
    """Train a ViT on images, choose nothing by the test set, and look at it once at the end.

    ``preset``      size of the model, see :data:`lib.models.vit.PRESETS`; ``d_model`` changes its width,
                    ``patch`` the side of its patches in pixels, ``widening`` multiplies its hidden units
    ``moe``         None: dense
    ``ewa_beta``    share of expert weight averaging after each step, for the router "partition"
    ``consistency`` whether THOR's and AdaMix's two passes are pulled together
    ``teacher``     a sparse run to distil into this dense one, starting from its non-expert weights
    """

    experiment: ClassVar[str] = "moe-vit"

    preset: str = "tiny"
    d_model: int | None = None
    patch: int | None = None
    widening: int = 1
    moe: MoEConfig | None = None
    ewa_beta: float = 0.0
    consistency: bool = True
    teacher: ViTRun | None = None

    def run(self, session: Session) -> Outcome:
        images = self.images(session)
        torch.manual_seed(self.seed)
        model = ViT(self.geometry(images)).to(session.device)
        if model.codes is not None:
            fit_patch_codes(model, normalise(images.train.images[:PROBE_IMAGES], images), seed=self.seed)
        batches = ImageBatches(images.train, images, self.recipe.batch_size, self.augmentation, self.seed)
        probe = normalise(images.validation.images[:PROBE_IMAGES], images)
        labels = images.validation.labels[:PROBE_IMAGES]

        def evaluate(model: ViT) -> dict[str, float | list]:
            values = scored(model, images.validation, images, self.recipe, "val")
            return values | routing_tables(self.look(model, probe), labels, images.classes)

        history = fit(
            model,
            batches,
            self.loss(model, session),
            self.recipe,
            seed=self.seed,
            evaluate=evaluate,
            after_step=expert_weight_averaging(self.ewa_beta) if self.ewa_beta else None,
            checkpoint=session.checkpoint,
            report=session.report,
        )
        metrics = self.trained(history, batches.steps) | self.cost(model, probe) | self.load(model, probe)
        metrics |= self.merged(model, images, probe) | self.scored(model, images)
        session.save_weights(model)
        curves, arrays = split_tables(history.curves)
        return Outcome(significant(metrics), curves, arrays, images.provenance())

    def geometry(self, images: ImageSet) -> ViTConfig:
        """The preset, fitted to the images.  Without ``patch``: 2 pixels for tiny images, else 4."""
        base = preset(self.preset)
        width = self.d_model or base.width
        side = images.train.images.shape[-1]
        return preset(
            self.preset,
            image_size=side,
            channels=images.train.images.shape[1],
            classes=images.classes,
            patch=self.patch or (2 if side < 16 else 4),
            width=width,
            hidden=self.widening * width * base.hidden // base.width,
            moe=self.moe,
        )

    def loss(self, model: ViT, session: Session):
        smoothing = self.recipe.label_smoothing
        if self.teacher is not None:
            return sparse_to_dense_loss(self.prepared_teacher(model, session), label_smoothing=smoothing)
        if self.moe is None:
            return classification_loss(smoothing)
        if self.moe.router == "thor":
            return thor_loss(alpha=5.0 if self.consistency else 0.0, label_smoothing=smoothing)
        if self.moe.router == "adamix" and self.consistency:
            return adamix_loss(smoothing)
        return moe_classification_loss(smoothing)

    def prepared_teacher(self, student: ViT, session: Session) -> ViT:
        """The teacher with its trained weights; the student takes over all of them but the experts."""
        weights = session.weights(self.teacher)
        teacher = ViT(replace(student.config, moe=self.teacher.moe)).to(session.device)
        load_model(teacher, str(weights))
        copy_non_expert_weights(student, teacher)
        return teacher

    @torch.no_grad()
    def look(self, model: ViT, probe: Tensor) -> list[Routing]:
        """Where held-out tokens go, in evaluation mode."""
        model.eval()
        with autocast(probe.device, self.recipe.precision):
            return model.with_routing(probe)[1]

    def trained(self, history: History, steps: int) -> dict:
        accuracy = history.curves["val_accuracy"]
        reached = next((epoch for epoch, value in enumerate(accuracy, 1) if value >= THRESHOLD), None)
        images = steps * self.recipe.batch_size * max(1, history.epochs)
        return {
            "train_loss": history.curves["train_loss"][-1],
            "diverged": history.diverged,
            "epoch_at_threshold": reached,
            "train_seconds": history.seconds,
            "step_ms": 1000 * history.seconds / (steps * max(1, history.epochs)),
            "train_seconds_per_50k": 50_000 * history.seconds / images,
        }

    def cost(self, model: ViT, probe: Tensor) -> dict:
        batch = probe[:100]
        return {
            "parameters": measure.parameters(model),
            "active_parameters": measure.active_parameters(model),
            "flops_per_image": measure.flops(model, batch) / len(batch),
        }

    def load(self, model: ViT, probe: Tensor) -> dict:
        """Load on held-out tokens, mean over layers, and how many choices a bf16 router would change."""
        if self.moe is None or not ROUTERS[self.moe.router].learned:
            return {}
        routings = self.look(model, probe)
        load_LE = torch.stack([routing.load_E for routing in routings])
        gates = [module for module in model.modules() if isinstance(module, Gate)]
        for gate in gates:
            gate.precision = "bf16" if gate.precision == "fp32" else "fp32"
        other = self.look(model, probe)
        for gate in gates:
            gate.precision = self.moe.router_precision
        same = torch.stack([stability(a, b) for a, b in zip(routings, other)]).mean()
        return {
            "load_entropy": load_entropy(load_LE).mean().item(),
            "max_load": max_load(load_LE).mean().item(),
            "dead_experts": dead_experts(load_LE).float().mean().item(),
            "choices_changed_by_precision": 1 - same.item(),
        }

    def merged(self, model: ViT, images: ImageSet, probe: Tensor) -> dict:
        """Validation accuracy with one dense FFN per layer: the experts' average, or the first expert alone."""
        if self.moe is None:
            return {}
        routings = self.look(model, probe)
        networks = {
            "merged_uniform": merge_to_dense(model, "uniform", routings),
            "merged_usage": merge_to_dense(model, "usage", routings),
            "first_expert": merge_to_dense(model, "usage", only(0, self.moe.routed, len(routings))),
        }
        return {
            f"val_accuracy_{name}": evaluate_classifier(network, images.validation, images, precision=self.recipe.precision)["accuracy"]
            for name, network in networks.items()
        }

    def scored(self, model: ViT, images: ImageSet) -> dict:
        """Final accuracy and loss on validation images, and the one look at the test set, timed.

        A run that diverged is scored too: by what its last weights predict, usually one class for all.
        """
        held = evaluate_classifier(model, images.validation, images, precision=self.recipe.precision)
        synchronise(images.test.images.device)
        start = time.perf_counter()
        test = evaluate_classifier(model, images.test, images, precision=self.recipe.precision)
        seconds = time.perf_counter() - start
        return {
            "val_accuracy": held["accuracy"],
            "val_loss": held["loss"],
            "test_accuracy": test["accuracy"],
            "test_loss": test["loss"],
            "test_seconds_per_10k": 10_000 * seconds / len(images.test),
        }


def only(expert: int, experts: int, layers: int) -> list[Routing]:
    """Routings that give everything to one expert: merging by their usage keeps that expert alone."""
    return [routing(torch.full((1, 1), expert), torch.ones(1, 1), experts)] * layers


def routing_tables(routings: list[Routing], labels: Tensor, classes: int) -> dict[str, list]:
    """Shares of the last MoE layer's experts, in thousandths: by class [E, classes], by position [E, N]."""
    if not routings:
        return {}
    last = routings[-1]
    positions = len(last.gate_TK) // len(labels)
    tables = {"by_class": expert_by_class(last, labels, classes), "by_position": expert_by_position(last, positions)}
    return {name: (1000 * table / table.sum(0, keepdim=True).clamp(min=1e-9)).round().int().tolist() for name, table in tables.items()}


def split_tables(curves: dict[str, list]) -> tuple[dict[str, list], dict[str, list]]:
    """Curves of numbers, and a few snapshots of the curves of tables with the epochs they are from."""
    tables = {name: values for name, values in curves.items() if name in ("by_class", "by_position")}
    numbers = significant({name: values for name, values in curves.items() if name not in tables})
    if not tables:
        return numbers, {}
    epochs = len(tables["by_class"])
    chosen = sorted({round(i * (epochs - 1) / max(1, SNAPSHOTS - 1)) for i in range(SNAPSHOTS)})
    snapshots = {name: [values[epoch] for epoch in chosen] for name, values in tables.items()}
    return numbers, snapshots | {"snapshot_epochs": [epoch + 1 for epoch in chosen]}
