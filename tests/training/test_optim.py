"""Which optimiser gets which parameter, and what it does with it."""

import pytest
import torch
from torch import nn

from lib.training import optim
from lib.training.muon import Muon


class Small(nn.Module):
    """One of each kind of parameter the book's models have."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.position = nn.Parameter(torch.randn(5, 8))
        self.position_table = nn.Embedding(5, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.conv = nn.Conv2d(3, 8, 3)
        self.hidden_conv = nn.Conv2d(8, 8, 3, bias=False)
        self.attention = nn.Linear(8, 24)
        self.w_in = nn.Parameter(torch.randn(4, 8, 16))
        self.b_in = nn.Parameter(torch.randn(4, 16))
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.tokens.weight


def names(model, parameters):
    known = {id(p): name for name, p in model.named_parameters()}
    return {known[id(p)] for p in parameters}


def owned(model, optimizers):
    return [p for o in optimizers for group in o.param_groups for p in group["params"]]


@pytest.mark.parametrize("kind", optim.OPTIMIZERS)
def test_every_trainable_parameter_has_one_owner(kind):
    model = Small()
    parameters = owned(model, optim.build(model, kind, lr=0.1, weight_decay=0.1))
    assert len(parameters) == len({id(p) for p in parameters})
    assert names(model, parameters) == {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_biases_norms_and_positions_do_not_decay(kind):
    model = Small()
    (optimizer,) = optim.build(model, kind, lr=0.1, weight_decay=0.3)
    free = [p for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]]
    assert names(model, free) == {
        "position",
        "position_table.weight",
        "cls",
        "norm.weight",
        "norm.bias",
        "conv.bias",
        "attention.bias",
        "b_in",
    }
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.3}


def test_muon_takes_the_weights_of_hidden_layers_only():
    model = Small()
    adamw, muon = optim.build(model, "muon", lr=0.1, weight_decay=0.1)
    assert isinstance(adamw, torch.optim.AdamW) and isinstance(muon, Muon)
    assert names(model, owned(model, [muon])) == {"attention.weight", "hidden_conv.weight", "w_in"}


def test_muon_takes_the_weight_behind_a_mask_and_leaves_heads():
    class Zero(nn.Module):
        def forward(self, weight):
            return weight * 0.5

    model = nn.ModuleDict({"body": nn.Linear(4, 4), "head": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))})
    nn.utils.parametrize.register_parametrization(model["body"], "weight", Zero())
    _, muon = optim.build(model, "muon", lr=0.1, weight_decay=0.1)
    assert owned(model, [muon]) == [model["body"].parametrizations.weight.original]


def test_muon_steps_have_the_size_of_adamw_steps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256, bias=False))
    before = model[0].weight.detach().clone()
    (muon,) = optim.build(model, "muon", lr=0.01, weight_decay=0.0)
    model(torch.randn(32, 64)).square().mean().backward()
    muon.step()
    step = (model[0].weight - before).square().mean().sqrt().item()
    assert 0.1 < step / 0.01 < 0.3  # AdamW's is 0.2 to 0.4 of the learning rate in practice


def test_set_lr_scales_every_group():
    optimizers = optim.build(Small(), "muon", lr=0.5, weight_decay=0.1)
    optim.set_lr(optimizers, 0.1)
    optim.set_lr(optimizers, 0.5)
    assert {group["lr"] for o in optimizers for group in o.param_groups} == {0.25}


def test_sgd_without_momentum_is_allowed():
    (sgd,) = optim.build(nn.Linear(2, 2), "sgd", lr=0.1, weight_decay=0.0, momentum=0.0)
    assert not sgd.param_groups[0]["nesterov"]


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="adamw, sgd, muon"):
        optim.build(Small(), "lion", lr=0.1, weight_decay=0.1)
    with pytest.raises(ValueError, match="no trainable parameter"):
        optim.build(nn.Linear(2, 2).requires_grad_(False), "sgd", lr=0.1, weight_decay=0.1)
