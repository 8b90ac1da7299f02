"""The privacy chapter's drawings: a product of two shared numbers, share by share, and what stands where a ReLU was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.figures.diagrams.parts import cell, signed
from lib.figures.drawing import Drawing, text


def triple(rows: Sequence[tuple[str, int, int, str]]) -> Drawing:
    """A table of shares: each row's name, what either party holds, and its role.

    Roles: "secret" and "dealer" (the sum is known to neither party), "opened" (both see it), "result" (the sum is the answer).
    """
    parts, told, wide = [], [], 104
    places = {"party 1": 106, "party 2": 232, "sum": 358}
    parts += [text(x + wide / 2, 20, name, "c m") for name, x in places.items()]
    for line, (name, first, second, role) in enumerate(rows):
        y = 32 + 40 * line
        public = role in ("opened", "result")
        parts += [
            text(2, y + 23, name),
            cell(106, y, wide, 34, signed(first, 0)),
            text(221, y + 23, "+", "c m"),
            cell(232, y, wide, 34, signed(second, 0)),
            text(347, y + 23, "=", "c m"),
            cell(358, y, wide, 34, signed(first + second, 0), "run" if public else "off", "" if public else "m"),
            text(470, y + 23, role, "m"),
        ]
        told.append(f"{name} is {signed(first + second, 0)}, held as {signed(first, 0)} and {signed(second, 0)} ({role})")
    alt = "Two parties hold shares whose sums are the numbers. " + "; ".join(told) + ". Dashed sums are known to neither party."
    return Drawing("dg-privacy-triple", alt, 548, 32 + 40 * len(rows), parts)


def replacements(
    x: Sequence[float], curves: Mapping[str, Sequence[float]], bytes_sent: Mapping[str, int], errors: Mapping[str, float]
) -> Drawing:
    """The first curve is the ReLU, the others what replaces it; below: bytes for one number, and the mean squared error."""
    wide, high, parts, told = 170, 130, [], []
    low, top = min(map(min, curves.values())), max(map(max, curves.values()))
    relu = next(iter(curves.values()))

    def line(values: Sequence[float], left: float) -> str:
        spots = [(left + wide * (a - x[0]) / (x[-1] - x[0]), 34 + high * (top - b) / (top - low)) for a, b in zip(x, values, strict=True)]
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in spots)

    for panel, (name, values) in enumerate(curves.items()):
        left = 4 + panel * 190
        zero_y, zero_x = 34 + high * top / (top - low), left - wide * x[0] / (x[-1] - x[0])
        parts += [
            text(left + wide / 2, 20, name, "c"),
            f'<path d="M{left} {zero_y:.1f}h{wide}M{zero_x:.1f} 34v{high}" style="fill:none;stroke:var(--l);stroke-opacity:.5"/>',
        ]
        if panel:
            parts.append(f'<path class="off" d="{line(relu, left)}"/>')
        parts += [
            f'<path d="{line(values, left)}" style="fill:none;stroke:var(--a);stroke-width:2.5"/>',
            text(left + wide / 2, 34 + high + 30, f"{bytes_sent[name]:,} bytes", "c"),
            text(left + wide / 2, 34 + high + 56, f"error {errors[name]:.2f}", "c m"),
        ]
        told.append(f"{name}: {bytes_sent[name]:,} bytes for a number, mean squared error {errors[name]:.2f}")
    alt = f"Three functions from {signed(x[0], 0)} to {signed(x[-1], 0)}, the ReLU dashed behind the others. " + "; ".join(told) + "."
    return Drawing("dg-privacy-replacements", alt, 560, 34 + high + 66, parts)
