"""Style sheets lose what no page can use, and nothing else."""

from lib.stylesheets import purged, rules, used_names, without_unused_rules

SHEET = ('@charset "UTF-8";.used{color:red}.gone,.used-too:hover{a:b}.gone .used{x:y}@media (min-width:1px){.gone{a:b}}'
         '@media print{.used{a:b}p{c:d}}@font-face{font-family:"a}b"}a:not(.gone){e:f}.tip-auto[data-x=".gone"]{g:h}'
         '.icon::before{content:"}"}:is(.used,.gone){i:j}')


def test_only_rules_of_unused_classes_go():
    left = purged(SHEET, {"used", "used-too", "tip-", "icon"})
    assert left == ('@charset "UTF-8";.used{color:red}.used-too:hover{a:b}@media print{.used{a:b}p{c:d}}'
                    '@font-face{font-family:"a}b"}a:not(.gone){e:f}.tip-auto[data-x=".gone"]{g:h}.icon::before{content:"}"}')


def test_a_sheet_is_the_sum_of_its_rules():
    again = "".join(head if body is None else f"{head}{{{body}}}" for head, body in rules(SHEET))
    assert again == SHEET
    assert purged(SHEET, {"used", "gone", "used-too", "tip-auto", "icon"}) == SHEET


def test_names_come_from_pages_and_scripts(tmp_path):
    sheets = tmp_path / "site_libs" / "bootstrap"
    sheets.mkdir(parents=True)
    (sheets / "a.css").write_text("/*! It's at example.com */:root{c:d}.one{a:b}.two{a:b}.three-up{a:b}.four{a:b}")
    (tmp_path / "page.html").write_text('<p class="one">')
    (tmp_path / "script.js").write_text("x.classList.add(`three-${y}`)")
    (tmp_path / "plotly.min.js").write_text("two")
    assert {"one", "three-"} <= used_names(tmp_path) and "two" not in used_names(tmp_path)
    without_unused_rules(tmp_path)
    assert (sheets / "a.css").read_text() == ":root{c:d}.one{a:b}.three-up{a:b}"
