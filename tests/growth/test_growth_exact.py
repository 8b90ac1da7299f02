"""Growing keeps the function in float64, on all 64 kinds of GPT."""

import itertools

import pytest
import torch

from growth_samples import EXACT, TOKENS, samples
from lib.growth.depth import Deepen
from lib.growth.growth import grow
from lib.growth.upcycle import Upcycle
from lib.growth.width import Widen


@pytest.mark.parametrize("name", EXACT)
@torch.no_grad()
def test_outputs(name):
    assert len(samples(torch.float64)) == 64
    for variant, small, expected in samples(torch.float64):
        made = grow(small, *EXACT[name])(TOKENS)
        assert (made - expected).abs().max() <= 1e-10, variant
        assert 0.5 < expected.std() < 8


def test_every_order_of_experts_width_and_depth_is_among_them():
    orders = {tuple(map(type, growths)) for growths in EXACT.values()}
    assert orders >= set(itertools.permutations((Upcycle, Widen, Deepen)))
