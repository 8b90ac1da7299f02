"""Even steps without training, products of 8-bit integers, and the whitened CNN in a packed file."""

import copy

import pytest
import torch
from torch import nn

from lib.data.images import load_images, normalise
from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig, whiten
from lib.pruning.low_rank import factorised, ranks_for
from lib.quantization import packed
from lib.quantization.even import rounded, to_steps
from lib.quantization.fold import fold
from lib.quantization.int8 import Int8Conv2d, input_ranges, with_int8_convolutions


@pytest.fixture
def images():
    found = load_images("digits")
    return normalise(found.train.images[:64], found)


@pytest.fixture
def model(images):
    torch.manual_seed(0)
    model = WhitenedCNN(WhitenedCNNConfig(widths=(8, 12), channels=1))
    whiten(model, images)
    for module in model.groups.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.1), nn.init.normal_(module.bias), module.running_var.uniform_(0.5, 2)
    nn.init.normal_(model.head.weight)
    return model.eval()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_steps_are_even_symmetric_and_keep_zero(bits):
    weight = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[0] = 0
    found = to_steps(weight, bits)
    step = weight.abs().max() / (2 ** (bits - 1) - 1)
    torch.testing.assert_close(found / step, (found / step).round(), atol=1e-4, rtol=0)
    assert not found[0].any() and (found - weight).abs().max() <= step / 2 * 1.001 and len(found.unique()) <= 2**bits - 1


def test_sections_have_steps_of_their_own():
    weight = torch.cat([torch.full((8, 4), 0.01), torch.full((8, 4), 1.0)]).add(torch.linspace(0, 1e-3, 4))
    whole, sections = to_steps(weight, 4), to_steps(weight, 4, (16, 4))
    assert not whole[:8].any() and (sections - weight).abs().max() < 1e-6


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_that_are_no_steps_are_refused(bits):
    with pytest.raises(ValueError, match="bits"):
        to_steps(torch.ones(2, 2), bits)


def test_integer_products_are_those_of_rounded_numbers(images):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, padding=1, bias=False)
    x = torch.rand(2, 4, 6, 6) * 3 - 0.5
    conv.weight.data = to_steps(conv.weight.data, 8)
    low, high = float(x.min()), float(x.max())
    step = (high - low) / 255
    zero = round(-low / step)
    coded = ((x / step + zero).round().clamp(0, 255) - zero) * step
    with torch.no_grad():
        torch.testing.assert_close(Int8Conv2d(conv, (low, high))(x), conv(coded), atol=1e-4, rtol=1e-4)


def test_a_network_of_integer_products_answers_nearly_alike(model, images):
    coded = rounded(copy.deepcopy(model), 8, ignored=("stem",))
    ranges = input_ranges(coded, images, ("stem",))
    fast = with_int8_convolutions(coded, ranges)
    assert "stem" not in ranges and sum(isinstance(one, Int8Conv2d) for one in fast.modules()) == 4 == len(ranges)
    with torch.no_grad():
        exact, near = coded(images), fast(images)
    assert (exact - near).abs().max() < 0.1 * exact.std() and not torch.equal(exact, near)
    assert sum(isinstance(one, Int8Conv2d) for one in coded.modules()) == 0


def test_what_it_never_saw_is_cut_off(images):
    conv = nn.Conv2d(1, 1, 1, bias=False)
    conv.weight.data.fill_(1.0)
    fast = Int8Conv2d(conv, (0.0, 1.0))
    assert fast(torch.full((1, 1, 2, 2), 5.0)).max() == pytest.approx(1.0, rel=1e-2)


@pytest.mark.parametrize("low", [False, True])
def test_the_whitened_cnn_is_packed_and_read_back_to_the_last_bit(model, images, tmp_path, low):
    if low:
        model = factorised(model, ranks_for(model.config, 0.5))
    model.head.weight.data[:, 3].zero_()
    folded = fold(model, (1, 8, 8))
    sizes = packed.write(folded, tmp_path / "one.packed")
    back = packed.read(tmp_path / "one.packed")
    assert sizes.total == (tmp_path / "one.packed").stat().st_size and back.config == model.config
    assert all(torch.equal(one, other) for one, other in zip(folded.state_dict().values(), back.state_dict().values()))
    with torch.no_grad():
        torch.testing.assert_close(back(images), model(images), atol=1e-4, rtol=1e-4)


def test_nothing_is_trimmed_where_maxima_hide_paths(model):
    """A channel whose only reader looks past the border of the largest position still counts."""
    with torch.no_grad():
        model.groups[1].conv1.weight[:, 0] = 0
        model.groups[1].conv1.weight[0, 0, 0, 0] = 1.0
    before = model.groups[0].norm2.bias.clone()
    assert before[0] != 0 and fold(model, (1, 8, 8)).groups[0].norm2.shift[0] != 0
