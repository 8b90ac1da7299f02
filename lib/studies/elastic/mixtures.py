"""Mix'n'Match (MatFormer, arXiv 2310.07707, sec. 3.3): widths that differ by layer.

They are cut from a network that never trained so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from lib.elastic.config import Size, Space
from lib.elastic.cost import cost
from lib.runs.results import Outcome
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.elastic.vit import ElasticRun
from lib.training.evaluate import evaluate_classifier


@dataclass(frozen=True, kw_only=True)
class MixNMatchRun(Spec):
    """Test accuracy of every mixture of two neighbouring widths, the larger in the last layers, and of the widths alone."""

    experiment: ClassVar[str] = "elastic-mixtures"

    parent: ElasticRun

    def run(self, session: Session) -> Outcome:
        images = self.parent.images(session)
        model = self.parent.network(images, session)
        rows = []
        for size in mixtures(self.parent.space):
            found = evaluate_classifier(model.use(size), images.test, images, precision=self.parent.recipe.precision)
            spent = cost(size, model.config)
            rows.append([list(layer.hidden for layer in size.layers), spent.parameters, spent.flops, found["accuracy"]])
        mixed = sum(len(set(row[0])) > 1 for row in rows)
        return Outcome({"mixtures": mixed}, arrays={"mixtures": rows}, data=images.provenance())


def mixtures(space: Space) -> Iterator[Size]:
    """Widths that rise with depth by one step at most, the smallest first."""
    depth = space.largest.depth
    for low, high in zip(space.hidden, space.hidden[1:]):
        for larger in range(depth):
            yield replace(space.largest, hidden=(low,) * (depth - larger) + (high,) * larger)
    yield space.largest
