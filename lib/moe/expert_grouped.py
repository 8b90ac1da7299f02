"""Experts as grouped matrix products: one product per expert, of as many rows as it has, in one call.

The forward pass is two grouped products, the backward pass four: two for the gradients of the rows, two
for those of the weights.  Autograd would choose the same ones.  They are written out because of the
biases, which ``grouped_mm`` does not take: left to autograd, the gradient of ``b[expert_of_row]`` is a
scatter-add of all rows, slow on a CPU and unordered on a GPU.  Biases that want no gradient get none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


def swiglu(pre: Tensor) -> Tensor:
    """silu(gate) · up for ``pre`` [..., 2H] = gate, up: [..., H] (Shazeer, arXiv 2002.05202, equation 6)."""
    gate, up = pre.chunk(2, dim=-1)
    return F.silu(gate) * up


def swiglu_backward(grad: Tensor, pre: Tensor) -> Tensor:
    """Gradient [..., 2H] of ``pre``, for the gradient [..., H] of what :func:`swiglu` made of it."""
    gate, up = pre.chunk(2, dim=-1)
    grad_pre = torch.empty_like(pre)
    grad_gate, grad_up = grad_pre.chunk(2, dim=-1)
    aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
    torch.mul(grad, F.silu(gate), out=grad_up)
    return grad_pre


class GroupedFFN(torch.autograd.Function):
    """y = act(x W_in + b_in) W_out + b_out for rows [S, d] sorted by expert; act is gelu, relu or swiglu.

    ``offs_E``, int32, says where each expert's rows end.  Rows after the last end are not computed: what
    stands in them, in the output and in the gradient, is whatever was in memory, so mask it.
    """

    @staticmethod
    def forward(
        ctx, x_SD: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor, offs_E: Tensor, expert_S: Tensor, activation: str
    ) -> Tensor:
        pre_SP = F.grouped_mm(x_SD, w_in, offs=offs_E).add_(b_in.index_select(0, expert_S))
        match activation:
            case "gelu":
                hidden_SH = F.gelu(pre_SP)
            case "relu":
                hidden_SH = pre_SP.relu()
            case "swiglu":
                hidden_SH = swiglu(pre_SP)
        y_SD = F.grouped_mm(hidden_SH, w_out, offs=offs_E).add_(b_out.index_select(0, expert_S))
        ctx.save_for_backward(x_SD, w_in, w_out, pre_SP, hidden_SH, offs_E)
        ctx.activation = activation
        return y_SD

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_SD: Tensor):
        x_SD, w_in, w_out, pre_SP, hidden_SH, offs_E = ctx.saved_tensors
        _, _, wants_b_in, _, wants_b_out, *_ = ctx.needs_input_grad
        grad_SD = grad_SD.contiguous()  # an expanded gradient has strides that grouped_mm refuses
        grad_w_out = F.grouped_mm(hidden_SH.mT, grad_SD, offs=offs_E)
        grad_b_out = sum_by_expert(grad_SD, offs_E) if wants_b_out else None
        grad_SH = F.grouped_mm(grad_SD, w_out.mT, offs=offs_E)
        match ctx.activation:
            case "gelu":
                grad_SP = aten.gelu_backward.grad_input(grad_SH, pre_SP, grad_input=grad_SH)
            case "relu":
                grad_SP = grad_SH.masked_fill_(pre_SP <= 0, 0)
            case "swiglu":
                grad_SP = swiglu_backward(grad_SH, pre_SP)
        grad_w_in = F.grouped_mm(x_SD.mT, grad_SP, offs=offs_E)
        grad_b_in = sum_by_expert(grad_SP, offs_E) if wants_b_in else None
        grad_x_SD = F.grouped_mm(grad_SP, w_in.mT, offs=offs_E)
        return grad_x_SD, grad_w_in, grad_b_in, grad_w_out, grad_b_out, None, None, None


def sum_by_expert(rows_SD: Tensor, offs_E: Tensor) -> Tensor:
    """Sum of each expert's rows [E, D], as a product with ones: the same sum at every call, on every device.

    Eight columns of ones, of which one is kept, because ``grouped_mm`` wants strides of 16 bytes.
    """
    ones_S8 = rows_SD.new_ones(len(rows_SD), 8)
    return F.grouped_mm(ones_S8.mT, rows_SD, offs=offs_E)[:, 0]
