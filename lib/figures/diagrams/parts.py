"""What the chapters' drawings are made of: numbers in boxes, small matrices, lines and arrows that turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lib.figures.drawing import box, text

#: Half the height of a digit: from a box's middle down to the baseline, between that of 15 and that of 19 units.
DROP = 6
Grid = Sequence[Sequence[float]]


def signed(value: float, digits: int = 2) -> str:
    """With a typographic minus; no sign before zeros."""
    told = f"{value:.{digits}f}".replace("inf", "∞")
    if "∞" in told:
        return told.replace("-", "−")
    return told.replace("-", "−") if float(told) else told.lstrip("-")


def short(value: float) -> str:
    """A number between −1 and 1 without its leading zero: .25, −.30, and 1.0."""
    told = f"{abs(value):.2f}"
    return ("−" if value <= -0.005 else "") + (told[1:] if told.startswith("0") else "1.0")


def cell(
    x: float, y: float, width: float, height: float, words: object = "", kind: str = "box", tone: str = "", strength: float | None = None
) -> str:
    """A box with centred words.  ``strength`` from 0 to 1: how strongly it is filled, as a quantity."""
    drawn = box(x, y, width, height, kind, min(4, width / 5))
    if strength is not None:
        drawn = drawn.replace("/>", f' style="fill-opacity:{0.04 + 0.5 * strength:.2f};stroke-opacity:{0.25 + 0.5 * strength:.2f}"/>')
    return drawn + (text(x + width / 2, y + height / 2 + DROP, words, f"c {tone}".strip()) if words != "" else "")


def faint(x: float, y: float, width: float, height: float) -> str:
    """A place where nothing is: a thin outline."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{min(4, width / 5):g}" style="fill:none;stroke:var(--l);stroke-opacity:.35"/>'


def matrix(
    x: float,
    y: float,
    values: Grid,
    width: float,
    height: float,
    gap: float = 4,
    show: Callable[[float], str] = signed,
    kind: Callable[[int, int], str] = lambda row, column: "box",
    tone: Callable[[int, int], str] = lambda row, column: "",
) -> list[str]:
    """Numbers in boxes, ``width`` × ``height`` each; ``kind`` and ``tone`` are the classes of a box and of its number."""
    return [
        cell(x + j * (width + gap), y + i * (height + gap), width, height, show(value), kind(i, j), tone(i, j))
        for i, row in enumerate(values)
        for j, value in enumerate(row)
    ]


def path(shape: str, kind: str = "go") -> str:
    return f'<path class="{kind}" d="{shape}"/>'


def flow(shape: str, thick: float = 1.75) -> str:
    """What is computed on its way, ``thick`` as its weight."""
    return f'<path d="{shape}" style="fill:none;stroke:var(--a);stroke-width:{thick:.2f};stroke-linecap:round"/>'


def down(x: float, y: float, to: float) -> str:
    """An arrow from above to below."""
    return path(f"M{x:g} {y:g}V{to - 8:g}") + path(f"M{x:g} {to:g}l-5-10h10z", "tip")


def up(x: float, y: float, to: float) -> str:
    """An arrow from below to above."""
    return path(f"M{x:g} {y:g}V{to + 8:g}") + path(f"M{x:g} {to:g}l-5 10h10z", "tip")


def left(x: float, y: float, to: float) -> str:
    """An arrow from right to left."""
    return path(f"M{x:g} {y:g}H{to + 8:g}") + path(f"M{to:g} {y:g}l10-5v10z", "tip")


def circle(x: float, y: float, words: str, kind: str = "run", radius: float = 16) -> str:
    """An operation."""
    return f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>' + text(x, y + DROP, words, "c")


def listed(numbers: Sequence[object]) -> str:
    """1, 2 and 3."""
    told = [str(number) for number in numbers]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}" if told else "none"
