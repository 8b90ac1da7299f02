"""The distillation chapter's drawings: where a student is compared with its teacher, and what DeiT's two tokens learn from."""

from __future__ import annotations

from collections.abc import Mapping

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


#: Left edge or middle of what the columns of :func:`tokens` hold, and its name.
COLUMNS = ((66, "token", "c m"), (314, "head", "c m"), (408, "loss", "c m"), (560, "target", "e m"))


def tokens(patches: int, label: str, guess: str, class_head: tuple[float, float], other_head: tuple[float, float]) -> Drawing:
    """DeiT: class token and distillation token in one transformer, each with a head and a target of its own.

    patches: tokens of the image beside the two; label, guess: the image's class and the teacher's likeliest one; of each head:
    its probability of its own target, and the loss there.
    """
    rows = (("class", "label", label, *class_head), ("distillation", "teacher", guess, *other_head))
    parts = [text(x, 16, name, kind) for x, name, kind in COLUMNS]
    parts += [cell(0, 138, 132, 42, f"{patches} patches"), arrow(132, 159, 154), cell(154, 26, 86, 154, "blocks", "run")]
    told = []
    for place, (name, whose, target, belief, loss) in enumerate(rows):
        y = 26 + 56 * place
        parts += [
            cell(0, y, 132, 42, name, "dec"),
            arrow(132, y + 21, 154),
            arrow(240, y + 21, 262),
            cell(262, y, 104, 42, f"p = {short(belief)}", "dec"),
            text(408, y + 27, f"{loss:.2f}", "c"),
            text(560, y + 18, target, "e"),
            text(560, y + 39, whose, "e m"),
        ]
        told.append(
            f"the {name} token's head gives {target}, from the {whose}, a probability of {short(belief)} and has a loss of {loss:.2f}"
        )
    alt = (
        f"A class token, a distillation token and {patches} patches go through the same blocks; {'; '.join(told)}. The losses are averaged."
    )
    return Drawing("dg-distillation-tokens", alt, 560, 184, parts)
