"""The distillation chapter's story tellers as tables and words."""

from __future__ import annotations

import html

import pandas as pd

from lib.measure.statistics import number, percent
from lib.runs.results import Result, Results
from lib.studies.base.picked import column, grouped
from lib.studies.distillation.names import method
from lib.studies.distillation.stories_sizes import ARMS


def arms(stories: Results, longer: Results) -> list[tuple[str, list[Result]]]:
    """Return the runs of each arm that has any, by name, the control that read for longer last."""
    found = grouped(stories, method)
    told_apart = [(name, found[name]) for name in ARMS if name in found]
    return told_apart + ([(longer_name(longer), list(longer))] if longer else [])


def longer_name(longer: Results) -> str:
    """Return what the control is called."""
    return f"text alone, {longer[0].spec['steps']:,} steps"


def story_table(stories: Results, longer: Results) -> pd.DataFrame:
    """Return a row per arm: loss on people's stories, how near its own are to its teacher's, and what it costs."""
    rows = []
    for name, runs in arms(stories, longer):
        of = {metric: column(runs, f"test_{metric}") for metric in ("loss", "reverse", "entropy", "exposure")}
        rows.append(
            {
                "training texts and loss": name,
                "loss on people's stories": number(of["loss"]),
                "KL(student ‖ teacher) on its texts": number(of["reverse"]),
                "entropy of its texts": number(of["entropy"]),
                "excess error": percent(of["exposure"]),
                # The least of the seeds: another process may have slowed a run down.
                "seconds": f"{min(column(runs, 'train_seconds')):.0f}",
            }
        )
    return pd.DataFrame(rows)


def story_points(stories: Results, longer: Results) -> pd.DataFrame:
    """Return a row per student: ``people``, its loss on people's stories, and ``own``, the divergence of its own from its teacher's."""
    return pd.DataFrame(
        [
            {"method": name, "people": r.metrics["test_loss"], "own": r.metrics["test_reverse"], "seed": r.fields["seed"], "key": r.key}
            for name, runs in arms(stories, longer)
            for r in runs
        ]
    )


def beginnings_told(stories: Results, *names: str) -> str:
    """Return as Markdown how the first seed's students of these arms begin a story; text of a model is escaped."""
    told = {method(r): readable(r.arrays["told"][0]) for r in stories if r.spec["seed"] == 0 and r.arrays.get("told")}
    return "\n\n".join(f"**{name}.** {html.escape(told[name])}" for name in names if name in told)


def readable(text: str) -> str:
    """Return the text in one line, without what no page can show."""
    return " ".join("".join(letter for letter in text if letter.isprintable() or letter.isspace()).split())


def teacher_losses(stories: Results) -> list[float]:
    """Return the teacher's loss on people's stories, one per seed."""
    return list({r.fields["seed"]: r.metrics["teacher_loss"] for r in stories}.values())
