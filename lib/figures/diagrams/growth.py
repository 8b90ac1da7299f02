"""The growth chapter's drawings: a layer that becomes twice as wide and says the same, and three orders of new blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.figures.diagrams.parts import Grid, cell, listed, matrix, signed
from lib.figures.drawing import Drawing, text


def widening(before: Grid, x: Sequence[float], y: Sequence[float], after: Grid, wide_y: Sequence[float]) -> Drawing:
    """y = W x with the small W [n, n], and with the wide one [2n, 2n] that reads ``x`` twice; ``wide_y`` is what that gives."""
    wide, high, gap, parts = 66, 34, 6, []
    step, n = high + gap, len(before)
    right = (wide + gap) * 2 * n
    columns = (right + 24, right + 24 + wide + 46)
    for top, name, weights, inputs, outputs in ((36, "W", before, x, y), (36 + n * step + 44, "W′", after, [*x, *x], wide_y)):
        rows, new = len(weights), name != "W"
        parts += [
            text((wide + gap) * rows / 2 - gap / 2, top - 12, name, "c m"),
            text(columns[0] + wide / 2, top - 12, "x, x" if new else "x", "c m"),
            text(columns[1] + wide / 2, top - 12, "output", "c m"),
        ]
        parts += matrix(1, top, weights, wide, high, gap, kind=lambda i, j, new=new: "run" if new else "box")
        parts += matrix(columns[0], top, [[v] for v in inputs], wide, high, gap)
        parts += matrix(
            columns[1], top, [[v] for v in outputs], wide, high, gap, kind=lambda i, j, new=new: "run" if new and i >= n else "box"
        )
        middle = top + rows * step / 2 + 3
        parts += [text(right + 9, middle, "·", "c"), text(columns[0] + wide + 23, middle, "=", "c")]
    sums = [signed(after[0][j] + after[0][j + n]) for j in range(n)]
    parts += [
        text(
            right + 24,
            36 + n * step + 44 + 2 * n * step + 18,
            f"{signed(after[0][0])} + {signed(after[0][n])} = {sums[0]}".replace("+ −", "− "),
            "m e",
        )
    ]
    alt = (
        f"Before: a matrix with the rows {listed([', '.join(map(signed, row)) for row in before])} takes the input {listed([signed(v) for v in x])} to {listed([signed(v) for v in y])}. "
        f"After: a matrix of twice the size reads the input twice; its rows are {listed([', '.join(map(signed, row)) for row in after])}. In the first, the entries for the two copies of an "
        f"input sum to {listed(sums)}, the old row. Its outputs are {', '.join(map(signed, wide_y))}: the old ones, twice."
    )
    return Drawing("dg-growth-widening", alt, columns[1] + wide + 1, 36 + n * step + 44 + 2 * n * step + 26, parts)


def deepening(old: int, plans: Mapping[str, Sequence[tuple[int, bool]]], changes: Mapping[str, float]) -> Drawing:
    """By name: for each new block the old one that it copies and whether it is silent, and the largest change of a logit."""
    size, wide, left = max(map(len, plans.values())), 40, 122
    rows = {"before": [(i, False) for i in range(old)], **plans}
    parts, told = [text(left + size * wide + 8, 20, "change", "m")], []
    for row, (name, plan) in enumerate(rows.items()):
        y = 32 + row * 52
        parts.append(text(0, y + 24, name, "" if row else "m"))
        for place, (source, silent) in enumerate(plan):
            copy = source in [earlier for earlier, _ in plan[:place]]
            parts.append(
                cell(left + place * wide, y, wide - 6, 36, source, "off" if silent else "run" if copy else "box", "m" if silent else "")
            )
        if row:
            parts.append(text(left + size * wide + 8, y + 24, f"{changes[name]:.2f}"))
            told.append(
                f"{name} has the blocks {', '.join(f'{source}{chr(39) * silent}' for source, silent in plan)} and changes a logit by up to {changes[name]:.2f}"
            )
    alt = f"{old} blocks become {size}. A prime marks a copy that writes zeros. " + "; ".join(told) + "."
    return Drawing("dg-growth-deepening", alt, left + size * wide + 86, 32 + 52 * len(rows) - 10, parts)
