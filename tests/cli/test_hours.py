"""How long a scale takes is estimated from steps that are counted, and said as a table."""

from dataclasses import replace

import pytest

from lib.cli.hours import AROUND, LAUNCH, PEAK, SHARE, costs_like, estimate, estimated, known_work, trained_by, unseeded
from lib.runs.store import Store
from lib.studies.attention.cost import MachineRun
from lib.studies.base.rehearsal import Work
from lib.studies.growth.studies import Parameters, studies
from lib.studies.language.studies import Parameters as LanguageParameters
from lib.studies.language.studies import studies as language_studies
from lib.studies.pruning.studies import Parameters as PruningParameters
from lib.studies.pruning.studies import studies as pruning_studies
from lib.training.loop import Recipe


def test_a_step_takes_the_longer_of_its_compute_and_its_starts():
    (spec, *_) = language_studies(LanguageParameters(scale="cpu"))["gpt"]
    for flops, operations in ((1e15, 10), (1.0, 1_000)):
        work = Work(spec.steps, flops, operations, Recipe(precision="bf16"))
        found = estimate(spec, spec, work, spec)
        step = max(flops / (SHARE * PEAK["bf16"]), LAUNCH * operations)
        assert found.minutes * 60 == (spec.steps * step + AROUND) and found.pflops * 1e15 == spec.steps * flops
    twice = replace(spec, steps=2 * spec.steps)
    assert estimate(twice, twice, work, spec).pflops == 2 * found.pflops


def test_what_trains_is_told_from_what_does_not():
    assert trained_by(MachineRun()) is None
    compress = language_studies(LanguageParameters(scale="cpu"))["pruning"][-1]
    assert trained_by(compress) is None
    grown = next(spec for spec in studies(Parameters(scale="cpu"))["pipeline"] if spec.parent)
    assert trained_by(grown).config == grown.config and trained_by(grown).parent is None and trained_by(grown).steps == grown.steps
    pruned = pruning_studies(PruningParameters(scale="cpu"))
    ticket, control = pruned["tickets"][-1], pruned["controls"][0]
    assert trained_by(ticket) == ticket.parent and trained_by(control) == control.parent.parent


def test_seeds_cost_the_same_and_sizes_do_not():
    runs = studies(Parameters(scale="cpu"))["envelope"]
    assert len({unseeded(run) for run in runs}) == len(runs) // 3
    assert len({costs_like(run) for run in runs}) == 4


def test_no_story_is_told_before_the_first_step(tmp_path, monkeypatch):
    from lib.studies.distillation.studies import Parameters, studies

    spec = next(spec for spec in studies(Parameters(scale="smoke"))["stories"] if spec.author == "data")
    monkeypatch.setattr("lib.distillation.language.continued", lambda *_: pytest.fail("a story was told"))
    assert known_work(spec, Store(tmp_path / "none", tmp_path)).steps == spec.steps


def test_every_result_is_in_a_row():
    rows = estimated("smoke", ("privacy",))
    specs = [spec for row in rows for spec in range(row.results)]
    assert len(specs) == len({spec.key for study in privacy() for spec in study})
    budgets = next(row for row in rows if row.study == "budgets")
    assert budgets.minutes > 0 and budgets.pflops > 0 and not budgets.unknown
    shares = next(row for row in rows if row.study == "shares")
    assert shares.unknown == shares.results and shares.minutes == 0
    assert len(budgets.cells) == 7


def privacy():
    from lib.studies.privacy.studies import Parameters, studies

    return studies(Parameters(scale="smoke")).values()
