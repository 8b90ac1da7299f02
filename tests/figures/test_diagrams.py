"""Drawings of mechanisms: well-formed, within their canvas, legible on a phone, described in words, and true to what they are given."""

import re
from xml.etree import ElementTree

import pytest

from lib.figures.diagrams import attention, distillation, elastic, growth, moe, privacy, pruning, teachers, tickets
from lib.figures.diagrams.elastic import Layer
from lib.figures.diagrams.parts import listed, short, signed
from lib.figures.drawing import Drawing, Steps, text

#: The text's size on a phone, in units, and a letter's width of it in a wide font; other letters and digits are 0.64 wide.
SIZE = 19
WIDTHS = {
    **dict.fromkeys("ijlI.,:;'′|· ", 0.32),
    **dict.fromkeys("frt()-", 0.4),
    **dict.fromkeys("mMwW%", 0.98),
    **dict.fromkeys("+−=×≠→↓", 0.84),
}

SMALL = Layer((0,), 12, (1, 3), 1)
WHOLE = {place: Layer((0, 1, 2), 48, tuple(range(8)), 2) for place in range(4)}
#: Numbers that the grid's description leaves out: of soft routing it has the first token's.
SOFT = {".55", ".15", ".19", ".11", ".36", ".41", ".13", ".10"}
MASK = [[True, False, True], [False, True, False], [True, True, False]]
KEPT = [([1.0, 0.0, 0.5], [1.0, 0.25]), ([0.0, 0.0, 1.0], [1.0, 0.0])]

DRAWINGS = {
    "layer": lambda: moe.layer(
        [0.83, -1.42], [0.16, 0.24, 0.06, 0.54], [0, 0.31, 0, 0.69], [[9, 9], [-0.21, 0.07], [9, 9], [0.33, 0.53]], [0.17, 0.39]
    ),
    "grid": lambda: moe.grid(
        [0, 0, 1],
        [[0.71, 0, 0, 0], [0, 0, 0, 0], [0, 0.62, 0, 0]],
        [[0.72, 0.28, 0, 0], [0, 0.44, 0, 0], [0, 0, 0, 0]],
        [[0.73, 0.17, 0.04, 0.06], [0.55, 0.15, 0.19, 0.11], [0.36, 0.41, 0.13, 0.10]],
    ),
    "structures": lambda: pruning.structures(
        [[3.0, 1.0] * 4, [-2.0, 0.0] * 4] * 4, {"unstructured": [[True, False] * 4] * 8, "filter": [[True] * 8, [False] * 8] * 4}
    ),
    "packed_file": lambda: pruning.packed_file(
        [0, -0.32, 0, 0.21, 0, 0, 0, -0.28], [1, 2, 3], [4, 12, 7], {"codes": 262, "positions": 214, "norms": 0, "header": 196}, 9480
    ),
    "widening": lambda: growth.widening(
        [[0.81, -0.42], [0.33, 0.64]], [1, -1], [1.23, -0.31], [[-0.09, -0.08, 0.90, -0.34]] + [[0.11] * 4] * 3, [1.24, -0.32, 1.25, -0.33]
    ),
    "deepening": lambda: growth.deepening(
        4,
        {"stack": [(i % 4, False) for i in range(8)], "interleaved": [(i // 2, i % 2 == 1) for i in range(8)]},
        {"stack": 2.49, "interleaved": 0.0},
    ),
    "tile": lambda: attention.tile(3, 2, 1, 1, [[1.42, -0.31], [-0.98, 0.21]], [0.55, 1.33, 0.61], [1.43, 1.73, 0.28]),
    "masks": lambda: attention.masks({"causal": [[True, False], [True, True]], "window": [[True, False], [False, False]]}),
    "losses": lambda: distillation.losses(
        {"features": {"FitNets": 1.62, "AT": 0.018}, "embedding": {"RKD": 0.27}, "logits": {"KD": 0.21, "DKD": 1.7, "DIST": 33.0}}
    ),
    "tokens": lambda: distillation.tokens(64, "cat", "dog", (0.62, 0.48), (0.55, 0.60)),
    "game": lambda: teachers.game(0.021, 0.034, 0.009, 10),
    "exits": lambda: teachers.exits([0.90, 0.85], [[0.97, 0.11, 0.12], [0.55, 0.71, 0.83]], [0, 2], [0.43, 0.73, 1.0]),
    "nested": lambda: elastic.nested(
        4,
        3,
        48,
        8,
        {"whole": WHOLE, "one size for all": {0: SMALL}, "by layer": {0: SMALL, 2: SMALL}},
        {"whole": 1.0, "one size for all": 0.21, "by layer": 0.37},
    ),
    "steps": lambda: elastic.steps(
        4,
        48,
        8,
        {
            "sandwich": [(WHOLE, "labels"), ({0: SMALL}, "largest"), (WHOLE, "largest"), (WHOLE, "largest")],
            "progressive": [({1: SMALL}, "both")],
        },
    ),
    "triple": lambda: privacy.triple(
        [("X", -16, 22, "secret"), ("Z = A · B", -17, -10, "dealer"), ("E = X − A", -165, 189, "opened"), ("X · Y", 1, 2, "result")]
    ),
    "replacements": lambda: privacy.replacements(
        [-1, 0, 1],
        {"ReLU": [0, 0, 1], "parabola (DaPa)": [0.1, 0.1, 0.9], "identity (SNL)": [-1, 0, 1]},
        {"ReLU": 1168, "parabola (DaPa)": 16, "identity (SNL)": 0},
        {"ReLU": 0.0, "parabola (DaPa)": 0.03, "identity (SNL)": 1.69},
    ),
    "removals": lambda: tickets.removals({name: KEPT for name in ("whole", "LTH", "Prasanna et al.", "EBERT, text 1")}),
    "rewinding": lambda: tickets.rewinding(
        [[-0.24, -0.31, -0.28], [0.33, -0.11, 0.97], [-0.71, -0.38, 0.32]],
        [[0.44, 0.02, 0.45], [0.03, 0.46, 0.04], [0.47, 0.48, 0.05]],
        MASK,
    ),
}


def tree(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.svg)


def elements(drawing: Drawing, tag: str) -> list[ElementTree.Element]:
    return [one for one in tree(drawing).iter() if one.tag.endswith(f"}}{tag}")]


def words(drawing: Drawing) -> list[str]:
    return [one.text for one in elements(drawing, "text")]


def classed(drawing: Drawing, kind: str) -> list[ElementTree.Element]:
    return [one for one in elements(drawing, "rect") if one.get("class") == kind]


def text_box(one: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a text as a phone has it."""
    wide = SIZE * sum(WIDTHS.get(letter, 0.64) for letter in one.text)
    kinds = (one.get("class") or "").split()
    left = float(one.get("x")) - (wide if "e" in kinds else wide / 2 if "c" in kinds else 0)
    y = float(one.get("y"))
    return left, y - 0.75 * SIZE, left + wide, y + 0.2 * SIZE


def path_box(shape: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the points of a path."""
    x = y = 0.0
    found = []
    for command, numbers in re.findall(r"([MLHVCZhvlz])([^MLHVCZhvlz]*)", shape):
        values = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", numbers)]
        if command in "HhVv":
            for value in values:
                x, y = {"H": (value, y), "h": (x + value, y), "V": (x, value), "v": (x, y + value)}[command]
                found.append((x, y))
        for a, b in zip(values[::2], values[1::2]) if command in "MLCl" else ():
            x, y = (x + a, y + b) if command == "l" else (a, b)
            found.append((x, y))
    return min(a for a, _ in found), min(b for _, b in found), max(a for a, _ in found), max(b for _, b in found)


def boxes(drawing: Drawing) -> list[tuple[str, tuple[float, float, float, float]]]:
    shapes = []
    for one in elements(drawing, "rect"):
        x, y, wide, high = (float(one.get(name)) for name in ("x", "y", "width", "height"))
        shapes.append(("rect", (x, y, x + wide, y + high)))
    for one in elements(drawing, "circle"):
        x, y, radius = (float(one.get(name)) for name in ("cx", "cy", "r"))
        shapes.append(("circle", (x - radius, y - radius, x + radius, y + radius)))
    return (
        shapes
        + [(one.get("d"), path_box(one.get("d"))) for one in elements(drawing, "path")]
        + [(one.text, text_box(one)) for one in elements(drawing, "text")]
    )


def collisions(drawing: Drawing) -> list[tuple[str, str]]:
    """Pairs of texts that overlap on a phone."""
    placed = [(one.text, text_box(one)) for one in elements(drawing, "text")]
    return [
        (first, second)
        for i, (first, a) in enumerate(placed)
        for second, b in placed[i + 1 :]
        if min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 0.5
    ]


def test_collisions_and_canvas_are_seen():
    drawing = Drawing("x", "words", 100, 50, [text(0, 20, "seventeen"), text(40, 24, "letters"), text(0, 48, "fine")])
    assert collisions(drawing) == [("seventeen", "letters")]
    assert path_box("M10 20H30l-5-5v40") == (10, 15, 30, 55)
    assert dict(boxes(drawing))["letters"][2] > 100


@pytest.mark.parametrize("name", DRAWINGS)
def test_it_is_well_formed_and_described(name):
    drawing = DRAWINGS[name]()
    assert tree(drawing).get("aria-label") == drawing.alt and len(drawing.alt) > 60
    assert drawing.width <= 640 and SIZE * 350 / drawing.width > 11
    shown = {number for word in words(drawing) for number in re.findall(r"\d*\.\d+|\d+%|\d{2,}", word)}
    missing = {number for number in shown if number not in drawing.alt.replace(",", "") and number not in drawing.alt}
    assert missing == (SOFT if name == "grid" else set())


@pytest.mark.parametrize("name", DRAWINGS)
def test_nothing_leaves_the_canvas_and_no_texts_meet(name):
    drawing = DRAWINGS[name]()
    outside = [
        what
        for what, (left, top, right, bottom) in boxes(drawing)
        if left < 0 or top < 0 or right > drawing.width or bottom > drawing.height
    ]
    assert outside == []
    assert collisions(drawing) == []


def test_each_drawing_has_a_name_of_its_own():
    assert len({DRAWINGS[name]().id for name in DRAWINGS}) == len(DRAWINGS)


def test_numbers_are_told_shortly():
    assert [signed(v) for v in (-0.301, 0.0, -0.001)] == ["−0.30", "0.00", "0.00"]
    assert [short(v) for v in (0.25, -0.3, 1.0, -0.001, -1.0)] == [".25", "−.30", "1.0", ".00", "−1.0"]
    assert [listed(v) for v in ([], [1], [1, 2], [1, 2, 3])] == ["none", "1", "1 and 2", "1, 2 and 3"]


# Each shows what it is given


def test_layer_shows_its_token_and_only_the_outputs_of_experts_that_run():
    drawing = DRAWINGS["layer"]()
    assert {"0.83", "−1.42", "0.16", "0.54", "× 0.31", "× 0.69", "(−0.21, 0.07)", "(0.33, 0.53)", "0.17", "0.39"} <= set(words(drawing))
    assert "(9.00, 9.00)" not in words(drawing) and len(classed(drawing, "off")) == 2


def test_grid_counts_and_names_who_is_left_out():
    shown = words(DRAWINGS["grid"]())
    assert {".71", ".62", ".72", ".28", ".44", ".73", ".17", "dropped: 2", "unserved: 3", "all mixed"} <= set(shown)
    assert shown.count("×") == 1 and shown.count("3") == 5  # token 3, and three tokens for each soft expert


def test_structures_say_what_each_mask_keeps():
    drawing = DRAWINGS["structures"]()
    assert {"83% of Σ|w|", "67% of Σ|w|"} <= set(words(drawing))  # 5 and 4 of 6
    assert len(classed(drawing, "run")) == 64 + 32 + 32


def test_packed_file_has_gaps_codes_and_bytes():
    drawing = DRAWINGS["packed_file"]()
    assert {"−.32", ".21", "−.28", "4", "12", "7", "262 bytes", "214 bytes", "196 bytes", "together 672; in 32 bits each: 9,480"} <= set(
        words(drawing)
    )
    assert "0 bytes" not in words(drawing)


def test_widening_shows_both_matrices_and_a_sum():
    assert {"0.81", "−0.42", "0.90", "1.23", "1.24", "1.25", "−0.33", "−0.09 + 0.90 = 0.81"} <= set(words(DRAWINGS["widening"]()))


def test_deepening_marks_copies_and_silent_ones():
    drawing = DRAWINGS["deepening"]()
    assert {"2.49", "0.00"} <= set(words(drawing)) and len(classed(drawing, "off")) == 4 and len(classed(drawing, "run")) == 4


def test_tile_shows_scores_and_running_sums():
    shown = words(DRAWINGS["tile"]())
    assert {"1.42", "−0.31", "−0.98", "0.21", "0.55", "1.33", "0.61", "1.43", "1.73", "0.28", "query 3"} <= set(shown)


def test_masks_show_shares_of_tiles():
    drawing = DRAWINGS["masks"]()
    assert {"75%", "25%"} <= set(words(drawing)) and len(classed(drawing, "run")) == 4


def test_losses_stand_at_their_place_with_their_value():
    assert {"FitNets", "1.6", "AT", "0.018", "RKD", "0.27", "DIST", "33"} <= set(words(DRAWINGS["losses"]()))


def test_each_of_deits_tokens_has_its_own_target():
    assert {"64 patches", "cat", "p = .62", "0.48", "dog", "p = .55", "0.60"} <= set(words(DRAWINGS["tokens"]()))


def test_a_round_of_the_game_raises_the_divergence_and_lowers_it():
    drawing = DRAWINGS["game"]()
    assert {"0.021", "0.034", "0.009", "student, 10 steps"} <= set(words(drawing))
    bars = [float(part.get("width")) for part in ElementTree.fromstring(drawing.svg).iter() if part.get("x") == "200"]
    assert bars[1] == max(bars) and bars[2] == min(bars)


def test_exits_compute_nothing_behind_the_one_taken():
    drawing = DRAWINGS["exits"]()
    assert {".97 leaves", ".55", ".71", ".83 leaves", "43%", "100%", "above .90?", "above .85?"} <= set(words(drawing))
    assert ".11" not in words(drawing) and len(classed(drawing, "off")) == 2


def test_nested_fills_what_a_size_uses():
    drawing = DRAWINGS["nested"]()
    assert {"100%", "21%", "37%"} <= set(words(drawing))
    assert len(classed(drawing, "run")) == 4 * (3 + 8) + 3 * (1 + 2)
    assert min(float(one.get("height")) for one in classed(drawing, "run")) == round(38 * 12 / 48)


def test_steps_show_each_pass_and_its_teacher():
    drawing = DRAWINGS["steps"]()
    shown = words(drawing)
    assert (shown.count("labels"), shown.count("largest"), shown.count("both"), shown.count("k 2"), shown.count("k 1")) == (1, 3, 1, 3, 2)
    assert len(classed(drawing, "run")) == 3 * 32 + 2 * 2


def test_triple_adds_shares_up():
    drawing = DRAWINGS["triple"]()
    assert {"−16", "22", "6", "−27", "−165", "189", "24", "3"} <= set(words(drawing))
    assert len(classed(drawing, "off")) == len(classed(drawing, "run")) == 2


def test_replacements_draw_what_they_are_given():
    drawing = DRAWINGS["replacements"]()
    assert {"1,168 bytes", "16 bytes", "0 bytes", "error 0.03", "error 1.69"} <= set(words(drawing))
    bottoms = [path_box(one.get("d"))[3] for one in elements(drawing, "path") if "--a" in (one.get("style") or "")]
    assert bottoms[2] > bottoms[0] > bottoms[1]  # the identity goes below zero, the parabola stays above


def test_removals_share_out_heads_and_neurons():
    drawing = DRAWINGS["removals"]()
    assert words(drawing).count("42%, 56%") == 4  # 2.5 of 6 heads, 2.25 of 4 neurons
    assert len(classed(drawing, "off")) == 4 * (3 + 1)


def test_rewinding_masks_the_old_values():
    drawing = DRAWINGS["rewinding"]()
    shown = words(drawing)
    assert (
        shown.count("−.24") == 2
        and shown.count("−.31") == 1
        and shown.count(".47") == 1
        and shown.count("0") == 4
        and "largest 5 of 9" in shown
    )
    assert len(classed(drawing, "dec")) == len(classed(drawing, "run")) == 5


def test_steps_are_drawings_with_a_sentence_each():
    one, other = (attention.tile(2, 1, 0, column, [[0.5]], [-float("inf"), 0, 0], [0.5, 1, 0.2], f"-{column}") for column in range(2))
    shown = Steps([one, other], ["First <one>.", "Then the other."])._repr_mimebundle_()
    assert shown["text/html"].count("<svg") == 2 and "First &lt;one&gt;." in shown["text/html"] and "−∞" in one.svg
    assert one.id != other.id, "their styles are told apart by it"
    with pytest.raises(ValueError, match="a sentence for each"):
        Steps([one], ["alone"])
