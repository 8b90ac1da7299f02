"""The distillation chapter's drawings: where a student is compared with its teacher, and where images leave a network with exits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.figures.diagrams.parts import cell, down, listed, short, up
from lib.figures.drawing import Drawing, arrow, box, text


def losses(places: Mapping[str, Mapping[str, float]]) -> Drawing:
    """Teacher above, student below; by place, from the images to the answers, the losses that compare the two there, with values."""
    wide, step, left = 144, 158, 84
    most = max(map(len, places.values()))
    bottom = 86 + 30 * most + 70
    parts = [text(0, 41, "teacher"), text(0, bottom + 26, "student"), text(0, 86 + 15 * most + 20, "losses", "m")]
    for place, (name, found) in enumerate(places.items()):
        x = left + place * step
        parts += [cell(x, 14, wide, 42, name), cell(x, bottom, wide, 42, name, "box")]
        if place:
            parts += [arrow(x - step + wide, 35, x), arrow(x - step + wide, bottom + 21, x)]
        parts += [box(x, 90, wide, 30 * most + 14, "run"), down(x + wide / 2, 56, 90), up(x + wide / 2, bottom, 104 + 30 * most)]
        for line, (loss, value) in enumerate(found.items()):
            parts += [text(x + 10, 116 + 30 * line, loss), text(x + wide - 8, 116 + 30 * line, f"{value:.2g}", "e m")]
    alt = (
        "Teacher and student are compared "
        + "; ".join(
            f"by {listed([f'{loss} ({value:.2g})' for loss, value in found.items()])} at their {name}" for name, found in places.items()
        )
        + ". In brackets: each loss for two untrained networks."
    )
    return Drawing("dg-distillation-losses", alt, 560, bottom + 46, parts)


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
    return Drawing("dg-distillation-exits", alt, 560, 116 + 44 * len(left), parts)
