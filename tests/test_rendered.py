"""The rendered book in a browser, from disk: nothing from elsewhere, no errors, figures drawn, both themes."""

import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from urllib.parse import unquote, urlparse

import pytest
from rich.console import Console

from lib import ROOT
from lib.book import build as book
from lib.book.notebooks import Project
from lib.book.postrender import unresolved
from lib.book.render import find_quarto
from lib.cli.doctor import BROWSERS
from lib.studies import CHAPTERS, section
from samplebook import write_book

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def quarto():
    found, why = find_quarto()
    return found or pytest.skip(why)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="`pip install playwright` is needed to see pages")
    program = next(filter(None, map(shutil.which, BROWSERS)), None) or pytest.skip("no Chromium or Chrome was found")
    with playwright.sync_playwright() as play:
        running = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def sample(quarto, tmp_path_factory):
    """A small book built as `make book` does it."""
    root = tmp_path_factory.mktemp("sample")
    project = Project(root, write_book(root, "01-first", "02-second"))
    console = Console(file=io.StringIO(), width=200)
    assert book.build("smoke", parameters={"knob": 6}, project=project, console=console) == 0, console.file.getvalue()
    return project.book


@pytest.fixture(scope="module")
def committed(quarto, tmp_path_factory):
    """The reference edition: `quarto render` alone, in a copy of what is committed."""
    lacking = [c.slug for c in CHAPTERS if not Project().source(c).exists()]
    if lacking:
        pytest.skip(f"not written yet: {', '.join(lacking)}")
    root = tmp_path_factory.mktemp("committed")
    for name in ("assets", "chapters", "lib"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (
        *ROOT.glob("*.qmd"),
        *ROOT.glob("*.bib"),
        ROOT / "_findings.md",
        ROOT / "_headlines.md",
        ROOT / "_mosaic.md",
        ROOT / "_quarto.yml",
        ROOT / "_variables.yml",
    ):
        shutil.copyfile(path, root / path.name)
    subprocess.run([quarto, "render", root], check=True, timeout=900, stdin=subprocess.DEVNULL)
    return root / "_book"


@pytest.fixture(scope="module")
def open_page(browser):
    """Opens a page from disk and returns it with what it asked for and complained about."""
    contexts = []

    def opened(path, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and page.complaints.append(said.text))
        page.goto(path.as_uri())
        if page.locator(".book-figure").count():
            page.evaluate("dispatchEvent(new Event('beforeprint'))")  # all figures are drawn, not only those that are near
            page.wait_for_selector("html[data-figures=drawn]")
        return page

    yield opened
    for context in contexts:
        context.close()


@dataclass(frozen=True)
class Visit:
    """What a browser saw of one page."""

    name: str
    asked: list[str]
    complaints: list[str]
    unresolved: int
    text: str
    figures: list[dict]
    images: list[str]
    narrow_width: int


@pytest.fixture(scope="module", params=["sample", "committed"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def visits(folder, open_page):
    """Every page of a book, each opened once."""
    seen = []
    for path in sorted(folder.rglob("*.html")):
        page = open_page(path)
        figures = page.evaluate("""[...document.querySelectorAll(".book-figure")].map((figure) => ({
            drawn: figure.querySelectorAll(".book-plot svg.main-svg").length,
            role: figure.querySelector(".book-plot").getAttribute("role"),
            words: figure.querySelector(".book-plot").getAttribute("aria-label") }))""")
        images = page.evaluate("[...document.querySelectorAll('main img:not([alt])')].map((image) => image.src)")
        lost, text = page.locator(".quarto-unresolved-ref").count(), page.inner_text("main")
        page.set_viewport_size({"width": 375, "height": 740})
        width = page.evaluate("document.documentElement.scrollWidth")
        seen.append(Visit(path.name, page.asked, page.complaints, lost, text, figures, images, width))
        page.close()
    return seen


def test_pages_load_nothing_from_elsewhere(visits):
    for visit in visits:
        assert [url for url in visit.asked if urlparse(url).scheme not in ("file", "data", "blob")] == [], visit.name


def test_pages_complain_of_nothing(visits):
    assert {visit.name: visit.complaints for visit in visits if visit.complaints} == {}


def test_every_reference_and_citation_is_resolved(visits, folder):
    for visit in visits:
        assert visit.unresolved == 0 and "?@" not in visit.text, visit.name
    assert unresolved(folder) == []


def test_every_figure_is_drawn_and_described(visits):
    for visit in visits:
        for figure in visit.figures:
            assert figure["drawn"] and figure["role"] == "figure" and len(figure["words"]) > 20, visit.name
        assert visit.images == [], visit.name


def test_no_page_is_wider_than_a_telephone(visits):
    assert {visit.name: visit.narrow_width for visit in visits if visit.narrow_width > 375} == {}


def test_every_link_inside_the_book_leads_somewhere(folder):
    for path in folder.rglob("*.html"):
        text = re.sub(r"<script.*?</script>", "", path.read_text(), flags=re.DOTALL)
        for address in set(re.findall(r'(?:href|src)="([^"]+)"', text)):
            where = urlparse(address)
            if where.scheme:
                continue
            target = path.parent / unquote(where.path) if where.path else path
            assert target.exists(), f"{path.name} leads to {address}"
            if where.fragment and target.suffix == ".html":
                assert f'id="{unquote(where.fragment)}"' in target.read_text(), f"{path.name} leads to {address}"


def test_figures_follow_the_theme_and_the_theme_follows_the_reader(sample, open_page):
    def colours(page):
        return page.evaluate("""[getComputedStyle(document.body).backgroundColor,
                                 document.querySelector('.book-plot .xtick text').style.fill]""")

    path = sample / "chapters" / "01-first.html"
    light, dark = open_page(path, color_scheme="light"), open_page(path, color_scheme="dark")
    assert colours(light)[0] == "rgb(253, 252, 249)" and colours(dark)[0] == "rgb(20, 24, 29)"
    assert colours(light)[1] != colours(dark)[1]
    light.locator(".quarto-color-scheme-toggle").first.click()
    light.wait_for_function("wanted => document.querySelector('.book-plot .xtick text').style.fill === wanted", arg=colours(dark)[1])
    assert colours(light) == colours(dark)


def test_search_works_from_disk(sample, open_page):
    page = open_page(sample / "chapters" / "01-first.html")
    page.keyboard.press("/")
    page.wait_for_selector(".aa-Input:focus")
    page.keyboard.type("matrix")
    assert "Second chapter" in page.wait_for_selector(".search-result-title").inner_text()
    assert page.complaints == []


def test_the_data_of_a_figure_can_be_downloaded_by_keyboard(sample, open_page):
    def saved(name):
        page = open_page(sample / "chapters" / name)
        page.locator(".book-data").focus()
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        return download.value.suggested_filename, download.value.path().read_text().splitlines()

    name, lines = saved("01-first.html")
    assert name == "fig-first-curves.csv"
    assert lines[0] == "trace,x,y" and lines[1] == "dense,1,0.8" and len(lines) == 1 + 2 * 6
    name, lines = saved("02-second.html")  # an array that plotly stores in base64
    assert lines[:3] == ["trace,x,y,z", "trace 1,0,0,0", "trace 1,1,0,1"] and len(lines) == 13


def test_the_ledger_is_sorted_filtered_and_exported(committed, open_page):
    page = open_page(committed / "chapters" / "12-papers-and-claims.html", accept_downloads=True)
    body = page.locator(".book-ledger tbody tr")
    count = body.count()
    first_words = (
        "[...document.querySelectorAll('.book-ledger tbody tr:not([hidden]) td:first-child')].map((cell) => cell.innerText.trim())"
    )
    head = page.locator(".book-ledger thead button").first
    head.click()
    rising = page.evaluate(first_words)
    head.click()
    assert count == len(rising) > 50 and page.evaluate(first_words) == rising[::-1] and rising != rising[::-1]
    assert page.locator(".book-ledger th").first.get_attribute("aria-sort") == "descending"

    page.locator(".book-ledger input").fill("fedus2022switch experts")
    shown = len(page.evaluate(first_words))
    assert 0 < shown < count and f"{shown} of {count}" in page.locator(".book-ledger [role=status]").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="All claims as JSON").click()
    exported = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert len(exported) == count and {"claim", "edition_verdict", "edition_low", "criterion", "text"} <= exported[0].keys()
    assert not page.complaints


def test_numbers_references_and_parameters_stand_in_the_page(sample, open_page):
    page = open_page(sample / "chapters" / "02-second.html")
    text = page.inner_text("main").replace("\xa0", " ")
    assert "see Figure 1.1, Table 1.1 and (Sample and Other 2020)" in text and "It follows Chapter 1." in text
    assert "Figure 2.1: Load per expert" in text and "knob: int = 6" in text and 'scale: str = "smoke"' in text
    assert page.locator(".callout").count() == 0 and page.locator("button.code-copy-button").count() > 2
    first = open_page(sample / "chapters" / "01-first.html")
    assert first.locator("math").count() == 2 and first.locator("details.code-fold").count() >= 3
    assert "2 runs · seeds 0, 1 · digits · commit 0123abc · torch 2.11" in first.inner_text(".book-figure-note")
    link = first.get_by_text("Download notebook")
    assert link.get_attribute("download") == "01-first.ipynb"
    notebook = json.loads((sample / "chapters" / link.get_attribute("href")).resolve().read_text())
    assert notebook["metadata"]["book"]["parameters"] == {"scale": "smoke", "knob": 6}


def test_a_reference_that_leads_nowhere_fails_even_a_plain_render(quarto, tmp_path):
    write_book(tmp_path)
    with open(tmp_path / "index.qmd", "a") as index:
        index.write("\nSee @fig-nowhere and [@nobody1999].\n")
    answer = subprocess.run([quarto, "render", tmp_path], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert answer.returncode != 0
    assert "unresolved reference in index.html: @fig-nowhere" in answer.stderr
    assert "unresolved reference in index.html: citation @nobody1999" in answer.stderr


def test_the_repository_setting_counts_without_any_other_change(quarto, sample):
    """Quarto keeps what the filter made of a notebook; a new address must not wait for the notebook's next edit."""
    root = sample.parent / "_build" / "smoke"
    page = (sample / "chapters" / "01-first.html").read_text()
    assert "Open in Colab" not in page and 'href="../lib/runs/scales.py"' in page
    assert "WARN" not in (root / "logs" / "quarto.log").read_text()
    (root / "_variables.yml").write_text('repository: "https://github.com/owner/name"\n')
    subprocess.run([quarto, "render", root / "chapters" / "01-first.ipynb"], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    page = (root / "_book" / "chapters" / "01-first.html").read_text()
    assert "https://colab.research.google.com/github/owner/name/blob/main/chapters/01-first.ipynb" in page
    assert "https://github.com/owner/name/blob/main/lib/runs/scales.py" in page


def test_hidden_code_stays_hidden_on_the_next_page(committed, open_page):
    page = open_page(committed / "chapters" / "08-attention.html")
    folds = "[...document.querySelectorAll('main details')].filter((fold) => fold.querySelector('.sourceCode') && fold.open).length"
    assert page.evaluate(folds) > 0
    page.evaluate("document.getElementById('quarto-hide-all-code').click()")
    assert page.evaluate(folds) == 0
    page.goto((committed / "chapters" / "09-private-inference.html").as_uri())
    assert page.evaluate(folds) == 0
    page.evaluate("document.getElementById('quarto-show-all-code').click()")
    assert page.evaluate(folds) > 0


def test_old_addresses_of_sections_lead_to_the_chapters_that_have_them_now(committed, open_page):
    page = open_page(committed / "index.html")
    for old, subject in (("nasty", "teachers"), ("exits", "teachers"), ("tinybert", "tickets"), ("deit", "distillation")):
        page.goto((committed / "chapters" / section("distillation", old).partition("#")[0]).as_uri() + f"#sec-distillation-{old}")
        page.wait_for_url(f"**/{section(subject, old)}")
        assert page.locator(f"#sec-{subject}-{old}").count() == 1


def test_scripts_that_quarto_starts_need_no_package(tmp_path):
    for name in ("prerender.py", "postrender.py"):
        (tmp_path / "lib" / "book").mkdir(parents=True, exist_ok=True)
        sheets = ("sheets/__init__.py", "sheets/dark.py", "sheets/lean.py", "first_paint.py")
        books = (name, "filters.py", *sheets, "moved.py", "search_index.py")
        for needed in ("__init__.py", "studies/__init__.py", "system/checks.py", *(f"book/{script}" for script in books)):
            (tmp_path / "lib" / needed).parent.mkdir(exist_ok=True, parents=True)
            shutil.copyfile(ROOT / "lib" / needed, tmp_path / "lib" / needed)
        answer = subprocess.run([sys.executable, "-I", "-S", tmp_path / "lib" / "book" / name], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
    assert not (tmp_path / "assets").exists()
