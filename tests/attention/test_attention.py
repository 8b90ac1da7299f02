"""Tiled attention is attention: outputs and gradients over random shapes, masks and types."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from lib.attention.blocks import Blocks, butterfly, scattered, window
from lib.attention.engines import attend, sdpa
from lib.attention.masks import Mask
from lib.attention.online import Running, online_softmax
from lib.attention.standard import standard, without_maximum
from lib.attention.tiled import tiled

#: Random cases of the property test.
CASES = 60


def case(number: int, dtype: torch.dtype = torch.float32):
    """Queries, keys, values, a mask and a tile, with sizes that divide each other only by chance."""
    draw = random.Random(number)
    generator = torch.Generator().manual_seed(number)
    batch, shared, times, N, d = (
        draw.randint(1, 3),
        draw.randint(1, 2),
        draw.choice([1, 1, 2, 3]),
        draw.randint(1, 70),
        draw.choice([1, 4, 16, 24]),
    )
    causal = draw.random() < 0.5
    L = N + draw.randint(0, 30) if causal else draw.randint(1, 90)
    keep = torch.rand(batch, L, generator=generator) < draw.choice([0.0, 0.5, 0.9]) if draw.random() < 0.5 else None
    tile, blocks = draw.randint(1, 40), None
    if draw.random() < 0.4:
        blocks = Blocks(torch.rand(-(-N // tile), -(-L // tile), generator=generator) < 0.5, tile)
    q, k, v = (
        torch.randn(batch, heads, length, d, dtype=dtype, generator=generator)
        for heads, length in ((times * shared, N), (shared, L), (shared, L))
    )
    return q, k, v, Mask(causal, keep, blocks), tile


def with_gradients(attention, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    o = attention(q, k, v)
    weight = torch.randn(o.shape, generator=torch.Generator().manual_seed(1)).to(o)
    return [o, *torch.autograd.grad((o * weight).sum(), (q, k, v))]


def by_definition(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Row by row, in float64, without a thought for speed."""
    q, k, v = q.double(), k.double(), v.double()
    B, H, N, d = q.shape
    L, times = k.shape[2], H // k.shape[1]
    o = torch.zeros_like(q)
    for b in range(B):
        for h in range(H):
            for i in range(N):
                keys = [
                    j
                    for j in range(L)
                    if (not mask.causal or j <= i + L - N)
                    and (mask.keep_BL is None or mask.keep_BL[b, j])
                    and (mask.blocks is None or mask.blocks.kept[i // mask.blocks.size, j // mask.blocks.size])
                ]
                if keys:
                    p = (k[b, h // times, keys] @ q[b, h, i] / d**0.5).softmax(0)
                    o[b, h, i] = p @ v[b, h // times, keys]
    return o


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("attention", [standard, tiled, sdpa])
def test_by_definition(number, attention):
    q, k, v, mask, _ = case(number)
    assert (attention(q, k, v, mask) - by_definition(q, k, v, mask)).abs().max() <= 1e-5


@pytest.mark.parametrize("number", range(CASES))
def test_tiled_equals_standard_with_gradients(number):
    q, k, v, mask, tile = case(number)
    expected = with_gradients(lambda *x: standard(*x, mask), q, k, v)
    for engine in (lambda *x: tiled(*x, mask, tile), lambda *x: sdpa(*x, mask)):
        for ours, theirs in zip(with_gradients(engine, q, k, v), expected):
            assert torch.isfinite(ours).all()
            assert (ours - theirs).abs().max() <= 1e-5


@pytest.mark.parametrize("dtype, allowed", [(torch.float64, 1e-12), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
def test_other_types(dtype, allowed):
    for number in range(10):
        q, k, v, mask, tile = case(number, torch.float64)
        expected = with_gradients(lambda *x: standard(*x, mask), *(x.to(dtype).double() for x in (q, k, v)))
        found = with_gradients(lambda *x: tiled(*x, mask, tile), *(x.to(dtype) for x in (q, k, v)))
        for ours, theirs in zip(found, expected):
            assert ours.dtype == dtype
            assert (ours.double() - theirs).abs().max() <= allowed * theirs.abs().max().clamp(min=1)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5])
def test_gradcheck(number):
    q, k, v, mask, tile = case(number, torch.float64)
    N = min(q.shape[2], 7)
    L = max(N, min(k.shape[2], 9))
    q, k, v = q[:1, :, :N, :3], k[:1, :, :L, :3], v[:1, :, :L, :3]
    L = k.shape[2]
    keep = None if mask.keep_BL is None else mask.keep_BL[:1, :L]
    size = 4
    blocks = scattered(-(-N // size), size, 0.5) if mask.blocks and N == L else None
    inputs = tuple(x.clone().requires_grad_() for x in (q, k, v))
    assert torch.autograd.gradcheck(lambda *x: tiled(*x, Mask(mask.causal and L >= N, keep, blocks), size), inputs)


def test_memory_kept_for_backward_is_linear():
    def kept(attention, N: int) -> int:
        sizes = {}

        def note(x: Tensor) -> Tensor:
            sizes[x.data_ptr()] = x.numel()
            return x

        q, k, v = (torch.randn(1, 1, N, 8, requires_grad=True) for _ in range(3))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            attention(q, k, v)
        return sum(sizes.values())

    assert kept(tiled, 256) == 4 * 256 * 8 + 256 == kept(tiled, 512) / 2
    assert kept(standard, 256) >= 256 * 256


def test_a_query_that_sees_nothing_gets_zeros():
    q, k, v, _, _ = case(3)
    mask = Mask(keep_BL=torch.zeros(k.shape[0], k.shape[2], dtype=torch.bool))
    for attention in (standard, tiled, sdpa):
        for part in with_gradients(lambda *x: attention(*x, mask), q, k, v):
            assert (part == 0).all()


def test_large_scores():
    """Scores of ±10,000: softmax without the maximum overflows, with it, online or not, it does not."""
    q, k, v = (torch.randn(1, 1, 40, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
    q, k = 100 * q, 100 * k
    assert not torch.isfinite(without_maximum(q, k, v)).all()
    # Such scores are known to one part in 10⁷ only, so that exact agreement is a matter of equal rounding of products.
    reference = standard(q.double(), k.double(), v.double())
    for attention in (standard, tiled):
        assert (attention(q, k, v) - reference).abs().max() < 0.02


def test_the_running_sums_step_by_step():
    s, v = torch.tensor([[1.0, 3.0, 2.0, 5.0, 0.0]]), torch.eye(5)
    steps = list(online_softmax(s, v, size=2))
    assert [step.m.item() for step in steps] == [3, 5, 5]
    for seen, step in zip((2, 4, 5), steps):
        assert torch.allclose(step.output[0, :seen], s[0, :seen].softmax(0)) and (step.output[0, seen:] == 0).all()
        assert torch.allclose(step.log_sum, s[:, :seen].logsumexp(1, keepdim=True))


def test_blocks_that_see_nothing_leave_the_running_sums_alone():
    start = Running.start(torch.zeros(3, 4))
    nothing = start.update(torch.full((3, 2), -torch.inf), torch.randn(2, 4))
    assert (nothing.output == 0).all() and (nothing.log_sum == torch.inf).all()
    s, v = torch.randn(3, 5), torch.randn(5, 4)
    assert torch.allclose(nothing.update(s, v).output, s.softmax(-1) @ v)


def test_patterns():
    assert butterfly(8, 4).kept.sum(1).tolist() == [4] * 8
    assert butterfly(8, 4).kept[5].nonzero().flatten().tolist() == [1, 4, 5, 7]
    assert window(5, 4, 1).kept.sum(1).tolist() == [2, 3, 3, 3, 2]
    kept = scattered(16, 4, 0.25, seed=3).kept
    assert kept.sum(1).tolist() == [4] * 16 and kept.diagonal().all()
    assert scattered(16, 4, 0.0).share == 1 / 16


def test_blocks_that_are_not_kept_are_not_computed(monkeypatch):
    q, k, v = (torch.randn(1, 1, 64, 8) for _ in range(3))
    updates = []
    update = Running.update
    monkeypatch.setattr(Running, "update", lambda self, s, v: updates.append(s.shape[-2:]) or update(self, s, v))
    tiled(q, k, v, Mask(blocks=butterfly(8, 8)))
    assert updates == [(8, 8)] * (8 * 4)
    updates.clear()
    tiled(q, k, v, Mask(causal=True), tile=16)
    assert len(updates) == 4 + 3 + 2 + 1


def test_attend_takes_the_engine_that_fits():
    q, k, v = (torch.randn(1, 2, 32, 8, requires_grad=True) for _ in range(3))
    for mask in (Mask(), Mask(causal=True), Mask(blocks=butterfly(4, 8))):
        assert (attend(q, k, v, mask) - standard(q, k, v, mask)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("shapes", "mask", "message"),
    [
        (((1, 3, 4, 8), (1, 2, 4, 8)), Mask(), "3 query heads cannot share 2"),
        (((1, 2, 4, 8), (1, 2, 4, 9)), Mask(), "do not fit"),
        (((1, 2, 5, 8), (1, 2, 4, 8)), Mask(causal=True), "the first queries would see none"),
        (((1, 2, 4, 8), (1, 2, 4, 8)), Mask(keep_BL=torch.ones(1, 5, dtype=torch.bool)), r"give bool \(1, 4\)"),
        (((1, 2, 4, 8), (1, 2, 4, 8)), Mask(blocks=butterfly(4, 2)), r"blocks of 2, not \(4, 4\)"),
    ],
)
@pytest.mark.parametrize("attention", [standard, tiled, sdpa])
def test_what_does_not_fit_is_refused(attention, shapes, mask, message):
    q, k = (torch.randn(shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        attention(q, k, k, mask)
