"""Vision transformers and thinned residual networks in packed files: to the last bit, small where they are sparse."""

import copy

import pytest
import torch

from conftest import ROOT
from lib.measure import cost as measure
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vit import ViT, ViTConfig
from lib.moe.layer import MoEConfig
from lib.pruning.allocate import masks
from lib.pruning.inner import without
from lib.pruning.mask import attach, layers, prunable
from lib.pruning.physical import remove
from lib.pruning.score import magnitude
from lib.quantization import packed
from lib.quantization.codebook import quantize
from lib.quantization.fold import baked, fold, halved

SHAPE = (1, 8, 8)
CONFIGS = {
    "plain": ViTConfig(image_size=8, channels=1, patch=2, width=48, depth=2, heads=3, hidden=96),
    "cut": ViTConfig(image_size=8, channels=1, patch=4, width=24, depth=2, heads=(2, 1), hidden=(17, 9), head_dim=8, classes=7),
    "class token": ViTConfig(
        image_size=8, channels=1, patch=4, width=24, depth=1, heads=3, hidden=32, pool="class", head_hidden=20, positions=9, drop_path=0.1
    ),
}

MIXTURE = ViTConfig(image_size=8, channels=1, patch=4, width=24, depth=2, heads=3, hidden=32, moe=MoEConfig(experts=2))


def network(config, seed=0):
    """A network as training leaves it: no bias or gain at its first value."""
    torch.manual_seed(seed)
    model = ViT(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, -1, 1)
    return model.eval()


def small(model, density, bits):
    attach(model, masks(magnitude(prunable(model)), density, allocation="lamp"))
    return quantize(model, bits)


def same_bits(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name].view(torch.int32), second[name].view(torch.int32)) for name in first
    )


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("half", [False, True])
def test_a_transformer_comes_back_to_the_last_bit(kind, half, tmp_path):
    model = small(network(CONFIGS[kind]), 0.2, 4)
    images = torch.randn(5, *SHAPE)
    folded = fold(model, SHAPE)
    torch.testing.assert_close(folded(images), model(images), rtol=0, atol=0)
    if half:
        folded = halved(folded)
    sizes = packed.write(folded, tmp_path / "file")
    back = packed.read(tmp_path / "file")
    assert type(back) is ViT and back.config == CONFIGS[kind] and same_bits(folded, back) and not back.training
    assert torch.equal(back(images), folded(images)) and sizes == packed.sizes_of(tmp_path / "file")
    assert sizes.total == (tmp_path / "file").stat().st_size


def test_pruning_and_codes_make_its_file_small(tmp_path):
    config = ViTConfig(image_size=8, channels=1, patch=2, width=96, depth=2, heads=3, hidden=192)
    dense = packed.write(halved(fold(network(config), SHAPE)), tmp_path / "dense")
    coded = packed.write(halved(fold(small(network(config), 1.0, 4), SHAPE)), tmp_path / "coded")
    both = packed.write(halved(fold(small(network(config), 0.1, 4), SHAPE)), tmp_path / "both")
    weights = sum(layer.weight.numel() for layer in layers(network(config)).values())
    assert dense.total == pytest.approx(2 * measure.parameters(network(config)), rel=0.01)
    # 4 bits for each of the weights that stay, and a gap of about log2(10) + 1.5 bits to each of a tenth of them.
    assert coded.total == pytest.approx(dense.total - 1.5 * weights, rel=0.02)
    assert both.total == pytest.approx(dense.total - 2 * weights + 0.1 * weights * (4 + 4.8) / 8, rel=0.06)
    assert dense.total > 10 * both.total


def test_biases_of_a_transformer_are_not_trimmed():
    """A unit that gets no weights still has an output, GELU of its bias, and the norm's shift moves whatever comes next."""
    model = network(CONFIGS["plain"])
    attach(model, {"blocks.0.ffn.fc1": torch.zeros(96, 48, dtype=torch.bool)})
    folded, images = fold(model, SHAPE), torch.randn(5, *SHAPE)
    assert folded.blocks[0].ffn.fc1.bias.ne(0).all() and folded.norm.bias.ne(0).all()
    assert torch.equal(folded(images), model(images))
    folded = fold(small(network(CONFIGS["plain"]), 0.2, 2), SHAPE)
    assert not any(bool(((parameter == 0) & parameter.signbit()).any()) for parameter in folded.parameters())


def test_a_thinned_residual_network_comes_back(tmp_path):
    torch.manual_seed(0)
    model = ResNet(ResNetConfig((4, 8), (1, 2), channels=1)).eval()
    smaller = without(model, {"blocks.0": torch.tensor([0, 3]), "blocks.2": torch.tensor([1, 2, 5])})
    assert smaller.config.inner == (2, 8, 3) and packed.packable(smaller)
    folded = fold(smaller, SHAPE)
    packed.write(folded, tmp_path / "file")
    back, images = packed.read(tmp_path / "file"), torch.randn(5, *SHAPE)
    assert back.config == smaller.config and same_bits(folded, back)
    torch.testing.assert_close(back(images), smaller(images), rtol=1e-5, atol=1e-5)


def test_what_can_be_packed():
    vit = network(CONFIGS["plain"])
    assert packed.packable(vit) and packed.packable(fold(vit, SHAPE))
    coded = small(copy.deepcopy(vit), 0.5, 4)
    assert not packed.packable(coded) and packed.packable(baked(coded))
    assert not packed.packable(ViT(MIXTURE))
    assert not packed.packable(torch.nn.Linear(2, 2))
    other = copy.deepcopy(vit)
    other.blocks[1].ffn.fc2 = torch.nn.Sequential(other.blocks[1].ffn.fc2)
    assert not packed.packable(other)


def test_networks_that_are_not_what_their_config_says_are_refused(tmp_path):
    torch.manual_seed(0)
    model = ResNet(ResNetConfig((4, 8), (1, 1), channels=1)).eval()
    kept = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable(model).items()}
    kept["blocks.0.conv2"][:, 1:] = False
    thinned = remove(model, kept, SHAPE)
    assert measure.parameters(thinned) < measure.parameters(model) and not packed.packable(thinned)
    with pytest.raises(ValueError, match="config says"):
        packed.write(fold(thinned, SHAPE), tmp_path / "file")
    with pytest.raises(ValueError, match="mixture"):
        packed.write(fold(ViT(MIXTURE), SHAPE), tmp_path / "file")


def test_the_committed_files_are_still_read():
    folder = ROOT / "data" / "models"
    files = sorted(folder.glob("*.packed"))
    assert files
    for path in files:
        model = packed.read(path)
        assert packed.sizes_of(path).total == path.stat().st_size and packed.packable(model)


def test_weights_too_small_for_16_bits_come_back_as_zeros(tmp_path):
    model = network(CONFIGS[next(iter(CONFIGS))])
    weight = next(iter(layers(model).values())).weight
    with torch.no_grad():
        weight[:, 1:] = 0
        weight[0, 0] = -1e-9
    folded = halved(fold(model, SHAPE))
    packed.write(folded, tmp_path / "file")
    assert same_bits(folded, packed.read(tmp_path / "file"))
