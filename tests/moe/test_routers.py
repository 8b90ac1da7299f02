"""Routers, capacity and balancing: what each paper's formulas promise."""

import itertools
import math

import pytest
import torch

from lib.moe.average import one_for_all
from lib.moe.balance import bias_step, importance_loss, load_loss, squared_variation, switch_loss, z_loss
from lib.moe.capacity import capacity, limit, place_in_queue
from lib.moe.diagnostics import dead_experts, load_entropy, max_load, variation
from lib.moe.experts import Experts
from lib.moe.gate import Gate, softmax
from lib.moe.layer import MoEConfig, MoELayer
from lib.moe.router import Router
from lib.moe.routers import ROUTERS
from lib.moe.routers.bias import BiasBalanced
from lib.moe.routers.expert_choice import ExpertChoice
from lib.moe.routers.hash import Hash, PatchCodes, balanced_table
from lib.moe.routers.partition import RandomPartition
from lib.moe.routers.soft import SoftMoE
from lib.moe.routers.thor import Thor, symmetric_kl
from lib.moe.routers.token_choice import NoisyTokenChoice, TokenChoice
from lib.moe.routing import count
from lib.system import distributed

B, N, D, E = 4, 16, 12, 8
T = B * N


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def switch(k=1, policy="dropless", factor=1.0, **gate):
    return TokenChoice(Gate(D, E, init_scale=1.0, **gate), E, k, balance=0.01, z_weight=0.001, policy=policy, capacity_factor=factor)


# Token choice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("policy", ["dropless", "arrival", "random", "priority", "second-choice"])
def test_loads_sum_to_assignments_minus_drops(k, policy):
    router = switch(k, policy, factor=0.7)
    routing = router.route(torch.randn(T, D))
    dropped = (routing.expert_TK < 0).sum()
    assert routing.load_E.sum() == T * k - dropped
    assert routing.dropped.item() == pytest.approx(dropped.item() / (T * k))
    assert routing.load_E.max() <= (T if policy == "dropless" else capacity(T, E, k, 0.7))
    assert (dropped > 0) == (policy != "dropless")
    assert torch.all(routing.gate_TK[routing.expert_TK < 0] == 0)


def test_evaluation_drops_nothing_and_repeats_itself():
    router = switch(1, "random", factor=0.3, jitter=0.01).eval()
    x = torch.randn(T, D)
    first, second = router.route(x), router.route(x)
    assert first.dropped == 0 and not first.losses
    torch.testing.assert_close(first.gate_TK, second.gate_TK, rtol=0, atol=0)


def test_gates_are_p_for_one_expert_and_sum_to_one_for_more():
    router = switch(1).eval()
    routing = router.route(torch.randn(T, D))
    torch.testing.assert_close(routing.gate_TK[:, 0], routing.probs_TE.amax(-1))
    routing = switch(3).eval().route(torch.randn(T, D))
    torch.testing.assert_close(routing.gate_TK.sum(-1), torch.ones(T))


def test_switch_gate_teaches_the_router_and_a_renormalised_one_does_not():
    torch.manual_seed(1)
    experts, gate = Experts(E, D, 16).double(), Gate(D, E, init_scale=1.0).double()
    x, target = torch.randn(T, D).double(), torch.randn(T, D).double()

    def router_gradient(renormalise):
        probs = softmax(gate(x))
        gate_TK, expert_TK = probs.topk(1)
        if renormalise:
            gate_TK = gate_TK / gate_TK.sum(-1, keepdim=True)
        loss = (experts(x, expert_TK, gate_TK) - target).square().mean()
        return torch.autograd.grad(loss, gate.weight)[0].norm().item()

    assert router_gradient(renormalise=False) > 1e-3
    assert router_gradient(renormalise=True) < 1e-15


def test_dropped_tokens_contribute_exactly_nothing():
    router, experts = switch(1, "arrival", factor=0.3), Experts(E, D, 16)
    x = torch.randn(B, N, D, requires_grad=True)
    y, routing = router(x, experts)
    lost = (routing.expert_TK < 0)[:, 0].view(B, N)
    assert 0 < lost.sum() < T
    assert torch.all(y[lost] == 0) and torch.all(y[~lost].abs().sum(-1) > 0)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.all(gradient[lost] == 0)


def test_the_router_stays_in_fp32_under_autocast_unless_told_otherwise():
    x = torch.randn(T, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert switch().gate(x).dtype == torch.float32
        low = switch(precision="bf16").gate(x)
        assert low.dtype == torch.bfloat16
        assert softmax(low).dtype == torch.float32
    assert Gate(D, E).double()(x.double()).dtype == torch.float64


def test_jitter_and_noise_exist_in_training_only():
    x = torch.randn(T, D)
    router = switch(jitter=0.01)
    assert not torch.equal(router.gate(x), router.gate(x))
    router.eval()
    assert torch.equal(router.gate(x), router.gate(x))


def test_router_weights_are_cut_at_two_sigma():
    weight = Gate(1000, 64, init_scale=0.1).weight
    sigma = math.sqrt(0.1 / 1000)
    assert weight.abs().max() <= 2 * sigma
    assert weight.std().item() == pytest.approx(0.88 * sigma, rel=0.02)


def test_vmoe_routes_by_noisy_probabilities_and_does_not_renormalise():
    router = NoisyTokenChoice(Gate(D, E), E, 2, balance=0.01, policy="dropless", capacity_factor=1.0)
    x = torch.randn(T, D)
    routing = router.route(x)
    assert set(routing.losses) == {"importance", "load"}
    torch.testing.assert_close(routing.gate_TK, routing.probs_TE.topk(2).values)
    assert not torch.equal(router.route(x).probs_TE, routing.probs_TE)
    clean = router.eval().route(x)
    assert not clean.losses and torch.equal(clean.probs_TE, softmax(router.gate(x)))


# Balance --------------------------------------------------------------------------------------------------


def test_switch_loss_is_alpha_at_uniform_routing():
    uniform = torch.full((T, E), 1 / E)
    assert switch_loss(uniform, (torch.arange(T) % E)[:, None], 0.01).item() == pytest.approx(0.01)
    # Uniform probabilities are enough, wherever the tokens go.
    assert switch_loss(uniform, torch.zeros(T, 1, dtype=torch.int64), 0.01).item() == pytest.approx(0.01)


def test_switch_loss_does_not_grow_with_k():
    probs = torch.randn(T, E).softmax(-1)
    one, two = (switch_loss(probs, probs.topk(k).indices, 1.0).item() for k in (1, 2))
    assert two < 1.2 * one


def test_a_collapse_can_hide_behind_the_balance_loss():
    """Two of eight experts take every token, six are dead, and the loss is 1.7% above its value at balance."""
    logits = torch.zeros(T, 8)
    logits[torch.arange(T), torch.arange(T) % 2] = 0.0446  # even tokens prefer expert 0, odd ones expert 1
    probs = logits.softmax(-1)
    chosen = probs.argmax(-1, keepdim=True)
    load = count(chosen, 8)
    assert switch_loss(probs, chosen, 1.0).item() == pytest.approx(1.017, abs=5e-4)
    assert dead_experts(load) == 6
    assert load_entropy(load).item() == pytest.approx(1 / 3)
    assert max_load(load) == 4
    assert variation(load).item() == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize("loss", ["switch", "importance", "load", "z"])
def test_gradients_of_the_losses_match_finite_differences(loss):
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(6, 5, dtype=torch.float64)
    functions = {
        "switch": lambda z: switch_loss(z.softmax(-1), z.topk(2).indices, 0.01),
        "importance": lambda z: importance_loss(z.softmax(-1)),
        "load": lambda z: load_loss(z, z + noise / 5, 2, 1 / 5),
        "z": z_loss,
    }
    assert torch.autograd.gradcheck(functions[loss], logits)


def test_symmetric_kl_gradient_and_value():
    p, q = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(symmetric_kl, (p, q))
    a, b = p.softmax(-1), q.softmax(-1)
    expected = 0.5 * ((a * (a / b).log()).sum(-1) + (b * (b / a).log()).sum(-1)).mean()
    torch.testing.assert_close(symmetric_kl(p, q), expected)


def test_load_loss_counts_the_chance_of_being_chosen():
    """Against drawing an expert's own noise again many times."""
    logits, noise = torch.randn(3, 4), torch.randn(3, 4) / 4
    noisy, sigma = logits + noise, 1 / 4
    threshold = noisy.topk(2).values[:, -1:]
    drawn = (logits + sigma * torch.randn(100_000, 3, 4) >= threshold).float().mean(0)
    expected = squared_variation(drawn.mean(0))
    assert load_loss(logits, noisy, 2, sigma).item() == pytest.approx(expected.item(), abs=0.01)


def in_two_processes(monkeypatch, share):
    """``[share(0), share(1)]`` with every average taken over both, as two processes would see it."""
    monkeypatch.setattr(distributed, "is_running", lambda: True)
    asked = {0: [], 1: []}

    def run(rank, answer):
        turns = itertools.count()

        def average(tensors):
            for tensor in tensors:
                answer(rank, next(turns), tensor)

        monkeypatch.setattr(distributed, "average", average)
        return share(rank)

    for rank in asked:  # what each would send ...
        run(rank, lambda rank, turn, tensor: asked[rank].append(tensor.clone()))
    # ... and what it would receive
    return [run(rank, lambda rank, turn, tensor: tensor.copy_((asked[0][turn] + asked[1][turn]) / 2)) for rank in asked]


def test_balance_is_the_same_in_two_processes_as_in_one(monkeypatch):
    probs = (3 * torch.randn(T, E)).softmax(-1)
    probs[: T // 2] = probs[: T // 2].sort(-1).values  # the two shares differ a lot
    expert_TK = probs.topk(2).indices
    losses = (switch_loss, lambda p, e, alpha: importance_loss(p))

    def share(rank, of=2):
        mine, chosen = probs.chunk(of)[rank].clone().requires_grad_(), expert_TK.chunk(of)[rank]
        values = [loss(mine, chosen, 1.0) for loss in losses]
        gradients = [torch.autograd.grad(value, mine)[0] for value in values]
        return [v.detach() for v in values], gradients, bias_step(count(chosen, E), 0.1)

    values, gradients, step = share(0, of=1)
    parts = in_two_processes(monkeypatch, share)
    for i in range(len(losses)):
        torch.testing.assert_close((parts[0][0][i] + parts[1][0][i]) / 2, values[i])
        torch.testing.assert_close(torch.cat([part[1][i] for part in parts]) / 2, gradients[i])
    for part in parts:
        torch.testing.assert_close(part[2], step)


# Capacity -------------------------------------------------------------------------------------------------


def test_capacity_rounds_up():
    assert capacity(tokens=100, experts=8, k=1, factor=1.0) == 13
    assert capacity(tokens=100, experts=8, k=2, factor=1.25) == 32


def test_place_in_queue():
    assert place_in_queue(torch.tensor([0, 1, 0, -1, 0, 1]), 2).tolist() == [0, 0, 1, -1, 2, 1]


def test_who_is_dropped():
    probs = torch.tensor([[0.6, 0.3, 0.1], [0.9, 0.02, 0.08], [0.5, 0.2, 0.3], [0.7, 0.1, 0.2]])
    first = probs.argmax(-1, keepdim=True)  # all want expert 0; it takes two
    kept = {policy: limit(first, probs, 2, policy)[:, 0].tolist() for policy in ("dropless", "arrival", "priority", "second-choice")}
    assert kept == {"dropless": [0, 0, 0, 0], "arrival": [0, 0, -1, -1], "priority": [-1, 0, -1, 0], "second-choice": [0, 0, 2, 2]}
    survivors = {tuple(limit(first, probs, 2, "random")[:, 0].tolist()) for _ in range(30)}
    assert len(survivors) > 2 and all(list(s).count(0) == 2 for s in survivors)


def test_first_choices_come_before_second_choices():
    probs = torch.tensor([[0.6, 0.4], [0.1, 0.9]])
    chosen = probs.topk(2).indices  # token 0: 0 then 1; token 1: 1 then 0
    assert limit(chosen, probs, 1, "arrival").tolist() == [[0, -1], [1, -1]]


def test_second_choice_respects_room_and_never_repeats_an_expert():
    probs = torch.randn(200, 6).softmax(-1)
    chosen = probs.topk(2).indices
    kept = limit(chosen, probs, 67, "second-choice")
    assert count(kept, 6).max() <= 67
    assert (kept < 0).sum() < (limit(chosen, probs, 67, "arrival") < 0).sum()
    used = kept[(kept >= 0).all(-1)]
    assert torch.all(used[:, 0] != used[:, 1])


# The other routers ----------------------------------------------------------------------------------------


def test_bias_balancing_evens_a_skewed_stream():
    router = BiasBalanced(Gate(D, E), E, 2, rate=0.005, scores="sigmoid")
    shift = torch.randn(D)  # every token shares a direction, so a few experts are everyone's favourites

    def batch():
        return torch.randn(256, D) + 2 * shift

    before = variation(router.eval().route(batch()).load_E)
    router.train()
    for _ in range(400):
        router.route(batch())
    after = variation(router.eval().route(batch()).load_E)
    assert before > 0.8 and after < 0.2
    assert router.bias_E.sum().abs() < 1e-4


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_bias_decides_who_is_chosen_but_not_the_gate(scores):
    router = BiasBalanced(Gate(D, E), E, 1, rate=0.1, scores=scores).eval()
    x = torch.randn(T, D)
    router.bias_E[5] = 10.0
    routing = router.route(x)
    assert torch.all(routing.expert_TK == 5)
    torch.testing.assert_close(routing.gate_TK[:, 0], routing.probs_TE[:, 5])
    unchanged = router.bias_E.clone()
    router.route(x)
    assert torch.equal(router.bias_E, unchanged)
    router.train().route(x)
    assert router.bias_E[5] < unchanged[5]


def test_expert_choice_takes_exactly_its_capacity():
    router, experts = ExpertChoice(Gate(D, E), E, capacity_factor=2.0, group="image"), Experts(E, D, 16)
    x = torch.randn(B, N, D)
    y, routing = router(x, experts)
    assert torch.all(routing.load_E == B * capacity(N, E, 1, 2.0))
    torch.testing.assert_close(y.flatten(0, 1), experts(x.flatten(0, 1), routing.expert_TK, routing.gate_TK), rtol=1e-4, atol=1e-5)


def test_only_expert_choice_over_the_batch_depends_on_the_batch():
    experts, x = Experts(E, D, 16), torch.randn(B, N, D)
    for group, independent in (("image", True), ("batch", False)):
        router = ExpertChoice(Gate(D, E, init_scale=1.0), E, capacity_factor=1.0, group=group).eval()
        together, alone = router(x, experts)[0], torch.cat([router(image[None], experts)[0] for image in x])
        assert torch.allclose(together, alone, atol=1e-5) == independent


def test_soft_weights_sum_to_one_over_tokens_and_over_slots():
    router = SoftMoE(D, E, slots=3)
    dispatch, combine = router.weights(torch.randn(B, N, D))
    torch.testing.assert_close(dispatch.sum(1), torch.ones(B, E, 3))
    torch.testing.assert_close(combine.sum((2, 3)), torch.ones(B, N))
    y, routing = router(torch.randn(B, N, D), Experts(E, D, 16))
    torch.testing.assert_close(routing.load_E, torch.full((E,), 3.0 * B))
    torch.testing.assert_close(routing.gate_TK.sum(-1), torch.ones(T))


def test_soft_is_a_mean_over_experts_when_they_are_equal_and_tokens_are_too():
    experts = Experts(E, D, 16)
    with torch.no_grad():
        for stacked in experts.parameters():
            stacked.copy_(stacked[:1].expand_as(stacked))
    token = torch.randn(1, 1, D)
    y, _ = SoftMoE(D, E, slots=2)(token.expand(1, N, D), experts)
    torch.testing.assert_close(y[0, 0], experts.slots(token.expand(E, 1, D))[0, 0], rtol=1e-4, atol=1e-5)


def test_hash_is_a_fixed_balanced_table():
    router, experts = Hash(N, E), Experts(E, D, 16)
    x = torch.randn(B, N, D)
    _, first = router(x, experts)
    _, second = router.eval()(x + 1, experts)
    assert torch.equal(first.expert_TK, second.expert_TK)
    assert torch.equal(first.expert_TK.view(B, N), first.expert_TK.view(B, N)[:1].expand(B, N))
    assert torch.all(first.load_E == T / E)
    assert not list(router.parameters())
    torch.manual_seed(3)
    table = balanced_table(torch.ones(N), E)
    torch.manual_seed(3)
    assert torch.equal(table, balanced_table(torch.ones(N), E))


def test_balanced_table_spreads_the_traffic_of_a_skewed_vocabulary():
    frequency = 1 / torch.arange(1, 201).float()  # Zipf
    traffic = torch.zeros(4).index_add(0, balanced_table(frequency, 4), frequency)
    assert traffic.max() / traffic.mean() < 1.01


def test_patch_codes_say_what_to_do_before_they_are_fitted():
    with pytest.raises(RuntimeError, match="fit_patch_codes"):
        PatchCodes(8, 4)(torch.randn(2, 3, 4))


@pytest.mark.parametrize("tokens", [16, 15])
def test_random_partition_deals_out_equal_parts(tokens):
    router, experts = RandomPartition(4), Experts(4, D, 16)
    x = torch.randn(1, tokens, D)
    y, routing = router(x, experts)
    assert routing.load_E.max() == 4 and routing.load_E.sum() == tokens
    torch.testing.assert_close(y[0], experts(x[0], routing.expert_TK, routing.gate_TK), rtol=1e-4, atol=1e-5)
    assert not torch.equal(router(x, experts)[1].expert_TK, routing.expert_TK)


def test_thor_uses_one_expert_in_training_and_the_same_draws_in_evaluation():
    router, experts = Thor(E, inference="random"), Experts(E, D, 16)
    x = torch.randn(B, N, D)
    y, routing = router(x, experts)
    assert (routing.load_E > 0).sum() == 1 and routing.load_E.sum() == T
    torch.testing.assert_close(y.flatten(0, 1), experts(x.flatten(0, 1), routing.expert_TK, routing.gate_TK), rtol=1e-4, atol=1e-5)
    router.eval()
    torch.testing.assert_close(router(x, experts)[0], router(x, experts)[0], rtol=0, atol=0)


def test_a_new_router_is_one_class_and_one_line(monkeypatch):
    """What CONTRIBUTING promises: no other file knows routers by name."""

    class First(Router):
        label, colour, symbol = "First expert", "#000000", "circle"
        causal = True

        def forward(self, x_BND, experts, id_BN=None):
            return one_for_all(x_BND, experts, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))

    monkeypatch.setitem(ROUTERS, "first", First)
    config = MoEConfig(experts=E, router="first")
    layer = MoELayer(config, D, 16)
    x_BND = torch.randn(2, 3, D)
    y_BND, routed = layer(x_BND)
    assert y_BND.shape == x_BND.shape and (routed.expert_TK == 0).all()
    assert layer.active_parameters() == sum(p.numel() for p in layer.experts.parameters()) // E
    with pytest.raises(ValueError, match="router 'first' does not use jitter"):
        MoEConfig(router="first", jitter=0.1)
