"""Mechanisms as inline SVG: in the page's colours and font, legible on a phone, with a description for readers who cannot see it.

Colours come from the page's variables where there are any, so that drawings follow its theme.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from lib.system.checks import require

#: Classes: m muted, e ends at x, c centred on x, box outline, run what acts, off what is gone, dec what chooses, go arrow, tip its head, bar.
STYLE = """
#{id}{{--_ink:#1d232b;--_mut:#5a6470;--_line:#8d8a80;--_acc:#0d5f75;--_dec:#8a5300}}
@media (prefers-color-scheme:dark){{#{id}{{--_ink:#d8dde3;--_mut:#97a2ad;--_line:#6b7783;--_acc:#6ec1d6;--_dec:#e0ac5a}}}}
#{id}{{display:block;width:100%;max-width:640px;height:auto;margin:0 auto;--i:var(--book-ink,var(--_ink));--m:var(--book-muted,var(--_mut));
--l:var(--dg-line,var(--_line));--a:var(--book-accent,var(--_acc));--d:var(--dg-decide,var(--_dec));
font:500 15px/1 var(--book-sans,system-ui,sans-serif);font-variant-numeric:tabular-nums;fill:var(--i)}}
#{id} .m{{fill:var(--m);font-weight:400}} #{id} .e{{text-anchor:end}} #{id} .c{{text-anchor:middle}}
#{id} .box{{fill:none;stroke:var(--i);stroke-width:1.5}} #{id} .run{{fill:var(--a);fill-opacity:.13;stroke:var(--a);stroke-width:1.75}}
#{id} .off{{fill:none;stroke:var(--l);stroke-width:1.25;stroke-dasharray:4 4}}
#{id} .dec{{fill:var(--d);fill-opacity:.12;stroke:var(--d);stroke-width:1.75}}
#{id} .go{{fill:none;stroke:var(--i);stroke-width:1.75}} #{id} .tip{{fill:var(--i)}}
#{id} .bar{{fill:var(--l)}} #{id} .bar.on{{fill:var(--a)}} #{id} .bar.dec{{fill:var(--d);fill-opacity:1;stroke:none}}
@media (max-width:600px){{#{id}{{font-size:19px}}}}
"""


@dataclass(frozen=True)
class Drawing:
    """An SVG ``width`` × ``height`` units large, described by ``alt``.  Jupyter and the book show it as it is."""

    id: str
    alt: str
    width: int
    height: int
    parts: Sequence[str]

    @property
    def svg(self) -> str:
        return (
            f'<svg id="{self.id}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{html.escape(self.alt)}"><style>{STYLE.format(id=self.id).strip()}</style>{"".join(self.parts)}</svg>'
        )

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.svg, "text/plain": self.alt}


def text(x: float, y: float, words: object, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{html.escape(str(words))}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "box", radius: float = 6) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"/>'


def arrow(x: float, y: float, to: float) -> str:
    """From left to right."""
    return f'<path class="go" d="M{x:g} {y:g}H{to - 8:g}"/><path class="tip" d="M{to:g} {y:g}l-10-5v10z"/>'


@dataclass(frozen=True)
class Steps:
    """One mechanism in several drawings, each with a sentence.  The book puts a slider above them and shows one at a time;
    without its script, and in Jupyter, they follow each other."""

    drawings: Sequence[Drawing]
    sentences: Sequence[str]

    def __post_init__(self) -> None:
        require(len(self.drawings) == len(self.sentences) > 1, "give two drawings or more, and a sentence for each")

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        steps = "".join(
            f'<div class="book-step">{drawing.svg}<p>{html.escape(sentence)}</p></div>'
            for drawing, sentence in zip(self.drawings, self.sentences, strict=True)
        )
        return {"text/html": f'<div class="book-steps">{steps}</div>', "text/plain": "\n".join(self.sentences)}
