"""Rules that no page can use leave the style sheets."""

import pytest

from lib.book.sheets.lean import lean, lean_sheets

SHEET = """@charset "UTF-8";:root{--a:1}body{margin:0}.used{a:b}.gone{a:b}.used,.gone{c:d}.used .gone{e:f}
#there{a:b}#nowhere{a:b}.used:not(.gone){g:h}.used:is(.gone,.used){i:j}a[href=".gone"]{k:l}
@media (max-width:9px){.gone{a:b}.used{m:n}}@media print{.gone{a:b}}@font-face{font-family:x;src:url("a.woff")}
@keyframes turn{from{a:b}to{c:d}}.w-1\\/2{a:b}.bi-search::before{content:"s"}.bi-mailbox::before{content:"m"}.aa-Panel{a:b}"""


def test_what_pages_name_stays_in_its_order():
    left = lean(SHEET, {"used", "there", "search", "w-1/2"})
    assert left.replace("\n", "") == (
        '@charset "UTF-8";:root{--a:1}body{margin:0}.used{a:b}.used{c:d}#there{a:b}.used:not(.gone){g:h}.used:is(.gone,.used){i:j}'
        'a[href=".gone"]{k:l}@media (max-width:9px){.used{m:n}}@font-face{font-family:x;src:url("a.woff")}@keyframes turn{from{a:b}to{c:d}}'
        '.w-1\\/2{a:b}.bi-search::before{content:"s"}.aa-Panel{a:b}'
    )
    assert lean(left, {"used", "there", "search", "w-1/2"}) == left


@pytest.mark.parametrize("place", ["chapters/a.html", "site_libs/x/b.js", "assets/page.js"])
def test_names_are_looked_for_in_pages_and_scripts(tmp_path, place):
    sheet = tmp_path / "site_libs" / "bootstrap" / "bootstrap.min.css"
    for file, text in {sheet: ".a-b{c:d}.e{f:g}", tmp_path / place: 'classList.add("a-b")', tmp_path / "search-index.js": '"e"'}.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    lean_sheets(tmp_path)
    assert sheet.read_text(encoding="utf-8") == ".a-b{c:d}"
