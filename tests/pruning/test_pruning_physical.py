"""Removed channels and sparse forms: the function is the masked network's, and what is gone is gone."""

import copy

import pytest
import torch
from torch import nn

from lib.measure import cost as measure
from lib.models.cnn import BaselineCNN, CNNConfig
from lib.models.mlp import MLP, MLPConfig
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vgg import VGG, VGGConfig
from lib.pruning import physical
from lib.pruning.allocate import masks
from lib.pruning.mask import attach, layers, ones, prunable, set_masks, sparsity
from lib.pruning.physical import remove, silence
from lib.pruning.score import magnitude
from lib.pruning.sparse import SparseConv2d, SparseLinear, columns, sparse, stored
from lib.pruning.structure import structure

NETWORKS = {
    "vgg": (lambda: VGG(VGGConfig(widths=(8, 12, 16, 16), stages=(1, 2, 1), channels=2, classes=5, side=8)), (2, 8, 8)),
    "cnn": (lambda: BaselineCNN(CNNConfig(stages=((8,), (12, 16)), channels=2, classes=5)), (2, 8, 8)),
    "resnet": (lambda: ResNet(ResNetConfig(widths=(8, 16), blocks=(2, 1), channels=2, classes=5)), (2, 8, 8)),
    "mlp": (lambda: MLP(MLPConfig(20, (16, 12), 5)), (20,)),
}


def trained(name):
    """A network as after training: no statistic, gain, shift or bias at its first value."""
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
        if getattr(module, "bias", None) is not None:
            nn.init.uniform_(module.bias, -0.5, 1)
    return model.eval(), shape


def masked(name, kind, density):
    model, shape = trained(name)
    kept = masks(magnitude(prunable(model)), density, structure(kind), "erk", floor=1)
    return attach(model, kept), kept, shape


def same(one, other, shape):
    inputs = torch.randn(6, *shape)
    with torch.no_grad():
        torch.testing.assert_close(one(inputs), other(inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("density", [0.7, 0.3])
@pytest.mark.parametrize("kind", ["filter", "channel", "unstructured", "kernel"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_remains_computes_the_masked_network(name, kind, density):
    model, kept, shape = masked(name, kind, density)
    before = copy.deepcopy(model.state_dict())
    same(remove(model, kept, shape), model, shape)
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())
    silence(model, kept, shape)
    smaller = remove(model, kept, shape)
    same(smaller, model, shape)
    assert not any(hasattr(module, "parametrizations") for module in smaller.modules())
    if kind in ("filter", "channel"):
        assert measure.parameters(smaller) < 0.9 * measure.parameters(model)
        example = torch.zeros(1, *shape)
        assert measure.flops(smaller, example) < 0.95 * measure.flops(model, example)


def test_emptied_filters_go_only_when_they_are_silent():
    model, shape = trained("vgg")
    kept = ones(prunable(model))
    kept["features.0"][2:] = False
    attach(model, kept)
    assert measure.parameters(remove(model, kept, shape)) == measure.parameters(model)  # their batch norm still speaks
    loud = model(torch.zeros(1, *shape))
    silence(model, kept, shape)
    assert (model(torch.zeros(1, *shape)) - loud).abs().max() > 1e-3
    assert layers(model)["features.0"].bias[2:].count_nonzero() == 0 and layers(model)["features.0"].bias[:2].all()
    assert layers(model)["head"].bias.all()
    smaller = remove(model, kept, shape)
    assert smaller.config.widths == (2, 12, 16, 16) and type(smaller) is VGG
    same(smaller, model, shape)


def test_channels_that_nothing_reads_go_without_being_silenced_and_take_others_along():
    model, shape = trained("vgg")
    kept = ones(prunable(model))
    kept["features.7"][:, 3:] = False  # reads three of the second layer's channels
    kept["features.4"][:3, 5:] = False  # which read five of the first layer's
    attach(model, kept)
    smaller = remove(model, kept, shape)
    assert smaller.config.widths == (5, 3, 16, 16)
    same(smaller, model, shape)


def test_each_layer_keeps_a_channel():
    model, shape = trained("mlp")
    kept = ones(prunable(model))
    kept["layers.2"][:] = False
    silence(attach(model, kept), kept, shape)
    smaller = remove(model, kept, shape)
    assert smaller.config.hidden == (1, 1)
    same(smaller, model, shape)


def test_shortcuts_keep_the_channels_that_they_carry():
    model, shape = trained("resnet")
    kept = ones(prunable(model))
    for name in ("conv", "blocks.0.conv2", "blocks.1.conv2"):  # all that write the first stage's channels
        kept[name][6:] = False
    kept["blocks.0.conv1"][4:] = False
    silence(attach(model, kept), kept, shape)
    smaller = remove(model, kept, shape)
    assert [smaller.conv.out_channels, smaller.blocks[0].conv1.out_channels, smaller.blocks[2].conv1.in_channels] == [6, 4, 6]
    same(smaller, model, shape)
    model, shape = trained("resnet")
    kept["conv"][6:] = True  # one of them writes again, so they stay
    silence(attach(model, kept), kept, shape)
    assert remove(model, kept, shape).conv.out_channels == 8
    same(remove(model, kept, shape), model, shape)


def test_removed_networks_are_used_without_the_library_and_grouped_ones_refused():
    assert "torch_pruning" not in vars(physical)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="grouped"):
        remove(model, ones(prunable(model)), (4, 3, 3))


@pytest.mark.parametrize(
    "layout, kind", [("csr", "unstructured"), ("csr", "pattern"), ("csr", "2:4"), ("bsr", "block 4x4"), ("bsr", "filter")]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_sparse_forms_compute_the_masked_network(name, layout, kind):
    model, kept, shape = masked(name, kind, 0.2)
    before = sparsity(model)
    form = sparse(model, layout, block=4)
    same(form, model, shape)
    assert sparsity(model) == before == pytest.approx(0.8, abs=0.15)
    found = [module for module in form.modules() if isinstance(module, SparseConv2d | SparseLinear)]
    assert len(found) >= 2 and (layout != "csr" or len(found) == len(kept) and not layers(form))
    for name in kept if layout == "bsr" and kind.startswith("block") else ():  # exactly the tiles that survived are stored
        if name not in layers(form):
            tiles = int(structure(kind).groups(kept[name].double()).count_nonzero())
            assert form.get_submodule(name).product.weight.values().numel() == 16 * tiles
    for module in found:
        assert module.product.weight.layout == (torch.sparse_csr if layout == "csr" else torch.sparse_bsr)
    if layout == "csr":
        zeros = sum(int((~mask).sum()) for mask in kept.values())
        assert stored(form) == measure.parameters(model) - zeros
        assert sum(module.product.weight.values().numel() for module in found) == sum(int(mask.sum()) for mask in kept.values())


@pytest.mark.parametrize("size, stride, padding", [((3, 3), (1, 1), (1, 1)), ((1, 1), (2, 2), (0, 0)), ((3, 5), (2, 1), (0, 2))])
def test_patches_are_those_of_a_convolution(size, stride, padding):
    conv = nn.Conv2d(3, 4, size, stride, padding, bias=False)
    x = torch.randn(2, 3, 9, 8)
    for last, weight in ((False, conv.weight), (True, conv.weight.permute(0, 2, 3, 1))):
        patches, sides = columns(x, size, stride, padding, last)
        y = (weight.flatten(1) @ patches).view(4, 2, *sides).transpose(0, 1)
        torch.testing.assert_close(y, conv(x))


def test_layouts_that_cannot_be_had_say_why():
    model, _, _ = masked("mlp", "2:4", 0.4)
    with pytest.raises(ValueError, match="layout is 'coo'"):
        sparse(model, "coo")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="needs an NVIDIA GPU.*use 'csr' or 'bsr'"):
            sparse(model, "2:4")
    model = nn.Sequential(nn.Conv2d(4, 4, 3, dilation=2))
    with pytest.raises(ValueError, match="without dilation"):
        sparse(model, "csr")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="2:4 products need an NVIDIA GPU")
def test_two_of_four_on_a_gpu():
    torch.manual_seed(0)
    model = VGG(VGGConfig(widths=(64, 64, 128), stages=(1, 2), side=8)).cuda().eval()
    kept = masks(magnitude(prunable(model)), 0.45, structure("2:4"), "uniform")
    attach(model, kept)
    form = sparse(model, "2:4")
    assert sum(isinstance(module, SparseConv2d) for module in form.modules()) == 2  # the first reads three channels
    images = torch.randn(8, 3, 8, 8, device="cuda").half()
    torch.testing.assert_close(form(images), copy.deepcopy(model).half()(images), rtol=2e-2, atol=2e-2)
    set_masks(model, ones(prunable(model)))
    assert not any(isinstance(module, SparseConv2d) for module in sparse(model, "2:4").modules())
