"""Methods that train sparse networks: their update rules by hand, exact budgets, regrowth, resuming; and the Specs."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.data.images import ImageBatches, load_images
from lib.distillation.hinton import hinton_loss
from lib.models.mlp import MLPConfig
from lib.models.vgg import VGGConfig
from lib.pruning.collapse import purge as purged
from lib.pruning.mask import count, density, latent, masks_of, prunable, set_masks
from lib.pruning.trainers import TRAINERS, Plan
from lib.pruning.trainers.acdc import PHASES, phase_of
from lib.pruning.trainers.probmask import project, relaxed
from lib.pruning.trainers.rigl import exchange, fading
from lib.pruning.trainers.safe import PENALTY, sharpness_aware
from lib.pruning.trainers.soft_threshold import soft_threshold
from lib.runs.store import Session, Store, obtain
from lib.studies.base.portions import Portions
from lib.studies.pruning.dense import DenseRun, build
from lib.studies.pruning.init import InitialRun
from lib.studies.pruning.train import SparseRun, own, taught
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss

NETWORK = VGGConfig(widths=(4, 6, 6), stages=(1, 2), channels=1, side=8)
SGD = Recipe(epochs=3, batch_size=64, optimizer="sgd", lr=0.05, weight_decay=5e-4, clip=None)
PLAN = Plan(density=0.1, end=0.5, settle=0.8, every=2)


@pytest.fixture(scope="module")
def images():
    return load_images("digits", train_examples=320)


def trained(method, images, plan=PLAN, recipe=SGD, epochs=None, after=None, checkpoint=None, seed=0):
    """A network trained by one method, its trainer, and a hook's view of each step."""
    torch.manual_seed(seed)
    model = build(NETWORK, seed)
    batches = ImageBatches(images.train, images, recipe.batch_size, seed=seed)
    trainer = TRAINERS[method](model, plan, recipe, batches, classification_loss(), seed)

    def hook(model, step):
        trainer.after_step(model, step)
        if after:
            after(model, step)

    history = fit(model, batches, trainer.loss, recipe, seed=seed, optimizers=trainer.optimizers, after_step=hook, checkpoint=checkpoint)
    return model, trainer, history


# Every method


@pytest.mark.parametrize("method", TRAINERS)
def test_every_method_ends_with_exactly_its_budget(method, images):
    model, trainer, history = trained(method, images)
    trainer.finish(model)
    masks = masks_of(model)
    assert count(masks) == trainer.budget == round(0.1 * trainer.weights) and not history.diverged
    assert all(not weight[~masks[name]].any() for name, weight in prunable(model).items())
    before = {name: weight.detach().clone() for name, weight in prunable(model).items()}
    batches = ImageBatches(images.train, images, 64)
    fit(model, batches, classification_loss(), SGD, seed=1)  # trained on, it stays as sparse
    now = masks_of(model)
    assert now.keys() == masks.keys() and all(torch.equal(now[name], mask) for name, mask in masks.items())
    assert any(not torch.equal(before[name], weight) for name, weight in prunable(model).items())
    assert all(not weight[~masks[name]].any() for name, weight in prunable(model).items())


@pytest.mark.parametrize("method", TRAINERS)
def test_every_method_goes_on_where_it_was_interrupted(method, images, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.training.loop.SAVE_EVERY_SECONDS", 0.0)
    whole, trainer, _ = trained(method, images)
    trainer.finish(whole)

    class Stop(Exception):
        pass

    def stop(model, step):
        if step == 12:  # in the third of three epochs of five steps
            raise Stop

    with pytest.raises(Stop):
        trained(method, images, after=stop, checkpoint=tmp_path)
    again, trainer, history = trained(method, images, checkpoint=tmp_path)
    trainer.finish(again)
    assert history.epochs == 3
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["str", "probmask", "safe"])
def test_single_weights_only(method, images):
    with pytest.raises(ValueError, match="'gradual'"):
        trained(method, images, replace(PLAN, structure="kernel"))


@pytest.mark.parametrize("method", ["rigl", "granet"])
def test_pieces_that_are_tied_cannot_be_exchanged(method, images):
    with pytest.raises(ValueError, match="cannot be exchanged"):
        trained(method, images, replace(PLAN, structure="2:4"))


def test_plans_refuse_what_makes_no_sense():
    for fields, message in (
        ({"density": 0.0}, "density"),
        ({"begin": 0.6}, "this order"),
        ({"settle": 0.2}, "this order"),
        ({"every": 0}, "every"),
        ({"floor": -1}, "floor"),
        ({"regrow": 1.0}, "regrow"),
        ({"structure": "kernels"}, "kernel"),
        ({"allocation": "local"}, "allocation"),
    ):
        with pytest.raises(ValueError, match=message):
            Plan(**{"density": 0.1} | fields)


# Gradual pruning


def test_gradual_pruning_follows_the_cubic_and_never_regrows(images):
    seen = []
    _, trainer, _ = trained("gradual", images, after=lambda model, step: seen.append(masks_of(model)))
    assert trainer.steps == 15 and (trainer.first, trainer.last, trainer.settled) == (0, 8, 12)
    for step, masks in enumerate(seen, start=1):
        at = 8 if step >= 8 else step - step % 2
        wanted = 0.1 + 0.9 * (1 - at / 8) ** 3
        assert count(masks) == (round(wanted * trainer.weights) if step > 1 else trainer.weights)
    for earlier, later in zip(seen, seen[1:]):
        assert not any((later[name] & ~earlier[name]).any() for name in later)


def test_the_largest_weights_stay(images):
    model = build(NETWORK, 0)
    batches = ImageBatches(images.train, images, 64)
    trainer = TRAINERS["gradual"](model, PLAN, SGD, batches, classification_loss())
    for budget in (300, 200, 77):
        before = {name: weight.detach().abs() for name, weight in prunable(model).items()}
        trainer.keep_best(model, budget)
        masks = masks_of(model)
        kept = torch.cat([before[name][mask] for name, mask in masks.items()])
        gone = torch.cat([before[name][~mask] for name, mask in masks.items()])
        assert len(kept) == budget and kept.min() >= gone.max()


@pytest.mark.parametrize("structure, pieces", [("kernel", (0, 1)), ("filter", (0,)), ("channel", (1,))])
def test_gradual_pruning_of_structures(structure, pieces, images):
    model, trainer, _ = trained("gradual", images, replace(PLAN, structure=structure, density=0.5, floor=1))
    assert 0.4 < density(masks_of(model)) <= 0.5
    for name, mask in masks_of(model).items():
        if mask.ndim == 4:
            rest = [axis for axis in range(4) if axis not in pieces]
            share = mask.float().mean(rest)
            assert ((share == 0) | (share == 1)).all() and mask.any()


# RigL and GraNet


def test_exchange_by_hand():
    alive = torch.tensor([True, True, True, False, False, False])
    strength = torch.tensor([3.0, 1.0, 2.0, 0.0, 0.0, 0.0])
    gradient = torch.tensor([9.0, 0.5, 9.0, 0.1, 0.9, 0.3])
    assert exchange(alive, strength, gradient, 1).tolist() == [True, False, True, False, True, False]
    assert exchange(alive, strength, gradient, 2).tolist() == [True, False, True, False, True, False]  # number 2 returns
    assert exchange(alive, strength, gradient, 0).tolist() == alive.tolist()
    dead = torch.tensor([True, False, False, False, True, False])
    assert exchange(alive, strength, gradient, 0, dead).tolist() == [False, True, True, False, True, False]


@pytest.mark.parametrize("seed", range(10))
def test_exchange_keeps_the_count(seed):
    g = torch.Generator().manual_seed(seed)
    n = int(torch.randint(1, 60, (), generator=g))
    alive, dead = (torch.rand(n, generator=g) < share for share in (0.4, 0.2))
    strength, gradient = torch.rand(2, n, generator=g).round(decimals=1)  # with ties
    for number in {0, int(alive.sum()) // 2, int(alive.sum())}:
        after = exchange(alive, strength, gradient, number)
        assert after.sum() == alive.sum()
        purged = exchange(alive, strength, gradient, number, dead)
        assert not (purged & alive & dead).any()
        assert purged.sum() == min(int(alive.sum()), n - int((alive & dead).sum()))


def test_fading():
    assert fading(0, 10) == 1 and fading(5, 10) == pytest.approx(0.5) and fading(10, 10) == fading(99, 10) == 0


@pytest.mark.parametrize("structure", ["unstructured", "kernel"])
def test_rigl_keeps_each_layers_number_and_grows_by_the_gradient(structure, images):
    seen = []
    plan = replace(PLAN, structure=structure, density=0.3, every=3)
    model, trainer, _ = trained(
        "rigl",
        images,
        plan,
        after=lambda model, step: seen.append((masks_of(model), {name: w.detach().clone() for name, w in latent(model).items()})),
    )
    counts = [[int(mask.count_nonzero()) for mask in masks.values()] for masks, _ in seen]
    assert all(one == counts[0] for one in counts)
    changed = [
        step + 1
        for step in range(1, len(seen))
        if any(not torch.equal(seen[step][0][name], seen[step - 1][0][name]) for name in seen[0][0])
    ]
    assert changed and set(changed) <= {3, 6, 9}  # settled at 12
    step = changed[0] - 1
    for name, mask in seen[step][0].items():
        new = mask & ~seen[step - 1][0][name]
        assert not seen[step][1][name][new].any()  # regrown weights begin at zero


def test_what_is_regrown_has_no_momentum(images):
    model = build(NETWORK, 0)
    batches = ImageBatches(images.train, images, 64)
    trainer = TRAINERS["rigl"](model, PLAN, SGD, batches, classification_loss(), 0)
    fit(model, batches, trainer.loss, replace(SGD, epochs=1), seed=0, optimizers=trainer.optimizers)
    where = {name: ~mask for name, mask in masks_of(model).items()}
    with torch.no_grad():
        for parameter in latent(model).values():
            trainer.optimizers[0].state[parameter]["momentum_buffer"].fill_(1.0)
    trainer.start_at_zero(model, where)
    for name, parameter in latent(model).items():
        momentum = trainer.optimizers[0].state[parameter]["momentum_buffer"]
        assert not parameter[where[name]].any() and not momentum[where[name]].any() and momentum[~where[name]].eq(1).all()
    trainer.forget_momentum()
    assert not any(state["momentum_buffer"].any() for state in trainer.optimizers[0].state.values())


def test_dense_gradients_reach_pruned_weights(images):
    model = build(NETWORK, 0)
    batches = ImageBatches(images.train, images, 64)
    trainer = TRAINERS["rigl"](model, PLAN, SGD, batches, classification_loss(), 0)
    model.train()
    found = trainer.dense_gradients(model, step=7)
    plain = copy.deepcopy(model)
    set_masks(plain, masks_of(model))
    inputs, targets = batches.batch(1, 1)  # five steps an epoch: step 7 is the second of the second
    name, module = "features.4", plain.features[4]
    weight = module.weight.detach().clone().requires_grad_()
    with torch.no_grad():
        before = plain.features[:4](inputs)
    logits = plain.head(plain.features[5:](F.conv2d(before, weight, module.bias, padding=1)).mean((2, 3)))
    F.cross_entropy(logits, targets).backward()
    torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-6)
    assert found[name][~masks_of(model)[name]].any()


def test_granet_purges_what_is_on_no_path(images):
    plan = replace(PLAN, density=0.03, purge=True, allocation="lamp", floor=2, settle=1.0, end=0.6)
    alive = {}
    for purge in (False, True):
        model, trainer, _ = trained("granet", images, replace(plan, purge=purge))
        alive[purge] = count(purged(model, masks_of(model), images.shape))
    assert alive[True] > alive[False]


# AC/DC


def test_phases():
    phases = [phase_of(step, 10, 90) for step in range(0, 121)]
    assert set(phases[:11]) == {"dense"} and set(phases[91:]) == {"sparse"}
    turns = [phase for previous, phase in zip(phases, phases[1:]) if phase != previous]
    assert turns == ["sparse", "dense"] * (PHASES // 2) + ["sparse"]


def test_acdc_lets_weights_return(images):
    seen = []
    trained(
        "acdc", images, replace(PLAN, settle=1.0), replace(SGD, epochs=10, lr=0.3), after=lambda model, step: seen.append(masks_of(model))
    )
    sparse = [masks for masks in seen if density(masks) < 1]
    assert {round(density(masks), 2) for masks in seen} == {1.0, 0.1}
    assert any((later[name] & ~earlier[name]).any() for earlier, later in zip(sparse, sparse[1:]) for name in later)


# STR


def test_soft_threshold_by_hand():
    weight = torch.tensor([-2.0, -0.5, 0.0, 0.4, 3.0], requires_grad=True)
    threshold = torch.tensor(0.5, requires_grad=True)
    out = soft_threshold(weight, threshold)
    assert out.tolist() == [-1.5, 0.0, 0.0, 0.0, 2.5]
    out.backward(torch.arange(1.0, 6.0))
    assert weight.grad.tolist() == [1.0, 0.0, 0.0, 0.0, 5.0]
    assert threshold.grad.item() == 1.0 - 5.0  # Σ -sign(w) over what is above it


def test_thresholds_of_layers_learn_to_differ(images):
    model, trainer, _ = trained("str", images)
    thresholds = [module.parametrizations.weight[0].threshold.item() for module in (model.features[0], model.features[4], model.head)]
    assert len(set(thresholds)) == 3 and all(0 < t < 1 for t in thresholds)
    live = {name: weight.detach().clone() for name, weight in prunable(model).items()}
    trainer.finish(model)
    for name, weight in prunable(model).items():  # what stays acts as it did, but for the last shift
        both = (weight != 0) & (live[name] != 0)
        assert both.any() and (weight[both].sign() == live[name][both].sign()).all()


# ProbMask


@pytest.mark.parametrize("seed", range(5))
def test_projection_is_the_nearest_point(seed):
    g = torch.Generator().manual_seed(seed)
    p = [torch.rand(7, generator=g) * 1.6 - 0.2, torch.rand(3, 4, generator=g)]
    for total in (0.5, 3.0, 8.0, 100.0):
        found = project(p, total)
        flat, origin = torch.cat([f.flatten() for f in found]), torch.cat([x.flatten() for x in p])
        assert (0 <= flat).all() and (flat <= 1).all() and flat.sum() <= total + 1e-4
        if flat.sum() < total - 1e-3:
            assert torch.equal(flat, origin.clamp(0, 1))
        # No feasible point is nearer: tried by moving towards random feasible ones (the set is convex).
        for _ in range(50):
            other = torch.rand(len(flat), generator=g)
            other = other * min(1.0, total / float(other.sum()))
            near = flat + 0.01 * (other - flat)
            assert (near - origin).square().sum() >= (flat - origin).square().sum() - 1e-5


def test_relaxed_masks_have_the_right_mean_and_harden():
    torch.manual_seed(0)
    p = torch.tensor([0.05, 0.5, 0.9]).repeat(20000, 1)
    cold = relaxed(p, torch.tensor(0.01))
    torch.testing.assert_close(cold.mean(0), p[0], atol=0.01, rtol=0)
    assert ((cold < 0.01) | (cold > 0.99)).float().mean() > 0.9
    extreme = torch.tensor([0.0, 1.0], requires_grad=True)
    relaxed(extreme, torch.tensor(1.0)).sum().backward()
    assert extreme.grad.isfinite().all()


# SAFE


def test_the_sharpness_aware_gradient_is_that_at_the_worst_point_near():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y, loss = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2]), classification_loss()
    value, _ = sharpness_aware(loss, 0.3)(model, x, y)
    value.backward()
    moved = copy.deepcopy(model)
    gradients = torch.autograd.grad(loss(moved, x, y)[0], list(moved.parameters()))
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    with torch.no_grad():
        for p, g in zip(moved.parameters(), gradients):
            p.add_(0.3 * g / norm)
    there = loss(moved, x, y)[0]
    there.backward()
    assert value.item() == pytest.approx(there.item()) and value > loss(model, x, y)[0]
    for p, q in zip(model.parameters(), moved.parameters()):
        torch.testing.assert_close(p.grad, q.grad)


def test_safe_steps_by_hand(images):
    model = build(NETWORK, 0)
    batches = ImageBatches(images.train, images, 64)
    trainer = TRAINERS["safe"](model, PLAN, replace(SGD, warmup=0.0), batches, classification_loss())
    weights = latent(model)
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    trainer.after_step(model, 1)  # z and u first, then the pull
    bar = torch.cat([w.abs().flatten() for w in start.values()]).sort(descending=True).values[trainer.budget - 1]
    pull = SGD.lr * PENALTY * 0.5 * (1 - math.cos(math.pi / trainer.steps))
    for (name, weight), dual in zip(weights.items(), model.duals):
        torch.testing.assert_close(dual.z, torch.where(start[name].abs() >= bar, start[name], 0.0))
        torch.testing.assert_close(dual.u, start[name] - dual.z)
        torch.testing.assert_close(weight.detach(), start[name] - pull * (start[name] - dual.z + dual.u))
    held = [dual.u.clone() for dual in model.duals]
    trainer.after_step(model, 2)  # every second step only
    assert all(torch.equal(dual.u, u) for dual, u in zip(model.duals, held))
    trainer.finish(model)
    assert not hasattr(model, "duals") and count(masks_of(model)) == trainer.budget


# Specs


def test_dense_runs_keep_snapshots_and_portions_keep_the_order(tmp_path):
    spec = DenseRun(
        model=MLPConfig(inputs=64, hidden=(20,)), recipe=replace(SGD, epochs=4), train_examples=320, snapshots=(0, 3, 6), portion=3
    )
    result = obtain([spec], store=Store(tmp_path / "none", tmp_path))[0]
    session = Session(torch.device("cpu"), Store(tmp_path / "none", tmp_path), spec, lambda part, text: None)
    assert result.metrics["steps"] == 12 and len(result.curves["val_accuracy"]) == 4
    first, third, last = spec.load(session, 0), spec.load(session, 3), spec.load(session)
    fresh = build(spec.model, spec.seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), fresh.parameters()))
    assert not torch.equal(first.head.weight, third.head.weight) and not torch.equal(third.head.weight, last.head.weight)
    with pytest.raises(ValueError, match="snapshots"):
        spec.load(session, 5)
    images = spec.images(session)
    plain = ImageBatches(images.train, images, 64, seed=0)
    cut = Portions(plain, 3, first=4)
    assert all(
        torch.equal(cut.batch(epoch, step)[1], plain.batch(*divmod(4 + 3 * epoch + step, 5))[1]) for epoch in range(3) for step in range(3)
    )


def test_sparse_runs_from_beginning_to_end(tmp_path):
    store = Store(tmp_path / "none", tmp_path)
    parent = DenseRun(model=NETWORK, recipe=SGD, train_examples=320)
    ours = own(parent, 0.05, SGD, replace(SGD, epochs=2, ema=0.9), every=2, floor=2)
    plain = SparseRun(parent=parent, plan=replace(PLAN, density=0.05), recipe=SGD)
    first, second = obtain([ours, plain], store=store)
    for spec, result in ((ours, first), (plain, second)):
        json.dumps(result.content())
        weights = sum(result.arrays["weights_by_layer"])
        assert weights == result.metrics["weights"] <= round(0.05 * result.metrics["all_weights"])
        session = Session(torch.device("cpu"), store, spec, lambda part, text: None)
        assert count(masks_of(spec.load(session))) == result.metrics["weights"]
    assert first.metrics["on_paths"] == first.metrics["weights"] and min(first.arrays["weights_by_layer"]) >= 1
    assert len(first.curves["val_accuracy"]) == 5 and first.curves["seconds"] == sorted(first.curves["seconds"])
    assert first.curves["density"][-2:] == [first.metrics["density"]] * 2
    with pytest.raises(ValueError, match="granet"):
        SparseRun(parent=parent, method="gramet", plan=PLAN, recipe=SGD)


def test_the_teachers_gradient_and_the_labels_value():
    torch.manual_seed(0)
    teacher, student = nn.Linear(4, 3), nn.Linear(4, 3)
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    value, _ = taught(teacher, 0.7)(student, x, y)
    assert value.item() == pytest.approx(F.cross_entropy(student(x), y).item())
    ours = torch.autograd.grad(value, list(student.parameters()))
    theirs = torch.autograd.grad(hinton_loss(teacher, 4.0, 0.7)(student, x, y)[0], list(student.parameters()))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b)


def test_pruning_before_training(tmp_path):
    dense = DenseRun(model=NETWORK, recipe=replace(SGD, epochs=1), train_examples=320)
    runs = obtain(
        [InitialRun(dense=dense, score=score, density=0.02) for score in ("random", "synflow")]
        + [InitialRun(dense=replace(dense, model=replace(NETWORK, widths=(2, 40, 2))), score="magnitude", density=0.003)],
        store=Store(tmp_path / "none", tmp_path),
    )
    for run, share in zip(runs, (0.02, 0.02, 0.003)):
        assert run.metrics["weights"] == round(share * run.metrics["all_weights"])
    assert runs[1].metrics["on_paths"] == runs[1].metrics["weights"] > runs[0].metrics["on_paths"]
    assert not runs[1].metrics["collapsed"]
    assert runs[2].metrics["collapsed"] and not runs[2].curves and runs[2].metrics["test_accuracy"] < 0.2
