"""Sparse Cocktail: masks made from one another, turns, the loss, merging."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lib.data.images import ImageBatches, load_images
from lib.models.vgg import VGG, VGGConfig
from lib.pruning.cocktail import COEFFICIENTS, LEVELS, PATTERNS, Turns, cocktail_loss, merged, mixed, unified, wearing
from lib.pruning.mask import attach, bake, density, masks_of, ones, prunable, set_masks
from lib.training.loop import Recipe, fit

CONFIG = VGGConfig(widths=(8, 12, 16), stages=(1, 2), channels=1, side=8)
DIGITS = load_images("digits", train_examples=256)


def network(seed=0):
    torch.manual_seed(seed)
    return VGG(CONFIG)


def staged(model, stages):
    weights, found = prunable(model), []
    before = {pattern: ones(weights) for pattern in PATTERNS}
    for stage in range(1, stages + 1):
        before = unified(weights, before, stage, stages)
        found.append(before)
    return found


def batches():
    return ImageBatches(DIGITS.train, DIGITS, 64, seed=0)


def test_masks_become_sparser_together():
    model, stages = network(), 6
    found, weights = staged(model, stages), prunable(model)
    middle = list(weights)[1:-1]
    for stage, masks in enumerate(found, 1):
        for pattern in PATTERNS:
            assert all(masks[pattern][name].all() for name in weights if name not in middle)
        inner = {pattern: {name: masks[pattern][name] for name in middle} for pattern in PATTERNS}
        assert density(inner["unstructured"]) == pytest.approx(0.8**stage, abs=2e-3)
        level = LEVELS[(stage - 1) * 3 // stages]
        for name in middle:
            assert torch.equal(inner["n:m"][name], level.mask(weights[name].abs()))
            alive = inner["channel"][name].flatten(1).any(1)
            assert torch.equal(alive, inner["channel"][name].flatten(1).all(1)) and int(alive.sum()) == int(len(alive) * 0.9**stage)
            merit = ((0.8 * inner["unstructured"][name] + 0.2 * inner["n:m"][name]) * weights[name].abs()).flatten(1).sum(1)
            assert merit[alive].min() >= merit[~alive].max()
    for before, after in zip(found, found[1:]):
        assert all((after["unstructured"][name] <= before["unstructured"][name]).all() for name in middle)
    assert [level.n for level in LEVELS] == [3, 2, 1]  # unlike 1:2, 2:4 and 4:8, which all keep a half
    with pytest.raises(ValueError, match="stage is 4: it must be from 1 to 3"):
        unified(weights, found[0], 4, 3)


def test_turns_put_their_masks_on_and_do_not_depend_on_the_past():
    model = attach(network())
    masks = staged(network(), 3)[-1]
    turns, plain = Turns(batches(), model, masks, pivot=True), batches()
    seen = []
    for epoch in range(2):
        for step in range(turns.steps):
            inputs, _ = turns.batch(epoch, step)
            assert torch.equal(inputs, plain.batch(epoch, step)[0])
            seen.append(turns.turn)
            assert all(torch.equal(mask, turns.masks[turns.turn][name]) for name, mask in masks_of(model).items())
    assert seen == ["dense", "unstructured", "dense", "channel", "dense", "n:m", "dense", "unstructured"]
    again = Turns(batches(), model, masks, pivot=True)
    again.batch(1, 1)  # as after an interruption
    assert again.turn == "n:m"
    sparse = Turns(batches(), model, masks, pivot=False)
    assert sparse.steps == turns.steps // 2
    sparse.batch(0, 1)
    assert sparse.turn == "channel" and torch.equal(sparse.batch(0, 0)[0], plain.batch(0, 1)[0])


def test_the_loss_is_its_definition():
    model = attach(network())
    turns = Turns(batches(), model, staged(network(), 3)[-1], pivot=True)
    inputs, targets = turns.batch(0, 1)
    model.eval()
    value, _ = cocktail_loss(turns, 0.25)(model, inputs, targets)
    assert turns.turn == "unstructured" and all(
        torch.equal(mask, turns.masks["unstructured"][name]) for name, mask in masks_of(model).items()
    )
    dense = copy.deepcopy(model)
    set_masks(dense, turns.masks["dense"])
    taught = dense(inputs).softmax(1).detach()
    expected = 0.75 * F.cross_entropy(model(inputs), targets) + 0.25 * F.cross_entropy(model(inputs), taught)
    torch.testing.assert_close(value, expected)
    found = torch.autograd.grad(value, [p for p in model.parameters()])
    torch.testing.assert_close(found, torch.autograd.grad(expected, [p for p in model.parameters()]))
    inputs, targets = turns.batch(0, 1)
    torch.testing.assert_close(cocktail_loss(turns, 0.0)(model, inputs, targets)[0], F.cross_entropy(model(inputs), targets))
    control = Turns(batches(), model, turns.masks, pivot=False)  # imitates its dense output just as much
    inputs, targets = control.batch(0, 0)
    taught = dense(inputs).softmax(1).detach()
    expected = 0.75 * F.cross_entropy(model(inputs), targets) + 0.25 * F.cross_entropy(model(inputs), taught)
    torch.testing.assert_close(cocktail_loss(control, 0.25)(model, inputs, targets)[0], expected)
    with pytest.raises(ValueError, match="distil is 2"):
        cocktail_loss(turns, 2)


def test_lent_masks_are_given_back_even_after_an_error():
    model = attach(network())
    own = masks_of(model)
    other = {name: ~mask for name, mask in own.items()}
    with pytest.raises(RuntimeError), wearing(model, other):
        assert not any(mask.any() for mask in masks_of(model).values())
        raise RuntimeError
    assert all(torch.equal(mask, own[name]) for name, mask in masks_of(model).items())


def test_all_patterns_are_trained_and_dense_steps_train_the_rest():
    """What no sparse network has is moved by the dense turns alone."""
    masks = {
        pattern: {name: torch.zeros_like(mask) if "features" in name else mask for name, mask in kept.items()}
        for pattern, kept in staged(network(), 3)[-1].items()
    }
    for pivot in (True, False):
        model = attach(network())
        before = prunable(network())
        turns = Turns(batches(), model, masks, pivot)
        fit(model, turns, cocktail_loss(turns), Recipe(epochs=2, batch_size=64, optimizer="sgd", lr=0.1, weight_decay=0.0), seed=0)
        set_masks(model, turns.masks["dense"])
        assert torch.equal(prunable(bake(model))["features.4"], before["features.4"]) == (not pivot)


def test_merging_is_greedy_over_the_coefficients():
    """Against a score whose best mixtures are known."""
    states = [{"w": torch.tensor([float(value)]), "n": torch.tensor(number)} for number, value in enumerate((0, 10, 4))]
    wanted = {2: 7.1, 3: 6.0}
    asked = []

    def score(state, stages):
        asked.append(stages)
        return -abs(float(state["w"]) - wanted[stages])

    state, chosen = merged(states, score)
    assert chosen == [0.3, 0.7] and asked == [2] * 11 + [3] * 11 and len(COEFFICIENTS) == 11
    assert float(state["w"]) == pytest.approx(0.7 * 7 + 0.3 * 4) and int(state["n"]) == 2
    assert merged(states[:1], score) == (states[0], [])
    assert float(mixed(states[0], states[1], 0.25)["w"]) == 7.5
    with pytest.raises(ValueError, match="nothing to merge"):
        merged([], score)
