"""What counting words achieves on the tickets chapter's tasks: a network that does no better needs no attention, and nothing can be said
about its parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from lib.data.tasks import TASKS, TaskSplit, matthews
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.tickets.checkpoint import Checkpoint
from lib.studies.tickets.counted import measure
from lib.studies.tickets.finetune import TaskSize
from lib.studies.tickets.text import Source, task_of
from lib.system.checks import one_of, require


@dataclass(frozen=True, kw_only=True)
class BagOfWordsRun(Spec):
    """Logistic regression on how often each token occurs, with the strength of its penalty chosen by the task's score on validation.

    ``strengths``  of the L2 penalty that are tried, as scikit-learn's C
    """

    experiment: ClassVar[str] = "tickets-words"

    source: Source | Checkpoint = field(default_factory=Source)
    task: str = "order"
    size: TaskSize = field(default_factory=TaskSize)
    strengths: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)

    def __post_init__(self) -> None:
        one_of("task", self.task, TASKS)
        require(self.strengths and min(self.strengths) > 0, f"strengths is {self.strengths}: give numbers above 0")

    def run(self, session: Session) -> Outcome:
        task = task_of(self.source, self.task, self.size.train, self.size.held_out)
        width = 1 + max(int(split.tokens.max()) for split in (task.train, task.validation, task.test))
        train, validation, test = (counts(split, width) for split in (task.train, task.validation, task.test))
        models = [LogisticRegression(C=strength, max_iter=2000).fit(train, task.train.labels.numpy()) for strength in self.strengths]

        def scores(model: LogisticRegression, features: csr_matrix, split: TaskSplit) -> dict[str, float]:
            guessed = model.predict(features)
            found = {"accuracy": float((guessed == split.labels.numpy()).mean())}
            return found | ({"matthews": matthews(torch.from_numpy(guessed), split.labels)} if measure(self.task) == "matthews" else {})

        best = max(models, key=lambda model: scores(model, validation, task.validation)[measure(self.task)])
        metrics = {"strength": best.C}
        for name, features, split in (("val", validation, task.validation), ("test", test, task.test)):
            metrics |= {f"{name}_{score}": value for score, value in scores(best, features, split).items()}
        return Outcome(significant(metrics), data=task.provenance())


def counts(split: TaskSplit, width: int) -> csr_matrix:
    """How often each token is in each row [n, width]; padding does not count."""
    tokens = split.tokens.numpy()
    rows, places = np.nonzero(np.arange(tokens.shape[1]) < split.lengths.numpy()[:, None])
    return csr_matrix((np.ones(len(rows)), (rows, tokens[rows, places])), shape=(len(split), width))
