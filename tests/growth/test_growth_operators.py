"""Each growth operator: what it says of itself, what it draws, and what it refuses."""

from dataclasses import dataclass, replace

import pytest
import torch

from growth_samples import BASE, EXACT, GROUPS, MOE, TOKENS, trained_like
from lib.growth.depth import Deepen
from lib.growth.faults import NoiseFault, TiedFault
from lib.growth.growth import grow
from lib.growth.net2net import Net2Wider
from lib.growth.upcycle import Upcycle
from lib.growth.verify import verify
from lib.growth.width import Even, Noise, Uneven, Widen
from lib.moe.layer import MoEConfig
from lib.runs.spec import Spec, changed_fields


@pytest.mark.parametrize("growths", EXACT.values(), ids=EXACT)
def test_an_exact_growth_says_so_and_its_configuration_fits(growths):
    config = replace(BASE, kv_heads=2)
    for growth in growths:
        assert growth.exact(config)
        grown = growth.config(config)
        assert grown.head_dim == config.head_dim and grown.heads * config.keys == grown.keys * config.heads
        config = grown
    assert grow(trained_like(replace(BASE, kv_heads=2)), *growths).config == config


@pytest.mark.parametrize(
    "growth, least",
    [
        (Deepen(4, "stack"), 1e-2),
        (Deepen(3, "interpose"), 1e-2),
        (Deepen(3, "copy-last"), 1e-2),
        (TiedFault(2), 1e-1),
        (NoiseFault(2, db=20.0), 1e-3),
        (Upcycle(MOE, drop=0.5), 1e-2),
        (Upcycle(replace(MOE, k=1)), 1e-2),
        (Upcycle(MoEConfig(experts=4, k=2, router="vmoe")), 1e-2),
        (Upcycle(GROUPS, output_scale=2.0), 1e-2),
    ],
    ids=lambda value: type(value).__name__ + getattr(value, "how", "") if hasattr(value, "config") else "",
)
def test_the_inexact_ones_say_so_and_are(growth, least):
    small = trained_like(replace(BASE, bias=True))
    report = verify(small, grow(small, growth), TOKENS)
    assert not growth.exact(small.config)
    assert report.relative > least and not report.passed(torch.float64)
    assert max(report.structure.values()) > least


@pytest.mark.parametrize("symmetry", [Even(), Noise(10.0), Uneven(1.0)], ids=lambda s: type(s).__name__)
def test_weights_differ_between_copies_as_asked(symmetry):
    small = trained_like(BASE)
    old, new = small.state_dict(), grow(small, Widen(2, symmetry)).state_dict()
    for name in ("blocks.0.attention.q.weight", "blocks.1.ffn.down.weight"):
        even = old[name].repeat(2, 2) / 2
        noise = new[name] - even
        size = {Even: 0.0, Noise: 10 ** (-10 / 20), Uneven: 2.0}[type(symmetry)]
        assert (noise.square().mean() / even.square().mean()).sqrt() == pytest.approx(size, rel=0.1)
        assert torch.equal(new[name] == even, torch.full_like(even, size == 0, dtype=torch.bool))
        top, bottom = new[name].chunk(2)
        assert size == 0 or not torch.equal(top, bottom)


def test_draws_depend_on_seed_and_name_only():
    small = trained_like(BASE)
    names, growth = list(small.state_dict()), Widen(2, Noise())
    forward = growth.weights(BASE, {name: small.state_dict()[name] for name in names}, seed=3)
    backward = growth.weights(BASE, {name: small.state_dict()[name] for name in reversed(names)}, seed=3)
    other = growth.weights(BASE, small.state_dict(), seed=4)
    assert all(torch.equal(forward[name], backward[name]) for name in names)
    assert not torch.equal(forward["blocks.0.ffn.up.weight"], other["blocks.0.ffn.up.weight"])
    assert not torch.equal(forward["blocks.0.ffn.up.weight"], forward["blocks.1.ffn.up.weight"])


@pytest.mark.parametrize(
    "growth", [Widen(2, Noise()), Net2Wider(20), Deepen(4, "stack"), Upcycle(MOE, drop=0.5)], ids=lambda growth: type(growth).__name__
)
def test_growing_leaves_the_model_and_the_random_state_alone(growth):
    small = trained_like(BASE).train()
    before, state = {name: t.clone() for name, t in small.state_dict().items()}, torch.get_rng_state()
    large = grow(small, growth)
    assert torch.equal(state, torch.get_rng_state()) and large.training
    with torch.no_grad():
        for p in large.parameters():
            p.add_(1)
    assert all(torch.equal(before[name], t) for name, t in small.state_dict().items())
    assert len({p.data_ptr() for p in large.parameters()}) == len(list(large.parameters()))
    assert all(p.requires_grad and p.dtype == torch.float64 for p in large.parameters())


@pytest.mark.parametrize(
    "how, places, old, new",
    [
        ("interleaved", "0 1 1' 2 3 3'", 4, 6),
        ("top", "0 1 2 3 3' 3'", 4, 6),
        ("stack", "0 1 2 0 1 2", 3, 6),
        ("interpose", "0 0 1 2 2 3", 4, 6),
        ("interpose", "0 0 1 1 2 2", 3, 6),
        ("copy-last", "0 1 2 2", 3, 4),
        ("interleaved", "0 0' 1 1' 2 2'", 3, 6),
        ("interleaved", "0 0' 0'", 1, 3),
        ("interleaved", "0 1 2", 3, 3),
    ],
)
def test_plans(how, places, old, new):
    plan = Deepen(new, how).plan(old)
    assert " ".join(f"{source}{chr(39) * silent}" for source, silent in plan) == places


@pytest.mark.parametrize(
    "growth, message",
    [
        (lambda: Widen(0), "times is 0"),
        (lambda: Deepen(3, "middle"), "use one of"),
        (lambda: Deepen(1).config(BASE), "choose more"),
        (lambda: Deepen(3, "stack").config(BASE), "choose a multiple"),
        (lambda: Net2Wider(8).config(BASE), "choose more"),
        (lambda: Net2Wider(13).config(replace(BASE, moe=GROUPS)), "choose a multiple"),
        (lambda: Upcycle(MOE, drop=2), "drop is 2"),
        (lambda: Upcycle(MOE, router_scale=-1), "negative"),
        (lambda: Upcycle(MOE, output_scale=0), "above 0"),
        (lambda: Upcycle(MOE).config(replace(BASE, moe=MOE)), "experts already"),
        (lambda: Upcycle(MoEConfig(experts=2, split=5)).config(BASE), "choose a divisor"),
        (lambda: Upcycle(MoEConfig(router="soft")).config(BASE), "yet to come"),
        (lambda: TiedFault(2).config(replace(BASE, tied=False)), "use Widen"),
    ],
)
def test_what_does_not_apply_is_refused(growth, message):
    with pytest.raises(ValueError, match=message):
        growth()


def test_growths_are_fields_of_a_spec():
    @dataclass(frozen=True, kw_only=True)
    class Example(Spec):
        experiment = "example"
        growths: tuple = ()

    one = Example(growths=(Widen(2, Noise(10.0)), Upcycle(MOE), Deepen(4, "stack")))
    assert one.key == Example(growths=(Widen(symmetry=Noise(10)), Upcycle(MOE), Deepen(4, "stack"))).key
    assert one.key != Example(growths=(Widen(2, Uneven()), Upcycle(MOE), Deepen(4, "stack"))).key
    assert changed_fields(one)["growths"][0] == {"type": "Widen", "symmetry": {"type": "Noise", "db": 10}}
