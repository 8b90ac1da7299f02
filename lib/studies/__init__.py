"""One module per chapter: its Specs, and what running each one means.

A chapter's module is named after its subject (``moe`` for mixtures of experts) and defines

* ``Parameters``, a subclass of :class:`lib.studies.base.parameters.ChapterParameters`;
* ``studies(parameters) -> dict[str, list[Spec]]``, the Specs behind each figure and table, by name.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lib import ROOT
from lib.system.checks import did_you_mean


@dataclass(frozen=True)
class Chapter:
    """A chapter of the book: its file's name and the subject its modules bear.

    ``summarises``: it shows what the other chapters stored, so it is executed after them.
    ``formerly``: names that the file had; their addresses lead on.
    """

    number: int
    slug: str
    subject: str
    title: str
    summarises: bool = False
    formerly: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return ROOT / "chapters" / f"{self.slug}.ipynb"

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"lib.studies.{self.subject}.studies")


CHAPTERS = (
    Chapter(1, "01-moe-routing", "moe", "Mixture of experts and routing"),
    Chapter(2, "02-elastic-training", "elastic", "Elastic training"),
    Chapter(3, "03-growth-pipeline", "growth", "Growing models"),
    Chapter(4, "04-pruning-lottery-tickets", "pruning", "Pruning, lottery tickets, quantization"),
    Chapter(5, "05-transformer-tickets", "tickets", "Lottery tickets in transformers"),
    Chapter(6, "06-distillation", "distillation", "Learning from a teacher"),
    Chapter(7, "07-hostile-absent-inner-teachers", "teachers", "Hostile, absent and inner teachers"),
    Chapter(8, "08-attention", "attention", "Exact attention without the matrix", formerly=("07-attention",)),
    Chapter(9, "09-private-inference", "privacy", "Private inference", formerly=("08-private-inference",)),
    Chapter(10, "10-benchmarks", "benchmarks", "Benchmarks across methods", formerly=("09-benchmarks",)),
    Chapter(11, "11-language-models", "language", "Compressing a trained language model", formerly=("10-language-models",)),
    Chapter(
        12,
        "12-papers-and-claims",
        "papers",
        "Papers and claims",
        summarises=True,
        formerly=("10-papers-and-claims", "11-papers-and-claims"),
    ),
)


#: Chapters that were split: subject → subjects that now have some of its sections.  ``sec-distillation-nasty`` of old is
#: ``sec-teachers-nasty``, and its address leads there.
SPLIT = {"distillation": ("teachers", "tickets")}


def chapter(name: str) -> Chapter:
    """Find a chapter by number ("1", "01"), slug, subject or file name, with its folder or not; ValueError names them all.

    A former file name counts, too.
    """
    short = Path(name).name.removesuffix(".ipynb")
    for candidate in CHAPTERS:
        if short in (candidate.slug, candidate.subject, str(candidate.number), f"{candidate.number:02d}", *candidate.formerly):
            return candidate
    names = [c.subject for c in CHAPTERS] + [c.slug for c in CHAPTERS]
    raise ValueError(
        f"no chapter {name!r}; there are {', '.join(f'{c.number} ({c.subject})' for c in CHAPTERS)}." + did_you_mean(name, names)
    )


def section(subject: str, name: str = "") -> str:
    """Return the address of a chapter's section from another chapter's page, such as ``section("moe", "switch")``; its beginning's without a name."""
    return f"{chapter(subject).slug}.html#sec-{subject}" + (f"-{name}" if name else "")
