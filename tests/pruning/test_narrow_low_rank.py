"""Fewer channels of a network without branches, and convolutions in two factors."""

import pytest
import torch
from torch import nn

from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig
from lib.pruning.low_rank import factorised, factors, ranks_for
from lib.pruning.mask import attach
from lib.pruning.narrow import chain, narrowed, thinned


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = WhitenedCNN(WhitenedCNNConfig(widths=(6, 10), channels=1))
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight), nn.init.normal_(module.bias), module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    return model.eval()


IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_thinned_is_the_network_with_those_channels_at_zero(model):
    kept = {conv: torch.tensor([0, 2, 3] if conv.startswith("groups.0") else [1, 2, 5, 9]) for conv in chain(model)}
    smaller = thinned(model, kept)
    assert smaller.config.widths == (3, 4)
    with torch.no_grad():
        for conv, layers in chain(model).items():  # nobody reads the others
            gone = [place for place in range(model.get_submodule(conv).out_channels) if place not in kept[conv]]
            model.get_submodule(layers.reads).weight[:, gone] = 0
        torch.testing.assert_close(smaller(IMAGES), model(IMAGES))


def test_what_matters_least_goes_first(model):
    with torch.no_grad():
        model.groups[1].conv1.weight[:, [0, 4]] = 0  # nothing reads channels 0 and 4 of the first group
    batches = [(IMAGES, torch.tensor([0, 1, 2]))]
    smaller = narrowed(model, (4, 10), batches)
    torch.testing.assert_close(smaller.groups[0].conv2.weight.shape, torch.Size([4, 4, 3, 3]))
    torch.testing.assert_close(smaller.groups[0].norm2.weight, model.groups[0].norm2.weight[[1, 2, 3, 5]])


@pytest.mark.parametrize("widths", [(7, 10), (6,), (0, 10)])
def test_widths_that_are_no_smaller_network_are_refused(model, widths):
    with pytest.raises(ValueError, match="widths"):
        narrowed(model, widths, [(IMAGES, torch.tensor([0, 1, 2]))])


def test_masks_and_factors_are_in_the_way(model):
    kept = {conv: torch.arange(2) for conv in chain(model)}
    with pytest.raises(ValueError, match="masks"):
        thinned(attach(model), kept)


def test_factors_of_full_rank_are_the_convolution(model):
    same = factorised(
        model, tuple(min(3 * layer.in_channels, 3 * layer.out_channels) for layer in (model.get_submodule(conv) for conv in chain(model)))
    )
    with torch.no_grad():
        torch.testing.assert_close(same(IMAGES), model(IMAGES), atol=1e-4, rtol=1e-4)


def test_factors_are_the_nearest_of_their_rank():
    torch.manual_seed(0)
    weight = torch.randn(8, 5, 3, 3)
    column, row = factors(weight, 4)
    product = torch.einsum("rih,orw->oihw", column.squeeze(-1), row.squeeze(2))
    values = torch.linalg.svdvals(weight.permute(1, 2, 0, 3).reshape(15, 24))
    assert (weight - product).square().sum().item() == pytest.approx(values[4:].square().sum().item(), rel=1e-4)
    with pytest.raises(ValueError, match="rank is 16"):
        factors(weight, 16)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_ranks_leave_the_share_of_each_convolution(share):
    config = WhitenedCNNConfig(widths=(32, 64))
    whole, low = WhitenedCNN(config), WhitenedCNN(WhitenedCNNConfig(widths=(32, 64), ranks=ranks_for(config, share)))
    for conv in chain(whole):
        left = sum(p.numel() for p in low.get_submodule(conv).parameters())
        assert 0.9 * share < left / whole.get_submodule(conv).weight.numel() <= share
    with pytest.raises(ValueError, match="share"):
        ranks_for(config, 0.0)
