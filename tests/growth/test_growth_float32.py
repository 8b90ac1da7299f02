"""Growing keeps the function up to rounding in float32, on all 64 kinds of GPT."""

import pytest
import torch

from growth_samples import EXACT, TOKENS, samples
from lib.growth.growth import grow


@pytest.mark.parametrize("name", EXACT)
@torch.no_grad()
def test_float32_errs_by_rounding_only(name):
    assert len(samples(torch.float32)) == 64
    for variant, small, expected in samples(torch.float32):
        made = grow(small, *EXACT[name])(TOKENS)
        assert made.dtype == torch.float32
        assert (made - expected).abs().max() / expected.std() <= 1e-5, variant
