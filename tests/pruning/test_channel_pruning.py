"""Structured pruning: what goes, that it is really gone, and that the rest computes what it did."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torch_pruning
from safetensors.torch import load_model, save_model
from torch import nn

from lib.measure import cost as measure
from lib.models.cnn import BaselineCNN, CNNConfig, preset
from lib.pruning import channels
from lib.pruning.channels import convolutions, prune_channels, prune_to, pruned_config, size, weakest_channels

CONFIG = CNNConfig(stages=((10,), (12, 16), (20, 20)), channels=2, classes=5)


@pytest.fixture
def model():
    """A network as after training: no statistic, gain or shift at its first value."""
    torch.manual_seed(0)
    model = BaselineCNN(CONFIG)
    for norm in norms(model):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -0.5, 1)
    return model.eval()


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def zero_filters(model, ratio):
    """A copy whose weakest filters are zero and nothing else: pruning as it is often done."""
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for conv, weakest in zip(convolutions(zeroed), weakest_channels(model, ratio), strict=True):
            conv.weight[weakest] = 0
    return zeroed


def mask_channels(model, ratio):
    """A copy in which those channels are zero after their ReLU: filter, gain and shift are."""
    masked = zero_filters(model, ratio)
    with torch.no_grad():
        for norm, weakest in zip(norms(masked), weakest_channels(model, ratio), strict=True):
            norm.weight[weakest] = norm.bias[weakest] = 0
    return masked


def few_steps(model, steps=3):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(steps):
        loss = F.cross_entropy(model(torch.randn(16, CONFIG.channels, 8, 8)), torch.randint(CONFIG.classes, (16,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.5, 0.8, 0.99])
def test_outputs_are_those_of_the_masked_network(model, ratio):
    images = torch.randn(8, CONFIG.channels, 8, 8)
    smaller = prune_channels(model, ratio)
    with torch.no_grad():
        torch.testing.assert_close(smaller(images), mask_channels(model, ratio)(images), rtol=0, atol=1e-5)
        if 0.1 < ratio < 0.9:
            assert (smaller(images) - model(images)).abs().max() > 1e-2  # something was pruned


def test_the_filters_of_smallest_l1_norm_go(model):
    smaller = prune_channels(model, 0.3)
    for conv, left, weakest in zip(convolutions(model), convolutions(smaller), weakest_channels(model, 0.3), strict=True):
        strength = [sum(map(abs, weights)) for weights in conv.weight.flatten(1).tolist()]
        expected = sorted(range(conv.out_channels), key=strength.__getitem__)[: int(0.3 * conv.out_channels)]
        assert weakest.tolist() == expected and expected
        assert left.out_channels == conv.out_channels - len(expected)


def test_it_agrees_with_the_librarys_own_magnitude_pruner(model):
    """With half of each layer; elsewhere they differ in rounding: the library rounds what it keeps down."""
    theirs = copy.deepcopy(model)
    importance = torch_pruning.importance.MagnitudeImportance(p=1, group_reduction="first", normalizer=None)
    torch_pruning.pruner.BasePruner(
        theirs, torch.zeros(1, CONFIG.channels, 8, 8), importance, pruning_ratio=0.5, ignored_layers=[theirs.head]
    ).step()
    for name, tensor in prune_channels(model, 0.5).state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.9])
def test_what_is_left_has_the_size_of_its_own_config(model, ratio):
    smaller = prune_channels(model, ratio)
    config = CONFIG.with_widths(tuple(width - int(ratio * width) for width in CONFIG.widths))
    assert smaller.config == config == pruned_config(CONFIG, ratio)
    ins = (config.channels, *config.widths[:-1])
    layers = sum(9 * i * o + 2 * o for i, o in zip(ins, config.widths, strict=True))
    assert measure.parameters(smaller) == size(config) == layers + (config.widths[-1] + 1) * config.classes
    assert type(smaller) is BaselineCNN and not smaller.training


def test_the_original_is_left_as_it_is(model):
    before = copy.deepcopy(model.state_dict())
    prune_channels(model, 0.5)
    assert model.config == CONFIG
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert prune_channels(model.train(), 0.5).training and model.training


def test_frozen_networks_are_pruned_too(model):
    """A teacher without gradients, or a caller that has switched them off; what comes back can be trained."""
    expected = prune_channels(model, 0.5).state_dict()
    with torch.no_grad():
        smaller = prune_channels(model.requires_grad_(False), 0.5)
    assert all(torch.equal(value, expected[name]) for name, value in smaller.state_dict().items())
    assert all(parameter.requires_grad for parameter in smaller.parameters())


def test_file_and_work_shrink_with_the_parameters():
    torch.manual_seed(0)
    model = BaselineCNN(preset("large"))
    smaller, images = prune_channels(model, 0.5), torch.randn(1, 3, 32, 32)
    left = measure.parameters(smaller) / measure.parameters(model)
    assert 0.24 < left < 0.27
    assert measure.file_bytes(smaller) / measure.file_bytes(model) == pytest.approx(left, abs=0.02)
    assert measure.flops(smaller, images) < 0.3 * measure.flops(model, images)
    zeroed = zero_filters(model, 0.5)
    assert measure.parameters(zeroed) == measure.parameters(model)
    assert measure.file_bytes(zeroed) == measure.file_bytes(model)


def test_a_pruned_network_is_loaded_without_the_library(model, tmp_path):
    smaller, path = prune_channels(model, 0.5), tmp_path / "weights.safetensors"
    save_model(smaller, str(path))
    again = BaselineCNN(smaller.config).eval()
    load_model(again, str(path))
    images = torch.randn(2, CONFIG.channels, 8, 8)
    assert torch.equal(again(images), smaller(images))
    assert "torch_pruning" not in vars(channels)  # imported where something is pruned, not with the module


def test_removed_channels_cannot_grow_again_but_zeroed_filters_do(model):
    smaller, zeroed = prune_channels(model, 0.5), zero_filters(model, 0.5)
    shapes, weakest = {n: p.shape for n, p in smaller.named_parameters()}, weakest_channels(model, 0.5)
    few_steps(smaller)
    few_steps(zeroed)
    assert {n: p.shape for n, p in smaller.named_parameters()} == shapes
    regrown = [conv.weight[gone].abs().sum().item() for conv, gone in zip(convolutions(zeroed), weakest, strict=True)]
    assert max(regrown) > 1e-3


@pytest.mark.parametrize("keep", [1.0, 0.5, 0.25, 1 / 8, 0.03])
def test_prune_to_keeps_at_most_the_fraction_and_nearly_all_of_it(keep):
    torch.manual_seed(0)
    model = BaselineCNN(preset("large"))
    fraction = measure.parameters(prune_to(model, keep)) / measure.parameters(model)
    assert 0.93 * keep < fraction <= keep


def test_impossible_sizes_are_refused(model):
    with pytest.raises(ValueError, match="one channel per layer has 0.0"):
        prune_to(model, 1e-4)
    for keep in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            prune_to(model, keep)
    for ratio in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"\[0, 1\)"):
            prune_channels(model, ratio)
