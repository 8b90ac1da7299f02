"""Batch norm, when it does not learn any more, is part of the convolution before it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from lib.models.resnet import ResNet


@torch.no_grad()
def folded(model: ResNet) -> ResNet:
    """A copy in which each convolution has its batch norm's scale in its weight and its shift as a bias.

    It computes what the model computes in evaluation mode.  ``model`` stays as it is.
    """
    model = copy.deepcopy(model).eval()
    pairs = [(model, "conv", "bn")] + [(block, f"conv{n}", f"bn{n}") for block in model.blocks for n in (1, 2)]
    pairs += [(block.shortcut, "0", "1") for block in model.blocks if isinstance(block.shortcut, nn.Sequential)]
    for owner, conv, norm in pairs:
        setattr(owner, conv, merged(getattr(owner, conv), getattr(owner, norm)))
        setattr(owner, norm, nn.Identity())
    return model


def merged(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    found = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        bias=True,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    found.weight.copy_(conv.weight * scale[:, None, None, None])
    found.bias.copy_(norm.bias - norm.running_mean * scale)
    return found
