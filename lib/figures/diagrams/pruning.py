"""The pruning chapter's drawings: the same weights under several structures, and what a packed file writes of a row of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.figures.diagrams.parts import Grid, cell, faint, short
from lib.figures.drawing import Drawing, text

#: A panel's cell, and the distance from one panel to the next.
SIZE, ACROSS, ALONG = 19, 188, 232


def structures(weights: Grid, masks: Mapping[str, Sequence[Sequence[bool]]]) -> Drawing:
    """Magnitudes of a square matrix, and by name which of them each structure keeps; five masks of the same budget at most.

    Under each: what is left of the magnitudes' sum.
    """
    size, largest = len(weights), max(abs(w) for row in weights for w in row)
    whole = sum(abs(w) for row in weights for w in row)
    parts, told, everything = [], [], [[True] * size for _ in weights]
    for place, (name, mask) in enumerate({"all weights": everything, **masks}.items()):
        x, y = 16 + place % 3 * ACROSS, 30 + place // 3 * ALONG
        middle = x + SIZE * size / 2
        parts.append(text(middle, y - 10, name, "c"))
        for i, row in enumerate(weights):
            for j, weight in enumerate(row):
                spot = (x + j * SIZE, y + i * SIZE, SIZE - 2, SIZE - 2)
                parts.append(cell(*spot, kind="run", strength=abs(weight) / largest) if mask[i][j] else faint(*spot))
        left = sum(abs(w) for row, kept in zip(weights, mask) for w, keeps in zip(row, kept) if keeps) / whole
        count = sum(map(sum, mask))
        parts.append(text(middle, y + SIZE * size + 22, f"{left:.0%} of Σ|w|" if place else f"{size} × {size}", "c m"))
        if place:
            told.append(f"{name} keeps {count} weights and {left:.0%} of the sum of magnitudes")
    alt = f"One matrix of {size} × {size} weights, darker where larger, and what several structures keep of it: " + "; ".join(told) + "."
    return Drawing("dg-pruning-structures", alt, 560, 30 + ALONG * (1 + len(masks) // 3) - 34, parts)


def packed_file(weights: Sequence[float], gaps: Sequence[int], codes: Sequence[int], sizes: Mapping[str, int], dense: int) -> Drawing:
    """The first weights of a layer, what is written for each that is not zero, and the bytes of the whole file by part.

    gaps: zeros since the last weight that is none; codes: places in the codebook; dense: bytes of all parameters in 32 bits.
    """
    parts, seen, left, wide = [], 0, 118, 55
    parts += [text(0, 36, "weights"), text(0, 78, "zeros before", "m"), text(0, 110, "code", "m")]
    for i, weight in enumerate(weights):
        x = left + i * wide
        if not weight:
            parts.append(faint(x, 14, wide - 6, 34))
            continue
        parts += [
            cell(x, 14, wide - 6, 34, short(weight), "run"),
            text(x + wide / 2 - 3, 78, gaps[seen], "c"),
            text(x + wide / 2 - 3, 110, codes[seen], "c"),
        ]
        seen += 1
    sizes = {name: count for name, count in sizes.items() if count}
    largest = max(sizes.values())
    for row, (name, count) in enumerate(sizes.items()):
        y = 134 + row * 32
        parts += [
            text(104, y + 19, name, "e"),
            f'<rect class="bar{" on" if name in ("codes", "positions") else ""}" x="116" y="{y + 3}" width="{max(1, 330 * count / largest):.1f}" height="22" rx="3"/>',
            text(124 + 330 * count / largest, y + 19, f"{count:,} bytes"),
        ]
    bottom, total = 134 + 32 * len(sizes), sum(sizes.values())
    parts.append(text(116, bottom + 22, f"together {total:,}; in 32 bits each: {dense:,}", "m"))
    alt = (
        f"The first {len(weights)} weights of a pruned layer: {', '.join(short(w) if w else '0' for w in weights)}. For each that is not zero the file has the number of zeros before it, "
        f"{', '.join(map(str, gaps))}, and its code, {', '.join(map(str, codes))}. Bytes of the whole file: {', '.join(f'{name} {count:,}' for name, count in sizes.items())}; "
        f"together {total:,}, against {dense:,} for all parameters in 32 bits."
    )
    return Drawing("dg-pruning-file", alt, 560, bottom + 34, parts)
