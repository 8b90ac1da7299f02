"""Masks: hysteresis, straight-through gradients, budgets, controls; and the layer that uses them."""

import pytest
import torch
import torch.nn.functional as F

from lib.privacy.activation import KINDS, MaskedReLU
from lib.privacy.mask import at_random, best, hysteresis, indicator, shuffled
from lib.privacy.polynomial import dapa


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_hysteresis_is_the_released_rule():
    """For 2,000 random walks, one at a time, as the README spells it."""
    scores, threshold = 0.01 * torch.randn(50, 40, generator=generator()).cumsum(0), 0.02
    mask, expected = torch.ones(40), [1] * 40
    for score in scores:
        mask = hysteresis(mask, score, threshold)
        for place, value in enumerate(score.tolist()):
            if expected[place] == 1 and value < -threshold:
                expected[place] = 0
            elif expected[place] == 0 and value > threshold:
                expected[place] = 1
        assert mask.tolist() == expected


def test_without_a_threshold_the_mask_is_the_sign():
    score = torch.randn(1000, generator=generator(1))
    for before in (torch.zeros(1000), torch.ones(1000)):
        assert torch.equal(hysteresis(before, score, 0.0), (score > 0).float())


def test_a_wider_band_never_flips_more_often():
    walks = torch.randn(300, 500, generator=generator(2)).cumsum(0)
    flips = []
    for threshold in (0.0, 0.5, 2.0, 8.0):
        mask, count = torch.ones(500), torch.zeros(500)
        for score in walks:
            after = hysteresis(mask, score, threshold)
            count += after != mask
            mask = after
        flips.append(count)
    assert all((wider <= narrower).all() for narrower, wider in zip(flips, flips[1:]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (2, 3, 4)])
def test_the_gradient_passes_as_softplus(dtype, shape):
    score = torch.randn(shape, generator=generator(3), dtype=dtype).requires_grad_()
    mask = (torch.rand(shape, generator=generator(4)) < 0.5).to(dtype)
    weight = torch.randn(shape, generator=generator(5), dtype=dtype)
    out = indicator(score, mask)
    assert torch.equal(out, mask)
    (weight * out).sum().backward()
    torch.testing.assert_close(score.grad, weight * F.softplus(score.detach()))


def shapes_of(case):
    g = generator(case)
    return [torch.randn(*torch.randint(1, 6, (3,), generator=g).tolist(), generator=g) for _ in range(1 + case % 4)]


@pytest.mark.parametrize("case", range(20))
def test_budgets_are_kept_exactly(case):
    scores = shapes_of(case)
    total = sum(score.numel() for score in scores)
    for budget in {0, 1, total // 3, total}:
        for masks in (best(scores, budget), at_random(scores, budget, seed=case)):
            assert sum(int(mask.sum()) for mask in masks) == budget
            assert [mask.shape for mask in masks] == [score.shape for score in scores]
            assert all(mask.eq(0).logical_or(mask.eq(1)).all() for mask in masks)
        kept = best(scores, budget)
        if 0 < budget < total:
            lowest = min(float(score[mask > 0].min()) for score, mask in zip(scores, kept) if mask.any())
            highest = max(float(score[mask == 0].max()) for score, mask in zip(scores, kept) if (mask == 0).any())
            assert lowest >= highest
        again = shuffled(kept, seed=case)
        assert [int(mask.sum()) for mask in again] == [int(mask.sum()) for mask in kept]


def test_equal_scores_still_keep_the_budget():
    assert int(best([torch.zeros(3, 3, 3)], 5)[0].sum()) == 5
    with pytest.raises(ValueError, match="from 0 to 27"):
        best([torch.zeros(3, 3, 3)], 28)


def test_random_masks_are_spread_evenly_and_differ_by_seed():
    shapes = [torch.zeros(4, 10, 10), torch.zeros(4, 5, 5)]
    counts = torch.tensor([[int(m.sum()) for m in at_random(shapes, 250, seed)] for seed in range(100)]).float().mean(0)
    torch.testing.assert_close(counts, torch.tensor([200.0, 50.0]), atol=3.0, rtol=0)
    assert not torch.equal(at_random(shapes, 250, 0)[0], at_random(shapes, 250, 1)[0])


# The layer


def layer(kind="quadratic", shape=(3, 4, 5), **settings):
    torch.manual_seed(0)
    made = MaskedReLU(shape, kind, **settings)
    made.mean.copy_(torch.tensor([0.2, -1.0, 0.0]))
    made.std.copy_(torch.tensor([1.0, 0.5, 2.0]))
    made.set_coefficients()
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_with_all_relus_it_is_a_relu(kind):
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layer(kind).eval()(x), x.relu())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_positions_without_a_relu_are_polynomials(kind, dtype):
    made = layer(kind).eval()
    made.freeze((torch.rand(3, 4, 5, generator=generator()) < 0.5).float())
    x = torch.randn(2, 3, 4, 5, dtype=dtype)
    out = made(x)
    c = made.coefficients.to(dtype)
    expected = torch.where(made.mask > 0, x.relu(), c[0] + c[1] * x + c[2] * x * x)
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected, atol=0.05 if dtype == torch.bfloat16 else 1e-5, rtol=0.02)
    if kind == "identity":
        torch.testing.assert_close(expected[:, made.mask == 0], x[:, made.mask == 0])


def test_scores_learn_where_the_relu_matters():
    made = layer().train()
    x = torch.randn(8, 3, 4, 5)
    loss = (made(x) - x.relu()).square().sum()
    loss.backward()
    assert loss < 1e-10 and made.score.grad.abs().max() < 1e-5  # all are ReLUs: nothing is wrong yet
    made.score.grad = None
    made.mask.zero_()
    target = torch.zeros_like(x)
    target[:, :, 0] = x.relu()[:, :, 0]  # the first row wants the ReLU
    (made(x)[:, :, 0] - target[:, :, 0]).square().sum().backward()
    assert made.score.grad[:, 0].lt(0).all() and not made.score.grad[:, 1:].any()


def test_it_tracks_statistics_until_it_is_settled():
    made = MaskedReLU((2, 6, 6), trained=False)
    for _ in range(200):
        made.train()(torch.randn(64, 2, 6, 6) * torch.tensor([0.5, 2.0])[:, None, None] + torch.tensor([1.0, -1.0])[:, None, None])
    torch.testing.assert_close(made.mean, torch.tensor([1.0, -1.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(made.std, torch.tensor([0.5, 2.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(made.coefficients[:, :, 0, 0], dapa(made.mean, made.std))
    before = made.coefficients.clone()
    made.settle()
    made(torch.randn(64, 2, 6, 6) * 9)
    assert torch.equal(made.coefficients, before)
    made = MaskedReLU((2, 6, 6)).eval()
    made(torch.randn(4, 2, 6, 6) + 5)
    assert not made.mean.any()  # evaluation gathers nothing


def test_flips_and_returns_are_counted_and_end_with_freezing():
    made = layer(threshold=0.1)
    with torch.no_grad():
        for value, count, flips, returns in ((-0.05, 60, 0, 0), (-0.2, 0, 60, 0), (0.05, 0, 60, 0), (0.2, 60, 120, 60)):
            made.score.fill_(value)
            made.update()
            assert (made.count, int(made.flips), int(made.returns)) == (count, flips, returns)
        made.freeze(torch.zeros_like(made.mask))
        made.score.fill_(1.0)
        made.update()
    assert made.count == 0 and int(made.flips) == 120


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="'identity', 'linear', 'quadratic', 'released'"):
        MaskedReLU((1, 2, 2), "cubic")
