"""Sparse forms for inference: layers whose zeros are not stored and, with luck, not multiplied.

    fast = sparse(model, "csr")   # a copy; "bsr" for blocks, "groups" for rows alike, "2:4" on NVIDIA GPUs

A convolution becomes a product of its sparse matrix [O, I · kh · kw] with the image's patches laid out as columns.  Whether
that pays depends on the share of zeros and on the machine: the pruning chapter measures it.
"""

from __future__ import annotations

import copy
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.pruning.mask import bake, layers
from lib.system.checks import one_of, require

LAYOUTS = ("csr", "bsr", "groups", "2:4")


def sparse(model: nn.Module, layout: str, block: int = 16) -> nn.Module:
    """A copy of ``model``, masked or baked, in evaluation mode, with its linear layers and convolutions in sparse form.

    csr: compressed rows.  bsr: compressed rows of ``block`` × ``block`` tiles.  groups: rows with the same columns, as
    :func:`lib.pruning.coarsen.regroup` makes them, share a dense product over these columns.  2:4: two of each four
    neighbours, for tensor cores, in half precision.  A layer that does not fit (it has no zeros to group; its sides are no
    multiples of the block; for 2:4, of 32 and 64, or more than two of four survive) stays dense.

    Raises ValueError for an unknown layout, for "2:4" without a GPU that has it, and for grouped or dilated convolutions.
    """
    one_of("layout", layout, LAYOUTS)
    small = bake(copy.deepcopy(model)).eval()
    if layout == "2:4":
        check_semi_structured(next(small.parameters()).device)
        small.half()
    for name, layer in layers(small).items():
        if fits(layer, layout, block):
            small.set_submodule(name, (SparseConv2d if isinstance(layer, nn.Conv2d) else SparseLinear)(layer, layout, block))
    return small


def check_semi_structured(device: torch.device) -> None:
    """Raise ValueError, saying why, where 2:4 sparse products cannot be had."""
    require(
        device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0),
        f"2:4 sparsity needs an NVIDIA GPU of the Ampere generation or later, not {device.type}: use 'csr' or 'bsr'",
    )


def fits(layer: nn.Module, layout: str, block: int) -> bool:
    """Whether the layer can have this form."""
    if isinstance(layer, nn.Conv2d):
        require(
            layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros",
            "only convolutions of one group, without dilation, padded by zeros, have a sparse form",
        )
    weight = matrix(layer, layout)
    rows, columns = weight.shape
    if layout == "csr":
        return True
    if layout == "groups":
        return bool((weight == 0).any())
    if layout == "bsr":
        return rows % block == 0 and columns % block == 0
    half = weight.unflatten(1, (-1, 4)).count_nonzero(-1) <= 2 if columns % 64 == 0 else torch.tensor(False)
    return rows % 32 == 0 and bool(half.all())


def matrix(layer: nn.Module, layout: str) -> Tensor:
    """The weight as [O, I · kh · kw], the order in which :class:`lib.pruning.pieces.Block` has its tiles.

    For 2:4 as [O, kh · kw · I]: neighbours are neighbouring input channels, as :class:`lib.pruning.structure.NM` has them.
    """
    weight = layer.weight.detach()
    if weight.ndim == 4 and layout == "2:4":
        weight = weight.permute(0, 2, 3, 1)
    return weight.flatten(1)


class Product(nn.Module):
    """A constant matrix [O, K] in a sparse layout, times dense columns [K, N]."""

    def __init__(self, weight: Tensor, layout: str, block: int):
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse .* tensor support is in (beta|prototype)")
            weight = {
                "csr": weight.to_sparse_csr,
                "bsr": lambda: weight.to_sparse_bsr((block, block)),
                "2:4": lambda: torch.sparse.to_sparse_semi_structured(weight.contiguous()),
            }[layout]()
        self.layout = layout
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, columns: Tensor) -> Tensor:
        if self.layout != "2:4":
            return self.weight @ columns
        n = columns.shape[1]  # these products want N in steps of 8
        return (self.weight @ F.pad(columns, (0, -n % 8)).contiguous())[:, :n]


class GroupedProduct(nn.Module):
    """A constant matrix [O, K] whose rows with the same columns are one small dense matrix, times dense columns [K, N]."""

    def __init__(self, weight: Tensor):
        super().__init__()
        patterns, group = (weight != 0).unique(dim=0, return_inverse=True)
        self.outputs, self.parts = len(weight), []
        for number, pattern in enumerate(patterns):
            rows, columns = (group == number).nonzero()[:, 0], pattern.nonzero()[:, 0]
            if len(columns):
                self.parts.append((rows, columns, weight[rows][:, columns].contiguous()))

    def forward(self, columns: Tensor) -> Tensor:
        found = columns.new_zeros(self.outputs, columns.shape[1])
        for rows, read, block in self.parts:
            found[rows] = block @ columns[read]
        return found


def product(layer: nn.Module, layout: str, block: int) -> nn.Module:
    weight = matrix(layer, layout)
    return GroupedProduct(weight) if layout == "groups" else Product(weight, layout, block)


def stored(network: nn.Module) -> int:
    """Numbers that a network keeps: parameters, and the values and biases of its sparse layers, without their positions."""
    found = sum(p.numel() for p in network.parameters())
    for module in network.modules():
        if isinstance(module, Product):
            found += int(module.weight.values().numel())
        elif isinstance(module, GroupedProduct):
            found += sum(block.numel() for _, _, block in module.parts)
        elif isinstance(module, SparseLinear | SparseConv2d) and module.bias is not None:
            found += module.bias.numel()
    return found


class SparseLinear(nn.Module):
    """y = W x + b with a sparse W [O, I]; inputs [..., I]."""

    def __init__(self, layer: nn.Linear, layout: str, block: int):
        super().__init__()
        self.product, self.dtype = product(layer, layout, block), layer.weight.dtype
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x.to(self.dtype).flatten(0, -2).T).T.unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


class SparseConv2d(nn.Module):
    """A convolution as a sparse matrix times patches; inputs [B, I, H, W]."""

    def __init__(self, layer: nn.Conv2d, layout: str, block: int):
        super().__init__()
        self.product, self.dtype = product(layer, layout, block), layer.weight.dtype
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach(), persistent=False)
        self.size, self.stride, self.padding = layer.kernel_size, layer.stride, layer.padding
        self.channels_last = layout == "2:4"

    def forward(self, x: Tensor) -> Tensor:
        patches, sides = columns(x.to(self.dtype), self.size, self.stride, self.padding, self.channels_last)
        y = self.product(patches)
        if self.bias is not None:
            y = y + self.bias[:, None]
        return y.unflatten(1, (len(x), *sides)).transpose(0, 1)


def columns(
    x: Tensor, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], channels_last: bool = False
) -> tuple[Tensor, tuple[int, int]]:
    """Patches of images [B, I, H, W] as [I · kh · kw, B · H' · W'], or [kh · kw · I, ...], and (H', W').  One copy."""
    if padding != (0, 0):
        x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    patches = x.unfold(2, size[0], stride[0]).unfold(3, size[1], stride[1])  # [B, I, H', W', kh, kw]
    order = (4, 5, 1, 0, 2, 3) if channels_last else (1, 4, 5, 0, 2, 3)
    return patches.permute(order).reshape(size[0] * size[1] * x.shape[1], -1), tuple(patches.shape[2:4])
