"""Engines that need a compiler or a GPU: run where there is one, refused with a reason elsewhere."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
import torch

from lib.attention.engines import ENGINES, engine, hindrance

CPU, CUDA = torch.device("cpu"), torch.device("cuda")

#: The kernel in Triton's interpreter, which needs no GPU: in its own process, because the choice is made at import.
INTERPRETED = """
import torch
from lib.attention.masks import Mask
from lib.attention.standard import standard
from lib.attention.triton_forward import forward
for N, L, causal, dtype, allowed in [(130, 130, True, torch.float32, 1e-5), (40, 90, True, torch.float32, 1e-5),
                                     (70, 33, False, torch.float32, 1e-5), (130, 130, True, torch.float16, 3e-3)]:
    q, k, v = (torch.randn(1, 2, length, 16).to(dtype) for length in (N, L, L))
    expected = standard(q.float(), k.float(), v.float(), Mask(causal))
    error = (forward(q, k, v, causal).float() - expected).abs().max().item()
    assert error <= allowed, (N, L, causal, dtype, error)
"""


def test_what_cannot_run_says_why():
    with pytest.raises(RuntimeError, match="CUDA devices only, and this is cpu; use 'sdpa'"):
        engine("triton", CPU)
    with pytest.raises(RuntimeError, match="no backward pass"):
        engine("flex", CPU, training=True)
    with pytest.raises(ValueError, match="use one of 'standard'"):
        engine("flush", CPU)
    assert all(hindrance(name, CPU, training=True) is None for name in ("standard", "tiled", "sdpa"))
    assert engine("sdpa", CPU, training=True) is ENGINES["sdpa"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="FlexAttention on the CPU is compiled, and there is no C++ compiler here")
def test_flex_on_the_cpu(python):
    done = python(
        "-c",
        """
import torch
from lib.attention.blocks import butterfly
from lib.attention.engines import flex
from lib.attention.masks import Mask
from lib.attention.standard import standard
torch.manual_seed(0)
q, k, v = (torch.randn(1, 2, 250, 16) for _ in range(3))
with torch.no_grad():
    mask = Mask(causal=True, blocks=butterfly(4, 64))   # each further kind of mask is another compilation
    assert (flex(q, k, v, mask) - standard(q, k, v, mask)).abs().max() <= 1e-5
""",
        timeout=500,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="the package triton is not installed")
def test_the_triton_kernel_in_the_interpreter(python):
    done = python("-c", INTERPRETED, TRITON_INTERPRET=1, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    hindrance("triton", CUDA if torch.cuda.is_available() else CPU, training=False) is not None,
    reason="the Triton kernel needs a CUDA device and the package triton",
)
@pytest.mark.parametrize("N", [128, 500, 2048])
@pytest.mark.parametrize("causal", [False, True])
def test_the_triton_kernel_on_the_gpu(N, causal):
    from lib.attention.masks import Mask
    from lib.attention.standard import standard

    q, k, v = (torch.randn(2, 4, N, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    expected = standard(q.float(), k.float(), v.float(), Mask(causal))
    with torch.no_grad():
        assert (engine("triton", q.device)(q, k, v, Mask(causal)).float() - expected).abs().max() <= 2e-2
    with pytest.raises(ValueError, match="no backward pass"):
        engine("triton", q.device)(q.requires_grad_(), k, v, Mask(causal))
