"""Training one network from new weights with a part of the budget: where every comparison of the benchmarks chapter begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from safetensors.torch import load_model
from torch import nn

from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.benchmarks.methods import Dense, Method
from lib.studies.benchmarks.rows import row
from lib.studies.benchmarks.task import FAMILIES, Task
from lib.studies.benchmarks.work import Work
from lib.system.checks import one_of, require


@dataclass(frozen=True, kw_only=True)
class StartRun(Spec):
    """Train a network by one method and judge it; of an elastic one, the whole.

    ``family``  "vit" or "cnn"; the latter is trained densely only
    ``method``  see :mod:`lib.studies.benchmarks.methods`
    ``share``   of the budget that the training may spend

    Metrics: those of :func:`lib.studies.benchmarks.rows.row`; ``train_flops`` that were spent, of which
    ``own_train_flops`` here (all of them), ``train_seconds`` and ``train_seconds_total`` likewise without evaluation,
    ``train_peak_bytes`` (:func:`lib.studies.benchmarks.work.step_memory`), ``steps``, ``diverged``, the last
    ``train_loss``.  Growth adds ``growth_difference``, how far it moved a logit, in their standard deviations.
    Curves: a value for each look at the validation images, ``flops`` those spent until then.
    """

    experiment: ClassVar[str] = "benchmark-start"

    task: Task = field(default_factory=Task)
    family: str = "vit"
    method: Method = Dense()
    share: float = 1.0

    def __post_init__(self) -> None:
        one_of("family", self.family, FAMILIES)
        require(
            self.family in self.method.families,
            f"{type(self.method).__name__} trains networks of the family "
            f"{' or '.join(map(repr, self.method.families))}, not {self.family!r}: choose another method or family",
        )
        require(0 < self.share <= 1, f"share is {self.share}: it must be a part of the budget in (0, 1]")
        self.method.check(self.task)

    def run(self, session: Session) -> Outcome:
        images = self.task.images(session.device)
        work = Work(self.task, self.family, self.share, self.seed, images, session)
        trained = self.method.train(work)
        session.save_weights(trained.model)
        finished = self.method.cut(trained.model, None)
        metrics, arrays = row(finished, images, work.recipe.precision, session.folder)
        metrics |= {"train_loss": trained.curves["train_loss"][-1]} | trained.spent | trained.metrics
        return Outcome(significant(metrics), significant(trained.curves), arrays, images.provenance())

    @property
    def cuts(self) -> tuple[str, ...]:
        """What :meth:`load` may cut out."""
        return self.method.cuts

    def load(self, session: Session, cut: str | None = None) -> nn.Module:
        """The finished network, or a ``cut`` of an elastic one (None: the whole), in evaluation mode.

        Trained first where its weights are not on this machine.  Raises ValueError for a cut that there is not.
        """
        model = self.method.network(self.task, self.family, self.seed)
        load_model(model, str(session.weights(self)))
        return self.method.cut(model.to(session.device).eval(), cut).eval()
