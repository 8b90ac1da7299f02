"""The growth chapter's numbers: runs picked by name, losses in words, and what growth saved against training from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.measure.statistics import percent, spelled, student
from lib.models.gpt import GPTConfig
from lib.runs.results import Result, Results
from lib.studies.base import picked
from lib.studies.base.picked import column, gains, joined
from lib.studies.growth.names import method, ordered, share
from lib.studies.growth.saving import envelope_saving, is_sparse, saving
from lib.studies.growth.studies import Plan


def named(results: Results, *names: str) -> Results:
    """Return the runs of these methods."""
    return picked.named(results, method, names)


def whole(results: Results) -> Results:
    """Return the study, or none of its runs where some are missing: a part of the envelope lies above the envelope."""
    return Results((), results.missing) if results.missing else results


def from_scratch(scratch: Results, plan: Plan, config: GPTConfig) -> Results:
    """Return the runs from scratch that spend the whole budget, with experts if the network has them."""
    steps = plan.scratch(config, 1.0).steps
    return Results(tuple(r for r in scratch if is_sparse(r) == bool(config.moe) and r.spec["steps"] == steps), scratch.missing)


def grown_up(pipeline: Results) -> Results:
    """Return the pipeline's last phases: what has grown in all three ways."""
    return Results(tuple(r for r in pipeline if len(ordered(r.spec)) == 3), pipeline.missing)


def in_order(results: Results, order: tuple[str, ...]) -> list[Result]:
    """Return the runs that grew in this order."""
    return [r for r in results if tuple(ordered(r.spec)) == order]


def upcycled_whole(results: Results) -> Results:
    """Return the mixtures among them whose experts are whole FFNs."""
    return Results(tuple(r for r in results if is_sparse(r) and r.spec["growth"][0]["moe"]["split"] == 1))


def best_width(wide: Results) -> str:
    """Return the way of widening whole networks with the lowest mean loss on validation text."""
    names = [name for name in dict.fromkeys(method(r) for r in wide) if name.startswith("width, ")]
    return min(names, key=lambda name: np.mean(column(named(wide, name), "val_bits_per_byte")))


def bits(results: Iterable[Result], digits: int = 3) -> str:
    """Return the test loss in bits per byte, with its interval; a dash without runs."""
    results = list(results)
    if any(r.metrics["diverged"] for r in results):
        return "diverged"
    return "–" if not results else spelled(column(results, "test_bits_per_byte"), digits=digits)


def apart(first: Iterable[Result], second: Iterable[Result]) -> str:
    """Return the difference of test losses, paired by seed."""
    return spelled(gains(first, second, "test_bits_per_byte"), digits=3, signed=True)


def forgot(results: Iterable[Result]) -> str:
    """Return by how much the loss on the old language rose."""
    return spelled(
        [r.metrics["old_test_bits_per_byte"] - r.metrics["old_test_bits_per_byte_before"] for r in results], digits=2, signed=True
    )


def budgets(run: Result, plan: Plan) -> float:
    """Return a run's compute, its sources' included, as a multiple of what every comparison gets, to one digit."""
    return round(run.metrics["total_flops"] / plan.budget, 1)


@dataclass(frozen=True)
class Saved:
    """What growth saves: against the lower envelope of all sizes from scratch where smaller ones were run, else of the final size."""

    scratch: Results
    smaller: Results

    def found(self, results: Iterable[Result], **spent: Any) -> list[float]:
        """Return how much less than from scratch each run took, the source charged; none where that cannot be told for all of them."""
        if not len(self.smaller):  # against the final size alone it may only show that this size is too large
            return []
        try:
            return [envelope_saving(r, joined(self.scratch, self.smaller), **spent) for r in results]
        except ValueError:  # more compute did not help from scratch
            return []

    def told(self, results: Iterable[Result], **spent: Any) -> str:
        """Return in words what growth saved, over seeds; a dash where it cannot be told."""
        return percent(found) if (found := self.found(results, **spent)) else "–"

    def pays(self, results: Iterable[Result]) -> bool:
        """Return whether the whole interval of what growth saved lies above zero."""
        low = student(found).low if (found := self.found(results)) else None
        return low is not None and low > 0

    def rows(self, results: Results, **spent: Any) -> pd.DataFrame:
        """Return a row per grown run with its ``saving``; methods whose saving cannot be told for every seed are left out."""
        rows: list[dict[str, Any]] = []
        known = joined(self.scratch, self.smaller)
        for name in dict.fromkeys(method(r) for r in results if r.spec["growth"]):
            try:
                rows += [
                    {
                        "method": name,
                        "seed": r.fields["seed"],
                        "saving": envelope_saving(r, known, **spent) if len(self.smaller) else saving(r, self.scratch, **spent),
                    }
                    for r in named(results, name)
                ]
            except ValueError:
                continue
        return pd.DataFrame(rows)


def best_shares(results: Iterable[Result]) -> str:
    """Return for each method the share of the compute before growth that had the lowest mean loss, in words."""
    late: dict[tuple[str, float], list[float]] = {}
    for r in results:
        late.setdefault((method(r), round(share(r), 2)), []).append(r.metrics["test_bits_per_byte"])
    best = {
        name: min((np.mean(values), part) for (other, part), values in late.items() if other == name)[1]
        for name in dict.fromkeys(name for name, _ in late)
    }
    return "; ".join(f"{part:.0%} for *{name}*" for name, part in best.items())
