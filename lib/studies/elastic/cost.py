"""What cutting out saves, and what elastic training costs: bytes, milliseconds and steps, measured."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch

from lib.data.images import normalise
from lib.elastic.compute import step_cost
from lib.elastic.config import Space, presets
from lib.elastic.cost import cost
from lib.elastic.extract import extract
from lib.elastic.latency import forward
from lib.elastic.loss import elastic_loss
from lib.elastic.samplers import ERNIE, Sampler
from lib.elastic.supernet import ElasticViT, geometry
from lib.measure import cost as measure
from lib.measure.cost import ratio, take_turns
from lib.models.vit_file import load_vit, save_vit
from lib.moe.layer import MoEConfig
from lib.moe.losses import moe_classification_loss
from lib.runs.results import Outcome
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.elastic.vit import ElasticRun
from lib.system.precision import autocast
from lib.training import optim

#: Images whose logits are compared, and the larger of the batches that are timed; fewer where there are not so many.
COMPARED = 256


@dataclass(frozen=True, kw_only=True)
class ExtractionRun(Spec):
    """Cut the presets out of a trained network, write them, read them back: logits, parameters, bytes, latency.

    Latencies are medians of rounds in which the networks take turns; ``*_ratio`` compares with the whole one.
    """

    experiment: ClassVar[str] = "elastic-extraction"

    parent: ElasticRun
    rounds: int = 15

    def run(self, session: Session) -> Outcome:
        images = self.parent.images(session)
        model = self.parent.network(images, session)
        inputs = normalise(images.validation.images[:COMPARED], images)
        metrics, small = {}, {}
        sizes = presets(self.parent.offered or self.parent.space)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            for name, size in sizes.items():
                within = model.use(size)(inputs)
                path = Path(folder) / f"{name}.safetensors"
                file_bytes = save_vit(extract(model), path)
                small[name] = load_vit(path, session.device)
                counted = cost(size, model.config)
                metrics |= {
                    f"difference_{name}": (small[name](inputs) - within).abs().max().item(),
                    f"bytes_{name}": file_bytes,
                    f"parameters_{name}": measure.parameters(small[name]),
                    f"active_parameters_{name}": measure.active_parameters(small[name]),
                    f"flops_{name}": measure.flops(small[name], inputs) // len(inputs),
                    f"counted_{name}": counted.parameters,
                    f"size_{name}": size.label,
                }
            for batch in (1, len(inputs)):
                networks = small | {"inside": model.use(sizes["small"])}  # the small one, still within the whole
                calls = {name: forward(network, inputs[:batch], self.parent.recipe.precision) for name, network in networks.items()}
                seconds = take_turns(calls, self.rounds, session.device)
                for name in calls:
                    metrics[f"latency_ms_{batch}_{name}"] = 1000 * statistics.median(seconds[name])
                    metrics |= {f"latency_{batch}_{name}_{what}": value for what, value in ratio(seconds[name], seconds["large"]).items()}
        return Outcome(metrics, data=images.provenance())


@dataclass(frozen=True, kw_only=True)
class SamplerCost(Spec):
    """Time of a sampler's training step against an ordinary step of the whole network, the two taking turns.

    ``steps`` steps, spread over the sampler's whole schedule, make one turn.
    """

    experiment: ClassVar[str] = "elastic-sampler-cost"

    space: Space
    sampler: Sampler = field(default_factory=ERNIE)
    moe: MoEConfig = field(default_factory=MoEConfig)
    d_model: int = 48
    image_size: int = 32
    channels: int = 3
    patch: int = 8
    stem: str = "patch"
    batch_size: int = 64
    precision: str = "fp32"
    steps: int = 20
    rounds: int = 5

    def run(self, session: Session) -> Outcome:
        torch.manual_seed(self.seed)
        config = geometry(
            self.space,
            width=self.d_model,
            moe=self.moe,
            image_size=self.image_size,
            channels=self.channels,
            patch=self.patch,
            stem=self.stem,
        )
        clock = itertools.cycle((step + 0.5) / self.steps for step in range(self.steps))
        losses = {"ordinary": moe_classification_loss(), "sampler": elastic_loss(self.sampler, self.space, lambda: next(clock))}
        turns = {name: self.turn(ElasticViT(config).to(session.device), loss, session.device) for name, loss in losses.items()}
        seconds = take_turns(turns, self.rounds, session.device)
        return Outcome(
            ratio(seconds["sampler"], seconds["ordinary"])
            | {
                "ordinary_ms": 1000 * statistics.median(seconds["ordinary"]) / self.steps,
                "flops_ratio": step_cost(self.sampler, self.space, config),
            }
        )

    def turn(self, model: ElasticViT, loss, device: torch.device) -> Callable[[], None]:
        inputs = torch.randn(self.batch_size, self.channels, self.image_size, self.image_size, device=device)
        targets = torch.randint(model.config.classes, (self.batch_size,), device=device)
        optimizers = optim.build(model, "adamw", lr=1e-4, weight_decay=0.0)

        def run() -> None:
            model.train()
            for _ in range(self.steps):
                with autocast(device, self.precision):
                    value, _ = loss(model, inputs, targets)
                value.backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)

        return run
