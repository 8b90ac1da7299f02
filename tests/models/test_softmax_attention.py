"""The two ways to compute attention agree, and the choice between them."""

import pytest
import torch
import torch.nn.functional as F

from lib.models import softmax_attention as module
from lib.models.softmax_attention import by_products, products_are_faster, softmax_attention


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 10, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("case", ["plain", "causal", "mask"])
def test_products_and_the_fused_kernel_agree_forward_and_backward(case):
    mask = torch.rand(2, 1, 1, 10, generator=torch.Generator().manual_seed(1)) > 0.3 if case == "mask" else None
    causal = case == "causal"
    got, expected = tensors(), tensors()
    ours = by_products(*got, mask, causal)
    theirs = F.scaled_dot_product_attention(*expected, attn_mask=mask, is_causal=causal)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    for a, b in zip(got, expected):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-5)


def test_fp32_keeps_the_fused_kernel_and_training_in_bfloat16_leaves_it(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "by_products", lambda *args: calls.append("products"))
    softmax_attention(*tensors())
    assert calls == []
    softmax_attention(*tensors(torch.bfloat16))
    assert calls == ["products"]
    with torch.no_grad():
        softmax_attention(*tensors(torch.bfloat16))
    assert calls == ["products"]
    with torch.autocast("cpu", torch.bfloat16):
        assert products_are_faster(torch.ones(1))


@pytest.mark.parametrize("causal", [False, True])
def test_bfloat16_is_near(causal):
    low, full = tensors(torch.bfloat16), tensors()
    with torch.autocast("cpu", torch.bfloat16):
        got = softmax_attention(*low, causal=causal)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), softmax_attention(*full, causal=causal), rtol=0, atol=0.05)
