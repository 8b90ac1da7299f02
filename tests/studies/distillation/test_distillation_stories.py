"""Small GPTs that learn to tell stories from a larger one: arms that differ in what they are called for, and their claims."""

from dataclasses import replace

import pytest

from claimed import reads
from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.runs.store import Store, obtain
from lib.studies.distillation import needs, page_stories
from lib.studies.distillation.names import method
from lib.studies.distillation.stories import StoryStudent
from lib.studies.distillation.stories_sizes import ARMS, STORIES, story_studies


def result(spec: StoryStudent, **metrics: float) -> Result:
    return Result(spec.experiment, spec.key, all_fields(spec), metrics, {}, {}, {"device": "none"})


@pytest.mark.parametrize("scale", STORIES)
def test_arms_differ_only_in_author_and_target(scale):
    size = STORIES[scale]
    found = story_studies(size)
    arms = {method(result(spec)): spec for spec in found["stories"] if spec.seed == 0}
    assert list(arms) == list(ARMS) and len(found["stories"]) == size.seeds * len(ARMS)
    assert len({replace(spec, author="data", target="text") for spec in arms.values()}) == 1
    assert {spec.parent for spec in arms.values()} == {size.usual.parent} and {spec.start for spec in arms.values()} == {size.usual.start}
    for longer in found["stories longer"]:
        assert replace(longer, steps=longer.steps // size.times) == replace(arms["text alone"], **seeds_of(longer))


def seeds_of(spec: StoryStudent) -> dict:
    return {"seed": spec.seed, "parent": spec.parent, "start": spec.start}


@pytest.mark.parametrize("scale", STORIES)
def test_the_teacher_is_larger(scale):
    size = STORIES[scale]
    large, small = (
        sum(p.numel() for p in spec.network(spec.corpus.vocabulary).parameters()) for spec in (size.usual.parent, size.usual.start)
    )
    assert large > 1.5 * small


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"author": "nobody"}, "author"),
        ({"prompt": 32}, "prompt"),
        ({"tokens": 100}, "whole number"),
        ({"start": replace(STORIES["smoke"].usual.start, context=16)}, "context"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, said):
    usual = story_studies(STORIES["smoke"])["stories"][0]
    with pytest.raises(ValueError, match=said):
        replace(usual, **changes)


def test_a_student_tells_and_is_judged(tmp_path):
    spec = replace(story_studies(STORIES["smoke"])["stories"][-1])
    first = obtain([spec], store=Store(tmp_path / "none", tmp_path / "runs"))[0]
    assert len(first.arrays["told"]) == 3 and all(isinstance(story, str) for story in first.arrays["told"])
    assert first.metrics["teacher_parameters"] > first.metrics["parameters"]
    again = obtain([spec], store=Store(tmp_path / "none", tmp_path / "again"))[0]
    assert {k: v for k, v in again.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in first.metrics.items() if k != "train_seconds"
    }


def stories(**values: dict[str, float]) -> dict[str, Results]:
    """One student of each arm, with these metrics by arm and name."""
    runs = [spec for spec in story_studies(STORIES["smoke"])["stories"]]
    own = {method(result(spec)): spec for spec in runs}
    return {"stories": Results(tuple(result(own[name.replace("_", " ")], **metrics) for name, metrics in values.items()), ())}


def test_closer_is_a_share_of_the_other_arms_divergence():
    found = {
        "stories": Results(
            tuple(
                result(
                    spec,
                    test_reverse={
                        "text alone": 2.0,
                        "sequence-level KD": 1.5,
                        "word-level KD": 1.6,
                        "forward KL, own texts": 1.2,
                        "reverse KL, own texts": 0.8,
                    }.get(method(result(spec)), 1.0),
                    test_exposure={"word-level KD": 0.3, "reverse KL, own texts": 0.1}.get(method(result(spec)), 0.2),
                )
                for spec in story_studies(STORIES["smoke"])["stories"]
            ),
            (),
        )
    }
    assert reads("seqkd-text")(found) == [pytest.approx(0.25)]
    assert reads("gkd-own")(found) == [pytest.approx(0.25)]
    assert reads("minillm-quality")(found) == [pytest.approx(0.5)]
    assert reads("minillm-exposure")(found) == [pytest.approx(0.2)]


def test_preconditions_hold_and_fail():
    def alone(loss: float, teacher: float = 2.0, bigram: float = 3.5) -> dict[str, Results]:
        return stories(text_alone={"test_loss": loss, "teacher_loss": teacher, "bigram_loss": bigram})

    needs.teller_has_learnt(alone(3.0))
    needs.teacher_tells_better(alone(3.0))
    with pytest.raises(NotTestable, match="counted pairs"):
        needs.teller_has_learnt(alone(3.6))
    with pytest.raises(NotTestable, match="teacher"):
        needs.teacher_tells_better(alone(1.9))


def test_the_page_says_what_was_run_and_escapes_what_a_model_wrote():
    runs = [
        replace(
            result(
                spec, **dict.fromkeys(("test_loss", "test_reverse", "test_entropy", "test_exposure", "teacher_loss", "train_seconds"), 1.0)
            ),
            arrays={"told": ["<b>A\x10 cat"]},
        )
        for spec in story_studies(STORIES["smoke"])["stories"]
    ]
    longer = [replace(runs[0], spec=runs[0].spec | {"steps": 4})]
    table = page_stories.story_table(Results(tuple(runs), ()), Results(tuple(longer), ()))
    assert list(table["training texts and loss"]) == [*ARMS, "text alone, 4 steps"]
    assert set(page_stories.story_points(Results(tuple(runs), ()), Results((), ())).method) == set(ARMS)
    assert page_stories.teacher_losses(Results(tuple(runs), ())) == [1.0]
    assert page_stories.beginnings_told(Results(tuple(runs), ()), "text alone") == "**text alone.** &lt;b&gt;A cat"
