"""Networks that teach themselves: Specs, names, claims, and the figure of thresholds."""

import json
from dataclasses import replace

import pytest
import torch

from claimed import reads
from lib.figures.exits import exit_explorer
from lib.measure.statistics import NotTestable
from lib.models.resnet import ResNetConfig
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.runs.store import Session, Store, obtain
from lib.studies.teachers.exits import ExitRun, ExitSearch, thinned
from lib.studies.teachers.names import method, places
from lib.studies.teachers.sizes import EXITS
from lib.studies.teachers.studies import exit_studies
from lib.training.evaluate import evaluate_classifier

PLAIN = ExitRun(model=ResNetConfig((4, 8, 8), (1, 1, 1), channels=1))


def results(*entries):
    return Results(
        tuple(
            Result(spec.experiment, spec.key, all_fields(spec), metrics, {}, arrays[0] if arrays else {}, {"device": "none"})
            for spec, metrics, *arrays in entries
        )
    )


def test_specs_refuse_what_makes_no_sense():
    for build, message in (
        (lambda: replace(PLAIN, places=(3,)), "rising order"),
        (lambda: replace(PLAIN, places=(1,), reference="best"), "reference"),
        (lambda: ExitSearch(parent=PLAIN), "no shallow classifier"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


def test_a_front_is_thinned_to_its_ends_and_what_lies_between():
    assert thinned(list(range(10)), 4) == [0, 3, 6, 9] and thinned([1, 2], 4) == [1, 2]


def test_names():
    own = replace(PLAIN, places=(1, 2))
    specs = {
        "plain network": PLAIN,
        "self-distillation": own,
        "self-distillation, from all deeper ones": replace(own, reference="dense"),
        "labels at every depth": replace(own, alpha=0.0, weight=0.0),
        "self-distillation, no hints": replace(own, weight=0.0),
        "self-distillation, no attention": replace(own, attention=False),
        "early exit": ExitSearch(parent=own),
    }
    assert [method(r) for r in results(*((spec, {}) for spec in specs.values()))] == list(specs)
    assert [places(r) for r in results((own, {}), (replace(own, places=(2,)), {}), (PLAIN, {}))] == ["blocks 1, 2", "block 2", "none"]


def accuracy(value, **more):
    return {"val_accuracy": value, "test_accuracy": value, **more}


def sample():
    """All studies with accuracies that tell which run they came from, for two seeds."""
    entries = {name: [] for name in ("self", "thresholds", "references", "places", "self parts")}
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
    return {name: results(*found) for name, found in entries.items()}


@pytest.mark.parametrize(
    "value, expected",
    [
        (reads("self-deepest"), 0.03),
        (reads("self-second-shallowest"), 0.01),
        (reads("self-early-exit"), 2.0),
        (reads("self-references"), 0.015),
        (reads("self-places"), 0.02),
        (reads("self-labels"), 0.01),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    assert value(sample()) == pytest.approx([expected] * 2)


def test_claims_say_what_is_missing():
    empty = {name: results() for name in sample()}
    for value in (reads("self-deepest"), reads("self-early-exit"), reads("self-places")):
        with pytest.raises(NotTestable):
            value(empty)
    search = ExitSearch(parent=replace(PLAIN, places=(1,)))
    slow = results((search, {"whole_flops": 1800}, {"front_val_accuracy": [0.1], "front_test_flops": [1]}))
    with pytest.raises(NotTestable, match="with no thresholds"):
        reads("self-early-exit")(sample() | {"thresholds": slow})


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Every Spec of the smallest scale, by study."""
    store = Store(tmp_path_factory.mktemp("none"), tmp_path_factory.mktemp("runs"))
    torch.set_num_threads(1)
    return store, {name: obtain(specs, store=store) for name, specs in exit_studies(EXITS["smoke"]).items()}


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


def test_the_same_seed_gives_the_same_numbers(ran, tmp_path):
    _, found = ran
    spec = exit_studies(EXITS["smoke"])["self"][-1]
    again = obtain([spec], store=Store(tmp_path / "none", tmp_path))[0]
    assert {k: v for k, v in again.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in found["self"][-1].metrics.items() if k != "train_seconds"
    }


def test_what_was_trained_is_what_is_loaded(ran):
    store, found = ran
    for spec, result in zip(exit_studies(EXITS["smoke"])["self"], found["self"]):
        session = Session(torch.device("cpu"), store, spec, lambda part, text: None)
        model, images = spec.load(session), spec.images(session)
        assert not model.training
        assert evaluate_classifier(model, images.test, images)["accuracy"] == pytest.approx(result.metrics["test_accuracy"], abs=1e-6)


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
