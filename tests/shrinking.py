"""Specs made small: the same kinds of networks, methods and steps in the same order, at a size that a test can run."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from lib.studies.anchors.runs import AnchorRun
from lib.studies.benchmarks.scaling import ScalingRun
from lib.studies.benchmarks.studies import small_axes
from lib.studies.benchmarks.task import Task
from lib.studies.tickets.tinybert import TinyRun

#: The most that a field of this name may be, wherever in a Spec it stands.
MOST = {
    "epochs": 1,
    "batch_size": 8,
    "train_examples": 16,
    "steps": 2,
    "student_steps": 2,
    "before": 2,
    "after": 2,
    "rounds": 2,
    "singles": 2,
    "passes": 2,
    "repeats": 2,
    "batch": 2,
    "batches": 1,
    "tokens": 64,
    "watched": 64,
    "windows": 4,
    "calibration": 8,
    "context": 32,
    "length": 32,
    "told": 2,
    "looked": 8,
    "train": 16,
    "held_out": 16,
    "checks": 2,
    "joint": 2,
    "searched": 8,
    "samples": 8,
    "validation_images": 8,
    "check_images": 8,
    "population": 4,
    "generations": 2,
    "parents": 2,
    "mutations": 2,
    "crossovers": 2,
    "members": 2,
    "controls": 2,
    "latency_batch": 2,
    "images": 1,
    "examples": 4,
    "gallery": 4,
    "attacked": 4,
    "variants": 2,
    "cases": 4,
    "size": 64,
    "square": 64,
    "megabytes": 2,
    "tile": 16,
    "features": 32,
    "rank": 16,
    "noise": 8,
    "held": 16,
    "points": 12,
    "copies": 1,
    "portion": 1,
    "every": 1,
    "rewind": 1,
    "head_dim": 16,
    "pairs": 4,
    "vocabulary": 300,
}

#: What a field of this name becomes.
INSTEAD = {
    "precision": {"auto": "bf16"},
    "name": {"tinystories": "grammar"},
    "preset": {"base": "small"},
    "geometry": {"base": "small", "switch-vit": "small"},
    "d_model": {None: 24},
    "compile": {True: False},
    "stories": {None: 200},
    "train_examples": {None: 16},
}

#: Features of an attention head.
HEAD = 4

#: Of training that is divided among stages.
EPOCHS = 8

#: Widths become so many times narrower, but stay multiples of what shares them.
NARROWER = 8


def shrunk(value: Any, name: str = "") -> Any:
    """Return a Spec, or a part of one that stands in the field ``name``, at toy size; what it builds on shrinks alike."""
    if is_dataclass(value):
        return replace(value, **{field.name: shrunk(getattr(value, field.name), field.name) for field in fields(value)} | together(value))
    if isinstance(value, tuple):
        return of_many(value, name)
    if name in INSTEAD and value in INSTEAD[name]:
        return INSTEAD[name][value]
    if name in ("hidden", "d_model") and isinstance(value, int):
        return narrower(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and name in MOST:
        return min(value, MOST[name])
    return value


def together(value: Any) -> dict[str, Any]:
    """Fields that must fit others: heads keep few features each, and what is divided among stages has enough epochs to divide."""
    if isinstance(value, Task):
        return {"epochs": EPOCHS}
    if isinstance(value, AnchorRun):
        return {"recipe": replace(shrunk(value.recipe), epochs=value.pieces)}
    if isinstance(value, TinyRun):
        return {"recipe": replace(shrunk(value.recipe), epochs=EPOCHS)}
    if isinstance(value, ScalingRun):
        return {"values": next(axis.values for axis in small_axes() if axis.axis == value.axis)}
    if not hasattr(value, "heads") or not hasattr(value, "width"):
        return {}
    most = max(value.heads) if isinstance(value.heads, tuple) else value.heads
    return {"width": most * HEAD}


def of_many(values: tuple, name: str) -> tuple:
    """Numbers of channels shrink, steps come earlier, and of long lists the ends stay."""
    if name in ("widths", "stages", "hidden", "ranks") and values and not any(is_dataclass(value) for value in values):
        return tuple(of_many(value, name) if isinstance(value, tuple) else narrower(value) for value in values)
    if name == "snapshots":
        return tuple(dict.fromkeys(min(step, MOST["rewind"]) for step in values))
    if name in ("lengths", "batches", "copied"):
        return tuple(dict.fromkeys(min(value, limit) for value, limit in zip(values, (32, 64, 64))))
    return tuple(shrunk(value) for value in values)


def narrower(channels: int) -> int:
    return max(4, channels // NARROWER) if channels > 4 else channels
