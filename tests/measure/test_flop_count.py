"""FLOPs of attention: counted whichever kernel runs, forward and backward, and never as 0."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lib.measure import flop_count
from lib.measure.flop_count import Uncounted, count_flops

B, H, N, M, D = 2, 4, 16, 24, 8
PRODUCT = 2 * B * H * N * M * D  # one product of attention
MASK = torch.ones(B, 1, N, M, dtype=torch.bool).tril()
# Forward and backward: the math kernel keeps the weights, a fused one computes the scores again.
BOTH = {SDPBackend.MATH: 6, SDPBackend.FLASH_ATTENTION: 7}
CASES = {
    "plain": {},
    "causal": {"is_causal": True},
    "boolean mask": {"attn_mask": MASK},
    "additive mask": {"attn_mask": torch.zeros(N, M)},
    "fewer heads of keys": {"enable_gqa": True},
}


def qkv(case):
    keys = 2 if case == "fewer heads of keys" else H
    return torch.randn(B, H, N, D), torch.randn(B, keys, M, D), torch.randn(B, keys, M, D)


def runs_here(backend, tensors, options):
    try:
        with sdpa_kernel(backend), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # why a kernel cannot run here
            F.scaled_dot_product_attention(*tensors, **options)
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_attention_is_counted_with_each_kernel_that_runs_here(case, dtype):
    tensors = [x.to(dtype) for x in qkv(case)]
    options = {
        key: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in CASES[case].items()
    }
    ran = [b for b in SDPBackend.__members__.values() if b != SDPBackend.ERROR and runs_here(b, tensors, options)]
    assert set(ran) >= set(BOTH)
    for backend in ran:
        with sdpa_kernel(backend):
            assert count_flops(lambda: F.scaled_dot_product_attention(*tensors, **options)) == 2 * PRODUCT, backend
            with torch.no_grad():
                assert count_flops(lambda: F.scaled_dot_product_attention(*tensors, **options)) == 2 * PRODUCT, backend
            with torch.inference_mode():
                assert count_flops(lambda: F.scaled_dot_product_attention(*tensors, **options)) == 2 * PRODUCT, backend


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("case", ["plain", "causal", "boolean mask"])
def test_attentions_backward_pass_is_counted(case, backend):
    tensors = [x.requires_grad_() for x in qkv(case)]
    with sdpa_kernel(backend):
        counted = count_flops(lambda: F.scaled_dot_product_attention(*tensors, **CASES[case]).sum().backward())
    assert counted == BOTH[backend] * PRODUCT


def test_attention_without_a_formula_is_refused(monkeypatch):
    missing = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    monkeypatch.setitem(flop_count.FlopCounterMode.__init__.__globals__, "flop_registry", {})
    monkeypatch.setattr(flop_count, "FORMULAS", {k: f for k, f in flop_count.FORMULAS.items() if k is not missing})
    # A version that takes this attention apart counts its products instead; then nothing is missed.
    monkeypatch.setattr(torch._ops.OpOverload, "decompose", lambda *args, **kwargs: NotImplemented)
    q, k, v = qkv("plain")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), pytest.raises(Uncounted, match="flash_attention_for_cpu"):
        count_flops(lambda: F.scaled_dot_product_attention(q, k, v))


def test_layers_are_counted_and_their_fast_path_is_left_as_it_was():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    tokens = torch.randn(3, 10, 16)
    with torch.no_grad():
        assert count_flops(lambda: layer(tokens)) == 2 * 30 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 2 * 3 * 10 * 10 * 16
    assert torch.backends.mha.get_fastpath_enabled()


def test_nothing_in_the_library_counts_by_other_means():
    from lib import ROOT

    assert [path.name for path in (ROOT / "lib").rglob("*.py") if "FlopCounterMode" in path.read_text()] == ["flop_count.py"]
