"""The mosaic of claims: every claim once in each drawing, its verdict in colour and mark, words and an address for each."""

import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from conftest import ROOT
from lib.book.front.mosaic import CELL, GAP, LAYOUTS, STEP, ledger_address, mosaic, shortened, verdict_of
from lib.book.front.social import SIZE, picture
from lib.book.ledger import by_chapter, entries, judged
from lib.book.notebooks import Project
from lib.claims.verdict import COLOURS, FILLS, MARKS, css_class
from lib.runs.store import Store
from lib.studies import CHAPTERS


@pytest.fixture(scope="module")
def found():
    return entries("cpu", Store(ROOT / "data" / "results", Path("none")), Project())


@pytest.fixture(scope="module")
def drawings(found):
    text = mosaic(found, ledger_address(CHAPTERS))
    return {svg.get("class"): svg for svg in map(ElementTree.fromstring, re.findall(r'<svg class="\w+".*?</svg>', text, flags=re.DOTALL))}


def test_each_claim_is_there_once_with_its_verdict(found, drawings):
    assert set(drawings) == {layout.name for layout in LAYOUTS}
    wanted = {f"{ledger_address(CHAPTERS)}#claim-{entry.claim.id}": verdict_of(entry) for entry in judged(found)}
    for svg in drawings.values():
        cells = [link for link in svg.iter("a") if link.find("rect") is not None]
        assert {link.get("href"): link.find("rect").get("class").replace("-", " ") for link in cells} == wanted
        assert len(cells) == len(wanted)
        for link in cells:
            verdict = link.find("rect").get("class").replace("-", " ")
            assert (link.find("text").text or "") == MARKS.get(verdict, "") and link.find("title").text.lower().startswith(verdict)
            assert "The paper: " in link.find("title").text
        chapters = [link.get("href") for link in svg.iter("a") if link.find("rect") is None]
        assert chapters == [f"chapters/{chapter.slug}.html" for chapter in by_chapter(found)]


def test_cells_lie_in_the_drawing_and_none_on_another(drawings):
    for layout in LAYOUTS:
        svg = drawings[layout.name]
        height = int(svg.get("height"))
        places = [(float(rect.get("x")), float(rect.get("y"))) for rect in svg.iter("rect")]
        assert len(set(places)) == len(places)
        assert all(layout.left <= x and x + CELL - 2 <= layout.width and 0 <= y and y + CELL - 2 <= height for x, y in places)
        assert layout.left + layout.columns * STEP - GAP <= layout.width < layout.left + (layout.columns + 1) * STEP
        names = [(float(text.get("y")), text) for text in svg.iter("text") if text.get("class") == "chapter"]
        assert [y for y, _ in names] == sorted(y for y, _ in names)


def test_nothing_is_drawn_of_nothing_and_long_titles_end_at_a_word():
    assert mosaic([], "ledger.html") == ""
    assert shortened("Pruning, lottery tickets, quantization") == "Pruning, lottery tickets …"
    assert all(len(shortened(chapter.title)) <= 34 for chapter in CHAPTERS)


def test_style_sheets_know_each_verdict_by_the_colours_of_its_home():
    """Neither sheets nor figures have a colour of their own for a verdict."""
    style = (ROOT / "assets" / "book.scss").read_text(encoding="utf-8")
    chips = dict(re.findall(r"^\.verdict\.([a-z-]+) a \{ background: (#[0-9a-f]{6}); border-color: \2;", style, flags=re.MULTILINE))
    cells = dict(re.findall(r"^  \.([a-z-]+) \{ fill: (#[0-9a-f]{6}); \}", style, flags=re.MULTILINE))
    assert chips == cells == {css_class(verdict): colour for verdict, colour in FILLS.items()}
    assert all(f".{css_class(verdict)}" in style for verdict in MARKS) and set(MARKS) < set(COLOURS)
    elsewhere = [
        path for path in (ROOT / "lib").rglob("*.py") if any(colour in path.read_text(encoding="utf-8") for colour in FILLS.values())
    ]
    assert elsewhere == [ROOT / "lib" / "claims" / "verdict.py"]


def test_the_picture_for_links_has_the_colours_of_the_verdicts_and_repeats_itself(found):
    data = picture(found)
    assert data == picture(found) and len(data) < 100_000
    image = Image.open(io.BytesIO(data)).convert("RGB")
    assert image.size == SIZE
    seen = {colour for _, colour in image.getcolors(1 << 16)}
    for verdict in {verdict_of(entry) for entry in judged(found)} & FILLS.keys():
        assert any(max(abs(a - b) for a, b in zip(ImageColor.getrgb(FILLS[verdict]), colour)) <= 8 for colour in seen), verdict
