"""Compress a trained language model by one method, and judge it on the test windows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from lib.measure import cost as measure
from lib.models.anatomy import linear_layers
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec, changed_fields, flatten, plain
from lib.runs.store import Session
from lib.studies.language.methods import PrunedLM, RoundedActivationsLM, RoundedLM, ShortenedLM, Untouched
from lib.studies.language.subjects import AT_ONCE, Clock, OwnLM, PretrainedLM, continued, losses


@dataclass(frozen=True, kw_only=True)
class CompressRun(Spec):
    """One method on one model.  ``seed``: the draw of calibration text, and the training seed of the book's own GPT.

    Metrics: loss (mean nats per token over all windows), perplexity, bytes (of a file with all linear layers of the blocks
    as the method stores them and the rest in 16 bits, computed), bits (per weight of those layers), zeros (their share),
    sample (a prompt and ``told`` tokens after it).  Arrays: the loss of each window, and of depth pruning the influence of each block and
    the numbers of those that went.
    """

    experiment: ClassVar[str] = "language-compress"

    model: PretrainedLM | OwnLM = field(default_factory=OwnLM)
    method: Untouched | PrunedLM | RoundedLM | RoundedActivationsLM | ShortenedLM = field(default_factory=Untouched)
    told: int = 0

    @property
    def builds_on(self) -> tuple[Spec, ...]:
        return (self.model.trained(self.seed),) if isinstance(self.model, OwnLM) else ()

    @property
    def label(self) -> str:
        """Short: the model's own fields are many."""
        changed = flatten({"method": plain(self.method, "method", changed_fields)})
        return (
            f"{self.experiment} {self.model.title}" + "".join(f" {name}={value}" for name, value in changed.items()) + f" seed={self.seed}"
        )

    def run(self, session: Session) -> Outcome:
        subject = self.model.subject(session, self.seed)
        session.report(0.1, "compressing")
        clock = Clock()
        arrays = self.method.apply(subject, self.seed)
        compressing = clock.seconds
        session.report(0.6, "judging")
        clock = Clock()
        with self.method.running(subject.model):
            found = losses(subject.model, subject.windows_WN, AT_ONCE if isinstance(self.model, OwnLM) else 1)
            judging = clock.seconds
            sample = continued(subject, self.told) if self.told else None
        loss = sum(found) / len(found)
        return Outcome(
            significant(
                {
                    "loss": loss,
                    "perplexity": math.exp(loss),
                    "simple_loss": subject.simple_loss,
                    "simple": subject.simple,
                    "compress_seconds": compressing,
                    "judge_seconds": judging,
                    "sample": sample,
                    **sizes(subject.model, self.method),
                }
            ),
            arrays=significant({"losses": found, **arrays}),
            data=subject.data,
        )


def sizes(model: nn.Module, method: Untouched) -> dict[str, float]:
    """Bytes of a file and bits per weight of the linear layers, computed, and the share of their weights that is zero."""
    layers = linear_layers(model)
    inside = sum(layer.weight.numel() for layer in layers)
    stored = sum(layer.weight.numel() * method.bits(layer.in_features) for layer in layers)
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers)
    rest = measure.parameters(model) - inside  # a head that shares the embedding's weight counts once
    return {"parameters": inside + rest, "bytes": round((stored + 16 * rest) / 8), "bits": stored / inside, "zeros": zeros / inside}
