"""Papers and claims: it runs nothing and shows what the other chapters stored."""

from __future__ import annotations

from dataclasses import dataclass

from lib.runs.spec import Spec
from lib.studies.base.parameters import ChapterParameters


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """Only the scale matters: whose results stand as this run's."""

    @property
    def replay_only(self) -> bool:
        return True


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """None of its own."""
    return {}
