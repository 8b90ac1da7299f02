"""The built book as its readers meet it: from disk without a network, at a desk, on a telephone, by keyboard, in the dark.

What every page must have anyway (no complaint, no request, figures drawn, references resolved) is in ``test_rendered.py``.
"""

import importlib.resources
import json
import re
from urllib.parse import unquote, urlparse

import pytest

from lib.book.front.mosaic import HOW
from lib.book.moved import MOVED
from test_rendered import browser, committed, open_page, quarto, sample  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow

DESK = {"viewport": {"width": 1280, "height": 900}}
TELEPHONE = {"viewport": {"width": 375, "height": 740}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}

#: Bytes of the whole book, and of its first page with all it loads but plotly.js.
MOST_IN_ALL, MOST_AT_FIRST = 25 * 1024**2, 2 * 1024**2

#: Least contrast of text (WCAG 2, 1.4.3).
CONTRAST = 4.5

#: What has the focus, and whether it can be seen to have it.
FOCUSED = """() => {
    const at = document.activeElement, box = at.closest(".aa-Form") || at;
    const seen = (one) => {
        const style = getComputedStyle(one);
        return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1) || style.boxShadow !== "none";
    };
    const place = at.getBoundingClientRect();
    return { tag: at.tagName, id: at.id, classes: [...at.classList], words: (at.innerText || at.ariaLabel || "").trim(),
             seen: seen(at) || seen(box), wide: place.width, inMain: !!at.closest("main"), inNav: !!at.closest("nav") };
}"""

#: The contrast of each text of a figure that stands on the page itself, with the colour of the page.
TEXTS = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
        .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const page = light(numbers(getComputedStyle(document.body).backgroundColor));
    return [...document.querySelectorAll(".book-plot :is(.xtick, .ytick, .g-xtitle, .g-ytitle, .g-gtitle, .legend) text")]
        .filter((text) => text.textContent.trim()).map((text) => {
            const ink = light(numbers(getComputedStyle(text).fill));
            return { text: text.textContent, figure: text.closest(".book-figure").id,
                     contrast: (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05) };
        });
}"""


#: Width of each figure that is not folded away, once all of them have marks.
DRAWN = """() => {
    const figures = [...document.querySelectorAll(".book-plot")].filter((place) => place.clientWidth);
    const marks = ":is(.trace, .points, .hm, .imagelayer, .slice) :is(path, image, rect), .gl-container canvas";
    return figures.every((place) => place.querySelector(marks))
        && { widths: figures.map((place) => place.querySelector("svg.main-svg").getBoundingClientRect().width) };
}"""


@pytest.fixture(scope="module", params=["sample", "committed"])
def folder(request):
    return request.getfixturevalue(request.param)


def pages(folder):
    return sorted(folder.rglob("*.html"))


@pytest.fixture(scope="module")
def axe():
    """The program that looks for what keeps readers out, from the package that brings it along."""
    pytest.importorskip("axe_playwright_python", reason="`pip install axe-playwright-python` is needed to look for barriers")
    return importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("device", [DESK, TELEPHONE], ids=["desk", "telephone"])
def test_every_page_works_from_disk_without_a_network(folder, open_page, device):
    for path in pages(folder):
        page = open_page(path, offline=True, **device)
        assert page.complaints == [], path.name
        assert [url for url in page.asked if urlparse(url).scheme not in ("file", "data", "blob")] == [], path.name
        widths = page.wait_for_function(DRAWN).json_value()["widths"]
        wide = device["viewport"]["width"]
        assert all(0.4 * min(wide, 860) <= width <= wide for width in widths), f"{path.name}: {widths}"
        page.close()


def test_search_finds_each_chapter_by_its_title_and_by_a_section(folder, open_page):
    found = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    wanted: dict[str, set[str]] = {}
    for entry in found:
        where = entry["href"].partition("#")[0]
        words = entry["section"] or entry["title"]
        if where.startswith("chapters/") and len(wanted.setdefault(where, set())) < 2:
            wanted[where].add(re.sub(r"^[\d.]+\s+", "", words.replace("\xa0", " ")))
    moved = {address.rpartition("/")[2] for address in MOVED}  # signposts, which nobody searches for
    assert wanted.keys() == {f"chapters/{path.name}" for path in (folder / "chapters").glob("*.html") if path.name not in moved}
    page = open_page(folder / "index.html", offline=True, **DESK)
    page.keyboard.press("/")
    page.wait_for_function("window.fuseIndex !== undefined")
    for where, terms in wanted.items():
        for term in terms:
            page.locator(".aa-Input").first.fill(term)
            page.wait_for_selector(f".aa-Panel a[href*='{where}']")
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_in_figures_are_legible(folder, open_page, scheme):
    for path in pages(folder):
        page = open_page(path, color_scheme=scheme, **DESK)
        faint = [text for text in page.evaluate(TEXTS) if text["contrast"] < CONTRAST]
        assert faint == [], path.name
        page.close()


@pytest.mark.parametrize("scheme, device", [("light", DESK), ("dark", DESK), ("light", TELEPHONE)], ids=["light", "dark", "telephone"])
def test_axe_finds_nothing(folder, open_page, axe, scheme, device):
    seen = {}
    for path in pages(folder):
        page = open_page(path, color_scheme=scheme, **device)
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'], preload: false })")
        for violation in found["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"]]
            seen[f"{path.name}: {violation['id']}"] = f"{len(nodes)} times: {'; '.join(nodes[:3])}"
        page.close()
    assert seen == {}


def walked(page, most):
    """What has the focus after each press of Tab, until the page has none left."""
    stops = []
    for _ in range(most):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(FOCUSED))
        if stops[-1]["tag"] == "BODY":
            break
    return stops


def test_a_page_can_be_used_by_keyboard(sample, open_page):
    page = open_page(sample / "chapters" / "01-first.html", **DESK)
    stops = walked(page, 80)
    assert "book-skip" in stops[0]["classes"]
    ahead = [stop for stop in stops if not stop["inMain"]]
    assert any(stop["inNav"] and "Second" in stop["words"] for stop in ahead), "navigation"
    assert any("aa-" in " ".join(stop["classes"]) or "search" in stop["words"].lower() for stop in ahead), "search"
    main = [stop for stop in stops if stop["inMain"]]
    for control in ("book-data", "code-copy-button", "book-table"):
        assert any(control in stop["classes"] for stop in main) == bool(page.locator(focusable(control)).count()), control
    assert any("book-data" in stop["classes"] for stop in main)
    unseen = [stop for stop in stops if stop["tag"] != "BODY" and stop["wide"] and not stop["seen"]]
    assert unseen == []


def focusable(control):
    """Wide tables can be scrolled, and so reached, where they do not fit."""
    return ".book-table[tabindex='0']" if control == "book-table" else f"main .{control}"


def test_what_a_cell_of_the_mosaic_says_stands_below_it(folder, open_page):
    page = open_page(folder / "index.html", **DESK)
    cells = page.locator(".book-mosaic svg.wide a:has(title)")
    if not cells.count():
        pytest.skip("this book has no claims, and so no mosaic")
    said, first, second = page.locator(".book-mosaic-said"), cells.nth(0), cells.nth(1)
    assert said.inner_text() == HOW
    first.hover()
    assert said.inner_text() == first.locator("title").text_content()
    second.focus()
    assert said.inner_text() == second.locator("title").text_content()


#: What is wider than a telephone: whether it scrolls in its box, and whether the page does.
SCROLLED = """() => {
    const boxes = [...document.querySelectorAll(".book-scrolls")].filter((box) => box.matches(".book-table, .book-formula"));
    const wide = [...document.querySelectorAll(".book-table, .book-formula")].filter((box) => box.scrollWidth > box.clientWidth);
    for (const box of boxes) box.scrollLeft = 10000;
    return {
        marked: boxes.length === wide.length && wide.length,
        stuck: boxes.map((box) => [box.scrollLeft, box.scrollWidth - box.clientWidth]).filter(([at, end]) => at < end - 1),
        names: boxes.filter((box) => box.matches(".book-table")).flatMap((box) => [...box.querySelectorAll("tbody tr > :first-child")]
            .map((name) => name.getBoundingClientRect().left - box.getBoundingClientRect().left)).filter((off) => Math.abs(off) > 1),
        aside: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    };
}"""


@pytest.mark.parametrize(
    "name", ["01-moe-routing", "04-pruning-lottery-tickets", "06-distillation", "09-private-inference", "11-language-models"]
)
def test_wide_tables_and_formulas_scroll_in_their_boxes_and_rows_keep_their_names(committed, open_page, name):
    page = open_page(committed / "chapters" / f"{name}.html", **TELEPHONE)
    found = page.evaluate(SCROLLED)
    assert found["marked"] and found["stuck"] == found["names"] == [] and found["aside"] == 0


def test_wide_tables_are_reached_and_scrolled_by_keyboard(sample, open_page):
    page = open_page(sample / "chapters" / "01-first.html", **TELEPHONE)
    table = page.locator(".book-table[tabindex='0']").first
    table.focus()
    assert "book-table" in page.evaluate(FOCUSED)["classes"]
    before = table.evaluate("one => one.scrollLeft")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => document.activeElement.scrollLeft > before", arg=before)


def test_the_first_link_leads_past_the_navigation(folder, open_page):
    for path in pages(folder):
        page = open_page(path, **DESK)
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED)["words"] == "Skip to content", path.name
        assert page.locator(".book-skip").bounding_box()["y"] >= 0  # seen once it has the focus
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.tagName") == "MAIN"
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        assert stop["inMain"] or not page.locator("main :is(a[href], button, summary)").count(), path.name
        page.close()


def test_the_book_is_small(folder):
    everything = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert everything <= MOST_IN_ALL, f"{everything / 1024**2:.1f} MB"


def test_the_first_page_is_light(folder, open_page):
    page = open_page(folder / "index.html", **DESK)
    asked = {unquote(urlparse(url).path) for url in page.asked if urlparse(url).scheme == "file"}
    sizes = {path.rpartition("/")[2]: (folder / path).stat().st_size for path in asked if "plotly" not in path}
    assert len(sizes) > 3 and sum(sizes.values()) <= MOST_AT_FIRST, sizes
