"""Masks hold, whatever happens to the network: training, averaging, resuming, saving, copying; budgets, collapse and purging."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import nn

from lib.data.images import ImageBatches, load_images
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vgg import VGG, VGGConfig
from lib.pruning.allocate import ALLOCATIONS, budgets, masks
from lib.pruning.collapse import Collapse, check, collapsed, effective, purge
from lib.pruning.mask import attach, bake, count, density, gradients, latent, layers, masks_of, ones, prunable, set_masks, sparsity, total
from lib.pruning.schedule import density_at, levels, prune_in_rounds, rounds
from lib.pruning.score import magnitude, random
from lib.training import loop as train
from lib.training.batch_norm import reestimate
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss

CONFIG = VGGConfig(widths=(6, 8, 8), stages=(1, 2), channels=1, classes=10, side=8)
DIGITS = load_images("digits", train_examples=192)


def network(seed=0, kept=0.2, config=CONFIG):
    """A masked network and its masks, the weights behind them not zero."""
    torch.manual_seed(seed)
    model = VGG(config)
    chosen = masks(random(prunable(model), seed), kept)
    return attach(model, chosen), chosen


def batches():
    return ImageBatches(DIGITS.train, DIGITS, 64, seed=0)


def holds(model, chosen):
    """Masked weights are +0.0 to the bit, the masks are those, and the others have moved away from zero."""
    for name, weight in prunable(model).items():
        assert torch.equal(masks_of(model)[name], chosen[name])
        assert weight[~chosen[name]].view(torch.int32).count_nonzero() == 0
        assert weight[chosen[name]].count_nonzero() == chosen[name].sum()
    return True


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-2},
        {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.5},
        {"optimizer": "muon", "lr": 1e-2},
        {"optimizer": "sgd", "lr": 0.1, "ema": 0.9, "channels_last": True},
        {"optimizer": "sgd", "lr": 0.05, "precision": "bf16"},
    ],
    ids=str,
)
def test_masked_weights_stay_zero_through_training(changes):
    model, chosen = network()
    before = {name: weight.detach().clone() for name, weight in prunable(model).items()}
    history = fit(
        model,
        batches(),
        classification_loss(),
        Recipe(epochs=2, batch_size=64, **changes),
        seed=0,
        after_step=lambda model, step: holds(model, chosen),
    )
    assert history.epochs == 2 and holds(model, chosen)
    assert all((weight != before[name]).any() for name, weight in prunable(model).items())


def test_resumed_training_is_bit_exact_and_keeps_masks_that_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVE_EVERY_SECONDS", 0.0)

    def trained(stop=None, folder=None):
        model, _ = network()

        def thin(model, step):
            if step == 4:  # so the masks that a checkpoint has to bring back are not those at the start
                set_masks(model, masks(magnitude(prunable(model)), 0.1))
            if step == stop:
                raise InterruptedError

        fit(
            model,
            batches(),
            classification_loss(),
            Recipe(epochs=4, batch_size=64, optimizer="sgd", lr=0.1, ema=0.9),
            seed=0,
            after_step=thin,
            checkpoint=folder,
        )
        return model

    whole = trained()
    with pytest.raises(InterruptedError):
        trained(stop=8, folder=tmp_path)  # in the third epoch of three steps each
    resumed = trained(folder=tmp_path)
    assert holds(resumed, masks_of(whole)) and density(masks_of(resumed)) == pytest.approx(0.1, abs=1e-3)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_saving_copying_and_moving_keep_the_masks(tmp_path):
    model, chosen = network()
    save_model(model, str(tmp_path / "weights.safetensors"))
    loaded = attach(VGG(CONFIG))
    load_model(loaded, str(tmp_path / "weights.safetensors"))
    moved = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for other in (loaded, copy.deepcopy(model), moved):
        assert holds(other, chosen)
        images = torch.randn(4, 1, 8, 8)
        torch.testing.assert_close(other.eval()(images), model.eval()(images))


def test_a_copy_can_be_baked_without_breaking_the_original():
    model, chosen = network()
    images = torch.randn(4, 1, 8, 8)
    expected = model.eval()(images)
    plain = bake(copy.deepcopy(model))
    assert torch.equal(plain(images), expected) and torch.equal(model(images), expected)
    assert {type(layer) for layer in layers(plain).values()} == {nn.Conv2d, nn.Linear} and not masks_of(plain)
    assert set(plain.state_dict()) == set(VGG(CONFIG).state_dict())
    assert sparsity(plain) == sparsity(model) == pytest.approx(0.8, abs=1e-3)
    assert holds(model, chosen)


def test_infinite_latent_weights_do_not_leak():
    model, chosen = network()
    with torch.no_grad():
        for name, weight in latent(model).items():
            weight[~chosen[name]] = torch.tensor([torch.inf, torch.nan, -1.0])[torch.arange(int((~chosen[name]).sum())) % 3]
    assert holds(model, chosen)
    model.eval()(torch.randn(2, 1, 8, 8)).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in latent(model).values())


def test_gradients_reach_pruned_weights_too():
    """As a dense network with the same zeros has them; the latent weights' own gradients are zero there."""
    model, chosen = network()
    images, labels = torch.randn(16, 1, 8, 8), torch.randint(10, (16,))
    plain = bake(copy.deepcopy(model))
    F.cross_entropy(plain(images), labels).backward()
    found = gradients(model, lambda: F.cross_entropy(model(images), labels))
    assert all(weight.grad is None for weight in latent(model).values())
    F.cross_entropy(model(images), labels).backward()
    for name, layer in layers(plain).items():
        torch.testing.assert_close(found[name], layer.weight.grad)
        own = latent(model)[name].grad
        torch.testing.assert_close(own, found[name] * chosen[name])
        assert found[name][~chosen[name]].count_nonzero() > 0


def test_wrong_masks_are_refused_by_name():
    model = VGG(CONFIG)
    with pytest.raises(ValueError, match="no masks: attach"):
        set_masks(model, {})
    with pytest.raises(ValueError, match="'heads'.*Did you mean 'head'"):
        attach(model, {"heads": torch.ones(10, 8)})
    with pytest.raises(ValueError, match=r"'head' has the shape \(8, 10\)"):
        attach(model, {"head": torch.ones(8, 10)})
    attach(model, ignored=("head",))
    assert "head" not in masks_of(model) and len(masks_of(model)) == 3
    with pytest.raises(ValueError, match="no mask for 'features.0'"):
        set_masks(model, {name: mask for name, mask in masks_of(model).items() if name != "features.0"})
    with pytest.raises(ValueError, match="have masks already"):
        attach(model, {"features.0": masks_of(model)["features.0"]})
    with pytest.raises(ValueError, match="cannot be ignored"):
        prunable(model, ignored=("nothing",))


def test_a_second_attach_replaces_the_masks():
    model, chosen = network()
    attach(model)
    assert density(masks_of(model)) == 1 and sparsity(model) == 0
    attach(model, chosen)
    assert holds(model, chosen) and count(chosen) == round(0.2 * total(chosen))


SHAPES = {"first": (7, 3, 3, 3), "middle": (16, 7, 3, 3), "wide": (40, 16, 1, 1), "tiny": (1, 2), "head": (10, 40)}


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("kept", [1.0, 0.5, 0.1, 0.01, 0.001, 0.0])
def test_budgets_sum_to_the_total_exactly(allocation, kept):
    g = torch.Generator().manual_seed(1)
    scores = {name: torch.rand(shape, generator=g) for name, shape in SHAPES.items()}
    everything = total(scores)
    found = masks(scores, kept, allocation=allocation)
    assert count(found) == round(kept * everything)
    tied = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    assert count(masks(tied, kept, allocation=allocation)) == round(kept * everything)
    assert count(masks(scores, 17, allocation=allocation)) == 17
    if kept > 0.01:
        floors = budgets(scores, kept, allocation=allocation, floor=2)
        assert sum(floors.values()) == round(kept * everything) and min(floors.values()) >= 2


def test_allocations_are_what_they_say():
    g = torch.Generator().manual_seed(2)
    scores = {name: torch.rand(shape, generator=g) * scale for (name, shape), scale in zip(SHAPES.items(), (1, 2, 3, 4, 5))}
    found = budgets(scores, 0.3, allocation="uniform")
    assert all(abs(found[name] - 0.3 * score.numel()) <= 1 for name, score in scores.items())
    chosen = masks(scores, 0.3)
    assert min(scores[n][m].min() for n, m in chosen.items() if m.any()) >= max(
        scores[n][~m].max() for n, m in chosen.items() if not m.all()
    )
    erk = budgets(scores, 0.3, allocation="erk")
    free = [name for name, score in scores.items() if erk[name] < score.numel()]
    factors = [erk[name] / sum(SHAPES[name]) for name in free]
    assert len(free) >= 2 and max(factors) / min(factors) < 1.05
    assert any(erk[name] == score.numel() for name, score in scores.items())  # saturated
    assert min(budgets(scores, len(scores), allocation="lamp").values()) == 1  # each layer's best has the score 1


def test_impossible_budgets_are_refused():
    scores = {"a": torch.rand(4, 4), "b": torch.rand(4, 4)}
    for bad in (1.5, -0.1, 33, -1):
        with pytest.raises(ValueError, match="density"):
            masks(scores, bad)
    with pytest.raises(ValueError, match="a floor of 5 weights a layer needs 10"):
        masks(scores, 9, floor=5)
    with pytest.raises(ValueError, match="allocation is 'best'"):
        masks(scores, 0.5, allocation="best")
    with pytest.raises(ValueError, match="'b' is NaN"):
        masks(scores | {"b": torch.full((4, 4), torch.nan)}, 0.5)


def test_schedules():
    assert [density_at("cubic", step, 10, 20, 0.1) for step in (0, 10, 20, 30)] == [1, 1, pytest.approx(0.1), pytest.approx(0.1)]
    assert density_at("cubic", 15, 10, 20, 0.1) == pytest.approx(0.1 + 0.9 / 8)
    assert rounds("exponential", 4, 0.01) == pytest.approx([0.01**0.25, 0.1, 0.01**0.75, 0.01])
    assert rounds("one_shot", 2, 0.5) == [0.5, 0.5] and density_at("one_shot", 0, 0, 2, 0.5) == 1
    assert levels(3) == pytest.approx([0.8, 0.64, 0.512])
    for call in (
        lambda: density_at("cubic", 1, 3, 3, 0.1),
        lambda: density_at("cubes", 1, 0, 3, 0.1),
        lambda: levels(3, 1.0),
        lambda: density_at("cubic", 1, 0, 3, 0.0),
    ):
        with pytest.raises(ValueError):
            call()


def test_pruning_in_rounds_never_brings_a_weight_back():
    torch.manual_seed(0)
    model, seen = VGG(CONFIG), []
    images = [(torch.randn(8, 1, 8, 8), torch.randint(10, (8,)))]
    for kept in ([0.5], [0.5, 0.2], [0.5, 0.2, 0.05]):
        torch.manual_seed(0)
        seen.append(prune_in_rounds(VGG(CONFIG), "grasp", kept, images))
        assert density(seen[-1]) == pytest.approx(kept[-1], abs=1e-3)
    assert all((seen[k + 1][name] <= seen[k][name]).all() for k in range(2) for name in seen[0])
    assert masks_of(attach(model)) and sparsity(model) == 0


def test_collapse_is_named():
    model = VGG(CONFIG)
    kept = ones(prunable(model))
    check(kept)
    kept["features.4"][:] = False
    assert collapsed(kept) == ["features.4"]
    with pytest.raises(Collapse, match="features.4") as caught:
        check(kept)
    assert caught.value.layers == ["features.4"]


def channel_paths(chosen):
    """Weights on a path through a chain of layers, by its channels: the definition, spelled out."""
    names = list(chosen)
    alive = torch.ones(chosen[names[0]].shape[1], dtype=torch.bool)
    into = []
    for name in names:
        into.append(alive)
        alive = (chosen[name].flatten(2).any(2) if chosen[name].ndim == 4 else chosen[name]).__and__(alive).any(1)
    out = torch.ones(chosen[names[-1]].shape[0], dtype=torch.bool)
    found = {}
    for name, before in zip(reversed(names), reversed(into)):
        mask = chosen[name]
        keep = mask & before.view(1, -1, *[1] * (mask.ndim - 2)) & out.view(-1, *[1] * (mask.ndim - 1))
        found[name] = keep
        out = keep.transpose(0, 1).flatten(1).any(1)
    return found


@pytest.mark.parametrize("case", range(6))
def test_purging_leaves_what_lies_on_a_path(case):
    """On images large enough that every cell of a kernel meets a pixel, paths of weights are paths of channels."""
    config = VGGConfig(widths=(6, 8, 8), stages=(1, 2), channels=2, classes=5, side=8)
    model, chosen = network(case, kept=(0.3, 0.1, 0.06, 0.04, 0.03, 0.02)[case], config=config)
    purged, expected = purge(model, chosen, (2, 8, 8)), channel_paths(chosen)
    assert all(torch.equal(purged[name], expected[name]) for name in chosen)
    again = purge(model, purged, (2, 8, 8))
    assert all(torch.equal(again[name], purged[name]) for name in chosen)
    if case in (1, 2):
        assert 0 < count(purged) < count(chosen)


def test_purging_changes_nothing_that_an_image_can_change():
    """Only constants may go: the difference between two images' outputs stays, without biases the output itself."""
    model, chosen = network(3, kept=0.1)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.bias)
    images = torch.randn(6, 1, 8, 8)
    before = model.eval()(images)
    purged = purge(model, chosen, (1, 8, 8))
    assert count(purged) < count(chosen)
    set_masks(model, purged)
    torch.testing.assert_close(model(images), before, rtol=0, atol=1e-6)


def test_cells_that_only_ever_meet_padding_are_dead():
    model = VGG(VGGConfig(widths=(4, 4), stages=(1, 1), channels=1, side=1))
    purged = purge(model, ones(prunable(model)), (1, 1, 1))
    assert (
        all(mask[..., 1, 1].all() and int(mask.sum()) == math.prod(mask.shape[:2]) for mask in (purged["features.0"], purged["features.3"]))
        and purged["head"].all()
    )


def test_shortcuts_count_as_paths_and_unknown_layers_are_refused():
    model = ResNet(ResNetConfig(widths=(4, 8), blocks=(1, 1), channels=1))
    kept = ones(prunable(model))
    kept["blocks.0.conv1"][:] = False  # its block still has the identity
    purged = purge(model, kept, (1, 8, 8))
    assert not purged["blocks.0.conv2"].any()
    assert all(torch.equal(purged[n], kept[n]) for n in kept if not n.startswith("blocks.0.conv"))
    with pytest.raises(ValueError, match="'1', a Tanh"):
        purge(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), {"0": torch.ones(3, 3, dtype=torch.bool)}, (3,))


def test_the_freed_budget_is_given_back():
    torch.manual_seed(0)
    model = VGG(CONFIG)
    scores = random(prunable(model), 0)
    plain, full = masks(scores, 0.05, allocation="lamp"), effective(model, scores, 0.05, (1, 8, 8), allocation="lamp")
    live, wanted = count(purge(model, plain, (1, 8, 8))), round(0.05 * total(scores))
    assert live < count(plain) == wanted
    assert live < count(full) <= wanted and wanted - count(full) <= 0.05 * wanted
    assert all(torch.equal(mask, full[name]) for name, mask in purge(model, full, (1, 8, 8)).items())


def test_statistics_are_taken_anew():
    model, chosen = network(kept=1.0)
    fit(model, batches(), classification_loss(), Recipe(epochs=8, batch_size=64, lr=1e-2), seed=0)
    good = evaluate_classifier(model, DIGITS.validation, DIGITS)["accuracy"]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    for norm in norms:
        norm.running_mean += 2
    assert evaluate_classifier(model, DIGITS.validation, DIGITS)["accuracy"] < good - 0.1
    reestimate(model, batches(), steps=3)
    assert evaluate_classifier(model, DIGITS.validation, DIGITS)["accuracy"] > good - 0.1
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters()) and not model.training
    assert all(norm.momentum == 0.1 for norm in norms) and holds(model, chosen)
    first = torch.cat([batches().batch(0, step)[0] for step in range(3)])
    torch.testing.assert_close(norms[0].running_mean, model.features[0](first).mean((0, 2, 3)).detach(), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="at least one batch"):
        reestimate(model, batches(), steps=0)
