"""What the mixtures chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Mapping

from lib.measure.statistics import NotTestable
from lib.runs.results import Results
from lib.studies.base.needs import above_linear, better, flat
from lib.studies.base.seeds import each_seed
from lib.studies.moe.claims import called, dense, longest_dense

Studies = Mapping[str, Results]

#: Two accuracies closer than this on validation images are those of one network.
ALIKE = 0.001


#: Where wider layers are better by less than this, what experts add cannot be seen either.
WIDER_BY = 0.003


def scores(runs: Results) -> dict[int, float]:
    return each_seed(runs, lambda r: r.metrics["test_accuracy"])


def dense_has_learnt(studies: Studies) -> None:
    """Need a dense network, of the size that the details are tried at, that beats a linear classifier of the pixels."""
    learnt(dense(studies["baseline"]))


def compared_have_learnt(studies: Studies) -> None:
    """Need a dense network in the main comparison that beats a linear classifier of the pixels."""
    learnt(dense(studies["accuracy"]))


def learnt(runs: Results) -> None:
    above_linear(list(scores(runs).values()), runs[0].spec["dataset"] if runs else "cifar10", "the dense network")


def width_matters(studies: Studies) -> None:
    """Need feed-forward layers of which more is better: experts are more of them."""
    usual, wide = dense(studies["accuracy"]), called(studies["accuracy"], "dense, wide")
    better(scores(wide).values(), scores(usual).values(), "the network with wider layers", "the usual one", WIDER_BY)


def dense_is_flat(studies: Studies, margin: float) -> None:
    """Need a dense network, of the size that the details are tried at, to which twice the training brings less than ``margin``."""
    is_flat(studies["baseline"], margin)


def compared_are_flat(studies: Studies, margin: float) -> None:
    """Need a dense network in the main comparison to which twice the training brings less than ``margin``."""
    is_flat(studies["accuracy"], margin)


def is_flat(runs: Results, margin: float) -> None:
    flat(scores(dense(runs)), scores(longest_dense(runs)) if epochs(runs) > 1 else {}, margin, "the dense network")


def epochs(runs: Results) -> int:
    """In how many lengths the dense network was trained."""
    return len({r.spec["recipe"]["epochs"] for r in runs if r.spec["moe"] is None and r.spec["teacher"] is None})


def averaged_experts_differ(studies: Studies) -> None:
    """Need experts under weight averaging that are not all the same network."""
    apart = [
        abs(r.metrics["val_accuracy_first_expert"] - r.metrics["val_accuracy_merged_uniform"]) for r in called(studies["random"], "ewa")
    ]
    if apart and max(apart) < ALIKE:
        raise NotTestable("averaging has made all experts the same network: the first alone is right as often as all of them merged")
