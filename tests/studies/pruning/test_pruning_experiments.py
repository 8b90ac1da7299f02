"""The pruning chapter's Specs, names, claims and its picture of masks."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from claimed import reads
from lib.figures.pruning import mask_explorer, picture
from lib.measure.statistics import NotTestable
from lib.models.mlp import MLPConfig
from lib.models.resnet import ResNetConfig
from lib.models.vgg import VGGConfig, vgg16
from lib.pruning.structure import NAMED
from lib.pruning.trainers import Plan
from lib.runs.results import Result, Results
from lib.runs.spec import Spec, all_fields
from lib.runs.store import Store, obtain
from lib.studies.pruning import claims, page_tables
from lib.studies.pruning.barrier import BarrierRun
from lib.studies.pruning.coarsen import CoarseRun
from lib.studies.pruning.cocktail import CocktailRun
from lib.studies.pruning.dense import DenseRun
from lib.studies.pruning.init import InitialRun
from lib.studies.pruning.names import frame, method
from lib.studies.pruning.quantize import PackedRun, QuantizedRun
from lib.studies.pruning.sizes import SIZES
from lib.studies.pruning.studies import Parameters, sized, studies
from lib.studies.pruning.tickets import ControlRun, TicketRun
from lib.studies.pruning.train import SparseRun, own
from lib.training.loop import Recipe

VGG = DenseRun(model=VGGConfig((4, 8), (1, 1), channels=1, side=8), snapshots=(0, 5))
RESNET = DenseRun(model=ResNetConfig((4, 8), (1, 1), channels=1), recipe=Recipe(warmup=0.0), snapshots=(0, 9))


def results(*entries):
    return Results(
        tuple(
            Result(
                spec.experiment,
                spec.key,
                json.loads(json.dumps(all_fields(spec))),
                metrics,
                curves,
                arrays,
                {"device": "none", "data": data},
            )
            for spec, metrics, curves, data, arrays in ((*entry, {}, {}, {})[:5] for entry in entries)
        )
    )


# Specs


@pytest.mark.parametrize("scale", SIZES)
def test_every_scale_has_its_specs(scale):
    found = studies(Parameters(scale=scale))
    size = SIZES[scale]
    assert len(found["dense"]) == size.seeds
    for name, specs in found.items():
        assert specs and len(set(specs)) == len(specs), name
        for spec in specs:
            parent = getattr(spec, "parent", getattr(spec, "dense", None))
            assert parent is None or parent.seed == spec.seed, name
    assert {spec.plan.structure for spec in found["structures"]} >= {"unstructured", "kernel", "filter", "2:4", "pattern", "balanced"}
    assert {spec.method for spec in found["trainers"]} == {"gradual", "rigl", "granet", "acdc", "str", "probmask", "safe"}
    assert {spec.score for spec in found["init"]} == {"synflow", "snip", "grasp", "magnitude", "random"}
    assert any(abs(spec.density * 316 - 1) < 0.01 for spec in found["init"])
    assert {spec.parent for spec in found["controls"] if isinstance(spec, ControlRun)} <= set(found["tickets"])
    assert {spec.parent for spec in found["barrier"]} <= set(found["tickets"])
    packed = {spec.parent for spec in found["files"]}
    assert packed <= {*found["dense"], *found["ratios"], *found["quantize"]}  # nothing is trained for a file alone


def test_all_methods_see_as_many_images():
    found = studies(Parameters(scale="laptop"))["trainers"]
    epochs = {
        spec.recipe.epochs + (spec.rest.epochs if spec.rest else 0) + (spec.parent.recipe.epochs if spec.start == "trained" else 0)
        for spec in found
    }
    assert len(epochs) == 1


def test_knobs():
    chosen = studies(Parameters(scale="laptop", ratios="20, 100, 400", epochs=4, structure="kernel", rewind=7, seeds=2))
    assert {round(1 / spec.plan.density) for spec in chosen["ratios"]} >= {20, 100, 400}
    assert {spec.plan.structure for spec in chosen["ratios"]} == {"kernel"}
    assert {spec.rewind for spec in chosen["tickets"] if isinstance(spec, TicketRun)} == {0, 7}
    assert {spec.recipe.epochs + (spec.rest.epochs if spec.rest else 0) for spec in chosen["ratios"]} == {4}
    assert {spec.seed for spec in chosen["tickets"]} == {0, 1}
    other = sized(Parameters(dataset="cifar100"))
    assert (other.vgg.model.side, other.vgg.model.channels, other.vgg.model.classes) == (32, 3, 100)
    assert other.lenet.model.inputs == 3072 and other.resnet.model.classes == 100 and other.meta.parent.model.channels == 3
    for fields, message in (
        ({"ratios": "100, 20"}, "smallest first"),
        ({"ratios": "a"}, "numbers"),
        ({"ratios": "1, 5"}, "above 1"),
        ({"structure": "kernels"}, "kernel"),
        ({"epochs": 0}, "epochs"),
        ({"rewind": 0}, "rewind"),
        ({"dataset": "cifar"}, "cifar10"),
    ):
        with pytest.raises(ValueError, match=message):
            Parameters(scale="laptop", **fields)


def test_the_largest_scale_is_about_the_network_of_the_table():
    size = SIZES["gpu"]
    assert size.vgg.model == vgg16() and size.vgg.train_examples is None and size.seeds >= 3
    assert size.ratios == (50, 500, 1000) and size.kernel_ratios == (100, 500)


def test_names():
    ticket = TicketRun(parent=RESNET, rewind=9)
    sparse = SparseRun(parent=VGG, plan=Plan(density=0.1), recipe=Recipe())
    ours = own(VGG, 0.1, Recipe(), Recipe(), structure="kernel")
    coded = QuantizedRun(parent=sparse, bits=2, grid=(16, 4))
    specs = (
        RESNET,
        ticket,
        replace(ticket, iterative=False),
        replace(ticket, retraining="lr-rewind"),
        replace(ticket, scope="layerwise"),
        ControlRun(parent=ticket, control="shuffled", which=(1,)),
        BarrierRun(parent=ticket),
        BarrierRun(parent=ticket, level=2),
        InitialRun(dense=VGG, score="synflow"),
        sparse,
        ours,
        coded,
        PackedRun(parent=coded),
        PackedRun(parent=ours),
        CoarseRun(parent=VGG, form="refill"),
        CocktailRun(parent=RESNET, rewind=9, pivot=False),
    )
    assert [method(r) for r in results(*((spec, {}) for spec in specs))] == [
        "dense",
        "ticket, step 9",
        "ticket, step 9, one cut",
        "rate rewound",
        "ticket, step 9, layer-wise",
        "shuffled mask, step 9",
        "dense, step 9",
        "ticket, step 9",
        "SynFlow",
        "gradual",
        "ours, kernel",
        "2 bits, 64 codebooks a layer",
        "2 bits, 64 codebooks a layer",
        "ours, kernel",
        "refilled",
        "without dense steps",
    ]
    assert list(frame(results((sparse, {}), (ours, {})))["method"]) == ["gradual", "ours, kernel"]


# Claims


def seeded(spec: Spec, seed: int) -> Spec:
    from lib.studies.base.seeds import with_seed

    return with_seed(spec, seed)


def levels(accuracies, densities=(0.5, 0.2), **more):
    return {"level": [1, 2], "density": list(densities), "test_accuracy": accuracies, **more}


def sample(seeds=(0, 1)):
    """All studies with numbers that tell which run they came from."""
    found = {
        name: []
        for name in (
            "tickets",
            "controls",
            "lenet",
            "shot",
            "barrier",
            "init",
            "trainers",
            "coarsening",
            "meta",
            "cocktail",
            "ratios",
            "files",
            "official init",
            "unpruned",
            "equal updates",
        )
    }
    lenet = DenseRun(model=MLPConfig(64), snapshots=(0,), recipe=Recipe(warmup=0.0))
    warm = replace(RESNET, recipe=Recipe(warmup=0.3))
    for seed in seeds:

        def add(study, spec, metrics, curves=None, data=None, arrays=None, seed=seed):
            found[study].append((seeded(spec, seed), metrics, curves or {}, data or {}, arrays or {}))

        early, late = TicketRun(parent=RESNET, levels=2, rewind=0), TicketRun(parent=RESNET, levels=2, rewind=9)
        warmed = replace(early, parent=warm)
        add("tickets", RESNET, {"test_accuracy": 0.90 + 0.02 * seed})
        add("tickets", warm, {"test_accuracy": 0.92})
        for ticket, accuracy, control in ((early, 0.80, 0.795), (late, 0.89, 0.81), (warmed, 0.88, 0.81)):
            add("tickets", ticket, {"test_accuracy": accuracy}, levels([0.9, accuracy]))
            add(
                "controls",
                ControlRun(parent=ticket, control="reinitialised", which=(2,)),
                {"test_accuracy": control},
                {"level": [2], "density": [0.2], "test_accuracy": [control]},
            )
        add("controls", replace(late, scope="layerwise"), {"test_accuracy": 0.87}, levels([0.9, 0.87]))
        add("shot", replace(late, retraining="lr-rewind"), {"test_accuracy": 0.88})
        add("shot", replace(late, retraining="finetune"), {"test_accuracy": 0.86})
        for how, accuracy in (("rewind", 0.895), ("lr-rewind", 0.925), ("finetune", 0.915)):
            add("unpruned", replace(late, retraining=how, amount=0.0), {"test_accuracy": accuracy})
        for run, rise in (
            (BarrierRun(parent=late, level=2), 0.01),
            (BarrierRun(parent=early, level=2), 0.31),
            (BarrierRun(parent=early, level=0), 0.9),
        ):
            add("barrier", run, {"test_barrier": rise, "diverged": False}, {"test_error": [0.1, 0.1 + rise, 0.2]})
        small = TicketRun(parent=lenet, levels=2)
        add("lenet", small, {"test_accuracy": 0.95}, levels([0.96, 0.95], stop_step=[40, 50], last_step=[120, 120]))
        add("lenet", replace(small, iterative=False), {"test_accuracy": 0.93}, levels([0.96, 0.93]))
        add(
            "lenet",
            ControlRun(parent=small, control="reinitialised", which=(1, 2)),
            {"test_accuracy": 0.9},
            levels([0.95, 0.9], stop_step=[60, 100], last_step=[120, 120]),
        )
        for score, accuracy in (("synflow", 0.8), ("magnitude", 0.1)):
            for study, start, value in (("init", "ours", 0.3), ("official init", "official", accuracy)):
                add(
                    study,
                    InitialRun(dense=VGG, score=score, density=1 / 316, start=start),
                    {"test_accuracy": value, "collapsed": score == "magnitude", "weights": 3},
                    arrays={"weights_by_layer": [1, 1, 1]},
                )
        for name, accuracy in (("gradual", 0.85), ("granet", 0.86)):
            add("trainers", SparseRun(parent=VGG, method=name, plan=Plan(density=0.02), recipe=Recipe()), {"test_accuracy": accuracy})
        for form, accuracy in (("refill", 0.88), ("channels", 0.84)):
            add(
                "coarsening",
                CoarseRun(parent=VGG, form=form),
                {"level": 1, "density": 0.64, "test_accuracy": accuracy, "dense_test_accuracy": 0.89, "small_ratio": 0.5},
            )
        add("meta", SIZES["smoke"].meta, {"winner_test_accuracy": 0.8, "uniform_test_accuracy": 0.7 + 0.02 * seed, "rank_correlation": 0.6})
        for pivot, accuracy in ((True, 0.7), (False, 0.6 + 0.02 * seed)):
            add(
                "cocktail",
                CocktailRun(parent=RESNET, rewind=9, pivot=pivot),
                {"test_accuracy_merged": accuracy, "test_accuracy_last": 0.69},
            )
        add(
            "equal updates",
            CocktailRun(parent=RESNET, rewind=9, pivot=False, equal="updates"),
            {"test_accuracy_merged": 0.68 + 0.01 * seed},
        )
        add("equal updates", CocktailRun(parent=RESNET, rewind=9, distil=0.0), {"test_accuracy_merged": 0.5})
        ours = own(VGG, 1 / 500, Recipe(), Recipe())
        real = {"name": "cifar10", "train": 45_000}
        add("ratios", ours, {"test_accuracy": 0.93, "all_weights": claims.VGG16_WEIGHTS}, data=real)
        for bits, grid, size, ratio in ((4, (1, 1), 1000, 2500.0), (2, (16, 4), 1250, 2000.0)):
            add(
                "files",
                PackedRun(parent=QuantizedRun(parent=ours, bits=bits, grid=grid)),
                {
                    "bytes": size,
                    "file_ratio": ratio,
                    "weights_ratio": ratio,
                    "claimed_ratio": 5000.0,
                    "all_weights": claims.VGG16_WEIGHTS,
                    "test_accuracy": 0.9 if bits == 4 else 0.8,
                    "val_accuracy": 0.9 if bits == 4 else 0.8,
                },
                data=real,
            )
    return {name: results(*entries) for name, entries in found.items()}


@pytest.mark.parametrize(
    "value, expected",
    [
        (reads("lth-initial-values"), 0.08),
        (reads("lth-none-at-start"), 0.005),
        (reads("lth-faster"), 2.0),
        (reads("lth-iterative"), 0.02),
        (reads("lth-global"), 0.02),
        (reads("lmc-late-stable"), 0.01),
        (reads("lmc-start-unstable"), 0.30),
        (reads("rewinding-beats-tuning"), 0.01),
        (reads("rate-rewinding-suffices"), -0.04),
        (reads("synflow-others-collapse"), 0.7),
        (reads("synflow-no-collapse"), 0.0),
        (reads("granet-over-gradual"), 0.01),
        (reads("coarsening-match"), -0.01),
        (reads("coarsening-over-channels"), 0.04),
        (reads("coarsening-faster"), 2.0),
        (reads("metapruning-rank"), 0.6),
        (reads("cocktail-merging"), 0.01),
        (reads("elastictrain-500"), 0.93),
        (reads("elastictrain-8000"), 0.9),
        (reads("elastictrain-16000"), 0.9),
        (reads("elastictrain-size"), 0.5),
        (reads("elastictrain-codebooks"), 0.8),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    assert value(sample()) == pytest.approx([expected] * 2)


def test_claims_in_points_paired_by_seed():
    assert reads("lth-ticket")(sample()) == pytest.approx([-0.01, -0.03])
    assert reads("metapruning-uniform")(sample()) == pytest.approx([0.1, 0.08])
    assert reads("cocktail-pivot")(sample()) == pytest.approx([0.02, 0.01])
    assert reads("lth-warmup")(sample()) == pytest.approx([0.88 - 0.92 - (0.80 - 0.90), 0.88 - 0.92 - (0.80 - 0.92)])


@pytest.mark.parametrize("claim, of_ticket", [("rewinding-beats-tuning", "fine-tuned"), ("rate-rewinding-suffices", "ticket, step 9")])
def test_what_retraining_brings_without_pruning_is_taken_off_seed_by_seed(claim, of_ticket):
    """Its spread over seeds is part of the interval, and a seed without it says nothing."""
    studies = sample()
    gained = reads(claim)(studies)

    def moved(run, by):
        other = run.metrics["test_accuracy"] + by * run.fields["seed"] * (method(run) == "unpruned, rate rewound")
        return replace(run, metrics=run.metrics | {"test_accuracy": other})

    studies["unpruned"] = Results(tuple(moved(run, 0.03) for run in studies["unpruned"]))
    assert f"unpruned, {of_ticket}" in {method(run) for run in studies["unpruned"]}
    assert reads(claim)(studies) == pytest.approx([gained[0], gained[1] - 0.03])
    studies["unpruned"] = Results(tuple(run for run in studies["unpruned"] if run.fields["seed"] == 1))
    assert reads(claim)(studies) == pytest.approx([gained[1] - 0.03])


def test_controls_that_were_not_run_decide_nothing():
    for value, study, message in (
        (reads("rewinding-beats-tuning"), "unpruned", "retrained as long"),
        (reads("rate-rewinding-suffices"), "unpruned", "retrained as long"),
        (reads("cocktail-pivot"), "equal updates", "half the updates"),
        (reads("synflow-others-collapse"), "official init", "official weights"),
    ):
        with pytest.raises(NotTestable, match=message):
            value(sample() | {study: Results(())})


def without(study, wanted, **changes):
    """The sample's study, in which the runs of one name have other metrics or curves."""
    return Results(
        tuple(
            replace(
                r, metrics={n: changes.get(n, v) for n, v in r.metrics.items()}, curves={n: changes.get(n, v) for n, v in r.curves.items()}
            )
            if method(r) == wanted
            else r
            for r in sample()[study]
        )
    )


@pytest.mark.parametrize(
    "value, study, wanted, changes, message",
    [
        (reads("synflow-no-collapse"), "init", "SynFlow", {"weights": 2}, "one in each layer"),
        (reads("lth-faster"), "lenet", "re-initialised, step 0", {"stop_step": [60, 120]}, "still falling"),
        (reads("lmc-late-stable"), "barrier", "ticket, step 9", {"test_error": [0.1, 0.9, 0.85]}, "worse of two copies"),
        (reads("lmc-start-unstable"), "barrier", "ticket, step 0", {"diverged": True}, "diverged"),
        (reads("elastictrain-size"), "files", "4 bits, one codebook a layer", {"all_weights": 1000}, "VGG-16"),
        (reads("elastictrain-codebooks"), "files", "2 bits, 64 codebooks a layer", {"all_weights": 1000}, "VGG-16"),
    ],
)
def test_claims_refuse_what_cannot_decide_them(value, study, wanted, changes, message):
    with pytest.raises(NotTestable, match=message):
        value(sample() | {study: without(study, wanted, **changes)})


def test_claims_say_what_is_missing():
    empty = {name: results() for name in sample()}
    for value in (
        reads("lth-initial-values"),
        reads("lth-faster"),
        reads("lmc-late-stable"),
        reads("synflow-others-collapse"),
        reads("coarsening-match"),
        reads("metapruning-rank"),
        reads("cocktail-merging"),
        reads("elastictrain-50"),
        reads("elastictrain-size"),
        reads("elastictrain-8000"),
    ):
        with pytest.raises(NotTestable):
            value(empty)
    with pytest.raises(NotTestable, match="kernel"):
        reads("elastictrain-kernel-100")(sample())


def test_an_accuracy_of_another_network_decides_nothing_about_the_table():
    ours = own(VGG, 1 / 50, Recipe(), Recipe())
    for weights, data in (
        (1000, {"name": "cifar10", "train": 45_000}),
        (claims.VGG16_WEIGHTS, {"name": "cifar10", "train": 5000}),
        (claims.VGG16_WEIGHTS, {"name": "mnist", "train": 55_000}),
    ):
        found = {"ratios": results((ours, {"test_accuracy": 0.99, "all_weights": weights}, {}, data))}
        with pytest.raises(NotTestable, match="VGG-16"):
            reads("elastictrain-50")(found)


# The picture of masks


def test_a_mask_is_drawn_bit_by_bit():
    image = pytest.importorskip("PIL.Image")
    mask = torch.rand(5, 3, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.3
    drawn = image.open(io.BytesIO(base64.b64decode(picture(mask).split(",")[1]))).convert("RGBA")
    alpha = torch.tensor(np.array(drawn)[:, :, 3])
    assert torch.equal(alpha[6::12, 3::6] > 0, mask.flatten(1))


def test_the_mask_explorer_is_small_and_says_what_it_shows():
    field = torch.rand(32, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    figure = mask_explorer({name: kind.mask(field, None if name == "2:4" else 1 / 8) for name, kind in NAMED.items()})
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == list(NAMED)
    assert "unstructured 12.5%" in figure.layout.meta["alt"] and "2:4 50.0%" in figure.layout.meta["alt"]
    assert len(json.dumps(figure.to_plotly_json(), default=str)) < 50_000
    for masks, message in (({}, "no masks"), ({"a": field > 0, "b": field[:4] > 0}, "one shape")):
        with pytest.raises(ValueError, match=message):
            mask_explorer(masks)


# Running them


def test_the_trainers_in_whole_kernels(tmp_path):
    """Methods that can only choose single weights are left out; what cannot be exchanged is refused before anything runs."""
    found = studies(Parameters(scale="smoke", structure="kernel"))["trainers"]
    assert {spec.method for spec in found} == {"gradual", "granet", "rigl", "acdc"}
    for result in obtain(found, store=Store(tmp_path / "none", tmp_path)):
        assert result.metrics["weights"] % 9 == result.arrays["weights_by_layer"][-1] % 9
    for name in ("2:4", "pattern", "balanced"):
        with pytest.raises(ValueError, match="exchanged"):
            Parameters(scale="smoke", structure=name)


def test_runs_from_beginning_to_end(tmp_path):
    store, found = Store(tmp_path / "none", tmp_path), studies(Parameters(scale="smoke"))
    ours = next(spec for spec in found["ratios"] if spec.rest and spec.plan.structure == "unstructured")
    sparse, file = obtain([ours, next(spec for spec in found["files"] if spec.parent == ours)], store=store)
    assert sparse.metrics["weights"] <= round(ours.plan.density * sparse.metrics["all_weights"])
    assert sum(sparse.arrays["weights_by_layer"]) == sparse.metrics["weights"]
    assert file.metrics["bytes"] < file.metrics["bytes_dense"] and file.metrics["weights"] <= sparse.metrics["weights"]
    again = obtain([ours], store=Store(tmp_path / "none", tmp_path / "again"))[0]
    assert {k: v for k, v in again.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in sparse.metrics.items() if k != "train_seconds"
    }


def test_the_table_of_collapse_has_the_official_weights_beside_ours_with_their_accuracy():
    def run(seed, start, score, density, empty, accuracy):
        spec = seeded(InitialRun(dense=VGG, score=score, density=density, start=start), seed)
        metrics = {"empty_layers": empty, "on_paths": 50, "weights": 100, "test_accuracy": accuracy}
        return results((spec, metrics, {}, {}, {}))[0]

    runs = [run(seed, start, "synflow", 1 / 316, 0, 0.5 + 0.1 * seed) for seed in (0, 1) for start in ("ours", "official")]
    runs += [run(seed, "official", "magnitude", 1 / 316, 3 + seed, 0.098) for seed in (0, 1)]
    table = page_tables.collapsed(Results(tuple(runs))).set_index("score")["316×"]
    assert table["SynFlow"] == table["SynFlow, official weights"] == "50% on paths (55.0%)"
    assert table["magnitude, official weights"] == "3–4 empty (9.8%)"
