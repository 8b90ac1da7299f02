"""Training goes on where it was: growing commutes with AdamW, given its moments and the learning rates that belong to it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from growth_samples import BASE, GROUPS, MOE, TOKENS, VARIANTS, trained_like
from lib.growth.depth import Deepen
from lib.growth.growth import grow, grow_moments
from lib.growth.moments import Moments, install, read
from lib.growth.net2net import Net2Wider
from lib.growth.rates import Factors, factors, groups
from lib.growth.upcycle import Upcycle
from lib.growth.width import Noise, Widen
from lib.moe.layer import MoEConfig
from lib.training.optim import decays

BIAS = MoEConfig(experts=4, k=2, router="bias", router_bias=True)
SETTINGS = dict(lr=3e-3, weight_decay=0.1, betas=(0.9, 0.99), eps=1e-6)


def loss_of(model, tokens):
    logits, routings = model.with_routing(tokens)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()) + sum(r.loss for r in routings)


def train(model, optimizer, steps):
    losses = []
    for step in steps:
        loss = loss_of(model, torch.randint(31, (4, 12), generator=torch.Generator().manual_seed(step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def parting(config, *growths, carried=True, scaled=True):
    """How far a small model and the grown one drift apart in loss, in 10 steps after 6 of the small one."""
    small = trained_like(config).train()
    optimizer = groups(small, {}, **SETTINGS)
    train(small, optimizer, range(6))
    large = grow(small, *growths)
    larger = groups(large, factors(config, *growths) if scaled else {}, **SETTINGS)
    if carried:
        install(large, [larger], grow_moments(config, read(small, [optimizer]), *growths))
    kept, grown = train(small, optimizer, range(6, 16)), train(large, larger, range(6, 16))
    return max(abs(a - b) for a, b in zip(kept, grown))


def test_widening_commutes_with_training():
    assert max(parting(replace(BASE, **variant), Widen(2)) for variant in VARIANTS[::3]) <= 1e-8


@pytest.mark.parametrize("moe", [MOE, GROUPS, MoEConfig(experts=4, k=1), BIAS], ids=["switch", "groups", "one", "bias"])
def test_also_for_mixtures(moe):
    assert parting(replace(BASE, moe=moe, bias=True, kv_heads=2), Widen(2)) <= 1e-8


@pytest.mark.parametrize("growths", [(Widen(3),), (Widen(2), Widen(2)), (Widen(1),)], ids=["three", "twice", "nothing"])
@pytest.mark.parametrize("tied", [True, False])
def test_by_any_factor(growths, tied):
    assert parting(replace(BASE, norm="layer", bias=True, tied=tied), *growths) <= 1e-8


def test_moments_and_rates_are_both_needed():
    assert parting(BASE, Widen(2), carried=False) > 1e-3
    assert parting(BASE, Widen(2), scaled=False) > 1e-3
    assert parting(BASE, Widen(2, Noise(0.0))) > 1e-3  # and copies that differ learn something of their own


@pytest.mark.parametrize("growth", [Widen(2), Widen(3), Net2Wider(19)], ids=str)
@pytest.mark.parametrize("moe", [None, MOE], ids=["dense", "experts"])
def test_moments_grow_as_gradients_do(growth, moe):
    """Even where numbers of copies differ: the map of the moments applied to gradients gives those of the grown model."""
    for variant in VARIANTS[::7]:
        small = trained_like(replace(BASE, **variant, moe=moe))
        large = grow(small, growth, seed=5)
        for model in (small, large):
            loss_of(model, TOKENS).backward()
        grads = {name: p.grad for name, p in small.named_parameters()}
        as_moments = Moments(grads, {name: g.square() for name, g in grads.items()}, dict.fromkeys(grads, 3.0))
        grown = grow_moments(small.config, as_moments, growth, seed=5)
        for name, p in large.named_parameters():
            torch.testing.assert_close(grown.first[name], p.grad, atol=1e-12, rtol=1e-9)
            torch.testing.assert_close(grown.second[name], p.grad.square(), atol=1e-12, rtol=1e-9)
        assert grown.step == dict.fromkeys(grads, 3.0)


def moments_of(model, steps=2):
    optimizer = groups(model, {}, **SETTINGS)
    train(model, optimizer, range(steps))
    return read(model, [optimizer])


def test_moments_of_new_blocks_start_from_zero():
    small = trained_like(BASE)
    moments = moments_of(small)
    for how, kept in (("interleaved", {0: 0, 2: 1}), ("stack", {0: 0, 1: 1}), ("interpose", {0: 0, 2: 1})):
        growth = Deepen(4, how)
        grown = grow_moments(BASE, moments, growth)
        assert {int(name.split(".")[1]) for name in grown.first if "blocks" in name} == set(kept)
        for new, old in kept.items():
            name = "ffn.up.weight"
            assert torch.equal(grown.second[f"blocks.{new}.{name}"], moments.second[f"blocks.{old}.{name}"])
        assert torch.equal(grown.first["embed.weight"], moments.first["embed.weight"])
        large = grow(small, growth)
        optimizer = groups(large, factors(BASE, growth), **SETTINGS)
        install(large, [optimizer], grown)
        train(large, optimizer, range(2))
        assert {s["step"].item() for s in optimizer.state.values()} == {2.0, 4.0}


def test_moments_of_experts():
    small = trained_like(replace(BASE, bias=True))
    moments, growth = moments_of(small), Upcycle(GROUPS)
    grown = grow_moments(small.config, moments, growth)
    up, down = (moments.first[f"blocks.1.ffn.{name}.weight"] for name in ("up", "down"))
    experts = grown.first["blocks.1.ffn.experts.w_in"]
    torch.testing.assert_close(experts[4][:, 4:], up[4:8].T / 3)  # copy 1 of group 1, after its gate
    torch.testing.assert_close(grown.first["blocks.1.ffn.experts.w_out"][8], down[:, 8:].T / 9)
    torch.testing.assert_close(
        grown.second["blocks.1.ffn.experts.w_in"][0][:, 4:], moments.second["blocks.1.ffn.up.weight"][:4].T / 6
    )  # E·k
    assert not any("router" in name or ".ffn.up" in name for name in grown.first)
    assert grown.step["blocks.1.ffn.experts.b_out"] == 2
    large = grow(small, growth)
    install(large, [groups(large, factors(small.config, growth), **SETTINGS)], grown)  # names and shapes fit


def test_reading_and_installing_are_inverse():
    small = trained_like(BASE)
    moments = moments_of(small)
    optimizer = groups(small, {}, **SETTINGS)
    assert read(small, [optimizer]).first == {}
    install(small, [optimizer], moments)
    again = read(small, [optimizer])
    assert again.step == moments.step == dict.fromkeys(dict(small.named_parameters()), 2.0)
    assert all(torch.equal(again.first[name], t) for name, t in moments.first.items())
    assert all(torch.equal(again.second[name], t) for name, t in moments.second.items())
    train(small, optimizer, range(1))
    assert read(small, [optimizer]).first["norm.weight"].ne(moments.first["norm.weight"]).any()  # copies, both ways
    install(small, [optimizer], Moments())
    assert read(small, [optimizer]).first == {}


def test_moments_that_do_not_fit_are_refused():
    small = trained_like(BASE)
    moments, optimizer = moments_of(small), groups(small, {}, **SETTINGS)
    with pytest.raises(ValueError, match="embed.weight' are .31, 32., the parameter is .31, 16."):
        install(small, [optimizer], grow_moments(BASE, moments, Widen(2)))
    with pytest.raises(ValueError, match="no such parameter"):
        install(small, [optimizer], grow_moments(BASE, moments, Upcycle(MOE)))
    descent = torch.optim.SGD(small.parameters(), lr=0.1, momentum=0.9)
    train(small, descent, range(1))
    with pytest.raises(ValueError, match="only that of AdamW"):
        read(small, [descent])


def test_factors():
    config = replace(BASE, tied=False, bias=True)
    found = factors(config, Widen(2))
    reads, makes, both = Factors(1 / 2, 1, 2), Factors(1, 1 / 2, 1), Factors(1 / 2, 1 / 2, 2)
    assert found["head.weight"] == reads
    assert {found[f"blocks.0.{name}"] for name in ("norm1.weight", "attention.q.bias", "ffn.down.bias")} == {makes}
    assert found["embed.weight"] == found["norm.weight"] == makes
    assert {found[f"blocks.1.{name}.weight"] for name in ("attention.k", "attention.out", "ffn.up", "ffn.down")} == {both}
    assert factors(BASE, Widen(2))["norm.weight"] == reads
    assert set(factors(config, Deepen(4)).values()) == {Factors()}


def test_factors_of_compositions():
    growths = (Widen(2), Upcycle(GROUPS), Deepen(4, "top"), Net2Wider(36))
    found = factors(BASE, *growths)
    assert list(found) == [name for name, _ in grow(trained_like(BASE), *growths).named_parameters()]
    assert found["blocks.3.attention.q.weight"] == Factors(1 / 2, 1 / 2, 2)
    assert found["blocks.3.ffn.router.gate.weight"] == Factors()
    w_in, w_out = (found[f"blocks.2.ffn.experts.{name}"] for name in ("w_in", "w_out"))
    assert w_in.lr == pytest.approx(1 / 2) and w_in.eps == pytest.approx(1 / 2 / 3 * 24 / 36)
    assert w_out.lr == pytest.approx(1 / 2 * 3 * 24 / 36) and w_out.weight_decay == pytest.approx(1 / w_out.lr)


def test_groups_own_every_parameter_once():
    config = replace(BASE, tied=False, bias=True, positions="learned", moe=MOE)
    model = grow(trained_like(config), Widen(2))
    found = factors(config, Widen(2))
    optimizer = groups(model, found, **SETTINGS)
    names = {p: name for name, p in model.named_parameters()}
    owned = [names[p] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(names.values())
    for group in optimizer.param_groups:
        for p in group["params"]:
            name = names[p]
            decayed = SETTINGS["weight_decay"] * found[name].weight_decay if decays(name, p) else 0.0
            assert (group["lr"], group["eps"], group["weight_decay"]) == (
                SETTINGS["lr"] * found[name].lr,
                SETTINGS["eps"] * found[name].eps,
                decayed,
            )
    with pytest.raises(ValueError, match="no such parameter"):
        groups(trained_like(BASE), found, **SETTINGS)
