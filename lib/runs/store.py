"""A Spec is run once; its Result is one small file.

Two stores, one lookup: ``data/results/`` is committed (the reference edition), ``runs/`` is the reader's
own (``BOOK_RUNS`` moves it).  :func:`obtain` replays what either holds and runs what is missing, one Spec
at a time, each result written atomically: kill it at any point, start it again, and nothing that was
finished is lost or run twice.  Several processes may share a store; a lock per Spec, released by the
operating system when its holder dies, keeps them from doing the same work.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from lib import ROOT
from lib.runs import tensor_file
from lib.runs.checkpoint import untied
from lib.runs.labels import labels
from lib.runs.progress import Progress
from lib.runs.provenance import provenance
from lib.runs.results import Damaged, Missing, Outcome, Result, Results, Unavailable, check_spec, read_result, write_result
from lib.runs.spec import Spec
from lib.system import device as devices
from lib.system import distributed, folders
from lib.system.whole_file import PART

__all__ = ["Missing", "Outcome", "Result", "Results", "Session", "Spec", "Store", "Unavailable", "obtain"]

OUT_OF_TIME = "not begun within the time limit"


@dataclass(frozen=True)
class Store:
    """Where results are looked up (``reference``, then ``own``) and written (``own``)."""

    reference: Path
    own: Path

    @classmethod
    def default(cls, own: str | None = None) -> Store:
        """The book's store; ``own`` is another folder for new results than ``BOOK_RUNS`` or ``runs/``."""
        return cls(ROOT / "data" / "results", folders.named(own) if own else folders.own_runs())

    def path(self, spec: Spec) -> Path:
        return self.own / "results" / spec.experiment / f"{spec.key}.json"

    def reference_path(self, spec: Spec) -> Path:
        return self.reference / spec.experiment / f"{spec.key}.json"

    def scratch(self, spec: Spec) -> Path:
        """Folder for what a Spec leaves beside its result: weights and training state, never committed."""
        return self.own / "checkpoints" / spec.experiment / spec.key

    def get(self, spec: Spec) -> Result | None:
        """The stored result, the reader's own before the reference; None when there is none."""
        return self.get_own(spec) or self.get_reference(spec)

    def get_own(self, spec: Spec) -> Result | None:
        return read_or_set_aside(self.path(spec), "own", spec)

    def get_reference(self, spec: Spec) -> Result | None:
        return read_or_set_aside(self.reference_path(spec), "reference", spec)

    def put(self, spec: Spec, result: Result) -> None:
        write_result(self.path(spec), result)

    def lock(self, spec: Spec) -> FileLock:
        folder = self.own / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{spec.key}.lock")

    def check_writable(self) -> None:
        """Fail before the work is done, not after it.  Raises PermissionError with what to do."""
        probe = self.own / f".write-test-{os.getpid()}"
        try:
            for part in (self.own, *(self.own / name for name in ("results", "checkpoints", "locks"))):
                part.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise PermissionError(
                f"cannot write results to {self.own} ({error.filename}: {error.strerror}). Set BOOK_RUNS to a folder you can "
                "write to; stored results are still replayed with `recompute=False` where none is missing."
            ) from error


def read_or_set_aside(path: Path, origin: str, spec: Spec) -> Result | None:
    """A damaged file is named and renamed to ``*.damaged``: neither trusted nor written over."""
    try:
        result = read_result(path, origin)
        check_spec(result, spec, path)
        return result
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Damaged as damage:
        restore = f"; `git checkout -- {path}` restores it" if origin == "reference" else ", its Spec is run again"
        try:
            aside = set_aside(path)
            print(f"damaged result set aside as {aside.name}{restore}\n  {damage}", file=sys.stderr)
        except OSError:
            print(f"damaged result ignored (it could not be renamed){restore}\n  {damage}", file=sys.stderr)
        return None


@dataclass(frozen=True)
class Session:
    """What a running Spec may use: its device, its folder for checkpoints, a line to report progress on.

    ``diverged`` collects what is known of training that diverged, this Spec's or of those that it builds on.
    """

    device: torch.device
    store: Store
    spec: Spec
    report: Callable[[float, str], None]
    diverged: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.store.scratch(self.spec)

    @property
    def checkpoint(self) -> Path:
        """Where unfinished training keeps its state; removed once the result is written."""
        return self.folder / "state"

    @property
    def weights_path(self) -> Path:
        """Where a Spec that others build on leaves its final weights (safetensors)."""
        return self.folder / "weights.safetensors"

    def weights(self, spec: Spec) -> Path:
        """Final weights of another Spec, which is run first when they are not on this machine or damaged.

        Weights are never committed, so a result replayed from the reference store may lack them.
        """
        other = replace(self, spec=spec)
        with locked(self.store, spec):
            if not distributed.broadcast(distributed.is_main() and intact(other.weights_path)):
                run(spec, other)
                distributed.barrier()  # the main process writes the weights while the others may be here already
            elif (result := self.store.get(spec)) and result.metrics.get("diverged"):
                self.diverged.append(f"the training of {spec.key}, which it builds on, diverged")
        return other.weights_path

    def save_weights(self, model: nn.Module, **more: dict[str, Tensor]) -> None:
        """Leave ``model``'s weights for others, atomically: a reader finds all of them or none.  Only rank 0 writes.

        ``more``: further tensors by name, such as an optimizer's moments, each group under its name and a dot.
        """
        if not distributed.is_main():
            return
        tensors = untied(model) | {f"{group}.{name}": tensor for group, named in more.items() for name, tensor in named.items()}
        tensor_file.write(self.weights_path, tensors)


def intact(weights: Path) -> bool:
    """Whether a file of weights is there and can be read; a damaged one is set aside."""
    try:
        tensor_file.read(weights, needs_checksum=False)
        return True
    except FileNotFoundError:
        return False
    except tensor_file.Unreadable as error:
        aside = set_aside(weights)
        print(f"damaged weights set aside as {aside.name}, their Spec is run again\n  {error}", file=sys.stderr)
        return False


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it is neither trusted nor written over; returns its new path."""
    aside = path.with_name(f"{path.stem}.damaged-{int(time.time())}")
    path.rename(aside)
    return aside


def run(spec: Spec, session: Session) -> Result:
    """Run one Spec now and write its result.  Under ``torchrun`` every rank computes and rank 0 writes."""
    if distributed.is_main():
        sweep(session.store, spec)
    where = provenance(session.device)
    if session.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(session.device)
    start = time.perf_counter()
    outcome = outcome_of(spec, session)
    if session.diverged:
        where["diverged"] = list(dict.fromkeys(session.diverged))
    where |= {"seconds": round(time.perf_counter() - start, 2), "processes": distributed.world_size()}
    if session.device.type == "cuda":
        where["peak_memory_bytes"] = torch.cuda.max_memory_allocated(session.device)
    result = Result.of(spec, outcome, where)
    if distributed.is_main():
        session.store.put(spec, result)
        shutil.rmtree(session.checkpoint, ignore_errors=True)
    return result


def sweep(store: Store, spec: Spec) -> None:
    """Remove what a process that was killed while it wrote a file of this Spec left of it.  Its lock is held: nobody else writes there."""
    result = store.path(spec)
    for part in [*store.scratch(spec).rglob(f".*.{PART}"), *result.parent.glob(f".{result.name}.{PART}")]:
        part.unlink(missing_ok=True)


def outcome_of(spec: Spec, session: Session) -> Outcome:
    """What running the Spec gave.  Raises :class:`Unavailable` where training diverged and the rest then failed over it."""

    def report(part: float, text: str) -> None:
        if found := re.search(r"diverged at step \d+", text):
            session.diverged.append(f"training {found[0]}")
        session.report(part, text)

    try:
        return spec.run(replace(session, report=report))
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        if not session.diverged or isinstance(error, Unavailable):
            raise
        raise Unavailable(f"{session.diverged[0]}, and what is left cannot be measured ({type(error).__name__}: {error})") from error


def obtain(
    specs: Iterable[Spec],
    *,
    store: Store | None = None,
    device: str | None = None,
    recompute: bool = False,
    cannot_run: str | None = None,
    deadline: float | None = None,
) -> Results:
    """Results of ``specs``, replayed where stored and run where missing.

    recompute: run again what is stored.  cannot_run: a reason not to run anything here (a missing GPU);
    Specs without a result are then reported as missing, with that reason.  deadline: the
    ``time.monotonic()`` after which no further Spec is begun; those left are missing, OUT_OF_TIME.

    Raises PermissionError when something must run and the store is read-only.  A Spec that raises
    :class:`Unavailable` is reported as missing; any other error passes through, with all finished
    results kept.
    """
    specs = list(dict.fromkeys(specs))
    store = store or Store.default()
    place = devices.pick(device)
    progress, told = Progress(len(specs)), labels(specs)
    found: dict[Spec, Result] = {}
    missing: dict[Spec, Missing] = {}

    pending = []
    for spec in specs:
        stored = None if recompute else distributed.broadcast(store.get(spec) if distributed.is_main() else None)
        if stored:
            found[spec] = stored
            progress.finished(told[spec], "replayed")
        elif cannot_run:
            missing[spec] = Missing(spec, cannot_run)
            progress.finished(told[spec], cannot_run)
        else:
            pending.append(spec)
    if pending and distributed.is_main():
        store.check_writable()

    while pending:
        if deadline is not None and distributed.broadcast(time.monotonic() > deadline):
            missing |= {spec: Missing(spec, OUT_OF_TIME) for spec in pending}
            break
        # First what no other process is busy with, nor with what it builds on; only when nothing else is left, wait for that.
        spec = next((s for s in pending if not any(busy(store, each) for each in lineage(s))), pending[0])
        pending.remove(spec)
        session = Session(place, store, spec, lambda part, text, spec=spec: progress.running(told[spec], part, text))
        try:
            found[spec] = run_once(spec, session, replay=not recompute)
            progress.finished(told[spec], ", ".join(["ran", *dict.fromkeys(session.diverged)]))
        except Unavailable as error:
            missing[spec] = Missing(spec, str(error))
            progress.finished(told[spec], str(error))
    return Results(tuple(found[s] for s in specs if s in found), tuple(missing[s] for s in specs if s in missing))


def lineage(spec: Spec) -> Iterator[Spec]:
    """The Spec and all that it builds on, the nearest first."""
    yield spec
    for parent in spec.builds_on:
        yield from lineage(parent)


def busy(store: Store, spec: Spec) -> bool:
    """Whether another process holds this Spec's lock.  Ranks of one run agree by asking rank 0."""
    held = False
    if distributed.is_main():
        try:
            with store.lock(spec).acquire(timeout=0):
                pass
        except Timeout:
            held = True
    return distributed.broadcast(held)


def run_once(spec: Spec, session: Session, replay: bool) -> Result:
    """Run ``spec`` under its lock; a process that waited for the lock replays what the holder wrote."""
    with locked(session.store, spec):
        ready = session.store.get(spec) if replay and distributed.is_main() else None
        return distributed.broadcast(ready) or run(spec, session)


@contextlib.contextmanager
def locked(store: Store, spec: Spec) -> Iterator[None]:
    """Hold the Spec's lock: rank 0 does for all, and the others follow it through the next broadcast."""
    with store.lock(spec) if distributed.is_main() else contextlib.nullcontext():
        yield
