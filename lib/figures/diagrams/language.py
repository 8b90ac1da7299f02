"""The language chapter's two drawings: a weight that goes while the others make up for it, and where SmoothQuant moves outliers."""

from __future__ import annotations

from collections.abc import Sequence

from lib.figures.drawing import Drawing, arrow, box, text


def surgeon(before: Sequence[float], removed: int, after: Sequence[float], zeroing: float, surgery: float) -> Drawing:
    """One row of a layer before and after weight ``removed`` went: set to zero alone, and with the others corrected.

    zeroing, surgery: the squared errors of the row's output.
    """
    rows = [
        ("the row", before, ""),
        ("set to zero", [0.0 if i == removed else w for i, w in enumerate(before)], f"error {zeroing:.2f}"),
        ("OBS", after, f"error {surgery:.2f}"),
    ]
    parts, high = [], 58
    for row, (name, weights, error) in enumerate(rows):
        y = 20 + row * (high + 26)
        parts.append(text(0, y + 35, name, "m"))
        for i, weight in enumerate(weights):
            gone, moved = row > 0 and i == removed, row == 2 and i != removed
            parts += [
                box(118 + i * 104, y, 92, high, "off" if gone else "run" if moved else "box"),
                text(164 + i * 104, y + 35, "0" if gone else f"{weight:+.2f}".replace("-", "−"), "c m" if gone else "c"),
            ]
        if error:
            parts.append(text(118 + len(weights) * 104 + 2, y + 35, error))
    told = ", ".join(f"{weight:+.2f}" for weight in before)
    alt = (
        f"A row of weights {told}. Weight {removed + 1} goes. If it is set to zero and nothing else changes, the squared error of the output is {zeroing:.2f}. "
        f"With OBS the others become {', '.join(f'{w:+.2f}' for i, w in enumerate(after) if i != removed)}, and the error is {surgery:.2f}."
    )
    return Drawing("dg-surgeon", alt, 248 + len(before) * 104, 20 + 3 * high + 2 * 26 + 8, parts)


def smoothing(channels: Sequence[Sequence[float]], shown: int = 9) -> Drawing:
    """The strongest features of one layer: largest |x| and largest |w| before and after SmoothQuant.

    channels: [|x|, |w|, |x| after, |w| after] of each feature, the strongest first.
    """
    step = max(1, len(channels) // shown)
    chosen = [channels[0], *channels[step::step]][:shown]
    panels = [("inputs", 0, 2, 34), ("weights", 1, 3, 164)]
    parts = [text(120, 18, "before", "m c"), text(430, 18, "after", "m c")]
    for name, first, second, top in panels:
        largest = {column: max(channel[column] for channel in chosen) for column in (first, second)}
        for column, left in ((first, 10), (second, 320)):
            for i, channel in enumerate(chosen):
                height = 88 * channel[column] / max(largest.values())
                parts.append(
                    f'<rect class="bar {"dec" if i == 0 else "on"}" x="{left + i * 24:g}" y="{top + 92 - height:.1f}" width="17" height="{max(height, 1):.1f}" rx="2"/>'
                )
            parts.append(text(left + 220, top + 18, f"max {largest[column]:.3g}", "e m"))
        parts.append(text(274, top + 60, name, "c"))
    parts += [arrow(250, 142, 302)]
    x, w, x2, w2 = chosen[0]
    alt = (
        f"Largest absolute value of {len(chosen)} features of one layer, the strongest first. Before: inputs up to {x:.3g}, its weights {w:.3g}. "
        f"After SmoothQuant divided inputs and multiplied weights, feature by feature: inputs {x2:.3g}, weights {w2:.3g} for the strongest one, and inputs and weights of every feature reach equally far."
    )
    return Drawing("dg-smoothing", alt, 560, 268, parts)
