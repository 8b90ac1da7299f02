"""What a growth operator is, and applying several to a model.

larger = grow(model, Widen(2), Deepen(12))
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.growth.moments import Moments
from lib.growth.networks import Config, Network, axes, build, check, sizes
from lib.growth.rates import Factors


@dataclass(frozen=True)
class Growth(ABC):
    """A way to make a larger network out of a smaller one.  Its fields are numbers, strings and frozen dataclasses.

    ``config`` is always the configuration of the smaller model, ``tensors`` its state dict by name.  Draws depend on
    ``seed`` and on a parameter's name only, never on the order or the device.
    """

    @abstractmethod
    def config(self, config: Config) -> Config:
        """The larger model's configuration.  Raises ValueError, saying what to do, where the operator does not apply."""

    @abstractmethod
    def weights(self, config: Config, tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """The larger model's state dict, in the types and on the devices of the smaller one's."""

    @abstractmethod
    def moments(self, config: Config, moments: Moments, seed: int) -> Moments:
        """What AdamW would remember, had it trained the larger model; with the ``seed`` of :meth:`weights`."""

    @abstractmethod
    def exact(self, config: Config) -> bool:
        """Whether the larger model computes the same function by design, in evaluation mode."""

    def source(self, config: Config, name: str) -> str | None:
        """The smaller model's parameter that the larger one's ``name`` is made of; None for a new one."""
        return name

    def rate(self, config: Config, name: str) -> Factors:
        """How the larger model's parameter ``name`` must be trained to move as its source did.

        By the network's table of dimensions, see :mod:`lib.growth.layout`: a dimension that grows n-fold costs the learning
        rate a factor n if it is "in", and the gradient a factor n if it is "out".  Where units have different numbers of
        copies, n is the harmonic mean.
        """
        before, after = sizes(config), sizes(self.config(config))
        rate = gradient = 1.0
        for axis in axes(name, config):
            share = before[axis.kind] / after[axis.kind]
            rate, gradient = (rate * share, gradient) if axis.flow == "in" else (rate, gradient * share)
        return Factors(lr=rate, eps=gradient, weight_decay=1 / rate)


@torch.no_grad()
def grow(model: Network, *growths: Growth, seed: int = 0) -> Network:
    """A new, larger model: the growths applied in order, the i-th (from 0) with seed ``seed + i``.

    It is on the device, in the type and in the mode (training or evaluation) of ``model``, which stays as it is.
    Raises ValueError for a network that no growth knows.
    """
    check(model.config)
    config, tensors = model.config, model.state_dict()
    for place, growth in enumerate(growths):
        grown = growth.config(config)
        tensors = growth.weights(config, tensors, seed + place)
        config = grown
    with torch.random.fork_rng(devices=[]):  # its first weights are thrown away: they shall not cost the caller draws
        larger = build(config)
    larger.to(model.embed.weight).load_state_dict(tensors)
    return larger.train(model.training)


@torch.no_grad()
def grow_moments(config: Config, moments: Moments, *growths: Growth, seed: int = 0) -> Moments:
    """The moments of the model that :func:`grow` makes from one of ``config``, with the same ``seed``."""
    for place, growth in enumerate(growths):
        moments = growth.moments(config, moments, seed + place)
        config = growth.config(config)
    return moments


def generator(seed: int, name: str) -> torch.Generator:
    """Random numbers of the CPU that belong to ``name``: the same on every device and in every order."""
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7]))


def normal_like(tensor: Tensor, seed: int, name: str) -> Tensor:
    """Standard normal numbers of the tensor's shape and type, drawn on the CPU."""
    return torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator(seed, name)).to(tensor.device)
