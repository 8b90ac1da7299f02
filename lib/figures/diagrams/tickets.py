"""The tickets chapter's drawings: what each paper takes out of an encoder, and weights before training, after it, and in the ticket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.figures.diagrams.parts import Grid, cell, matrix, short
from lib.figures.drawing import Drawing, arrow, text

#: Of each layer: what is left of each head's weights and of each neuron's, from 0 to 1.
Kept = Sequence[tuple[Sequence[float], Sequence[float]]]


def removals(kept: Mapping[str, Kept]) -> Drawing:
    """By name, three panels in a row: heads (squares) and FFN neurons (bars) of each layer, the first layer below; dashed: removed."""
    parts, told, high, wide = [], [], 36, 188
    depth = len(next(iter(kept.values())))
    tall = 30 + depth * high + 40
    for panel, (name, layers) in enumerate(kept.items()):
        x, y = 2 + panel % 3 * wide, panel // 3 * tall
        parts.append(text(x + 88, y + 20, name, "c"))
        heads, neurons = len(layers[0][0]), len(layers[0][1])
        for place, (of_heads, of_neurons) in enumerate(layers):
            top = y + 32 + (depth - 1 - place) * high
            for i, part in enumerate(of_heads):
                spot = (x + i * 18, top + 6, 15, 15)
                parts.append(cell(*spot, kind="run", strength=part) if part else cell(*spot, kind="off"))
            for i, part in enumerate(of_neurons):
                spot = (x + heads * 18 + 10 + i * (94 / neurons), top, 94 / neurons - 2, high - 8)
                parts.append(cell(*spot, kind="run", strength=part) if part else cell(*spot, kind="off"))
        # All heads are equally large, and all neurons: means over them are shares of weights.
        shares = [sum(sum(layer[which]) for layer in layers) / sum(len(layer[which]) for layer in layers) for which in (0, 1)]
        parts.append(text(x + 88, y + 32 + depth * high + 16, f"{shares[0]:.0%}, {shares[1]:.0%}", "c m"))
        left = [sum(part > 0 for layer in layers for part in layer[which]) for which in (0, 1)]
        told.append(
            f"{name} leaves {shares[0]:.0%} of the heads' weights and {shares[1]:.0%} of the FFNs', in {left[0]} heads and {left[1]} neurons"
        )
    alt = (
        f"An encoder of {depth} layers, drawn from below to above, with attention heads as squares and FFN neurons as bars. "
        + "; ".join(told)
        + ". Dashed parts are removed."
    )
    return Drawing("dg-tickets-removals", alt, 560, tall * -(-len(kept) // 3) - 6, parts)


def rewinding(before: Grid, trained: Grid, mask: Sequence[Sequence[bool]]) -> Drawing:
    """The weights before training, after it (where the mask is chosen by magnitude), and the ticket: the first, masked."""
    ticket = [[value if stays else 0.0 for value, stays in zip(row, keeps)] for row, keeps in zip(before, mask)]
    parts, size, gap = [], 52, 4
    wide = len(before[0]) * (size + gap) - gap
    for place, (name, values) in enumerate((("before", before), ("trained", trained), ("ticket", ticket))):
        x = 1 + place * (wide + 34)
        chosen = {"before": "box", "trained": "dec", "ticket": "run"}[name]
        parts.append(text(x + wide / 2, 20, name, "c"))
        parts += matrix(
            x,
            34,
            values,
            size,
            38,
            gap,
            show=lambda v: short(v) if v else "0",
            kind=lambda i, j, c=chosen: c if c == "box" or mask[i][j] else "off",
            tone=lambda i, j, c=chosen: "" if c == "box" or mask[i][j] else "m",
        )
        if place:
            parts.append(arrow(x - 30, 34 + len(before) * 42 / 2 - 2, x - 4))
    count, of = sum(map(sum, mask)), len(mask) * len(mask[0])
    bottom = 34 + 42 * len(before)
    parts.append(text(1 + wide + 34 + wide / 2, bottom + 18, f"largest {count} of {of}", "c m"))
    parts.append(text(1 + 2 * (wide + 34) + wide / 2, bottom + 18, "old values", "c m"))
    alt = (
        "Weights before training: "
        + "; ".join(", ".join(map(short, row)) for row in before)
        + ". After training: "
        + "; ".join(", ".join(map(short, row)) for row in trained)
        + f". The {count} largest of these {of} choose what stays, and the ticket has their values from before: "
        + "; ".join(", ".join(short(v) if v else "0" for v in row) for row in ticket)
        + "."
    )
    return Drawing("dg-tickets-rewinding", alt, 3 * wide + 70, bottom + 28, parts)
