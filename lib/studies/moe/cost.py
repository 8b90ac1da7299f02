"""What experts cost in time: one layer by backend, and a whole model's training step."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
import torch.nn.functional as F

from lib.measure import cost as measure
from lib.measure.cost import ratio, take_turns
from lib.models.vit import ViT, ViTConfig, preset, seed_geometry
from lib.moe.backend_cost import backend_cost
from lib.moe.layer import MoEConfig
from lib.runs.results import Outcome
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.system.precision import autocast
from lib.training import optim


@dataclass(frozen=True, kw_only=True)
class LayerCost(Spec):
    """Forward and backward of one MoE layer against its FLOP-equal dense FFN, the two taking turns."""

    experiment: ClassVar[str] = "moe-layer-cost"

    experts: int = 64
    backend: str = "auto"
    tokens: int = 4160
    d_model: int = 320
    hidden: int = 1024
    k: int = 1
    precision: str = "fp32"
    rounds: int = 15

    def run(self, session: Session) -> Outcome:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[self.precision]
        torch.manual_seed(self.seed)
        return Outcome(
            backend_cost(self.experts, self.tokens, self.d_model, self.hidden, self.k, self.backend, dtype, session.device, self.rounds)
        )


@dataclass(frozen=True, kw_only=True)
class StepCost(Spec):
    """A training step and an inference pass of a whole Switch-ViT against its dense twin, taking turns.

    ``geometry``: a preset, with another width and patch size if wanted, or "switch-vit" for the project
    whose table the chapter corrects.
    """

    experiment: ClassVar[str] = "moe-step-cost"

    geometry: str = "small"
    d_model: int | None = None
    patch: int | None = None
    moe: MoEConfig = field(default_factory=MoEConfig)
    batch_size: int = 128
    precision: str = "fp32"
    rounds: int = 9

    def run(self, session: Session) -> Outcome:
        torch.manual_seed(self.seed)
        models = {"dense": ViT(self.config(None)), "moe": ViT(self.config(self.moe))}
        steps = {name: self.training_step(model.to(session.device), session.device) for name, model in models.items()}
        passes = {name: self.inference_pass(model, session.device) for name, model in models.items()}
        metrics = {}
        for kind, calls in (("train", steps), ("test", passes)):
            seconds = take_turns(calls, self.rounds, session.device)
            metrics |= {f"{kind}_{name}": value for name, value in ratio(seconds["moe"], seconds["dense"]).items()}
            metrics |= {f"{kind}_ms_{name}": 1000 * statistics.median(values) for name, values in seconds.items()}
        for name, model in models.items():
            metrics[f"parameters_{name}"] = measure.parameters(model)
        return Outcome(metrics)

    def config(self, moe: MoEConfig | None) -> ViTConfig:
        if self.geometry != "switch-vit":
            base = preset(self.geometry)
            width = self.d_model or base.width
            return replace(base, width=width, hidden=width * base.hidden // base.width, patch=self.patch or base.patch, moe=moe)
        theirs = seed_geometry(moe.experts if moe else None)
        return replace(theirs, moe=replace(theirs.moe, backend=moe.backend)) if moe else theirs

    def images(self, config: ViTConfig, device: torch.device) -> torch.Tensor:
        return torch.randn(self.batch_size, config.channels, config.image_size, config.image_size, device=device)

    def training_step(self, model: ViT, device: torch.device) -> Callable[[], None]:
        inputs = self.images(model.config, device)
        targets = torch.randint(model.config.classes, (self.batch_size,), device=device)
        optimizers = optim.build(model, "adamw", lr=1e-4, weight_decay=0.0)

        def step() -> None:
            model.train()
            with autocast(device, self.precision):
                logits, routings = model.with_routing(inputs)
                loss = F.cross_entropy(logits, targets) + sum(routing.loss for routing in routings)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        return step

    def inference_pass(self, model: ViT, device: torch.device) -> Callable[[], None]:
        inputs = self.images(model.config, device)

        @torch.no_grad()
        def infer() -> None:
            model.eval()
            with autocast(device, self.precision):
                model(inputs)

        return infer
