"""Two mistakes that are easily made, as growth operators, to show what they do.

Two more need no operator of their own: a router of zeros is ``Upcycle(router_scale=0)``, and copying the last block and
calling it G_stack is ``Deepen(how="copy-last")``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lib.growth.width import Noise, Tiling, Widen, difference, grown_dim
from lib.models.gpt import GPTConfig
from lib.system.checks import require


@dataclass(frozen=True)
class TiedFault(Widen):
    """Widening as if embedding and head were two matrices: the division meant for the head is written into both.

    Copies go into the embedding, then the head's [E, …, E] / n into the same tensor: what enters the first block is n
    times too small.  Raises ValueError for a model whose head is its own.
    """

    def config(self, config: GPTConfig) -> GPTConfig:
        require(config.tied, "the model's head is not tied to its embedding, so this fault cannot happen: use Widen")
        return super().config(config)

    def exact(self, config: GPTConfig) -> bool:
        return False

    def weights(self, config: GPTConfig, tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        grown = super().weights(config, tensors, seed)
        grown["embed.weight"] = grown["embed.weight"] / self.times
        return grown | {name: tensor * self.times for name, tensor in grown.items() if name in ("norm.weight", "norm.bias")}


@dataclass(frozen=True)
class NoiseFault(Tiling):
    """Noise that cancels over the copies of an *output* instead of an input: +N for one row, -N for its copy.

    Nothing sums over rows, so every activation is off by N x.  As in :class:`~lib.growth.width.Noise`, ``db`` is the
    ratio of signal to noise of a tensor.
    """

    db: float = 20.0

    def exact(self, config: GPTConfig) -> bool:
        return self.times == 1

    def weights(self, config: GPTConfig, tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        grown = super().weights(config, tensors, seed)
        for name, tensor in grown.items():
            rows = grown_dim(name, config, "out")
            if tensor.ndim >= 2 and rows is not None and grown_dim(name, config, "in") is not None:
                size = Noise(self.db).spread(tensor, self.times)
                grown[name] = tensor + size * difference(tensor, rows, self.times, seed, name)
        return grown
