"""The distillation chapter's Specs of self-distillation, DeiT, sparse to dense and TinyBERT; its knobs, names and claims."""

import json
from dataclasses import replace

import pytest
import torch

from lib.data.augment import Augmentation
from lib.figures.exits import exit_explorer
from lib.measure.statistics import NotTestable
from lib.models.encoder import EncoderConfig
from lib.models.resnet import ResNetConfig
from lib.models.vit import ViTConfig
from lib.moe.layer import MoEConfig
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.runs.store import Session, Store, obtain
from lib.studies.distillation import network_claims as claims
from lib.studies.distillation.deit import DeiTRun
from lib.studies.distillation.exits import ExitRun, ExitSearch, thinned
from lib.studies.distillation.names import method, places
from lib.studies.distillation.networks import NETWORKS, exit_studies, network_studies, text_studies
from lib.studies.distillation.pairs import PlainRun
from lib.studies.distillation.sparse import SparseToDense
from lib.studies.distillation.students import usual_pair
from lib.studies.distillation.studies import Parameters, sized, studies
from lib.studies.distillation.tinybert import GeneralRun, TinyRun, student
from lib.studies.moe.vit import ViTRun
from lib.studies.tickets import studies as tickets
from lib.studies.tickets.finetune import FinetuneRun
from lib.studies.tickets.pretrain import PretrainRun
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe


def results(*entries):
    return Results(
        tuple(
            Result(spec.experiment, spec.key, all_fields(spec), metrics, {}, arrays[0] if arrays else {}, {"device": "none"})
            for spec, metrics, *arrays in entries
        )
    )


# Specs


@pytest.mark.parametrize("scale", NETWORKS)
def test_every_scale_builds_on_its_own_seeds(scale):
    found = studies(Parameters(scale=scale))
    for specs in found.values():
        assert len({spec.key for spec in specs}) == len(specs)
        for spec in specs:
            for name in ("parent", "teacher"):  # TinyBERT's general stage is the same for all seeds
                assert getattr(getattr(spec, name, None), "seed", spec.seed) == spec.seed
    assert found["deit"][-1].teacher in found["teacher"]  # trained once for the whole chapter
    assert {search.parent for search in found["thresholds"]} <= set(found["self"])
    assert all(spec.teacher in found["sparse"] for spec in found["sparse parts"])
    assert (
        len({spec.teacher.parent for spec in found["tinybert"]}) == 1 == len({spec.first for spec in found["tinybert parts"] if spec.first})
    )


@pytest.mark.parametrize("scale", ("cpu", "gpu"))
def test_tinyberts_teachers_are_chapter_5s(scale):
    trained = tickets.studies(tickets.Parameters(scale=scale, pretrained=False))["finetune"]
    assert {spec.teacher for spec in studies(Parameters(scale=scale))["tinybert"]} <= set(trained)


def test_zero_shot_students_may_have_images_of_their_own():
    found = studies(Parameters(scale="cpu"))
    assert {spec.dataset for spec in found["zero-shot"]} == {"mnist"} and found["methods"][0].dataset == "cifar10"
    teacher = found["zero-shot"][0].parent
    assert (teacher.model.channels, teacher.train_examples, teacher.augmentation) == (1, 5_000, Augmentation())
    assert {spec.parent.omega for spec in found["zero-shot nasty"]} == {0.04}
    assert all(spec.parent in found["zero-shot"] for spec in found["transitions"])
    assert {spec.dataset for spec in studies(Parameters(scale="cpu", dataset="digits"))["zero-shot"]} == {"digits"}


def test_knobs():
    chosen = studies(Parameters(scale="laptop", dataset="cifar100", seeds=2, methods="hinton, dist", temperature=2.0, alpha=0.5))
    assert {spec.method for spec in chosen["methods"]} == {"hinton", "dist"}
    assert {(s.temperature, s.alpha) for s in chosen["methods"] if s.method == "hinton"} == {(2.0, 0.5)}
    assert {spec.seed for spec in chosen["references"]} == {0, 1}
    for spec in chosen["deit"] + chosen["self"]:
        assert (spec.dataset, spec.model.classes, spec.model.channels) == ("cifar100", 100, 3)
    assert chosen["deit"][0].model.image_size == 32 and chosen["sparse"][0].dataset == "cifar100"
    assert chosen["tinybert"][0] == studies(Parameters(scale="laptop"))["tinybert"][0]
    usual = studies(Parameters(scale="laptop"))
    assert studies(Parameters(scale="laptop", temperature=4.0, alpha=0.7)) == usual
    shorter = studies(Parameters(scale="laptop", epochs=4))
    assert {s.recipe.epochs for s in shorter["methods"]} == {4}
    assert {s.recipe.epochs for s in shorter["patient"]} == {5}  # half of 10, as 4 are of 8
    nasty = chosen["nasty"][0]
    assert (nasty.omega, nasty.temperature) == (0.005, 20.0)
    assert chosen["zero-shot"][0].beta == 16 * usual["zero-shot"][0].beta  # maps of 16 times the positions
    weights = [next(s.weight for s in found["zero-shot"] if s.experiment == "distillation-pair") for found in (chosen, usual)]
    assert weights[0] == 16 * weights[1]
    for fields, message in (
        ({"epochs": 0}, "epochs"),
        ({"temperature": 0.0}, "temperature"),
        ({"alpha": 2.0}, "alpha"),
        ({"methods": "hinton, dark"}, "methods"),
        ({"dataset": "cifar"}, "cifar10"),
    ):
        with pytest.raises(ValueError, match=message):
            Parameters(**fields)


PLAIN = ExitRun(model=ResNetConfig((4, 8, 8), (1, 1, 1), channels=1))
VIT = ViTConfig(image_size=8, channels=1, patch=4, width=24, hidden=48, heads=3, depth=2, pool="class")
TEACHER = PlainRun(model=ResNetConfig((4, 8), (1, 1), channels=1))
MIXTURE = ViTRun(moe=MoEConfig(experts=4, placement="every-second"))
PRETRAINED = PretrainRun(model=EncoderConfig(width=16, depth=2, heads=2, hidden=32))
TUNED = FinetuneRun(parent=PRETRAINED)
TINY = EncoderConfig(width=8, depth=1, heads=2, hidden=16)


def test_specs_refuse_what_makes_no_sense():
    for build, message in (
        (lambda: replace(PLAIN, places=(3,)), "rising order"),
        (lambda: replace(PLAIN, places=(1,), reference="best"), "reference"),
        (lambda: ExitSearch(parent=PLAIN), "no shallow classifier"),
        (lambda: DeiTRun(model=VIT), "needs a teacher"),
        (lambda: DeiTRun(model=VIT, teacher=TEACHER, kind="firm"), "kind"),
        (lambda: DeiTRun(model=VIT, teacher=TEACHER, train_examples=100), "train_examples"),
        (lambda: SparseToDense(teacher=ViTRun()), "dense"),
        (lambda: SparseToDense(teacher=MIXTURE, weight=2.0), "share of the loss"),
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


def test_a_front_is_thinned_to_its_ends_and_what_lies_between():
    assert thinned(list(range(10)), 4) == [0, 3, 6, 9] and thinned([1, 2], 4) == [1, 2]


def test_names():
    own = replace(PLAIN, places=(1, 2))
    hard = DeiTRun(model=VIT, teacher=TEACHER)
    labels = DeiTRun(model=VIT, token=False)
    tiny = TinyRun(teacher=TUNED, model=TINY, first=GeneralRun(parent=PRETRAINED, model=TINY), copies=1, recipe=Recipe(epochs=4))
    specs = [
        PLAIN,
        own,
        replace(own, reference="dense"),
        replace(own, alpha=0.0, weight=0.0),
        replace(own, weight=0.0),
        replace(own, attention=False),
        ExitSearch(parent=own),
        labels,
        hard,
        replace(hard, kind="soft, numel"),
        replace(hard, token=False, kind="soft"),
        replace(hard, teacher=labels),
        replace(labels, model=replace(VIT, pool="mean")),
        MIXTURE,
        replace(MIXTURE, moe=None),
        SparseToDense(teacher=MIXTURE),
        SparseToDense(teacher=MIXTURE, inherit=False),
        SparseToDense(teacher=MIXTURE, weight=0.0),
        SparseToDense(teacher=MIXTURE, weight=1.0),
        tiny,
        replace(tiny, first=None),
        replace(tiny, lesson="answers"),
        replace(tiny, copies=0),
        replace(tiny, map="bottom"),
        replace(tiny, first=None, lesson="labels"),
        replace(tiny, first=replace(PRETRAINED, model=TINY), lesson="labels"),
    ]
    assert [method(r) for r in results(*((spec, {}) for spec in specs))] == [
        "plain network",
        "self-distillation",
        "self-distillation, from all deeper ones",
        "labels at every depth",
        "self-distillation, no hints",
        "self-distillation, no attention",
        "early exit",
        "labels alone",
        "hard labels",
        "softened labels, ÷ classes",
        "softened labels, no token",
        "hard labels, transformer teacher",
        "no class token, labels alone",
        "switch, 4 experts",
        "dense, 10 epochs",
        "distilled",
        "distilled, fresh weights",
        "inherited weights, labels alone",
        "distilled, teacher alone",
        "TinyBERT",
        "TinyBERT, no general stage",
        "TinyBERT, answers only",
        "TinyBERT, no replaced words",
        "TinyBERT, bottom layers",
        "labels alone",
        "pre-trained by itself, labels",
    ]
    assert [places(r) for r in results((own, {}), (replace(own, places=(2,)), {}), (PLAIN, {}))] == ["blocks 1, 2", "block 2", "none"]


# Claims


def accuracy(value, **more):
    return {"val_accuracy": value, "test_accuracy": value, **more}


def sample():
    """All studies with accuracies that tell which run they came from, for two seeds."""
    entries = {
        name: []
        for name in (
            "self",
            "thresholds",
            "references",
            "places",
            "self parts",
            "deit",
            "deit token",
            "deit teachers",
            "sparse",
            "sparse parts",
            "tinybert",
            "tinybert parts",
            "layer maps",
        )
    }
    for seed in (0, 1):
        plain = replace(PLAIN, seed=seed)
        own = replace(plain, places=(1, 2))
        entries["self"] += [
            (plain, accuracy(0.80, val_accuracy=0.8, flops_per_image=900)),
            (own, accuracy(0.83), {"test_accuracy_by_exit": [0.7, 0.81, 0.83]}),
        ]
        entries["thresholds"].append(
            (
                ExitSearch(parent=own, seed=seed),
                {"whole_flops": 1000},
                {"front_val_accuracy": [0.7, 0.8, 0.85], "front_test_flops": [300, 450, 800]},
            )
        )
        entries["references"] += [(replace(own, reference="dense"), accuracy(0.82)), (replace(own, reference="ensemble"), accuracy(0.835))]
        entries["places"] += [(replace(own, places=(2,)), accuracy(0.81))]
        entries["self parts"] += [(replace(own, alpha=0.0, weight=0.0), accuracy(0.82))]
        labels, hard = DeiTRun(model=VIT, token=False, seed=seed), DeiTRun(model=VIT, teacher=TEACHER, seed=seed)
        entries["deit"] += [
            (labels, accuracy(0.5)),
            (hard, accuracy(0.56), {"similarity_by_layer": [0.0, 0.5, 0.9]}),
            (replace(hard, kind="soft"), accuracy(0.55)),
            (replace(hard, kind="soft, numel"), accuracy(0.51)),
        ]
        entries["deit token"] += [
            (replace(hard, token=False, kind=kind), accuracy(value))
            for kind, value in (("hard", 0.54), ("soft", 0.53), ("soft, numel", 0.49))
        ]
        entries["deit teachers"].append((replace(hard, teacher=labels), accuracy(0.52)))
        sparse = replace(MIXTURE, seed=seed)
        dense = replace(sparse, moe=None)
        student = SparseToDense(teacher=sparse, seed=seed)
        entries["sparse"] += [
            (dense, accuracy(0.5)),
            (replace(dense, recipe=Recipe(epochs=20)), accuracy(0.54)),
            (sparse, accuracy(0.6)),
            (student, accuracy(0.57)),
        ]
        entries["sparse parts"] += [(replace(student, inherit=False), accuracy(0.52)), (replace(student, weight=0.0), accuracy(0.56))]
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
        (claims.deepest_minus_plain, 0.03),
        (claims.second_shallowest_minus_plain, 0.01),
        (claims.early_exit_speedup, 2.0),
        (claims.spread_of_references, 0.015),
        (claims.spread_of_places, 0.02),
        (claims.distilled_minus_deep_supervision, 0.01),
        (claims.deit_gain, 0.06),
        (claims.hard_minus_soft, 0.01),
        (claims.hard_minus_released_soft, 0.05),
        (claims.token_minus_none, 0.02),
        (claims.convolutional_minus_transformer, 0.04),
        (claims.last_similarity, 0.9),
        (claims.share_of_gain_kept, 0.5),
        (claims.inherited_minus_fresh, 0.05),
        (claims.distilled_minus_inherited_labels, 0.01),
        (claims.share_of_teacher, 0.96),
        (claims.tiny_minus_pretrained, 0.04),
        (claims.tiny_minus_answers_only, 0.02),
        (claims.tiny_minus_no_general_stage, 0.01),
        (claims.tiny_minus_no_replaced_words, -0.01),
        (claims.uniform_minus_best_map, 0.01),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    assert value(sample()) == pytest.approx([expected] * 2)


def test_claims_say_what_is_missing():
    empty = {name: results() for name in sample()}
    for value in (
        claims.deepest_minus_plain,
        claims.early_exit_speedup,
        claims.spread_of_places,
        claims.last_similarity,
        claims.share_of_gain_kept,
        claims.share_of_teacher,
        claims.uniform_minus_best_map,
    ):
        with pytest.raises(NotTestable):
            value(empty)
    studied = sample()
    poor = results(
        *(
            (spec, metrics)
            for spec, metrics in (
                (ViTRun(), accuracy(0.6)),
                (ViTRun(recipe=Recipe(epochs=20)), accuracy(0.6)),
                (MIXTURE, accuracy(0.6)),
                (SparseToDense(teacher=MIXTURE), accuracy(0.6)),
            )
        )
    )
    with pytest.raises(NotTestable, match="means nothing"):
        claims.share_of_gain_kept(studied | {"sparse": poor})
    search = ExitSearch(parent=replace(PLAIN, places=(1,)))
    slow = results((search, {"whole_flops": 1800}, {"front_val_accuracy": [0.1], "front_test_flops": [1]}))
    with pytest.raises(NotTestable, match="with no thresholds"):
        claims.early_exit_speedup(studied | {"thresholds": slow})


# Running them


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Every Spec of the smallest scale's own studies, by study."""
    store = Store(tmp_path_factory.mktemp("none"), tmp_path_factory.mktemp("runs"))
    students, networks = sized(Parameters(scale="smoke"))
    torch.set_num_threads(1)
    found = network_studies(networks, usual_pair(students)[0])
    return store, {name: obtain(specs, store=store) for name, specs in found.items()}


def test_the_smallest_runs_from_beginning_to_end(ran):
    _, found = ran
    for name, runs in found.items():
        assert not runs.missing, name
    plain, own = found["self"]
    assert plain.metrics["classifiers"] == 1 and own.metrics["classifiers"] == 3
    assert own.metrics["deployed_parameters"] == plain.metrics["parameters"] == plain.metrics["deployed_parameters"]
    assert own.metrics["test_accuracy"] == own.arrays["test_accuracy_by_exit"][-1] and len(own.arrays["flops_by_exit"]) == 3
    search = found["thresholds"][0]
    assert len(search.arrays["found"][0]["thresholds"]) == 2
    assert search.metrics["whole_flops"] == own.arrays["flops_by_exit"][-1]
    assert all(row["test_flops"] <= search.metrics["whole_flops"] for row in search.arrays["found"] + search.arrays["alike"])
    hard = next(r for r in found["deit"] if method(r) == "hard labels")
    assert len(hard.arrays["similarity_by_layer"]) == 3 and 0 <= hard.metrics["agreement"] <= 1
    inherited, fresh = found["sparse"][-1], next(r for r in found["sparse parts"] if "fresh" in method(r))
    assert inherited.metrics["copied_share"] > 0.2 and fresh.metrics["copied_share"] == 0
    tiny = next(r for r in found["tinybert"] if method(r) == "TinyBERT")
    assert tiny.metrics["examples"] == 2 * 64 and tiny.metrics["parameters"] < tiny.metrics["teacher_parameters"]
    assert {"layers_attention", "answers_agreement", "answers_val_accuracy"} <= set(tiny.curves)
    alone = next(r for r in found["tinybert"] if method(r) == "labels alone")
    assert alone.metrics["examples"] == 64 and "labels_val_accuracy" in alone.curves


def test_the_same_seed_gives_the_same_numbers(ran, tmp_path):
    _, found = ran
    students, networks = sized(Parameters(scale="smoke"))
    spec = exit_studies(networks)["self"][-1]
    again = obtain([spec], store=Store(tmp_path / "none", tmp_path))[0]
    assert {k: v for k, v in again.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in found["self"][-1].metrics.items() if k != "train_seconds"
    }


def test_what_was_trained_is_what_is_loaded(ran):
    store, found = ran
    students, networks = sized(Parameters(scale="smoke"))
    for spec, result in zip(exit_studies(networks)["self"], found["self"]):
        session = Session(torch.device("cpu"), store, spec, lambda part, text: None)
        model, images = spec.load(session), spec.images(session)
        assert not model.training
        assert evaluate_classifier(model, images.test, images)["accuracy"] == pytest.approx(result.metrics["test_accuracy"], abs=1e-6)


def test_the_second_stage_begins_with_all_that_the_first_has_trained(ran):
    store, _ = ran
    _, networks = sized(Parameters(scale="smoke"))
    tiny = text_studies(networks)["tinybert"][0]
    session = Session(torch.device("cpu"), store, tiny, lambda part, text: None)
    first, teacher = tiny.first.load(session), tiny.teacher.load(session)
    model = student(first.classifier.encoder.config, 2, 0, teacher.encoder)
    assert not torch.equal(model.hidden.weight, first.hidden.weight)
    tiny.begin(model, first)
    for name in ("hidden.weight", "embedding.weight", "classifier.encoder.embed.weight"):
        assert torch.equal(model.state_dict()[name], first.state_dict()[name])


# The figure


def rows(*pairs):
    return [{"test_flops": flops, "test_accuracy": accuracy, "thresholds": [0.5, limit]} for flops, accuracy, limit in pairs]


def test_the_explorer_moves_along_what_was_found():
    found = rows(*((100_000 + 1000 * i, 0.8 + 0.001 * i, 0.5 + 0.005 * i) for i in range(100)), (300_000, 0.95, 1.01))
    figure = exit_explorer(found, rows((100_000, 0.8, 0.6), (300_000, 0.94, 1.01)), {"plain": (250_000, 0.93)})
    slider = figure.layout.sliders[0]
    assert len(slider.steps) == 24 and slider.active == 12
    x = [step.args[0]["x"][0][0] for step in slider.steps]
    assert x[0] == 100 and x[-1] == 300 and x == sorted(x)
    cheapest, dearest = (slider.steps[place].args[1]["annotations[0].text"] for place in (0, -1))
    assert "above 0.50" in cheapest and "never" in dearest
    assert list(slider.steps[0].args[2]) == [len(figure.data) - 1] and figure.data[-1].name == "chosen"
    assert "plain 93.0% at 250" in figure.layout.meta["alt"]
    assert len(json.dumps(figure.to_plotly_json(), default=str)) < 50_000
    with pytest.raises(ValueError, match="no thresholds"):
        exit_explorer([], [], {})
