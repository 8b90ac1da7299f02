"""``python -m lib claims``: the ledger on the command line, and as a file."""

from __future__ import annotations

import csv
import io
import json

import click
from rich.markup import escape
from rich.table import Column, Table

from lib.book.ledger import NOT_RUN, Entry, by_chapter, entries, of_chapter, tally
from lib.book.notebooks import Project
from lib.claims.entries import claims, find, paper_of
from lib.cli.names import WrongUse, as_wrong_use, find_chapter
from lib.cli.tables import print_table
from lib.runs.scales import SCALES, check_scale
from lib.runs.store import Store
from lib.studies import CHAPTERS
from lib.system.checks import did_you_mean

#: Said of a figure that only an abstract gives.
ABSTRACT = ". This is what the abstract says; we do not have the tables behind it"


def show(chapter: str | None, scale: str | None, verdicts: tuple[str, ...], form: str | None) -> None:
    one = chapter if chapter in claims() else None
    only = find_chapter(chapter) if chapter and not one else None
    with as_wrong_use():
        scale = check_scale(scale or most_run(Store.default()))
    if one and not form:
        click.echo("\n".join(about(one, scale)))
        return
    found = entries(scale)
    known = tally(found)
    for verdict in verdicts:
        if verdict not in known:
            raise WrongUse(f"no verdict {verdict!r}; there are {', '.join(known)}.{did_you_mean(verdict, known)}")
    chosen = [
        entry
        for entry in found
        if (only is None or entry.chapter == only)
        and one in (None, entry.claim.id)
        and (not verdicts or (entry.best.verdict if entry.best else NOT_RUN) in verdicts)
    ]
    if form:
        click.echo({"json": as_json, "csv": as_csv}[form](chosen), nl=False)
    elif only or verdicts:
        each(chosen, scale)
    else:
        summary(found, scale)


def about(claim_id: str, scale: str) -> list[str]:
    """Return what decides one claim, line by line: the paper's words, the rule, then value, interval and reason of each verdict."""
    claim = find(claim_id)
    with as_wrong_use():
        claim.values.check(claim.subject)
    (entry,) = (entry for entry in of_chapter(find_chapter(claim.subject), scale, Store.default(), Project()) if entry.claim == claim)
    paper = paper_of(claim)
    lines = [
        f"{claim.id}: {claim.claim}",
        f"paper      {paper.title} ({paper.year}), {claim.where}: {claim.figure}{ABSTRACT if claim.by_abstract else ''}",
        f"measured   {claim.metric} ({claim.values.code(claim.subject)}, {claim.values}; studies {', '.join(claim.study)})",
        f"rule       {claim.rule}",
    ]
    for name, verdict in (("edition", entry.edition), (scale, entry.own)):
        if verdict is None:
            lines.append(f"{name:10} {NOT_RUN}: nothing is stored that it reads")
        else:
            lines.append(f"{name:10} {verdict.marked}{f', {verdict.measured}' if verdict.measured else ''}. {verdict.text}")
    return lines


def most_run(store: Store) -> str:
    """The scale of which the reader's own store holds most; "laptop" where it holds nothing."""
    own = {path.stem for path in (store.own / "results").glob("*/*.json")}

    def stored(scale: str) -> int:
        studies = (chapter.module.studies(chapter.module.Parameters(scale=scale)) for chapter in CHAPTERS)
        return len(own & {spec.key for named in studies for specs in named.values() for spec in specs})

    return max(("laptop", *SCALES), key=stored) if own else "laptop"


def as_json(found: list[Entry]) -> str:
    return json.dumps([entry.row() for entry in found], indent=1, ensure_ascii=False) + "\n"


def as_csv(found: list[Entry]) -> str:
    rows = [entry.row() for entry in found]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def summary(found: list[Entry], scale: str) -> None:
    """A line per chapter: how many of its claims have which verdict."""
    verdicts = [verdict for verdict, count in tally(found).items() if count]
    table = Table(
        "chapter",
        *verdicts,
        caption=f"the edition's verdicts, and those at {scale} where it has none; "
        "name a chapter or a --verdict to see each claim with its reason",
    )
    for chapter, own in by_chapter(found).items():
        table.add_row(chapter.slug, *(str(tally(own)[verdict] or "") for verdict in verdicts))
    table.add_section()
    table.add_row("all", *(str(tally(found)[verdict]) for verdict in verdicts))
    print_table(table)


def each(found: list[Entry], scale: str) -> None:
    """A line per claim: its verdict in the edition and at ``scale``, the value, and why."""
    table = Table(
        Column("claim", no_wrap=True),
        "edition",
        f"at {scale}",
        "value",
        "why",
        caption=", ".join(f"{count} {verdict}" for verdict, count in tally(found).items() if count),
    )
    for entry in found:
        best = entry.best
        table.add_row(
            entry.claim.id,
            *(verdict.marked if verdict else NOT_RUN for verdict in (entry.edition, entry.own)),
            escape(best.measured) if best else "",
            escape(best.text) if best else "nothing is stored that it reads",
        )
    print_table(table)
