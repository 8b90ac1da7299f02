"""What a chapter's cells call: open the chapter, get its results, show source, tables, figures and verdicts.

Everything here is displayed as Markdown or as plotly's own type, never as an HTML table: both read well in
Jupyter, Colab and Quarto, and neither makes Quarto load scripts from elsewhere.
"""

from __future__ import annotations

import html
import inspect
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import torch
from IPython.display import Markdown, display

from lib import ROOT
from lib.book.advice import Advice, box
from lib.book.claim_table import LEDGER, chip, claim_table, told
from lib.book.docstrings import headline
from lib.book.launch import run_parallel
from lib.book.notes import FINDING, MISSING, RESULT
from lib.claims.entries import find
from lib.claims.judge import Verdict, judge
from lib.claims.mix import check_unmixed
from lib.claims.origin import provenance_line, short, walk
from lib.figures import label
from lib.runs.markdown import details, escaped, pipe_table
from lib.runs.replay import Edition
from lib.runs.results import Result, Results
from lib.runs.scales import PLANNED
from lib.runs.spec import Spec
from lib.runs.store import Store, obtain
from lib.studies import chapter
from lib.studies.base.parameters import ChapterParameters, checked
from lib.system import device
from lib.system.device import device_name

#: How plotly behaves in a notebook: it fits its cell and offers no upload of the figure to other servers.
CONFIG = {"responsive": True, "displaylogo": False, "showSendToCloud": False, "plotlyServerURL": ""}

#: Results that cells have asked for, by name: tables made by :func:`summary` name those they were made from.
SEEN: dict[str, Result] = {}

#: By a result's name, the commands that run the studies in which cells have asked for it.
COMMANDS: dict[str, list[str]] = {}

#: Longer listings are shown folded.
FOLD_LINES = 10


def open_chapter(subject: str, namespace: dict[str, Any]) -> ChapterRun:
    """Check the notebook's parameters and open the chapter: ``run = open_chapter("moe", globals())``.

    Call it in the first code cell after the parameters.  Every public global of a simple type defined so far
    must be a parameter of the chapter, so a name misspelt after papermill's ``-p`` is an error here
    (papermill itself only warns).  Raises ValueError or TypeError, see
    :func:`lib.studies.base.parameters.checked`.

    Run again in the same kernel, it passes over names that later cells have defined since.
    """
    names = {name for name, value in namespace.items() if is_setting(name, value)}
    earlier = next((value for value in namespace.values() if isinstance(value, ChapterRun)), None)
    module = chapter(subject).module
    if earlier:
        names &= earlier.names | set(module.Parameters.__dataclass_fields__)
    parameters = checked(module.Parameters, {name: namespace[name] for name in names})
    run = ChapterRun(subject, parameters, names)
    place = device.pick(None)
    line = f"Scale **{parameters.scale}** on {short(device_name(place))}, torch {torch.__version__}."
    if (reason := parameters.hindrance) and reason != PLANNED:
        line += f" Stored results are replayed and nothing is run: {reason}."
    prose(line)
    return run


def is_setting(name: str, value: Any) -> bool:
    """Whether a notebook global looks like a parameter rather than an import, a function, IPython's or papermill's own."""
    return (
        not name.startswith("_")
        and name not in ("In", "Out", "PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH")
        and (value is None or isinstance(value, (bool, int, float, str, list, tuple, dict)))
    )


class ChapterRun:
    """One execution of a chapter: its parameters and, study by study, the results of this run.

    A study is a named list of Specs in the chapter's ``studies`` module.
    """

    def __init__(self, subject: str, parameters: ChapterParameters, names: Iterable[str] = (), store: Store | None = None) -> None:
        self.subject = subject
        self.parameters = parameters
        self.names = frozenset(names)
        self.module = chapter(subject).module
        self.store = store or Store.default(getattr(parameters, "output", None))
        self.specs: dict[str, list[Spec]] = self.module.studies(parameters)
        self._results: dict[str, Results] = {}
        self._recomputed: set[Spec] = set()
        self._edition = Edition(self.module, self.store)

    def results(self, study: str) -> Results:
        """Results of a study at this run's parameters: replayed where stored, run where missing.

        Raises :class:`lib.claims.mix.MixedData` when they were made from two variants of one data set.
        """
        if study not in self._results:
            specs, reason = self.study(study), self.parameters.hindrance
            recompute = self.parameters.recompute and not reason
            # Studies share Specs; each is recomputed once in a run, not once for every study.
            lacking = [spec for spec in specs if (spec not in self._recomputed if recompute else not self.store.get(spec))]
            processes = getattr(self.parameters, "gpus", 1)
            if lacking and processes > 1 and not reason:
                run_parallel(self.subject, self.parameters, processes, f"--study={study}")
                reason = f"not finished by its {processes} processes"
            elif recompute:
                obtain(lacking, store=self.store, recompute=True)
            self._recomputed.update(lacking)
            self._results[study] = obtain(specs, store=self.store, cannot_run=reason)
            check_unmixed(self._results[study])
            SEEN.update((result.key, result) for result in self._results[study])
            command = f"python -m lib run {self.subject} --scale {self.parameters.scale} --study {shlex.quote(study)}"
            for result in self._results[study]:
                COMMANDS.setdefault(result.key, []).append(command)
        return self._results[study]

    def study(self, name: str) -> list[Spec]:
        """Its Specs; none where this run's parameters leave the study out.  ValueError for a name that is not one of a study."""
        if name in self.specs:
            return self.specs[name]
        usual = self.module.studies(type(self.parameters)(scale=self.parameters.scale))
        if name not in usual:
            raise ValueError(f"no study {name!r} in lib.studies.{self.subject}; there are {', '.join(usual)}")
        return []

    def reference(self, study: str) -> Results:
        """The same study in the committed reference edition; replayed, never run, and empty if there is none."""
        return self.references((study,))[study]

    def references(self, studies: Iterable[str]) -> dict[str, Results]:
        """Reference results of several studies, see :meth:`lib.runs.replay.Edition.results`."""
        return self._edition.results(studies)

    def verdict(self, claim_id: str) -> Verdict:
        """This run's verdict on a claim."""
        return judge(claim_id, {study: self.results(study) for study in find(claim_id).study})

    def in_practice(self, *advice: Advice) -> None:
        """Show the box of advice, as far as the reference edition's verdicts hold it up."""
        shown = box(advice, lambda claim_id: judge(claim_id, self.references(find(claim_id).study)), chip)
        if shown:
            prose(shown)

    def claims(self, *ids: str) -> None:
        """Show the claims' table: what the paper says and what was measured, here and in the reference edition where that differs."""
        rows, notes, places = [], [], set()
        for claim_id in ids:
            claim = find(claim_id)
            own = {study: self.results(study) for study in claim.study}
            edition = self.references(claim.study)
            verdict, committed = judge(claim, own), judge(claim, edition)
            there = contents(edition)
            same = bool(there) and contents(own) == there
            places.add(devices(edition))
            rows.append(
                (
                    f"{claim.claim} [@{claim.paper}]",
                    f"{claim.figure} ({claim.where})",
                    told(committed) if there else "–",
                    None if same else told(verdict),
                )
            )
            notes.append(f"- [`{claim.id}`]({LEDGER}#claim-{claim.id}): {claim.metric} {claim.rule} {verdict.text}")
        prose(claim_table(rows, " and ".join(sorted(places - {""}))))
        prose(details("How these are judged: the metric, the criterion, and why this run got its verdict", "\n".join(notes)))

    def time_spent(self) -> None:
        """Say how long the results of all studies took to make, and where; nothing without any."""
        every = {result.key: result for study in self.specs for result in self.results(study)}.values()
        if every:
            minutes = sum(result.provenance["seconds"] for result in every) / 60
            places = ", ".join(sorted({result.provenance["device"] for result in every}))
            prose(f"The {len(every)} results behind this page took {minutes:,.1f} minutes to make, added up, on\n{places}.")


def contents(results_by_study: Mapping[str, Results]) -> dict[str, dict]:
    """What the results hold, by key: equal where this run replays the reference edition, from either store."""
    return {result.key: result.content() for results in results_by_study.values() for result in results}


def devices(results_by_study: Mapping[str, Results]) -> str:
    found = {short(result.provenance["device"]) for results in results_by_study.values() for result in results}
    return ", ".join(sorted(found))


def prose(text: str) -> None:
    """Show Markdown; citations and cross references in it resolve in the rendered book.

    ``prose(f"Switch reaches {percent(frame.accuracy)}.")`` keeps numbers in sentences computed, not typed.
    """
    display(Markdown(inspect.cleandoc(text)))


def finding(sentence: str) -> None:
    """Show what the chapter found in one sentence; the first page shows it too.  Numbers in it are computed."""
    prose(FINDING + " ".join(sentence.split()))


def conclude(*sentences: str) -> None:
    """Say in one line below a figure what it shows; :mod:`lib.figures.sentences` computes such sentences.  Nothing for no words."""
    told_here = " ".join(" ".join(sentence.split()) for sentence in sentences if sentence)
    if told_here:
        prose(RESULT + told_here)


def source(*objects: Any) -> None:
    """Show the library's own source of functions, classes or modules, each with a link to its file."""
    for item in objects:
        path, line, code = located(item)
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
        link = f"[{path}](../{path})" + (f", line {line}" if line else "")
        listing = f"{fence}python\n{code}\n{fence}\n\n{link}"
        lines, said = code.count("\n") + 1, headline(item)
        told_of = f"{lines} lines" + (f": {said}" if said else "")
        prose(details(f"<code>{dotted(item)}</code>, {told_of}", listing, is_open=lines <= FOLD_LINES))


def located(item: Any) -> tuple[str, int, str]:
    """File (relative to the checkout), first line (0 for a module) and dedented source of an object of ``lib``.

    Raises ValueError for anything that is not ours to list.
    """
    item = item.fget if isinstance(item, property) else inspect.unwrap(item)
    try:
        file = Path(inspect.getsourcefile(item) or "").resolve()
        lines, first = inspect.getsourcelines(item)
    except (TypeError, OSError) as error:
        raise ValueError(f"{item!r} has no source to show; pass a function, class or module of lib") from error
    if not file.is_relative_to(ROOT):
        raise ValueError(f"{dotted(item)} comes from outside this book; pass a function, class or module of lib")
    return file.relative_to(ROOT).as_posix(), first, textwrap.dedent("".join(lines)).strip("\n")


def dotted(item: Any) -> str:
    item = item.fget if isinstance(item, property) else item
    return item.__name__ if inspect.ismodule(item) else f"{item.__module__}.{item.__qualname__}"


def table(frame: pd.DataFrame, formats: Mapping[str, str | Callable] | None = None, results: Iterable[Result] = ()) -> None:
    """Show a frame as a Markdown table, its columns in order and its index left out; columns without any value are left out too.

    results: what the numbers were read from; a line below the table leads to their runs.
    formats: column → format specification (``".1%"``) or a function of one value.  Missing values are dashes.
    Columns of numbers stand right, also of numbers that are spelled out already, everything else left.
    """
    unknown = set(formats or {}) - set(frame.columns)
    if unknown:
        raise ValueError(f"formats for columns that are not there: {', '.join(sorted(unknown))}")
    header, columns, right = [], [], []
    for name in frame.columns:
        how = (formats or {}).get(name, "")
        spell = how if callable(how) else lambda value, how=how: format(value, how)
        cells = [escaped("–" if pd.isna(value) else spell(value)) for value in frame[name].tolist()]
        if columns and cells and set(cells) == {"–"}:
            continue  # a column that says nothing
        right.append(bool(columns) and all(re.match(r"[-+–\d]", cell) for cell in cells))  # never the first
        columns.append(cells)
        header.append(str(name))
    widths = [min(30, max(len(cell) for cell in [name, *column])) for name, column in zip(header, columns)]
    found = list(results) or [SEEN[key] for key in dict.fromkeys(frame.attrs.get("keys", ())) if key in SEEN]
    note = {"book": {"provenance": provenance_line(found), "runs": walk(found, COMMANDS)}} if found else {}
    display(Markdown(pipe_table(header, zip(*columns), widths, right)), metadata=note)


def summary(frame: pd.DataFrame, by: str | list[str], columns: Mapping[str, Callable]) -> pd.DataFrame:
    """One row per configuration, in order of appearance, with each column's values over its runs spelled out.

    A column ``method`` gets the names that figures use too.  The frame remembers its runs, which :func:`table` names.

    ``table(summary(results.frame(), by="method", columns={"accuracy": percent, "seconds": number}))``
    """

    def spell(values: pd.Series, how: Callable) -> str:
        kept = values.dropna()
        return how(kept) if len(kept) else "–"

    groups = frame.groupby(by, sort=False, dropna=False)
    rows = groups.apply(
        lambda part: pd.Series({name: spell(part[name], how) for name, how in columns.items()}), include_groups=False
    ).reset_index()
    rows = rows.assign(method=rows["method"].map(label)) if "method" in rows else rows
    rows.attrs["keys"] = tuple(frame["key"]) if "key" in frame else ()
    return rows


def show(figure: go.Figure, results: Iterable[Result] | str, alt: str | None = None) -> None:
    """Show a figure with its provenance and its alternative text.

    results: all results that the figure draws, or in words where they stand when they are too many to name.
    alt: replaces the description the builder wrote from its data.
    Raises ValueError when there is no alternative text at all.
    """
    meta = dict(figure.layout.meta or {}) | {"alt": alt or (figure.layout.meta or {}).get("alt")}
    if isinstance(results, str):
        meta["provenance"] = results
    else:
        results = list(results)
        meta |= {"provenance": provenance_line(results), "runs": walk(results, COMMANDS)}
    if not meta["alt"]:
        raise ValueError("this figure has no description; pass alt= with what it shows")
    figure = go.Figure(figure).update_layout(meta=meta)
    if "google.colab" in sys.modules:  # Colab draws plotly through its own renderer only
        pio.show(figure, renderer="colab")
        return
    bundle = figure.to_plotly_json() | {"config": CONFIG}
    display({"application/vnd.plotly.v1+json": bundle, "text/plain": f"{meta['alt']}\n{meta['provenance']}"}, raw=True)


def missing(results: Results) -> None:
    """Say in a line how many Specs have no result and why, with their names folded; nothing when all are there."""
    reasons: dict[str, list[str]] = {}
    for absent in results.missing:
        reasons.setdefault(absent.reason, []).append(absent.spec.label)
    for reason, labels in reasons.items():
        count = f"{len(labels)} of {len(results) + len(results.missing)} results"
        why = " were not run at this scale" if reason == PLANNED else f", {html.escape(reason)}"
        display(Markdown(details(f"{MISSING}{count}{why}.", told_apart(labels))))


def told_apart(labels: Sequence[str]) -> str:
    """Return a list of names in Markdown; settings that all of them have are said once above it."""
    words = [re.split(r" (?=[\w.]+=)", label) for label in labels]  # a value may have spaces
    shared = [word for word in words[0] if len(words) > 1 and all(word in other for other in words)]
    above = f"All of them: `{' '.join(shared)}`\n\n" if shared else ""
    own = (" ".join(word for word in one if word not in shared) for one in words)
    return above + "\n".join(f"- `{name}`" if name else "- nothing else" for name in own)
