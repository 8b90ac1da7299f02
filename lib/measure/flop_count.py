"""Count the floating-point operations of whatever runs, the same number on each supported version of PyTorch.

``torch.utils.flop_counter`` does the counting, but its table of formulas differs between versions: PyTorch 2.14 leaves
out the attention that CPUs run.  So the formulas for attention, and for a few products that no version knows, are ours,
and an attention without a formula is an error, not 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> int:
    """Return the FLOPs of ``call()``, backward passes in it included; a multiply-add counts 2.

    Counted: matrix products, grouped and matrix-vector products, convolutions, and attention (in full, also when it is
    causal or masked).  Not counted: element-wise work, norms, softmax outside attention, lookups, sparse products.
    A fused backward pass computes the scores a second time, so it counts 5 products where the plain one counts 4.

    Raises :class:`Uncounted` when a fused attention runs for which there is no formula.
    """
    # The fused inference kernels of nn.MultiheadAttention and nn.TransformerEncoderLayer have no formula.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
        # The counter is the inner one: it takes apart what it can, and the outer one sees what really runs.
        with _RefuseUncounted(counter), counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops()


class Uncounted(RuntimeError):
    """Attention ran that would have been counted as 0."""


class _RefuseUncounted(TorchDispatchMode):
    """Raise :class:`Uncounted` at each fused attention or transformer layer that ``counter`` has no formula for."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        if ("attention" in name or "transformer" in name) and func._overloadpacket not in self.counter.flop_registry:
            raise Uncounted(f"the FLOPs of {func} are not counted: lib/measure/flop_count.py needs a formula for it")
        return func(*args, **(kwargs or {}))


def attention_flops(q_shape, k_shape, v_shape, *args, out_shape=None, **kwargs) -> int:
    """Two products: scores of all pairs, and values weighted by them; fewer heads of keys (GQA) save nothing."""
    pairs = math.prod(q_shape[:-1]) * k_shape[-2]
    return 2 * pairs * (q_shape[-1] + v_shape[-1])


def attention_backward_flops(grad_shape, q_shape, k_shape, v_shape, *args, out_shape=None, **kwargs) -> int:
    """Five products: the scores again, and the gradients of values, weights, queries and keys."""
    pairs = math.prod(q_shape[:-1]) * k_shape[-2]
    return 2 * pairs * (3 * q_shape[-1] + 2 * v_shape[-1])


def grouped_mm_flops(a_shape, b_shape, offsets_shape=None, *args, out_shape=None, **kwargs) -> int:
    """[T, d] × [E, d, h] with rows cut into groups (every row counted), or [E, S, d] × [E, d, h]."""
    if len(a_shape) == len(b_shape) == 2:  # the inner dimension is cut: a weight gradient
        return 2 * a_shape[0] * a_shape[1] * b_shape[1]
    return 2 * math.prod(a_shape) * b_shape[-1]


def mv_flops(a_shape, b_shape, *args, out_shape=None, **kwargs) -> int:
    return 2 * math.prod(a_shape)


aten = torch.ops.aten

#: Fused attention on CPUs, on CUDA (three kernels), on MPS, and on devices that bring their own.
FUSED = (
    "flash_attention_for_cpu",
    "flash_attention",
    "efficient_attention",
    "cudnn_attention",
    "attention_math_for_mps",
    "fused_attention_overrideable",
)

FORMULAS = {aten._grouped_mm: grouped_mm_flops, aten.mv: mv_flops, aten.dot: mv_flops} | {
    getattr(aten, f"_scaled_dot_product_{name}{ending}"): formula
    for name in FUSED
    for ending, formula in (("", attention_flops), ("_backward", attention_backward_flops))
    if hasattr(aten, f"_scaled_dot_product_{name}{ending}")
}  # no version has all of them
