"""``python -m lib results``: what is stored and what is missing."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.markup import escape
from rich.table import Column, Table

from lib import studies
from lib.cli.names import find_chapter, read_parameters, store_of, studies_of
from lib.cli.tables import print_table
from lib.runs.labels import labels
from lib.studies import Chapter


def show(chapter: str | None, scale: str, given: dict[str, str], as_json: bool) -> None:
    chapters = [find_chapter(chapter)] if chapter else studies.CHAPTERS
    rows = [row for each in chapters for row in rows_of(each, scale, given)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif chapter:
        show_each(rows)
    else:
        show_studies(rows)


def rows_of(chapter: Chapter, scale: str, given: dict[str, str]) -> list[dict[str, Any]]:
    """One row per study and Spec.  ``stored`` is "own", "reference" or None."""
    parameters = read_parameters(chapter, scale, given)
    store = store_of(parameters)
    rows = []
    studies = studies_of(chapter, parameters)
    told = labels(spec for specs in studies.values() for spec in specs)
    for study, specs in studies.items():
        for spec in specs:
            result = store.get(spec)
            provenance = result.provenance if result else {}
            rows.append(
                {
                    "chapter": chapter.slug,
                    "study": study,
                    "key": spec.key,
                    "spec": told[spec],
                    "stored": result.origin if result else None,
                    "device": provenance.get("device"),
                    "device_type": provenance.get("device_type"),
                    "seconds": provenance.get("seconds"),
                    "metrics": result.metrics if result else {},
                }
            )
    return rows


def show_each(rows: list[dict[str, Any]]) -> None:
    table = Table("study", Column("name", no_wrap=True), "stored", "device", "seconds", "result of", caption=devices(rows))
    for row in rows:
        table.add_row(
            row["study"], row["key"], row["stored"] or "missing", row["device_type"] or "", seconds(row["seconds"]), escape(row["spec"])
        )
    print_table(table)


def show_studies(rows: list[dict[str, Any]]) -> None:
    table = Table("chapter", "study", "stored", "missing", "device", "seconds", caption=devices(rows))
    for chapter, study in dict.fromkeys((row["chapter"], row["study"]) for row in rows):
        those = [row for row in rows if (row["chapter"], row["study"]) == (chapter, study)]
        stored = [row for row in those if row["stored"]]
        table.add_row(
            chapter,
            study,
            str(len(stored)),
            str(len(those) - len(stored)),
            ", ".join(sorted({row["device_type"] for row in stored})),
            seconds(sum(row["seconds"] for row in stored) if stored else None),
        )
    print_table(table)


def devices(rows: list[dict[str, Any]]) -> str | None:
    """The devices' full names, which are too long for a column."""
    names = sorted({f"{row['device_type']}: {row['device']}" for row in rows if row["stored"]})
    return ", ".join(names) or None


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
