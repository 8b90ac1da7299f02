"""TinyBERT's Specs, names and claims."""

from dataclasses import replace

import pytest
import torch

from claimed import reads
from lib.measure.statistics import NotTestable
from lib.models.encoder import EncoderConfig
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.runs.store import Session, Store, obtain
from lib.studies.tickets.finetune import FinetuneRun
from lib.studies.tickets.names import method
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.studies import Parameters, studies
from lib.studies.tickets.tinybert import GeneralRun, TinyRun, student
from lib.studies.tickets.tinybert_studies import TEXTS, tinybert_studies
from lib.training.loop import Recipe

PRETRAINED = PretrainRun(model=EncoderConfig(width=16, depth=2, heads=2, hidden=32))
TUNED = FinetuneRun(parent=PRETRAINED)
TINY = EncoderConfig(width=8, depth=1, heads=2, hidden=16)


def results(*entries):
    return Results(
        tuple(Result(spec.experiment, spec.key, all_fields(spec), metrics, {}, {}, {"device": "none"}) for spec, metrics in entries)
    )


@pytest.mark.parametrize("scale", TEXTS)
def test_students_of_all_seeds_share_the_general_stage(scale):
    found = tinybert_studies(TEXTS[scale])
    for specs in found.values():
        assert len({spec.key for spec in specs}) == len(specs)
        assert all(getattr(getattr(spec, "teacher", None), "seed", spec.seed) == spec.seed for spec in specs)
    assert (
        len({spec.teacher.parent for spec in found["tinybert"]}) == 1 == len({spec.first for spec in found["tinybert parts"] if spec.first})
    )


@pytest.mark.parametrize("scale", ("cpu", "gpu"))
def test_the_teachers_are_those_of_the_other_studies(scale):
    found = studies(Parameters(scale=scale, pretrained=False))
    assert {spec.teacher for spec in found["tinybert"]} <= set(found["finetune"])


def test_seeds_are_the_readers():
    found = studies(Parameters(scale="laptop", seeds=2))
    assert {spec.seed for spec in found["tinybert"]} == {spec.seed for spec in found["tinybert parts"]} == {0, 1}


def test_specs_refuse_what_makes_no_sense():
    for build, message in (
        (lambda: GeneralRun(parent=PRETRAINED, model=replace(TINY, heads=1)), "as many"),
        (lambda: TinyRun(teacher=TUNED, model=TINY, first=PRETRAINED), "this geometry"),
        (lambda: TinyRun(teacher=TUNED, model=TINY, lesson="hints"), "lesson"),
        (lambda: TinyRun(teacher=TUNED, model=TINY, copies=-1), "copies"),
        (lambda: TinyRun(teacher=TUNED, model=TINY, copies=2), "multiple of 6"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


def test_copies_do_not_lengthen_the_training():
    run = TinyRun(teacher=TUNED, model=TINY, recipe=Recipe(epochs=12))
    assert {name: recipe.epochs for name, recipe in run.parts.items()} == {"layers": 6, "answers": 6}
    assert {name: recipe.epochs for name, recipe in replace(run, copies=2).parts.items()} == {"layers": 2, "answers": 2}
    assert {name: recipe.epochs for name, recipe in replace(run, lesson="labels").parts.items()} == {"labels": 12}


def test_names():
    tiny = TinyRun(teacher=TUNED, model=TINY, first=GeneralRun(parent=PRETRAINED, model=TINY), copies=1, recipe=Recipe(epochs=4))
    specs = {
        "TinyBERT": tiny,
        "TinyBERT, no general stage": replace(tiny, first=None),
        "TinyBERT, answers only": replace(tiny, lesson="answers"),
        "TinyBERT, no replaced words": replace(tiny, copies=0),
        "TinyBERT, bottom layers": replace(tiny, map="bottom"),
        "labels alone": replace(tiny, first=None, lesson="labels"),
        "pre-trained by itself, labels": replace(tiny, first=replace(PRETRAINED, model=TINY), lesson="labels"),
    }
    assert [method(r) for r in results(*((spec, {}) for spec in specs.values()))] == list(specs)


def accuracy(value, **more):
    return {"val_accuracy": value, "test_accuracy": value, **more}


def sample():
    """All studies with accuracies that tell which run they came from, for two seeds."""
    entries = {name: [] for name in ("tinybert", "tinybert parts", "layer maps")}
    for seed in (0, 1):
        tiny = TinyRun(
            teacher=TUNED, model=TINY, first=GeneralRun(parent=PRETRAINED, model=TINY), copies=1, seed=seed, recipe=Recipe(epochs=4)
        )
        alone = replace(tiny, first=replace(PRETRAINED, model=TINY), lesson="labels", copies=0)
        entries["tinybert"] += [(tiny, accuracy(0.72, teacher_test_accuracy=0.75)), (alone, accuracy(0.68, teacher_test_accuracy=0.75))]
        entries["tinybert parts"] += [
            (replace(tiny, lesson="answers"), accuracy(0.70)),
            (replace(tiny, first=None), accuracy(0.71)),
            (replace(tiny, copies=0), accuracy(0.73)),
        ]
        entries["layer maps"] += [(replace(tiny, map="top"), accuracy(0.69)), (replace(tiny, map="bottom"), accuracy(0.71))]
    return {name: results(*found) for name, found in entries.items()}


@pytest.mark.parametrize(
    "value, expected",
    [
        (reads("tinybert-share"), 0.96),
        (reads("tinybert-alone"), 0.04),
        (reads("tinybert-layers"), 0.02),
        (reads("tinybert-general"), 0.01),
        (reads("tinybert-words"), -0.01),
        (reads("tinybert-map"), 0.01),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    assert value(sample()) == pytest.approx([expected] * 2)


def test_claims_say_what_is_missing():
    empty = {name: results() for name in sample()}
    for value in (reads("tinybert-share"), reads("tinybert-map")):
        with pytest.raises(NotTestable):
            value(empty)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Every Spec of the smallest scale, by study."""
    store = Store(tmp_path_factory.mktemp("none"), tmp_path_factory.mktemp("runs"))
    torch.set_num_threads(1)
    return store, {name: obtain(specs, store=store) for name, specs in tinybert_studies(TEXTS["smoke"]).items()}


def test_the_smallest_runs_from_beginning_to_end(ran):
    _, found = ran
    for name, runs in found.items():
        assert not runs.missing, name
    tiny = next(r for r in found["tinybert"] if method(r) == "TinyBERT")
    assert tiny.metrics["examples"] == 2 * 64 and tiny.metrics["parameters"] < tiny.metrics["teacher_parameters"]
    assert {"layers_attention", "answers_agreement", "answers_val_accuracy"} <= set(tiny.curves)
    alone = next(r for r in found["tinybert"] if method(r) == "labels alone")
    assert alone.metrics["examples"] == 64 and "labels_val_accuracy" in alone.curves


def test_the_second_stage_begins_with_all_that_the_first_has_trained(ran):
    store, _ = ran
    tiny = tinybert_studies(TEXTS["smoke"])["tinybert"][0]
    session = Session(torch.device("cpu"), store, tiny, lambda part, text: None)
    first, teacher = tiny.first.load(session), tiny.teacher.load(session)
    model = student(first.classifier.encoder.config, 2, 0, teacher.encoder)
    assert not torch.equal(model.hidden.weight, first.hidden.weight)
    tiny.begin(model, first)
    for name in ("hidden.weight", "embedding.weight", "classifier.encoder.embed.weight"):
        assert torch.equal(model.state_dict()[name], first.state_dict()[name])
