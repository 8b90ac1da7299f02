"""Work that grows along one axis: what is called at each size, and the least that it must compute and move.

Bytes are those at the border of the call, from which no cache can spare it: weights and inputs are read once, outputs are
written once, and what is only in between is left out.  In a training pass each of these tensors has a gradient that crosses
as well, so forward and backward together move twice as many.  FLOPs are those of products; a multiply-add counts 2.
The backward pass of a product is two more of them.  Biases and norms are left out, being small.

For inference, weights are held in the type of the products.  For training they are held in fp32 and cast by autocast.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.measure.roofline import Cost
from lib.models.layers import Attention, Block
from lib.models.softmax_attention import products_are_faster
from lib.moe.ffn import Mlp
from lib.moe.layer import MoEConfig, MoELayer
from lib.pruning.mask import attach
from lib.pruning.sparse import SparseLinear
from lib.quantization.fold import baked
from lib.studies.attention.api import timed_call
from lib.system.checks import require


@dataclass(frozen=True)
class Geometry:
    """Sizes that do not grow: ``batch`` sequences of ``tokens`` tokens; features, hidden units of the FFNs, heads."""

    batch: int = 4
    tokens: int = 64
    width: int = 96
    hidden: int = 384
    heads: int = 4

    def __post_init__(self) -> None:
        require(min(self.batch, self.tokens, self.width, self.hidden, self.heads) >= 1, f"{self}: each must be at least 1")
        require(self.width % self.heads == 0, f"width {self.width} cannot be shared by {self.heads} heads: choose a multiple")

    @property
    def rows(self) -> int:
        """T, all tokens of a batch."""
        return self.batch * self.tokens

    def input(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.randn(self.batch, self.tokens, self.width, device=device, dtype=dtype)


@dataclass(frozen=True)
class Point:
    """One call: what it is (``series``), how much of it (``value``), "forward" or "training", and its least cost."""

    series: str
    value: float
    passes: str
    call: Callable[[], object]
    cost: Cost


def inference_pass(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """Forward of ``model``, whose weights have the type of ``x``."""

    def run() -> Tensor:
        with torch.no_grad():
            return model(x)

    return run


def training_pass(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """Forward and backward of ``model``, whose weights are in fp32, under autocast where ``x`` has 16 bits.

    The gradient of the input is wanted too, as inside a network; old gradients are given up first, as ``zero_grad`` does.
    """
    x = x.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.autocast(x.device.type, dtype=x.dtype, enabled=x.itemsize == 2):
            return model(x)

    gradient = torch.randn_like(forward())

    def run() -> None:
        x.grad = None
        model.zero_grad(set_to_none=True)
        forward().backward(gradient)

    return run


def both(series: str, value: float, model: nn.Module, x: Tensor, forward: Cost, training: Cost) -> Iterator[Point]:
    """A network for use and in training.  ``model`` in fp32 on the device of ``x``."""
    yield Point(series, value, "forward", inference_pass(copy.deepcopy(model).to(x.dtype).eval(), x), forward)
    yield Point(series, value, "training", training_pass(model, x), training)


def product_costs(flops: int, weights: int, elements: int, itemsize: int) -> tuple[Cost, Cost]:
    """Forward, and forward and backward, of products with ``weights`` and ``elements`` of inputs and outputs.

    Forward s · (weights + elements) bytes.  Training 2 · (4 · weights + s · elements) bytes and 3 times the FLOPs.
    """
    return (Cost(flops, itemsize * (weights + elements)), Cost(3 * flops, 2 * (4 * weights + itemsize * elements)))


def ffn(series: str, value: float, rows: int, D: int, H: int, device: torch.device, dtype: torch.dtype) -> Iterator[Point]:
    """A dense FFN of D → H → D on T rows: 4·T·D·H FLOPs, weights 2·D·H, elements 2·T·D."""
    x = torch.randn(rows, D, device=device, dtype=dtype)
    costs = product_costs(4 * rows * D * H, 2 * D * H, 2 * rows * D, x.itemsize)
    yield from both(series, value, Mlp(D, H).to(device), x, *costs)


def width(value: float, geometry: Geometry, device: torch.device, dtype: torch.dtype) -> Iterator[Point]:
    """An FFN of ``value`` features with hidden units in proportion: work grows with the square."""
    hidden = int(value) * geometry.hidden // geometry.width
    yield from ffn("feed-forward network", value, geometry.rows, int(value), hidden, device, dtype)


class Stack(nn.Module):
    """Blocks of a transformer, one after another: [B, N, D] to [B, N, D]."""

    def __init__(self, depth: int, geometry: Geometry):
        super().__init__()
        D = geometry.width
        self.blocks = nn.ModuleList(Block(D, Attention(D, geometry.heads), Mlp(D, geometry.hidden)) for _ in range(depth))

    def forward(self, x_BND: Tensor) -> Tensor:
        for block in self.blocks:
            x_BND, _ = block(x_BND)
        return x_BND


def depth(value: float, geometry: Geometry, device: torch.device, dtype: torch.dtype) -> Iterator[Point]:
    """``value`` blocks, each with 4·D² + 2·D·H weights and, for 2·T FLOPs per weight, 4·T·N·D of attention; elements 2·T·D.

    Backward, attention costs 10·T·N·D: the fused kernel makes its matrix of N × N a second time.  Where two products
    take the kernel's place, see :mod:`lib.models.softmax_attention`, it is there already: 8·T·N·D.
    """
    L, T, N, D, H = int(value), geometry.rows, geometry.tokens, geometry.width, geometry.hidden
    weights = L * (4 * D * D + 2 * D * H)
    x = geometry.input(device, dtype)
    linear, trained = product_costs(2 * T * weights, weights, 2 * T * D, x.itemsize)
    forward, training = (pairs.flops for pairs in attention_cost(geometry.batch, N, D, x.itemsize))
    if products_are_faster(x):
        training -= 2 * T * N * D
    costs = Cost(linear.flops + L * forward, linear.bytes), Cost(trained.flops + L * training, trained.bytes)
    yield from both("blocks", value, Stack(L, geometry).to(device), x, *costs)


def attention_cost(batch: int, N: int, D: int, itemsize: int) -> tuple[Cost, Cost]:
    """Fused attention of all heads together, given queries, keys and values: forward, and forward and backward.

    Forward 4·N²·D FLOPs for each of ``batch`` sequences, backward 10·N²·D; elements 4·N·D, each with its gradient.
    """
    elements = 4 * batch * N * D
    return (Cost(4 * batch * N * N * D, itemsize * elements), Cost(14 * batch * N * N * D, 2 * itemsize * elements))


def sequence(value: float, geometry: Geometry, device: torch.device, dtype: torch.dtype) -> Iterator[Point]:
    """Exact attention over ``value`` tokens, which grows with their square, against the FFN on the same tokens.

    The two have the same FLOPs where there are as many tokens as hidden units.
    """
    B, N, D, H = geometry.batch, int(value), geometry.width, geometry.hidden
    q, k, v, do = (torch.randn(B, geometry.heads, N, D // geometry.heads, device=device, dtype=dtype) for _ in range(4))
    for passes, cost in zip(("forward", "training"), attention_cost(B, N, D, q.itemsize)):
        call = timed_call(F.scaled_dot_product_attention, q, k, v, do, passes == "training")
        yield Point("attention", value, passes, call, cost)
    yield from ffn("feed-forward network", value, B * N, D, H, device, dtype)


class Mixture(MoELayer):
    """The layer's output without its routing."""

    def forward(self, x_BND: Tensor) -> Tensor:
        return super().forward(x_BND)[0]


def experts(value: float, geometry: Geometry, device: torch.device, dtype: torch.dtype) -> Iterator[Point]:
    """The mixtures chapter's layer, ``value`` experts of D → H → D, one for each token, none dropped; 1: the dense FFN.

    4·T·D·H FLOPs whatever E is, and weights 2·E·D·H that all must be read: the least, without what the router and moving
    tokens to their experts and back cost (the mixtures chapter counts those, :mod:`lib.moe.roofline`).
    """
    E, T, D, H = int(value), geometry.rows, geometry.width, geometry.hidden
    if E == 1:
        yield from ffn("mixture of experts", value, T, D, H, device, dtype)
        return
    x = geometry.input(device, dtype)
    costs = product_costs(4 * T * D * H, 2 * E * D * H, 2 * T * D, x.itemsize)
    yield from both("mixture of experts", value, Mixture(MoEConfig(experts=E), D, H).to(device), x, *costs)


def sparsity(value: float, geometry: Geometry, device: torch.device, dtype: torch.dtype) -> Iterator[Point]:
    """A linear layer of H → H, H the hidden units, without a share ``value`` of its weights, in three forms.

    masked           zeros are multiplied, as in training: all 2·T·H² FLOPs, and a byte of mask for each weight
    compressed rows  2·T FLOPs for each of the n weights left, n · (s + 8) + 8 · (H + 1) bytes to hold them; for inference
                     only, and not in bf16 on a CPU, which has no such product
    removed          as many output units are gone instead: a smaller dense layer
    """
    T, H = geometry.rows, geometry.hidden
    x = torch.randn(T, H, device=device, dtype=dtype)
    kept, left = max(1, round((1 - value) * H * H)), max(1, round((1 - value) * H))
    mask = torch.randperm(H * H, device=device).view(H, H) < kept
    masked = attach(nn.Sequential(nn.Linear(H, H)).to(device), {"0": mask})
    forward, training = product_costs(2 * T * H * H, H * H, 2 * T * H, x.itemsize)
    yield from both("masked", value, masked, x, *(Cost(cost.flops, cost.bytes + H * H) for cost in (forward, training)))
    if compressed_rows(device, dtype):
        bare = baked(copy.deepcopy(masked)).to(dtype)[0]
        yield Point(
            "compressed rows",
            value,
            "forward",
            inference_pass(SparseLinear(bare, "csr", 1), x),
            Cost(2 * T * kept, kept * (x.itemsize + 8) + 8 * (H + 1) + x.itemsize * 2 * T * H),
        )
    yield from both(
        "removed", value, nn.Linear(H, left).to(device), x, *product_costs(2 * T * H * left, H * left, T * (H + left), x.itemsize)
    )


def compressed_rows(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch multiplies compressed rows of this type on this device."""
    return device.type == "cuda" or device.type == "cpu" and dtype == torch.float32


#: By axis: how its work is made, and the sizes it usually has.
AXES = {
    "experts": (experts, (1, 2, 4, 8, 16, 32, 64)),
    "width": (width, (32, 64, 128, 256, 512)),
    "depth": (depth, (1, 2, 4, 8, 12)),
    "sequence": (sequence, (48, 96, 192, 384, 768)),
    "sparsity": (sparsity, (0.0, 0.5, 0.75, 0.9, 0.95, 0.99)),
}
