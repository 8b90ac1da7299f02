"""Scores against their definitions, on networks small enough to take every derivative by hand or in float64."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.models.vgg import VGG, VGGConfig
from lib.pruning.allocate import masks
from lib.pruning.collapse import collapsed, purge
from lib.pruning.mask import attach, count, masks_of, prunable, set_masks
from lib.pruning.schedule import prune_in_rounds, rounds
from lib.pruning.score import BY_GRADIENT, SCORES, compute, grasp, lamp, magnitude, random, snip, synflow, taylor

CONFIG = VGGConfig(widths=(6, 8, 8), stages=(1, 2), channels=2, classes=5, side=8)


def some(count=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [(torch.randn(8, 2, 8, 8, generator=g), torch.randint(5, (8,), generator=g)) for _ in range(count)]


def network(seed=0):
    torch.manual_seed(seed)
    return VGG(CONFIG)


def small():
    """Smooth and without batch norm, in float64, so that derivatives by finite differences are good."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def data():
    g = torch.Generator().manual_seed(2)
    return [(torch.randn(6, 3, generator=g).double(), torch.randint(3, (6,), generator=g)) for _ in range(2)]


def gradient(model, inputs, targets, temperature=1.0):
    return torch.autograd.grad(F.cross_entropy(model(inputs) / temperature, targets), [model[0].weight, model[2].weight])


def test_magnitude_and_random():
    weights = prunable(network())
    assert all(torch.equal(score, weights[name].abs()) for name, score in magnitude(weights).items())
    first, again, other = random(weights, 3), random(weights, 3), random(weights, 4)
    assert all(torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name]) for name in weights)
    assert all(((score >= 0) & (score < 1)).all() for score in first.values())


def test_lamp_is_its_definition():
    weights = {"a": torch.randn(5, 7), "b": torch.randn(3, 2, 3, 3)}
    for name, score in lamp(weights).items():
        flat = weights[name].flatten().tolist()
        for weight, value in zip(flat, score.flatten().tolist()):
            assert value == pytest.approx(weight**2 / sum(v**2 for v in flat if abs(v) >= abs(weight)), rel=1e-5)
        assert score.max() == 1
    assert lamp({"zero": torch.zeros(3, 3)})["zero"].count_nonzero() == 0


def test_lamp_scores_keep_the_same_weights_as_lamp_allocation():
    weights = {name: weight.detach() for name, weight in prunable(network()).items()}
    for density in (0.5, 0.1, 0.02):
        one, other = masks(lamp(weights), density), masks(magnitude(weights), density, allocation="lamp")
        assert all(torch.equal(one[name], other[name]) for name in weights)


def test_snip_and_taylor_are_their_definitions():
    model = small()
    found = [gradient(model, *batch) for batch in data()]
    for layer, name in enumerate(("0", "2")):
        weight = model[2 * layer].weight.detach()
        torch.testing.assert_close(snip(model, data())[name], (weight * (found[0][layer] + found[1][layer])).abs())
        torch.testing.assert_close(taylor(model, data())[name], ((weight * found[0][layer]) ** 2 + (weight * found[1][layer]) ** 2) / 2)


def test_grasp_says_how_the_gradient_norm_changes():
    """-score is half the change of ‖g‖² per relative shrinking of the weight, by finite differences."""
    model, batch = small(), data()[0]
    temperature = 2.0
    scores = grasp(model, [batch], temperature=temperature)

    def norm():
        return sum(float(g.square().sum()) for g in gradient(model, *batch, temperature))

    for layer, name in ((model[0], "0"), (model[2], "2")):
        for place in range(layer.weight.numel()):
            weight, step = layer.weight.data.view(-1)[place].item(), 1e-5
            values = []
            for sign in (1, -1):
                layer.weight.data.view(-1)[place] = weight * (1 + sign * step)
                values.append(norm())
            layer.weight.data.view(-1)[place] = weight
            assert scores[name].view(-1)[place].item() == pytest.approx((values[0] - values[1]) / (4 * step), rel=1e-4, abs=1e-9)
    assert any(score.min() < 0 for score in scores.values())


def test_synflow_is_what_flows_through_a_weight():
    """R is linear in each weight, so w · ∂R/∂w is what R loses without it; and each layer's scores sum to R."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    scores = synflow(model, (3,))
    first, second = model[0].weight.detach().double().abs(), model[2].weight.detach().double().abs()
    flow = (second @ first).sum()
    torch.testing.assert_close(scores["0"], first * second.sum(0)[:, None])
    torch.testing.assert_close(scores["2"], second * first.sum(1))
    for score in scores.values():
        torch.testing.assert_close(score.sum(), flow)


def test_synflow_is_conserved_from_layer_to_layer_of_a_vgg():
    """Whatever its biases, gains and statistics are; the pooling passes on the largest."""
    model = network()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, -2, 2)
        nn.init.uniform_(norm.bias, -2, 2)
        nn.init.uniform_(norm.running_mean, -2, 2)
    sums = [score.sum().item() for score in synflow(model, (2, 8, 8)).values()]
    assert sums == pytest.approx([sums[0]] * len(sums), rel=1e-9) and sums[0] > 0


def test_synflow_survives_where_float32_does_not():
    deep = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(40)))
    for layer in deep:
        nn.init.constant_(layer.weight, 0.5)
    scores = synflow(deep, (64,))
    assert all(score.isfinite().all() for score in scores.values())
    assert math.log10(scores["0"].sum()) > 38.6  # float32 ends at 3.4e38
    with pytest.raises(ValueError, match="not finite"):
        synflow(nn.Sequential(*(copy.deepcopy(layer) for _ in range(10) for layer in deep)), (64,))


@pytest.mark.parametrize("kind", SCORES)
def test_scores_leave_the_model_alone(kind):
    model = network()
    before = copy.deepcopy(model.state_dict())
    scores = compute(kind, model, some(), ignored=("head",))
    weights = prunable(model, ("head",))
    assert {name: score.shape for name, score in scores.items()} == {name: weight.shape for name, weight in weights.items()}
    assert all(score.isfinite().all() and score.count_nonzero() for score in scores.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and model.training
    with torch.no_grad():
        again = compute(kind, model.eval().requires_grad_(False), some(), ignored=("head",))
    assert all(torch.equal(score, again[name]) for name, score in scores.items()) and not model.training


@pytest.mark.parametrize("kind", [kind for kind in SCORES if kind != "random"])
def test_pruned_weights_score_nothing(kind):
    model = attach(network(), masks(random(prunable(network()), 0), 0.5))
    scores = compute(kind, model, some())
    assert all(score[~masks_of(model)[name]].count_nonzero() == 0 for name, score in scores.items())
    assert all(score.count_nonzero() > 0 for score in scores.values())


def test_only_the_shape_of_the_data_matters_to_synflow():
    model = network()
    one, other = compute("synflow", model, some(1, seed=1)), compute("synflow", model, some(1, seed=2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ValueError, match="'synflow' needs batches"):
        compute("synflow", model)
    for kind in BY_GRADIENT:
        with pytest.raises(ValueError, match="needs batches"):
            compute(kind, model)
    with pytest.raises(ValueError, match="score is 'size'"):
        compute("size", model)


def test_iterated_synflow_keeps_a_path_where_magnitude_cuts_the_network():
    """The phenomenon of SynFlow's figure 1: many rounds of it reach a density at which magnitude has emptied layers."""
    config = VGGConfig(widths=(8,) * 6 + (64,) * 2, stages=(2, 2, 2, 2), channels=1, side=8)
    torch.manual_seed(0)
    model = VGG(config)
    batches = [(torch.randn(8, 1, 8, 8), torch.randint(10, (8,)))]
    by_magnitude = prune_in_rounds(copy.deepcopy(model), "magnitude", [0.002], batches)
    by_flow = prune_in_rounds(model, "synflow", rounds("exponential", 60, 0.002), batches)
    assert count(by_magnitude) == count(by_flow)
    assert collapsed(by_magnitude) and not collapsed(by_flow)
    assert count(purge(model, by_flow, (1, 8, 8))) > 0.9 * count(by_flow)
    set_masks(model, by_flow)
    assert compute("synflow", model, batches)["head"].count_nonzero() > 0
