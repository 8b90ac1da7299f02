"""What is done to pages after Quarto has written them."""

import pytest

from lib.book.moved import MOVED, lead_on, put_up_signposts
from lib.book.postrender import add_skip_links

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
