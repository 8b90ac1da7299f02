"""One FFN that is also several smaller ones: expert e is its first h_e hidden units.

The experts of DynaMoE (arXiv 2502.12325) are such slices of a trained FFN, h_e = (e + 1) / E · h for
e = 0 … E-1; here the widths are free.  So that the first units are the ones that matter, units are put in
order of importance first, which changes no output of the whole FFN.  MatFormer (arXiv 2310.07707) nests FFNs
in the same way but gives all tokens the same size; here each token has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.elastic.reorder import descending, reorder_channels
from lib.moe.ffn import Mlp
from lib.system.checks import one_of

IMPORTANCE = ("activation", "weight")


class NestedMlp(nn.Module):
    """The FFN y_e = Σ_{j < h_e} gelu(w_j · x + b_j) v_j + c of a token whose size is e.

    ``widths``  h_0 < h_1 < … = all hidden units of ``mlp``, whose weights are used as they are

    Raises ValueError for widths that do not grow, or do not end with all units.
    """

    def __init__(self, mlp: Mlp, widths: Sequence[int]):
        super().__init__()
        hidden = mlp.fc1.out_features
        grows = all(small < large for small, large in zip((0, *widths), widths))
        if not widths or not grows or widths[-1] != hidden:
            raise ValueError(f"the widths are {tuple(widths)}: they must grow from at least 1 to the FFN's {hidden} units")
        self.fc1, self.fc2 = mlp.fc1, mlp.fc2
        self.widths = tuple(widths)

    def forward(self, x_TD: Tensor, size_T: Tensor) -> Tensor:
        """Each token through the expert of its size (int64, 0 … E-1), and only through that.

        With tokens in order of falling size, those that use the units from h_{e-1} to h_e are the first n_e:
        E products of n_e rows each, 4 · D · Σ_t h_{size(t)} FLOPs in all.
        """
        order_T = size_T.argsort(descending=True, stable=True)
        x_TD = x_TD[order_T]
        rows_E = [int((size_T >= size).sum()) for size in range(len(self.widths))]
        y_TD = self.fc2.bias + self.chunk(x_TD, 0)
        for size, rows in enumerate(rows_E[1:], start=1):
            y_TD = torch.cat([y_TD[:rows] + self.chunk(x_TD[:rows], size), y_TD[rows:]])
        return torch.empty_like(y_TD).index_copy(0, order_T, y_TD)

    def chunks(self, x_TD: Tensor) -> list[Tensor]:
        """What each size adds to the next smaller one, for all tokens: E times [T, D], the cost of the whole FFN.

        The first e + 1 of them and the bias c make the output of expert e.
        """
        return [self.chunk(x_TD, size) for size in range(len(self.widths))]

    def chunk(self, x_TD: Tensor, size: int) -> Tensor:
        """What the units that expert ``size`` has and the next smaller one has not add to the output."""
        units = slice(self.widths[size - 1] if size else 0, self.widths[size])
        hidden = F.gelu(F.linear(x_TD, self.fc1.weight[units], self.fc1.bias[units]))
        return F.linear(hidden, self.fc2.weight[:, units])


@torch.no_grad()
def importance(mlp: Mlp, x_TD: Tensor, how: str = "activation") -> Tensor:
    """How much each hidden unit matters [h].

    ``"activation"``  mean over the tokens ``x_TD`` of ‖what the unit adds to the output‖₂, which is its mean
                      |activation| times the norm of its outgoing weights
    ``"weight"``      L1 norm of its incoming and outgoing weights, which needs no images.  Once-for-All (arXiv
                      1908.09791) sorts channels by the outgoing ones alone: :func:`lib.elastic.importance.ffn_channels`
    """
    one_of("importance", how, IMPORTANCE)
    if how == "weight":
        return mlp.fc1.weight.abs().sum(1) + mlp.fc2.weight.abs().sum(0)
    return F.gelu(mlp.fc1(x_TD)).abs().mean(0) * mlp.fc2.weight.norm(dim=0)


@torch.no_grad()
def reorder(mlp: Mlp | NestedMlp, importance_H: Tensor) -> None:
    """Put the hidden units in order of falling importance, in place; the FFN stays the same function."""
    reorder_channels(mlp, descending(importance_H))


@torch.no_grad()
def prefix(mlp: Mlp | NestedMlp, width: int) -> Mlp:
    """A new FFN of the first ``width`` hidden units."""
    small = Mlp(mlp.fc1.in_features, width).to(mlp.fc1.weight)
    small.fc1.weight.copy_(mlp.fc1.weight[:width])
    small.fc1.bias.copy_(mlp.fc1.bias[:width])
    small.fc2.weight.copy_(mlp.fc2.weight[:, :width])
    small.fc2.bias.copy_(mlp.fc2.bias)
    return small
