"""Papers: complete, cited under keys that exist, and tied to code, claims and sections that exist."""

import importlib
import json
import re

import pytest

from lib import ROOT
from lib.claims.entries import claims, papers
from lib.studies import CHAPTERS

ALL = list(papers().values())


def bibliography() -> list[str]:
    return re.findall(r"^@\w+\{([^,\s]+),", (ROOT / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE)


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
    assert paper.title and paper.authors and paper.venue and paper.sections
    assert 1900 <= paper.year <= 2100
    assert paper.arxiv or paper.doi or paper.code, "nothing leads to it"
    assert paper.arxiv is None or re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
    assert paper.code is None or paper.code.startswith("https://")
    sentences = re.findall(r"[.?!](?:\s|$)", paper.summary)
    assert 3 <= len(sentences) <= 7, f"{len(sentences)} sentences"


def test_keys_are_those_of_the_bibliography():
    keys = bibliography()
    assert len(keys) == len(set(keys)), "a key is there twice"
    assert {paper.key for paper in ALL} <= set(keys)


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
    assert cited <= set(bibliography()), cited - set(bibliography())


def test_sections_exist_and_cite_their_papers():
    text = "\n".join(chapter_text(chapter) for chapter in CHAPTERS)
    sections = set(re.findall(r"\{[^}]*#(sec-[\w-]+)", text))
    for paper in ALL:
        assert set(paper.sections) <= sections, (paper.key, set(paper.sections) - sections)
        assert f"@{paper.key}" in text, f"{paper.key} is summarised and never cited"
