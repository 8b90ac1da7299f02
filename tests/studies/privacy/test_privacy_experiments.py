"""The privacy chapter's Specs, names, claims and its interactive figure."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from claimed import reads
from lib.data.images import ImageBatches
from lib.figures.privacy import cost_explorer
from lib.measure.statistics import NotTestable
from lib.privacy.cost import PROTOCOLS
from lib.privacy.replace import masked_relus
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.runs.store import Session, Store, obtain
from lib.studies.privacy import page_arms
from lib.studies.privacy.names import method
from lib.studies.privacy.shares import SharedRun
from lib.studies.privacy.studies import SIZES, Parameters, studies
from lib.studies.privacy.train import BaselineRun, ReplacedRun, best_reported
from lib.training.batch_norm import settle


def results(*entries):
    return Results(
        tuple(Result(spec.experiment, spec.key, all_fields(spec), metrics, {}, {}, {"device": "none"}) for spec, metrics in entries)
    )


@pytest.mark.parametrize("scale", SIZES)
def test_every_scale_has_its_specs_once(scale):
    found = studies(Parameters(scale=scale))
    assert set(found) == {"baseline", "budgets", "polynomials", "none", "masks", "hysteresis", "fit", "shares"}
    every = [spec for specs in found.values() for spec in specs]
    assert len({spec.key for spec in every}) == len(every)
    assert len(found["baseline"]) == SIZES[scale].seeds
    for spec in every:
        parent = getattr(spec, "parent", None)
        assert parent is None or parent.seed == spec.seed
    for shuffled in (spec for spec in found["masks"] if spec.masks == "shuffled"):
        assert shuffled.learning() in found["budgets"]  # nothing is trained for it alone
    assert found["shares"][0].parent in found["budgets"]


def test_knobs():
    assert Parameters().shares == (0.5, 0.18, 0.045, 0.023, 0.011)
    chosen = studies(Parameters(scale="laptop", budgets="50, 5", seeds=2, epochs=7, penalty=3.0, dataset="mnist"))
    runs = chosen["budgets"]
    assert {(r.budget, r.seed) for r in runs} == {(0.5, 0), (0.5, 1), (0.05, 0), (0.05, 1)}
    assert all((r.recipe.epochs, r.penalty, r.parent.dataset, r.parent.model.channels) == (7, 3.0, "mnist", 1) for r in runs)
    assert studies(Parameters(dataset="cifar100"))["baseline"][0].model.classes == 100
    for fields, message in (
        ({"budgets": "5"}, "two or more"),
        ({"budgets": "1, 5"}, "largest first"),
        ({"budgets": "a, b"}, "numbers"),
        ({"epochs": 0}, "epochs"),
        ({"penalty": -1.0}, "penalty"),
        ({"dataset": "cifar"}, "cifar10"),
    ):
        with pytest.raises(ValueError, match=message):
            Parameters(**fields)


def test_specs_refuse_what_makes_no_sense():
    base = BaselineRun()
    for fields, message in (
        ({"budget": 1.5}, "budget"),
        ({"kind": "cubic"}, "kind"),
        ({"masks": "drawn"}, "masks"),
        ({"moving": 0.0}, "moving"),
        ({"travel": -1.0}, "travel"),
    ):
        with pytest.raises(ValueError, match=message):
            ReplacedRun(parent=base, **fields)
    with pytest.raises(ValueError, match="at least one image"):
        SharedRun(parent=ReplacedRun(parent=base), images=0)


def test_what_the_authors_would_have_reported():
    curves = {"val_accuracy": [0.9, 0.8, 0.7, 0.75], "relus": [100, 30, 20, 20]}
    assert best_reported(curves, 20, 557_056) == 0.9
    assert best_reported(curves, 20, 557) == 0.75
    assert best_reported({"val_accuracy": [0.9], "relus": [100]}, 20, 557) is None


def test_names():
    base = BaselineRun()
    dapa = ReplacedRun(parent=base)
    named = {
        method(result): None
        for result in results(
            *(
                (spec, {})
                for spec in (
                    base,
                    dapa,
                    replace(dapa, kind="identity"),
                    replace(dapa, trained=False),
                    replace(dapa, kind="linear"),
                    replace(dapa, kind="released"),
                    replace(dapa, masks="random"),
                    replace(dapa, hysteresis=0.0),
                    SharedRun(parent=dapa),
                )
            )
        )
    }
    assert list(named) == [
        "all ReLUs",
        "DaPa",
        "identity (SNL)",
        "DaPa, fixed",
        "straight line",
        "DaPa as released",
        "DaPa, random masks",
        "DaPa, hysteresis 0",
    ]


# Claims


def sample(seeds=(0, 1)):
    """All studies with accuracies that tell which run they came from."""
    entries = {name: [] for name in ("baseline", "budgets", "polynomials", "masks", "hysteresis")}
    for seed in seeds:
        base = BaselineRun(seed=seed)
        entries["baseline"].append((base, {"test_accuracy": 0.90}))
        for budget, dapa, identity, line in ((0.2, 0.89, 0.88, 0.88), (0.023, 0.88, 0.80, 0.82), (0.011, 0.86, 0.70, 0.81)):
            run = ReplacedRun(parent=base, seed=seed, budget=budget)
            entries["budgets"] += [
                (run, {"test_accuracy": dapa, "returns_per_relu": 0.02}),
                (replace(run, kind="identity"), {"test_accuracy": identity, "val_accuracy": 0.7, "returns_per_relu": 0.0}),
            ]
            entries["polynomials"].append((replace(run, kind="linear"), {"test_accuracy": line, "val_accuracy": 0.75}))
            if budget == 0.023:
                entries["masks"] += [
                    (replace(run, masks="random"), {"test_accuracy": 0.87}),
                    (replace(run, masks="random", kind="identity"), {"test_accuracy": 0.75}),
                ]
                entries["hysteresis"] += [
                    (replace(run, hysteresis=0.0), {"test_accuracy": 0.875, "returns_per_relu": 0.2}),
                    (replace(run, hysteresis=10.0), {"test_accuracy": 0.5, "returns_per_relu": 0.0}),
                ]
    return {name: results(*found) for name, found in entries.items()}


@pytest.mark.parametrize(
    "value, expected",
    [
        (reads("autorep-dapa"), 0.05),
        (reads("autorep-headline"), 0.06),
        (reads("autorep-small-budget"), -0.02),
        (reads("autorep-hysteresis"), 0.1),
        (reads("autorep-hysteresis-accuracy"), 0.005),
        (reads("autorep-positions"), 0.01),
        (reads("snl-positions"), 0.05),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    assert value(sample()) == pytest.approx([expected] * 2)


def test_claims_say_what_is_missing():
    empty = {name: results() for name in sample()}
    for value in (reads("autorep-dapa"), reads("autorep-headline"), reads("autorep-hysteresis")):
        with pytest.raises(NotTestable):
            value(empty)
    studied = sample()
    studied["baseline"] = results((BaselineRun(), {"test_accuracy": 0.1}))
    with pytest.raises(NotTestable, match="nothing to keep"):
        reads("autorep-small-budget")(studied)
    studied["hysteresis"] = results(
        *(
            (ReplacedRun(parent=BaselineRun(seed=s), seed=s, budget=0.023, hysteresis=0.0), {"test_accuracy": 0.5, "returns_per_relu": 0.0})
            for s in (0, 1)
        )
    )
    with pytest.raises(NotTestable, match="nothing to steady"):
        reads("autorep-hysteresis")(studied)


# The figure


def networks():
    return pd.DataFrame(
        [
            {"method": name, "relus": relus, "accuracy": accuracy}
            for name, rows in {
                "DaPa": ((1000, 0.80), (4000, 0.85), (20000, 0.86)),
                "identity (SNL)": ((1000, 0.60), (4000, 0.78), (20000, 0.855)),
            }.items()
            for relus, accuracy in rows
        ]
    )


def test_the_page_says_which_budgets_were_run_and_which_of_the_papers_were_not():
    told = page_arms.budgets_told([0.023, 0.011])
    assert told.startswith("Budgets are 2.3 and 1.1 per cent of the ReLUs. The papers' 12.9 and 6 thousand of")
    assert told.endswith("Their budgets of 100 and 25 thousand, 18 and 4.5 per cent, were not run here.")
    assert "not run" not in page_arms.budgets_told([0.5, 0.18, 0.045, 0.023, 0.011]) and page_arms.budgets_told([]) == ""
    assert "papers'" not in page_arms.budgets_told([0.3]) and "1.1 per cent, were not run here" in page_arms.budgets_told([0.3])


def test_the_page_says_which_rows_were_run_and_which_not():
    def arms(scale):
        specs = studies(Parameters(scale=scale))
        return {
            name: [Result(spec.experiment, spec.key, all_fields(spec), {}, {}, {}, {}) for spec in found] for name, found in specs.items()
        }

    laptop, cpu = arms("laptop"), arms("cpu")
    every = page_arms.arms_told(laptop["polynomials"], laptop["none"])
    assert all(part in every for part in (*page_arms.ARMS.values(), page_arms.NONE_LEFT)) and "Not run" not in every
    some = page_arms.arms_told(cpu["polynomials"], ())
    assert some == "Not run here: fixed coefficients, the released code's coefficients and networks without any ReLU."
    assert page_arms.arms_told(cpu["polynomials"], cpu["none"]).startswith(page_arms.NONE_LEFT)
    assert "Not run" not in page_arms.masks_told(laptop["masks"])
    told = page_arms.masks_told(cpu["masks"])
    assert told.index("*random*") < told.index("Not run here: *shuffled*")
    assert page_arms.masks_told([]).startswith("Not run here: *random*")


def test_networks_without_any_relu_have_as_many_seeds_as_those_of_the_budgets():
    found = studies(Parameters(scale="cpu"))
    assert {spec.seed for spec in found["none"]} == {spec.seed for spec in found["budgets"]} and {
        spec.budget for spec in found["none"]
    } == {0}


def test_the_cost_explorer_marks_the_best_within_the_time():
    figure = cost_explorer(networks(), list(PROTOCOLS.values()), steps=8)
    assert len(figure.data) == 8 and [trace.visible for trace in figure.data] == [True] * 4 + [False] * 4
    assert len(figure.layout.sliders) == 2 and all(len(slider.steps) == 8 for slider in figure.layout.sliders)
    cheapest, dearest = figure.layout.sliders[0].steps[0].args, figure.layout.sliders[0].steps[-1].args
    assert cheapest[0]["y"][1] == [0.8] and dearest[0]["y"][1] == [0.86] and list(cheapest[2]) == [2, 3]
    assert "80.0%" in cheapest[1]["annotations[0].text"] and "1,000 ReLUs, 21 to 23 ms" in cheapest[1]["annotations[0].text"]
    shown = figure.layout.updatemenus[0].buttons[1].args
    assert shown[0]["visible"] == [False] * 4 + [True] * 4 and shown[1]["sliders[1].visible"] is True
    assert "garbled circuits from 80.0% for 22 ms to 86.0%" in figure.layout.meta["alt"]
    assert len(json.dumps(figure.to_plotly_json(), default=str)) < 50_000


def test_the_cost_explorer_refuses_nothing():
    for frame, message in ((networks().iloc[:0], "nothing|no networks"), (networks().assign(relus=0), "with a ReLU")):
        with pytest.raises(ValueError, match=message):
            cost_explorer(frame, list(PROTOCOLS.values()))
    one = cost_explorer(networks().iloc[:1], list(PROTOCOLS.values())[:1])
    assert not one.layout.updatemenus and len(one.layout.sliders) == 1


# Running them


def test_the_smallest_runs_from_beginning_to_end(tmp_path):
    store = Store(tmp_path / "none", tmp_path)
    found = studies(Parameters(scale="smoke"))
    some = [
        found["baseline"][0],
        found["budgets"][-1],
        *(s for s in found["masks"] if s.masks == "shuffled"),
        found["fit"][0],
        found["shares"][0],
    ]
    base, dapa, shuffled, fit, shares = obtain(some, store=store)
    assert base.metrics["relus"] == dapa.metrics["all_relus"]
    assert dapa.metrics["relus"] == dapa.metrics["budget_relus"] == round(some[1].budget * dapa.metrics["all_relus"])
    assert sum(dapa.arrays["relus_by_layer"]) == dapa.metrics["relus"]
    assert shuffled.metrics["relus"] == shuffled.metrics["budget_relus"] and shuffled.metrics["returns_per_relu"] == 0
    assert len(fit.arrays["error_quadratic"]) == len(fit.arrays["error_best"]) == len(dapa.arrays["relus_by_layer"])
    assert all(best <= own + 1e-4 for best, own in zip(fit.arrays["error_best"], fit.arrays["error_quadratic"]))
    assert shares.metrics["max_error"] < 0.05 * max(1.0, shares.metrics["largest_logit"])
    assert shares.metrics["online_bytes_comparison"] == shares.metrics["relus"] * 1168
    assert shares.metrics["relus"] + shares.metrics["polynomials"] == dapa.metrics["all_relus"]
    again = obtain(some[1:2], store=Store(tmp_path / "none", tmp_path / "again"))[0]
    assert {k: v for k, v in again.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in dapa.metrics.items() if k != "train_seconds"
    }


def test_masks_that_are_learnt_survive_being_loaded(tmp_path):
    store = Store(tmp_path / "none", tmp_path)
    spec = studies(Parameters(scale="smoke"))["budgets"][-1]
    result = obtain([spec], store=store)[0]
    session = Session(torch.device("cpu"), store, spec, lambda part, text: None)
    model = spec.load(session)
    assert [layer.count for layer in masked_relus(model)] == result.arrays["relus_by_layer"]
    assert all(layer.frozen for layer in masked_relus(model)) and not model.training


def test_the_stored_network_has_statistics_of_its_own_training_images(tmp_path):
    """The running mean of heavy-tailed variances fits no image; what is stored are medians over training batches."""
    run = studies(Parameters(scale="smoke"))["budgets"][0]
    store = Store(tmp_path / "none", tmp_path / "runs")
    obtain([run], store=store, device="cpu")
    session = Session(torch.device("cpu"), store, run, lambda *_: None)
    images, model = run.parent.images(session), run.load(session)
    batches = ImageBatches(images.train, images, run.recipe.batch_size, run.parent.augmentation, run.seed)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    stored = [norm.running_var.clone() for norm in norms]
    settle(model, batches)
    assert norms and all(torch.allclose(norm.running_var, before, rtol=1e-4) for norm, before in zip(norms, stored))
