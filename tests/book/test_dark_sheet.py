"""A dark sheet laid over a light one says the same without what both declare alike."""

import pytest

from lib.book.sheets.dark import NOT_LAYERED, parse, thin, thin_dark_sheets

LIGHT = """@charset "UTF-8";:root{--ink:#111;--gap:4px}
/* a comment; with { signs } */ a{color:red;padding:1px}b{color:blue;padding:2px}
.x{background:url("data:image/svg+xml;utf8,<svg style='a{b:c}'/>") no-repeat;border-radius:3px}
@media (max-width:600px){a{padding:3px;color:green}p{margin:0}}@font-face{font-family:F;src:url(f.woff)}"""


def test_what_both_say_is_left_out_and_families_that_differ_stay_whole():
    dark = LIGHT.replace("#111", "#eee").replace("color:red", "color:pink")
    assert thin(dark, LIGHT) == (
        ":root{--ink:#eee}a{color:pink}b{color:blue}"  # b's blue follows a's pink, as it did
        "@media (max-width:600px){a{color:green}}"
    )


def test_equal_sheets_leave_nothing():
    assert thin(LIGHT, LIGHT) == ""


def test_a_second_time_changes_nothing():
    once = thin(LIGHT.replace("padding:2px", "padding:5px"), LIGHT)
    assert once == "a{padding:1px}b{padding:5px}@media (max-width:600px){a{padding:3px}}"
    assert thin(once, LIGHT) == once


def test_shorthands_of_other_names_count_as_one_family():
    light = "a{font:1em serif}a{line-height:2}"
    assert thin("a{font:2em serif}a{line-height:2}", light) == "a{font:2em serif}a{line-height:2}"


def test_rules_that_are_not_looked_into_stay_where_they_differ():
    assert thin("@keyframes k{from{color:red}to{color:blue}}a{color:red}", "a{color:red}") == "@keyframes k{from{color:red}to{color:blue}}"


def test_a_sheet_that_breaks_off_is_an_error():
    with pytest.raises(ValueError, match="ends inside a rule"):
        list(parse("a{color:red"))


@pytest.mark.parametrize("layered", (True, False))
def test_only_sheets_that_are_layered_are_shortened(tmp_path, layered):
    sheets = tmp_path / "site_libs" / "bootstrap"
    sheets.mkdir(parents=True)
    (sheets / "bootstrap-1.min.css").write_text("a{color:red;margin:0}")
    (sheets / "bootstrap-dark-2.min.css").write_text("a{color:pink;margin:0}")
    (tmp_path / "index.html").write_text("" if layered else f"<script>{NOT_LAYERED}</script>")
    thin_dark_sheets(tmp_path)
    assert (sheets / "bootstrap-1.min.css").read_text() == "a{color:red;margin:0}"
    assert (sheets / "bootstrap-dark-2.min.css").read_text() == ("a{color:pink}" if layered else "a{color:pink;margin:0}")
