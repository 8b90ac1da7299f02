"""What the language chapter says of its runs: sentences for each model, with the models and methods that were run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from lib.runs.results import Result, Results
from lib.studies.base.picked import chosen
from lib.studies.language.names import CALLED, MODELS, SMOL, frame, model
from lib.studies.language.tables import in_words, perplexity, spelled

#: Methods that take weights away, and those that round them.
PRUNERS, ROUNDERS = ("magnitude", "Wanda", "SparseGPT"), ("rounding to nearest", "GPTQ", "AWQ")

#: Methods that round activations.
SMOOTHERS = ("rounding to nearest", "SmoothQuant", "rotation (QuaRot)")

#: What is pruned to half of the weights is called so.
HALF = "50% zeros"

#: Perplexity of each dense model, None where it was not run.
Dense = Mapping[str, float | None]


def of_model(results: Iterable[Result], which: str) -> list[Result]:
    """Return the runs on this model."""
    return [r for r in results if model(r) == which]


def all_of(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all frames, each run once."""
    parts = [part for part in frames if len(part)]
    if not parts:
        return pd.DataFrame()
    return pd.concat(parts, ignore_index=True).drop_duplicates(["model", "method", "strength", "seed"])


def test_text(dense: Results, which: str) -> str:
    """Return what a model is judged on, in words."""
    first = of_model(dense, which)[0]
    count, tokens = len(first.arrays["losses"]), first.spec["model"].get("context") or first.spec["model"]["gpt"]["context"]
    return f"{count} windows of {tokens:,} tokens of " + ("WikiText-2's test text" if which == SMOL else "stories it was not trained on")


def begun(which: str) -> str:
    """Return the model's name at the beginning of a sentence."""
    return which[0].upper() + which[1:]


def values(rows: pd.DataFrame, methods: Iterable[str]) -> dict[str, float]:
    """Return the perplexity of each of these methods that was run."""
    return {method: value for method in methods if (value := perplexity(rows, method=method)) is not None}


def first_model(frames: Mapping[str, pd.DataFrame], which: str, dense: float, judged_on: str) -> list[str]:
    """Return the sentences about a model: dense, with half of its weights, with fewer bits, with rounded activations."""
    part = {name: chosen(rows, model=which) for name, rows in frames.items()}
    told = f"{begun(which)} has a perplexity of {spelled(dense)} on {judged_on}"
    if words := in_words(part["pruning"], PRUNERS, strength=HALF):
        told += f"; with half of its weights gone and nothing trained, {words}"
    sentences = [told + "."]
    if words := in_words(part["rounding"], ROUNDERS, of_bits_each=3):
        told = f"With 3 bits a weight it has {words}"
        if words := in_words(part["rounding"], ROUNDERS, of_bits_each=4):
            told += f", and with 4 bits {words}"
        sentences.append(told + ".")
    if words := in_words(part["activations"], SMOOTHERS, of_activation_bits=4):
        sentences.append(f"With weights of 8 bits and activations of 4 it has {words}.")
    return sentences


def further_model(frames: Mapping[str, pd.DataFrame], which: str, dense: float) -> str:
    """Return the sentence about a model whose weights lie on no grid."""
    half, low = half_and_low(frames, which)
    told = "; ".join(words for words in (f"{half} at half of the weights" if half else "", f"{low} at 3 bits" if low else "") if words)
    return f"{begun(which)}, whose weights lie on no grid, goes from {spelled(dense)} to {told}."


def half_and_low(frames: Mapping[str, pd.DataFrame], which: str) -> tuple[str, str]:
    """Return a model's perplexities with half of its weights, and with 3 bits a weight, in words; "" for what was not run."""
    half = in_words(chosen(frames["pruning"], model=which), PRUNERS, strength=HALF)
    return half, in_words(chosen(frames["rounding"], model=which), ROUNDERS, of_bits_each=3)


def calibrated_on(everything: pd.DataFrame, which: str) -> str:
    """Return on how much text each method is calibrated, in words; "" without any."""
    seen = chosen(everything, model=which)
    seen = seen[seen["method"].isin([CALLED[by] for by in ("wanda", "sparsegpt", "gptq", "awq", "smoothquant", "influence")])]
    by_tokens: dict[int, list[str]] = {}
    for method, tokens in seen[["method", "calibration"]].drop_duplicates().itertuples(index=False):
        by_tokens.setdefault(tokens, []).append(method)
    return ", and on ".join(f"{tokens:,} tokens for {', '.join(methods)}" for tokens, methods in sorted(by_tokens.items()))


def half_costs(pruning: pd.DataFrame, dense: Dense, there: Iterable[str]) -> list[str]:
    """Return for each model what half of the weights cost, by the worst and by the best method."""
    told = []
    for which in there:
        found = values(chosen(pruning, model=which, strength=HALF), PRUNERS)
        if len(found) > 1:
            worst, best = (pick(found, key=found.get) for pick in (max, min))
            factors = [f"{found[name] / dense[which]:,.2f}" for name in (worst, best)]
            told.append(
                f"for {which} half of the weights cost a factor of {factors[0]} in perplexity by {worst} and of {factors[1]} by {best}"
            )
    return told


def bits_cost(rounding: pd.DataFrame, dense: Dense, there: Iterable[str]) -> list[str]:
    """Return for each model and number of bits which method is lowest, over the dense model and over rounding to nearest."""
    told = []
    for which in there if len(rounding) else ():
        for bits in sorted(set(chosen(rounding, model=which)["of_bits_each"]), reverse=True):
            found = values(chosen(rounding, model=which, of_bits_each=bits), ROUNDERS)
            if len(found) == len(ROUNDERS):
                best = min(found, key=found.get)
                told.append(
                    f"{which} at {bits} bits, {best} is lowest, {found[best] / dense[which]:.2f} times the dense perplexity; "
                    f"rounding to nearest has {found['rounding to nearest'] / dense[which]:.2f} times"
                )
    return told


def activations_cost(activations: pd.DataFrame, dense: Dense, there: Iterable[str]) -> list[str]:
    """Return for each model and number of activation bits by how much each method raises the perplexity."""
    told = []
    for which in there:
        for bits in (8, 4):
            found = values(chosen(activations, model=which, of_activation_bits=bits), SMOOTHERS)
            if len(found) > 1:
                rises = ", ".join(f"{method} {value / dense[which] - 1:+.1%}" for method, value in found.items())
                told.append(f"{which} with {bits}-bit activations: {rises}")
    return told


def blocks_cost(depth: Results, dense: Dense, there: Iterable[str]) -> list[str]:
    """Return for each model and number of removed blocks the perplexity over the whole model's, chosen by Block Influence."""
    told, frames = [], frame(depth)
    for which in there:
        rows = chosen(frames, model=which, method=CALLED["influence"])
        if len(rows):
            blocks = len(of_model(depth, which)[0].arrays["influences"])
            for count in sorted(set(rows["of_count"])):
                ratio = perplexity(rows, of_count=count) / dense[which]
                told.append(f"{count} of {blocks} blocks fewer: {ratio:,.2f} times ({which})")
    return told


def influences(depth: Results) -> dict[str, np.ndarray]:
    """Return each model's Block Influence by block, from the first seed's last run by influence."""
    runs = [r for r in depth if r.spec["method"]["by"] == "influence" and r.spec["seed"] == 0]
    return {model(r): np.array(r.arrays["influences"]) for r in runs}


def calibration_told(rows: pd.DataFrame) -> str:
    """Return each method's perplexity by the tokens of calibration text, in words."""
    told = []
    for method in dict.fromkeys(rows["method"]):
        sizes = sorted(set(chosen(rows, method=method)["calibration"]))
        told.append(f"{method} " + ", ".join(f"{spelled(perplexity(rows, method=method, calibration=size))} ({size:,})" for size in sizes))
    return "; ".join(told)


def samples(*frames: pd.DataFrame) -> str:
    """Return the texts that the first seed's models wrote, a list in Markdown; "" without any."""
    said = chosen(pd.concat([part for part in frames if len(part)], ignore_index=True), seed=0)
    lines = [
        f"- **{row['method']}:** " + " ".join(str(row["sample"]).split()).replace("|", "¦") for _, row in said.iterrows() if row["sample"]
    ]
    return "\n".join(lines)


def dense_of(results: pd.DataFrame) -> dict[str, float | None]:
    """Return the perplexity of each dense model, None where it was not run."""
    return {which: perplexity(results, model=which) for which in MODELS}
