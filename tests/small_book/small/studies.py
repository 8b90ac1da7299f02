"""A chapter for the tests of command line and workflow: three results, made in no time."""

from dataclasses import dataclass

from lib.studies.base.parameters import ChapterParameters
from store_specs import Logged


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    rate: float = 1.0
    word: str | None = None
    gpus: int = 1
    output: str | None = None


def studies(parameters):
    named = [Logged(name=name, rate=parameters.rate) for name in ("one", "two")]
    return {"main": named, "other": [Logged(name=parameters.word or "three", rate=parameters.rate), named[0]]}
