"""``python -m lib run --all``: work through everything that the book lacks at a scale, and say how far it is.

By default one process per core with one thread each: small products do not fill several threads, and threads wait for
each other where something else runs too.  How much that is worth was not measured; ``--processes 1`` does it the other way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click
from rich.console import Console
from rich.table import Table

from lib import ROOT
from lib.cli.run import WIDTH, shown
from lib.runs.labels import cut
from lib.runs.scales import cannot_run
from lib.runs.spec import Spec
from lib.runs.store import Store, obtain
from lib.studies import Chapter
from lib.studies.base.worth import in_order_of_worth
from lib.system import attended
from lib.system import device as devices

#: Marks a process that the queue has started.
WORKER = "BOOK_QUEUE_WORKER"

#: Memory that a step has freed is kept for the next one, in large pages, instead of being returned and cleared again:
#: a tenth of a convolutional network's step on a CPU.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**31 - 1), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "THP_MEM_ALLOC_ENABLE": "1"}

#: Results named in the report.
NEXT = 5


def run(scale: str, processes: int | None, device: str | None, time_limit: float | None) -> int:
    """Run what is missing at ``scale``, in order of worth.  Returns the exit status that :mod:`lib.__main__` documents.

    processes: how many share the work; None: one per core on a CPU, one on a GPU.  time_limit: minutes after which no
    further result is begun.
    """
    store, listed = Store.default(), in_order_of_worth(scale)
    if reason := cannot_run(scale):
        click.echo(f"nothing is run: {reason}", err=True)
        return 2
    if os.environ.get(WORKER):
        attended.end_with_parent(signal.SIGTERM)
        with shown(Console()):
            obtain([spec for _, _, spec in listed], store=store, device=device, deadline=deadline_of(time_limit))
        return 0
    processes = processes or (devices.cores() if devices.pick(device).type == "cpu" else 1)
    with workers(scale, processes, device, time_limit) as started:
        failed = [worker for worker in started if worker.wait()]
    report(listed, store)
    missing = sum(store.get(spec) is None for _, _, spec in listed)
    return 0 if not missing else 1 if failed else 3


def list_all(scale: str) -> int:
    """Print every result of ``scale`` in the order in which it is run: its name, where it is stored, who asks for it, and what it is."""
    store, listed = Store.default(), in_order_of_worth(scale)
    for chapter, study, spec in listed:
        result = store.get(spec)
        origin = result.origin if result else "missing"
        click.echo(f"{spec.key}  {origin:9}  {cut(f'{chapter.subject} {study}  {spec.label}', WIDTH)}")
    return 0


def deadline_of(time_limit: float | None) -> float | None:
    return None if time_limit is None else time.monotonic() + 60 * time_limit


@contextlib.contextmanager
def workers(scale: str, processes: int, device: str | None, time_limit: float | None) -> Iterator[list[subprocess.Popen]]:
    """Processes that share the work, at low priority; they end with this one."""
    command = [
        sys.executable,
        "-m",
        "lib",
        "run",
        "--all",
        "--scale",
        scale,
        *(["--device", device] if device else []),
        *(["--time-limit", str(time_limit)] if time_limit is not None else []),
    ]
    threads = str(max(1, devices.cores() // processes))
    environment = os.environ | ALLOCATOR | {WORKER: "1", "OMP_NUM_THREADS": threads}
    started = [subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=lambda: os.nice(19)) for _ in range(processes)]
    stop = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield started
    finally:
        signal.signal(signal.SIGTERM, stop)
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.wait()


@dataclass(frozen=True)
class Left:
    """What one chapter lacks: so many results, and the hours of the processor that they will take, as far as is known."""

    stored: int
    missing: int
    hours: float
    unknown: int


def report(listed: Iterable[tuple[Chapter, str, Spec]], store: Store) -> None:
    """Print, on one screen, how much of each chapter is stored, what comes next, and how many hours remain."""
    listed = list(listed)
    table, taken = Table("chapter", "stored", "missing", "hours left", "unknown"), seconds_of(listed, store)
    for chapter in dict.fromkeys(chapter for chapter, _, _ in listed):
        part = left([entry for entry in listed if entry[0] == chapter], store, taken)
        table.add_row(chapter.slug, str(part.stored), str(part.missing), f"{part.hours:.1f}", str(part.unknown or ""))
    whole = left(listed, store, taken)
    table.add_section()
    table.add_row("the book", str(whole.stored), str(whole.missing), f"{whole.hours:.1f}", str(whole.unknown or ""))
    console = Console()
    console.print(table)
    console.print("hours: of one process, from how long results of the same kind took; unknown: results of a kind that none is stored of")
    following = [(chapter, study, spec) for chapter, study, spec in listed if store.get(spec) is None][:NEXT]
    for chapter, study, spec in following:
        console.print(f"next: {chapter.subject} {study}  {spec.label}", markup=False, overflow="ellipsis", no_wrap=True)


def seconds_of(listed: Iterable[tuple[Chapter, str, Spec]], store: Store) -> dict[tuple[str, str, str], float]:
    """Median seconds of the stored results of each kind: chapter, study and experiment."""
    taken: dict[tuple[str, str, str], list[float]] = {}
    for chapter, study, spec in listed:
        if result := store.get(spec):
            taken.setdefault((chapter.subject, study, spec.experiment), []).append(result.provenance["seconds"])
    return {kind: statistics.median(seconds) for kind, seconds in taken.items()}


def left(part: Iterable[tuple[Chapter, str, Spec]], store: Store, taken: dict[tuple[str, str, str], float]) -> Left:
    """Count what is stored and missing of ``part``, and the hours of what is missing."""
    stored = missing = unknown = 0
    hours = 0.0
    for chapter, study, spec in part:
        if store.get(spec):
            stored += 1
            continue
        missing += 1
        seconds = taken.get((chapter.subject, study, spec.experiment))
        unknown += seconds is None
        hours += (seconds or 0.0) / 3600
    return Left(stored, missing, hours, unknown)
