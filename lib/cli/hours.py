"""``python -m lib hours``: how long what the book runs at a scale will take on one H200, estimated before any of it is run.

Each Spec is run up to its first training step, whose floating-point operations and kernels are counted on a few rows (see
:mod:`lib.studies.base.rehearsal`).  A step takes the longer of its compute and of starting its kernels.
"""

from __future__ import annotations

import functools
import math
import tempfile
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch

from lib.data.images import load_images
from lib.data.text import TextSet, load_text
from lib.runs.markdown import pipe_table
from lib.runs.results import Unavailable
from lib.runs.spec import Spec
from lib.runs.store import Session, Store
from lib.studies.anchors.runs import AnchorRun
from lib.studies.base import corpora
from lib.studies.base import images as of_images
from lib.studies.base.rehearsal import Counted, Work, rehearsing
from lib.studies.base.worth import in_order_of_worth
from lib.studies.distillation import stories as of_stories
from lib.studies.growth.gpt import GrowthRun
from lib.studies.tickets import text as of_tickets
from lib.training.loop import Recipe

#: FLOP/s of one H200 by its data sheet: dense bf16 on tensor cores, and fp32 outside them.
PEAK = {"bf16": 989e12, "auto": 989e12, "fp32": 67e12}

#: Assumed share of it that these small networks reach in eager PyTorch.
SHARE = 0.15

#: Assumed seconds until the host has started one kernel: PyTorch's dispatch and CUDA's launch.
LAUNCH = 6e-6

#: Assumed seconds that a result takes besides its training steps: reading data, evaluation, writing.
AROUND = 3.0

#: Minutes beyond which a result is one of the long ones, that a time limit may cut and the next call resumes.
LONG = 9.0

#: How many runs a Spec is, by its experiment: like its own first one, or without a recipe of its own like that of what it
#: begins with.
TRAINING_RUNS = {
    "anchor": lambda spec: 1 / spec.pieces,
    "anchor-piece": lambda spec: 1 / spec.parent.pieces,
    "benchmark-chain": lambda spec: 1,
    "distillation-nasty": lambda spec: 1,
    "distillation-sparse": lambda spec: 1,
    "distillation-tinybert": lambda spec: 1,
    "pruning-barrier": lambda spec: 2,
    "pruning-cocktail": lambda spec: spec.stages,
    "pruning-coarsen": lambda spec: 1,
    "pruning-controls": lambda spec: len(spec.which),
    "pruning-initial": lambda spec: 1,
    "pruning-meta": lambda spec: 1 + spec.controls,
    "pruning-quantized": lambda spec: 1,
    "pruning-tickets": lambda spec: spec.levels,
    "tickets-early": lambda spec: 1,
    "tickets-lth": lambda spec: len(spec.sparsities),
    "tickets-plays-retrain": lambda spec: 1,
}


#: Experiments that search or evaluate for long before they train: each of their training runs is counted like that of what they begin with.
LATE = ("distillation-tinybert", "pruning-meta", "pruning-quantized")


@dataclass(frozen=True)
class Estimate:
    """PFLOPs and minutes of one result."""

    pflops: float
    minutes: float


class Rehearsal(Session):
    """A session in which nothing is trained: weights that a Spec builds on are those before training."""

    def weights(self, spec: Spec) -> Path:
        other = replace(self, spec=spec)
        if not other.weights_path.exists() and (found := first_step(spec, other)):
            other.save_weights(found.model)
        return other.weights_path


def first_step(spec: Spec, session: Session) -> Counted | None:
    """Run ``spec`` up to its first training step and count that; None where it trains nothing."""
    try:
        with (
            rehearsing(),
            mock.patch.object(corpora, "load_text", stand_in),
            mock.patch.object(of_tickets, "load_text", stand_in),
            mock.patch.object(of_images, "load_images", read_once),
            mock.patch.object(of_stories, "student_scores", not_scored),
        ):
            spec.run(session)
    except Counted as found:
        return found
    return None


#: The same images serve many Specs in a row.
read_once = functools.lru_cache(2)(load_images)


def stand_in(name: str, vocabulary: int, device: str = "cpu", stories: int | None = None) -> TextSet:
    """Few stories in place of many: what a step costs depends on how many words there are to choose from, and not on which."""
    return replace(load_text("grammar", min(SPOKEN, vocabulary), device), vocabulary=vocabulary)


def not_scored(*_: Any) -> dict[str, float]:
    """What a student of stories scores before its first step: two networks would write hundreds of texts for it, word by word."""
    return {"loss": math.nan, "reverse": math.nan}


#: Tokens of the stories that replace others, at most.
SPOKEN = 384


def known_work(spec: Spec, store: Store) -> Work | None:
    """The work of the first training of a Spec; None where it is not known: it trains nothing, or it lacks something here."""
    try:
        found = first_step(spec, Rehearsal(torch.device("cpu"), store, spec, lambda part, text: None))
        return found.work if found else None
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError, Unavailable) as error:
        click.echo(f"  not estimated: {type(error).__name__}: {error}"[:WIDTH], err=True)
        return None


def estimate(spec: Spec, trained: Spec, work: Work, alike: Spec) -> Estimate:
    """What one result will take, by the ``work`` of a Spec that is ``alike`` but for numbers to the one that is ``trained``."""
    steps = work.steps * length(trained) / length(alike) * TRAINING_RUNS.get(spec.experiment, lambda _: 1)(spec)
    seconds = steps * max(work.flops / (SHARE * PEAK[work.recipe.precision]), LAUNCH * work.operations)
    return Estimate(steps * work.flops / 1e15, (seconds + AROUND) / 60)


def length(spec: Spec) -> int:
    """Steps of a Spec's training where it names them, else epochs."""
    for holder in (spec, getattr(spec, "recipe", None), getattr(spec, "task", None)):
        for name in ("steps", "epochs"):
            if isinstance(value := getattr(holder, name, None), int):
                return max(1, value)
    return 1


def trained_by(spec: Spec) -> Spec | None:
    """The Spec whose training is counted for ``spec``: itself, or what it has its recipe from; None where it trains nothing."""
    if isinstance(spec, GrowthRun) and spec.parent:  # a network of the same size that was not grown takes as long
        return replace(spec, model=spec.config, parent=None, growth=(), trained="all")
    if isinstance(spec, AnchorRun):  # whole, so that no earlier piece is asked for
        return replace(spec, pieces=1)
    if has_recipe(spec) and spec.experiment not in LATE:
        return spec
    if spec.experiment not in TRAINING_RUNS:
        return None
    inside = [part for field in fields(spec) if isinstance(part := getattr(spec, field.name), Spec)]
    return next((found for part in inside if (found := trained_by(part))), None)


def costs_like(value: Any) -> tuple:
    """Classes and sizes in a Spec, without what it builds on: two Specs that agree are taken to cost the same per step."""
    found: list[Any] = [type(value).__name__]
    for field in fields(value):
        part = getattr(value, field.name)
        if field.name in SIZES:
            found.append((field.name, part))
        if is_dataclass(part):
            found.append(type(part).__name__ if isinstance(part, Spec) else costs_like(part))
    return tuple(found)


#: Fields on which the cost of a step depends.
SIZES = {
    *("preset", "d_model", "patch", "width", "widths", "stages", "blocks", "depth", "heads", "hidden", "size"),
    *("experts", "k", "context", "batch_size", "tokens", "precision", "task", "parts", "places", "what"),
}


def has_recipe(value: Any) -> bool:
    """Whether a recipe is among the fields, or in a part that is no Spec."""
    if isinstance(value, Recipe):
        return True
    parts = [getattr(value, field.name) for field in fields(value)] if is_dataclass(value) else []
    return any(has_recipe(part) for part in parts if not isinstance(part, Spec))


@dataclass
class Row:
    """What the results of one study take that no study before it has asked for."""

    chapter: str
    study: str
    results: int = 0
    pflops: float = 0.0
    minutes: float = 0.0
    longest: float = 0.0
    unknown: int = 0

    def add(self, found: Estimate | None) -> None:
        self.results += 1
        if found is None:
            self.unknown += 1
            return
        self.pflops += found.pflops
        self.minutes += found.minutes
        self.longest = max(self.longest, found.minutes)

    @property
    def cells(self) -> list[str]:
        numbers = (f"{self.pflops:,.1f}", f"{self.minutes:.0f}", f"{self.longest:.1f}")
        return [self.chapter, self.study, str(self.results), *numbers, str(self.unknown or "")]


def estimated(scale: str, subjects: tuple[str, ...]) -> list[Row]:
    """Return a row per study of the chapters named, all if none is, in order of worth."""
    rows: dict[tuple[str, str], Row] = {}
    known: dict[tuple, tuple[Work | None, Spec]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "none", Path(folder))
        for chapter, study, spec in in_order_of_worth(scale):
            if subjects and chapter.subject not in subjects:
                continue
            row = rows.setdefault((chapter.subject, study), Row(chapter.slug, study))
            trained = trained_by(unseeded(spec))
            if trained is None:
                row.add(None)
                continue
            if (name := costs_like(trained)) not in known:
                click.echo(f"{chapter.subject} {study}  {trained.label}"[:WIDTH], err=True)
                known[name] = known_work(trained, store), trained
            work, alike = known[name]
            row.add(work and estimate(spec, trained, work, alike))
    return list(rows.values())


def unseeded(value: Any) -> Any:
    """A Spec or a part of one with seed 0 everywhere: what takes as long."""
    if isinstance(value, tuple):
        return tuple(map(unseeded, value))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{field.name: 0 if field.name == "seed" else unseeded(getattr(value, field.name)) for field in fields(value)})


def run(scale: str, subjects: tuple[str, ...]) -> int:
    """Print the table as Markdown.  Returns the exit status that :mod:`lib.__main__` documents."""
    rows = estimated(scale, subjects)
    whole = Row("the book", "")
    for row in rows:
        for name in ("results", "pflops", "minutes", "unknown"):
            setattr(whole, name, getattr(whole, name) + getattr(row, name))
        whole.longest = max(whole.longest, row.longest)
    click.echo(HEADING.format(scale=scale, share=f"{SHARE:.0%}", launch=f"{LAUNCH * 1e6:.0f}", around=f"{AROUND:.0f}"))
    click.echo(
        pipe_table(
            ("chapter", "study", "results", "PFLOPs", "minutes", "longest", "not estimated"),
            [row.cells for row in [*rows, whole]],
            (22, 22, 8, 8, 8, 8, 8),
            (False, False, True, True, True, True, True),
        )
    )
    return 0


#: Characters of a Spec that progress shows.
WIDTH = 120

#: What stands above the table.
HEADING = """# How long scale `{scale}` takes on one H200

Estimated before anything was run, by `python -m lib hours --scale {scale}`, in the order in which `python -m lib run --all` runs.
A training step of each result is counted on a few rows; it takes the longer of its FLOPs at {share} of the data sheet's rate
(989 TFLOP/s in bf16, 67 in fp32) and {launch} µs for each operation that is started, and every result {around} s more. The share, the
time of a start and that of a result are assumptions: nothing was measured. Results that train nothing, such as timings, are counted
and not estimated, nor is what a result does besides its training. Where a study names results that one above it has, they are counted
there.
"""
