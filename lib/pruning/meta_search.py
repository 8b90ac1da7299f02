"""Evolutionary search for a network's widths within a budget (MetaPruning, arXiv 1903.10258, section 3.2, algorithm 1)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from lib.pruning.meta import Genes
from lib.system.checks import require

#: Draws for one valid candidate before the search gives up.
TRIES = 10_000


@dataclass(frozen=True)
class Evolution:
    """``population`` random candidates at first; then, ``generations`` times, ``mutations`` and ``crossovers`` of the best
    ``parents`` that were ever seen.  In a mutation each gene is drawn anew with the ``probability``; in a crossover each
    gene comes from one of two parents.
    """

    population: int = 50
    generations: int = 20
    parents: int = 10
    mutations: int = 25
    crossovers: int = 25
    probability: float = 0.1

    def __post_init__(self) -> None:
        require(
            self.population >= 2 and self.generations >= 0 and 2 <= self.parents <= self.population,
            f"population {self.population} and parents {self.parents} must be at least 2, the parents no more than the others",
        )
        require(
            self.mutations >= 0 and self.crossovers >= 0 and 0 < self.probability <= 1,
            f"mutations {self.mutations}, crossovers {self.crossovers} and probability {self.probability} make no sense",
        )


def evolve(
    genes: int, choices: int, score: Callable[[Genes], float], within: Callable[[Genes], bool], settings: Evolution, seed: int = 0
) -> list[tuple[Genes, float]]:
    """All candidates that were looked at with their scores, the best first.  None is scored twice.

    genes: how many; choices: values of each, from 0.  score: higher is better.  within: whether it keeps to the budget.
    Raises ValueError when no candidate within it is found.
    """
    rng = random.Random(seed)
    seen: dict[Genes, float] = {}

    def ranked() -> list[tuple[Genes, float]]:
        return sorted(seen.items(), key=lambda item: -item[1])

    def add(number: int, propose: Callable[[], Genes], must: bool = False) -> None:
        """Score ``number`` new candidates; fewer where no more are found, as in a small space."""
        for _ in range(number):
            for _ in range(TRIES):
                candidate = propose()
                if candidate not in seen and within(candidate):
                    seen[candidate] = score(candidate)
                    break
            else:
                require(seen or not must, "no candidate keeps to the budget: allow more")
                return

    def mutated() -> Genes:
        start = rng.choice(best)
        return tuple(rng.randrange(choices) if rng.random() < settings.probability else gene for gene in start)

    def crossed() -> Genes:
        return tuple(map(rng.choice, zip(*rng.sample(best, 2)))) if len(best) > 1 else best[0]

    add(settings.population, lambda: tuple(rng.randrange(choices) for _ in range(genes)), must=True)
    for _ in range(settings.generations):
        best = [candidate for candidate, _ in ranked()[: settings.parents]]
        add(settings.mutations, mutated)
        add(settings.crossovers, crossed)
    return ranked()
