"""The values behind the growth chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from lib.measure.statistics import NotTestable, paired, paired_differences, why
from lib.runs.results import Results
from lib.studies.base.elsewhere import chosen_elsewhere
from lib.studies.base.seeds import difference as by_seed_difference
from lib.studies.base.seeds import each_seed
from lib.studies.growth.names import method, ordered, share
from lib.studies.growth.saving import envelope_saving

Studies = Mapping[str, Results]

LOSS = "test_bits_per_byte"
OLD_LOSS = "old_test_bits_per_byte"

#: Networks by their names in tables and figures.
TRAINED_ON = "dense, trained on"
NET2NET, STACKED = "FFN width, Net2Net", "depth, stacked"
EVEN = "width, equal copies"
UPCYCLED = "experts"
SILENT = "depth, silent between"

#: Of the operators that exactness is shown for, LEMON's.
LEMON = ("width, unequal shares", "depth, interleaved", "depth, on top")

#: The student project's order of growth, its networks with experts, and the share of their parameters that it states.
PROJECT_ORDER = ["experts", "width", "depth"]
PROJECT_SPARSE = ("experts", "wide", "deep")
PROJECT_SHARE = (0.3, 0.4)


# Picking and comparing runs


def called(runs: Results, *names: str) -> Results:
    """Those whose :func:`~lib.studies.growth.names.method` is one of these names."""
    found = tuple(one for one in runs if method(one) in names)
    for one in found:
        if one.metrics.get("diverged"):
            raise NotTestable(f"{method(one)!r} diverged with seed {one.spec['seed']}")
    return Results(found, runs.missing)


def difference(first: Results, second: Results, metric: str = LOSS) -> list[float]:
    return paired_differences(first, second, metric)


def best_elsewhere(runs: Results, names: Iterable[str], curve: str = "bits_per_byte", metric: str = LOSS) -> dict[int, float]:
    """Return, by seed, the test loss of that of the methods named whose validation curve ends lowest on the other seeds.

    NotTestable where none of them was run, or with one seed.
    """
    candidates = {
        name: each_seed(found, lambda one: (one.curves[curve][-1], one.metrics[metric]), name)
        for name in names
        if (found := called(runs, name))
    }
    if not candidates:
        raise NotTestable(f"none of those to compare with was run{why(runs)}")
    return chosen_elsewhere(candidates, min)


def losses(runs: Results, name: str, metric: str = LOSS) -> dict[int, float]:
    return each_seed(called(runs, name), lambda one: one.metrics[metric], name)


def worth(grown: Results, studies: Studies) -> list[float]:
    """The compute that scratch of the best size needs for each network's loss, over the network's own and its source's."""
    final, smaller = studies["scratch"], studies["envelope"]
    if not len(smaller) or smaller.missing:  # a part of the envelope lies above the envelope
        raise NotTestable(
            f"not all networks smaller than the final one were trained from scratch with the full compute budget: "
            f"against the final size alone, growth may only show that it is too large{why(smaller)}"
        )
    scratch = Results((*final, *smaller), (*final.missing, *smaller.missing))
    try:
        return [1 / (1 - envelope_saving(one, scratch)) for one in grown]
    except ValueError as error:
        raise NotTestable(f"{error}{why(scratch)}") from error


def saved(studies: Studies, study: str, name: str) -> list[float]:
    """The part of that compute, beyond the network's own, by which training from scratch is longer."""
    return [times - 1 for times in worth(called(studies[study], name), studies)]


def worth_uncharged(studies: Studies, study: str, name: str) -> list[float]:
    """The compute that scratch needs over that of the further training alone."""
    grown = called(studies[study], name)
    return [times * one.metrics["total_flops"] / one.metrics["flops"] for one, times in zip(grown, worth(grown, studies))]


# Net2Net and HyperCloning


def even_minus(studies: Studies, name: str) -> list[float]:
    """Equal copies against copies that differ, with dropout: without anything that tells them apart they can never separate."""
    runs = studies["dropout"]
    if not len(runs):
        raise NotTestable(f"nothing in the runs at hand tells equal copies apart: they are without dropout and deterministic{why(runs)}")
    even, other = (called(runs, *(found for one in runs if (found := method(one)).startswith(which))) for which in (EVEN, name))
    return difference(even, other)


# G_stack


def best_other_minus_stack(studies: Studies) -> list[float]:
    depth, width = studies["depth"], studies["width"]
    runs = Results((*depth, *width), (*depth.missing, *width.missing))
    others = sorted({method(one) for one in runs} - {STACKED, NET2NET})
    if any(one.spec["parent"]["model"]["depth"] == 1 for one in called(runs, STACKED)):
        raise NotTestable("repeating a stack of one layer is repeating its last layer")
    return by_seed_difference(best_elsewhere(runs, others), losses(runs, STACKED), runs)


# LEMON and staged training


def log_relative_difference(studies: Studies) -> list[float]:
    found = []
    for one in studies["exactness"]:
        rows = dict(zip(one.arrays["operators"], one.arrays["single"], strict=True))
        found += [math.log10(max(of_network)) for of_network in zip(*(rows[name] for name in LEMON))]
    return found


def log_path_difference(studies: Studies) -> list[float]:
    return [math.log10(one.metrics["largest_difference"]) for one in studies["commuting"]]


# Upcycling


def scratch_minus_upcycled(studies: Studies) -> list[float]:
    times, scratch = called(studies["times"], UPCYCLED), called(studies["scratch"], "experts, from scratch")
    upcycled = Results(tuple(one for one in times if abs(share(one) - 0.5) < 0.02), times.missing)
    if not upcycled:
        raise NotTestable(f"no mixture was grown after half of the compute{why(times)}")
    return difference(scratch.where(steps=upcycled[0].spec["steps"]), upcycled)  # the same network: the same compute


# LLaMA Pro


def full_forgets_minus_blocks(studies: Studies) -> list[float]:
    runs = studies["continual"]  # of the same source, so the same loss before
    whole = best_elsewhere(runs, (SILENT, TRAINED_ON), "old_val_loss", OLD_LOSS)
    return by_seed_difference(whole, losses(runs, f"{SILENT}, new blocks only", OLD_LOSS), runs)


# The student project


def largest_change_of_loss(studies: Studies) -> list[float]:
    changes: dict[int, list[float]] = {}
    for one in studies["pipeline"]:
        steps = ordered(one.spec)
        if steps and steps == PROJECT_ORDER[: len(steps)]:
            changes.setdefault(one.spec["seed"], []).append(abs(one.metrics["loss_after"] - one.metrics["loss_before"]))
    whole = [max(of_seed) for of_seed in changes.values() if len(of_seed) == len(PROJECT_ORDER)]
    if not whole:
        raise NotTestable(f"no network went through {' → '.join(PROJECT_ORDER)} in this order{why(studies['pipeline'])}")
    return whole


def active_share_outside_range(studies: Studies) -> list[float]:
    low, high = PROJECT_SHARE
    shares = [
        one.metrics[f"active_parameters_{name}"] / one.metrics[f"parameters_{name}"]
        for one in studies["presets"]
        for name in PROJECT_SPARSE
    ]
    return [max(0.0, low - part, part - high) for part in shares]
