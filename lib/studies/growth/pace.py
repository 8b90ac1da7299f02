"""How long a training step of each network takes, all of them in turns: what turns steps into comparable seconds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from lib.measure.cost import take_turns
from lib.models.gpt import GPT, GPTConfig
from lib.models.gpt_cost import training_flops
from lib.moe.losses import moe_language_model_loss
from lib.runs.results import Outcome
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.system.precision import autocast
from lib.training import optim


@dataclass(frozen=True, kw_only=True)
class PaceRun(Spec):
    """Milliseconds of a training step of each of ``configs``, their median over rounds in which they take turns."""

    experiment: ClassVar[str] = "growth-pace"

    configs: tuple[GPTConfig, ...]
    batch_size: int = 16
    precision: str = "fp32"
    rounds: int = 11

    def run(self, session: Session) -> Outcome:
        torch.manual_seed(self.seed)
        turns = {str(number): self.step(config, session.device) for number, config in enumerate(self.configs)}
        seconds = take_turns(turns, self.rounds, session.device)
        flops = [training_flops(config, self.batch_size * config.context) for config in self.configs]
        return Outcome(
            {},
            arrays={
                "milliseconds": [1000 * statistics.median(seconds[name]) for name in turns],
                "flops": flops,
            },
        )

    def step(self, config: GPTConfig, device: torch.device) -> Callable[[], None]:
        model = GPT(config).to(device).train()
        tokens = torch.randint(config.vocabulary, (self.batch_size, config.context), device=device)
        (optimizer,) = optim.build(model, "adamw", lr=1e-4, weight_decay=0.0)

        def run() -> None:
            with autocast(device, self.precision):
                loss, _ = moe_language_model_loss(model, tokens, tokens)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return run
