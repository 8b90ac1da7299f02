"""Numbers of chapters come from one list: file names agree with it, and no text has one typed."""

import json
import re

from conftest import ROOT
from lib.book.notebooks import Project, read
from lib.studies import CHAPTERS, SPLIT, chapter, section

#: A reference to one of our chapters by number.  Those of other books are written "ch. 8".
TYPED = re.compile(r"\b[Cc]hapters?(?:[ -]|\n(?!\n))\d+")

TEXTS = [
    *sorted(ROOT.glob("chapters/*.ipynb")),
    *sorted(path for path in ROOT.glob("*.*md") if not path.name.startswith("_")),
    *(path for folder in ("data", "docs", "workflow") for pattern in ("*.md", "*.yml") for path in sorted((ROOT / folder).glob(pattern))),
    ROOT / "pyproject.toml",
    *sorted((ROOT / "lib").rglob("*.py")),
]


def written(path):
    text = path.read_text(encoding="utf-8")
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]) if path.suffix == ".ipynb" else text


def test_numbers_names_and_order_agree():
    assert [each.number for each in CHAPTERS] == list(range(1, len(CHAPTERS) + 1))
    for each in CHAPTERS:
        assert each.slug.startswith(f"{each.number:02d}-") and chapter(each.subject) is each is chapter(each.slug) is chapter(
            str(each.number)
        )
        assert all(chapter(old) is each for old in each.formerly)
    names = [name for each in CHAPTERS for name in (each.slug, *each.formerly)]
    assert len(set(names)) == len(names), "an old address that another chapter has now cannot lead on"


def test_a_chapters_page_begins_with_its_title_and_its_label():
    for each in CHAPTERS:
        first = read(Project().source(each)).cells[0].source.splitlines()[0]
        assert re.fullmatch(rf"# .+ {{#sec-{each.subject}}}", first), f"{each.slug} begins with {first!r}"


def test_no_number_is_typed():
    found = {path.relative_to(ROOT).as_posix(): [match[0] for match in TYPED.finditer(written(path))] for path in TEXTS}
    found = {name: typed for name, typed in found.items() if typed}
    assert not found, f"{found}: write @sec-<subject>, or the chapter's subject"


def test_what_counts_as_typed():
    assert TYPED.search("see chapter 7") and TYPED.search("Chapters 3\nand 7") and TYPED.search("a chapter-6 run")
    assert not TYPED.search("1993, ch. 8") and not TYPED.search("@sec-moe") and not TYPED.search("chapter one")


def test_sections_have_their_subject_in_their_address():
    assert section("moe", "switch") == f"{CHAPTERS[0].slug}.html#sec-moe-switch" and section("moe") == f"{CHAPTERS[0].slug}.html#sec-moe"
    assert all(chapter(subject) and chapter(other) for subject, others in SPLIT.items() for other in others)
