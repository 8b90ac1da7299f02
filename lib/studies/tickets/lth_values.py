"""The values behind the tickets chapter's claims about lottery tickets in pre-trained BERT: one number per seed.

Each task is judged by itself: a mean over tasks can hide that they say opposite things.  Which of them count:
:mod:`lib.studies.tickets.counted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base.elsewhere import Scores, chosen_elsewhere
from lib.studies.tickets.counted import by_task, counted, measure, tested
from lib.studies.tickets.names import method, origin

Studies = Mapping[str, Results]

#: A value for each (task, seed).
Values = dict[tuple[str, int], float]

#: Values by task, or why a task does not count.
ByTask = dict[str, list[float] | NotTestable]

#: Tasks on which sources are compared by how often they win.
LEAST_TASKS = 3

#: The sparsity of the paper's ticket for SST-2, and about the mean of all its tasks.
USUAL_SPARSITY = 0.6


def collect(results: Results, which: Callable[[Result], bool], value: Callable[[Result], float | None] = tested) -> Values:
    """The value of the runs that are meant, by task and seed.  Raises ValueError where two of them share both."""
    found: dict[tuple[str, int], Result] = {}
    for r in filter(which, results):
        if (other := found.setdefault((r.spec["task"], r.fields["seed"]), r)).key != r.key:
            raise ValueError(f"{other.key} and {r.key} are both meant for task {r.spec['task']} and seed {r.fields['seed']}")
    return {key: number for key, r in found.items() if (number := value(r)) is not None}


def best_elsewhere(results: Iterable[Result], name: Callable[[Result], str]) -> Values:
    """Test score of what is best by validation score on the other seeds, task by task; of the only one as it is."""
    candidates: dict[str, dict[str, dict[int, Scores]]] = {}
    for r in results:
        of_task = candidates.setdefault(r.spec["task"], {})
        of_task.setdefault(name(r), {})[r.fields["seed"]] = (tested(r, "val"), tested(r))
    found: Values = {}
    for task, runs in candidates.items():
        chosen = chosen_elsewhere(runs) if len(runs) > 1 else {seed: tested for seed, (_, tested) in next(iter(runs.values())).items()}
        found |= {(task, seed): tested for seed, tested in chosen.items()}
    return found


def minus(first: Values, second: Values) -> Values:
    return {key: value - second[key] for key, value in first.items() if key in second}


def called(*names: str) -> Callable[[Result], bool]:
    return lambda result: method(result) in names


def ticket_minus_random_mask(studies: Studies) -> ByTask:
    tickets, controls = studies["tickets"], studies["controls"]
    return by_task(minus(collect(tickets, called("ticket")), collect(controls, called("random mask"))), studies, tickets, controls)


def ticket_minus_best_other_weights(studies: Studies) -> ByTask:
    """Against random or shuffled weights under the same masks, whichever is better by validation on the other seeds."""
    tickets, controls = studies["tickets"], studies["controls"]
    other = best_elsewhere(filter(called("ticket, random weights", "ticket, shuffled weights"), controls), method)
    return by_task(minus(collect(tickets, called("ticket")), other), studies, tickets, controls)


def whole_minus_ticket(studies: Studies) -> ByTask:
    """At the round next to a sparsity of 60 %."""
    tickets = studies["tickets"]

    def lost(result: Result) -> float:
        sparsities = result.curves["sparsity"]
        nearest = min(range(1, len(sparsities)), key=lambda place: abs(sparsities[place] - USUAL_SPARSITY))
        tests = result.curves[f"test_{measure(result.spec['task'])}"]
        return tests[0] - tests[nearest]

    return by_task(collect(tickets, called("ticket"), lost), studies, tickets)


def matrix(studies: Studies) -> dict[int, dict[str, dict[str, float]]]:
    """Test scores by seed, source and target, on tasks that count; sources include "direct"."""
    tickets, transfer = studies["tickets"], studies["transfer"]
    targets = counted(studies)
    found: dict[int, dict[str, dict[str, float]]] = {}
    for result in [*tickets, *transfer]:
        if result.spec["task"] in targets and (value := tested(result)) is not None:
            row = found.setdefault(result.fields["seed"], {}).setdefault(origin(result), {})
            row[result.spec["task"]] = value
    return found


def mlm_wins_minus_most(studies: Studies) -> list[float]:
    """On how many targets the ticket of masked words is the best from elsewhere, minus the most of any other source."""
    if len(tasks := counted(studies)) < LEAST_TASKS:
        raise NotTestable(f"the tasks that count are {len(tasks)}, and who wins on most takes {LEAST_TASKS}")
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


def mlm_minus_direct(studies: Studies) -> ByTask:
    transfer = studies["transfer"]
    mlm, direct = (collect(transfer, lambda r, source=source: origin(r) == source) for source in ("mlm", "direct"))
    return by_task(minus(mlm, direct), studies, transfer, studies["tickets"])


def mlm_minus_other_tasks(studies: Studies) -> ByTask:
    """Against the mean of the other tasks' tickets on each target."""
    transfer = studies["transfer"]
    mlm = collect(transfer, lambda r: origin(r) == "mlm")
    return by_task(minus(mlm, of_other_tasks(transfer)), studies, transfer, studies["tickets"])


def own_minus_other_tasks(studies: Studies) -> ByTask:
    """The same of a task's own ticket."""
    tickets, transfer = studies["tickets"], studies["transfer"]
    own = collect(tickets, lambda r: method(r) == "ticket" and r.spec["task"] != "mlm")
    return by_task(minus(own, of_other_tasks(transfer)), studies, tickets, transfer)


def of_other_tasks(transfer: Results) -> Values:
    """The mean score under the masks of the other tasks' tickets, by target and seed."""
    sums: dict[tuple[str, int], list[float]] = {}
    for result in transfer:
        if origin(result) not in ("mlm", "direct") and (value := tested(result)) is not None:
            sums.setdefault((result.spec["task"], result.fields["seed"]), []).append(value)
    return {key: sum(found) / len(found) for key, found in sums.items()}


def rewound_minus_ticket(studies: Studies) -> ByTask:
    """The rewinding point that is best by validation score on the other seeds."""
    tickets, rewound = studies["tickets"], studies["rewinding"]
    return by_task(minus(best_elsewhere(rewound, method), collect(tickets, called("ticket"))), studies, tickets, rewound)


def ticket_minus_standard(studies: Studies) -> ByTask:
    tickets, standard = studies["tickets"], studies["standard"]
    return by_task(minus(collect(tickets, called("ticket")), collect(standard, called("standard pruning"))), studies, tickets, standard)
