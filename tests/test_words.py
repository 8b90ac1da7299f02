"""Plain English on the pages and in the library: phrases of a private dialect that came back once too often."""

import json
import re

import pytest

from conftest import ROOT

#: Words after which "a training" is an adjective: a training step, a training image …
ADJECTIVE = (
    r"(?! ?(?:step|image|batch|run|set\b|epoch|loop|tok\w*|row|point|example|sample|corpus|loss|pass|aid|log|curve|data|time|cost|recipe|"
    r"script|text|seed|split|procedure|budget|second|stor|sequence|window|position|patch|digit|sentence|machine|accuracy|length|objective|"
    r"method|task|schedule|FLOP|compute|phase))"
)

#: What is not written, and what is written instead.
NOT_WRITTEN = {
    r"[Ww]hat\s+stands\s+behind": "± is the half-width of …",
    r"\b[Tt]rainings\b": "runs",
    rf"\b[Aa](?: finished| single| short| longer| second| further| usual| full)? training\b{ADJECTIVE}": "a run",
    rf"\b[Hh]alf a training\b{ADJECTIVE}": "half a run",
    r"\b(?:the|same|equal|total|whole|more|less|usual|training|all|of|for) arithmetic\b(?! is right| modulo| at best)": "compute",
    r"(?<!there )\bis no (?:measure|verdict|loss|gain|method|network|proof|number|part|product|study)\b": "is not a …, does not …",
    r"\b[Ii]t is no (?!longer)": "it is not a …",
    r"\b[Ww]ho can ask\b": "anyone who can query",
    r"\bis not to be had\b": "cannot be had",
    r"\b(?:is|are|was|were) not at hand\b": "are not stored, we do not have",
    r"\bare to be run again\b": "have to be run again",
    r"\bstands? in for\b": "replaces",
    r"\bheld against\b": "compared with",
    r"\bnobody is spared\b": "that nothing skips",
    r"\bcan(?:not)? be told from\b": "differs from … (by more than chance)",
    r"\bis meant for (?:about )?(?:a|two|an?)\b": "takes",
    r"\bwants? a machine\b": "needs a machine",
    r"\bWhat one (?:paper|gets|reports)\b": "a sentence with a verb",
    r"\bthe ordinary (?:network|run|training|transformer|one)\b": "the baseline",
    r"\bconcerning\b": "about",
    r"\bthe one thing\b": "only",
    r"\bdo not have (?:the|a|its)(?: (?!that |which |who )[\w']+){1,4} (?:is|are|was|were)\b": "one sentence for each of the two verbs",
}

#: Their texts are made of others, or are written anew.
LEFT_OUT = {"_findings.md", "_mosaic.md", "_headlines.md", "05-transformer-tickets.ipynb"}

PAGES = [
    *(path for path in sorted((ROOT / "chapters").glob("*.ipynb")) if path.name not in LEFT_OUT),
    *sorted(ROOT.glob("*.qmd")),
    *(path for path in sorted(ROOT.glob("*.md")) if path.name not in LEFT_OUT),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "data").glob("*.yml")),
    *sorted((ROOT / "data").glob("*.md")),
    *sorted((ROOT / "workflow").glob("*.md")),
]


def written(path) -> str:
    """What people wrote: Markdown and code of a notebook, not its outputs."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def phrases(text: str) -> list[str]:
    return [f"{match[0]!r}: write {better!r}" for phrase, better in NOT_WRITTEN.items() for match in re.finditer(phrase, text)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_written_in_plain_words(path):
    assert phrases(written(path)) == []


@pytest.mark.parametrize("folder", sorted(path.name for path in (ROOT / "lib").iterdir() if path.is_dir() and path.name != "__pycache__"))
def test_docstrings_comments_and_messages_too(folder):
    found = {
        path.relative_to(ROOT).as_posix(): phrases(path.read_text(encoding="utf-8"))
        for path in (ROOT / "lib" / folder).rglob("*.py")
        if "tickets" not in path.parts
    }
    assert {path: told for path, told in found.items() if told} == {}


def test_the_phrases_are_found_and_plain_words_are_not():
    assert phrases("a training of 5 epochs at equal arithmetic") and phrases("Trainings are") and phrases("It is no wonder")
    assert phrases("drawn at random and we do not have the router's entropy is penalised")
    assert phrases("we do not have the paper's text that is cited; they do not have the formula, and it is left out") == []
    assert phrases("a training step, a run, equal compute, modular arithmetic, no longer so, half a training set") == []
