"""What an established library makes of a network: torchao's weights of 8 and 4 bits.

torchao quantizes linear layers only, so convolutions are first written as one (:func:`unfolded`): the same numbers, and each
filter a row.  It keeps every weight, zeros included: where most are zero, 8 or 4 bits each are many.
It is an optional extra: ``pip install torchao``.
"""

from __future__ import annotations

import copy
import importlib.util
import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.quantization.fold import baked, replace_module
from lib.runs.results import Unavailable
from lib.system.checks import require

#: Weights that share a scale: a whole row at 8 bits, so many at 4.
GROUP = 32

MISSING = "torchao is not installed: `pip install torchao`, and run this again"


class UnfoldedConv(nn.Module):
    """A convolution as im2col and a linear layer: [B, I, H, W] → columns [B, H'W', I·kh·kw] → [B, O, H', W']."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        require(
            conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros",
            "only convolutions without groups and dilation, padded by zeros, can be unfolded",
        )
        self.kernel, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding
        self.linear = nn.Linear(conv.weight[0].numel(), conv.out_channels, bias=conv.bias is not None)
        self.linear.weight = nn.Parameter(conv.weight.detach().flatten(1).clone())
        if conv.bias is not None:
            self.linear.bias = nn.Parameter(conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(x, self.kernel, padding=self.padding, stride=self.stride).transpose(1, 2)
        high, wide = (
            (size + 2 * pad - kernel) // stride + 1
            for size, pad, kernel, stride in zip(x.shape[2:], self.padding, self.kernel, self.stride)
        )
        return self.linear(columns).transpose(1, 2).unflatten(2, (high, wide))


def unfolded(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose convolutions are linear layers; masks become plain zeros."""
    model = baked(copy.deepcopy(model)).eval()
    for name, conv in [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]:
        replace_module(model, name, UnfoldedConv(conv))
    return model


def quantized(model: nn.Module, bits: int) -> nn.Module:
    """A copy of the network with torchao's weights of 8 bits, one scale per row, or of 4, one scale per :data:`GROUP`
    weights of a row (per row, where rows do not divide by it); activations stay 32 bits.

    Raises ValueError for other bits, and :class:`lib.runs.results.Unavailable` where torchao is not installed.
    """
    require(bits in (4, 8), f"bits is {bits}: torchao's weights have 4 or 8")
    if importlib.util.find_spec("torchao") is None:
        raise Unavailable(MISSING)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torchao registers what torch 2.15 knows itself
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    model = unfolded(model)
    if bits == 8:
        quantize_(model, Int8WeightOnlyConfig())
        return model
    for per_group in (True, False):
        granularity = PerGroup(GROUP) if per_group else PerAxis(0)
        quantize_(
            model,
            IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=granularity),
            lambda module, name: isinstance(module, nn.Linear) and (module.in_features % GROUP == 0) == per_group,
        )
    return model


def stored_bytes(model: nn.Module, bits: int) -> int:
    """Bytes of a network that :func:`quantized` gave: its integers at ``bits`` each, and all other numbers as they are.

    Computed: torchao holds 4-bit integers in a byte each on machines without kernels for them.
    """
    total = 0
    for tensor in model.state_dict().values():
        names = (*getattr(tensor, "tensor_data_names", ()), *getattr(tensor, "optional_tensor_data_names", ()))
        parts = [part for name in names if (part := getattr(tensor, name)) is not None]
        for part in parts or [tensor]:
            spent = bits if parts and part is parts[0] else 8 * part.element_size()
            total += (part.numel() * spent + 7) // 8
    return total
