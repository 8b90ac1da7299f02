"""Measures of specialisation, on cases whose answer is known."""

import math

import pytest
import torch

from lib.moe.experts import Experts
from lib.moe.routing import routing
from lib.moe.specialise import expert_distance, router_entropy, token_information


def test_copies_have_no_distance_and_strangers_the_root_of_two():
    torch.manual_seed(0)
    experts = Experts(6, 64, 64)
    assert expert_distance(experts).item() == pytest.approx(math.sqrt(2), abs=0.03)
    with torch.no_grad():
        for weight in (experts.w_in, experts.w_out):
            weight.copy_(weight[:1].expand_as(weight))
    assert expert_distance(experts).item() == pytest.approx(0, abs=1e-6)


def test_distance_is_the_mean_over_pairs():
    torch.manual_seed(1)
    experts = Experts(4, 8, 12)
    flat = torch.cat([experts.w_in.flatten(1), experts.w_out.flatten(1)], 1).double()
    pairs = [(flat[i] - flat[j]).square().sum() for i in range(4) for j in range(i)]
    expected = (torch.stack(pairs).mean() / flat.square().sum(1).mean()).sqrt()
    torch.testing.assert_close(expert_distance(experts), expected)


def route(expert_TK, probs_TE, experts):
    return routing(expert_TK, torch.ones_like(expert_TK, dtype=torch.float), experts, probs_TE)


def test_information_of_a_router_that_goes_by_the_token():
    kind_T = torch.arange(4).repeat(25)
    sure = route(kind_T[:, None], torch.eye(4)[kind_T], 4)
    assert token_information(sure, kind_T, 4).item() == pytest.approx(2.0)
    assert router_entropy(sure).item() == pytest.approx(0.0)


def test_information_of_a_router_that_does_not_look():
    kind_T, expert_T = torch.arange(4).repeat_interleave(4), torch.arange(4).repeat(4)
    blind = route(expert_T[:, None], torch.full((16, 4), 0.25), 4)
    assert token_information(blind, kind_T, 4).item() == pytest.approx(0.0, abs=1e-12)
    assert router_entropy(blind).item() == pytest.approx(1.0)
