"""Pruning without training: OBS, Wanda, SparseGPT on one layer, and Block Influence."""

import pytest
import torch
from torch import nn

from lib.models.calibration import output_error, statistics_of
from lib.pruning import wanda
from lib.pruning.block_influence import influence, influences, least
from lib.pruning.obs import cholesky_of_inverse, forget, without
from lib.pruning.sparsegpt import sparsegpt
from lib.pruning.structure import NM


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def layer():
    """A weight [24, 64] and correlated inputs with features that are much larger than the others."""
    x_TI = normal(400, 64, seed=1) @ (torch.eye(64, dtype=torch.float64) + 0.3 * normal(64, 64, seed=2) / 8)
    x_TI[:, [3, 40]] *= 20
    return normal(24, 64), statistics_of(x_TI)


def solved(weight_I, gram_II, kept):
    """The row that least squares gives when only ``kept`` weights may be other than zero."""
    found = torch.zeros_like(weight_I)
    found[kept] = torch.linalg.solve(gram_II[kept][:, kept], (gram_II @ weight_I)[kept])
    return found


def error(weight_I, changed_I, gram_II):
    return float((weight_I - changed_I) @ gram_II @ (weight_I - changed_I))


def test_obs_removes_one_weight_as_least_squares_would():
    gram_II, row_I = statistics_of(normal(40, 6)).gram_II, normal(6, seed=3)
    inverse_II = torch.linalg.inv(gram_II)
    for q in range(6):
        kept = [i for i in range(6) if i != q]
        changed, growth = without(row_I, inverse_II, q)
        torch.testing.assert_close(changed, solved(row_I, gram_II, kept))
        assert growth == pytest.approx(error(row_I, changed, gram_II))


def test_obs_removes_a_second_weight_from_the_rest():
    gram_II, row_I = statistics_of(normal(40, 6)).gram_II, normal(6, seed=3)
    inverse_II = torch.linalg.inv(gram_II)
    first, grown = without(row_I, inverse_II, 4)
    both, more = without(first, forget(inverse_II, 4), 1)
    torch.testing.assert_close(both, solved(row_I, gram_II, [0, 2, 3, 5]))
    assert grown + more == pytest.approx(error(row_I, both, gram_II))


def test_rows_of_the_cholesky_factor_are_the_inverses_of_what_is_left():
    gram_II = statistics_of(normal(40, 6)).gram_II
    upper = cholesky_of_inverse(gram_II)
    for q in range(6):
        inverse = torch.linalg.inv(gram_II[q:, q:])
        torch.testing.assert_close(upper[q, q:], inverse[0] / inverse[0, 0].sqrt())


def test_sparsegpt_with_one_weight_to_remove_is_obs_on_the_columns_to_its_right(layer):
    weight, statistics = layer
    pruned, mask = sparsegpt(weight[:1], statistics, density=63 / 64, damping=0.0)
    (q,) = (~mask[0]).nonzero()[0].tolist()
    expected = weight[0].clone()
    expected[q:] = without(weight[0, q:], torch.linalg.inv(statistics.gram_II[q:, q:]), 0)[0]
    torch.testing.assert_close(pruned[0], expected)


def test_the_block_size_changes_nothing_where_the_mask_is_chosen_in_groups(layer):
    weight, statistics = layer
    a, b = (sparsegpt(weight, statistics, structure=NM(2, 4), block=block)[0] for block in (8, 64))
    torch.testing.assert_close(a, b)


def test_errors_are_in_the_papers_order_where_features_stand_out(layer):
    weight, statistics = layer
    magnitude = weight * wanda.rows(weight.abs(), 0.5)
    by_wanda = weight * wanda.rows(wanda.score(weight, statistics), 0.5)
    corrected, mask = sparsegpt(weight, statistics, density=0.5)
    errors = [output_error(weight, each, statistics) for each in (corrected, by_wanda, magnitude)]
    assert errors[0] < errors[1] < 0.2 * errors[2]
    assert int(mask.sum()) == mask.numel() // 2


def test_wanda_keeps_the_same_share_of_each_row(layer):
    weight, statistics = layer
    mask = wanda.rows(wanda.score(weight, statistics), 0.3)
    assert mask.sum(1).tolist() == [64 - int(64 * 0.7)] * 24
    torch.testing.assert_close(wanda.score(weight, statistics)[2, 5], weight[2, 5].abs() * statistics.gram_II[5, 5].sqrt())
    assert wanda.rows(torch.ones(1, 10), 0.7).sum() == 7 and wanda.rows(torch.ones(1, 10), 0.9).sum() == 9


@pytest.mark.parametrize("n, m", [(2, 4), (4, 8), (1, 4)])
def test_n_of_m_stay(layer, n, m):
    weight, statistics = layer
    pruned, mask = sparsegpt(weight, statistics, structure=NM(n, m))
    for each in (mask, pruned != 0, NM(n, m).mask(wanda.score(weight, statistics))):
        assert (each.unflatten(1, (-1, m)).sum(-1) == n).all()


def test_a_feature_that_never_occurs_and_wrong_wishes():
    x_TI = normal(50, 8)
    x_TI[:, 2] = 0
    pruned, _ = sparsegpt(normal(4, 8), statistics_of(x_TI), density=0.5)
    assert pruned.isfinite().all() and (pruned[:, 2] == 0).all()
    for wishes in ({}, {"density": 0.5, "structure": NM(2, 4)}, {"structure": NM(1, 3)}, {"density": 1.5}):
        with pytest.raises(ValueError):
            sparsegpt(normal(4, 8), statistics_of(x_TI), **wishes)


def test_a_block_that_changes_nothing_has_no_influence():
    x = normal(2, 5, 8)
    assert influence(x, x) == pytest.approx(0, abs=1e-12)
    assert influence(x, 3 * x) == pytest.approx(0, abs=1e-12)  # the direction counts
    assert influence(x, -x) == pytest.approx(2)


def test_influences_of_a_network_and_the_least_of_them():
    class Turn(nn.Module):
        def forward(self, x):
            return x.roll(1, -1), None  # blocks may return more than the hidden state

    first, second = Turn(), nn.Identity()
    found = influences(lambda x: second(first(x)[0]), [first, second], [normal(2, 3, 4), normal(2, 3, 4, seed=1)])
    assert found[0] > 0.1 and found[1] == pytest.approx(0, abs=1e-12)
    assert least([0.3, 0.1, 0.2, 0.05], 2) == [1, 3]
    assert not first._forward_hooks
