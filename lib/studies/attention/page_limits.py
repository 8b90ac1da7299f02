"""The attention chapter's frames about what exact attention cannot do alone: leave out, approximate, stay finite, see far."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lib.attention import io_model
from lib.measure.statistics import percent, times
from lib.runs.results import Result, Results
from lib.studies.attention.names import CALLED
from lib.studies.base.picked import chosen, column, grouped

#: Attention that is not exact.
APPROXIMATE = ("linformer", "performer")

#: The form without a maximum, which overflows.
LITERAL = "no maximum subtracted"


def by_precision(timed: pd.DataFrame) -> pd.DataFrame:
    """Return a row per method and precision: milliseconds of a forward pass, of both passes, and of the backward pass by itself."""
    means = timed.groupby(["method", "precision", "passes"], sort=False).ms.mean().unstack()
    return pd.DataFrame(
        [
            {
                "attention": method,
                "precision": precision,
                "forward": f"{row.forward:.2f} ms",
                "forward and backward": f"{row.training:.2f} ms",
                "backward": f"{row.training - row.forward:.2f} ms",
            }
            for (method, precision), row in means.iterrows()
        ]
    )


def precision_told(timed: pd.DataFrame, results: Results) -> str:
    """Return what 16 bits do to the fused kernel's two passes and to the definition's, and by which version of PyTorch."""
    by = timed.pivot_table(index=["seed", "name", "precision"], columns="passes", values="ms")
    both = by.training.unstack("precision")
    fused, products = (both.xs(name, level="name").dropna() for name in ("sdpa", "standard"))
    versions = " and ".join(sorted({str(r.provenance["torch"]) for r in results}))
    return f"""In bf16 a forward and backward pass of the fused kernel takes {times(fused.bf16 / fused.fp32)} as long as in fp32, and of the
    definition {times(products.bf16 / products.fp32)}; in bf16 the fused kernel takes {times(fused.bf16 / products.bf16)} as long as the
    definition, in fp32 {times(fused.fp32 / products.fp32)} (PyTorch {versions}). Where the third of these numbers is above 1, this book's
    networks are trained by the definition, see `lib.models.softmax_attention`; in a version where it is below 1 that is no longer right."""


def against_share(sparse: pd.DataFrame) -> pd.DataFrame:
    """Return the time over that of all blocks (``relative``) by the ``share`` computed, and what would be in proportion."""
    longest = sparse.groupby("seed")["ms"].transform("max")
    return pd.concat(
        [
            sparse.assign(method="tiled, ours", relative=sparse["ms"] / longest),
            sparse.assign(method="in proportion", relative=sparse["share"]),
        ]
    )


def beside_exact(timed: pd.DataFrame) -> pd.DataFrame:
    """Return the training times in ms by seed and length, a column per name, where the fused one and both approximations ran."""
    by = chosen(timed, passes="training").pivot_table(index=["seed", "length"], columns="name", values="ms")
    return by.dropna(subset=["sdpa", *APPROXIMATE])


def relative(beside: pd.DataFrame) -> pd.DataFrame:
    """Return each approximation's time over the fused one's (``relative``) by ``length``."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "length": beside.index.get_level_values("length"),
                    "method": CALLED[name],
                    "relative": (beside[name] / beside["sdpa"]).values,
                }
            )
            for name in APPROXIMATE
        ]
    )


def overtaking(beside: pd.DataFrame, setting: dict) -> str:
    """Return from which length each approximation does fewer operations, and from which it was faster."""
    mean, d = beside.groupby("length").mean(), setting["head_dim"]
    lengths, counted_at = mean.index.tolist(), [2 ** (n / 4) for n in range(4 * 5, 4 * 15)]

    def operations(N: int, name: str) -> int:
        if name == "linformer":
            return io_model.linformer_forward(N, d, max(1, min(N // 8, setting["rank"]))).flops
        return io_model.performer_forward(N, d, setting["features"]).flops

    told = []
    for name in APPROXIMATE:
        measured = io_model.crossing(lengths, mean["sdpa"].tolist(), mean[name].tolist())
        exact = [io_model.standard_forward(int(N), d).flops for N in counted_at]
        counted = io_model.crossing(counted_at, exact, [operations(int(N), name) for N in counted_at])
        begins = counted_at[0] if counted is None else counted
        if measured is None:
            was = f"faster at every length from {lengths[0]:,} tokens on"
        elif measured == math.inf:
            was = f"slower at every length up to {lengths[-1]:,} tokens"
        else:
            was = f"slower up to about {measured:,.0f} tokens"
        told.append(f"{CALLED[name]} does fewer operations from about {begins:,.0f} tokens on, and was {was}")
    return ". ".join(told) + "."


def numeric(stability: Iterable[Result]) -> pd.DataFrame:
    """Return the relative ``error``, and the share of outputs ``lost`` to overflow, by form, ``precision`` and ``spread``."""
    return pd.DataFrame(
        [
            {
                "method": CALLED.get(name, name),
                "precision": precision,
                "spread": spread,
                "error": error,
                "lost": lost,
                "seed": r.spec["seed"],
            }
            for r in stability
            for name, precision, spread, error, lost in r.arrays["rows"]
        ]
    )


def overflow(found: pd.DataFrame) -> pd.DataFrame:
    """Return a row per precision: the share of outputs of the literal form that are not finite, by spread."""
    literal = chosen(found, method=LITERAL).pivot_table(index="precision", columns="spread", values="lost", sort=False)
    return pd.DataFrame(
        [
            {"": precision} | {f"spread {spread:g}": f"{row[spread]:.0%}" for spread in literal.columns}
            for precision, row in literal.iterrows()
        ]
    )


def by_context(recall: Iterable[Result]) -> pd.DataFrame:
    """Return the ``accuracy`` on recall by ``context``, as trained and the best possible."""
    recall = list(recall)
    rows = [{"context": r.spec["context"], "method": "trained", "accuracy": r.metrics["accuracy"]} for r in recall]
    ceilings = {r.spec["context"]: r.metrics["ceiling"] for r in recall}
    return pd.DataFrame(rows + [{"context": c, "method": "the best possible", "accuracy": best} for c, best in ceilings.items()])


def recall_table(recall: Results) -> pd.DataFrame:
    """Return a row per context: accuracy, also by where the answer was, and the best possible."""
    rows = []
    for context, runs in grouped(recall, lambda r: r.spec["context"]).items():
        beyond = column(runs, "accuracy_beyond")
        rows.append(
            (
                f"{context:,} of {runs[0].spec['task']['length']:,} tokens",
                percent(column(runs, "accuracy")),
                percent(column(runs, "accuracy_within")),
                percent(beyond) if beyond else "–",
                f"{runs[0].metrics['ceiling']:.1%}",
            )
        )
    return pd.DataFrame(rows, columns=["context", "accuracy", "answer within", "answer beyond", "best possible"])


def story_losses(stories: Iterable[Result]) -> pd.DataFrame:
    """Return the test ``loss`` on stories by ``context``."""
    return pd.DataFrame([{"context": r.spec["context"], "method": "GPT", "loss": r.metrics["test_loss"]} for r in stories])


def perplexities(stories: Iterable[Result]) -> tuple[str, bool]:
    """Return the perplexity with each context, in words, and whether the longest context is the best."""
    runs = grouped(stories, lambda r: r.spec["context"])
    by = {context: float(np.mean(column(runs[context], "test_loss"))) for context in sorted(runs)}
    told = ", ".join(f"{math.exp(loss):.2f} with {context:,} tokens of context" for context, loss in by.items())
    return told, min(by, key=by.get) == max(by)
