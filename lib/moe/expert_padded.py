"""Experts as batched matrix products over padded rows, with a backward pass written out.

The forward pass is two batched products, the backward pass four: two for the gradients of the rows, two
for those of the weights.  Autograd would do the same.  Written out, each weight gradient goes straight
into its buffer [E, d, h], also when the experts are worked off in chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


class PaddedFFN(torch.autograd.Function):
    """y = act(x W_in + b_in) W_out + b_out, row by row: rows [S, d] to rows [S, d].

    Rows are sorted by expert.  Experts come in chunks of ``chunk`` neighbours (the last one may be
    smaller), and ``capacities[i]`` rows belong to each expert of chunk i.
    """

    @staticmethod
    def forward(ctx, x_SD: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor,
                capacities: Sequence[int], chunk: int, activation: str) -> Tensor:
        y_SD = torch.empty_like(x_SD)
        pre_SH = x_SD.new_empty(len(x_SD), w_in.shape[2])
        hidden_SH = torch.empty_like(pre_SH)
        for e, x, pre, hidden, y in chunks(len(w_in), chunk, capacities, x_SD, pre_SH, hidden_SH, y_SD):
            torch.baddbmm(b_in[e, None], x, w_in[e], out=pre)
            activate(pre, activation, out=hidden)
            torch.baddbmm(b_out[e, None], hidden, w_out[e], out=y)
        ctx.save_for_backward(x_SD, w_in, w_out, pre_SH, hidden_SH)
        ctx.chunks, ctx.activation = (len(w_in), chunk, capacities), activation
        return y_SD

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_SD: Tensor):
        x_SD, w_in, w_out, pre_SH, hidden_SH = ctx.saved_tensors
        E, D, H = w_in.shape
        grad_x_SD, grad_pre_SH = torch.empty_like(x_SD), torch.empty_like(pre_SH)
        grad_w_in, grad_w_out = torch.empty_like(w_in), torch.empty_like(w_out)
        grad_b_in, grad_b_out = w_in.new_empty(E, H), w_in.new_empty(E, D)
        rows = (x_SD, pre_SH, hidden_SH, grad_SD.contiguous(), grad_pre_SH, grad_x_SD)
        for e, x, pre, hidden, grad, grad_pre, grad_x in chunks(*ctx.chunks, *rows):
            torch.bmm(hidden.mT, grad, out=grad_w_out[e])
            torch.sum(grad, 1, out=grad_b_out[e])
            torch.bmm(grad, w_out[e].mT, out=grad_pre)
            activation_backward(grad_pre, pre, ctx.activation)
            torch.bmm(x.mT, grad_pre, out=grad_w_in[e])
            torch.sum(grad_pre, 1, out=grad_b_in[e])
            torch.bmm(grad_pre, w_in[e].mT, out=grad_x)
        return grad_x_SD, grad_w_in, grad_b_in, grad_w_out, grad_b_out, None, None, None


def chunks(E: int, chunk: int, capacities: Sequence[int], *rows: Tensor):
    """For each chunk: its slice of the E experts, and of each of ``rows`` [S, ·] a view [experts, capacity, ·]."""
    row = 0
    for first, capacity in zip(range(0, E, chunk), capacities, strict=True):
        experts = min(chunk, E - first)
        size = experts * capacity
        yield slice(first, first + experts), *(t[row:row + size].view(experts, capacity, -1) for t in rows)
        row += size


def activate(pre: Tensor, activation: str, out: Tensor) -> None:
    """out ← act(pre)"""
    aten.gelu.out(pre, out=out) if activation == "gelu" else torch.clamp(pre, min=0, out=out)


def activation_backward(grad: Tensor, pre: Tensor, activation: str) -> None:
    """grad ← grad · act'(pre)"""
    if activation == "gelu":
        aten.gelu_backward.grad_input(grad, pre, grad_input=grad)
    else:
        aten.threshold_backward.grad_input(grad, pre, 0, grad_input=grad)
