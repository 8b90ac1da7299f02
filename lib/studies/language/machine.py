"""What a CPU makes of compressed layers: the time of one linear layer in each form that PyTorch can run, and torchao beside ours."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.measure.cost import take_turns
from lib.pruning.sparsegpt import best
from lib.quantization import torchao_baseline
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.language.methods import RoundedLM
from lib.studies.language.subjects import AT_ONCE, OwnLM, losses


@dataclass(frozen=True, kw_only=True)
class LayerTimeRun(Spec):
    """Milliseconds of one linear layer on ``tokens`` tokens: dense, with zeros left in, in sparse formats, with 8-bit weights.

    Forms take turns, and the fastest of all rounds counts: whatever else the machine does makes a call slower, never faster.  The
    layer with zeros left in is the control, as it computes what the dense one computes.  What PyTorch cannot run on this machine is in ``absent_…`` with the reason.
    """

    experiment: ClassVar[str] = "language-time"
    version: ClassVar[int] = 2  # 1 took medians

    inputs: int = 576
    outputs: int = 1536
    tokens: tuple[int, ...] = (1, 64)
    rounds: int = 15

    @torch.no_grad()
    def run(self, session: Session) -> Outcome:
        torch.manual_seed(self.seed)
        layer = nn.Linear(self.inputs, self.outputs, bias=False).to(session.device)
        calls, metrics = forms(layer), {}
        for tokens in self.tokens:
            x = torch.randn(tokens, self.inputs, device=session.device)
            ready: dict[str, Callable[[], object]] = {}
            for name, call in calls.items():
                try:
                    call(x)
                    ready[name] = lambda call=call: call(x)
                except Exception as error:  # each back end refuses in its own way
                    metrics[f"absent_{name}"] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            seconds = take_turns(ready, self.rounds, session.device)
            for name in ready:
                metrics[f"ms_{name}_{tokens}"] = 1000 * min(seconds[name])
                metrics[f"times_{name}_{tokens}"] = min(seconds[name]) / min(seconds["dense"])
        return Outcome(significant(metrics))


def forms(layer: nn.Linear) -> dict[str, Callable[[Tensor], Tensor]]:
    """The same layer in each form, by name."""
    weight_OI = layer.weight.detach()
    half_OI = weight_OI * best(weight_OI.abs(), 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse formats are "in beta", dynamic quantization "will move"
        rows = half_OI.to_sparse_csr()
        codes = torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear}, dtype=torch.qint8)
    scale_O1 = weight_OI.abs().amax(1, keepdim=True) / 127
    bytes_OI = (weight_OI / scale_O1).round().to(torch.int8)
    return {
        "dense": lambda x: x @ weight_OI.T,
        "zeros": lambda x: x @ half_OI.T,
        "csr": lambda x: (rows @ x.T).T,
        "int8": lambda x: codes(x),
        "unpacked": lambda x: (x @ bytes_OI.to(x.dtype).T) * scale_O1.T,
    }


@dataclass(frozen=True, kw_only=True)
class TorchaoLMRun(Spec):
    """The book's own GPT with weights rounded by torchao and by ours: 8 bits per row, 4 per 32 neighbours, both symmetric."""

    experiment: ClassVar[str] = "language-torchao"

    model: OwnLM = field(default_factory=OwnLM)

    @property
    def builds_on(self) -> tuple[Spec, ...]:
        return (self.model.trained(self.seed),)

    def run(self, session: Session) -> Outcome:
        subject = self.model.subject(session, self.seed)
        metrics = {"perplexity_dense": judged(subject.model, subject.windows_WN)}
        for bits in (8, 4):
            metrics[f"perplexity_torchao_{bits}"] = judged(torchao_baseline.quantized(subject.model, bits), subject.windows_WN)
        for bits, group in ((8, None), (4, torchao_baseline.GROUP)):
            own = self.model.subject(session, self.seed)
            RoundedLM("nearest", bits, group, symmetric=True).apply(own, self.seed)
            metrics[f"perplexity_ours_{bits}"] = judged(own.model, own.windows_WN)
        return Outcome(significant(metrics), data=subject.data)


def judged(model: nn.Module, windows_WN: Tensor) -> float:
    found = losses(model, windows_WN, AT_ONCE)
    return math.exp(sum(found) / len(found))
