"""The language chapter's tables that are not perplexities by strength: files, layers, outliers, time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.runs.results import Result, Results
from lib.studies.base.picked import chosen
from lib.studies.language.names import CALLED
from lib.studies.language.page import Dense, of_model, test_text
from lib.studies.language.tables import smallest_within, spelled

#: How much more perplexity a file may cost.
SHARES = (0.01, 0.1, 0.5, 1.0)

#: Forms of a linear layer that are timed.
FORMS = {
    "dense": "dense, fp32",
    "zeros": "half zeros, stored dense",
    "csr": "half zeros, sparse rows (CSR)",
    "int8": "8-bit weights and inputs (dynamic, torch's kernel)",
    "unpacked": "8-bit weights, unpacked for each product",
}


def smallest_files(everything: pd.DataFrame, dense: Dense, there: Iterable[str]) -> pd.DataFrame:
    """Return a row per model and perplexity that it may cost: the smallest file of all that was tried."""
    rows = []
    for which in there:
        whole = float(chosen(everything, model=which, method="dense")["bytes"].iloc[0])
        for share in SHARES:
            best = smallest_within(everything, which, dense[which], share)
            told = ("nothing that was tried", "–", "–", "–")
            if best is not None:
                size = f"{best['bytes'] / 1e6:,.2f} of {whole / 1e6:,.2f} MB"
                told = (f"{best['method']}, {best['strength']}", f"{best['bits']:.2f}", size, spelled(best["perplexity"]))
            rows.append((which, f"at most {share:.0%} more", *told))
    return pd.DataFrame(rows, columns=["model", "perplexity", "smallest file", "bits", "bytes", "its perplexity"])


def dense_models(results: Results, dense: Dense, there: Iterable[str]) -> pd.DataFrame:
    """Return a row per model before anything is done to it, beside a simple model."""
    rows = []
    for which in there:
        runs = of_model(results, which)
        m, simple = runs[0].metrics, float(np.exp(np.mean([r.metrics["simple_loss"] for r in runs])))
        size = (f"{m['parameters'] / 1e6:,.2f} M", f"{m['bytes'] / 1e6:,.2f} MB")
        rows.append((which, *size, test_text(results, which), spelled(dense[which]), f"{spelled(simple)} ({m['simple']})"))
    return pd.DataFrame(rows, columns=["model", "weights", "at 16 bits", "judged on", "perplexity", "a simple model's"])


def layer_errors(result: Result) -> pd.DataFrame:
    """Return the relative ``error`` of each ``layer``'s output by ``method``."""
    return pd.DataFrame(result.arrays["errors"], columns=["layer", "method", "error"])


def errors_by_kind(layers: Mapping[str, Result]) -> pd.DataFrame:
    """Return a row per model and kind of layer with the mean error by method."""
    rows = []
    for which, result in layers.items():
        errors = layer_errors(result)
        errors["kind"] = errors["layer"].str.rpartition(".")[2].str.removesuffix("_proj")
        mean = errors.groupby(["kind", "method"], sort=False)["error"].mean().unstack()
        for kind, line in mean.iterrows():
            told = {CALLED[name]: f"{line[name]:.1%}" for name in ("magnitude", "wanda", "sparsegpt", "nearest", "gptq", "awq")}
            rows.append({"model": which, "layer": kind} | told)
    return pd.DataFrame(rows)


def outliers(layers: Mapping[str, Result], count: int = 5) -> pd.DataFrame:
    """Return a row for each model's most extreme layers; those that read the same input count as one."""
    rows = []
    for which, result in layers.items():
        found = {tuple(name.split(".")[:-1]) + (ratio,): (name, ratio) for name, ratio in result.arrays["outliers"]}
        rows += [(which, name, f"{ratio:,.1f}") for name, ratio in sorted(found.values(), key=lambda pair: -pair[1])[:count]]
    return pd.DataFrame(rows, columns=["model", "layer", "largest over median"])


def three_bits(joint: pd.DataFrame, there: Iterable[str]) -> pd.DataFrame:
    """Return a row per model and way to spend three bits a weight."""
    rows = []
    for which in there:
        for (method, strength), mine in chosen(joint, model=which).groupby(["method", "strength"], sort=False):
            size, worth = f"{mine['bytes'].mean() / 1e6:,.2f} MB", spelled(float(mine["perplexity"].mean()))
            rows.append((which, method, strength, f"{mine['bits'].mean():.2f}", size, worth))
    return pd.DataFrame(rows, columns=["model", "method", "strength", "bits a weight", "file", "perplexity"])


def files(everything: pd.DataFrame, which: str, most: float) -> pd.DataFrame:
    """Return mean ``perplexity`` and ``megabytes`` of all that was tried on a model and is below ``most``."""
    mine = chosen(everything, model=which)
    mine = mine[mine["perplexity"] < most].assign(megabytes=mine["bytes"] / 1e6)
    return mine.groupby(["method", "strength"], sort=False)[["megabytes", "perplexity"]].mean().reset_index()


def times(run: Result) -> pd.DataFrame:
    """Return a row per form of a linear layer: milliseconds by number of tokens, and over the dense layer's."""

    def told(form: str, tokens: int) -> str:
        if f"ms_{form}_{tokens}" not in run.metrics:
            return "–"
        return f"{run.metrics[f'ms_{form}_{tokens}']:.3f} ms ({run.metrics[f'times_{form}_{tokens}']:.2f}×)"

    return pd.DataFrame(
        [{"form": name} | {f"{n:,} token{'s' if n > 1 else ''}": told(form, n) for n in run.spec["tokens"]} for form, name in FORMS.items()]
    )


def faster_and_slower(run: Result) -> tuple[list[str], list[str], float]:
    """Return the forms that are faster, and slower, than dense at every number of tokens, and how far the control is off."""
    found = {
        form: [run.metrics[f"times_{form}_{n}"] for n in run.spec["tokens"] if f"times_{form}_{n}" in run.metrics]
        for form in FORMS
        if form != "dense"
    }
    faster = [FORMS[form] for form, ratios in found.items() if ratios and max(ratios) < 0.95]
    slower = [FORMS[form] for form, ratios in found.items() if ratios and min(ratios) > 1.05]
    return faster, slower, max(abs(value - 1) for value in found["zeros"])


def beside_torchao(run: Result, bits: Sequence[int] = (8, 4)) -> pd.DataFrame:
    """Return perplexities of weights rounded by torchao and by ours."""
    m = run.metrics
    rows = [
        (f"{n} bits", spelled(m["perplexity_dense"]), spelled(m[f"perplexity_torchao_{n}"]), spelled(m[f"perplexity_ours_{n}"]))
        for n in bits
    ]
    return pd.DataFrame(rows, columns=["", "dense", "torchao", "ours"])
