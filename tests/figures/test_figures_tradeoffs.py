"""The figure of costs and the figure of chains: what they show is right for each cost, and they are small."""

import itertools
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from lib import ROOT
from lib.book.filters import figure_html
from lib.cli.doctor import BROWSERS
from lib.figures.chains import chain_figure
from lib.figures.compare import frontier
from lib.figures.theme import COLOURS
from lib.figures.tradeoff_parts import LINK, beyond_baseline
from lib.figures.tradeoffs import Cost, tradeoff_explorer
from lib.measure.statistics import student

FAMILIES = {"vit": "transformer", "cnn": "convolutional"}
COSTS = {
    "flops": Cost("FLOPs", "FLOPs of one image"),
    "bytes": Cost("file size", "bytes of the file"),
    "ms": Cost("latency", "milliseconds at batch 1"),
}
NETWORKS = [
    ("vit", "dense", "dense", 1.0),
    ("vit", "dense, 1/2 width", "dense", 0.5),
    ("vit", "dense, 1/4 width", "dense", 0.25),
    ("vit", "pruned to 1/4", "pruning", 0.6),
    ("vit", "Switch, 8 experts", "switch", 2.0),
    ("vit", "4 bits", "quantization", 0.3),
    ("cnn", "dense", "dense", 0.1),
    ("cnn", "dense, 1/2 width", "dense", 0.05),
    ("cnn", "pruned to 1/4", "pruning", 0.07),
    ("cnn", "early exits", "early_exit", 0.06),
]


def runs(networks=NETWORKS, seeds=3) -> pd.DataFrame:
    """Files of pruned networks shrink where their FLOPs grow, and the Switch network has not been timed."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "family": family,
                "name": name,
                "method": method,
                "seed": seed,
                "test_accuracy": 0.8 + 0.05 * np.log(size) + random.normal(0, 0.02),
                "flops": size * 1e9,
                "bytes": 1e6 * size ** (-1 if method == "pruning" else 1),
                "ms": np.nan if method == "switch" else size / 10,
                "verdict": None if method == "dense" else "like",
                "link": f"04-pruning.html#sec-{method.replace('_', '-')}",
                "command": f"python -m lib run benchmarks --scale cpu --key {seed}",
            }
            for family, name, method, size in networks
            for seed in range(seeds)
        ]
    )


@pytest.fixture(scope="module")
def frame():
    return runs()


@pytest.fixture(scope="module")
def figure(frame):
    return tradeoff_explorer(frame, COSTS, FAMILIES)


def states(figure):
    """For each cost, its column, what the menu's entry changes, and for which traces."""
    return [(column, *button.args) for column, button in zip(COSTS, figure.layout.updatemenus[0].buttons)]


def drawn(figure, group):
    return [index for index, trace in enumerate(figure.data) if trace.legendgroup == group and list(trace.x) != [None]]


def test_it_is_small_plain_and_described(figure):
    many = [(family, f"{name}, variant {i}", method, size * (1 + i / 10)) for i in range(4) for family, name, method, size in NETWORKS]
    eight = {f"cost {i}": cost for i, cost in enumerate([*COSTS.values()] * 3)}
    large = tradeoff_explorer(runs(many).assign(**{name: lambda frame: frame["flops"] for name in eight}), eight, FAMILIES)
    for found, most in ((figure, 20_000), (large, 60_000)):
        text = json.dumps(found.to_plotly_json(), allow_nan=False, separators=(",", ":"))
        assert len(text) < most and not re.search("bdata|http", text)
    alt = figure.layout.meta["alt"]
    assert "6 networks are transformer" in alt and "4 networks are convolutional" in alt and "file size; latency" in alt


def test_points_lines_and_frontiers_move_together(frame, figure):
    means = frame.groupby(["family", "name"], sort=False).mean(numeric_only=True).reset_index()
    means["method"] = means["name"].map(dict(zip(frame["name"], frame["method"])))
    for column, data, layout, traces in states(figure):
        assert list(traces) == list(range(len(traces)))
        assert all(list(trace.x) == [None] for trace in figure.data[len(traces) :])  # the legend's own marks
        found = {name: [] for name in ("line", "frontier", "point")}
        for index in traces:
            trace, values = figure.data[index], list(zip(data["x"][index], data["y"][index]))
            kind = "point" if trace.mode == "markers" else "frontier" if trace.name == "frontier" else "line"
            found[kind].append(values)
        for family, lines, fronts in zip(("vit", "cnn"), found["line"], found["frontier"]):
            mine = means[means["family"] == family]
            dense = mine[mine["method"] == "dense"].sort_values(column)
            assert np.allclose(lines, dense[[column, "test_accuracy"]], rtol=1e-3)
            best = frontier(mine.dropna(subset=[column]), column, "test_accuracy")
            assert np.allclose(fronts, best[[column, "test_accuracy"]], rtol=1e-3)
        shown = sorted(point for values in found["point"] for point in values if point[0] is not None)
        measured = means.dropna(subset=[column])[[column, "test_accuracy"]]
        assert np.allclose(shown, sorted(measured.values.tolist()), rtol=1e-3)
        assert layout["xaxis.title.text"] == COSTS[column].title and layout["xaxis.autorange"]
    first = states(figure)[0]
    for index in first[3]:  # it starts with what the first entry would draw
        assert list(figure.data[index].x) == first[1]["x"][index] and list(figure.data[index].y) == first[1]["y"][index]
    assert (figure.layout.xaxis.type, figure.layout.xaxis.title.text) == ("log", "FLOPs of one image")


def test_small_numbers_are_written_out_and_large_ones_with_a_letter(figure):
    formats = {column: layout["xaxis.tickformat"] for column, _, layout, _ in states(figure)}
    assert formats == {"flops": "~s", "bytes": "~s", "ms": "~g"}


def test_points_carry_interval_verdict_command_and_link(frame, figure):
    trace = figure.data[drawn(figure, "pruning")[0]]
    ((before, after, link),) = trace.customdata
    estimate = student(frame[(frame["family"] == "vit") & (frame["method"] == "pruning")]["test_accuracy"])
    said = before.replace("<br>", " ")
    assert "<b>pruned to 1/4</b>" in said and f"{estimate.low:.1%} to {estimate.high:.1%} (n=3)" in said
    assert "not told apart from dense" in after and "--key 0" in after and link == "04-pruning.html#sec-pruning"
    assert trace.error_y.array[0] == pytest.approx(estimate.half_width, rel=1e-3)
    assert figure.layout.meta["link"] == LINK and trace.customdata[0][LINK] == link
    for shown in re.sub("</?[bi]>", "", f"{before}<br>{after}").split("<br>"):
        assert len(shown) <= 40
    dense = figure.data[drawn(figure, "dense")[-1]]
    assert "apart" not in dense.customdata[0][1] and "%{text}" not in dense.hovertemplate


def test_families_have_filled_and_open_marks_of_one_colour(figure):
    vit, cnn = (figure.data[index] for index in drawn(figure, "pruning"))
    assert (vit.marker.symbol, cnn.marker.symbol) == ("triangle-left", "triangle-left-open")
    assert vit.marker.color == cnn.marker.color == COLOURS["pruning"]


def test_family_buttons_show_one_family_and_keep_the_legend(figure):
    both, vit, cnn = (button.args[0]["visible"] for button in figure.layout.updatemenus[1].buttons)
    assert all(both) and len(both) == len(vit) == len(cnn) == len(figure.data)
    moving = len(states(figure)[0][3])
    assert all(vit[moving:]) and all(cnn[moving:])
    assert [a != b for a, b in zip(vit[:moving], cnn[:moving])] == [True] * moving
    assert [vit[index] for index in drawn(figure, "pruning")] == [True, False]
    listed = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert listed == ["Dense", "Pruning", "Switch", "Quantization", "Early exit", "frontier"]


def test_one_family_needs_no_buttons_and_one_seed_has_no_interval():
    figure = tradeoff_explorer(runs(NETWORKS[:4], seeds=1), COSTS, FAMILIES)
    assert len(figure.layout.updatemenus) == 1
    assert all(trace.error_y.array in (None, (None,), (None,) * 3) for trace in figure.data)


def test_distance_from_the_dense_line_follows_the_logarithm_of_the_cost():
    frame = pd.DataFrame(
        [
            ("vit", "a", "dense", 1.0, 0.5),
            ("vit", "b", "dense", 100.0, 0.7),
            ("vit", "c", "pruning", 10.0, 0.65),
            ("vit", "d", "pruning", 1000.0, 0.9),
            ("vit", "e", "pruning", np.nan, 0.9),
            ("cnn", "f", "pruning", 10.0, 0.9),
        ],
        columns=["family", "name", "method", "cost", "accuracy"],
    )
    found = beyond_baseline(frame, "cost", "accuracy")
    assert found.tolist()[:3] == pytest.approx([0, 0, 0.05]) and found.isna().tolist() == [False] * 3 + [True] * 3
    figure = tradeoff_explorer(frame, {"cost": COSTS["flops"]}, FAMILIES, accuracy="accuracy")
    assert list(figure.data[drawn(figure, "pruning")[0]].text) == ["+5.0 points", "none", "none"]


@pytest.mark.parametrize(
    "change, costs, says",
    [
        (lambda frame: frame.iloc[:0], COSTS, "missing"),
        (lambda frame: frame.assign(flops=np.nan, bytes=np.nan, ms=np.nan), COSTS, "missing"),
        (lambda frame: frame, {"flop": COSTS["flops"]}, "Did you mean 'flops'"),
        (lambda frame: frame.assign(family="rnn"), COSTS, "rnn"),
        (lambda frame: frame.assign(flops=0.0), COSTS, "'flops' holds 0"),
    ],
)
def test_what_cannot_be_drawn_says_why(frame, change, costs, says):
    with pytest.raises(ValueError, match=says):
        tradeoff_explorer(change(frame), costs, FAMILIES)


def test_costs_without_values_are_left_out(frame):
    figure = tradeoff_explorer(frame.assign(ms=np.nan), COSTS, FAMILIES)
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["FLOPs", "file size"]


def chains() -> pd.DataFrame:
    parts = ("pruned to 1/4", "4 bits", "distilled")
    orders = [("pruned to 1/4",), *itertools.permutations(parts[:2]), *itertools.permutations(parts)]
    return pd.DataFrame(
        [
            {
                "name": " → ".join(order),
                "seed": seed,
                "test_accuracy": 0.7 + 0.01 * place + 0.002 * seed,
                "file_bytes": 444_000 / len(order),
            }
            for place, order in enumerate(orders)
            for seed in range(3)
        ]
    )


def test_chains_of_the_same_stages_stand_together_the_best_on_top():
    frame = chains()
    figure = chain_figure(frame)
    rows = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext))
    sizes = dict(zip(figure.layout.yaxis2.tickvals, figure.layout.yaxis2.ticktext))
    means = frame.groupby("name")["test_accuracy"].mean()
    top_down = [rows[height].replace("<br>", " ") for height in sorted(rows, reverse=True)]
    groups = [list(names) for _, names in itertools.groupby(top_down, key=lambda name: sorted(name.split(" → ")))]
    assert [len(names) for names in groups] == [6, 2, 1] and set(top_down) == set(means.index)
    for names in groups:
        assert names == sorted(names, key=lambda name: -means[name])
    assert [sizes[height] for height in sorted(rows, reverse=True)] == ["148kB"] * 6 + ["222kB"] * 2 + ["444kB"]
    shown = {rows[y].replace("<br>", " "): x for trace in figure.data if trace.error_x.array for x, y in zip(trace.x, trace.y)}
    assert shown == {name: pytest.approx(mean, abs=1e-4) for name, mean in means.items()}
    assert len(figure.layout.shapes) == 2 and len(json.dumps(figure.to_plotly_json())) < 20_000


def test_chains_are_told_by_their_best_and_worst_order():
    alt = chain_figure(chains()).layout.meta["alt"]
    assert "4 bits → pruned to 1/4: 72.2%" in alt and "in 222kB, against 71.2%" in alt
    assert re.search(r"pruned to 1/4: 70.2%[^;]* in 444kB\.$", alt)  # alone in its group: against nothing


def test_chains_without_results_say_so():
    with pytest.raises(ValueError, match="missing"):
        chain_figure(chains().iloc[:0])


@pytest.mark.slow
def test_in_the_book_menus_filters_and_clicks_work_from_disk(figure, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="`pip install playwright` is needed to see pages")
    program = next(filter(None, map(shutil.which, BROWSERS)), None) or pytest.skip("no Chromium or Chrome was found")
    for name in ("book.js", "plotly.min.js"):
        shutil.copyfile(ROOT / "assets" / name, tmp_path / name)
    content = figure_html(json.loads(figure.to_json()), "figure-1")
    (tmp_path / "page.html").write_text(
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><body>{content}<script src="book.js"></script>',
        encoding="utf-8",
    )
    (tmp_path / "far.html").write_text(
        f'<meta charset="utf-8"><body><div style="height:9000px"></div>{content}<script src="book.js"></script>', encoding="utf-8"
    )
    (tmp_path / "04-pruning.html").write_text("<h2 id=sec-pruning>Pruning</h2>", encoding="utf-8")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "far.html").as_uri())
        page.wait_for_timeout(300)
        assert not any("plotly" in address for address in asked), "a figure that is far away is neither drawn nor loaded for"
        page.mouse.wheel(0, 8000)
        page.wait_for_selector("html[data-figures=drawn]")
        for width, touch in ((1200, False), (390, True)):
            page = browser.new_page(viewport={"width": width, "height": 900}, has_touch=touch, is_mobile=touch)
            errors = []
            page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            page.goto((tmp_path / "page.html").as_uri())
            page.wait_for_selector("html[data-figures=drawn]")
            page.locator(".book-controls select").select_option(index=2)
            family = page.get_by_role("button", name="□ convolutional")
            family.tap() if touch else family.click()
            page.wait_for_function("document.querySelector('.xtitle').textContent === 'milliseconds at batch 1'")
            page.wait_for_function("document.querySelectorAll('.scatterlayer path.point').length === 4")
            for selector in (".book-controls select", ".book-choice button >> nth=2"):
                box = page.locator(selector).bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= width, selector
            pruned = page.locator(".scatterlayer .trace").filter(has=page.locator("path.point")).nth(1).locator("path.point")
            place = pruned.bounding_box()
            at = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
            if touch:
                page.touchscreen.tap(*at)
                page.locator(".hoverlayer .hovertext").wait_for()
                assert "page.html" in page.url  # the first tap only tells
                page.touchscreen.tap(*at)
            else:
                page.mouse.move(*at)
                page.locator(".hoverlayer .hovertext").wait_for()
                assert "pruned to 1/4" in page.locator(".hoverlayer .hovertext").text_content()
                page.mouse.click(*at)
            page.wait_for_url("**/04-pruning.html#sec-pruning")
            assert not errors
            page.close()
        browser.close()
