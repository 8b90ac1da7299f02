"""Seeds follow every run that another builds on, names cannot hide each other, and the best is chosen elsewhere."""

from dataclasses import dataclass, fields

import pytest

from lib.measure.statistics import NotTestable
from lib.runs.results import Result
from lib.runs.scales import SCALES
from lib.runs.spec import Spec
from lib.studies import CHAPTERS
from lib.studies.base.elsewhere import chosen, chosen_elsewhere, shared
from lib.studies.base.seeds import by_seed, seeded, with_seed
from lib.studies.tickets.checkpoint import CheckpointRun
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.tinybert import GeneralRun
from lib.studies.tickets.words_head import WordsHeadRun


@dataclass(frozen=True, kw_only=True)
class Base(Spec):
    experiment = "test-base"
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Built(Spec):
    experiment = "test-built"
    parent: Base
    teacher: Spec | None = None
    trials: tuple[Spec, ...] = ()
    numbers: tuple[int, ...] = (1, 2)


def test_a_seed_follows_every_parent():
    spec = Built(parent=Base(size=2), teacher=Built(parent=Base()), trials=(Base(), Base(size=3)))
    moved = with_seed(spec, 7)
    assert moved == Built(
        seed=7, parent=Base(size=2, seed=7), teacher=Built(seed=7, parent=Base(seed=7)), trials=(Base(seed=7), Base(size=3, seed=7))
    )
    assert with_seed(moved, 0) == spec and spec.seed == 0
    assert seeded(range(2), spec, spec) == [spec, with_seed(spec, 1)]


def inner(spec: Spec):
    for field in fields(spec):
        part = getattr(spec, field.name)
        for one in part if isinstance(part, tuple) else (part,):
            if isinstance(one, Spec):
                yield one
                yield from inner(one)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("chapter", [chapter for chapter in CHAPTERS if not chapter.summarises], ids=lambda chapter: chapter.subject)
def test_every_run_and_what_it_builds_on_have_one_seed(chapter, scale):
    """Pre-training apart, which is done once for all; and runs that draw nothing may keep seed 0 for every parent."""
    for name, specs in chapter.module.studies(chapter.module.Parameters(scale=scale)).items():
        for spec in specs:
            for one in inner(spec):
                drawn = spec.seed if type(spec).__name__ not in DRAW_NOTHING else next(inner(spec)).seed
                assert one.seed == drawn or isinstance(one, (PretrainRun, CheckpointRun, WordsHeadRun, GeneralRun)), (name, spec, one)


#: Runs that evaluate their parent and draw nothing of their own.
DRAW_NOTHING = ("ExtractionRun", "MixNMatchRun", "SubsetRun", "NoiseRun", "TransitionRun", "GalleryRun")


def run(key, seed, value, name="a"):
    return Result("test", key, {"seed": seed}, {"value": value, "name": name}, {}, {}, {"device": "none"})


def test_two_runs_of_one_name_and_seed_are_refused():
    def called(result):
        return result.metrics["name"]

    def value(result):
        return result.metrics["value"]

    first = run("k0", 0, 0.5)
    assert by_seed([first, run("k1", 1, 0.6), run("k2", 1, 0.1, "b"), run("k3", 2, None)], "a", called, value) == {0: 0.5, 1: 0.6}
    assert by_seed([first, first], "a", called, value) == {0: 0.5}  # the same run in two studies
    with pytest.raises(ValueError, match="two runs are called 'a' with seed 0: k0 and k9"):
        by_seed([first, run("k9", 0, 0.7)], "a", called, value)


def test_the_best_is_chosen_on_the_other_seeds():
    candidates = {"steady": {0: (0.8, 0.70), 1: (0.8, 0.71), 2: (0.8, 0.72)}, "lucky": {0: (0.99, 0.95), 1: (0.5, 0.40), 2: (0.5, 0.41)}}
    assert chosen(candidates, 0) == "steady"
    assert chosen_elsewhere(candidates)[0] == 0.70  # its own luck with seed 0 does not count there
    with pytest.raises(NotTestable, match="two seeds"):
        chosen_elsewhere({"a": {0: (0.1, 0.1)}, "b": {0: (0.2, 0.2)}})
    with pytest.raises(NotTestable, match="two seeds"):
        shared({})


def test_among_equals_choosing_elsewhere_gains_nothing():
    """The maximum of equally good candidates is above their mean; chosen on other seeds it is not."""
    import numpy as np

    random = np.random.default_rng(0)
    naive, fair = [], []
    for _ in range(400):
        scores = random.normal(0.7, 0.01, (6, 3))
        candidates = {number: {seed: (value, value) for seed, value in enumerate(row)} for number, row in enumerate(scores)}
        naive.append(scores.max(0).mean() - 0.7)
        fair.append(np.mean(list(chosen_elsewhere(candidates).values())) - 0.7)
    assert np.mean(naive) > 0.01 and abs(np.mean(fair)) < 0.001
