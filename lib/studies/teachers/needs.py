"""What the teachers chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lib.data.titles import title
from lib.measure.statistics import NotTestable
from lib.runs.results import Results
from lib.studies.base.needs import above_linear, flat
from lib.studies.base.seeds import each_seed
from lib.studies.teachers.hostile_claims import NASTY, by_seed

Studies = Mapping[str, Results]

ALONE = "labels alone"


def nasty_teacher_is_nasty(studies: Studies) -> None:
    """Need a nasty teacher from which an ordinary student loses, on average, against labels alone."""
    taught, alone = by_seed(studies["nasty students"], NASTY), by_seed(studies["alone"], ALONE)
    both = [seed for seed in taught if seed in alone]
    if not both:
        raise NotTestable("no ordinary student of the nasty teacher shows whether it is nasty")
    if (gain := float(np.mean([taught[seed] - alone[seed] for seed in both]))) >= 0:
        raise NotTestable(f"the nasty teacher is not nasty: an ordinary student of it is {100 * gain:+.1f} points from labels alone")


def network_with_exits_has_learnt(studies: Studies) -> None:
    """Need a plain network that beats a linear classifier of the pixels."""
    runs = [r for r in studies["self"] if not r.spec.get("places")]
    above_linear([r.metrics["test_accuracy"] for r in runs], runs[0].spec["dataset"] if runs else "cifar10", "the plain network")


def network_with_exits_is_flat(studies: Studies, margin: float) -> None:
    """Need a plain network to which twice the training brings less than ``margin``."""
    usual = each_seed((r for r in studies["self"] if not r.spec.get("places")), lambda r: r.metrics["test_accuracy"], "plain network")
    longer = each_seed(studies["self longer"], lambda r: r.metrics["test_accuracy"], "longer network")
    flat(usual, longer, margin, "the plain network")


def zero_shot_is_finished(studies: Studies) -> None:
    """Need zero-shot students on the paper's images, CIFAR-10."""
    names = {r.provenance["data"]["name"] for r in studies["zero-shot"]}
    if names and names != {"cifar10"}:
        raise NotTestable(f"the paper's figures are of CIFAR-10, and these students are of {', '.join(sorted(map(title, names)))}")
