"""What the language chapter's runs are called, and their losses by model and method."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.measure.paired import crossed_mean
from lib.measure.statistics import Estimate
from lib.runs.results import Result, Results

SMOL, OWN = "SmolLM2", "our GPT"
MODELS = (SMOL, OWN)

#: A method's ``by``, as it is called in tables and figures, with the colour's key of :mod:`lib.figures.theme` where it has one.
CALLED = {
    "magnitude": "magnitude",
    "wanda": "Wanda",
    "sparsegpt": "SparseGPT",
    "nearest": "rounding to nearest",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "smoothquant": "SmoothQuant",
    "rotation": "rotation (QuaRot)",
    "influence": "least Block Influence",
    "random": "random blocks",
    "last": "the last blocks but one",
}


def model(result: Result) -> str:
    return SMOL if result.spec["model"]["type"] == "PretrainedLM" else OWN


def method(result: Result) -> str:
    """A method's name without its strength."""
    spec = result.spec["method"]
    return "dense" if spec["type"] == "Untouched" else CALLED[spec["by"]]


def strength(result: Result) -> str:
    """How much is taken away, in words."""
    spec = result.spec["method"]
    if spec["type"] == "PrunedLM":
        zeros = "2:4" if spec["pattern"] else f"{1 - spec['density']:.0%} zeros"
        compared = ", compared over the layer" if spec["by"] == "wanda" and spec["per"] == "layer" else ""
        return zeros + compared + (f", {spec['bits_left']} bits" if spec["bits_left"] else "")
    if spec["type"] == "RoundedLM":
        return f"{spec['bits_each']} bits, {'a grid per row' if spec['group'] is None else 'groups of ' + str(spec['group'])}"
    if spec["type"] == "RoundedActivationsLM":
        return f"weights {spec['weight_bits']} bits, activations {spec['activation_bits']}"
    return f"{spec['count']} blocks fewer" if spec["type"] == "ShortenedLM" else "16 bits"


def calibration_tokens(result: Result) -> int | None:
    """Tokens of calibration text that the method could see."""
    spec = result.spec["model"]
    length = spec.get("length") or spec.get("gpt", {}).get("context")
    return spec["calibration"] * length if length else None


def frame(results: Results) -> pd.DataFrame:
    """A row for each run: model, method, strength, seed, loss, perplexity, bytes, bits, zeros and the method's own fields."""
    wanted = ("loss", "perplexity", "bytes", "bits", "zeros", "compress_seconds", "sample")
    return pd.DataFrame(
        [
            {"model": model(r), "method": method(r), "strength": strength(r), "seed": r.spec["seed"], "calibration": calibration_tokens(r)}
            | {name: r.metrics[name] for name in wanted}
            | {f"of_{name}": value for name, value in r.spec["method"].items()}
            for r in results
        ]
    )


def windows(results: Results, which: str, **fields) -> dict[int, np.ndarray]:
    """Loss of each window [W] by seed, of the runs on model ``which`` whose method has these fields; {} where there are none.

    Raises ValueError for two different runs of one seed.
    """
    found: dict[int, np.ndarray] = {}
    for result in results:
        if model(result) == which and all(result.spec["method"].get(name) == value for name, value in fields.items()):
            seed = result.spec["seed"]
            if seed in found and not np.array_equal(found[seed], result.arrays["losses"]):
                raise ValueError(f"two runs of {fields} have seed {seed}")
            found[seed] = np.array(result.arrays["losses"], dtype=float)
    return found


#: Methods that draw nothing: on SmolLM2, one model, they have one run, which goes with every draw of another method.
DRAW_NOTHING = (None, "magnitude", "nearest")


def table(
    first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray], which: str, alone: tuple[bool, bool] = (False, False)
) -> np.ndarray | None:
    """Loss of ``first`` minus that of ``second``, [seeds, windows], paired by seed; None where they cannot be paired.

    alone: whether each side's method draws nothing, see :data:`DRAW_NOTHING`.
    """
    if which == SMOL and first and second:
        if alone[1] and not alone[0]:
            second = dict.fromkeys(first, next(iter(second.values())))
        elif alone[0] and not alone[1]:
            first = dict.fromkeys(second, next(iter(first.values())))
    common = sorted(set(first) & set(second))
    return np.stack([first[seed] - second[seed] for seed in common]) if common else None


def ratio(apart: np.ndarray) -> Estimate:
    """The ratio of two perplexities with its 95 % interval over seeds and windows, from their losses' differences [S, W]."""
    found = crossed_mean(apart)
    mean, low, high = (math.exp(value) for value in (found.mean, found.low, found.high))
    # Near the mean a small step of the logarithm is that step times the mean.
    over_seeds = None if found.over_seeds is None else mean * found.over_seeds
    return Estimate(mean, low, high, len(apart), over_seeds=over_seeds, of_items=mean * found.of_items)
