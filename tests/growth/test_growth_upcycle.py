"""From dense to experts: gates, groups, the router's size, what is drawn anew, and the router of zeros."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from growth_samples import BASE, GROUPS, MOE, TOKENS, trained_like
from lib.growth.growth import grow
from lib.growth.upcycle import Upcycle, gate_sum
from lib.growth.verify import verify
from lib.moe.layer import MoEConfig
from lib.runs.spec import changed_fields

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()

GATES = [
    MoEConfig(experts=4, k=2),
    MoEConfig(experts=4, k=1),
    MoEConfig(experts=1, k=1),
    MoEConfig(experts=4, k=4),
    MoEConfig(experts=4, k=1, single_gate="share"),
    MoEConfig(experts=4, k=1, split=2),
    MoEConfig(experts=4, k=2, router="vmoe"),
    MoEConfig(experts=3, k=3, router="vmoe"),
    MoEConfig(experts=4, k=1, router="bias"),
    MoEConfig(experts=4, k=2, router="bias"),
    MoEConfig(experts=4, k=1, router="bias", scores="softmax"),
]


@pytest.mark.parametrize("moe", GATES, ids=lambda moe: " ".join(map(str, changed_fields(moe).values())) or "default")
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_what_gates_sum_to(moe, scale):
    _, routings = grow(trained_like(BASE), Upcycle(moe, scale)).with_routing(TOKENS)
    sums = torch.stack([routing.gate_TK.sum(-1) for routing in routings])
    expected = gate_sum(moe, zero_router=scale == 0)
    if expected is None:
        assert sums.std() > 1e-3
    else:
        torch.testing.assert_close(sums, torch.full_like(sums, expected))


@pytest.mark.parametrize("moe", GATES, ids=lambda moe: " ".join(map(str, changed_fields(moe).values())) or "default")
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_exactness_is_foretold(moe, scale):
    """Whatever the router: with the inverse of what its gates sum to as output scale, or not at all."""
    small = trained_like(replace(BASE, bias=True))
    total = gate_sum(moe, zero_router=scale == 0)
    for output_scale in (1.0, 1 / (total or 1.0), 3.0):
        growth = Upcycle(moe, scale, output_scale=output_scale)
        same = verify(small, grow(small, growth), TOKENS).passed(torch.float64)
        assert same or not growth.exact(BASE)
        assert not same or growth.exact(BASE) or moe.split > 1  # a zero router may happen to choose one of each group


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_each_token_gets_k_copies_of_every_group(device, dtype):
    moe = MoEConfig(experts=8, k=2, split=4)
    small = trained_like(replace(BASE, context=64, hidden=16), dtype).to(device)
    tokens = torch.randint(31, (32, 64), generator=torch.Generator().manual_seed(0)).to(device)
    _, routings = grow(small, Upcycle(moe)).with_routing(tokens)
    for routing in routings:
        per_group = F.one_hot(routing.expert_TK // moe.experts, moe.split).sum(1)
        assert (per_group == moe.k).all()


@pytest.mark.parametrize("norm", ["rms", "layer"])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_size_of_the_router(norm, scale):
    small = trained_like(replace(BASE, width=64, norm=norm, bias=True))
    router = verify(small, grow(small, Upcycle(MoEConfig(experts=32, k=2), router_scale=scale)), TOKENS).router
    assert router["logit_std"] == pytest.approx(scale, rel=0.2)


@pytest.mark.parametrize("moe, drop", [(MOE, 0.5), (MOE, 0.25), (GROUPS, 0.5), (MOE, 1.0)], ids=["half", "quarter", "groups", "all"])
def test_neurons_drawn_anew(moe, drop):
    config = replace(BASE, width=64, hidden=192, depth=1, bias=True)
    small = trained_like(config)
    plain, dropped = (grow(small, Upcycle(moe, drop=share)).blocks[0].ffn.experts for share in (0.0, drop))
    H = config.hidden // moe.split
    changed = {name: getattr(plain, name) != getattr(dropped, name) for name in ("w_in", "b_in", "w_out", "b_out")}
    neurons_EH = changed["w_out"].any(2)
    assert (neurons_EH.sum(1) == round(drop * H)).all()
    assert torch.equal(changed["w_out"], neurons_EH[..., None].expand_as(changed["w_out"]))
    assert torch.equal(changed["b_in"], neurons_EH.repeat(1, 2))
    assert torch.equal(changed["w_in"], neurons_EH.repeat(1, 2)[:, None].expand_as(changed["w_in"]))
    assert not changed["b_out"].any()
    assert drop == 1 or not torch.equal(neurons_EH[0], neurons_EH[1])
    for name in ("w_in", "w_out"):
        old, new = (getattr(experts, name).detach()[changed[name]] for experts in (plain, dropped))
        assert float(new.std()) == pytest.approx(float(old.std()), rel=0.05)
        assert abs(new.mean() - old.mean()) < 0.05 * old.std()


def next_token(model, tokens):
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize("moe", [MOE, GROUPS], ids=["experts", "groups"])
@pytest.mark.parametrize("output_scale", [1.0, 2.0])
def test_gradients_are_shared_out_as_stated(moe, output_scale):
    """The copies' gradients sum to the FFN's, over what their values were scaled by; the mean is 1/E of that."""
    small = trained_like(replace(BASE, bias=True, depth=1))
    growth = Upcycle(moe, output_scale=output_scale)
    large = grow(small, growth)
    # Gates that sum to 1/output_scale:
    large.blocks[0].ffn.experts.register_forward_pre_hook(lambda module, args: (*args[:2], args[2] / output_scale))
    for model in (small, large):
        next_token(model, TOKENS).backward()
    dense, experts = small.blocks[0].ffn, large.blocks[0].ffn.experts
    G, E = moe.split, moe.experts
    expected = {
        "w_in": torch.cat([part.weight.grad.unflatten(0, (G, -1)) for part in (dense.gate, dense.up)], 1).mT,
        "b_in": torch.cat([part.bias.grad.unflatten(0, (G, -1)) for part in (dense.gate, dense.up)], 1),
        "w_out": dense.down.weight.grad.mT.unflatten(0, (G, -1)),
        "b_out": dense.down.bias.grad.expand(G, -1),
    }
    for name, grad in expected.items():
        mean = getattr(experts, name).grad.unflatten(0, (G, E)).mean(1)
        torch.testing.assert_close(mean, growth.scales()[name][1] * grad, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("experts", [4, 8])
def test_squares_of_gradients_shrink_by_experts_times_k(experts):
    moe = MoEConfig(experts=experts, k=2)
    small = trained_like(replace(BASE, depth=1))
    large = grow(small, Upcycle(moe))
    dense, expert = small.blocks[0].ffn.down.weight, large.blocks[0].ffn.experts.w_out
    sums = {dense: 0.0, expert: 0.0}
    for seed in range(20):
        tokens = torch.randint(31, (8, 16), generator=torch.Generator().manual_seed(seed))
        for model, p in ((small, dense), (large, expert)):
            sums[p] += float(torch.autograd.grad(next_token(model, tokens), p)[0].square().mean())
    assert sums[expert] / sums[dense] == pytest.approx(1 / (experts * moe.k), rel=0.25)


def test_a_router_of_zeros_stays_zero_and_the_model_dense():
    small = trained_like(BASE)
    zero, random = (grow(small, Upcycle(MOE, router_scale=scale)) for scale in (0.0, 1.0))
    models = {"dense": small, "zero": zero, "random": random}
    optimizers = {name: torch.optim.AdamW(model.parameters(), lr=3e-3, eps=1e-14) for name, model in models.items()}
    losses = {name: [] for name in models}
    for step in range(8):
        tokens = torch.randint(31, (4, 16), generator=torch.Generator().manual_seed(step))
        for name, model in models.items():
            loss = next_token(model, tokens)
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
            losses[name].append(loss.item())
    assert losses["zero"] == pytest.approx(losses["dense"], abs=1e-6)
    assert abs(losses["random"][-1] - losses["dense"][-1]) > 1e-4
    router = zero.blocks[0].ffn.router.gate.weight
    assert router.abs().max() < 1e-6 < random.blocks[0].ffn.router.gate.weight.abs().max()
