"""Taking tokens to their experts and back, without atomics: each assignment has its own row.

T tokens with K assignments each make N = T·K assignments; assignment n belongs to token n // K.  Experts
work on S rows, sorted by expert.  Both directions are plain gathers, forward and backward, because we
know the inverse: what autograd makes of ``x[rows]`` is a scatter-add, which is slow on a CPU and, on a
GPU, adds in another order at every call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Rows:
    """Which row each assignment has, and which assignment each row has.

    ``row_N``         row of an assignment; any valid row where it was dropped
    ``dropped_N``     True where an assignment was dropped
    ``assignment_S``  assignment of a row; any valid one where the row is empty
    ``empty_S``       True where a row belongs to nobody: padding, or a dropped assignment
    ``offs_E``        int32, without padding only: where each expert's rows end
    """

    row_N: Tensor
    dropped_N: Tensor
    assignment_S: Tensor
    empty_S: Tensor
    offs_E: Tensor


def sort_by_expert(expert_TK: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Order of the N assignments by expert, dropped ones last; the sorted experts; where each one's rows end.

    Stable, so an expert keeps its tokens in their order.  Dropped assignments count as expert E.  Ends are
    found by search in the sorted list: unlike ``bincount``, that needs no word from a GPU to the host.
    """
    expert_N = expert_TK.flatten()
    sorted_N, order_N = torch.where(expert_N < 0, experts, expert_N).sort(stable=True)
    offs_E = torch.searchsorted(sorted_N, torch.arange(experts, device=expert_N.device), right=True, out_int32=True)
    return order_N, sorted_N, offs_E


def sorted_rows(expert_TK: Tensor, experts: int) -> Rows:
    """Rows without padding: N of them, sorted by expert, the dropped ones at the end."""
    order_N, sorted_N, offs_E = sort_by_expert(expert_TK, experts)
    row_N = torch.empty_like(order_N).scatter_(0, order_N, torch.arange(len(order_N), device=order_N.device))
    return Rows(row_N, (expert_TK < 0).flatten(), order_N, sorted_N == experts, offs_E)


def padded_rows(expert_TK: Tensor, experts: int, chunk: int, multiple: int) -> tuple[Rows, list[int]]:
    """Rows in which every expert has a capacity, the same for ``chunk`` neighbours; and these capacities.

    A chunk's capacity is the largest load in it, at least 1, rounded up to a ``multiple``.  Reading the
    loads makes the host wait for a GPU: the one wait of this backend.
    """
    order_N, sorted_N, offs_E = sort_by_expert(expert_TK, experts)
    offs_E = offs_E.long()
    start_E = torch.cat([offs_E.new_zeros(1), offs_E[:-1]])
    load_E = (offs_E - start_E).tolist()
    capacities = [-(-max(1, *load_E[e:e + chunk]) // multiple) * multiple for e in range(0, experts, chunk)]

    ends, end = [], 0
    for e in range(experts):
        end += capacities[e // chunk]
        ends.append(end)
    # Expert E, the dropped ones, begins where the rows end: its first row collects what nobody needs.
    first = torch.tensor([0, *ends], device=offs_E.device)
    shift = first - torch.cat([start_E, offs_E[-1:]])
    rank_N = torch.arange(len(order_N), device=order_N.device) + shift[sorted_N]
    row_N = torch.empty_like(order_N).scatter_(0, order_N, rank_N.clamp_(max=end))

    assignment_S = row_N.new_zeros(end + 1).scatter_(0, row_N, torch.arange(len(row_N), device=row_N.device))
    empty_S = torch.ones(end + 1, dtype=torch.bool, device=row_N.device).scatter_(0, row_N, False)
    dropped_N = (expert_TK < 0).flatten()
    return Rows(row_N.clamp(max=end - 1), dropped_N, assignment_S[:end], empty_S[:end], offs_E.int()), capacities


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
            grad_ND = grad_ND.view(-1, ctx.K, grad_ND.shape[1]).sum(1)
        return grad_ND, None, None


class Combine(torch.autograd.Function):
    """Rows [S, D] and gates [T, K] to tokens [T, D]: y_t = Σ_k g_tk · row(t, k).  Empty rows get gradient 0."""

    @staticmethod
    def forward(ctx, y_SD: Tensor, gate_TK: Tensor, rows: Rows) -> Tensor:
        T, K = gate_TK.shape
        y_TKD = _take(y_SD, rows).view(T, K, -1)
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
