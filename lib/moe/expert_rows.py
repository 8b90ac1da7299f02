"""Taking tokens to their experts and back, without atomics: each assignment has its own row.

T tokens with K assignments each make N = T·K assignments; assignment n belongs to token n // K.  Experts
work on S rows, sorted by expert.  Both directions are plain gathers, forward and backward, because we
know the inverse: what autograd makes of ``x[rows]`` is a scatter-add, which is slow on a CPU and, on a
GPU, adds in another order at every call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Rows:
    """Which row each assignment has, and which assignment each row has.

    ``row_N``         row of an assignment; any valid row where it was dropped
    ``dropped_N``     True where an assignment was dropped
    ``assignment_S``  assignment of a row; any valid one where the row is empty
    ``empty_S``       True where a row belongs to nobody: padding, or a dropped assignment
    """

    row_N: Tensor
    dropped_N: Tensor
    assignment_S: Tensor
    empty_S: Tensor


@dataclass(frozen=True)
class SortedRows(Rows):
    """One row per assignment, sorted by expert, the dropped ones at the end.

    ``offs_E``    int32: where each expert's rows end
    ``expert_S``  the expert of each row, E - 1 for the dropped ones
    """

    offs_E: Tensor
    expert_S: Tensor


def sorted_rows(expert_TK: Tensor, experts: int) -> SortedRows:
    """Rows without padding.  An expert keeps its tokens in their order.

    The ends are found by search in the sorted list: unlike ``bincount``, that needs no word from a GPU
    to the host.
    """
    expert_N = expert_TK.flatten()
    dropped_N = expert_N < 0
    expert_S, assignment_S = torch.where(dropped_N, experts, expert_N).sort(stable=True)
    every_E = torch.arange(experts, device=expert_N.device)
    offs_E = torch.searchsorted(expert_S, every_E, right=True, out_int32=True)
    row_N = torch.empty_like(assignment_S)
    row_N.scatter_(0, assignment_S, torch.arange(len(row_N), device=row_N.device))
    return SortedRows(row_N, dropped_N, assignment_S, expert_S == experts, offs_E, expert_S.clamp(max=experts - 1))


def padded_rows(expert_TK: Tensor, experts: int, multiple: int) -> tuple[Rows, int]:
    """Rows [E · C] in which every expert has the same capacity C; and C.

    C is the largest load, at least 1, rounded up to a ``multiple``: nothing is dropped here.  Reading the
    largest load makes the host wait for a GPU, the one wait of this way of working.
    """
    rows = sorted_rows(expert_TK, experts)
    start_E = F.pad(rows.offs_E, (1, -1))
    capacity = -(-max(1, int((rows.offs_E - start_E).max())) // multiple) * multiple
    size, N = experts * capacity, expert_TK.numel()

    expert_N = expert_TK.flatten()
    row_N = rows.row_N + expert_N * capacity - start_E[expert_N]
    row_N = torch.where(rows.dropped_N, size, row_N)  # one row more, for those that need none
    assignment_S = row_N.new_zeros(size + 1).scatter_(0, row_N, torch.arange(N, device=row_N.device))
    empty_S = torch.ones(size + 1, dtype=torch.bool, device=row_N.device).scatter_(0, row_N, False)
    return Rows(row_N.clamp_(max=size - 1), rows.dropped_N, assignment_S[:size], empty_S[:size]), capacity


def _take(rows_SD: Tensor, rows: Rows) -> Tensor:
    """The row of each assignment [N, D]; zero, whatever that row holds, where it was dropped."""
    return rows_SD.index_select(0, rows.row_N).masked_fill_(rows.dropped_N[:, None], 0)


class Dispatch(torch.autograd.Function):
    """Tokens [T, D] to rows [S, D].  Empty rows hold some token, so that they stay finite."""

    @staticmethod
    def forward(ctx, x_TD: Tensor, K: int, rows: Rows) -> Tensor:
        ctx.rows, ctx.K = rows, K
        return x_TD.index_select(0, rows.assignment_S // K)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_SD: Tensor):
        grad_ND = _take(grad_SD, ctx.rows)
        if ctx.K > 1:
            grad_ND = grad_ND.unflatten(0, (-1, ctx.K)).sum(1)
        return grad_ND, None, None


class Combine(torch.autograd.Function):
    """Rows [S, D] and gates [T, K] to tokens [T, D]: y_t = Σ_k g_tk · row(t, k).  Empty rows get gradient 0."""

    @staticmethod
    def forward(ctx, y_SD: Tensor, gate_TK: Tensor, rows: Rows) -> Tensor:
        T, K = gate_TK.shape
        y_TKD = _take(y_SD, rows).unflatten(0, (T, K))
        ctx.save_for_backward(y_TKD, gate_TK)
        ctx.rows = rows
        return (y_TKD * gate_TK[..., None]).sum(1) if K > 1 else y_TKD[:, 0] * gate_TK

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_TD: Tensor):
        y_TKD, gate_TK = ctx.saved_tensors
        rows, K = ctx.rows, gate_TK.shape[1]
        gate_S = gate_TK.flatten().index_select(0, rows.assignment_S).masked_fill_(rows.empty_S, 0)
        grad_SD = grad_TD.index_select(0, rows.assignment_S // K).mul_(gate_S[:, None])
        return grad_SD, (y_TKD * grad_TD[:, None]).sum(-1), None
