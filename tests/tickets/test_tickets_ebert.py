"""EBERT: gates for each input, their FLOPs, the loss, the census, static masks of equal cost, and skipping."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.data.tasks import TaskBatches, TaskSplit
from lib.measure import cost as measure
from lib.models.encoder import Classifier, Encoder, EncoderConfig
from lib.models.encoder_remove import smaller
from lib.tickets.ebert import KINDS, Constant, Dynamic, census, dynamic_loss, gate, predictor, state
from lib.tickets.flops import flops_share, head_flops, neuron_flops, predictor_flops, whole_flops
from lib.tickets.skipping import Skipping
from lib.tickets.static import cut_at, worth
from lib.training.loop import Recipe, fit

CONFIG = EncoderConfig(vocabulary=20, context=8, width=16, depth=3, heads=4, hidden=24)


def classifier(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return Classifier(Encoder(config), 2, pad=0)


def dynamic(kind="input", seed=0, spread=1.0):
    """Gates that differ: some open for all, some for none, some for some inputs."""
    made = Dynamic(classifier(seed), kind)
    with torch.no_grad():
        for part in made.predictors().modules():
            if isinstance(part, nn.Linear):
                part.weight.normal_(std=spread)
                part.bias.normal_(std=spread)
            elif isinstance(part, Constant):
                part.z.normal_()
    return made.eval()


def tokens(count=12, seed=1):
    found = torch.randint(1, 20, (count, 8), generator=torch.Generator().manual_seed(seed))
    found[::4, 6:] = 0
    return found


# Gates


def test_gates_are_open_as_often_as_the_sigmoid_says():
    torch.manual_seed(0)
    z = torch.tensor([-3.0, -1.0, 0.0, 0.5, 4.0])
    often = gate(z.expand(40_000, 5), noisy=True).mean(0)
    torch.testing.assert_close(often, torch.sigmoid(z), atol=0.01, rtol=0)
    assert gate(z, noisy=False).tolist() == [0, 0, 1, 1, 1]
    noisy = gate(torch.randn(1000), noisy=True)
    assert ((noisy.abs() < 1e-6) | ((noisy - 1).abs() < 1e-6)).all()


def test_the_gradient_passes_as_that_of_the_sigmoid():
    z = torch.randn(200, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(200, dtype=torch.float64)
    torch.manual_seed(5)
    (weight * gate(z, noisy=True)).sum().backward()
    torch.manual_seed(5)
    noise = torch.logit(torch.rand_like(z), eps=1e-6)
    soft = torch.sigmoid(z.detach() + noise)
    torch.testing.assert_close(z.grad, weight * soft * (1 - soft))
    assert not gate(torch.randn(3, requires_grad=True), noisy=False).requires_grad


def test_the_predictor_is_the_papers():
    layers = predictor(16, 5)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert layers[0].weight.shape == (64, 16) and layers[3].weight.shape == (5, 64)
    assert layers(torch.randn(64, 16)).abs().mean() < 0.5


def test_the_first_predictor_reads_the_mean_without_padding():
    x, padding = torch.randn(2, 4, 3), torch.tensor([[False] * 4, [False, False, True, True]])
    torch.testing.assert_close(state(x, padding, 0), torch.stack([x[0].mean(0), x[1, :2].mean(0)]))
    assert torch.equal(state(x, padding, 2), x[:, 0])


# The network


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_encoder_with_these_masks(kind):
    made, some = dynamic(kind), tokens()
    logits, gates = made.with_gates(some)
    expected = made.model(some, head_masks=gates.heads, neuron_masks=gates.neurons)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert all(g.eq(0).logical_or(g.eq(1)).all() for g in gates.heads + gates.neurons)
    differ = any(not torch.equal(g[0].expand_as(g), g) for g in gates.heads + gates.neurons)
    assert differ == (kind == "input")


def test_a_text_has_the_same_gates_in_any_batch():
    made, some = dynamic(), tokens()
    together = made.with_gates(some)[1]
    for row in range(len(some)):
        alone = made.with_gates(some[row : row + 1])[1]
        assert all(torch.equal(a[0], b[row]) for a, b in zip(alone.heads + alone.neurons, together.heads + together.neurons))


def test_open_gates_leave_the_model_as_it_is():
    made = dynamic("constant")
    with torch.no_grad():
        for part in made.predictors().modules():
            if isinstance(part, Constant):
                part.z.fill_(1.0)
    torch.testing.assert_close(made(tokens()), made.model(tokens()), atol=1e-6, rtol=0)


def test_settled_predictors_do_not_move():
    made, data = dynamic(), tokens(32)
    made.train()
    assert not torch.equal(made.with_gates(data)[1].neurons[0], made.with_gates(data)[1].neurons[0])  # noise
    made.settle()
    before = {name: value.clone() for name, value in made.predictors().state_dict().items()}
    made.eval()
    gates = made.with_gates(data)[1]
    fit(
        made,
        TaskBatches(TaskSplit(data, torch.full((32,), 8), data[:, 1] % 2), 8, 0),
        dynamic_loss(0.5),
        Recipe(epochs=1, batch_size=8, lr=1e-3),
        seed=0,
    )
    made.train()
    first, second = made.with_gates(data)[1], made.with_gates(data)[1]
    assert all(torch.equal(a, b) for a, b in zip(first.neurons, second.neurons))  # no noise
    assert torch.equal(gates.heads[0], first.heads[0])  # the embeddings moved a little, the predictors not at all
    assert all(torch.equal(value, before[name]) for name, value in made.predictors().state_dict().items())
    assert made.of_heads.training is False and made.model.training


def test_kinds_and_uneven_layers_are_refused():
    with pytest.raises(ValueError, match="'input', 'constant'"):
        Dynamic(classifier(), "random")
    empty = EncoderConfig(vocabulary=20, context=8, width=16, depth=2, heads=(0, 2), hidden=8, head_dim=4)
    with pytest.raises(ValueError, match="cannot be gated"):
        Dynamic(classifier(config=empty))


# FLOPs


@pytest.mark.parametrize("kept_heads, kept_neurons", [((4, 4, 4), (24, 24, 24)), ((1, 2, 3), (5, 24, 11)), ((2, 2, 2), (1, 1, 1))])
def test_flops_are_those_that_torch_counts(kept_heads, kept_neurons):
    """Of a network from which the closed gates are removed, less its embedding and head, which are not counted."""
    model, N = classifier().eval(), 8
    heads = [(torch.arange(4) < kept).float()[None] for kept in kept_heads]
    neurons = [(torch.arange(24) < kept).float()[None] for kept in kept_neurons]
    small = smaller(model, head_masks=heads, neuron_masks=neurons)
    some = tokens(1)
    some[some == 0] = 1
    counted = measure.flops(small, some) - 2 * (16 * 16 + 16 * 2)  # pooler and head, on one token
    ours = sum(kept_heads) * head_flops(CONFIG, N) + sum(kept_neurons) * neuron_flops(CONFIG, N)
    assert ours == counted
    share = flops_share(heads, neurons, CONFIG, N, predicted=False)
    assert float(share) == pytest.approx(ours / whole_flops(CONFIG, N))
    with_predictors = flops_share(heads, neurons, CONFIG, N, predicted=True)
    assert float(with_predictors - share) == pytest.approx(predictor_flops(CONFIG) / whole_flops(CONFIG, N))
    assert predictor_flops(CONFIG) == sum(measure.flops(predictor(16, n), torch.randn(1, 16)) for n in (4, 24)) * 3


# The loss


def test_the_loss_is_as_written():
    made, some = dynamic().double().eval(), tokens()
    labels = torch.arange(12) % 2
    with torch.no_grad():
        logits, gates = made.with_gates(some)
    loss, logged = dynamic_loss(0.4, weight=4.0, per_layer=5.0)(made, some, labels)
    H = [float(g.mean()) for g in gates.heads]
    h = [float(g.mean()) for g in gates.neurons]
    spent = sum(4 * a for a in H) * head_flops(CONFIG, 8) + sum(24 * a for a in h) * neuron_flops(CONFIG, 8)
    S = 1 - (spent + predictor_flops(CONFIG)) / whole_flops(CONFIG, 8)
    CE = float(F.cross_entropy(logits.float(), labels))
    of_heads, of_neurons = (sum((0.6 - (1 - a)) ** 2 for a in kind) / 3 for kind in (H, h))
    expected = CE + 4 * ((S - 0.6) ** 2 + 5 * of_heads + 5 * of_neurons)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(logged["flops"]) == pytest.approx(1 - S, rel=1e-5)
    made.settle()
    assert float(dynamic_loss(0.4)(made, some, labels)[0].detach()) == pytest.approx(CE, rel=1e-5)
    with pytest.raises(ValueError, match="share of the FLOPs"):
        dynamic_loss(0.0)


def trained(per_layer, target=0.5, kind="input", epochs=8):
    data = tokens(64, seed=3)
    made = Dynamic(classifier(1), kind)
    owned = list(made.predictors().parameters())
    rest = [p for name, p in made.named_parameters() if name.startswith("model.")]
    optimizer = torch.optim.AdamW([{"params": rest, "lr": 1e-3}, {"params": owned, "lr": 0.1}])
    examples = TaskSplit(data, torch.full((64,), 8), data[:, 1] % 2)
    fit(
        made,
        TaskBatches(examples, 16, 0),
        dynamic_loss(target, per_layer=per_layer),
        Recipe(epochs=epochs, batch_size=16),
        seed=0,
        optimizers=[optimizer],
    )
    return census(made, data)


@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_the_flops_to_their_target(kind):
    """From half open, in 32 steps; for so narrow an encoder the predictors cost almost a quarter of it."""
    assert trained(5.0, target=0.8, kind=kind).flops > trained(5.0, target=0.4, kind=kind).flops + 0.1


# Census


def test_the_census_counts_each_gate():
    made, some = dynamic(), tokens(20)
    found, gates = census(made, some, together=7), made.with_gates(some)[1]
    torch.testing.assert_close(found.heads, torch.stack([g.mean(0) for g in gates.heads]))
    torch.testing.assert_close(found.neurons, torch.stack([g.mean(0) for g in gates.neurons]))
    assert found.flops == pytest.approx(float(flops_share(gates.heads, gates.neurons, CONFIG, 8, True)), rel=1e-5)
    counted = found.count()
    assert sum(v for k, v in counted.items() if k.startswith("heads")) == 12
    assert sum(v for k, v in counted.items() if k.startswith("neurons")) == 72
    assert counted["neurons_input_dependent"] > 0 and counted["neurons_always_on"] > 0 and counted["neurons_always_off"] > 0
    constant = census(dynamic("constant"), some).count()
    assert constant["heads_input_dependent"] == constant["neurons_input_dependent"] == 0


# Static masks


@pytest.mark.parametrize("seed", range(8))
def test_static_masks_cost_what_they_may(seed):
    g = torch.Generator().manual_seed(seed)
    heads, neurons, budget = torch.rand(3, 4, generator=g), torch.rand(3, 24, generator=g), 0.1 + 0.1 * seed
    kept_heads, kept_neurons = cut_at(heads, neurons, CONFIG, 8, budget)
    spent = float(flops_share(list(kept_heads.float()[:, None]), list(kept_neurons.float()[:, None]), CONFIG, 8, False))
    one = neuron_flops(CONFIG, 8) / whole_flops(CONFIG, 8)
    assert spent <= budget + 1e-9 and (spent > budget - one or kept_neurons.all())
    assert neurons[kept_neurons].min() >= neurons[~kept_neurons].max()
    assert all(mask.all() for mask in cut_at(heads, neurons, CONFIG, 8, 1.0))


def test_static_masks_of_always_open_gates_are_these_gates():
    made, some = dynamic("constant"), tokens()
    found = census(made, some)
    heads, neurons = cut_at(found.heads, found.neurons, CONFIG, 8, found.flops)
    assert torch.equal(heads, found.heads == 1) and torch.equal(neurons, found.neurons == 1)
    small = smaller(made.model, head_masks=list(heads), neuron_masks=list(neurons)).eval()
    torch.testing.assert_close(small(some), made(some), atol=1e-5, rtol=0)


def test_worth_is_what_a_gate_does_for_the_loss():
    """Per FLOP, against central differences of each example's own loss for some gates, in float64."""
    model, some, labels = classifier(4).double().eval(), tokens(9), torch.arange(9) % 2
    heads, neurons = worth(model, some, labels, together=4)
    assert heads.shape == (3, 4) and neurons.shape == (3, 24)

    def losses(name, layer, place, value):
        size = 4 if name == "head_masks" else 24
        masks = [torch.ones(1, size, dtype=torch.float64) for _ in range(3)]
        masks[layer][0, place] = value
        with torch.no_grad():
            return F.cross_entropy(model(some, **{name: masks}), labels, reduction="none")

    for name, found, cost, places in (
        ("head_masks", heads, head_flops(CONFIG, 8), (0, 3)),
        ("neuron_masks", neurons, neuron_flops(CONFIG, 8), (0, 7, 23)),
    ):
        for layer in range(3):
            for place in places:
                change = (losses(name, layer, place, 1 + 1e-5) - losses(name, layer, place, 1 - 1e-5)) / 2e-5
                assert float(found[layer, place]) * cost == pytest.approx(float(change.abs().mean()), rel=1e-3, abs=1e-6)


# Skipping


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 12])
def test_skipping_computes_the_same(kind, count):
    for seed in range(3):
        made, some = dynamic(kind, seed), tokens(count, seed)
        skipping = Skipping(copy.deepcopy(made))
        with torch.no_grad():
            torch.testing.assert_close(skipping(some), made(some), atol=1e-5, rtol=0)
        gates = made.with_gates(some)[1]
        needed = sum(int(g.any(0).sum()) for g in gates.heads + gates.neurons) / (3 * 28)
        assert skipping.needed == pytest.approx(needed)


def test_skipping_a_layer_that_is_all_closed():
    made, some = dynamic("constant"), tokens(3)
    with torch.no_grad():
        made.of_heads[1].z.fill_(-1.0)
        made.of_neurons[2].z.fill_(-1.0)
        torch.testing.assert_close(Skipping(made)(some), made(some), atol=1e-5, rtol=0)
