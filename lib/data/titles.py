"""What data sets and tasks are called on pages; elsewhere they go by the name in their runs' settings."""

from __future__ import annotations

from lib.data.catalogue import DATASETS

#: Tasks made from stories are called by what their second class has, see :mod:`lib.data.story_tasks`.
TITLES = {dataset.name: dataset.title for dataset in DATASETS.values()} | {
    "tinystories": "TinyStories",
    "wikitext2": "WikiText-2",
    "sst2": "SST-2",
    "cola": "CoLA",
    "trec": "TREC",
    "order": "swapped sentences",
    "shuffled": "shuffled sentences",
    "name": "swapped names",
}


def title(name: str) -> str:
    """Return what a data set or a task is called in sentences; the name itself where it is a word already (``"digits"``)."""
    return TITLES.get(name, name)
