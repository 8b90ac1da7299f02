"""Convolutions that multiply 8-bit integers: what makes a quantized network faster, and not only smaller.

    scales = input_ranges(model, inputs)                 # what each convolution reads, from a few hundred images
    fast = with_int8_convolutions(model, scales)         # x → uint8, 8-bit products, fp32 out

Weights are rounded to 255 even steps for each layer, as :func:`lib.quantization.even.rounded` does, inputs to 256 between
their smallest and largest value on the images of the calibration (Jacob et al. 2018, arXiv 1712.05877, without their
training).  Products are summed in 32 bits.  On a CPU by oneDNN, which is fast where it has instructions for it (VNNI).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lib.quantization.fold import replace_module
from lib.runs.results import Unavailable
from lib.system.checks import require

#: Smallest and largest value that a layer reads.
Range = tuple[float, float]


class Int8Conv2d(nn.Module):
    """A convolution [B, I, H, W] → [B, O, H', W'] by products of 8-bit integers; fp32 goes in and comes out.

    Raises :class:`lib.runs.results.Unavailable` where torch has no such product.
    """

    def __init__(self, conv: nn.Conv2d, within: Range):
        super().__init__()
        require(conv.bias is None and conv.padding_mode == "zeros", "only convolutions without bias, padded by zeros, can be converted")
        if not hasattr(torch.ops.onednn, "qconv_pointwise"):
            raise Unavailable("this torch has no 8-bit convolutions: they need a build for CPUs with oneDNN")
        low, high = min(within[0], 0.0), max(within[1], 0.0)  # a padding of zeros needs a code that is 0
        self.step = max(high - low, 1e-12) / 255
        self.zero = round(-low / self.step)
        weight = conv.weight.detach()
        scale = max(float(weight.abs().max()), 1e-12) / 127
        codes = (weight / scale).round().to(torch.int8)
        self.places = list(conv.stride), list(conv.padding), list(conv.dilation)
        self.groups = conv.groups
        self.register_buffer("scales", torch.full((conv.out_channels,), scale))
        self.register_buffer("zeros", torch.zeros(conv.out_channels, dtype=torch.int32))
        # No buffer: oneDNN's own layout has no copies in other types and memory formats.
        self.packed = torch.ops.onednn.qconv_prepack(codes, self.scales, self.step, self.zero, *self.places, self.groups, None)

    def forward(self, x: Tensor) -> Tensor:
        # Half a step more and rounded down: to the nearest, in one pass less.
        codes = x.mul(1 / self.step).add_(self.zero + 0.5).clamp_(0, 255).to(torch.uint8)
        return torch.ops.onednn.qconv_pointwise(
            codes,
            self.step,
            self.zero,
            self.packed,
            self.scales,
            self.zeros,
            None,
            *self.places,
            self.groups,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )


@torch.no_grad()
def input_ranges(model: nn.Module, inputs: Tensor, ignored: tuple[str, ...] = ()) -> dict[str, Range]:
    """Return the smallest and largest value that each convolution reads when the network is given ``inputs`` [N, C, H, W]."""
    found: dict[str, Range] = {}

    def note(name: str):
        def hook(module, read) -> None:
            found[name] = float(read[0].min()), float(read[0].max())

        return hook

    hooks = [
        layer.register_forward_pre_hook(note(name))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) and name not in ignored
    ]
    model.eval()(inputs)
    for hook in hooks:
        hook.remove()
    return found


def with_int8_convolutions(model: nn.Module, ranges: Mapping[str, Range]) -> nn.Module:
    """Return a copy in evaluation mode, on the CPU, whose named convolutions multiply 8-bit integers."""
    model = copy.deepcopy(model).cpu().eval()
    for name, within in ranges.items():
        replace_module(model, name, Int8Conv2d(model.get_submodule(name), within))
    return model
