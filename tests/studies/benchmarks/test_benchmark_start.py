"""The benchmarks chapter's runs from new weights: what they spend, what they leave behind, and what they can be asked for."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lib.data.augment import Augmentation
from lib.data.images import normalise
from lib.elastic.compute import step_cost
from lib.elastic.cost import cost
from lib.elastic.samplers import Sandwich
from lib.elastic.supernet import ElasticViT
from lib.growth.depth import Deepen
from lib.growth.net2net import Net2Wider
from lib.growth.upcycle import Upcycle
from lib.growth.width import Noise, Widen
from lib.measure import cost as measure
from lib.models.resnet import ResNetConfig
from lib.models.vit import ViT, ViTConfig
from lib.moe.layer import MoEConfig
from lib.runs.store import Session, Store, obtain
from lib.studies.base.answers import correct_of
from lib.studies.benchmarks.grown import shrunk
from lib.studies.benchmarks.methods import CUTS, Averaged, Dense, Elastic, Grown, Switch
from lib.studies.benchmarks.start import StartRun
from lib.studies.benchmarks.task import TRAINING, Task, build
from lib.training.loop import Recipe, Training

CPU = torch.device("cpu")
TASK = Task(
    train_examples=200,
    epochs=2,
    points=2,
    vit=ViTConfig(image_size=8, channels=1, patch=4, width=16, depth=2, heads=4, hidden=24),
    cnn=ResNetConfig(widths=(4, 8), blocks=(1, 1), channels=1),
    recipe_vit=Recipe(batch_size=40, lr=3e-3),
    recipe_cnn=Recipe(batch_size=40, lr=1e-2),
)

METHODS = {
    "dense": Dense(),
    "narrow": Dense(0.5),
    "thin": Dense(inner=0.5),
    "switch": Switch(experts=4),
    "averaged": Averaged(experts=3),
    "elastic": Elastic(),
    "deeper": Grown((Deepen(2, "stack"),)),
    "wider": Grown((Widen(2, Noise()),), before=0.5),
    "both": Grown((Deepen(2), Net2Wider(12), Widen(2))),
}
SPECS = {name: StartRun(task=TASK, method=method) for name, method in METHODS.items()} | {
    "cnn": StartRun(task=TASK, family="cnn"),
    "thin cnn": StartRun(task=TASK, family="cnn", method=Dense(inner=0.5)),
    "half": StartRun(task=TASK, share=0.5, seed=1),
}
METRICS = {
    "val_accuracy",
    "test_accuracy",
    "parameters",
    "nonzero",
    "active_parameters",
    "flops",
    "flops_nonzero",
    "file_bytes",
    "train_flops",
    "own_train_flops",
    "train_seconds",
    "train_seconds_total",
    "train_peak_bytes",
    "steps",
    "diverged",
    "train_loss",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return Store(folder / "reference", folder / "own")


@pytest.fixture(scope="module")
def results(store):
    return dict(zip(SPECS, obtain(list(SPECS.values()), store=store, device="cpu"), strict=True))


@pytest.fixture(scope="module")
def images():
    return TASK.images(CPU)


@pytest.fixture(scope="module")
def inputs(images):
    return normalise(images.test.images[:20], images)


def loaded(name, store, cut=None):
    return SPECS[name].load(Session(CPU, store, SPECS[name], lambda part, text: None), cut)


@pytest.mark.parametrize("name", SPECS)
def test_a_run_says_what_it_cost_and_what_it_can(name, results, images):
    metrics, curves = results[name].metrics, results[name].curves
    extra = {"growth_difference"} if isinstance(SPECS[name].method, Grown) else set()
    assert set(metrics) == METRICS | extra and not metrics["diverged"]
    assert correct_of(results[name].arrays["correct"]).mean() == pytest.approx(metrics["test_accuracy"], abs=1e-6)
    assert metrics["own_train_flops"] == metrics["train_flops"]
    assert metrics["train_seconds"] == metrics["train_seconds_total"] > 0
    assert metrics["train_peak_bytes"] > 4 * 40 * 64  # the batch alone, in fp32
    assert {"val_accuracy", "train_loss", "seconds", "flops", "lr"} <= curves.keys()
    assert len({len(curve) for curve in curves.values()}) == 1
    assert curves["flops"] == sorted(curves["flops"]) and curves["flops"][-1] == pytest.approx(metrics["train_flops"])
    assert curves["seconds"] == sorted(curves["seconds"])
    assert curves["seconds"][-1] == pytest.approx(metrics["train_seconds"])


@pytest.mark.parametrize("name", SPECS)
def test_every_method_spends_its_share_of_the_budget(name, results, images):
    """Up to the rounding of steps, and of each phase's steps to equal parts between its looks at the validation images."""
    spec, metrics = SPECS[name], results[name].metrics
    dense = TRAINING * TASK.forward_flops(TASK.whole(spec.family)) * 40
    wanted = spec.share * TASK.steps(images, spec.family) * dense
    assert TASK.training_flops(images, spec.family) * spec.share == wanted
    assert abs(metrics["train_flops"] - wanted) <= 2 * 1.5 * dense, "a phase is off by more than its rounding"


def test_smaller_networks_train_for_more_steps(results, images):
    steps = {name: result.metrics["steps"] for name, result in results.items()}
    assert steps["dense"] == TASK.steps(images, "vit") == 10 and steps["half"] == 5
    assert steps["narrow"] > 2 * steps["dense"] and steps["thin"] > steps["dense"]
    assert steps["averaged"] == 10 and steps["switch"] == 10 and min(steps["elastic"], steps["deeper"]) > 10


@pytest.mark.parametrize("name", SPECS)
@torch.no_grad()
def test_the_network_that_was_judged_is_the_one_that_is_loaded(name, results, store, images, inputs):
    """Its accuracy on the test images is that of the row, but for the 16 bits of its file."""
    model = loaded(name, store)
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert torch.equal(model(inputs), loaded(name, store)(inputs))
    right = model(normalise(images.test.images, images)).argmax(-1) == images.test.labels
    assert right.double().mean().item() == pytest.approx(results[name].metrics["test_accuracy"], abs=0.01)
    assert measure.parameters(model) == results[name].metrics["parameters"]


def test_training_teaches(results):
    assert results["thin cnn"].curves["train_loss"][-1] < results["thin cnn"].curves["train_loss"][0]
    assert all(result.curves["train_loss"][-1] < 2.5 for result in results.values())


# Dense


@torch.no_grad()
def test_inner_units_are_those_that_removal_would_leave(results, store):
    thin, cnn = loaded("thin", store), loaded("thin cnn", store)
    assert thin.config == replace(TASK.vit, hidden=12)
    assert cnn.config.inner == (2, 4) and cnn.blocks[1].conv1.out_channels == 4 and cnn.blocks[1].conv2.out_channels == 8
    assert loaded("narrow", store).config == replace(TASK.vit, width=8, heads=2, hidden=12)


# Experts


def test_a_switch_costs_an_image_what_the_dense_network_costs_and_the_router(results):
    dense, switch = results["dense"].metrics, results["switch"].metrics
    router = 2 * 4 * 16 * 4  # tokens, features, experts; one layer of two has experts
    assert switch["flops"] == dense["flops"] + router
    assert switch["active_parameters"] == dense["parameters"] + 4 * 16
    assert switch["parameters"] > 1.5 * dense["parameters"]
    spent = switch["train_flops"] / switch["steps"] / dense["train_flops"] * dense["steps"]
    assert spent == pytest.approx(switch["flops"] / dense["flops"])


def test_the_switch_drops_tokens_in_training(store, results):
    model = loaded("switch", store)
    assert [type(block.ffn).__name__ for block in model.blocks] == ["Mlp", "MoELayer"]
    router = model.blocks[1].ffn.router
    assert (router.policy, router.capacity_factor, router.k) == ("arrival", 1.25, 1)


@torch.no_grad()
def test_averaged_experts_become_an_ordinary_dense_network(results, store, inputs):
    model, dense = loaded("averaged", store), results["dense"].metrics
    assert type(model) is ViT and model.config == TASK.vit
    found = results["averaged"].metrics
    assert all(found[name] == dense[name] for name in ("parameters", "active_parameters", "flops", "train_flops"))
    # What was looked at in training, the mean of the experts, is what was merged: up to the 16 bits of its file.
    assert found["val_accuracy"] == pytest.approx(results["averaged"].curves["val_accuracy"][-1], abs=0.02)


# Elastic


@pytest.mark.parametrize("cut", CUTS)
@torch.no_grad()
def test_a_cut_computes_what_the_masked_network_does(cut, results, store, inputs):
    spec = SPECS["elastic"]
    model = spec.method.network(TASK, "vit", 0)
    model.load_state_dict(load_file(store.scratch(spec) / "weights.safetensors"))
    size = spec.method.size(TASK.vit, cut)
    expected, small = model.eval().use(size)(inputs), loaded("elastic", store, cut)
    assert type(small) is ViT and not isinstance(small, ElasticViT)
    assert (small(inputs) - expected).abs().max() <= 1e-5
    spent = cost(size, TASK.vit)
    assert (measure.parameters(small), measure.flops(small, inputs[:1])) == (spent.parameters, spent.flops)


def test_cuts_are_of_three_sizes(results, store):
    sizes = [SPECS["elastic"].method.size(TASK.vit, cut) for cut in CUTS]
    assert [(s.depth, s.heads, s.hidden) for s in sizes] == [(2, 4, 24), (2, 3, 12), (1, 2, 6)]
    whole, unnamed = loaded("elastic", store, "whole"), loaded("elastic", store)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), unnamed.parameters(), strict=True))
    assert SPECS["elastic"].cuts == CUTS and SPECS["dense"].cuts == ()
    assert results["elastic"].metrics["parameters"] == results["dense"].metrics["parameters"]
    assert len(results["elastic"].curves["val_accuracy_small"]) == 2


def test_an_elastic_step_is_charged_for_all_its_passes(results, images):
    several = StartRun(task=TASK, method=Elastic(sampler=Sandwich()))
    one, whole = SPECS["elastic"].method, TASK.forward_flops(TASK.vit)
    relative = {sampler: step_cost(sampler, one.space(TASK.vit), TASK.vit) for sampler in (one.sampler, Sandwich())}
    assert 0.2 < relative[one.sampler] < 1 < relative[Sandwich()] < 4
    assert several.key != SPECS["elastic"].key
    metrics = results["elastic"].metrics
    assert metrics["train_flops"] / metrics["steps"] == pytest.approx(TRAINING * 40 * whole * relative[one.sampler])


# Growth


def test_growth_that_is_exact_moves_nothing(results):
    assert results["wider"].metrics["growth_difference"] < 1e-5 and results["both"].metrics["growth_difference"] < 1e-5
    assert results["deeper"].metrics["growth_difference"] > 1e-2


@pytest.mark.parametrize(
    "growth, small",
    [
        ((Widen(2),), replace(TASK.vit, width=8, heads=2, hidden=12)),
        ((Deepen(2, "stack"),), replace(TASK.vit, depth=1)),
        ((Deepen(2), Net2Wider(12), Widen(2)), replace(TASK.vit, depth=1, width=8, heads=2, hidden=6)),
        ((Widen(4),), replace(TASK.vit, width=4, heads=1, hidden=6)),
    ],
)
def test_the_small_network_follows_from_the_growth(growth, small):
    assert shrunk(TASK.vit, growth) == small == Grown(growth).small(TASK)


def test_a_grown_network_pays_for_the_small_one(results, images):
    whole = TASK.forward_flops(TASK.vit)
    small = TASK.forward_flops(replace(TASK.vit, width=8, heads=2, hidden=12))
    metrics = results["wider"].metrics
    first, second = (round(0.5 * TASK.training_flops(images, "vit") / (TRAINING * 40 * f)) for f in (small, whole))
    assert first > 2 * second and metrics["steps"] == first + second
    assert metrics["train_flops"] == pytest.approx(TRAINING * 40 * (first * small + second * whole))


# Interruption


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("look", [2, 4], ids=["small", "grown"])
def test_an_interrupted_training_goes_on_to_the_bit(look, tmp_path, monkeypatch):
    """In either phase of a growth, with distorted images and grown moments."""
    task = replace(TASK, epochs=3, points=4, augmentation=Augmentation(crop=1))  # two looks in each phase
    spec = StartRun(task=task, method=Grown((Widen(2, Noise()),), before=0.5))
    monkeypatch.setattr("lib.training.loop.SAVE_EVERY_SECONDS", 0.0)
    evaluate, looks = Training.evaluate, []

    def counted(training, *arguments):
        looks.append(training.epoch)
        if len(looks) == look:
            raise Interrupted
        return evaluate(training, *arguments)

    monkeypatch.setattr(Training, "evaluate", counted)
    store = Store(tmp_path / "reference", tmp_path / "own")
    with pytest.raises(Interrupted):
        obtain([spec], store=store, device="cpu")
    assert store.get(spec) is None and list((store.scratch(spec) / "state").rglob("*.safetensors"))
    (result,) = obtain([spec], store=store, device="cpu")
    assert looks == ([0, 1, 1, 0, 1] if look == 2 else [0, 1, 0, 1, 1])
    assert not (store.scratch(spec) / "state").exists()

    monkeypatch.setattr(Training, "evaluate", evaluate)
    undisturbed = Store(tmp_path / "reference", tmp_path / "undisturbed")
    (expected,) = obtain([spec], store=undisturbed, device="cpu")
    for name in ("metrics", "curves", "arrays"):
        found, wanted = ({n: v for n, v in getattr(r, name).items() if "seconds" not in n} for r in (result, expected))
        assert found == wanted, name
    one, other = (load_file(s.scratch(spec) / "weights.safetensors") for s in (store, undisturbed))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Wrong words


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: StartRun(family="cnn", method=Switch()), "not 'cnn'"),
        (lambda: StartRun(family="rnn"), "family is 'rnn'"),
        (lambda: StartRun(share=0.0), "part of the budget"),
        (lambda: Dense(1.5), "in \\(0, 1\\]"),
        (lambda: Elastic(depth=(0.5, 0.75)), "ascending up to 1"),
        (lambda: Grown(()), "growth is empty"),
        (lambda: Grown((Widen(2),), before=1.0), "in \\(0, 1\\)"),
        (lambda: StartRun(task=TASK, method=Grown((Widen(3),))), "whose width and heads they divide"),
        (lambda: StartRun(task=TASK, method=Grown((Deepen(3),))), "growth leads from"),
        (lambda: StartRun(task=TASK, method=Grown((Upcycle(MoEConfig(k=2)),))), "does not apply to vision transformers"),
        (lambda: StartRun(task=replace(TASK, recipe_vit=Recipe(optimizer="sgd")), method=METHODS["wider"]), "state of 'adamw'"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_only_what_can_be_cut_is_cut(results, store):
    with pytest.raises(ValueError, match="only an elastic network"):
        loaded("dense", store, "small")
    with pytest.raises(ValueError, match="cut is 'tiny'"):
        loaded("elastic", store, "tiny")


def test_defaults_are_left_out_of_the_address():
    assert StartRun(task=TASK).key == StartRun(task=TASK, method=Dense(1.0), family="vit", share=1.0).key
    assert len({spec.key for spec in SPECS.values()}) == len(SPECS)
    assert build(TASK.vit, 3).config == TASK.vit
