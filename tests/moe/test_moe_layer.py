"""The MoE layer and its configuration, for every router; training losses and diagnostics."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lib.measure.cost import active_parameters, parameters
from lib.models.vit import ViT, preset
from lib.moe.diagnostics import (
    dead_experts,
    expert_by_class,
    expert_by_position,
    load_entropy,
    max_load,
    routing_logs,
    stability,
    variation,
)
from lib.moe.layer import MoEConfig, MoELayer
from lib.moe.losses import moe_classification_loss
from lib.moe.routers import ROUTERS
from lib.moe.routers.adamix import adamix_loss, kl
from lib.moe.routers.hash import fit_patch_codes
from lib.moe.routers.thor import thor_loss
from lib.moe.routing import routing

B, N, D, H = 3, 16, 24, 32


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def layer(**fields):
    return MoELayer(MoEConfig(**{"experts": 4, **fields}), D, H, tokens=N)


def tiny(**fields):
    return ViT(preset("tiny", moe=MoEConfig(**{"experts": 4, **fields})))


# Configuration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"router": "top2"}, "'switch', 'vmoe', 'bias'"),
        ({"policy": "fifo"}, "'arrival', 'random', 'priority'"),
        ({"placement": "first"}, "'all', 'every-second', 'last-two'"),
        ({"experts": 0}, "at least 1"),
        ({"experts": 4, "k": 5}, "between 1 and the number of experts"),
        ({"k": 2, "router": "soft"}, "does not use k"),
        ({"router": "bias", "policy": "arrival"}, "does not use policy"),
        ({"router": "partition", "experts": 1}, "at least 2"),
        ({"shared": 1}, "below split"),
        ({"experts": 2, "k": 2, "policy": "second-choice"}, "outside the top k"),
        ({"capacity_factor": 0.0}, "above 0"),
        ({"jitter": 1.0}, "jitter"),
        ({"balance": -1.0}, "not be negative"),
        ({"split": 0}, "split"),
        ({"router": "soft", "slots": 0}, "slots"),
    ],
)
def test_what_makes_no_sense_is_refused_with_advice(fields, message):
    with pytest.raises(ValueError, match=message):
        MoEConfig(**fields)


def test_a_layer_refuses_widths_and_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match="cannot be cut into split=3"):
        layer(split=3)
    with pytest.raises(ValueError, match="some would never be used"):
        layer(router="hash", experts=17)
    with pytest.raises(ValueError, match="needs slots"):
        MoELayer(MoEConfig(router="soft"), D, H)


def test_placements():
    def places(depth, placement):
        return [i for i, here in enumerate(MoEConfig(placement=placement).places(depth)) if here]

    assert places(6, "all") == [0, 1, 2, 3, 4, 5]
    assert places(6, "every-second") == [1, 3, 5]
    assert places(12, "last-two") == [9, 11]
    assert places(8, "last-two") == [5, 7]  # V-MoE-S/32 Last-2


# All routers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_trains_and_repeats_itself(router):
    def run():
        torch.manual_seed(5)
        model = tiny(router=router)
        images = torch.randn(B, 1, 8, 8)
        logits, routings = model.with_routing(images)
        (logits.square().mean() + sum(r.loss for r in routings)).backward()
        model.eval()
        return [logits, model(images), *(p.grad for p in model.parameters())], routings

    first, routings = run()
    again, _ = run()
    for a, b in zip(first, again):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
    assert all(g.isfinite().all() for g in first if g is not None)
    for made in routings:
        assert made.load_E.shape == (4,)
        assert made.expert_TK.shape == made.gate_TK.shape and len(made.gate_TK) == B * N
        assert made.expert_TK.min() >= -1 and made.expert_TK.max() < 4


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_runs_in_bf16_and_in_double(router):
    images = torch.randn(B, 1, 8, 8)
    model = tiny(router=router).eval()
    exact = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(images)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.1, atol=0.1)
    double = model.double()(images.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), exact, rtol=1e-3, atol=1e-3)
    model.train().with_routing(images.double())[0].sum().backward()


@pytest.mark.parametrize("router", ["switch", "vmoe", "bias", "hash", "soft", "thor", "partition"])
def test_equal_experts_make_a_dense_layer(router):
    """Up to the gate, which for k = 1 is a probability."""
    moe = layer(router=router, **({"k": 2} if router in ("switch", "bias") else {}))
    with torch.no_grad():
        for stacked in moe.experts.parameters():
            stacked.copy_(stacked[:1].expand_as(stacked))
    token = torch.randn(1, 1, D)
    x = token.expand(B, N, D) if router == "soft" else torch.randn(B, N, D)
    y, routing = moe(x)
    expected = moe.experts.slots(x.reshape(1, -1, D).expand(4, -1, D))[0].view(B, N, D)
    scale = routing.gate_TK.sum(-1).view(B, N, 1)
    torch.testing.assert_close(y, expected * scale, rtol=1e-3, atol=1e-5)


def test_fine_grained_and_shared_experts_keep_parameters_and_work():
    plain = layer(k=2)
    fine = layer(k=2, split=2, shared=1)
    assert fine.config.routed == 7 and fine.config.chosen == 3
    assert fine.experts.w_in.shape == (7, D, H // 2)
    assert fine.shared.fc1.out_features == H // 2
    experts = 2 * 4 * D * H  # all weights without biases and routers
    for moe in (plain, fine):
        weights = sum(p.numel() for n, p in moe.named_parameters() if "gate" not in n and ".b" not in n)
        assert weights == experts
    x = torch.randn(B, N, D)
    y, routing = fine(x)
    rest = fine.experts(x.flatten(0, 1), routing.expert_TK, routing.gate_TK).view(x.shape)
    torch.testing.assert_close(y, rest + fine.shared(x))


def test_active_parameters():
    d, h = D, H
    one = 2 * d * h + h + d
    assert layer().active_parameters() == 4 * d + one
    assert layer(k=2).active_parameters() == 4 * d + 2 * one
    assert layer(router="hash").active_parameters() == one
    assert layer(router="thor").active_parameters() == one
    assert layer(router="soft").active_parameters() == 4 * one + 4 * 4 * d + 1
    assert layer(router="expert-choice", capacity_factor=2.0).active_parameters() == 4 * d + 2 * one
    dense, moe = ViT(preset("tiny")), tiny()
    routers = dense.config.depth * 4 * dense.config.width
    assert active_parameters(moe) == parameters(dense) + routers
    assert parameters(moe) > 2 * parameters(dense)


def test_hash_by_patch_fits_its_codes_and_is_deterministic():
    model = tiny(router="hash", hash_by="patch", codes=16)
    images = torch.randn(64, 1, 8, 8)
    with pytest.raises(RuntimeError, match="fit_patch_codes"):
        model(images)
    fit_patch_codes(model, images)
    first, second = (model.with_routing(images)[1][0] for _ in range(2))
    assert torch.equal(first.expert_TK, second.expert_TK)
    assert max_load(first.load_E) < 1.3
    copy = tiny(router="hash", hash_by="patch", codes=16)
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.with_routing(images)[1][0].expert_TK, first.expert_TK)


def test_whole_network_uses_one_index_for_all_layers():
    model = tiny(router="whole-network", experts=8)
    drawn = set()
    for _ in range(10):
        routings = model.with_routing(torch.randn(2, 1, 8, 8))[1]
        experts = {int(r.expert_TK[0, 0]) for r in routings}
        assert len(experts) == 1
        drawn |= experts
    assert len(drawn) > 2


def test_adamix_mixes_halves_of_experts():
    moe = layer(router="adamix")
    with torch.no_grad():
        moe.experts.w_out.zero_()
        moe.experts.b_out.copy_(torch.arange(4.0)[:, None].expand(4, D))
    pairs = set()
    for _ in range(40):
        y, routing = moe(torch.zeros(1, 1, D))
        pairs.add((int(routing.expert_TK[0, 0]), int(y[0, 0, 0])))
    assert any(first != second for first, second in pairs) and len(pairs) > 8


# Losses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_the_classification_loss_adds_the_auxiliary_losses(soft):
    model = tiny(k=2, z_loss=1e-3, policy="arrival", capacity_factor=0.5)
    images, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    targets = F.one_hot(labels, 10).float() if soft else labels
    loss, logs = moe_classification_loss(0.1)(model, images, targets)
    logits, routings = model.with_routing(images)
    assert set(routings[0].losses) == {"balance", "z"}
    auxiliary = sum(r.loss for r in routings)
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets, label_smoothing=0.1) + auxiliary)
    assert set(logs) == {"balance_loss", "load_entropy", "max_load", "dead_experts", "dropped"}
    assert logs["dropped"] > 0
    assert all(value.ndim == 0 and not value.requires_grad for value in logs.values())


def test_a_dense_model_has_no_routing_to_log():
    loss, logs = moe_classification_loss()(ViT(preset("tiny")), torch.randn(2, 1, 8, 8), torch.tensor([1, 2]))
    assert loss > 0 and logs == {}


def test_two_pass_losses():
    images, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    for router, make in (("thor", thor_loss), ("adamix", adamix_loss)):
        model = tiny(router=router)
        loss, logs = make()(model, images, labels)
        loss.backward()
        assert logs["consistency"] > 0
        one = tiny(router=router, experts=1)  # nothing random: both passes are the same
        loss, logs = make()(one, images, labels)
        passes = 2 if router == "thor" else 1
        torch.testing.assert_close(loss, passes * F.cross_entropy(one(images), labels))
        assert logs["consistency"].abs() < 1e-6


def test_kl():
    p, q = torch.randn(5, 3), torch.randn(5, 3)
    a, b = p.softmax(-1), q.softmax(-1)
    torch.testing.assert_close(kl(p, q), (a * (a / b).log()).sum(-1).mean())


# Diagnostics ----------------------------------------------------------------------------------------------


def test_diagnostics_of_even_and_collapsed_loads():
    loads = torch.tensor([[5.0, 5, 5, 5], [20, 0, 0, 0]])
    assert load_entropy(loads).tolist() == [1, 0]
    assert max_load(loads).tolist() == [1, 4]
    assert dead_experts(loads).tolist() == [0, 3]
    torch.testing.assert_close(variation(loads), torch.tensor([0, 3**0.5]))


def test_expert_tables_and_stability():
    expert = torch.tensor([[0, 1], [1, -1], [2, 0], [2, 1]])  # two images of two tokens
    gate = torch.tensor([[0.5, 0.5], [1, 0], [0.25, 0.75], [0.5, 0.5]])
    one = routing(expert, gate, 3)
    assert expert_by_class(one, torch.tensor([4, 1]), 5).tolist() == [[0, 0.75, 0, 0, 0.5], [0, 0.5, 0, 0, 1.5], [0, 0.75, 0, 0, 0]]
    assert expert_by_position(one, 2).tolist() == [[1.25, 0], [0.5, 1.5], [0.25, 0.5]]
    other = routing(torch.tensor([[1, 0], [1, 2], [2, 1], [0, 2]]), gate, 3)
    assert stability(one, one) == 1
    assert stability(one, other).item() == pytest.approx(5 / 7)
    logs = routing_logs([one, other])
    assert logs["dropped"].item() == pytest.approx(1 / 16)


def test_every_field_of_a_config_reaches_its_router():
    """A field that the router claims to use changes something in what is built."""
    changed = {
        "k": 2,
        "shared": 1,
        "split": 2,
        "jitter": 0.1,
        "router_precision": "bf16",
        "router_init": 1.0,
        "router_bias": True,
        "balance": 1.0,
        "z_loss": 1.0,
        "policy": "random",
        "capacity_factor": 3.0,
        "scores": "softmax",
        "bias_rate": 1.0,
        "group": "batch",
        "slots": 7,
        "hash_by": "patch",
        "codes": 99,
        "inference": "random",
        "single_gate": "share",
    }

    def built(config):
        torch.manual_seed(0)
        model = ViT(preset("tiny", moe=config))
        parts = [{k: v for k, v in vars(m).items() if isinstance(v, (int, float, str))} for m in model.modules()]
        return parts, {k: (v.shape, v.double().sum()) for k, v in model.state_dict().items()}

    for router, made in ROUTERS.items():
        base = MoEConfig(experts=4, router=router)
        for field in sorted(made.uses):
            fixed = {"k": 2} if field == "shared" else {"hash_by": "patch"} if field == "codes" else {}
            before = replace(base, **fixed)
            assert built(before) != built(replace(before, **{field: changed[field]})), (router, field)
