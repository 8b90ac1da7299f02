"""What the elastic chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lib.runs.results import Results
from lib.studies.base.needs import above_linear, better, flat, matters
from lib.studies.elastic.claims import dense, of_length, picked, rigid, sampled, scores, tested, trained_at, wall

Studies = Mapping[str, Results]

#: What an eighth of the width, or another k, must cost at least before networks that vary it can be told apart.
LEAST_EFFECT = 0.02

#: How far a network may fall behind the same network under the usual recipe and still count as trained.
TRAINED = 0.02


def network_has_learnt(studies: Studies) -> None:
    """Need a whole network that beats a linear classifier of the pixels."""
    runs = next((found for found in map(ordinary, studies.values()) if found), Results((), ()))
    above_linear(list(scores(runs, *tested("large")).values()), runs[0].spec["dataset"] if runs else "cifar10", "the whole network")


def ordinary(runs: Results) -> Results:
    """The whole network by ordinary training; where a study has several, the mixture, or the widest dense one."""
    mixture = rigid(runs)
    if mixture:
        return mixture
    widest = max((r.spec["space"]["hidden"][-1] for r in runs if r.spec["sampler"] is None), default=None)
    return picked(runs, lambda spec: spec["sampler"] is None and spec["space"]["hidden"][-1] == widest)


def sandwich_has_learnt(studies: Studies) -> None:
    """Need networks that, by either rule, beat a linear classifier of the pixels on average over the largest and the smallest."""
    runs = studies["sandwich"]
    for name, of_rule in (("the sandwich rule", sampled(runs, "Sandwich", distil=False)), ("four at random", sampled(runs, "Uniform"))):
        ends = [float(np.mean(list(scores(of_rule, *tested(size)).values()))) for size in ("large", "smallest") if of_rule]
        means = [float(np.mean(ends))] if ends else []
        above_linear(means, runs[0].spec["dataset"] if runs else "cifar10", f"the mean of the largest and the smallest network by {name}")


def network_is_flat(studies: Studies, margin: float) -> None:
    """Need a whole network to which twice the training brings less than ``margin``."""
    longer = picked(studies["lengths"], lambda spec: spec["moe"] is not None)
    first = next((found for name, runs in studies.items() if name != "lengths" and (found := rigid(runs))), Results((), ()))
    twice = of_length(longer, 2 * first[0].spec["recipe"]["epochs"]) if first else longer
    flat(scores(first, *tested("large")), scores(twice, *tested("large")), margin, "the whole network")


def width_matters(studies: Studies) -> None:
    """Need FFNs whose width makes two points of difference at least."""
    runs = studies["matformer"]
    widths = sorted({r.spec["space"]["hidden"][0] for r in runs if r.spec["sampler"] is None})
    matters([mean(dense(runs, width)) for width in widths], LEAST_EFFECT, "the width of the FFNs")


def k_matters(studies: Studies) -> None:
    """Need mixtures in which the number of active experts makes two points of difference at least."""
    runs = studies["sparsity"]
    ks = sorted({r.spec["space"]["k"][0] for r in runs if r.spec["sampler"] is None})
    matters([mean(trained_at(runs, k)) for k in ks], LEAST_EFFECT, "the number of active experts")


def mean(runs: Results) -> float:
    return float(np.mean(list(scores(runs, *tested("large")).values())))


def distilled_network_trains(studies: Studies) -> None:
    """Need a largest network that trains under distillation in place as it does by labels, to two points."""
    distilled, labelled = (
        list(scores(runs, *tested("large")).values())
        for runs in (studies["late distillation"], sampled(studies["sandwich"], "Sandwich", distil=False))
    )
    better(distilled, labelled, "the largest network under distillation in place", "the same by labels alone", least=-TRAINED)


def coactivation_trains(studies: Studies) -> None:
    """Need a mixture trained by co-activation that is as good as an ordinary one at its own k, to half a point."""
    runs = studies["sparsity"]
    ours, usual = ([by_k[k] for k, by_k in map(wall, found)] for found in (sampled(runs, "CoActivation"), rigid(runs)))
    better(ours, usual, "the mixture trained by co-activation, at its own k,", "an ordinary one", least=-0.005)
