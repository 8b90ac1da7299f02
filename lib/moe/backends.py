"""Four ways to run E experts on the tokens that were routed to them, equal in what they compute.

A backend is a function ``(x_TD, expert_TK, gate_TK, weights, activation) -> y_TD`` with

    y_t = Σ_k g_tk · E_{e(t,k)}(x_t),    E_i(x) = act(x W_in,i + b_in,i) W_out,i + b_out,i

``expert_TK`` int64, -1 for a dropped assignment, which contributes exactly 0; ``weights`` the stacked
W_in [E, D, H], b_in [E, H], W_out [E, H, D], b_out [E, D], in the type of x.  What each one costs:
:mod:`lib.moe.roofline`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.moe.expert_memory import keep_freed_memory
from lib.moe.expert_padded import PaddedFFN
from lib.moe.expert_rows import Combine, Dispatch, padded_rows, sorted_rows

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


class Weights(NamedTuple):
    """The stacked weights of E experts."""

    w_in: Tensor   # [E, D, H]
    b_in: Tensor   # [E, H]
    w_out: Tensor  # [E, H, D]
    b_out: Tensor  # [E, D]


def loop(x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, weights: Weights, activation: str) -> Tensor:
    """The reference: one expert after another, each on its tokens.

    ``unbind``, not ``w_in[e]``: autograd makes the gradient of an index as large as what was indexed, so
    that E experts would sum E full-size gradients.  ``unbind``'s is one stack.
    """
    rows = sorted_rows(expert_TK, len(weights.w_in))
    ends = [0, *rows.offs_E.tolist()]
    x_ND = Dispatch.apply(x_TD, gate_TK.shape[1], rows)
    y_ND = torch.cat([
        ACTIVATIONS[activation](x_ND[begin:end] @ w_in + b_in) @ w_out + b_out
        for begin, end, w_in, b_in, w_out, b_out in zip(ends, ends[1:], *(w.unbind(0) for w in weights))
    ] + [x_ND.new_zeros(len(x_ND) - ends[-1], x_ND.shape[1])])
    return Combine.apply(y_ND, gate_TK, rows)


def einsum(x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, weights: Weights, activation: str) -> Tensor:
    """Every expert on every token, then the chosen outputs: the formula as it stands, at E / K times the cost."""
    w_in, b_in, w_out, b_out = weights
    chosen_TKE = expert_TK[..., None] == torch.arange(len(w_in), device=x_TD.device)
    gate_TE = (gate_TK[..., None] * chosen_TKE).sum(1)
    hidden_TEH = ACTIVATIONS[activation](torch.einsum("td,edh->teh", x_TD, w_in) + b_in)
    y_TED = torch.einsum("teh,ehd->ted", hidden_TEH, w_out) + b_out
    return torch.einsum("te,ted->td", gate_TE, y_TED)


def bmm(x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, weights: Weights, activation: str) -> Tensor:
    """Batched products: each expert's tokens padded to a common number of rows (:mod:`lib.moe.expert_padded`)."""
    E = len(weights.w_in)
    rows, capacities = padded_rows(expert_TK, E, chunk_of(E, x_TD.device), row_multiple(x_TD))
    x_SD = Dispatch.apply(x_TD, gate_TK.shape[1], rows)
    y_SD = padded_ffn(x_SD, weights, capacities, activation)
    return Combine.apply(y_SD, gate_TK, rows)
