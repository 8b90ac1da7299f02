"""What is stored already, read without running anything."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from lib.runs.results import Missing, Result, Results
from lib.runs.scales import REFERENCE_SCALES
from lib.runs.spec import Spec
from lib.runs.store import Store


class Edition:
    """The committed results of one chapter: ``module`` is its ``studies`` module.

    Each file is read once, and each scale's Specs are listed once, however many claims ask for them.
    """

    def __init__(self, module: ModuleType, store: Store) -> None:
        self.module, self.store = module, store
        self._found: dict[Spec, Result] = {}
        self._specs: dict[str, dict[str, list[Spec]]] = {}

    def results(self, studies: Iterable[str]) -> dict[str, Results]:
        """Results of several studies, all at one scale so that they may be compared.

        The best scale with every Spec stored is taken, else the one with the most stored.  The reference
        edition is made with the chapter's default parameters.
        """
        studies, editions = tuple(studies), []
        for scale in REFERENCE_SCALES:
            specs = self.specs(scale)
            editions.append({study: self.replay(specs.get(study, ())) for study in studies})
            if all(results and not results.missing for results in editions[-1].values()):
                return editions[-1]
        return max(editions, key=lambda edition: sum(len(results) for results in edition.values()))

    def specs(self, scale: str) -> dict[str, list[Spec]]:
        """The chapter's studies at a scale, with its default parameters."""
        if scale not in self._specs:
            self._specs[scale] = self.module.studies(self.module.Parameters(scale=scale))
        return self._specs[scale]

    def replay(self, specs: Iterable[Spec]) -> Results:
        """The committed results of these Specs."""
        for spec in specs:
            if spec not in self._found and (result := self.store.get_reference(spec)):
                self._found[spec] = result
        return collected({spec: self._found.get(spec) for spec in specs}, "not in the reference edition")


def stored(specs: Iterable[Spec], store: Store) -> Results:
    """What the reader's own store or the committed one holds of these Specs."""
    return collected({spec: store.get(spec) for spec in specs}, "not run")


def collected(found: dict[Spec, Result | None], reason: str) -> Results:
    return Results(
        tuple(result for result in found.values() if result), tuple(Missing(spec, reason) for spec, result in found.items() if not result)
    )
