"""The budget explorer: what its slider and buttons show is right, and it is small."""

import json
import re
import shutil

import pandas as pd
import pytest

from lib.cli.doctor import BROWSERS
from lib.figures.explorer import LINE, TRACES, amount, budget_explorer, runs

NAMES = ("parameters", "flops", "latency_ms")


def found(layers: int, members: int) -> pd.DataFrame:
    """The worst for space: neighbouring layers all differ."""
    return pd.DataFrame(
        [
            {
                "depth": layers,
                "heads": [1 + (i + m) % 6 for i in range(layers)],
                "hidden": [1024 - i % 2 - m for i in range(layers)],
                "experts": [8 + i % 2 * 8 for i in range(layers)],
                "k": [1 + i % 2 for i in range(layers)],
                "parameters": 1_234_567 * (m + 1),
                "flops": 9_876_543_21 * (m + 1),
                "latency_ms": 1.2345 * (m + 1),
                "val_accuracy": 0.6 + 0.3 * (m / members) ** 0.5,
                "test_accuracy": 0.61 if m % 2 else None,
            }
            for m in range(members)
        ]
    )


FRONT = found(12, 16)
SAMPLES = pd.DataFrame(
    [
        {"parameters": 164_321 * i + 54_321, "flops": 1.3e8 * i + 1.1e7, "latency_ms": 0.1641 * i + 0.0321, "val_accuracy": 0.5 + i / 411}
        for i in range(120)
    ]
)


@pytest.fixture(scope="module")
def figure():
    return budget_explorer(SAMPLES, {name: FRONT for name in NAMES})


def test_it_is_small_plain_and_described(figure):
    text = json.dumps(figure.to_plotly_json(), allow_nan=False)
    assert len(text) < 50_000 and not re.search("bdata|http", text)
    assert "slider" in figure.layout.meta["alt"] and "latency from 60.0%" in figure.layout.meta["alt"]
    assert not figure.frames


def test_each_stop_shows_the_best_within_its_budget(figure):
    whole = max(FRONT.parameters.max(), SAMPLES.parameters.max())
    for stop in figure.layout.sliders[0].steps:
        data, layout, traces = stop.args
        budget = float(stop.label.rstrip("%")) / 100
        within = FRONT[FRONT.parameters <= budget * whole]
        assert data["y"][1] == [pytest.approx(within.val_accuracy.max(), abs=1e-4)]
        assert data["x"][0][0] == pytest.approx(budget * whole / 1e6, rel=1e-3) and data["x"][1][0] <= data["x"][0][0]
        assert f"{within.val_accuracy.max():.1%}" in layout["annotations[0].text"]
        assert list(traces) == [2, 3]


def test_budgets_that_nothing_fits_have_no_stop():
    figure = budget_explorer(SAMPLES, {"parameters": FRONT.iloc[8:]})
    shares = [float(stop.label.rstrip("%")) / 100 for stop in figure.layout.sliders[0].steps]
    assert min(shares) * SAMPLES.parameters.max() >= FRONT.parameters.iloc[8] and max(shares) == 1
    assert not figure.layout.updatemenus


def test_buttons_switch_traces_slider_and_description_together(figure):
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["parameters", "FLOPs", "latency"]
    for place, button in enumerate(buttons):
        data, layout = button.args
        shown = [index for index, visible in enumerate(data["visible"]) if visible]
        assert shown == [*range(TRACES * place, TRACES * (place + 1))]
        assert [layout[f"sliders[{i}].visible"] for i in range(3)] == [i == place for i in range(3)]
        assert [layout[f"annotations[{i}].visible"] for i in range(3)] == [i == place for i in range(3)]
        moved = [TRACES * place + 2, TRACES * place + 3]
        assert all(list(stop.args[2]) == moved for stop in figure.layout.sliders[place].steps)
    assert sum(trace.visible for trace in figure.data) == TRACES


def test_descriptions_fit_a_telephone(figure):
    texts = [stop.args[1][f"annotations[{place}].text"] for place, slider in enumerate(figure.layout.sliders) for stop in slider.steps]
    for text in texts:
        lines = re.sub("</?b>", "", text).split("<br>")
        assert max(map(len, lines)) <= LINE + 6
    assert any("test 61.0%" in text for text in texts) and not any("nan" in text for text in texts)


def test_numbers_and_layers_are_told_shortly():
    assert [amount(value) for value in (999, 1_234, 2_500_000, 3.21e9)] == ["999", "1.23k", "2.5M", "3.21G"]
    assert [runs([8, 8, 8]), runs([8, 8, 4]), runs([1, 2, 2])] == ["8", "8×2 4", "1 2×2"]


def test_nothing_to_draw_says_what_to_do():
    with pytest.raises(ValueError, match="missing"):
        budget_explorer(SAMPLES, {"parameters": FRONT.iloc[:0]})


@pytest.mark.parametrize("step", [0.3, 0.0, 2.0])
def test_steps_that_do_not_end_at_the_whole_are_refused(step):
    with pytest.raises(ValueError, match="step is"):
        budget_explorer(SAMPLES, {"parameters": FRONT}, step=step)


@pytest.mark.slow
def test_in_a_browser_the_slider_and_the_buttons_keep_together(figure, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="`pip install playwright` is needed to see pages")
    program = next(filter(None, map(shutil.which, BROWSERS)), None) or pytest.skip("no Chromium or Chrome was found")
    page_file = tmp_path / "figure.html"
    page_file.write_text(figure.to_html(include_plotlyjs=True, config={"responsive": True}), encoding="utf-8")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        for place, button in [(0, None), (2, 2)]:
            if button is not None:
                page.locator(".updatemenu-button").nth(button).click()
                page.wait_for_timeout(300)
            rail = page.locator(".slider-rail-touch-rect").first
            rail.wait_for()
            box = rail.bounding_box()
            page.mouse.click(box["x"] + box["width"] * 0.98, box["y"] + box["height"] / 2)
            page.wait_for_timeout(300)
            assert page.locator(".slider-group").count() == 1
            text = page.locator(".annotation-text").text_content()
            assert "≤ 100%" in text and ("latency" if place else "parameters") in text
            for selector in (".annotation-text", ".updatemenu-button >> nth=2", ".slider-group"):
                here = page.locator(selector).bounding_box()
                assert here["x"] >= 0 and here["x"] + here["width"] <= 390, selector
            plot, words = page.locator(".nsewdrag").bounding_box(), page.locator(".annotation-text").bounding_box()
            assert words["y"] + words["height"] <= plot["y"]
        browser.close()
    assert not errors
