"""Elastic networks: choosing, running, reordering and cutting out sub-networks."""

import random
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_model

from lib import ROOT
from lib.elastic import importance
from lib.elastic.config import LAYER_AXES, PRESETS, Size, Space, presets
from lib.elastic.cost import cost
from lib.elastic.extract import extract
from lib.elastic.recovery import recovering
from lib.elastic.reorder import reorder
from lib.elastic.subnet import DEPTHS, EXPERTS, LayerUnits, Policy, Ranking, Subnet, choose, whole_subnet
from lib.elastic.supernet import ElasticViT, geometry, size_of
from lib.measure import cost as measure
from lib.models.vit import ViT, preset
from lib.models.vit_file import config_of, load_vit, save_vit
from lib.moe.backends import ACTIVATIONS
from lib.moe.layer import MoEConfig, MoELayer
from lib.moe.routers.token_choice import gates

SPACE = Space(depth=(2, 3, 4), heads=(1, 2, 3), hidden=(8, 16, 32), experts=(2, 4, 8), k=(1, 2, 3))
DENSE = Space(depth=(1, 3), heads=(1, 2), hidden=(4, 16))
MIXTURES = {
    "switch": MoEConfig(),
    "share": MoEConfig(single_gate="share"),
    "bias": MoEConfig(router="bias"),
    "softmax bias": MoEConfig(router="bias", scores="softmax"),
    "dense": None,
}


def supernet(kind: str = "switch", **changes) -> ElasticViT:
    moe = MIXTURES[kind]
    torch.manual_seed(0)
    model = ElasticViT(geometry(SPACE if moe else DENSE, width=24, moe=moe, image_size=8, channels=1, patch=2, **changes))
    for name, tensor in model.state_dict().items():  # nothing is zero or one any more, biases included
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return model.eval()


def random_size(space: Space, draw: random.Random) -> Size:
    depth = draw.choice(space.depth)
    layers = [{axis: draw.choice(getattr(space, axis)) for axis in LAYER_AXES if getattr(space, axis)} for _ in range(depth)]
    for layer in layers:
        if "k" in layer:
            layer["k"] = min(layer["k"], layer["experts"])
    return Size(depth, **{axis: tuple(layer[axis] for layer in layers) for axis in layers[0]})


POLICIES = [Policy(experts, depth) for experts in EXPERTS for depth in DEPTHS]
RANKING = Ranking(experts=((7, 1, 3, 0, 2, 6, 5, 4),) * 4, layers=(3, 0, 2, 1))


@pytest.mark.parametrize("kind, stem", [*((kind, "patch") for kind in MIXTURES), ("share", "conv"), ("dense", "strided")])
def test_random_subnetworks_cut_out_equal_the_masked_network(kind, stem):
    """60 sub-networks of each kind: outputs, all counts, and the sum of the router's assignments."""
    model, draw = supernet(kind, stem=stem), random.Random(kind)
    space = SPACE if MIXTURES[kind] else DENSE
    ranking = RANKING if MIXTURES[kind] else Ranking(layers=(2, 0, 1))
    images = torch.randn(3, 1, 8, 8)
    for trial in range(60):
        size = random_size(space, draw)
        model.use(size, POLICIES[trial % len(POLICIES)], ranking)
        small = extract(model)
        with torch.no_grad():
            expected, routings = model.with_routing(images)
            assert (small(images) - expected).abs().max() <= 1e-5
        counted = cost(size, model.config)
        assert counted.parameters == measure.parameters(small)
        assert counted.active_parameters == measure.active_parameters(small)
        assert counted.flops == measure.flops(small, images) / len(images)
        for routing, layer in zip(routings, size.layers):
            assert routing.load_E.sum() == len(images) * 16 * layer.k
            assert (routing.load_E > 0).sum() <= layer.experts
        assert len(routings) == (size.depth if space.moe else 0)


def by_masks(model: ElasticViT, images: torch.Tensor) -> torch.Tensor:
    """The sub-network computed the long way: every unit of the whole network, with what is left out set to zero."""
    kept = {units.layer: units for units in model.subnet.layers}
    x = model.embed(model.patches(images)) + model.positions
    for index, block in enumerate(model.blocks):
        if index not in kept:
            continue
        units, attention, ffn = kept[index], block.attention, block.ffn
        H, d = attention.heads, attention.head_dim
        B, N, D = x.shape
        q, k, v = attention.qkv(block.norm1(x)).view(B, N, 3, H, d).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(-1, -2) / d**0.5).softmax(-1) @ v
        on_H = torch.zeros(H).index_fill(0, torch.tensor(list(units.heads)), 1.0)
        x = x + attention.out((y * on_H.view(1, H, 1, 1)).transpose(1, 2).reshape(B, N, H * d))

        h = block.norm2(x).reshape(B * N, D)
        on_U = torch.zeros(model.config.widths[index]).index_fill(0, torch.tensor(list(units.hidden)), 1.0)
        if not isinstance(ffn, MoELayer):
            x = x + ffn.fc2(torch.nn.functional.gelu(ffn.fc1(h)) * on_U).view(B, N, D)
            continue
        logits = ffn.router.gate(h)
        logits[:, [e for e in range(logits.shape[1]) if e not in units.experts]] = -torch.inf
        probs = logits.softmax(-1)
        chosen = probs.topk(units.k).indices
        gate = torch.zeros_like(probs).scatter(1, chosen, gates(probs, chosen, ffn.router.single_gate))
        e = ffn.experts
        hidden = ACTIVATIONS[e.activation](torch.einsum("td,edh->teh", h, e.w_in) + e.b_in) * on_U
        every = torch.einsum("teh,ehd->ted", hidden, e.w_out) + e.b_out
        x = x + torch.einsum("te,ted->td", gate, every).view(B, N, D)
    return model.head(model.norm(x).mean(1))


@pytest.mark.parametrize("kind", ["switch", "share", "dense"])
def test_slicing_and_skipping_equal_masks(kind):
    model, draw = supernet(kind), random.Random(1)
    images = torch.randn(3, 1, 8, 8)
    for trial in range(12):
        model.use(random_size(SPACE if MIXTURES[kind] else DENSE, draw), Policy(experts="random", depth="random"))
        with torch.no_grad():
            torch.testing.assert_close(model(images), by_masks(model, images), atol=1e-5, rtol=0)


def test_units_that_are_no_prefix_are_cut_out_too():
    model, images = supernet(), torch.randn(3, 1, 8, 8)
    model.select(Subnet((LayerUnits(1, (0, 2), (3, 9, 30), (1, 6), 2), LayerUnits(3, (1,), (0, 5), (0, 2, 7), 1))))
    with torch.no_grad():
        expected = by_masks(model, images)
        torch.testing.assert_close(model(images), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(extract(model)(images), expected, atol=1e-5, rtol=0)


def test_the_whole_network_is_an_ordinary_vit():
    model, images = supernet(), torch.randn(3, 1, 8, 8)
    plain = ViT(model.config).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(plain(images), model(images))
    assert size_of(model.config) == SPACE.largest


def test_what_is_left_out_gets_no_gradient_and_the_balance_loss_counts_what_is_active():
    model = supernet().train()
    model.use(Size(2, 2, 16, 4, 1))
    logits, routings = model.with_routing(torch.randn(8, 1, 8, 8))
    (logits.square().mean() + sum(r.loss for r in routings)).backward()
    assert model.blocks[2].attention.qkv.weight.grad is None
    first = model.blocks[0]
    assert first.ffn.experts.w_in.grad[4:].abs().sum() == 0 == first.ffn.experts.w_in.grad[:4, :, 16:].abs().sum()
    assert first.ffn.experts.w_in.grad[:4, :, :16].abs().sum() > 0
    assert first.ffn.router.gate.weight.grad[4:].abs().sum() == 0

    small = extract(model).train()
    images = torch.randn(8, 1, 8, 8)
    within = [r.losses["balance"] for r in model.with_routing(images)[1]]
    alone = [r.losses["balance"] for r in small.with_routing(images)[1]]
    torch.testing.assert_close(within, alone)


def test_an_inactive_expert_with_a_large_bias_is_not_chosen_and_keeps_its_bias():
    model = supernet("bias").train()
    router = model.blocks[0].ffn.router
    router.bias_E[7] = 100.0
    before = router.bias_E.clone()
    model.use(Size(2, 1, 8, 4, 2))
    _, (routing, *_) = model.with_routing(torch.randn(8, 1, 8, 8))
    assert routing.load_E[4:].sum() == 0
    assert torch.equal(router.bias_E[4:], before[4:]) and not torch.equal(router.bias_E[:4], before[:4])


def test_top_1_gate_normalised_over_its_winner_teaches_the_router_nothing_and_ours_does():
    """The student project's gate for one expert is p / (p + 1e-9)."""
    torch.manual_seed(0)
    x, weight, experts = torch.randn(64, 8), torch.randn(4, 8, requires_grad=True), torch.randn(4, 8, 8)

    def gradient(gate_of) -> float:
        probs = (x @ weight.T).softmax(-1)
        chosen = probs.topk(1).indices
        y = torch.einsum("td,tdo->to", x, experts[chosen[:, 0]]) * gate_of(probs, chosen)
        return torch.autograd.grad(y.square().mean(), weight)[0].norm().item()

    theirs = gradient(lambda probs, chosen: probs.gather(1, chosen) / (probs.gather(1, chosen) + 1e-9))
    assert theirs < 1e-5
    for rule in ("probability", "share"):
        assert gradient(lambda probs, chosen: gates(probs, chosen, rule)) > 0.1


def test_the_share_gate_of_one_expert():
    probs = torch.tensor([[0.5, 0.3, 0.2]])
    assert gates(probs, torch.tensor([[0]]), "share").item() == pytest.approx(0.5 / 0.8)
    assert gates(probs[:, :1] * 2, torch.tensor([[0]]), "share").item() == 1
    torch.testing.assert_close(gates(probs, torch.tensor([[0, 1]]), "share"), gates(probs, torch.tensor([[0, 1]])))


@pytest.mark.parametrize("kind", ["switch", "bias", "dense"])
def test_reordering_keeps_the_function_and_puts_the_important_first(kind):
    model, images = supernet(kind).double(), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    before = model(images)
    scores = importance.reap(model, images) if MIXTURES[kind] else None
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reorder(model, scores)
    torch.testing.assert_close(model(images), before, atol=1e-12, rtol=0)
    assert any(not torch.equal(state[name], tensor) for name, tensor in model.state_dict().items() if "qkv" in name)
    for block in model.blocks:
        for ordered in (importance.heads(block.attention), importance.ffn_channels(block.ffn)):
            assert (ordered.diff(dim=-1) <= 0).all()
    if scores:
        assert all((after.diff() <= 1e-12).all() for after in importance.reap(model, images))


def test_reap_is_the_mean_gated_norm_over_the_tokens_of_an_expert():
    model, images = supernet().double(), torch.randn(4, 1, 8, 8, dtype=torch.float64)
    inputs = {}
    layer = model.blocks[0].ffn
    layer.register_forward_pre_hook(lambda module, args: inputs.update(x=args[0]))
    _, (routing, *_) = model.with_routing(images)
    x_TD, e = inputs["x"].flatten(0, 1), layer.experts
    hidden_TEH = ACTIVATIONS[e.activation](torch.einsum("td,edh->teh", x_TD, e.w_in) + e.b_in)
    norm_TE = (torch.einsum("teh,ehd->ted", hidden_TEH, e.w_out) + e.b_out).norm(dim=-1)
    gate_TE = routing.gate_TKE.sum(1)
    expected = (gate_TE * norm_TE).sum(0) / (gate_TE > 0).sum(0).clamp(min=1)
    torch.testing.assert_close(importance.reap(model, images)[0], expected)
    with pytest.raises(ValueError, match="has none"):
        importance.reap(supernet("dense"), images.float())


def test_layer_importance_is_the_loss_without_the_layer():
    model, images = supernet(), torch.randn(3, 1, 8, 8)
    model.use(SPACE.smallest)
    chosen = model.subnet

    def loss(network):
        with torch.no_grad():
            return network(images).square().sum().item()

    found = importance.layers(model, loss)
    assert model.subnet == chosen
    every = whole_subnet(SPACE.largest)
    without_second = loss(model.select(Subnet(every.layers[:1] + every.layers[2:])))
    assert found[1].item() == pytest.approx(without_second - loss(model.select(every)), abs=1e-4)
    assert importance.rank(layers=found).layers[0] == int(found.argmax())


def test_a_file_of_its_own_that_is_smaller_and_needs_nothing_of_this(tmp_path):
    """Bytes shrink as parameters do, and the file is read back where no module of lib.elastic is loaded."""
    torch.manual_seed(0)
    space = replace(SPACE, hidden=(64, 128))
    model = ElasticViT(geometry(space, width=48, moe=MoEConfig(), image_size=32, channels=3, patch=8)).eval()
    images = torch.randn(4, 3, 32, 32)
    whole = save_vit(extract(model), tmp_path / "whole.safetensors")
    small_net = extract(model.use(Size(3, (1, 2, 3), (64, 128, 64), (4, 8, 2), (2, 1, 2))))
    part = save_vit(small_net, tmp_path / "part.safetensors")
    share = measure.parameters(small_net) / measure.parameters(extract(model.select(whole_subnet(model.whole))))
    assert abs(part / whole - share) <= 0.02 * share
    torch.save({"images": images, "logits": small_net(images).detach()}, tmp_path / "expected.pt")
    code = f"""
import sys, torch
from lib.models.vit_file import load_vit
model, seen = load_vit({str(tmp_path / "part.safetensors")!r}), torch.load({str(tmp_path / "expected.pt")!r})
assert not [name for name in sys.modules if name.startswith("lib.elastic")]
assert torch.equal(model(seen["images"]), seen["logits"])
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_file_that_is_missing_damaged_or_of_another_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        load_vit(tmp_path / "nothing.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"12345678 not a file")
    with pytest.raises(ValueError, match="damaged"):
        load_vit(tmp_path / "damaged.safetensors")
    save_model(ViT(preset("tiny")), str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="save_vit"):
        load_vit(tmp_path / "other.safetensors")
    for fields in ({"colour": "red"}, {"moe": {"colour": "red"}}):
        with pytest.raises(ValueError, match="another version of this library"):
            config_of(fields)


def test_spaces_presets_and_sizes():
    space = Space(depth=(3, 4, 5, 6), heads=(6,), hidden=(96,), experts=(4, 8, 12, 16), k=(1, 2))
    assert space.elastic_axes == ("depth", "experts", "k")
    named = presets(space)
    assert set(named) == set(PRESETS) and all(size in space for size in named.values())
    assert [(s.depth, s.experts, s.k) for s in named.values()] == [(6, 16, 2), (4, 12, 2), (3, 8, 1)]
    assert len(list(space.sizes())) == 4 * 4 * 2
    assert space.upper_half() == Space((5, 6), (6,), (96,), (12, 16), (2,))
    assert Space.only(space.smallest).largest == space.smallest == Size(3, 6, 96, 4, 1)
    assert Size(5, 6, 96, 10, 2) not in space and Size(5, 6, 96) not in space
    assert Size(2, (1, 3), 8, 4, (1, 2)).label == "2 layers, 1–3 heads, 4 experts of 8, k=1–2"
    for wrong, words in (
        ({"depth": 0}, "at least one layer"),
        ({"k": 9}, "between 1 and"),
        ({"hidden": (1, 2)}, "per active layer"),
        ({"experts": None}, "neither"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(Size(3, 2, 8, 4, 2), **wrong)
    with pytest.raises(ValueError, match="Did you mean"):
        space.fitted(dept=0.5)
    with pytest.raises(ValueError, match="ascending"):
        replace(space, k=(2, 1))


def test_choosing_units():
    whole = Size(6, 4, 32, 8, 2)
    strided = choose(Size(3, 4, 32, 8, 2), whole, Policy(depth="strided"))
    assert [units.layer for units in strided.layers] == [0, 2, 5]
    best = choose(
        Size(2, 4, 32, 3, 2),
        whole,
        Policy("importance", "importance"),
        Ranking(experts=((5, 0, 7, 1, 2, 3, 4, 6),) * 6, layers=(4, 1, 0, 2, 3, 5)),
    )
    assert [units.layer for units in best.layers] == [1, 4] and best.layers[0].experts == (0, 5, 7)
    torch.manual_seed(0)
    drawn = {choose(Size(6, 4, 32, 3, 2), whole, Policy(experts="random")) for _ in range(5)}
    assert len(drawn) == 5
    with pytest.raises(ValueError, match="ranking"):
        choose(Size(2, 4, 32, 3, 2), whole, Policy(experts="importance"))
    with pytest.raises(ValueError, match="are asked for"):
        choose(Size(2, 5, 32, 3, 2), whole)


def test_only_what_is_to_recover_is_trained():
    model = extract(supernet())
    with recovering(model, "routers"):
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all("router.gate" in name for name in trained)
    assert all(p.requires_grad for p in model.parameters())
    with recovering(model, "everything"):
        assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="no routers"), recovering(extract(supernet("dense")), "routers"):
        pass


@pytest.mark.parametrize(
    "moe, words",
    [
        (MoEConfig(router="soft"), "router"),
        (MoEConfig(k=2, shared=1), "unshared"),
        (MoEConfig(policy="arrival"), "dropless"),
        (MoEConfig(router_bias=True), "router_bias"),
    ],
)
def test_mixtures_that_cannot_be_elastic(moe, words):
    with pytest.raises(ValueError, match=words):
        ElasticViT(replace(preset("tiny"), moe=moe))


def test_a_head_with_a_hidden_layer_is_refused():
    with pytest.raises(ValueError, match="head_hidden"):
        ElasticViT(preset("tiny", head_hidden=40))


@pytest.mark.parametrize("kind", MIXTURES)
def test_bfloat16_sub_networks_are_nearly_the_same_and_have_finite_gradients(kind):
    model, images = supernet(kind), torch.randn(8, 1, 8, 8)
    model.use(Size(3, 2, 16, 4, 1) if MIXTURES[kind] else Size(1, 1, 4))
    exact = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits, routings = model.train().with_routing(images)
        loss = logits.float().square().mean() + sum(routing.loss for routing in routings)
    loss.backward()
    used = [p.grad for p in model.parameters() if p.grad is not None]
    assert used and all(gradient.isfinite().all() for gradient in used)
    # Where two experts are nearly equal, rounding may send a token to the other one.
    assert (logits - exact).abs().mean() < 0.1 * exact.abs().mean()


def test_looking_for_important_layers_leaves_the_sub_network_on_when_the_loss_fails():
    model = supernet().use(SPACE.smallest)
    chosen = model.subnet

    def broken(network):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        importance.layers(model, broken)
    assert model.subnet == chosen


def test_skipped_layers_have_scores_of_the_same_kind():
    model = supernet().use(SPACE.smallest)
    scores = importance.reap(model, torch.randn(2, 1, 8, 8))
    assert {score.dtype for score in scores} == {torch.float64} and scores[3].sum() == 0 < scores[0].sum()
