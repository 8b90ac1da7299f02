"""The benchmarks chapter's chains: what they spend, that every constraint holds through later stages, and that files say what ran."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lib.data.images import normalise
from lib.distillation.early_exit import answers, leave
from lib.distillation.exits import ExitConfig, ExitNet
from lib.distillation.leaving import EarlyExit
from lib.measure import cost as measure
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vit import ViT, ViTConfig
from lib.privacy.deployed import DeployedReLU, deployed, unfilled
from lib.privacy.replace import masked_relus, replaced
from lib.pruning.inner import importance, inner_layers, strongest, without
from lib.pruning.mask import attach, count, layers, masks_of, prunable, sparsity
from lib.pruning.structure import structure
from lib.pruning.trainers import Plan
from lib.quantization.catalogue import unique
from lib.quantization.codebook import books, quantize
from lib.quantization.thin import Thin
from lib.runs.store import Session, Store, obtain
from lib.studies.base.answers import correct_of
from lib.studies.benchmarks import chain as benchmark_chain
from lib.studies.benchmarks.chain import ChainRun
from lib.studies.benchmarks.methods import Dense, Elastic
from lib.studies.benchmarks.rows import correct, shipped
from lib.studies.benchmarks.stages import Distil, Exits, Prune, Quantize, Remove, Replace
from lib.studies.benchmarks.start import StartRun
from lib.studies.benchmarks.task import TRAINING, Task, forward_flops
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss

TASK = Task(
    train_examples=200,
    epochs=4,
    points=2,
    vit=ViTConfig(image_size=8, channels=1, patch=4, width=24, depth=2, heads=3, hidden=32),
    cnn=ResNetConfig(widths=(4, 8), blocks=(1, 1), channels=1),
    recipe_vit=Recipe(batch_size=50, lr=3e-3),
    recipe_cnn=Recipe(batch_size=50, lr=1e-2),
)
ELASTIC = StartRun(task=TASK, method=Elastic(), share=0.5)
VIT = StartRun(task=TASK, share=0.5)
CNN = StartRun(task=TASK, family="cnn", method=Dense(), share=0.5)

DENSITY, BITS = 0.3, 3
ORDERS = [
    ChainRun(parent=ELASTIC, cut="small", stages=order) for order in itertools.permutations((Prune(DENSITY), Quantize(BITS), Distil()))
]
TWO_FOUR = ChainRun(parent=ELASTIC, cut="middle", stages=(Quantize(BITS), Prune(0.5, "2:4"), Distil()))
CUT = ChainRun(parent=ELASTIC, cut="middle")
REMOVED = {"vit": ChainRun(parent=VIT, stages=(Remove(0.5),)), "cnn": ChainRun(parent=CNN, stages=(Remove(0.5), Quantize(BITS)))}
STUDENT = ChainRun(parent=VIT, stages=(Distil(0.67),))
REPLACED = ChainRun(parent=CNN, stages=(Replace(0.2), Prune(DENSITY)))
LEFT = ChainRun(parent=CNN, stages=(Quantize(BITS), Exits((1,))))
ALL = [*ORDERS, TWO_FOUR, CUT, *REMOVED.values(), STUDENT, REPLACED, LEFT]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return Store(folder / "none", folder)


@pytest.fixture(scope="module")
def results(store):
    return dict(zip(ALL, obtain(ALL, store=store, device="cpu")))


@pytest.fixture(scope="module")
def images():
    return TASK.images(torch.device("cpu"))


def session(store, spec):
    return Session(torch.device("cpu"), store, spec, lambda part, text: None)


def few_values(model, bits):
    return all(unique(layer.weight, (1, 1)) <= 2**bits for layer in layers(model).values())


@pytest.mark.parametrize("spec", ORDERS, ids=lambda spec: "-".join(type(stage).__name__ for stage in spec.stages))
def test_constraints_hold_to_the_end_in_every_order(spec, results, store):
    model, found = spec.load(session(store, spec)), results[spec]
    assert type(model) is ViT and 1 - sparsity(model) <= DENSITY + 1e-3 and few_values(model, BITS)
    assert found.metrics["density"] == pytest.approx(1 - sparsity(model)) and found.metrics["density"] > DENSITY - 0.01
    assert found.metrics["flops_nonzero"] < 0.6 * found.metrics["flops"]
    assert [stage["stage"] for stage in found.arrays["stages"]] == [type(stage).__name__ for stage in spec.stages]


def test_two_of_four_and_codes_together(results, store):
    model = TWO_FOUR.load(session(store, TWO_FOUR))
    allowed = structure("2:4")
    for layer in layers(model).values():
        assert torch.equal(layer.weight != 0, (layer.weight != 0) & allowed.mask(layer.weight.detach().abs()))
    assert few_values(model, BITS) and 0.45 < results[TWO_FOUR].metrics["density"] <= 0.5


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: "-".join(map(repr, spec.stages)) or "cut")
def test_what_was_judged_is_what_is_loaded(spec, results, store, images, tmp_path):
    model, found = spec.load(session(store, spec)), results[spec].metrics
    sent, size = shipped(model, images, tmp_path)
    right = correct(sent, images.test, images, "fp32")
    assert torch.equal(torch.from_numpy(correct_of(results[spec].arrays["correct"])), right)
    assert found["test_accuracy"] == pytest.approx(right.double().mean().item()) and found["file_bytes"] == size
    assert not any(hasattr(module, "parametrizations") for module in model.modules()) and not model.training


@pytest.mark.parametrize("spec", [spec for spec in ALL if spec.stages], ids=lambda spec: "-".join(map(repr, spec.stages)))
def test_the_budget_is_spent_and_no_more(spec, results, store, images):
    found, parent = results[spec].metrics, store.get(spec.parent).metrics
    family = spec.parent.family
    whole = TASK.training_flops(images, family)
    step = TRAINING * TASK.recipe(family).batch_size * forward_flops(TASK.whole(family), TASK.shape)
    # A stage's steps are rounded, and again to equal epochs; the dearest step is the whole network's with a teacher.
    assert abs(found["own_train_flops"] - spec.share * whole) <= 1.5 * len(spec.stages) * step
    assert found["train_flops"] == pytest.approx(found["own_train_flops"] + parent["train_flops"])
    assert found["train_seconds_total"] == pytest.approx(found["train_seconds"] + parent["train_seconds_total"], rel=1e-5)
    assert found["steps"] == sum(stage["steps"] for stage in results[spec].arrays["stages"]) > 0
    assert found["train_peak_bytes"] > 0 and not found["diverged"]


def test_a_teacher_is_paid_for(results, store, images):
    spec = replace(ORDERS[0], stages=(Distil(),))
    found = obtain([spec], store=store, device="cpu")[0].metrics
    model = spec.load(session(store, spec))
    whole = forward_flops(TASK.vit, TASK.shape)
    small = measure.flops(model, torch.zeros(1, *TASK.shape))
    assert small < 0.5 * whole
    assert found["own_train_flops"] == pytest.approx(50 * found["steps"] * (TRAINING * small + whole), rel=1e-6)


def test_a_cut_without_stages_costs_nothing_more(results, store):
    found, parent = results[CUT], store.get(ELASTIC)
    assert found.metrics["own_train_flops"] == found.metrics["steps"] == 0
    assert found.metrics["train_flops"] == parent.metrics["train_flops"] and not found.curves
    assert found.metrics["parameters"] < parent.metrics["parameters"]


# Removal


def trained(family):
    torch.manual_seed(0)
    model = ViT(TASK.vit) if family == "vit" else ResNet(TASK.cnn)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 1)
    return model.eval()


@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_removal_is_the_network_with_those_units_masked(family):
    model, inputs = trained(family), torch.randn(6, *TASK.shape)
    batch = [(torch.randn(20, *TASK.shape), torch.arange(20) % 10)]
    kept = strongest(importance(model, batch), 0.4)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable(model).items()}
    for block, where in inner_layers(model).items():
        gone = torch.ones(masks[where.reads].shape[1], dtype=torch.bool)
        gone[kept[block]] = False
        masks[where.reads][:, gone] = False
    masked = attach(copy.deepcopy(model), masks)
    smaller = without(model, kept)
    assert type(smaller) is type(model) and measure.parameters(smaller) < measure.parameters(model)
    torch.testing.assert_close(smaller(inputs), masked(inputs), rtol=0, atol=1e-5)
    assert not torch.allclose(smaller(inputs), model(inputs), atol=1e-3)
    with pytest.raises(ValueError, match="bake"):
        without(masked, kept)


def test_importance_is_the_gradient_of_a_gate():
    model = trained("vit").double()
    inputs, targets = torch.randn(20, *TASK.shape, dtype=torch.float64), torch.arange(20) % 10
    found = importance(model, [(inputs, targets)])["blocks.1"]
    gate = torch.ones(32, dtype=torch.float64, requires_grad=True)
    ffn = model.blocks[1].ffn
    ffn.fc2.register_forward_pre_hook(lambda module, given: (given[0] * gate,))
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(inputs), targets), gate)
    torch.testing.assert_close(found, slope.square())
    with pytest.raises(ValueError, match="at least one batch"):
        importance(model, [])


@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_removed_units_are_gone_from_config_and_cost(family, results, store):
    spec, parent = REMOVED[family], store.get(REMOVED[family].parent).metrics
    model, found = spec.load(session(store, spec)), results[REMOVED[family]].metrics
    assert (model.config.hidden == (16, 16)) if family == "vit" else (model.config.inner == (2, 4))
    assert all(found[cost] < parent[cost] for cost in ("parameters", "flops", "file_bytes"))


# Pruning what is pruned or quantized


class Batches:
    steps = 8

    def batch(self, epoch, step):
        generator = torch.Generator().manual_seed(100 * epoch + step)
        x = torch.randn(32, *TASK.shape, generator=generator)
        return x, (x[:, 0, :, 0].mean(1) > 0).long()


@pytest.mark.parametrize("coded", [False, True])
def test_what_is_pruned_stays_pruned(coded):
    model, recipe = trained("vit"), Recipe(epochs=2, batch_size=32, lr=3e-3)
    attach(
        model,
        {name: torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.6 for name, weight in prunable(model).items()},
    )
    if coded:
        quantize(model, 2)
    before, seen = masks_of(model), []
    trainer = Thin(model, Plan(density=0.2, every=2, allocation="lamp"), recipe, Batches(), classification_loss())

    def hook(model, step):
        trainer.after_step(model, step)
        seen.append(count(masks_of(model)))

    fit(model, Batches(), trainer.loss, recipe, seed=0, optimizers=trainer.optimizers, after_step=hook)
    trainer.finish(model)
    after = masks_of(model)
    assert all(not (mask & ~before[name]).any() for name, mask in after.items())
    assert seen == sorted(seen, reverse=True) and seen[-1] == round(0.2 * sum(mask.numel() for mask in after.values()))
    assert bool(books(model)) == coded and (not coded or few_values(model, 3))
    assert all(torch.equal(layer.weight != 0, after[name]) for name, layer in layers(model).items())


def test_a_training_of_one_step_prunes_too():
    model, recipe = trained("vit"), Recipe(epochs=1, batch_size=32)
    trainer = Thin(model, Plan(density=0.2, end=0.1), recipe, type("One", (Batches,), {"steps": 1})(), classification_loss())
    trainer.finish(model)
    assert count(masks_of(model)) == trainer.budget


# Replaced activations


def test_what_is_left_of_a_learnt_mask_computes_the_same():
    torch.manual_seed(1)
    model = replaced(trained("cnn"), TASK.shape).eval()
    with pytest.raises(ValueError, match="freeze"):
        deployed(model)
    for layer in masked_relus(model):
        layer.coefficients.data.uniform_(-1, 1)
        layer.freeze((torch.rand_like(layer.mask) < 0.3).float())
    plain, inputs = deployed(model), torch.randn(4, *TASK.shape)
    torch.testing.assert_close(plain(inputs), model(inputs), rtol=1e-5, atol=1e-5)
    again = unfilled(ResNet(TASK.cnn), TASK.shape).eval()
    again.load_state_dict(plain.state_dict())
    assert torch.equal(again(inputs), plain(inputs)) and not masked_relus(plain)
    assert sum(module.count for module in plain.modules() if isinstance(module, DeployedReLU)) == sum(
        layer.count for layer in masked_relus(model)
    )
    assert measure.file_bytes(plain) < 0.6 * measure.file_bytes(model)


def test_a_budget_of_relus_holds_through_a_later_stage(results, store):
    model, found = REPLACED.load(session(store, REPLACED)), results[REPLACED].metrics
    assert found["relus"] == round(0.2 * found["all_relus"]) and 1 - sparsity(model) <= DENSITY + 1e-3
    assert found["parameters"] < 1.2 * measure.parameters(ResNet(TASK.cnn))  # scores of masks are not part of it


# Early exits


@pytest.fixture
def exiting():
    torch.manual_seed(0)
    return ExitNet(ExitConfig(ResNetConfig((4, 8), (2, 1), channels=1), (1, 2))).eval()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_batch_is_left_as_single_images_are(exiting, share):
    inputs = torch.randn(30, 1, 8, 8)
    with torch.no_grad():
        probabilities = answers(exiting.all_exits(inputs)[0])
    thresholds = [float(probabilities[place].amax(-1).quantile(1 - share)) - 1e-6 * share for place in range(2)]
    model = EarlyExit(exiting, thresholds)
    left, predicted = leave(probabilities, thresholds)
    assert torch.equal(model(inputs).argmax(-1), predicted)
    assert torch.equal(torch.cat([model(image) for image in inputs.split(1)]).argmax(-1), predicted)
    if share == 1:
        assert not left.any() and measure.flops(model, inputs[:1]) < 0.7 * measure.flops(exiting, inputs[:1])
    with pytest.raises(ValueError, match="one for each"):
        EarlyExit(exiting, [0.5])


def test_the_row_of_a_network_with_exits(results, store, images):
    model, found, arrays = LEFT.load(session(store, LEFT)), results[LEFT].metrics, results[LEFT].arrays
    assert isinstance(model, EarlyExit) and few_values(model.net.backbone, BITS)
    spent = sum(flops * share for flops, share in zip(arrays["flops_by_exit"], arrays["left"], strict=True))
    assert found["flops"] == pytest.approx(spent, rel=1e-6)
    assert found["flops"] <= found["flops_whole"] == arrays["flops_by_exit"][-1] and found["flops_nonzero"] <= found["flops"]
    best = max(one["val_accuracy"] for one in arrays["front"])
    assert best - 0.005 - 1e-9 <= found["val_accuracy"] <= best
    chosen = [one for one in arrays["front"] if one["thresholds"] == [round(t, 4) for t in arrays["thresholds"]]]
    assert chosen and chosen[0]["test_accuracy"] == found["test_accuracy"]
    with torch.no_grad():
        left = [int(place) for place in leave(answers(shipped_logits(model, images)), arrays["thresholds"])[0]]
    assert sum(place == 0 for place in left) / len(left) == pytest.approx(arrays["left"][0])


def shipped_logits(model, images):
    return copy.deepcopy(model.net).half().float().all_exits(normalise(images.test.images, images))[0]


# What makes no sense, and what is interrupted


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"stages": (Prune(0.5), Distil(0.5))}, "put it first"),
        ({"stages": (Quantize(4), Remove(0.5))}, "put it before"),
        ({"stages": (Exits((1,)), Prune(0.5))}, "put them last"),
        ({"stages": (Quantize(4), Quantize(2))}, "twice"),
        ({"share": 0.0}, "share"),
        ({"cut": "small"}, "leave it at None"),
        ({"parent": ELASTIC, "cut": None}, "name one of"),
        ({"parent": ELASTIC, "cut": "tiny"}, "name one of"),
        ({"parent": VIT, "stages": (Exits((1,)),)}, "family 'cnn'"),
        ({"parent": VIT, "stages": (Replace(0.5),)}, "family 'cnn'"),
        ({"parent": replace(CNN, task=replace(TASK, recipe_cnn=Recipe(optimizer="sgd"))), "stages": (Quantize(4),)}, "adamw"),
    ],
)
def test_chains_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ChainRun(parent=CNN, stages=(Prune(0.5),)), **changes)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Prune(0.0), "density"),
        (lambda: Prune(0.5, "row"), "structure"),
        (lambda: Remove(0.0), "keep"),
        (lambda: Quantize(9), "bits"),
        (lambda: Replace(1.5), "budget"),
        (lambda: Exits(()), "places"),
    ],
)
def test_stages_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_chain_that_is_killed_goes_on_to_the_same_network(store, results, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.training.loop.SAVE_EVERY_SECONDS", 0.0)
    spec = next(spec for spec in ORDERS if [type(stage) for stage in spec.stages] == [Quantize, Prune, Distil])
    own = Store(store.own, tmp_path)
    for parent in ("results", "checkpoints"):
        (tmp_path / parent).mkdir()
        (tmp_path / parent / ELASTIC.experiment).symlink_to(store.own / parent / ELASTIC.experiment)

    class Killed(Exception):
        pass

    def dies(*args, **kwargs):
        history = fit(*args, **kwargs)
        if kwargs["checkpoint"].name == "stage1":
            raise Killed
        return history

    monkeypatch.setattr(benchmark_chain, "fit", dies)
    with pytest.raises(Killed):
        spec.run(session(own, spec))
    monkeypatch.setattr(benchmark_chain, "fit", fit)
    outcome = spec.run(session(own, spec))
    assert outcome.arrays["correct"] == results[spec].arrays["correct"]
    assert outcome.metrics["file_bytes"] == results[spec].metrics["file_bytes"]
    assert math.isclose(outcome.metrics["val_accuracy"], results[spec].metrics["val_accuracy"], rel_tol=1e-6)
