"""Papers: complete, cited under keys that exist, and tied to code, claims and sections that exist."""

import importlib
import json
import re

import pytest

from lib.claims.bibliography import references
from lib.claims.entries import claims, papers
from lib.studies import CHAPTERS

ALL = list(papers().values())


def chapter_text(chapter) -> str:
    """Markdown of a chapter: its cells and its stored Markdown outputs."""
    cells = json.loads(chapter.path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    texts += [
        "".join(output["data"]["text/markdown"])
        for cell in cells
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]
    return "\n".join(texts)


def resolve(dotted: str):
    """What ``dotted`` names; ImportError or AttributeError when there is no such thing."""
    module, names = dotted, []
    while True:
        try:
            item = importlib.import_module(module)
            break
        except ModuleNotFoundError as error:
            if "." not in module or not module.startswith(error.name):  # a module's own import is broken
                raise
            module, _, name = module.rpartition(".")
            names.insert(0, name)
    for name in names:
        item = getattr(item, name)
    return item


@pytest.mark.parametrize("paper", ALL, ids=lambda paper: paper.key)
def test_every_paper_is_complete(paper):
    about = paper.reference
    assert about.title and about.authors and about.venue and paper.sections
    assert 1900 <= about.year <= 2100
    assert about.arxiv or about.doi or paper.code, "nothing leads to it"
    assert about.arxiv is None or re.fullmatch(r"\d{4}\.\d{4,5}", about.arxiv)
    assert paper.code is None or paper.code.startswith("https://")
    sentences = re.findall(r"[.?!](?:\s|$)", paper.summary)
    assert 3 <= len(sentences) <= 7, f"{len(sentences)} sentences"


def test_keys_are_those_of_the_bibliography():
    assert {paper.key for paper in ALL} <= set(references())


def test_an_entry_is_read_as_it_is_printed():
    """Braces and LaTeX go, first names come first, and a place is told with volume and number."""
    switch = references()["fedus2022switch"]
    assert switch.title.startswith("Switch Transformers: Scaling")
    assert switch.authors == ("William Fedus", "Barret Zoph", "Noam Shazeer")
    assert (switch.venue, switch.year, switch.arxiv) == ("Journal of Machine Learning Research 23(120)", 2022, "2101.03961")
    for key, reference in references().items():
        said = [reference.title, reference.venue, *reference.authors]
        assert not any(mark in text for mark in "{}\\" for text in said), key
        assert all(name and not name.startswith("and ") for name in reference.authors), key


def test_a_paper_without_claims_is_marked_as_background():
    judged = {claim.paper for claim in claims().values()}
    assert {paper.key for paper in ALL if paper.background} == {paper.key for paper in ALL} - judged


@pytest.mark.parametrize("paper", ALL, ids=lambda paper: paper.key)
def test_what_a_paper_is_said_to_be_implemented_by_exists(paper):
    assert paper.implements or paper.background
    for dotted in paper.implements:
        assert dotted.startswith("lib."), dotted
        assert resolve(dotted) is not None


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.slug)
def test_every_citation_of_a_chapter_has_its_reference(chapter):
    cited = set(re.findall(r"(?<![\w@])@([a-z]+\d{4}[a-z0-9]*)", chapter_text(chapter)))
    assert cited <= set(references()), cited - set(references())


def test_sections_exist_and_cite_their_papers():
    text = "\n".join(chapter_text(chapter) for chapter in CHAPTERS)
    sections = set(re.findall(r"\{[^}]*#(sec-[\w-]+)", text))
    for paper in ALL:
        assert set(paper.sections) <= sections, (paper.key, set(paper.sections) - sections)
        assert f"@{paper.key}" in text, f"{paper.key} is summarised and never cited"
