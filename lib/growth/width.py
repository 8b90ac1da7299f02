"""Wider by a whole factor: every unit becomes n copies, which are then made to differ without changing the function.

HyperCloning (Samragh et al., arXiv 2409.12903) with its cancelling noise, and LEMON (Wang et al., arXiv 2310.07999),
whose copies share a weight unequally.  A network of equal copies keeps them equal while it trains: it has the small one's
capacity only.  So how they are told apart is a choice of its own, the ``symmetry``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from lib.growth.copies import Copies, Copying, tiled
from lib.growth.growth import normal_like
from lib.growth.networks import Config, axes
from lib.system.checks import require


@dataclass(frozen=True)
class Even:
    """Equal copies, W' = [W, …, W] / n."""


@dataclass(frozen=True)
class Noise:
    """Noise that sums to zero over the copies of an input: +N and -N for two (HyperCloning's noisy symmetric expansion).

    ``db``: signal to noise, 20 log10(rms W' / rms noise), of each grown tensor by itself; HyperCloning used 10 dB.  From
    -3 dB down the noise is most of the tensor, and what rounding leaves of it grows from layer to layer.
    """

    db: float = 0.0

    def spread(self, grown: Tensor, times: int) -> Tensor:
        """The standard deviation of what is added to the ``times`` copies in ``grown``."""
        return grown.square().mean().sqrt() * 10 ** (-self.db / 20)


@dataclass(frozen=True)
class Uneven:
    """Unequal shares, W' = [W ⊙ A, W ⊙ (1 - A)] with A = 1/2 + α·N(0, 1): LEMON's α + β = 1, entry by entry.

    For other n the shares are 1/n + α·z, z normal with variance 1 and sum 0 over the copies: our choice.  As noise this
    is -20 log10(n·α) dB: α = 1/2 for two copies corresponds to 0 dB, α = 1 to -6 dB.
    """

    alpha: float = 1.0

    def spread(self, grown: Tensor, times: int) -> Tensor:
        """The standard deviation of what is added to the ``times`` copies in ``grown``, entry by entry."""
        return self.alpha * times * grown


@dataclass(frozen=True)
class Tiling(Copying):
    """Width, heads, key-value heads and FFNs ``times`` as large, by equal copies; the size of a head stays."""

    times: int = 2

    def __post_init__(self) -> None:
        require(self.times >= 1, f"times is {self.times}: a network can become 1, 2, 3, ... times as wide")

    def config(self, config: Config) -> Config:
        counts = {name: getattr(config, name, None) for name in ("width", "heads", "kv_heads", "hidden")}
        return replace(config, **{name: self.times * count for name, count in counts.items() if count is not None})

    def exact(self, config: Config) -> bool:
        return True

    def copies(self, config: Config, name: str, seed: int) -> Callable[[str, int], Copies | None]:
        return lambda kind, size: None if kind == "fixed" else tiled(size, self.times)


@dataclass(frozen=True)
class Widen(Tiling):
    """HyperCloning: everything ``times`` as wide, copies told apart by ``symmetry``.  The function is kept for each of them.

    ``symmetry`` applies to weights (not to vectors) that read copies.  Moments are those of even copies, also where
    weights are not: no gradients of uneven ones were ever seen (our choice).
    """

    symmetry: Even | Noise | Uneven = Even()

    def weights(self, config: Config, tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        grown = super().weights(config, tensors, seed)
        if isinstance(self.symmetry, Even):
            return grown
        for name, tensor in grown.items():
            dim = grown_dim(name, config, "in")
            if tensor.ndim >= 2 and dim is not None:
                size = self.symmetry.spread(tensor, self.times)
                grown[name] = tensor + size * difference(tensor, dim, self.times, seed, name)
        return grown


def grown_dim(name: str, config: Config, flow: str) -> int | None:
    """The dimension of a parameter that grows and has this ``flow``; None if there is none."""
    return next((dim for dim, axis in enumerate(axes(name, config)) if axis.kind != "fixed" and axis.flow == flow), None)


def difference(tensor: Tensor, dim: int, times: int, seed: int, name: str) -> Tensor:
    """Normal numbers of the tensor's shape, variance 1, that sum to 0 over the ``times`` copies along ``dim``.

    Deviations of independent numbers from their mean over the copies; +z and -z for two of them.
    """
    if times == 1:
        return tensor.new_zeros(())
    drawn = normal_like(tensor, seed, name).unflatten(dim, (times, -1))
    return (drawn - drawn.mean(dim, keepdim=True)).flatten(dim, dim + 1) * math.sqrt(times / (times - 1))
