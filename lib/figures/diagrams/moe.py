"""The mixtures chapter's drawings: one token's way through a layer of experts, and the same logits routed in three ways."""

from __future__ import annotations

from collections.abc import Sequence

from lib.figures.diagrams.parts import Grid, cell, circle, faint, flow, listed, short, signed
from lib.figures.drawing import Drawing, arrow, box, text


def layer(x: Sequence[float], probabilities: Sequence[float], gates: Sequence[float], outputs: Grid, y: Sequence[float]) -> Drawing:
    """One token of two features: each expert's probability, gate (0: not chosen) and output, and the weighted sum ``y``."""
    parts = [text(30, 18, "token", "m c"), text(133, 18, "router", "m c"), text(298, 18, "experts", "m c"), text(523, 18, "sum", "m c")]
    middle = 38 + 33 * len(gates)
    parts += [
        box(1, middle - 32, 60, 64),
        text(31, middle - 4, signed(x[0]), "c"),
        text(31, middle + 20, signed(x[1]), "c"),
        arrow(61, middle, 84),
        box(84, 32, 98, 12 + 66 * len(gates), "dec", 8),
    ]
    for i, (p, gate, out) in enumerate(zip(probabilities, gates, outputs, strict=True)):
        top = 38 + 66 * i
        on, centre = gate > 0, top + 33
        parts += [
            f'<rect class="bar{" on" if on else ""}" x="92" y="{centre - 7}" width="{max(2, 34 * p / max(probabilities)):.1f}" height="14" rx="2"/>',
            text(176, centre + 6, f"{p:.2f}", "e" if on else "e m"),
            box(226, top + 4, 144, 58, "run" if on else "off"),
            text(298, top + 28, f"expert {i + 1}", "c" if on else "c m"),
        ]
        if on:
            thick = 1 + 5 * gate
            parts += [
                text(298, top + 53, f"({signed(out[0])}, {signed(out[1])})", "c"),
                flow(f"M184 {centre}H224", thick),
                text(378, centre - 12 if centre < middle else centre + 25, f"× {gate:.2f}"),
                flow(f"M372 {centre}C424 {centre} 424 {middle} 444 {middle}", thick),
            ]
        else:
            parts += [f'<path class="off" d="M184 {centre}H224"/>', text(298, top + 53, "not run", "c m")]
    parts += [
        circle(461, middle, "+"),
        arrow(477, middle, 490),
        box(490, middle - 32, 66, 64),
        text(523, middle - 4, signed(y[0]), "c"),
        text(523, middle + 20, signed(y[1]), "c"),
    ]
    ran = [i + 1 for i, gate in enumerate(gates) if gate > 0]
    alt = (
        f"A token with the features {listed([signed(v) for v in x])} enters the router, which gives {len(gates)} experts the probabilities {listed([f'{p:.2f}' for p in probabilities])}. "
        f"Experts {listed(ran)} run; their outputs {listed([f'({signed(outputs[i - 1][0])}, {signed(outputs[i - 1][1])})' for i in ran])} are multiplied by "
        f"{listed([f'{gates[i - 1]:.2f}' for i in ran])} and added to ({signed(y[0])}, {signed(y[1])}). The others are stored and do not run."
    )
    return Drawing("dg-moe-layer", alt, 560, 46 + 66 * len(gates), parts)


def grid(wanted: Sequence[int], token_choice: Grid, expert_choice: Grid, soft: Grid) -> Drawing:
    """Tokens (rows) × experts (columns): each routing's weights, 0 where a token is not served.

    wanted: each token's first choice; where token choice does not serve it there, it was dropped.
    """
    experts, wide, high, top = len(soft[0]), 38, 30, 50
    stride, told, bottom = wide * experts + 18, [], top + (high + 4) * len(wanted)
    parts = [text(10, top + i * (high + 4) + 21, i + 1, "m c") for i in range(len(wanted))]
    for panel, (name, weights) in enumerate((("token choice", token_choice), ("expert choice", expert_choice), ("soft", soft))):
        x = 26 + panel * (stride + 5)
        parts += [text(x + wide * experts / 2, 18, name, "c")] + [
            text(x + wide * (e + 0.5) - 2, 40, "ABCDEFGH"[e], "m c") for e in range(experts)
        ]
        for i, row in enumerate(weights):
            for e, weight in enumerate(row):
                place = (x + e * wide, top + i * (high + 4), wide - 4, high)
                dropped = panel == 0 and wanted[i] == e and not weight
                parts.append(
                    cell(*place, short(weight), "run", strength=weight)
                    if weight
                    else cell(*place, "×", "off", "m")
                    if dropped
                    else faint(*place)
                )
        served = [sum(weight > 0 for weight in column) for column in zip(*weights)]
        parts += [text(x + wide * (e + 0.5) - 2, bottom + 20, count, "m c") for e, count in enumerate(served)]
        none = [i + 1 for i, row in enumerate(weights) if not any(row)]
        verdict = (
            f"{'dropped' if panel == 0 else 'unserved'}: {', '.join(map(str, none))}"
            if none
            else "all mixed"
            if panel == 2
            else "all served"
        )
        parts.append(text(x + wide * experts / 2 - 2, bottom + 46, verdict, "c"))
        pairs = (
            [f"{i + 1} to {'ABCDEFGH'[e]} {short(weight)}" for i, row in enumerate(weights) for e, weight in enumerate(row) if weight]
            if panel < 2
            else []
        )
        told.append(
            f"{name}: {''.join(f'token {pair}, ' for pair in pairs)}tokens per expert {listed(served)}, "
            + (f"no expert for token {listed(none)}" if none else "no token without an expert")
        )
    several = [i + 1 for i, row in enumerate(expert_choice) if sum(weight > 0 for weight in row) > 1]
    alt = (
        f"{len(wanted)} tokens and {experts} experts, the same logits routed in three ways. "
        + "; ".join(told)
        + f". Under expert choice, tokens with several experts: {listed(several)}. First token's soft weights: {listed([short(weight) for weight in soft[0]])}."
    )
    return Drawing("dg-moe-grid", alt, 558, bottom + 56, parts)
