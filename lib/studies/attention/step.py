"""What faster attention is worth to a training step: attention alone, and all that stands around it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lib.attention.engines import Attention as Engine
from lib.attention.engines import sdpa
from lib.attention.masks import Mask
from lib.attention.standard import standard
from lib.measure.cost import ratio, take_turns
from lib.models.gpt import GPT, Attention, GPTConfig
from lib.models.rotary import rotate
from lib.moe.losses import moe_language_model_loss
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.attention.contenders import TYPES
from lib.system.precision import autocast
from lib.training import optim

KINDS: dict[str, Engine] = {"standard": standard, "fused": sdpa}


class Attends(Attention):
    """A GPT's causal attention, with its weights, computed by another engine in the network's own precision."""

    def __init__(self, config: GPTConfig, engine: Engine, dtype: torch.dtype):
        super().__init__(config)
        self.engine, self.dtype = engine, dtype

    def forward(self, x_BND: Tensor, rope: tuple[Tensor, Tensor] | None, cache=None) -> Tensor:
        B, N, _ = x_BND.shape
        q, k, v = (layer(x_BND).view(B, N, -1, self.head_dim).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        with torch.autocast(x_BND.device.type, enabled=False):  # it would have softmax in fp32, and the matrix twice as large
            y_BHNd = self.engine(*(x.to(self.dtype) for x in (q, k, v)), Mask(causal=True))
        return self.out(y_BHNd.transpose(1, 2).flatten(2))


@dataclass(frozen=True, kw_only=True)
class StepRun(Spec):
    """A GPT's causal attention by its definition and by SDPA: forward, with backward, and the whole training step with AdamW.

    ``blocks`` in metrics: the share of a step that its attention takes, from the time of attention alone, which is that of
    one layer times the depth.
    """

    experiment: ClassVar[str] = "attention-step"

    config: GPTConfig
    batch_size: int = 1
    precision: str = "fp32"
    rounds: int = 7

    def run(self, session: Session) -> Outcome:
        torch.manual_seed(self.seed)
        device, metrics = session.device, {}
        steps = {name: self.step(engine, device) for name, engine in KINDS.items()}
        for what, calls in {
            "forward": {name: self.alone(engine, device, False) for name, engine in KINDS.items()},
            "attention": {name: self.alone(engine, device, True) for name, engine in KINDS.items()},
            "step": steps,
        }.items():
            seconds = take_turns(calls, self.rounds, device)
            metrics |= {f"{what}_ms_{name}": 1000 * statistics.median(seconds[name]) for name in calls}
            metrics |= {f"{what}_{name}": value for name, value in ratio(seconds["standard"], seconds["fused"]).items()}
        for name in KINDS:
            metrics[f"share_{name}"] = self.config.depth * metrics[f"attention_ms_{name}"] / metrics[f"step_ms_{name}"]
        return Outcome(significant(metrics))

    def alone(self, engine: Engine, device: torch.device, training: bool) -> Callable[[], object]:
        shape = (self.batch_size, self.config.heads, self.config.context, self.config.head_dim)
        q, k, v, do = (torch.randn(shape, device=device, dtype=TYPES[self.precision]) for _ in range(4))
        if not training:

            def forward() -> None:
                with torch.no_grad():
                    engine(q, k, v, Mask(causal=True))

            return forward
        inputs = [x.requires_grad_() for x in (q, k, v)]
        return lambda: torch.autograd.grad(engine(*inputs, Mask(causal=True)), inputs, do)

    def step(self, engine: Engine, device: torch.device) -> Callable[[], None]:
        model = GPT(self.config)
        for block in model.blocks:
            other = Attends(self.config, engine, TYPES[self.precision])
            other.load_state_dict(block.attention.state_dict())
            block.attention = other
        model.to(device).train()
        tokens = torch.randint(self.config.vocabulary, (self.batch_size, self.config.context), device=device)
        (optimizer,) = optim.build(model, "adamw", lr=1e-4, weight_decay=0.0)

        def run() -> None:
            with autocast(device, self.precision):
                loss, _ = moe_language_model_loss(model, tokens, tokens)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return run
