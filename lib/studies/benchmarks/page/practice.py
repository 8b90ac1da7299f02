"""The benchmarks chapter's first regime in words and tables: findings, the answers to what is wanted, and every method by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from lib.measure.paired import Difference, marked
from lib.runs.markdown import details, pipe_table
from lib.studies.benchmarks.practice_table import TUNED, WHOLE, answers_to

#: Kinds of :data:`lib.studies.benchmarks.practice_names.KINDS` that the figure draws, and as what.
DRAWN = {
    "dense": "dense",
    "rounding": "quantization, rounded",
    "int8": "quantization, 8-bit products",
    "codebooks": "quantization, codebooks",
    "pruning": "pruning, single weights",
    "pruning and codebooks": "combined, pruning and codebooks",
    "channels": "pruning, channels",
    "channels and int8": "combined, channels and 8-bit products",
    "low rank": "low rank",
    "distillation": "distillation",
    "labels alone": "labels alone",
}

#: What a loss may be that a reader would hardly notice, in accuracy on the validation images.
HARDLY = 0.01


def kilobytes(count: float) -> str:
    """Return bytes in kB: ``123 kB``, below 100 with one more digit."""
    return f"{count / 1000:,.0f} kB" if count >= 100_000 else f"{count / 1000:,.1f} kB"


def points(row: Mapping[str, Any]) -> str:
    """Return the difference of accuracies with its interval: ``-0.3 [-0.6, +0.1]``."""
    return f"{100 * row.get('apart', row.get('mean')):+z.1f} [{100 * row['low']:+z.1f}, {100 * row['high']:+z.1f}]"


def factor(ratio: float) -> str:
    """Return time over the trained network's as times faster: ``2.1×``; a dash where it was not timed."""
    return "–" if pd.isna(ratio) else f"{1 / ratio:.1f}×"


def share_of_training(part: float) -> str:
    """Return a run's compute over that of the network's own, in per cent."""
    return f"{100 * part:.1f} %" if part else "none"


def answer_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of answers: what is wanted, the method, what it costs and gives, when to use it."""
    found = []
    for row in answers_to(table).to_dict("records"):
        if pd.isna(row.get("name", float("nan"))):
            found.append({"You want": row["want"], "Use": "nothing that was run does it"})
            continue
        found.append(
            {
                "You want": row["want"],
                "Use": row["name"],
                "Points": points(row),
                "File": kilobytes(row["file_bytes"]),
                "Smaller": f"{row['smaller']:.1f}×",
                "Faster, 1 image": factor(row["ratio_1"]),
                "Faster, a batch": factor(row["ratio_many"]),
                "Training": share_of_training(row["training"]),
                "Seeds": f"{row['seeds']:.0f}",
                "When": row["use"],
            }
        )
    return pd.DataFrame(found)


def method_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return every method by kind: accuracies, the difference, file, counts, time and training."""
    return pd.DataFrame(
        [
            {
                "Kind": row["kind"],
                "Method": row["name"],
                "Test": f"{row['test_accuracy']:.1%}",
                "Points": points(row),
                "Before training": "–" if pd.isna(row["val_before"]) else f"{row['val_before']:.1%}",
                "File": kilobytes(row["file_bytes"]),
                "Smaller": f"{row['smaller']:.1f}×",
                "Parameters": f"{row['parameters']:,.0f}",
                "MFLOPs": f"{row['flops'] / 1e6:.3g}",
                "Faster, 1 image": "as before" if row["same_work"] else factor(row["ratio_1"]),
                "Faster, a batch": "as before" if row["same_work"] else factor(row["ratio_many"]),
                "Training": share_of_training(row["training"]),
                "Seeds": f"{row['seeds']:.0f}",
            }
            for row in table.to_dict("records")
        ]
    )


def time_rows(times: pd.DataFrame) -> pd.DataFrame:
    """Return milliseconds of each geometry and batch, and the ratio to the first with its percentiles over the rounds."""
    found: dict[Any, dict[str, str]] = {}
    for row in times.to_dict("records"):
        widths, ranks, int8 = row["shape"]
        cell = found.setdefault(
            row["shape"],
            {
                "Network": "-".join(map(str, widths))
                + (", in factors" if ranks else "")
                + (f" of rank {'-'.join(map(str, ranks))}" if ranks else ""),
                "Products": "8-bit integers" if int8 else "32-bit",
            },
        )
        cell[f"ms, batch {row['batch']}"] = f"{row['ms']:.3g}"
        cell[f"of the first, batch {row['batch']}"] = f"{row['ratio']:.2f} ({row['ratio_p05']:.2f} to {row['ratio_p95']:.2f})"
    return pd.DataFrame(list(found.values()))


def pair_rows(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the table of questions that two methods answer together (:func:`lib.studies.benchmarks.practice_table.pairs`)."""
    words = {"above": "the first is better", "below": "the second is better", "like": "not told apart"}
    return pd.DataFrame(
        [
            {
                "Question": row["question"],
                "First": f"{row['first']}, {kilobytes(row['first_bytes'])}",
                "Second": f"{row['second']}, {kilobytes(row['second_bytes'])}",
                "First minus second": points(vars(row["difference"])),
                "So": words[marked(row["difference"])],
                "Seeds": row["difference"].n,
            }
            for row in pairs.to_dict("records")
        ]
    )


def folded(title: str, frame: pd.DataFrame) -> str:
    """Return the table in a block that the reader opens."""
    widths = [max(len(str(name)), *(len(str(value)) for value in frame[name])) for name in frame.columns]
    return details(title, pipe_table(frame.columns, frame.astype(str).values.tolist(), [min(30, width) for width in widths]))


def headline(table: pd.DataFrame, against_training: Callable[[str], Difference | None]) -> str:
    """Return what the chapter found: the smallest file that the table of answers names; "" where it names none.

    ``against_training``  accuracy of the method of that name minus that of the same further training without compression
    """
    files = [
        row
        for row in answers_to(table).to_dict("records")
        if row["want"].endswith("smaller file") and not pd.isna(row.get("name", float("nan")))
    ]
    if not files:
        return ""
    best = max(files, key=lambda row: row["smaller"])
    told = f"A trained network's file becomes {best['smaller']:.1f} times smaller by *{best['name']}*, at {points(best)} points of accuracy"
    if best["steps"] and (equal := against_training(best["name"])):
        told += f", or {points(vars(equal))} against the same further training without compression"
    return told + "."


def findings(table: pd.DataFrame) -> list[str]:
    """Return what the runs at hand say, a sentence for each question that they can answer."""
    if table.empty:
        return []
    rows = {row["name"]: row for row in table.to_dict("records")}
    whole = rows[WHOLE]
    said = [
        f"the trained network is right on {whole['test_accuracy']:.1%} of the test images, in a file of "
        f"{kilobytes(whole['file_bytes'])} with 32 bits a number"
    ]
    if eight := rows.get("8-bit integer products"):
        said.append(
            f"rounding weights and activations to 8 bits needs no training, makes the file {eight['smaller']:.1f} times smaller, "
            f"changes accuracy by {points(eight)} points" + faster(eight)
        )
    if best := smallest(table):
        said.append(
            f"the smallest file that loses less than {100 * HARDLY:.0f} point on validation is {best['smaller']:.1f} times smaller "
            f"(*{best['name']}*, {points(best)} points on the test images)"
        )
    for kind, words in (
        ("channels", "removing channels"),
        ("distillation", "distilling into a new narrow network"),
        ("low rank", "factorising the convolutions"),
    ):
        mine = table[table["kind"] == kind]
        if len(mine):
            row = mine.loc[mine["parameters"].idxmin()].to_dict()
            said.append(
                f"{words} until {whole['parameters'] / row['parameters']:.1f} times fewer weights are left "
                f"changes it by {points(row)} points in the same number of steps" + faster(row)
            )
    if tuned := rows.get(TUNED):
        said.append(
            f"the same training without any compression changes it by {points(tuned)} points: so much of every "
            "trained row is not the method's"
        )
    return said


def faster(row: Mapping[str, Any]) -> str:
    """Return the clause about time, empty where nothing was timed."""
    if row["same_work"] or pd.isna(row["ratio_many"]):
        return ""
    return f" and makes it {1 / row['ratio_many']:.1f} times as fast in batches, {1 / row['ratio_1']:.1f} times on one image"


def smallest(table: pd.DataFrame) -> dict[str, Any] | None:
    """Return the smallest file among the methods that lose less than :data:`HARDLY` on validation."""
    kept = table[(table["val_apart"] > -HARDLY) & (table["smaller"] > 1)]
    return kept.loc[kept["smaller"].idxmax()].to_dict() if len(kept) else None


def in_practice(table: pd.DataFrame) -> str:
    """Return the box of advice, with the numbers of this run; empty where the runs that it needs are missing."""
    rows = {row["name"]: row for row in table.to_dict("records")} if len(table) else {}
    advice = []
    if half := rows.get("as it is, 16 bits"):
        advice.append(f"Write 16 bits before anything else: {half['smaller']:.1f} times smaller for {points(half)} points.")
    if eight := rows.get("8-bit integer products"):
        pays = not pd.isna(eight["ratio_many"]) and eight["ratio_many"] < 0.9
        advice.append(
            f"Then try 8-bit integers, without training: {eight['smaller']:.1f} times smaller, {points(eight)} points"
            + (
                f", and {1 / eight['ratio_many']:.1f} times as fast in batches on this processor."
                if pays
                else ". On this processor they are not faster in batches."
                if not pd.isna(eight["ratio_many"])
                else "."
            )
        )
    if best := smallest(table) if len(table) else None:
        advice.append(
            f"For the smallest file within {100 * HARDLY:.0f} point, use *{best['name']}*: {best['smaller']:.1f} times smaller, "
            f"{points(best)} points."
        )
    fast = table[(table["ratio_many"] < 0.9) & (table["kind"] != "int8")] if len(table) else table
    if len(fast):
        row = fast.loc[fast["ratio_many"].idxmin()].to_dict()
        advice.append(
            f"For time, make the network narrower; zeros alone save none. The fastest here, *{row['name']}*, takes "
            f"{row['ratio_many']:.0%} of the time in batches and {row['ratio_1']:.0%} on one image, at {points(row)} points."
        )
    if tuned := rows.get(TUNED):
        advice.append(
            f"Compare every trained method with the same training without compression, which alone is worth {points(tuned)} points."
        )
    listed = "\n".join(f"- {line}" for line in advice)
    return f'<div class="in-practice">\n\n**In practice**\n\n{listed}\n\n</div>' if advice else ""
