"""The search index holds what people wrote, section by section, and the titles of the papers that a section cites."""

from lib.book.search_index import thinned, title_of

PAGE = """<main id="quarto-document-content"><p>Opening.</p>
<section id="sec-a"><h2><span class="header-section-number">1.1</span> Choosing <em>experts</em></h2><p>A router <a data-cites="one2020">(One 2020)</a>
<math><mi>x</mi></math> chooses.</p><pre class="sourceCode">import torch</pre><img alt="x"><p>After.</p>
<section id="sub"><h3>A loss</h3><p>Within.<br>Too.</p></section></section>
<section id="references-1"><h2>References</h2><div id="refs"><div id="ref-one2020" class="csl-entry">One, A. 2020. “Switch It: A Title.” <em>J</em>.</div></div></section>
</main><p>Outside.</p>"""

INDEX = [
    {"objectID": "c.html", "href": "c.html", "title": "Chapter", "section": "", "text": "old", "crumbs": ["Chapter"]},
    {"objectID": "c.html#sec-a", "href": "c.html#sec-a", "title": "Chapter", "section": "1.1 Choosing experts", "text": "old import torch"},
]


def test_sections_keep_their_words_and_gain_the_papers_they_cite():
    found = {entry["href"]: entry for entry in thinned(INDEX, {"c.html": PAGE})}
    assert list(found) == ["c.html", "c.html#sec-a", "c.html#sub"], "no references"
    assert found["c.html"]["text"] == "Opening." and found["c.html#sec-a"]["section"] == "1.1 Choosing experts"
    assert found["c.html#sec-a"]["text"] == "A router (One 2020) chooses. After." and found["c.html#sec-a"]["papers"] == [
        "Switch It: A Title"
    ]
    assert (
        found["c.html#sub"]["section"] == "A loss"
        and found["c.html#sub"]["text"] == "Within. Too."
        and found["c.html#sub"]["crumbs"] == ["Chapter"]
    )


def test_titles_in_both_kinds_of_entries():
    assert title_of("One, A. 2020. “‘A Title in Two Marks.’” J.") == "A Title in Two Marks"
    assert title_of("One, A. 2020. A Book. Press.") == "A Book"
    assert title_of("") == ""
