"""What the pruning chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results
from lib.studies.base.needs import above_linear, at_least, flat, matters
from lib.studies.base.seeds import each_seed
from lib.studies.pruning.claims import COLLAPSE, at_ratio
from lib.studies.pruning.names import warmed
from lib.studies.pruning.pairs import TEST

Studies = Mapping[str, Results]

#: Rise of the error between two copies of the dense network from step 0 that makes a question of stability.
LEAST_BARRIER = 0.1

#: Networks, and points between the best and the worst of them, behind a rank correlation.
RANKED, APART = 12, 0.05

#: A network's kind as its Spec's model calls it, in words.
KINDS = {"VGGConfig": "the dense VGG", "ResNetConfig": "the dense residual network", "MLPConfig": "the dense LeNet"}


def dense_runs(studies: Studies, longer: bool) -> dict[str, list[Result]]:
    """Runs without pruning and without a long warm-up, by the kind of network; of usual length or the longer ones."""
    found: dict[str, list[Result]] = {}
    for name, runs in studies.items():
        for r in runs:
            if r.experiment == "pruning-dense" and name.endswith("longer") == longer and not warmed(r.spec):
                found.setdefault(r.spec["model"]["type"], []).append(r)
    return found


def accuracy(runs: Iterable[Result]) -> dict[int, float]:
    return each_seed(runs, lambda r: r.metrics[TEST], "dense network")


def dense_has_learnt(studies: Studies) -> None:
    """Need a dense network that beats a linear classifier of the pixels."""
    found = dense_runs(studies, longer=False)
    if not found:
        raise NotTestable("no dense network was run, so nothing says that it has learnt anything")
    for kind, runs in found.items():
        above_linear(list(accuracy(runs).values()), runs[0].spec["dataset"], KINDS[kind])


def dense_is_flat(studies: Studies, margin: float) -> None:
    """Need a dense network to which twice the training brings less than ``margin``."""
    longer = dense_runs(studies, longer=True)
    for kind, runs in dense_runs(studies, longer=False).items():
        flat(accuracy(runs), accuracy(longer.get(kind, [])), margin, KINDS[kind])


def synflow_still_trains(studies: Studies) -> None:
    """Need networks that beat a linear classifier of the pixels after SynFlow has pruned them as far as magnitude collapses."""
    runs = studies["official init"]
    kept = at_ratio(runs, "SynFlow, official weights", COLLAPSE)
    above_linear(
        list(kept.values()), runs[0].spec["dense"]["dataset"] if runs else "cifar10", f"a network that SynFlow pruned to {COLLAPSE:.0f}×"
    )


def dense_is_unstable_at_start(studies: Studies) -> None:
    """Need a dense network that is unstable from step 0: ten points of error between two copies."""
    found = [
        r.metrics["test_barrier"]
        for r in studies["barrier"]
        if not r.spec["level"] and not r.spec["parent"]["rewind"] and not warmed(r.spec["parent"]["parent"])
    ]
    at_least(
        [100 * rise for rise in found],
        100 * LEAST_BARRIER,
        "the line between two copies of the dense network from step 0",
        "points of error above its ends",
    )


def networks_differ(studies: Studies) -> None:
    """Need a dozen networks with five points between the best and the worst."""
    for r in studies["meta"]:
        final = [row[TEST] for row in r.arrays["networks"]]
        at_least([len(final)], RANKED, "the search", "networks trained from scratch")
        matters(final, APART, "which widths a network has")
