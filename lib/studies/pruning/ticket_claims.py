"""The values behind the pruning chapter's claims on lottery tickets; see :mod:`lib.studies.pruning.claims`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base.seeds import each_seed
from lib.studies.pruning.names import method, warmed
from lib.studies.pruning.pairs import TEST, BySeed, by_seed, difference, learnt, paired

Studies = Mapping[str, Results]

#: The share of the weights at which tickets are judged, and how much more may be left where no level meets it.
FIFTH, SLACK = 0.2, 0.01

#: LeNet's share of weights in the paper's statement on speed.
LENET_SHARE = 0.21


def place(run: Result, density: float) -> int:
    """The first of a run's levels with at most this share of the weights, else its last."""
    fit = [i for i, found in enumerate(run.curves["density"]) if found <= density + SLACK]
    return fit[0] if fit else len(run.curves["density"]) - 1


def at_level(runs: Iterable[Result], name: str, level: int, value: str = TEST) -> BySeed:
    return by_seed(runs, name, lambda r: dict(zip(r.curves["level"], r.curves[value])).get(level))


def of_kind(runs: Results, experiment: str, **fields) -> list[Result]:
    return [r for r in runs if r.experiment == experiment and all(r.fields.get(n.replace("__", ".")) == v for n, v in fields.items())]


def tickets_at(studies: Studies, late: bool, warm: bool = False) -> list[Result]:
    """Rewound tickets of the residual network: to the latest step tried or to step 0, with a warm-up or without."""
    runs = [r for r in of_kind(studies["tickets"], "pruning-tickets") if warmed(r.spec["parent"]) == warm]
    steps = sorted({r.spec["rewind"] for r in runs})
    if not steps or (late and steps[-1] == 0) or (not late and steps[0] != 0):
        raise NotTestable(
            f"there is no ticket {'at a later step' if late else 'at step 0'}{' with a warm-up' if warm else ''}{why(studies['tickets'])}"
        )
    return [r for r in runs if r.spec["rewind"] == (steps[-1] if late else 0)]


def dense_of(studies: Studies, warm: bool) -> BySeed:
    dense = (r for r in of_kind(studies["tickets"], "pruning-dense") if warmed(r.spec) == warm)
    found = each_seed(dense, lambda r: r.metrics[TEST], "dense network")
    if not found:
        raise NotTestable(f"there is no dense network to compare with{why(studies['tickets'])}")
    learnt(found.values())
    return found


def ticket_minus_dense(studies: Studies) -> list[float]:
    tickets = each_seed(tickets_at(studies, late=True), lambda r: r.curves[TEST][place(r, FIFTH)], "ticket")
    return difference(tickets, dense_of(studies, warm=False), studies["tickets"])


def minus_reinitialised(studies: Studies, late: bool) -> list[float]:
    """Tickets rewound to the latest step tried, or to step 0, minus re-initialised ones."""
    dense_of(studies, warm=False)
    own, others = tickets_at(studies, late), studies["controls"]
    level = own[0].curves["level"][place(own[0], FIFTH)]
    name = method(own[0])
    other = "re-initialised" + name.removeprefix("ticket")
    levels = {found for r in others if method(r) == other for found in r.curves["level"]}
    if level not in levels and levels:
        level = max(levels)  # controls are trained at the last level, whichever that is
    return difference(at_level(own, name, level), at_level(others, other, level), studies["tickets"], others)


def warmup_gain_of_the_ticket(studies: Studies) -> list[float]:
    """What the warm-up does for the ticket, less what it does for the dense network."""
    warm, cold = tickets_at(studies, late=False, warm=True), tickets_at(studies, late=False)
    last = cold[0].curves["level"][place(cold[0], FIFTH)]
    loss = {}
    for name, runs in (("warm", warm), ("cold", cold)):
        dense = dense_of(studies, warm=name == "warm")
        at = at_level(runs, method(runs[0]), last)
        loss[name] = {seed: value - dense[seed] for seed, value in at.items() if seed in dense}
    return difference(loss["warm"], loss["cold"], studies["tickets"])


def global_minus_layerwise(studies: Studies) -> list[float]:
    late = tickets_at(studies, late=True)
    name = method(late[0])
    return difference(by_seed(late, name), by_seed(studies["controls"], f"{name}, layer-wise"), studies["tickets"], studies["controls"])


def speed_over_reinitialised(studies: Studies) -> list[float]:
    runs = studies["lenet"]
    controls = of_kind(runs, "pruning-controls", control="reinitialised")
    levels = [(level, share) for r in controls[:1] for level, share in zip(r.curves["level"], r.curves["density"])]
    if not levels:
        raise NotTestable(f"there is no re-initialised LeNet{why(runs)}")
    level = min(levels, key=lambda found: abs(np.log(found[1] / LENET_SHARE)))[0]
    names = ("ticket, step 0", "re-initialised, step 0")
    own, other = (at_level(runs, name, level, "stop_step") for name in names)
    for name, stops in zip(names, (own, other)):
        ends = at_level(runs, name, level, "last_step")
        if late := [seed for seed, stop in stops.items() if stop >= ends[seed]]:
            raise NotTestable(f"{name}, seed {late[0]}: validation loss was still falling when training ended, so its least is not known")
    return [b / a for a, b in paired(own, other, runs)]


def rate_rewinding_minus_tuning(studies: Studies) -> list[float]:
    runs = studies["shot"]
    return beyond_unpruned(by_seed(runs, "rate rewound"), by_seed(runs, "fine-tuned"), ("rate rewound", "fine-tuned"), studies, runs)


def rate_minus_weight_rewinding(studies: Studies) -> list[float]:
    runs, late = studies["shot"], tickets_at(studies, late=True)
    name = method(late[0])
    return beyond_unpruned(by_seed(runs, "rate rewound"), by_seed(late, name), ("rate rewound", name), studies, runs, studies["tickets"])


def beyond_unpruned(first: BySeed, second: BySeed, names: tuple[str, str], studies: Studies, *runs: Results) -> list[float]:
    """The difference between two ways to retrain, less what the same two bring to the network without any pruning, seed by seed.

    Both are paired by seed: with the mean of the second for every seed, its own spread would not count, and the interval be too narrow.
    """
    unpruned = studies["unpruned"]
    arms = [by_seed(unpruned, f"unpruned, {name}") for name in names]
    if not all(arms):
        raise NotTestable(f"no unpruned network was retrained as long: the difference may be that of more training{why(unpruned)}")
    gained, plain = ({seed: one[seed] - other[seed] for seed in one if seed in other} for one, other in ((first, second), arms))
    return difference(gained, plain, *runs, unpruned)


# Stability


def barrier(studies: Studies, late: bool) -> BySeed:
    """Of the sparse network, trained twice from the latest step, or from step 0, without a warm-up."""
    runs = [r for r in studies["barrier"] if r.spec["level"] and not warmed(r.spec["parent"]["parent"])]
    steps = sorted({r.spec["parent"]["rewind"] for r in runs})
    if not steps or (late and steps[-1] == 0) or (not late and steps[0] != 0):
        raise NotTestable(f"no sparse network was trained twice from {'a later step' if late else 'step 0'}{why(studies['barrier'])}")
    found = [r for r in runs if r.spec["parent"]["rewind"] == (steps[-1] if late else 0)]
    for r in found:
        if r.metrics["diverged"]:
            raise NotTestable(f"a copy diverged, seed {r.fields['seed']}: the line has no end there")
        learnt([1 - max(r.curves["test_error"][0], r.curves["test_error"][-1])], "the worse of two copies")
    return each_seed(found, lambda r: r.metrics["test_barrier"], "barrier")


def barrier_of_late_ticket(studies: Studies) -> list[float]:
    return list(barrier(studies, late=True).values())


def barrier_at_start_minus_late(studies: Studies) -> list[float]:
    return difference(barrier(studies, late=False), barrier(studies, late=True), studies["barrier"])
