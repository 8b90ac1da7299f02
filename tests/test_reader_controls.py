"""What a reader does on the built pages: search, choose in a figure, narrow the ledger, find the contents on a telephone."""

import pytest

from test_reader import DESK, TELEPHONE
from test_rendered import browser, committed, open_page, quarto  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow


def test_a_paper_is_found_by_its_name_and_its_section_comes_first(committed, open_page):
    page = open_page(committed / "index.html", offline=True, **DESK)
    page.keyboard.press("/")
    page.wait_for_function("window.fuseIndex !== undefined")
    page.locator(".aa-Input").first.fill("switch transformer")
    first = page.locator(".aa-Panel a[href*='#']").first  # before it stands the page's own title
    first.wait_for()
    assert "01-moe-routing.html" in first.get_attribute("href") and "#sec-moe-switch" in first.get_attribute("href")
    texts = " ".join(page.evaluate("window.bookSearchIndex.map(({ text }) => text)"))
    assert "import torch" not in texts and "def forward" not in texts, "code is not searched"
    assert not page.evaluate("window.fuseIndex.search('arXiv preprint').some(({ item }) => item.section === 'References')")


def test_a_figures_range_and_buttons_work_by_keyboard(committed, open_page):
    page = open_page(committed / "chapters" / "02-elastic-training.html", **DESK)
    figure = page.locator(".book-figure:has(.book-choice button)").first
    assert page.locator(".slider-container, .updatemenu-container").count() == 0, "none of plotly's own is left"
    ranges, said = figure.locator("input[type=range]:visible"), figure.locator(".book-said:visible")
    before = said.inner_text(), figure.locator("output:visible").inner_text()
    ranges.focus()
    page.keyboard.press("Home")
    after = said.inner_text(), figure.locator("output:visible").inner_text()
    assert after[1] != before[1] and after[0] != before[0], "the words follow the slider"
    assert ranges.get_attribute("aria-valuetext") == after[1]
    second = figure.locator(".book-choice button").nth(1)
    second.focus()
    page.keyboard.press("Enter")
    assert second.get_attribute("aria-pressed") == "true" and figure.locator("input[type=range]:visible").count() == 1
    title = "figure => figure.querySelector('.g-xtitle').textContent"
    assert second.inner_text().split()[0].lower() in figure.evaluate(title).lower()


def test_steps_of_a_mechanism_are_taken_by_keyboard(committed, open_page):
    page = open_page(committed / "chapters" / "08-attention.html", **TELEPHONE)
    steps, range_ = page.locator(".book-steps .book-step"), page.locator(".book-steps input[type=range]")
    assert page.locator(".book-step:visible").count() == 3, "on paper all are shown"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert steps.count() == 3 and page.locator(".book-step:visible").count() == 1
    first = page.locator(".book-step:visible").inner_text()
    range_.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".book-step:visible").count() == 1 and page.locator(".book-step:visible").inner_text() != first
    assert range_.get_attribute("aria-valuetext").startswith("2 of 3: ")


def test_the_mode_bar_is_not_there_for_fingers(committed, open_page):
    page = open_page(committed / "chapters" / "08-attention.html", **TELEPHONE)
    assert page.locator(".modebar-btn").count() == 0


def test_the_ledger_is_narrowed_ordered_and_unfolded(committed, open_page):
    page = open_page(committed / "chapters" / "12-papers-and-claims.html", **DESK)
    ledger = page.locator(".book-ledger")
    shown = ledger.locator("tbody tr:visible")
    all_of_them = shown.count()
    chip = ledger.locator(".book-chips button.reproduced")
    chip.focus()
    page.keyboard.press("Enter")
    reproduced = shown.count()
    assert 0 < reproduced < all_of_them and f"reproduced {reproduced}" == chip.inner_text()
    ledger.locator("select").first.select_option(index=1)
    assert 0 < shown.count() < reproduced
    page.keyboard.press("Escape")
    chip.click()
    ledger.locator("select").first.select_option(index=0)
    ledger.locator("input[type=search]").fill("seen ")
    assert all("seen" in text.lower().replace(".", " ").replace(",", " ").split() for text in shown.all_inner_texts()), "whole words"
    ledger.locator("input[type=search]").fill("")
    row = shown.first
    row.locator(".verdict-button").focus()
    page.keyboard.press("Enter")
    more = ledger.locator(".book-ledger-more:visible")
    assert more.count() == 1 and "Criterion" in more.inner_text() and more.locator("a[href$='.py']").count() == 1
    page.keyboard.press("Enter")
    assert ledger.locator(".book-ledger-more:visible").count() == 0
    ledger.locator("select").nth(2).select_option("beyond")
    first = page.evaluate("document.querySelector('.book-ledger tbody tr .verdict-button').textContent")
    assert "reproduced" in first


def test_a_link_to_a_claim_unfolds_it(committed, open_page):
    page = open_page(committed / "chapters" / "12-papers-and-claims.html", **DESK)
    page.evaluate("location.hash = '#claim-switch-speed'")
    page.wait_for_selector(".book-ledger-more")
    assert "switch-speed" in page.locator(".book-ledger-more").inner_text()


def test_contents_and_the_switch_of_the_theme_are_there_on_a_telephone(committed, open_page):
    page = open_page(committed / "chapters" / "01-moe-routing.html", **TELEPHONE)
    page.locator(".book-contents summary").click()
    page.locator(".book-contents a[href='#sec-moe-balance']").click()
    assert page.evaluate("document.querySelector('#sec-moe-balance').getBoundingClientRect().top") < 400
    assert not page.locator(".book-contents").evaluate("fold => fold.open")
    page.evaluate("scrollTo(0, 0)")
    dark = "document.body.classList.contains('quarto-dark')"
    before = page.evaluate(dark)
    page.locator(".book-theme").click()
    assert page.evaluate(dark) != before
