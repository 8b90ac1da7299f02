"""The vision transformer: geometry, parts, and that it learns."""

import pytest
import torch
import torch.nn.functional as F

from lib.models.layers import Attention, Block, DropPath
from lib.models.vit import ViT, ViTConfig, preset, seed_geometry
from lib.moe.ffn import Mlp
from lib.moe.layer import MoEConfig, MoELayer


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def size(config):
    with torch.device("meta"):
        return sum(p.numel() for p in ViT(config).parameters())


@pytest.mark.parametrize("experts, parameters", [(None, 12_798_490), (32, 238_732_426), (64, 464_669_962)])
def test_seed_geometry_has_exactly_the_published_size(experts, parameters):
    assert size(seed_geometry(experts)) == parameters


def test_presets():
    assert 12e6 < size(preset("base")) < 13e6
    for name in ("tiny", "small", "base"):
        config = preset(name, moe=MoEConfig(experts=16))
        assert config.width % 8 == 0 and config.hidden % 8 == 0
        assert config.tokens == config.patches
    with pytest.raises(ValueError, match="'tiny', 'small', 'base'"):
        preset("huge")
    assert preset("tiny", classes=3).classes == 3


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"patch": 5}, "divides the image"),
        ({"heads": 7}, "shared by 7 heads"),
        ({"pool": "max"}, "'mean', 'class'"),
        ({"hidden": (8, 8)}, "one per layer"),
        ({"positions": 3}, "too small"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_geometry_that_does_not_fit_is_refused_with_advice(fields, message):
    with pytest.raises(ValueError, match=message):
        ViTConfig(**fields)


def test_patches_are_tiles_of_the_image():
    model = ViT(preset("tiny", channels=2))
    images = torch.arange(2 * 8 * 8.0).view(1, 2, 8, 8)
    patches = model.patches(images)
    assert patches.shape == (1, 16, 8)
    torch.testing.assert_close(patches[0, 5], images[0, :, 2:4, 2:4].flatten())
    # The same as a convolution with stride equal to the patch, which is how it is often written.
    kernel = model.embed.weight.view(-1, 2, 2, 2)
    convolved = F.conv2d(images, kernel, model.embed.bias, stride=2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.embed(patches), convolved)


def test_attention_is_softmax_attention():
    attention, x = Attention(12, 3), torch.randn(2, 5, 12)
    q, k, v = attention.qkv(x).view(2, 5, 3, 3, 4).unbind(2)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / 2
    expected = attention.out(torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).reshape(2, 5, 12))
    torch.testing.assert_close(attention(x), expected)


def test_stochastic_depth_keeps_the_mean_and_is_off_in_evaluation():
    drop, x = DropPath(0.3), torch.ones(20_000, 1, 1)
    y = drop(x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert drop.eval()(x) is x
    rates = [block.drop_path.probability for block in ViT(preset("base", width=40, drop_path=0.1)).blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.1) and rates == sorted(rates)


def test_a_block_reports_routing_only_for_experts():
    x = torch.randn(2, 4, 16)
    y, routing = Block(16, Attention(16, 2), Mlp(16, 32))(x)
    assert y.shape == x.shape and routing is None
    y, routing = Block(16, Attention(16, 2), MoELayer(MoEConfig(experts=4), 16, 32))(x)
    assert y.shape == x.shape and routing.load_E.sum() == 8


@pytest.mark.parametrize("placement, layers", [("all", 4), ("every-second", 2), ("last-two", 2)])
def test_with_routing_returns_one_routing_per_moe_layer(placement, layers):
    model = ViT(preset("tiny", depth=4, moe=MoEConfig(experts=4, placement=placement)))
    logits, routings = model.with_routing(torch.randn(2, 1, 8, 8))
    assert logits.shape == (2, 10) and len(routings) == layers
    model.eval()
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(model(images), model.with_routing(images)[0])


def test_layers_may_have_different_widths():
    model = ViT(preset("tiny", depth=3, hidden=(16, 32, 64)))
    assert [block.ffn.fc1.out_features for block in model.blocks] == [16, 32, 64]


def test_class_token_head_and_long_position_table():
    config = preset("tiny", pool="class", head_hidden=20, positions=30, moe=MoEConfig(experts=4, router="hash"))
    model = ViT(config)
    logits, routings = model.with_routing(torch.randn(2, 1, 8, 8))
    assert logits.shape == (2, 10) and len(routings[0].expert_TK) == 2 * 17


def test_experts_start_like_the_dense_ffn_they_replace():
    dense, moe = ViT(preset("base", depth=1)), ViT(preset("base", depth=1, moe=MoEConfig(experts=4)))
    for linear, stacked in (
        (dense.blocks[0].ffn.fc1, moe.blocks[0].ffn.experts.w_in),
        (dense.blocks[0].ffn.fc2, moe.blocks[0].ffn.experts.w_out),
    ):
        assert stacked.std().item() == pytest.approx(linear.weight.std().item(), rel=0.02)
        assert stacked.abs().max().item() == pytest.approx(linear.weight.abs().max().item(), rel=0.01)


@pytest.mark.parametrize("moe", [None, MoEConfig(experts=4)], ids=["dense", "switch"])
def test_it_learns_where_a_bright_patch_is(moe):
    """A task of positions only; forty steps are enough."""
    model = ViT(preset("tiny", classes=16, moe=moe))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    labels = torch.arange(16).repeat(4)
    for _ in range(40):
        images = 0.1 * torch.randn(64, 1, 8, 8)
        for image, label in zip(images, labels):
            row, column = divmod(int(label), 4)
            image[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1
        logits, routings = model.with_routing(images)
        loss = F.cross_entropy(logits, labels) + sum(r.loss for r in routings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.argmax(-1) == labels).float().mean() > 0.95
