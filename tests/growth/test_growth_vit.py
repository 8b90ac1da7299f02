"""Vision transformers grow by the operators that were made for GPTs: the function, the moments and the rates follow."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lib.growth.depth import Deepen
from lib.growth.growth import grow, grow_moments
from lib.growth.layout_vit import axes, sizes
from lib.growth.moments import Moments
from lib.growth.net2net import Net2Wider
from lib.growth.rates import factors, groups
from lib.growth.upcycle import Upcycle
from lib.growth.width import Noise, Uneven, Widen
from lib.models.vit import ViT, ViTConfig
from lib.moe.layer import MoEConfig

#: Sizes of which no two are equal, and none is a multiple of another by accident.
BASE = ViTConfig(image_size=8, channels=1, patch=2, width=20, depth=2, heads=4, hidden=14, classes=7)
VARIANTS = {"mean": BASE, "class token": replace(BASE, pool="class"), "head dimension": replace(BASE, head_dim=3)}

EXACT = {
    "copies": (Widen(2),),
    "three copies": (Widen(3),),
    "noise": (Widen(2, Noise(0.0)),),
    "uneven": (Widen(2, Uneven(0.5)),),
    "hidden": (Net2Wider(19),),
    "interleaved": (Deepen(3),),
    "top": (Deepen(4, "top"),),
    "deep, hidden, wide": (Deepen(3), Net2Wider(20), Widen(2, Uneven(0.5))),
    "wide, deep": (Widen(2, Noise(0.0)), Deepen(3)),
}
IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.tensor([3, 0, 6])


def trained_like(config: ViTConfig, dtype=torch.float64) -> ViT:
    """A ViT with random gains and biases, whose logits have some size."""
    torch.manual_seed(0)
    model = ViT(config).to(dtype)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=draw, dtype=dtype)
            p.mul_(2).add_(0.3 * noise) if p.ndim > 1 else p.add_(0.3 * noise)
    return model.eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", EXACT)
@torch.no_grad()
def test_the_function_is_kept(name, variant):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        small = trained_like(VARIANTS[variant], dtype)
        expected, large = small(IMAGES.to(dtype)), grow(small, *EXACT[name])
        assert 0.5 < expected.std() < 8
        assert (large(IMAGES.to(dtype)) - expected).abs().max() <= tolerance * expected.std()
        assert sum(p.numel() for p in large.parameters()) > sum(p.numel() for p in small.parameters())
        assert large.positions.dtype == dtype and not large.training


@torch.no_grad()
def test_copies_are_told_apart_and_stacking_changes_the_function():
    small = trained_like(BASE)
    for symmetry in (Noise(0.0), Uneven(0.5)):
        fc1, qkv = (grow(small, Widen(2, symmetry)).get_parameter(f"blocks.0.{name}.weight") for name in ("ffn.fc1", "attention.qkv"))
        assert not torch.allclose(fc1[:, :20], fc1[:, 20:], atol=1e-2)
        assert not torch.allclose(qkv[:, :20], qkv[:, 20:], atol=1e-2)
    stacked = grow(small, Deepen(4, "stack"))
    assert not Deepen(4, "stack").exact(BASE) and (stacked(IMAGES) - small(IMAGES)).abs().max() > 0.1


def test_silent_blocks_write_nothing_and_learn():
    large = grow(trained_like(BASE), Deepen(3))
    F.cross_entropy(large(IMAGES), LABELS).backward()
    silent = large.blocks[2]
    written = [silent.attention.out.weight, silent.attention.out.bias, silent.ffn.fc2.weight, silent.ffn.fc2.bias]
    assert all(not p.any() and p.grad.abs().max() > 0 for p in written)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_table_knows_every_dimension(variant):
    config = VARIANTS[variant]
    length = {"width": 20, "heads": 4 * (config.head_dim or 5), "hidden": 14}
    for name, tensor in ViT(config).state_dict().items():
        layout = axes(name, config)
        assert len(layout) == tensor.ndim and sum(axis.flow == "in" for axis in layout) <= 1, name
        for axis, size in zip(layout, tensor.shape):
            assert size == axis.parts * length.get(axis.kind, size), (name, axis)
            assert axis.kind != "fixed" or size in (4, 16, 7), name  # pixels, positions, classes
    assert sizes(Widen(3).config(config)) == {kind: count * (1 if kind == "fixed" else 3) for kind, count in sizes(config).items()}


def gradients(model: ViT) -> dict[str, torch.Tensor]:
    model.zero_grad()
    F.cross_entropy(model(IMAGES), LABELS).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_moments_follow_the_gradients(variant):
    """What the small network's gradients become is what the grown network's own gradients are."""
    small, growth = trained_like(VARIANTS[variant]), Widen(3)
    found = gradients(small)
    moments = Moments(found, {name: g.square() for name, g in found.items()}, dict.fromkeys(found, 5.0))
    grown = grow_moments(small.config, moments, growth)
    for name, expected in gradients(grow(small, growth)).items():
        torch.testing.assert_close(grown.first[name], expected, atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(grown.second[name], expected.square(), atol=1e-12, rtol=1e-9)
    assert set(grown.step.values()) == {5.0}


def test_with_the_rates_of_its_table_a_grown_network_trains_as_the_small_one():
    """One network trained and then grown, another grown and then trained: the same."""

    def trained(model: ViT, rates: dict) -> ViT:
        optimizer = groups(model, rates, lr=1e-2, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(IMAGES), LABELS).backward()
            optimizer.step()
        return model

    growth = Widen(2)
    grown_first = trained(grow(trained_like(BASE), growth), factors(BASE, growth))
    trained_first = grow(trained(trained_like(BASE), {}), growth)
    for name, p in grown_first.named_parameters():
        torch.testing.assert_close(p, trained_first.get_parameter(name), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(moe=MoEConfig(experts=2)), "has experts"),
        (dict(heads=(4, 2), head_dim=5), "differ by layer"),
        (dict(hidden=(14, 10)), "differ by layer"),
        (dict(head_hidden=9), "hidden layer"),
    ],
)
def test_networks_that_cannot_grow_say_so(changes, message):
    with pytest.raises(ValueError, match=message):
        grow(ViT(replace(BASE, **changes)), Widen(2))


def test_only_a_gpt_becomes_a_mixture():
    with pytest.raises(ValueError, match="only a GPT's FFNs"):
        grow(ViT(BASE), Upcycle(MoEConfig(experts=2, k=2)))
    with pytest.raises(ValueError, match="not in the table"):
        axes("blocks.0.ffn.gate.weight", BASE)
