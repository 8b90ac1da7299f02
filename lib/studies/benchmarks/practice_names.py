"""What the methods of the benchmarks chapter's first regime are called, and what is said of when to use them.

Everything is read from a run's settings as they stand in its result (:attr:`lib.runs.results.Result.spec`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.models.whitened_cnn import WhitenedCNNConfig
from lib.pruning.low_rank import ranks_for
from lib.studies.benchmarks.names import share

#: The kinds of methods in the order of tables and figures: what each is called, and when it is the right one.
KINDS = {
    "dense": "nothing may be lost and 16 bits are small enough",
    "int8": "the processor multiplies 8-bit integers quickly; it needs a few hundred images and no training",
    "rounding": "the file must be small and nothing may be trained; the network runs as before",
    "codebooks": "the file must be very small; weights are decoded before use",
    "pruning": "the file must be small, or hardware skips zeros; dense products do not",
    "pruning and codebooks": "the smallest file counts and speed does not",
    "channels": "time counts on any hardware: the network that is left is an ordinary, narrower one",
    "low rank": "time counts and the widths must stay as they are",
    "distillation": "a narrower network is wanted and there is compute for a longer run",
    "labels alone": "never, where the trained network is at hand: it is the control of distillation",
    "channels and int8": "both the file and the time must shrink",
}


def kind(spec: Mapping[str, Any]) -> str:
    """Return the kind of a run, one of :data:`KINDS`."""
    own, parent = spec["method"], spec["parent"]
    if "method" in parent:
        return "channels and int8"
    match own:
        case {"type": "Files" | "Tuned"}:
            return "dense"
        case {"type": "Rounded", "activations": True}:
            return "int8"
        case {"type": "Rounded" | "Clustered"}:
            return "rounding"
        case {"type": "Codes"}:
            return "codebooks"
        case {"type": "Sparse"}:
            return "pruning"
        case {"type": "SparseCodes"}:
            return "pruning and codebooks"
        case {"type": "Channels"}:
            return "channels"
        case {"type": "LowRank"}:
            return "low rank"
        case {"type": "Student", "taught": taught}:
            return "distillation" if taught else "labels alone"
    raise ValueError(f"no kind is known for the method {own}: give it one in {__name__}")


def called(spec: Mapping[str, Any]) -> str:
    """Return the run's name in tables and figures."""
    own, parent = spec["method"], spec["parent"]
    before = f"{called(parent)}, then " if "method" in parent else ""
    return before + method_name(own, dense(spec)["model"])


def method_name(method: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """config: of the network that was compressed."""
    match method:
        case {"type": "Files", "bits": bits}:
            return f"as it is, {bits} bits"
        case {"type": "Tuned"}:
            return "trained on, 16 bits"
        case {"type": "Rounded", "activations": True}:
            return "8-bit integer products"
        case {"type": "Rounded", "bits": bits}:
            return f"rounded to {bits} bits"
        case {"type": "Clustered", "bits": bits}:
            return f"{bits}-bit codebooks, not trained"
        case {"type": "Codes", "bits": bits}:
            return f"{bits}-bit codebooks"
        case {"type": "Sparse", "structure": "unstructured", "density": density}:
            return f"pruned to {short(density)}"
        case {"type": "Sparse", "structure": structure}:
            return f"pruned {structure}"
        case {"type": "SparseCodes", "density": density, "bits": bits}:
            return f"pruned to {short(density)} with {bits}-bit codebooks"
        case {"type": "Channels", "widths": widths}:
            return f"channels, {fewer(widths, config)} fewer weights"
        case {"type": "LowRank", "share": part}:
            return f"low rank, {1 / part:g}× fewer weights"
        case {"type": "Student", "widths": widths, "taught": taught}:
            return f"{'distilled' if taught else 'labels alone'}, {fewer(widths, config)} fewer weights"
    raise ValueError(f"no name is known for the method {method}: give it one in {__name__}")


def short(density: float) -> str:
    return share(density) if density >= 1 / 9 else f"1/{1 / density:g}"


def fewer(widths: list[int], config: Mapping[str, Any]) -> str:
    """Weights grow with the square of the width."""
    return f"{round((config['widths'][-1] / widths[-1]) ** 2)}×"


def dense(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the network that everything began from."""
    return dense(spec["parent"]) if "method" in spec else spec


def shape(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a run's time depends on: widths, ranks, and whether products are of integers."""
    own, parent, whole = spec["method"], spec["parent"], dense(spec)["model"]
    widths = own.get("widths") or parent.get("method", {}).get("widths") or whole["widths"]
    ranks = ()
    if own["type"] == "LowRank":
        ranks = ranks_for(WhitenedCNNConfig(widths=tuple(widths), patch=whole["patch"], channels=whole["channels"]), own["share"])
    return tuple(widths), ranks, own.get("activations", False)


def timed_shape(network: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the same of a network that was timed."""
    return tuple(network["model"]["widths"]), tuple(network["model"]["ranks"]), network["int8"]
