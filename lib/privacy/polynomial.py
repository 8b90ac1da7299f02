"""Distribution-aware polynomial approximation of a ReLU: DaPa of AutoReP (Peng et al. 2023, arXiv 2308.10134, section 3.4).

The paper asks for the polynomial p that minimises E (relu(x) - p(x))² when x is normal, and integrates numerically.
For degrees 1 and 2 the answer is closed, by Stein's lemma.  Coefficients are tensors [3, …]: constant, linear, square.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.system.checks import require

#: Least deviation, as a fraction of which nothing is divided: a channel that is constant is left linear.
LEAST_STD = 1e-3

#: Least "deviation" in the released code.
RELEASED_LEAST = 0.5


def dapa(mean: Tensor, std: Tensor, degree: int = 2) -> Tensor:
    """Coefficients [3, …] of the best polynomial of ``degree`` 1 or 2 for inputs N(mean, std²), tensors of one shape.

    With a = mean / std, φ and Φ the standard normal density and distribution:
    c2 = φ(a) / (2 std), c1 = Φ(a) - a φ(a), c0 = (mean a + std) φ(a) / 2; for degree 1, c1 = Φ(a), c0 = std φ(a).
    Deviations below LEAST_STD count as that.
    """
    require(degree in (1, 2), f"degree is {degree}: it must be 1 or 2")
    std = std.clamp(min=LEAST_STD)
    a = mean / std
    density, distribution = torch.exp(-a.square() / 2) / math.sqrt(2 * math.pi), torch.special.ndtr(a)
    if degree == 1:
        return torch.stack([std * density, distribution, torch.zeros_like(a)])
    return torch.stack([(mean * a + std) * density / 2, distribution - a * density, density / (2 * std)])


def released(mean: Tensor, std: Tensor) -> Tensor:
    """Coefficients [3, …] as the authors' code uses them (``approx_2rd_torch`` and ``x2act_auto``).

    It has the formula of :func:`dapa`, takes the *variance*, at least 0.5, for the deviation, divides the constant by 5 and
    the square by 10, and multiplies the square by 0.1 again where the polynomial is evaluated: by 100 in all.
    """
    constant, linear, square = dapa(mean, std.square().clamp(min=RELEASED_LEAST))
    return torch.stack([constant / 5, linear, square / 100])


def evaluate(coefficients: Tensor, x: Tensor) -> Tensor:
    """c0 + c1 x + c2 x², of coefficients [3, …] that broadcast with ``x``."""
    constant, linear, square = coefficients
    return constant + x * (linear + x * square)


def expected_error(coefficients: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """E (relu(x) - p(x))² for x ~ N(mean, std²), exactly, from the moments of the normal distribution."""
    constant, linear, square = coefficients
    all_, half = moments(mean, std), half_moments(mean, std)
    of_relu = half[2]
    with_relu = constant * half[1] + linear * half[2] + square * half[3]
    own = (
        constant.square() * all_[0]
        + 2 * constant * linear * all_[1]
        + (linear.square() + 2 * constant * square) * all_[2]
        + 2 * linear * square * all_[3]
        + square.square() * all_[4]
    )
    return of_relu - 2 * with_relu + own


def moments(mean: Tensor, std: Tensor) -> list[Tensor]:
    """E x⁰ to E x⁴."""
    found = [torch.ones_like(mean), mean]
    for power in (2, 3, 4):
        found.append(mean * found[-1] + (power - 1) * std.square() * found[-2])
    return found


def half_moments(mean: Tensor, std: Tensor) -> list[Tensor]:
    """E x⁰[x > 0] to E x³[x > 0]; integration by parts gives the same recursion, with a boundary term in the first."""
    a = mean / std
    found = [torch.special.ndtr(a)]
    found.append(mean * found[0] + std * torch.exp(-a.square() / 2) / math.sqrt(2 * math.pi))
    for power in (2, 3):
        found.append(mean * found[-1] + (power - 1) * std.square() * found[-2])
    return found
