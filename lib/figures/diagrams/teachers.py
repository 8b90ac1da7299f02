"""The teachers chapter's drawings: a round of the zero-shot game, and where images leave a network with exits."""

from __future__ import annotations

from collections.abc import Sequence

from lib.figures.diagrams.parts import cell, down, listed, path, short
from lib.figures.drawing import Drawing, arrow, text


def game(start: float, raised: float, lowered: float, steps: int) -> Drawing:
    """One round between a generator and a student: their disagreement with the teacher before it, after the generator's step, and
    after the student's ``steps``.
    """
    parts = [
        cell(0, 52, 78, 42, "noise"),
        arrow(78, 73, 100),
        cell(100, 52, 118, 42, "generator", "dec"),
        arrow(218, 73, 240),
        cell(240, 52, 88, 42, "images"),
        path("M328 73H346V25H358"),
        path("M366 25l-10-5v10z", "tip"),
        path("M346 73V121H358"),
        path("M366 121l-10-5v10z", "tip"),
        cell(366, 4, 102, 42, "teacher"),
        cell(366, 100, 102, 42, "student", "run"),
        path("M468 25H514V44"),
        path("M514 52l-5-10h10z", "tip"),
        path("M468 121H514V102"),
        path("M514 94l-5 10h10z", "tip"),
        cell(474, 52, 80, 42, "KL"),
    ]
    turns = (("before", start, "box"), ("generator, 1 step", raised, "dec"), (f"student, {steps} steps", lowered, "run"))
    most = max(start, raised, lowered)
    for row, (name, value, kind) in enumerate(turns):
        y = 166 + 34 * row
        parts += [text(0, y + 20, name), cell(200, y, max(4.0, 270 * value / most), 26, kind=kind), text(556, y + 20, f"{value:.3f}", "e")]
    alt = (
        "Noise becomes images in the generator; teacher and student answer to them, and their divergence is measured. It is "
        f"{start:.3f} before the round, {raised:.3f} after one step of the generator, which wants it large, and {lowered:.3f} after "
        f"{steps} steps of the student, which wants it small."
    )
    return Drawing("dg-teachers-game", alt, 560, 264, parts)


def exits(thresholds: Sequence[float], sure: Sequence[Sequence[float]], left: Sequence[int], work: Sequence[float]) -> Drawing:
    """Classifiers in a row, the last the ensemble: each image's highest probability there, and where it leaves.

    sure: [images, classifiers]; left: the classifier where each image leaves; work: share of all compute up to there.
    """
    names = [*(f"block {i + 1}" for i in range(len(thresholds))), "the rest"]
    parts, start, step, wide = [], 92, 128, 112
    for i, name in enumerate(names):
        x = start + i * step
        parts += [
            cell(x, 4, wide, 38, name),
            down(x + wide / 2, 42, 66),
            cell(x, 66, wide, 36, f"above {short(thresholds[i])}?" if i < len(thresholds) else "ensemble", "dec"),
        ]
        if i:
            parts.append(arrow(x - step + wide, 23, x))
    parts.append(text(558, 90, "work", "m e"))
    for row, (seen, place) in enumerate(zip(sure, left, strict=True)):
        y = 116 + 44 * row
        parts.append(text(0, y + 24, f"image {row + 1}"))
        for i, value in enumerate(seen):
            reached = i <= place
            kind = "off" if not reached else "run" if i == place else "box"
            parts.append(
                cell(
                    start + i * step,
                    y,
                    wide,
                    36,
                    short(value) + (" leaves" if i == place else "") if reached else "–",
                    kind,
                    "" if reached else "m",
                )
            )
        parts.append(text(558, y + 24, f"{work[place]:.0%}", "e"))
    ways = [
        f"image {row + 1} has {listed([short(v) for v in seen[: place + 1]])} and leaves at {'the ensemble' if place == len(thresholds) else f'classifier {place + 1}'} after {work[place]:.0%} of the work"
        for row, (seen, place) in enumerate(zip(sure, left, strict=True))
    ]
    alt = f"Classifiers with the thresholds {listed([short(t) for t in thresholds])}, then the ensemble. " + "; ".join(ways) + "."
    return Drawing("dg-teachers-exits", alt, 560, 116 + 44 * len(left), parts)
