"""Four ways to run E experts on the tokens that were routed to them, equal in what they compute.

A backend is a function ``(x_TD, expert_TK, gate_TK, weights, activation) -> y_TD`` with

    y_t = Σ_k g_tk · E_{e(t,k)}(x_t),    E_i(x) = act(x W_in,i + b_in,i) W_out,i + b_out,i

where act makes H features of P·H: P is 2 for "swiglu" (Shazeer, arXiv 2002.05202), 1 for the others.
``expert_TK`` is int64, -1 for a dropped assignment, which adds nothing.  All tensors but ``expert_TK`` have
the type of x.  What each backend costs: :mod:`lib.moe.roofline`, and measured :mod:`lib.moe.backend_cost`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.moe.expert_grouped import GroupedFFN, swiglu
from lib.moe.expert_rows import Combine, Dispatch, padded_rows, sorted_rows

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "swiglu": swiglu}


class Weights(NamedTuple):
    """The stacked weights of E experts."""

    w_in: Tensor  # [E, D, P·H]
    b_in: Tensor  # [E, P·H]
    w_out: Tensor  # [E, H, D]
    b_out: Tensor  # [E, D]


def loop(x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, weights: Weights, activation: str) -> Tensor:
    """The reference: one expert after another, each on its own tokens.

    ``unbind``, not ``w_in[e]``: autograd makes the gradient of an index as large as what was indexed, so
    E experts would add up E gradients of full size.  ``unbind``'s gradient is one stack.
    """
    act = ACTIVATIONS[activation]
    rows = sorted_rows(expert_TK, len(weights.w_in))
    ends = [0, *rows.offs_E.tolist()]
    x_SD = Dispatch.apply(x_TD, gate_TK.shape[1], rows)
    y_SD = torch.cat(
        [
            act(x_SD[begin:end] @ w_in + b_in) @ w_out + b_out
            for begin, end, w_in, b_in, w_out, b_out in zip(ends, ends[1:], *(w.unbind(0) for w in weights))
        ]
        + [torch.zeros_like(x_SD[ends[-1] :])]
    )
    return Combine.apply(y_SD, gate_TK, rows)


def einsum(x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, weights: Weights, activation: str) -> Tensor:
    """Every expert on every token, weighted with 0 where it was not chosen: E / K times the work."""
    w_in, b_in, w_out, b_out = weights
    chosen_TKE = expert_TK[..., None] == torch.arange(len(w_in), device=x_TD.device)
    gate_TE = (gate_TK[..., None] * chosen_TKE).sum(1)
    hidden_TEH = ACTIVATIONS[activation](torch.einsum("td,edp->tep", x_TD, w_in) + b_in)
    y_TED = torch.einsum("teh,ehd->ted", hidden_TEH, w_out) + b_out
    return torch.einsum("te,ted->td", gate_TE, y_TED)


def bmm(x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, weights: Weights, activation: str) -> Tensor:
    """One batched product, with every expert's rows padded to the largest load.

    Fewest and largest kernels, but it computes E · max load rows.
    """
    # Whole matrix tiles in 16 bits; and few different shapes, as oneDNN compiles a kernel for each.
    multiple = 32 if x_TD.itemsize == 2 else 1
    rows, capacity = padded_rows(expert_TK, len(weights.w_in), multiple)
    x_SD = Dispatch.apply(x_TD, gate_TK.shape[1], rows)
    y_ECD = batched(x_SD.view(-1, capacity, x_TD.shape[1]), weights, activation)
    return Combine.apply(y_ECD.flatten(0, 1), gate_TK, rows)


def batched(x_ECD: Tensor, weights: Weights, activation: str) -> Tensor:
    """Each expert on its own C rows: [E, C, D] to [E, C, D]."""
    w_in, b_in, w_out, b_out = weights
    hidden_ECH = ACTIVATIONS[activation](torch.baddbmm(b_in[:, None], x_ECD, w_in))
    return torch.baddbmm(b_out[:, None], hidden_ECH, w_out)


def grouped(x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, weights: Weights, activation: str) -> Tensor:
    """``torch.nn.functional.grouped_mm``: no padding, and a GPU is never waited for.

    It has no float64, which goes to :func:`loop`.  Widths whose rows are not multiples of 16 bytes, such
    as d = 300 in bfloat16, are padded with zeros to the next one that is: a copy of all weights.  Each of
    the P parts of ``w_in`` is padded at its own end, so that it stays as wide as the hidden layer.
    """
    if x_TD.dtype == torch.float64:
        return loop(x_TD, expert_TK, gate_TK, weights, activation)
    _, H, D = weights.w_out.shape
    multiple = 16 // x_TD.itemsize
    d, h = -D % multiple, -H % multiple
    if d or h:
        w_in, b_in, w_out, b_out = weights
        w_in = F.pad(w_in.unflatten(2, (-1, H)), (0, h, 0, 0, 0, d)).flatten(2)
        b_in = F.pad(b_in.unflatten(1, (-1, H)), (0, h)).flatten(1)
        weights = Weights(w_in, b_in, F.pad(w_out, (0, d, 0, h)), F.pad(b_out, (0, d)))
        x_TD = F.pad(x_TD, (0, d))
    rows = sorted_rows(expert_TK, len(weights.w_in))
    x_SD = Dispatch.apply(x_TD, gate_TK.shape[1], rows)
    y_SD = GroupedFFN.apply(x_SD, *weights, rows.offs_E, rows.expert_S, activation)
    return Combine.apply(y_SD, gate_TK, rows)[:, :D]


BACKENDS = {"loop": loop, "einsum": einsum, "bmm": bmm, "grouped": grouped}


#: Rows that the padded product may compute per row that is wanted, before it is not worth it.
PADDING = 2


def fastest(expert_TK: Tensor, experts: int, dtype: torch.dtype) -> str:
    """The backend to use for this routing when none is asked for.

    Measured on two cores of a CPU with AMX, 4 to 64 experts of 320 x 1024, 4160 tokens.  In float32 the
    grouped product is the fastest from 8 experts on, and does not depend on how even the loads are.  In 16
    bits products are so short that starting one per expert is what takes time, and a batched product
    starts once; but a collapsed router would have it compute E times the rows, hence the limit.

    Not decided here: on cores that other processes want too, threads wait for each other at the end of
    every product, so that "bmm" is the fastest in float32 as well, unless OMP_NUM_THREADS is 1.
    """
    device = expert_TK.device
    if dtype == torch.float64:
        return "loop"
    if device.type == "cpu" and dtype == torch.float32:
        return "grouped"
    # Compute capability 9.0 and above has a grouped kernel, which never waits for the host; elsewhere
    # grouped_mm loops over the experts.
    if device.type == "cuda" and dtype == torch.bfloat16 and torch.cuda.get_device_capability(device) >= (9, 0):
        return "grouped"
    largest = int((expert_TK.flatten() == torch.arange(experts, device=device)[:, None]).sum(1).max())
    if largest * experts <= PADDING * expert_TK.numel():
        return "bmm"
    return "loop" if device.type == "mps" else "grouped"
