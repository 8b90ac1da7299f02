"""The box "In practice": what to do with a trained network or a budget, each piece held up by a claim's verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lib.claims.judge import IDENTITY, Verdict
from lib.claims.verdict import MARKS
from lib.system.checks import require


@dataclass(frozen=True)
class Advice:
    """A piece of advice and what holds it up.

    ``text``     Markdown; ``{}`` in it is the value that was measured, ``{abs}`` the same without its sign
    ``claim``    id of the claim whose verdict holds it up
    ``holds``    verdicts of that claim with which it holds; with another one it is not shown
    """

    text: str
    claim: str
    holds: tuple[str, ...] = ("reproduced", "weaker")

    def __post_init__(self) -> None:
        unknown = set(self.holds) - {*MARKS, IDENTITY}
        require(not unknown, f"no verdict {', '.join(sorted(unknown))}; there are {', '.join(MARKS)}")
        require("not testable" not in self.holds, "what could not be tested holds no advice up")


def box(advice: Iterable[Advice], judged: Callable[[str], Verdict], chip: Callable[[Verdict], str]) -> str:
    """Return the pieces that their verdicts hold up, as a box in Markdown that Jupyter and Quarto take; "" where none is.

    ``judged``  the verdict on a claim's id; ``chip``: a verdict as a link
    """
    lines = []
    for piece in advice:
        verdict = judged(piece.claim)
        if verdict.verdict in piece.holds and verdict.estimate:
            text = piece.text.replace("{abs}", value(verdict, signed=False)).replace("{}", value(verdict))
            lines.append(f"- {text} {chip(verdict)}")
    if len(lines) == 1:
        return f'<div class="in-practice">\n\n**In practice.** {lines[0].removeprefix("- ")}\n\n</div>'
    listed = "\n".join(lines)
    return f'<div class="in-practice">\n\n**In practice**\n\n{listed}\n\n</div>' if lines else ""


def value(verdict: Verdict, signed: bool = True) -> str:
    """Return what was measured; where a claim is judged on several tasks, on each that counts, with the task's name."""
    parts = {f" ({name})": part for name, part in verdict.parts.items() if part.decided} or {"": verdict}
    return " and ".join((part.measured if signed else part.measured.lstrip("+-")) + name for name, part in parts.items())
