"""The attention chapter's drawings: one tile of the matrix in fast memory with the running sums, and which tiles a mask leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.figures.diagrams.parts import Grid, cell, faint, listed, matrix, signed
from lib.figures.drawing import Drawing, arrow, box, text


def tile(
    blocks: int, size: int, row: int, column: int, scores: Grid, before: Sequence[float], after: Sequence[float], name: str = ""
) -> Drawing:
    """The matrix of ``blocks``² tiles when tile (``row``, ``column``) is computed, and what fast memory holds then.

    scores: that tile's, [size, size]; before, after: m, ℓ and o (one feature) of the tile's first query; name: of a step, where
    there are several.
    """
    step, left, top = 200 / (blocks * size), 10, 48
    parts = [text(left, 30, "queries ↓", "m"), text(left + 196, 30, "keys →", "m e")]
    for i in range(blocks * size):
        for j in range(blocks * size):
            place, (r, c) = (left + j * step, top + i * step, step - 4, step - 4), (i // size, j // size)
            now, done = (r, c) == (row, column), (r, c) < (row, column)
            parts.append(cell(*place, kind="run", strength=1) if now else cell(*place, kind="run", strength=0.1) if done else faint(*place))
    middle = top + (row + 0.5) * size * step - 2
    parts += [box(250, 34, 308, 284, "box", 8), text(404, 58, "fast memory", "c"), arrow(left + (column + 1) * size * step, middle, 250)]
    parts += [text(266, 104, "tile S"), *matrix(370, 76, scores, 82, 32, 6)]
    query = row * size + 1
    parts += [text(266, 186, f"query {query}", "m"), text(411, 186, "before", "c m"), text(499, 186, "after", "c m")]
    for line, (what, old, new) in enumerate(zip(("m  max", "ℓ  sum", "o  output"), before, after, strict=True)):
        y = 198 + line * 38
        parts += [text(266, y + 22, what), cell(370, y, 82, 32, signed(old)), cell(458, y, 82, 32, signed(new), "run")]
    parts.append(text(left, top + 230, "done", "m"))
    parts += [
        cell(left + 56, top + 214, 22, 22, kind="run", strength=0.1),
        text(left + 96, top + 230, "now", "m"),
        cell(left + 142, top + 214, 22, 22, kind="run", strength=1),
    ]
    alt = (
        f"A matrix of {blocks} by {blocks} tiles of scores. One tile, in row {row + 1} and column {column + 1}, is in fast memory with the scores "
        f"{listed([', '.join(map(signed, line)) for line in scores])}. For query {query} the maximum goes from {signed(before[0])} to {signed(after[0])}, the sum from {signed(before[1])} to "
        f"{signed(after[1])} and the output from {signed(before[2])} to {signed(after[2])}. Tiles done before are forgotten, the others have not been computed."
    )
    return Drawing(f"dg-attention-tile{name}", alt, 560, 322, parts)


def masks(kept: Mapping[str, Sequence[Sequence[bool]]]) -> Drawing:
    """By name, which tiles of a square matrix are computed; under each their share."""
    parts, told = [], []
    for panel, (name, mask) in enumerate(kept.items()):
        size, x = 128 / len(mask), 4 + panel * 142
        for i, row in enumerate(mask):
            for j, computed in enumerate(row):
                place = (x + j * size, 34 + i * size, size - 2, size - 2)
                parts.append(cell(*place, kind="run", strength=0.6) if computed else faint(*place))
        share = sum(map(sum, mask)) / len(mask) ** 2
        parts += [text(x + 63, 22, name, "c"), text(x + 63, 186, f"{share:.0%}", "c m")]
        told.append(f"{name} {share:.0%}")
    alt = (
        f"Which tiles of a matrix of {len(mask)} by {len(mask)} are computed, queries from above to below, keys from left to right: "
        + ", ".join(told)
        + "."
    )
    return Drawing("dg-attention-masks", alt, 142 * len(kept) - 6, 196, parts)
