"""Muon: orthogonal updates of matrices, convolutions and stacked experts."""

import pytest
import torch
from torch import nn

from lib.training.muon import Muon, matrices, orthogonal


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(1, 16, 48), (1, 48, 16), (5, 24, 8)])
def test_all_singular_values_come_near_one_and_the_vectors_stay(shape):
    x = torch.randn(shape)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    got = orthogonal(x, iterations=5)
    along = (u.mT @ got @ v.mT).diagonal(dim1=1, dim2=2)
    assert 0.3 < along.min() and along.max() < 1.4
    torch.testing.assert_close(u @ torch.diag_embed(along) @ v, got, rtol=0, atol=0.05)
    assert s.max() / s.min() > 2  # they did differ


def test_it_steps_as_torch_does_on_matrices():
    ours, theirs = nn.Linear(48, 16, bias=False), nn.Linear(48, 16, bias=False)
    theirs.load_state_dict(ours.state_dict())
    options = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    mine = Muon(ours.parameters(), **options)
    other = torch.optim.Muon(theirs.parameters(), **options, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        x = torch.randn(32, 48)
        for model, optimizer in ((ours, mine), (theirs, other)):
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    step = (theirs.weight - ours.weight).abs().max()
    assert step < 2e-3  # torch iterates in bfloat16


def test_a_convolution_is_one_matrix_and_experts_are_many():
    conv, experts = torch.randn(8, 4, 3, 3), torch.randn(6, 8, 4)
    assert matrices(conv).shape == (1, 8, 36) and matrices(experts).shape == (6, 8, 4)
    alone = [nn.Parameter(expert.clone()) for expert in experts]
    together = nn.Parameter(experts.clone())
    grad = torch.randn_like(experts)
    together.grad = grad.clone()
    for p, g in zip(alone, grad):
        p.grad = g.clone()
    Muon([together], lr=0.1).step()
    Muon(alone, lr=0.1).step()
    torch.testing.assert_close(together.detach(), torch.stack([p.detach() for p in alone]))


def test_channels_last_weights_take_the_same_step():
    plain = nn.Conv2d(4, 8, 3, bias=False)
    last = nn.Conv2d(4, 8, 3, bias=False).to(memory_format=torch.channels_last)
    last.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 8, 8)
    for conv in (plain, last):
        conv(x).square().mean().backward()
        Muon(conv.parameters(), lr=0.1).step()
    torch.testing.assert_close(plain.weight, last.weight)


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="belongs to another optimiser"):
        Muon([nn.Parameter(torch.ones(3))], lr=0.1)
