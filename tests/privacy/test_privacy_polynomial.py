"""DaPa: the closed form against least squares, against Monte Carlo, against derivatives; and the released code's version."""

import pytest
import torch

from lib.privacy.polynomial import LEAST_STD, dapa, evaluate, expected_error, half_moments, moments, released

FLOAT64 = dict(dtype=torch.float64)


def some(cases=200, seed=0):
    """Means and deviations over several orders of magnitude, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    std = 10 ** (3 * torch.rand(cases, generator=generator, **FLOAT64) - 1.5)
    return std * (6 * torch.rand(cases, generator=generator, **FLOAT64) - 3), std


def normal_equations(mean, std, degree):
    """The best polynomial from the moments alone: (E x^(i+j)) c = E x^i relu(x)."""
    whole, half = moments(mean, std), half_moments(mean, std)
    gram = torch.stack([torch.stack([whole[i + j] for j in range(degree + 1)], -1) for i in range(degree + 1)], -2)
    right = torch.stack([half[i + 1] for i in range(degree + 1)], -1)
    return torch.linalg.solve(gram, right).movedim(-1, 0)


@pytest.mark.parametrize("degree", [1, 2])
def test_closed_form_solves_the_normal_equations(degree):
    mean, std = some()
    closed, solved = dapa(mean, std, degree), normal_equations(mean, std, degree)
    scale = torch.stack([std, torch.ones_like(std), 1 / std])[: degree + 1]
    torch.testing.assert_close(closed[: degree + 1] / scale, solved / scale, atol=1e-7, rtol=1e-6)
    assert degree == 2 or not closed[2].any()


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (-1.3, 0.7), (0.8, 2.5)])
@pytest.mark.parametrize("degree", [1, 2])
def test_closed_form_against_least_squares_on_samples(mean, std, degree):
    generator = torch.Generator().manual_seed(1)
    x = mean + std * torch.randn(400_000, generator=generator, **FLOAT64)
    powers = torch.stack([x**power for power in range(degree + 1)], -1)
    fitted = torch.linalg.lstsq(powers, x.relu()[:, None]).solution[:, 0]
    closed = dapa(torch.tensor(mean, **FLOAT64), torch.tensor(std, **FLOAT64), degree)[: degree + 1]
    torch.testing.assert_close(closed, fitted, atol=0.01, rtol=0.02)


def test_expected_error_against_monte_carlo():
    generator = torch.Generator().manual_seed(2)
    normal = torch.randn(200_000, generator=generator, **FLOAT64)
    for mean, std in zip(*some(12, seed=3)):
        x = mean + std * normal
        for coefficients in (dapa(mean, std), dapa(mean, std, 1), released(mean, std), torch.tensor([0.3, -1.0, 0.2], **FLOAT64)):
            sampled = (evaluate(coefficients, x) - x.relu()).square().mean()
            torch.testing.assert_close(expected_error(coefficients, mean, std), sampled, atol=1e-4 * std.item() ** 2, rtol=0.05)


def test_nothing_nearby_is_better():
    mean, std = some(50, seed=4)
    best = dapa(mean, std)
    least = expected_error(best, mean, std)
    generator = torch.Generator().manual_seed(5)
    scale = torch.stack([std, torch.ones_like(std), 1 / std])
    for _ in range(20):
        other = best + 0.05 * scale * torch.randn(best.shape, generator=generator, **FLOAT64)
        assert (expected_error(other, mean, std) >= least - 1e-9 * std.square()).all()
    assert (expected_error(dapa(mean, std, 1), mean, std) >= least - 1e-9 * std.square()).all()


def test_the_numbers_at_the_standard_normal():
    zero, one = torch.zeros((), **FLOAT64), torch.ones((), **FLOAT64)
    constant, linear, square = dapa(zero, one)
    assert (constant.item(), linear.item(), square.item()) == pytest.approx((0.19947, 0.5, 0.19947), abs=1e-5)
    assert expected_error(dapa(zero, one), zero, one).item() == pytest.approx(0.01127, abs=1e-5)
    assert expected_error(dapa(zero, one, 1), zero, one).item() == pytest.approx(0.09085, abs=1e-5)
    as_released = released(zero, one)
    assert as_released.tolist() == pytest.approx([0.039894, 0.5, 0.0019947], abs=1e-6)
    assert 0.16 < expected_error(as_released, zero, one).item() < 0.22


def test_released_code_takes_the_variance_for_the_deviation():
    mean, std = torch.tensor([0.4, 0.4], **FLOAT64), torch.tensor([2.0, 0.1], **FLOAT64)
    wrong = dapa(mean, torch.tensor([4.0, 0.5], **FLOAT64))
    torch.testing.assert_close(released(mean, std), wrong * torch.tensor([[0.2], [1.0], [0.01]], **FLOAT64))


def test_a_constant_channel_stays_finite_and_linear():
    for mean, linear in ((2.0, 1.0), (-2.0, 0.0)):
        coefficients = dapa(torch.tensor(mean), torch.tensor(0.0))
        assert coefficients.isfinite().all() and coefficients.tolist() == pytest.approx([0.0, linear, 0.0])
    near = dapa(torch.tensor(0.0), torch.tensor(LEAST_STD / 10))
    assert near.tolist() == dapa(torch.tensor(0.0), torch.tensor(LEAST_STD)).tolist()


def test_shapes_and_degrees():
    assert dapa(torch.zeros(2, 3), torch.ones(2, 3)).shape == (3, 2, 3)
    with pytest.raises(ValueError, match="1 or 2"):
        dapa(torch.zeros(1), torch.ones(1), 3)
    x, coefficients = torch.randn(5, 4, 2, 2, **FLOAT64), torch.randn(3, 4, 1, 1, **FLOAT64)
    torch.testing.assert_close(evaluate(coefficients, x), coefficients[0] + coefficients[1] * x + coefficients[2] * x**2)
