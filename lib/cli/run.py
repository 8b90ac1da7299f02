"""``python -m lib run``: run what a chapter lacks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import click
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lib.book import launch
from lib.book.bars import words
from lib.cli.names import as_wrong_use, find_chapter, pick_studies, read_parameters, store_of, studies_of
from lib.runs import progress
from lib.runs.labels import cut, labels
from lib.runs.spec import Spec
from lib.runs.store import OUT_OF_TIME, Results, Store, obtain
from lib.studies import Chapter
from lib.studies.base.parameters import ChapterParameters
from lib.system import device as devices
from lib.system import distributed

#: Missing results that are named, and characters of what is said of each.
NAMED, WIDTH = 20, 100

#: What a shell reports of a program that Ctrl-C ended.
STOPPED = 130


def run(
    chapter: str,
    scale: str,
    given: dict[str, str],
    studies: tuple[str, ...],
    key: str | None,
    only_list: bool,
    device: str | None,
    time_limit: float | None,
) -> int:
    """Returns the exit status that :mod:`lib.__main__` documents."""
    begin = time.monotonic()
    where = find_chapter(chapter)
    parameters = read_parameters(where, scale, given)
    specs = pick_studies(studies_of(where, parameters), studies, key)
    store = store_of(parameters)
    if only_list:
        list_specs(specs, store)
        return 0

    with as_wrong_use():
        devices.pick(device)
    deadline = None if time_limit is None else begin + 60 * time_limit
    hindrance = parameters.hindrance
    recompute = parameters.recompute
    processes = getattr(parameters, "gpus", 1)
    if processes > 1 and not hindrance and not dist.is_torchelastic_launched():
        options = [
            *(f"--study={name}" for name in studies),
            *(f"--key={spec.key}" for spec in specs if key),
            *([f"--device={device}"] if device else []),
            *([f"--time-limit={time_limit}"] if time_limit else []),
        ]
        with as_wrong_use():
            launch.run_parallel(where.subject, parameters, processes, *options)
        late = deadline is not None and time.monotonic() > deadline
        hindrance, recompute = OUT_OF_TIME if late else f"not finished by its {processes} processes", False

    distributed.setup()
    try:
        with shown(Console()):
            results = obtain(specs, store=store, device=device, recompute=recompute, cannot_run=hindrance, deadline=deadline)
        if distributed.is_main():
            report(where, parameters, specs, results)
        return 0 if distributed.world_size() > 1 else status(results, parameters)  # torchrun spells out any other
    except KeyboardInterrupt:
        click.echo("\nstopped; finished results are stored, the same command carries on", err=True)
        return STOPPED
    finally:
        distributed.shutdown()


def report(where: Chapter, parameters: ChapterParameters, specs: list[Spec], results: Results) -> None:
    """Say what is missing, by name, then why, and last how much is stored: the end of a long list is what people see."""
    told, missing = labels(specs), results.missing
    for reason in dict.fromkeys(absent.reason for absent in missing):
        those = [absent.spec for absent in missing if absent.reason == reason]
        for spec in those[:NAMED]:
            click.echo(f"  {spec.key}  {cut(told[spec], WIDTH)}", err=True)
        if len(those) > NAMED:
            click.echo(f"  … and {len(those) - NAMED} more, which --list shows", err=True)
        click.echo(f"{len(those)} missing, {reason}", err=True)
    click.echo(f"{where.slug} at scale {parameters.scale}: {len(results)} of {len(specs)} results stored")


def status(results: Results, parameters: ChapterParameters) -> int:
    reasons = {missing.reason for missing in results.missing}
    if not reasons:
        return 0
    return 2 if parameters.hindrance else 3 if reasons == {OUT_OF_TIME} else 1


def list_specs(specs: list[Spec], store: Store) -> None:
    told = labels(specs)
    for spec in specs:
        result = store.get(spec)
        click.echo(f"{spec.key}  {result.origin if result else 'missing':9}  {told[spec]}")


@contextlib.contextmanager
def shown(console: Console) -> Iterator[None]:
    """Draw the progress of ``obtain``: a bar on a terminal, a line per result that was run elsewhere."""
    if not console.is_terminal:
        with watched(print_event):
            yield
        return
    columns = BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("", total=None)

        def draw(event: dict) -> None:
            part = 0 if event["fraction"] == 1.0 else event["fraction"]
            bars.update(task, total=event["total"], completed=event["done"] + part, description=words(event))

        with watched(draw):
            yield


def print_event(event: dict) -> None:
    if event["fraction"] == 1.0 and event["text"].startswith("ran"):
        click.echo(f"[{event['done']}/{event['total']}] {event['spec']}{event['text'].removeprefix('ran')}")


@contextlib.contextmanager
def watched(watch) -> Iterator[None]:
    progress.watchers.append(watch)
    try:
        yield
    finally:
        progress.watchers.remove(watch)
