"""Sub-networks of which none is both cheaper and more accurate than another: an evolutionary search.

Once-for-All (arXiv 1908.09791, sec. 3.4) evolves sizes by a predictor of accuracy under one limit of latency.
Here NSGA-II (Deb et al. 2002), of the library pymoo, finds the whole trade-off at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from lib.elastic.config import Size, Space
from lib.elastic.encode import Encoding, random_sizes

Accuracy = Callable[[list[Size]], np.ndarray]
Cost = Callable[[Size], float]


def search(
    space: Space, accuracy: Accuracy, cost: Cost, budget: float | None = None, *, population: int = 64, generations: int = 40, seed: int = 0
) -> list[Size]:
    """The non-dominated sizes among all that the search looks at, at most ``population`` · ``generations``.

    ``accuracy`` is given many sizes at once; ``cost`` is counted once for each size; ``budget`` is the most that
    it may be.  Sorted by cost, lowest first, and the same for the same seed.
    Raises ValueError when no size within the budget was found.
    """
    # Imported here: half a second that only a search needs.
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.core.repair import Repair
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.optimize import minimize

    encoding, cost = Encoding(space), functools.cache(cost)
    seen: dict[Size, tuple[float, float]] = {}

    class Trade(Problem):
        def _evaluate(self, genome_NG, out, *args, **kwargs):
            sizes = encoding.sizes(genome_NG)
            found = np.column_stack([accuracy(sizes), [cost(size) for size in sizes]])
            seen.update(zip(sizes, map(tuple, found)))
            out["F"] = found * [-1, 1]
            if budget is not None:
                out["G"] = found[:, 1:] - budget

    class Valid(Repair):
        def _do(self, problem, genome_NG, **kwargs):
            return encoding.repair(np.clip(np.around(genome_NG).astype(int), 0, encoding.upper))

    first = np.concatenate(
        [encoding.genomes([space.smallest, space.largest]), encoding.random(population - 2, np.random.default_rng(seed))]
    )
    problem = Trade(n_var=len(encoding.upper), n_obj=2, n_ieq_constr=int(budget is not None), xl=0, xu=encoding.upper)
    # Small indices of the distributions: with a handful of values per gene, children should land on any of them.
    algorithm = NSGA2(
        population,
        sampling=first,
        crossover=SBX(prob=0.9, eta=3.0, vtype=float),
        mutation=PM(prob=0.9, eta=3.0, vtype=float),
        repair=Valid(),
        eliminate_duplicates=True,
    )
    minimize(problem, algorithm, ("n_gen", generations), seed=seed, verbose=False)

    within = [size for size, (_, spent) in seen.items() if budget is None or spent <= budget]
    if not within:
        raise ValueError(f"no sub-network costs {budget:,.6g} or less; the smallest costs {cost(space.smallest):,.6g}")
    return front(within, *zip(*(seen[size] for size in within)))


def random_search(space: Space, accuracy: Accuracy, cost: Cost, *, evaluations: int, seed: int = 0) -> list[Size]:
    """The non-dominated ones of as many random sizes, lowest cost first: what a search must beat."""
    sizes = random_sizes(space, evaluations, seed)
    return front(sizes, accuracy(sizes), [cost(size) for size in sizes])


def front(sizes: Sequence[Size], accuracies: Sequence[float], costs: Sequence[float]) -> list[Size]:
    """Sizes that no other beats: lower cost and at least the accuracy, or the cost and a higher accuracy."""
    found, best = [], -np.inf
    for _, negative, place in sorted(zip(costs, np.negative(accuracies), range(len(sizes)))):
        if -negative > best:
            best = -negative
            found.append(sizes[place])
    return found


def hypervolume(accuracies: Sequence[float], costs: Sequence[float], whole: float) -> float:
    """Area that a front dominates, between accuracy 0 and 1 and between cost 0 and ``whole``, as a fraction."""
    if not len(costs):
        return 0.0
    from pymoo.indicators.hv import HV

    points = np.column_stack([-np.asarray(accuracies, dtype=float), np.asarray(costs, dtype=float) / whole])
    return float(HV(ref_point=np.array([0.0, 1.0]))(points))
