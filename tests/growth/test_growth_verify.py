"""What a growth is checked by: outputs, what tensors must satisfy, the routers' health.  Faults must not pass."""

from dataclasses import replace

import pytest
import torch

from growth_samples import BASE, EXACT, GROUPS, MOE, TOKENS, VARIANTS, trained_like
from lib.growth.depth import Deepen
from lib.growth.faults import NoiseFault, TiedFault
from lib.growth.growth import grow
from lib.growth.net2net import Net2Wider
from lib.growth.structure import structure
from lib.growth.upcycle import Upcycle
from lib.growth.verify import TOLERANCE, verify
from lib.growth.width import Noise, Widen


@pytest.mark.parametrize("name", EXACT)
def test_report(name):
    for variant in VARIANTS[::3]:  # each pair of choices is among them
        small = trained_like(replace(BASE, **variant))
        report = verify(small, grow(small, *EXACT[name]), TOKENS)
        assert report.passed(torch.float64), (variant, report)
        assert max(report.structure.values()) <= 1e-14, (variant, report.structure)
        assert abs(report.loss_after - report.loss_before) <= 1e-10


@pytest.mark.parametrize(
    "growths",
    [(Widen(2, Noise()),), (Net2Wider(18),), (Deepen(3),), (Deepen(3), Widen(2), Net2Wider(30))],
    ids=["wide", "hidden", "deep", "all"],
)
@pytest.mark.parametrize("bias", [False, True])
def test_a_mixture_grows_as_a_dense_model_does(growths, bias):
    small = trained_like(replace(BASE, moe=GROUPS, bias=bias, kv_heads=2))
    report = verify(small, grow(small, *growths), TOKENS)
    assert report.passed(torch.float64) and max(report.structure.values()) <= 1e-14
    assert {"router", "ffn"} <= report.structure.keys() and "experts" not in report.structure


@pytest.mark.parametrize(
    "growth, groups",
    [
        (TiedFault(2), {"embedding", "norms"}),
        (NoiseFault(2, db=20.0), {"attention", "ffn"}),
        (Upcycle(MOE, drop=0.5), {"experts"}),
        (Upcycle(GROUPS, output_scale=2.0), {"experts"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set) else "",
)
def test_a_fault_shows_in_the_tensors_that_have_it(growth, groups):
    small = trained_like(BASE)
    found = structure(small, grow(small, growth))
    assert groups == {group for group, violation in found.items() if violation > 0.01}


@pytest.mark.parametrize(
    "name, group",
    [
        ("embed.weight", "embedding"),
        ("norm.weight", "norms"),
        ("blocks.1.norm2.bias", "norms"),
        ("head.weight", "head"),
        ("blocks.0.attention.k.weight", "attention"),
        ("blocks.1.attention.out.bias", "attention"),
        ("positions", "embedding"),
        ("blocks.0.ffn.gate.bias", "ffn"),
        ("blocks.0.ffn.up.weight", "ffn"),
        ("blocks.1.ffn.down.weight", "ffn"),
        ("blocks.1.ffn.down.bias", "ffn"),
    ],
)
def test_one_wrong_entry_anywhere_is_found(name, group):
    small = trained_like(replace(BASE, norm="layer", positions="learned", tied=False, bias=True, kv_heads=2))
    large = grow(small, Widen(2, Noise()))
    with torch.no_grad():
        large.get_parameter(name).view(-1)[-1] += 0.01
    found = structure(small, large)
    assert found.pop(group) > 1e-4 and max(found.values()) <= 1e-14


@pytest.mark.parametrize("name", ["w_in", "b_in", "w_out", "b_out"])
def test_one_wrong_entry_in_an_expert_is_found(name):
    small = trained_like(replace(BASE, bias=True))
    large = grow(small, Upcycle(GROUPS), Widen(2))
    with torch.no_grad():
        large.get_parameter(f"blocks.1.ffn.experts.{name}").view(-1)[-1] += 0.01
    assert structure(small, large)["experts"] > 1e-4


def test_the_wrong_way_round_is_refused():
    small = trained_like(BASE)
    for growth in (Widen(2), Deepen(3), Upcycle(MOE)):
        with pytest.raises(ValueError, match="not a larger version"):
            structure(grow(small, growth), small)


def test_routers_are_reported():
    small = trained_like(BASE)
    assert verify(small, grow(small, Widen(2)), TOKENS).router == {}
    healthy = verify(small, grow(small, Upcycle(MOE)), TOKENS).router
    assert 0.5 < healthy["logit_std"] < 1.5 and healthy["ties"] == 0
    assert healthy["load_entropy"] > 0.6 and healthy["least_share"] > 0.02
    zero = verify(small, grow(small, Upcycle(MOE, router_scale=0.0)), TOKENS)
    assert zero.passed(torch.float64) and zero.router["ties"] == 1 and zero.router["logit_std"] == 0
    assert zero.router["load_entropy"] < 0.6 and zero.router["least_share"] == 0  # ties always pick the same experts
    every = verify(small, grow(small, Upcycle(replace(MOE, experts=2))), TOKENS).router
    assert every["ties"] == 0 and every["least_share"] == 0.5


def test_verifying_leaves_modes_alone_and_switches_dropout_off():
    small = trained_like(replace(BASE, dropout=0.5)).train()
    large = grow(small, Widen(2))
    assert verify(small, large, TOKENS).passed(torch.float64)
    assert small.training and large.training
    assert not any(module._forward_hooks for module in large.modules())


def test_tolerances():
    small = trained_like(BASE, torch.float32)
    report = verify(small, grow(small, Widen(2)), TOKENS)
    assert report.passed(torch.float32) and not report.passed(torch.float64)
    assert report.relative == report.max_difference / report.logit_std
    assert set(TOLERANCE) == {torch.float64, torch.float32}
    with pytest.raises(ValueError, match="float64 or float32"):
        report.passed(torch.bfloat16)


def test_noise_is_safe_from_minus_three_decibels_up():
    """fp32, six blocks: rounding stays rounding down to -3 dB, and is amplified from block to block at -12 dB."""
    small = trained_like(replace(BASE, depth=6), torch.float32)
    wrong = {db: verify(small, grow(small, Widen(2, Noise(db))), TOKENS).relative for db in (40.0, 10.0, 0.0, -3.0, -12.0)}
    assert max(wrong[db] for db in (40.0, 10.0, 0.0, -3.0)) <= 1e-5 < wrong[-12.0]


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_what_training_left_that_diverged_is_measured_without_an_error(value):
    small = trained_like(replace(BASE, depth=2))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(value)
    report = verify(small, grow(small, Deepen(3)), TOKENS)
    assert report.passed(torch.float64) == (value == 0.0)
