"""The values behind chapter 5's claims about lottery tickets in pre-trained BERT: one number per seed.

Where a claim is about several tasks, a seed's value is the mean over those that both sides have.  Tasks that the whole
fine-tuned network has not learnt are left out: where all guess there is nothing to lose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter

from lib.experiments.tickets_names import method, origin
from lib.experiments.tickets_values import LEAST_ACCURACY, TEST
from lib.results import Result, Results
from lib.statistics import NotTestable, why

Studies = Mapping[str, Results]

#: A value for each (task, seed).
Values = dict[tuple[str, int], float]

#: The sparsity of the paper's ticket for SST-2, and about the mean of all its tasks.
USUAL_SPARSITY = 0.6


def collect(results: Results, which: Callable[[Result], bool],
            value: Callable[[Result], float | None] = lambda r: r.metrics.get(TEST)) -> Values:
    """The value of the runs that are meant, by task and seed."""
    found = {(r.spec["task"], r.fields["seed"]): value(r) for r in results if which(r)}
    return {key: number for key, number in found.items() if number is not None}


def learnt(tickets: Results) -> set[str]:
    """Tasks that the whole network has learnt, by all seeds together."""
    whole: dict[str, list[float]] = {}
    for r in tickets:
        if r.spec["task"] != "mlm":
            whole.setdefault(r.spec["task"], []).append(r.metrics["dense_val_accuracy"])
    return {task for task, found in whole.items() if sum(found) / len(found) >= LEAST_ACCURACY}


def over_tasks(values: Values, tasks: set[str], *results: Results) -> list[float]:
    """Mean over these tasks for each seed that has all of them that any seed has."""
    values = {key: value for key, value in values.items() if key[0] in tasks}
    present = {task for task, _ in values}
    found = [sum(values[task, seed] for task in present) / len(present) for seed in sorted({seed for _, seed in values})
             if all((task, seed) in values for task in present)]
    if not found:
        raise NotTestable(f"no seed has all the runs to compare on a task that the whole network has learnt{why(*results)}")
    return found


def minus(first: Values, second: Values) -> Values:
    return {key: value - second[key] for key, value in first.items() if key in second}


def called(*names: str) -> Callable[[Result], bool]:
    return lambda result: method(result) in names



def ticket_minus_random_mask(studies: Studies) -> list[float]:
    tickets, controls = studies["tickets"], studies["controls"]
    return over_tasks(minus(collect(tickets, called("ticket")), collect(controls, called("random mask"))), learnt(tickets),
                      tickets, controls)


def ticket_minus_best_other_weights(studies: Studies) -> list[float]:
    """Against random or shuffled weights under the same masks, whichever is better by validation accuracy."""
    tickets, controls = studies["tickets"], studies["controls"]
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for name in ("ticket, random weights", "ticket, shuffled weights"):
        for key, found in collect(controls, called(name), lambda r: (r.metrics["val_accuracy"], r.metrics[TEST])).items():
            best[key] = max(best.get(key, found), found, key=itemgetter(0))
    other = {key: tested for key, (_, tested) in best.items()}
    return over_tasks(minus(collect(tickets, called("ticket")), other), learnt(tickets), tickets, controls)


def whole_minus_ticket(studies: Studies) -> list[float]:
    """At the round next to a sparsity of 60 %."""
    tickets = studies["tickets"]

    def lost(result: Result) -> float:
        sparsities = result.curves["sparsity"]
        nearest = min(range(1, len(sparsities)), key=lambda place: abs(sparsities[place] - USUAL_SPARSITY))
        return result.curves[TEST][0] - result.curves[TEST][nearest]
    return over_tasks(collect(tickets, called("ticket"), lost), learnt(tickets), tickets)


def matrix(studies: Studies) -> dict[int, dict[str, dict[str, float]]]:
    """Test accuracy by seed, source and target, on tasks that the whole network has learnt; sources include "direct"."""
    tickets, transfer = studies["tickets"], studies["transfer"]
    targets = learnt(tickets)
    found: dict[int, dict[str, dict[str, float]]] = {}
    for result in [*tickets, *transfer]:
        if result.spec["task"] in targets and result.metrics.get(TEST) is not None:
            row = found.setdefault(result.fields["seed"], {}).setdefault(origin(result), {})
            row[result.spec["task"]] = result.metrics[TEST]
    return found


def mlm_wins_minus_most(studies: Studies) -> list[float]:
    """On how many targets the ticket of masked words is the best from elsewhere, minus the most of any other source."""
    values = []
    for rows in matrix(studies).values():
        targets = sorted({target for row in rows.values() for target in row})
        wins = dict.fromkeys(rows, 0)
        for target in targets:
            here = {source: row[target] for source, row in rows.items() if source != target and target in row}
            if "mlm" in here and len(here) > 1:
                best = max(here.values())
                for source, accuracy in here.items():
                    wins[source] += accuracy == best
        if "mlm" in wins and len(wins) > 1 and targets:
            values.append(float(wins["mlm"] - max(count for source, count in wins.items() if source != "mlm")))
    if not values:
        raise NotTestable(f"no seed has tickets of several sources on a task{why(studies['tickets'], studies['transfer'])}")
    return values


def mlm_minus_direct(studies: Studies) -> list[float]:
    transfer = studies["transfer"]
    mlm, direct = (collect(transfer, lambda r, source=source: origin(r) == source) for source in ("mlm", "direct"))
    return over_tasks(minus(mlm, direct), learnt(studies["tickets"]), transfer, studies["tickets"])


def mlm_minus_other_tasks(studies: Studies) -> list[float]:
    """Against the mean of the other tasks' tickets on each target."""
    transfer = studies["transfer"]
    sums: dict[tuple[str, int], list[float]] = {}
    for result in transfer:
        if origin(result) not in ("mlm", "direct") and result.metrics.get(TEST) is not None:
            sums.setdefault((result.spec["task"], result.fields["seed"]), []).append(result.metrics[TEST])
    others = {key: sum(found) / len(found) for key, found in sums.items()}
    mlm = collect(transfer, lambda r: origin(r) == "mlm")
    return over_tasks(minus(mlm, others), learnt(studies["tickets"]), transfer, studies["tickets"])


def rewound_minus_ticket(studies: Studies) -> list[float]:
    """The rewinding point that is best by validation accuracy."""
    tickets, rewound = studies["tickets"], studies["rewinding"]
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for result in rewound:
        key, found = (result.spec["task"], result.fields["seed"]), (result.metrics["val_accuracy"], result.metrics[TEST])
        best[key] = max(best.get(key, found), found, key=itemgetter(0))
    later = {key: tested for key, (_, tested) in best.items()}
    return over_tasks(minus(later, collect(tickets, called("ticket"))), learnt(tickets), tickets, rewound)


def ticket_minus_standard(studies: Studies) -> list[float]:
    tickets, standard = studies["tickets"], studies["standard"]
    return over_tasks(minus(collect(tickets, called("ticket")), collect(standard, called("standard pruning"))),
                      learnt(tickets), tickets, standard)
