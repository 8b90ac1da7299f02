"""The distillation chapter's Specs of DeiT and from sparse to dense; its knobs, names and claims."""

from dataclasses import replace

import pytest
import torch

from claimed import reads
from lib.measure.statistics import NotTestable
from lib.models.resnet import ResNetConfig
from lib.models.vit import ViTConfig
from lib.moe.layer import MoEConfig
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.runs.store import Store, obtain
from lib.studies.distillation.deit import DeiTRun
from lib.studies.distillation.names import method
from lib.studies.distillation.networks import NETWORKS, network_studies
from lib.studies.distillation.pairs import PlainRun
from lib.studies.distillation.sparse import SparseToDense
from lib.studies.distillation.students import usual_pair
from lib.studies.distillation.studies import Parameters, sized, studies
from lib.studies.moe.vit import ViTRun
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
            for name in ("parent", "teacher"):
                assert getattr(getattr(spec, name, None), "seed", spec.seed) == spec.seed
    # The students' teacher, trained once for the whole chapter, unless the transformers have a smaller one.
    assert replace(found["deit"][-1].teacher, seed=0) == (NETWORKS[scale].teacher or found["teacher"][0])
    assert all(spec.teacher in found["sparse"] for spec in found["sparse parts"])


def test_knobs():
    chosen = studies(Parameters(scale="laptop", dataset="cifar100", seeds=2, methods="hinton, dist", temperature=2.0, alpha=0.5))
    assert {spec.method for spec in chosen["methods"]} == {"hinton", "dist"}
    assert {(s.temperature, s.alpha) for s in chosen["methods"] if s.method == "hinton"} == {(2.0, 0.5)}
    assert {spec.seed for spec in chosen["sparse parts"]} == {0, 1}
    for spec in chosen["deit"]:
        assert (spec.dataset, spec.model.classes, spec.model.channels) == ("cifar100", 100, 3)
    assert chosen["deit"][0].model.image_size == 32 and chosen["sparse"][0].dataset == "cifar100"
    usual = studies(Parameters(scale="laptop"))
    assert studies(Parameters(scale="laptop", temperature=4.0, alpha=0.7)) == usual
    shorter = studies(Parameters(scale="laptop", epochs=4))
    assert {s.recipe.epochs for s in shorter["methods"]} == {4}
    assert {s.recipe.epochs for s in shorter["patient"]} == {5}  # half of 10, as 4 are of 8
    for fields, message in (
        ({"epochs": 0}, "epochs"),
        ({"temperature": 0.0}, "temperature"),
        ({"alpha": 2.0}, "alpha"),
        ({"methods": "hinton, dark"}, "methods"),
        ({"dataset": "cifar"}, "cifar10"),
    ):
        with pytest.raises(ValueError, match=message):
            Parameters(**fields)


VIT = ViTConfig(image_size=8, channels=1, patch=4, width=24, hidden=48, heads=3, depth=2, pool="class")
TEACHER = PlainRun(model=ResNetConfig((4, 8), (1, 1), channels=1))
MIXTURE = ViTRun(moe=MoEConfig(experts=4, placement="every-second"))


def test_specs_refuse_what_makes_no_sense():
    for build, message in (
        (lambda: DeiTRun(model=VIT), "needs a teacher"),
        (lambda: DeiTRun(model=VIT, teacher=TEACHER, kind="firm"), "kind"),
        (lambda: DeiTRun(model=VIT, teacher=TEACHER, train_examples=100), "train_examples"),
        (lambda: SparseToDense(teacher=ViTRun()), "dense"),
        (lambda: SparseToDense(teacher=MIXTURE, weight=2.0), "share of the loss"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


def test_names():
    hard = DeiTRun(model=VIT, teacher=TEACHER)
    labels = DeiTRun(model=VIT, token=False)
    specs = [
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
    ]
    assert [method(r) for r in results(*((spec, {}) for spec in specs))] == [
        "labels alone",
        "hard labels",
        "softened labels, ÷ classes",
        "softened labels, no token",
        "hard labels, transformer teacher",
        "mean of tokens, labels alone",
        "switch, 4 experts",
        "dense, 10 epochs",
        "distilled",
        "distilled, fresh weights",
        "inherited weights, labels alone",
        "distilled, teacher alone",
    ]


# Claims


def accuracy(value, **more):
    return {"val_accuracy": value, "test_accuracy": value, **more}


def sample():
    """All studies with accuracies that tell which run they came from, for two seeds."""
    entries = {
        name: []
        for name in (
            "deit",
            "deit token",
            "deit teachers",
            "sparse",
            "sparse parts",
        )
    }
    for seed in (0, 1):
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
    return {name: results(*found) for name, found in entries.items()}


@pytest.mark.parametrize(
    "value, expected",
    [
        (reads("deit-gain"), 0.06),
        (reads("deit-hard-formula"), 0.01),
        (reads("deit-hard-released"), 0.05),
        (reads("deit-token"), 0.02),
        (reads("deit-teacher"), 0.04),
        (reads("deit-similar-tokens"), 0.9),
        (reads("distilled-share"), 0.5),
        (reads("distilled-inherited"), 0.05),
        (reads("distilled-inherited-alone"), 0.01),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    assert value(sample()) == pytest.approx([expected] * 2)


def test_claims_say_what_is_missing():
    empty = {name: results() for name in sample()}
    for value in (
        reads("deit-similar-tokens"),
        reads("distilled-share"),
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
        reads("distilled-share")(studied | {"sparse": poor})


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
    hard = next(r for r in found["deit"] if method(r) == "hard labels")
    assert len(hard.arrays["similarity_by_layer"]) == 3 and 0 <= hard.metrics["agreement"] <= 1
    inherited, fresh = found["sparse"][-1], next(r for r in found["sparse parts"] if "fresh" in method(r))
    assert inherited.metrics["copied_share"] > 0.2 and fresh.metrics["copied_share"] == 0
