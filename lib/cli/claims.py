"""``python -m lib claims``: the ledger on the command line, and as a file."""

from __future__ import annotations

import csv
import io
import json

import click
from rich.console import Console
from rich.table import Table

from lib.cli.names import as_wrong_use
from lib.ledger import NOT_RUN, Entry, entries, tally
from lib.scales import check_scale


def show(scale: str, form: str | None) -> None:
    with as_wrong_use():
        check_scale(scale)
    found = entries(scale)
    if form:
        click.echo({"json": as_json, "csv": as_csv}[form](found), nl=False)
    else:
        as_table(found, scale)


def as_json(found: list[Entry]) -> str:
    return json.dumps([entry.row() for entry in found], indent=1, ensure_ascii=False) + "\n"


def as_csv(found: list[Entry]) -> str:
    rows = [entry.row() for entry in found]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_table(found: list[Entry], scale: str) -> None:
    table = Table("claim", "edition", "value", f"at {scale}", "value", caption=", ".join(
        f"{count} {verdict}" for verdict, count in tally(found).items() if count))
    for entry in found:
        cells = []
        for verdict in (entry.edition, entry.own):
            cells += [verdict.marked, verdict.measured] if verdict else [NOT_RUN, ""]
        table.add_row(entry.claim.id, *cells)
    Console().print(table)
