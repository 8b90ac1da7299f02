"""What is done to pages after Quarto has written them."""

import json
import re

import pytest

from lib import ROOT
from lib.book.first_paint import FACES, settle
from lib.book.moved import MOVED, lead_on, put_up_signposts
from lib.book.postrender import add_skip_links
from lib.studies import chapter

PAGE = '<html><body class="nav"><nav></nav><main class="{}" id="quarto-document-content">text</main></body></html>'


@pytest.mark.parametrize("classes", ["content", "content page-columns page-full"], ids=["usual", "with tables in the margin"])
def test_the_first_link_of_each_page_leads_to_its_text(tmp_path, classes):
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(classes), encoding="utf-8")
    add_skip_links(tmp_path)
    once = page.read_text(encoding="utf-8")
    assert '<body class="nav">\n<a class="book-skip" href="#quarto-document-content">' in once
    assert f'<main tabindex="-1" class="{classes}" id="quarto-document-content">text' in once
    add_skip_links(tmp_path)
    assert page.read_text(encoding="utf-8") == once


CHAPTER = """<html><head>
<title>A</title></head><body>
<nav id="TOC" role="doc-toc" class="toc-active">
  <h2 id="toc-title">On this page</h2>
  <ul>
  <li><a href="#sec-a" id="toc-sec-a" class="nav-link active" data-scroll-target="#sec-a">A</a>
  <ul class="collapse"><li><a href="#b" id="toc-b" class="nav-link" data-scroll-target="#b">B</a></li></ul></li>
  </ul>
</nav>
<header id="title-block-header"><h1>A</h1></header>
<p>text</p><header>another</header></body></html>"""


def test_what_would_move_a_page_is_in_it_from_the_start(tmp_path):
    page = tmp_path / "chapters" / "a.html"
    page.parent.mkdir()
    page.write_text(CHAPTER, encoding="utf-8")
    (tmp_path / "bare.html").write_text("<head></head><p>no contents</p>", encoding="utf-8")
    settle(tmp_path)
    once = page.read_text(encoding="utf-8")
    for face in FACES:
        assert f'href="../assets/fonts/{face}.woff2"' in once and (ROOT / "assets" / "fonts" / f"{face}.woff2").exists()
        assert f'href="assets/fonts/{face}.woff2"' in (tmp_path / "bare.html").read_text(encoding="utf-8")
    fold = once.split("</header>")[1].split("<p>text")[0]
    assert fold.count("<details") == 1 and re.findall(r'href="(#\w+-?\w*)"', fold) == ["#sec-a", "#b"]
    assert " id=" not in fold and "active" not in fold and "book-contents" not in (tmp_path / "bare.html").read_text(encoding="utf-8")
    settle(tmp_path)
    assert page.read_text(encoding="utf-8") == once


def test_an_old_address_leads_on_where_the_new_page_is(tmp_path):
    (tmp_path / "chapters").mkdir()
    put_up_signposts(tmp_path)
    assert not list((tmp_path / "chapters").iterdir())
    for old, new in MOVED.items():
        (tmp_path / old).with_name(new).write_text("the page", encoding="utf-8")
    put_up_signposts(tmp_path)
    for old, new in MOVED.items():
        assert f'href="{new}"' in (tmp_path / old).read_text(encoding="utf-8")
        assert (tmp_path / old).with_name(new).read_text(encoding="utf-8") == "the page"


def test_a_section_that_went_to_another_chapter_is_found_from_its_old_address(tmp_path):
    (tmp_path / "chapters").mkdir()
    here, there = (tmp_path / "chapters" / f"{chapter(name).slug}.html" for name in ("distillation", "teachers"))
    here.write_text('<head></head><h2 id="sec-distillation-breaks"></h2>', encoding="utf-8")
    lead_on(tmp_path)
    assert "book-moved" not in here.read_text(encoding="utf-8"), "the other page is not there"
    ids = ("sec-teachers", "sec-teachers-nasty", "sec-teachers-breaks", "tbl-teachers-zero")
    there.write_text("".join(f'<section id="{name}">' for name in ids), encoding="utf-8")
    lead_on(tmp_path)
    once = here.read_text(encoding="utf-8")
    assert once.count("<script") == 1 and once.endswith('<h2 id="sec-distillation-breaks"></h2>')
    assert json.loads(re.search(r"\((\{\".*?\})\);", once)[1]) == {
        "sec-distillation-nasty": f"{there.name}#sec-teachers-nasty",
        "tbl-distillation-zero": f"{there.name}#tbl-teachers-zero",
    }
    lead_on(tmp_path)
    assert here.read_text(encoding="utf-8") == once
