"""Quantization without training: grids, GPTQ, AWQ, SmoothQuant, rotations."""

import pytest
import torch
from torch import nn

from lib.models.calibration import output_error, statistics_of
from lib.quantization import awq, smoothquant
from lib.quantization.activations import rounded, rounded_inputs
from lib.quantization.gptq import gptq
from lib.quantization.grid import bits_per_weight, grid_of, nearest
from lib.quantization.rescale import move
from lib.quantization.rotation import fold_gain, hadamard, rotate, rotation


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def correlated():
    """A weight [16, 64], and inputs [T, 64] that lie near 12 dimensions."""
    return normal(16, 64), normal(300, 12, seed=1) @ normal(12, 64, seed=2) + 0.1 * normal(300, 64, seed=3)


@pytest.fixture
def outliers():
    """A weight [16, 64], and inputs of which two features are 30 times as large as the others."""
    x_TI = normal(300, 64, seed=1)
    x_TI[:, [5, 50]] *= 30
    return normal(16, 64), x_TI


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits, group", [(2, None), (3, 16), (4, 24), (8, 64)])
def test_each_group_has_its_own_values_and_no_more_than_its_bits_allow(bits, group, symmetric):
    weight = normal(5, 64)
    found = nearest(weight, bits, group, symmetric)
    grid = grid_of(weight, bits, group, symmetric)
    for part, scale in zip(found.split(group or 64, 1), grid.scale_OG.split(1, 1)):
        assert all(len(row.unique()) <= 2**bits for row in part)
        assert ((part / scale).round() - part / scale).abs().max() < 1e-9
    scale_OI = grid.scale_OG.repeat_interleave(grid.group, 1)[:, :64]
    assert ((found - weight).abs() <= scale_OI * (0.5 + 1e-9)).all()
    codes = grid.codes(weight)
    assert codes.min() >= 0 and codes.max() <= 2**bits - 1 and (codes == codes.round()).all()


def test_what_is_on_a_grid_stays_and_zero_stays_zero():
    codes = torch.randint(0, 16, (3, 32), generator=torch.Generator().manual_seed(0)).double()
    codes[:, 0], codes[:, 1] = 0, 15
    weight = (codes - 6) * 0.25
    assert torch.equal(nearest(weight, 4), weight)
    assert (nearest(torch.where(normal(4, 32) > 0, normal(4, 32, seed=1), 0.0), 3)[normal(4, 32) <= 0] == 0).all()
    assert torch.equal(nearest(torch.zeros(2, 8), 4), torch.zeros(2, 8))


def test_bits_per_weight_count_scales_and_zeros():
    assert bits_per_weight(128, 4, 64) == 4 + 20 / 64
    assert bits_per_weight(128, 4, None, symmetric=True) == 4 + 16 / 128


def test_wrong_bits_and_groups_are_refused():
    for wrong in ({"bits": 1}, {"bits": 4, "group": 0}):
        with pytest.raises(ValueError):
            grid_of(normal(2, 8), **wrong)
    with pytest.raises(ValueError, match="multiple of the group"):
        gptq(normal(2, 64), statistics_of(normal(9, 64)), 4, group=24, block=32)


@pytest.mark.parametrize("group", [None, 16])
def test_gptq_errs_less_than_rounding_to_nearest_where_inputs_are_correlated(correlated, group):
    weight, x_TI = correlated
    statistics = statistics_of(x_TI)
    by_gptq, by_nearest = gptq(weight, statistics, 3, group), nearest(weight, 3, group)
    assert output_error(weight, by_gptq, statistics) < 0.5 * output_error(weight, by_nearest, statistics)
    assert all(len(row.unique()) <= 8 for part in by_gptq.split(group or 64, 1) for row in part)


def test_gptq_of_independent_inputs_is_rounding_to_nearest():
    weight, statistics = normal(4, 16), statistics_of(torch.eye(16, dtype=torch.float64))
    torch.testing.assert_close(gptq(weight, statistics, 3, 4, block=4), nearest(weight, 3, 4))
    torch.testing.assert_close(gptq(weight, statistics, 3), nearest(weight, 3))


def test_blocks_of_columns_do_not_change_gptq(correlated):
    weight, x_TI = correlated
    torch.testing.assert_close(*(gptq(weight, statistics_of(x_TI), 4, 8, block=block) for block in (8, 64)))


def test_awq_protects_features_that_stand_out(outliers):
    weight, x_TI = outliers
    statistics = statistics_of(x_TI)
    scale, alpha = awq.search([weight], statistics, 3, 16)
    assert alpha > 0
    found = output_error(weight, awq.scaled(weight, scale, 3, 16), statistics)
    assert found < 0.5 * output_error(weight, nearest(weight, 3, 16), statistics)
    torch.testing.assert_close(awq.scaled(weight, awq.scale_of(statistics, 0.0), 3, 16), nearest(weight, 3, 16))


def test_clipping_is_no_worse_in_any_group(outliers):
    weight, x_TI = outliers
    for group in range(0, 64, 16):
        own, statistics = weight[:, group : group + 16], statistics_of(x_TI[:, group : group + 16])
        cut = nearest(awq.clipped(own, statistics, 2), 2)
        assert output_error(own, cut, statistics) <= output_error(own, nearest(own, 2), statistics)
    assert (awq.clipped(weight, statistics_of(x_TI), 2, 16).abs() < weight.abs()).any()


class Ffn(nn.Module):
    """A norm, a SwiGLU and what reads it."""

    def __init__(self, norm):
        super().__init__()
        self.norm, self.gate, self.up, self.down = norm, nn.Linear(64, 32), nn.Linear(64, 32), nn.Linear(32, 64)

    def forward(self, x):
        h = self.norm(x)
        return self.down(nn.functional.silu(self.gate(h)) * self.up(h))


@pytest.fixture(params=["rms", "layer"])
def ffn(request):
    torch.manual_seed(0)
    made = Ffn(nn.RMSNorm(64) if request.param == "rms" else nn.LayerNorm(64)).double()
    for parameter in made.norm.parameters():
        parameter.data = 1 + 0.5 * normal(64, seed=7)
    return made


def test_scales_that_move_preserve_the_function(ffn, outliers):
    x_TI = outliers[1]
    before = ffn(x_TI)
    read, hidden = statistics_of(ffn.norm(x_TI).detach()), []
    ffn.down.register_forward_pre_hook(lambda _, args: hidden.append(args[0].detach()))
    ffn(x_TI)
    weights = [ffn.gate.weight, ffn.up.weight]
    move(ffn.norm, [ffn.gate, ffn.up], awq.search(weights, read, 3, 16)[0])
    move(ffn.up, [ffn.down], awq.search([ffn.down.weight], statistics_of(hidden[0]), 3, 16)[0])
    move(ffn.norm, [ffn.gate, ffn.up], smoothquant.scale_of(weights, read))
    assert (ffn(x_TI) - before).abs().max() < 1e-10


def test_moving_and_then_rounding_is_awqs_scaled_weight(outliers):
    weight, x_TI = outliers
    norm, layer, scale = nn.RMSNorm(64).double(), nn.Linear(64, 16, bias=False).double(), normal(64).abs() + 0.1
    layer.weight.data = weight.clone()
    move(norm, [layer], scale)
    layer.weight.data = nearest(layer.weight, 4, 16)
    unscaled = nn.functional.rms_norm(x_TI, (64,), eps=norm.eps)
    torch.testing.assert_close(layer(norm(x_TI)), unscaled @ awq.scaled(weight, scale, 4, 16).T)


def test_scales_must_be_positive_and_fit():
    norm, layer = nn.RMSNorm(8), nn.Linear(8, 4)
    for scale in (torch.zeros(8), torch.ones(4)):
        with pytest.raises(ValueError):
            move(norm, [layer], scale)


def test_smoothing_balances_the_largest_values_and_helps_rounded_activations(outliers):
    weight, x_TI = outliers
    scale = smoothquant.scale_of([weight, 2 * weight], statistics_of(x_TI))
    torch.testing.assert_close((x_TI / scale).abs().amax(0), (2 * weight * scale).abs().amax(0))

    def error(x_TI, weight):
        return (rounded(x_TI, 6) @ nearest(weight, 6, symmetric=True).T - x_TI @ weight.T).norm()

    assert error(x_TI / scale, weight * scale) < 0.5 * error(x_TI, weight)


def test_inputs_are_rounded_for_as_long_as_it_lasts():
    layer, x = nn.Linear(8, 8).double(), normal(2, 3, 8)
    with rounded_inputs([layer], 3):
        inside = layer(x)
    torch.testing.assert_close(inside, layer(rounded(x, 3)))
    assert all(len(row.unique()) <= 8 for row in rounded(x, 3).flatten(0, 1)) and not torch.equal(layer(x), inside)


@pytest.mark.parametrize("size", [1, 2, 12, 64, 96, 144, 384, 576])
def test_hadamard_matrices(size):
    found = hadamard(size)
    assert (found.abs() == 1).all()
    assert torch.equal(found @ found.T, size * torch.eye(size, dtype=torch.float64))


def test_sizes_without_a_hadamard_matrix_are_refused():
    for size in (0, 3, 20, 36):
        with pytest.raises(ValueError, match="no Hadamard"):
            hadamard(size)


def test_rotations_preserve_the_function_also_through_an_rms_norm_and_spread_outliers():
    torch.manual_seed(0)
    first, norm, second = nn.Linear(8, 48).double(), nn.RMSNorm(48).double(), nn.Linear(48, 8).double()
    norm.weight.data = 1 + 0.5 * normal(48)
    first.weight.data[7] *= 100  # a feature that stands out
    x = normal(5, 8)
    plain, normed, hidden = second(first(x)), second(norm(first(x))), first(x)
    rotation_DD = rotation(48, seed=0)
    torch.testing.assert_close(rotation_DD @ rotation_DD.T, torch.eye(48, dtype=torch.float64))
    rotate(first, second, rotation_DD)
    assert (second(first(x)) - plain).abs().max() < 1e-10
    assert first(x).abs().amax() < 0.3 * hidden.abs().amax()
    rotate(first, second, rotation_DD.T)
    fold_gain(norm, [second])
    rotate(first, second, rotation(48, seed=1))
    assert (second(norm(first(x))) - normed).abs().max() < 1e-10
