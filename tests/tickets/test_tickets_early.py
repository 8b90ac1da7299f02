"""EarlyBERT: coefficients, drawing, when to draw, and the smaller network."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lib.data.tasks import TaskBatches, TaskSplit
from lib.measure import cost as measure
from lib.models.encoder import Classifier, Encoder, EncoderConfig
from lib.models.encoder_remove import smaller
from lib.tickets.early import LAST, Slimmed, Ticket, check_every, distances, draw, early_bird, random_ticket, slimming_loss
from lib.training.loop import Recipe, fit
from lib.training.optim import decays

CONFIG = EncoderConfig(vocabulary=20, context=8, width=16, depth=3, heads=4, hidden=24)


def classifier(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return Classifier(Encoder(config), 2, pad=0)


def split(count=64, seed=1):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 20, (count, 8), generator=g)
    return TaskSplit(tokens, torch.full((count,), 8), (tokens[:, 1] > 10).long())


# Drawing


def test_heads_go_layer_by_layer_and_neurons_of_all_layers():
    heads = torch.tensor([[0.9, 0.1, 0.5, 0.8, 0.7, 0.2], [0.1, -0.9, 0.2, 0.3, 0.05, 0.4]])
    neurons = torch.cat([torch.linspace(0.0, 0.49, 50)[None], torch.linspace(0.5, 1.0, 50)[None]])
    ticket = draw(heads, neurons)
    assert ticket.heads.tolist() == [[True, False, True, True, True, False], [False, True, True, True, False, True]]
    assert ticket.neurons[0].tolist() == [False] * 40 + [True] * 10 and ticket.neurons[1].all()


@pytest.mark.parametrize("L, H, h", [(1, 1, 1), (4, 4, 384), (6, 8, 1024), (3, 12, 7)])
def test_a_ticket_has_the_size_it_should(L, H, h):
    for seed in range(5):
        ticket = random_ticket(L, H, h, seed)
        assert ticket.heads.sum(1).tolist() == [H - round(H / 3)] * L
        assert int(ticket.neurons.sum()) == L * h - round(0.4 * L * h)
    assert not torch.equal(random_ticket(4, 4, 96, 0).neurons, random_ticket(4, 4, 96, 1).neurons)


def test_equal_coefficients_still_give_the_size():
    ticket = draw(torch.ones(2, 6), torch.ones(2, 10))
    assert ticket.heads.sum(1).tolist() == [4, 4] and int(ticket.neurons.sum()) == 12
    with pytest.raises(ValueError, match="in \\[0, 1\\)"):
        draw(torch.ones(2, 6), torch.ones(2, 10), head_share=1.0)


# Coefficients


def test_at_one_they_change_nothing_and_at_zero_they_remove():
    model = classifier().eval()
    slimmed, tokens = Slimmed(copy.deepcopy(model), checks=3).eval(), split().tokens
    torch.testing.assert_close(slimmed(tokens), model(tokens))
    with torch.no_grad():
        for c in slimmed.heads:
            c[1] = 0.0
        for c in slimmed.neurons:
            c[5:] = 0.0
    ticket = Ticket(torch.tensor([[True, False, True, True]] * 3), torch.tensor([[True] * 5 + [False] * 19] * 3))
    small = smaller(model, **ticket.gates())
    torch.testing.assert_close(slimmed(tokens), small(tokens), atol=1e-5, rtol=0)
    torch.testing.assert_close(model(tokens, **ticket.gates()), small(tokens), atol=1e-5, rtol=0)
    assert small.encoder.config.heads_by_layer == (3, 3, 3) and small.encoder.config.hidden_by_layer == (5, 5, 5)
    assert measure.flops(small, tokens) < 0.6 * measure.flops(model, tokens)


def test_the_loss_is_cross_entropy_and_the_penalty():
    slimmed, data = Slimmed(classifier(), checks=1), split()
    with torch.no_grad():
        slimmed.heads[0][0] = -2.0
    loss, logged = slimming_loss(0.01)(slimmed, data.tokens, data.labels)
    norm = 3 * 4 + 1 + 3 * 24
    assert float(slimmed.norm().detach()) == pytest.approx(norm)
    expected = F.cross_entropy(slimmed(data.tokens), data.labels) + 0.01 * norm
    torch.testing.assert_close(loss, expected)
    assert 0 <= float(logged["train_accuracy"]) <= 1
    loss.backward()
    bare = Slimmed(copy.deepcopy(slimmed.model), checks=1)
    with torch.no_grad():
        bare.heads[0][0] = -2.0
    F.cross_entropy(bare(data.tokens), data.labels).backward()
    torch.testing.assert_close(slimmed.heads[1].grad, bare.heads[1].grad + 0.01)
    torch.testing.assert_close(slimmed.heads[0].grad[0], bare.heads[0].grad[0] - 0.01)


def test_coefficients_have_no_weight_decay():
    named = [(name, p) for name, p in Slimmed(classifier(), checks=1).named_parameters() if not name.startswith("model.")]
    assert len(named) == 6 and not any(decays(name, p) for name, p in named)


def test_all_layers_must_be_of_one_size():
    uneven = EncoderConfig(vocabulary=20, context=8, width=16, depth=2, heads=(1, 2), hidden=8, head_dim=4)
    with pytest.raises(ValueError, match="one size"):
        Slimmed(classifier(config=uneven), checks=1)


# When to draw


def test_distances_are_hamming_distances_to_the_last_five():
    g = torch.Generator().manual_seed(0)
    drawn = torch.rand(12, 3, 50, generator=g) < 0.5
    found = distances(drawn)
    assert found[:LAST].isinf().all()
    for place in range(LAST, 12):
        expected = max(float((drawn[place] != drawn[before]).float().mean()) for before in range(place - LAST, place))
        assert float(found[place]) == pytest.approx(expected)


def test_the_early_bird_waits_until_nothing_moves():
    heads, neurons = torch.ones(20, 2, 4, dtype=torch.bool), torch.ones(20, 2, 100, dtype=torch.bool)
    for check in range(9):
        neurons[check, 0, check * 5 : check * 5 + 10] = False  # moves until check 8, then stays
    neurons[9:, 0, 40:50] = False
    assert early_bird(heads, neurons) == 8 + LAST
    assert early_bird(heads, neurons, near=0.2) == LAST
    heads[::2, 0, 0] = False  # one of 208 entries flickers: within 0.01
    assert early_bird(heads, neurons) == 8 + LAST
    neurons[::2, 1, :5] = False  # five more do: beyond it
    assert early_bird(heads, neurons) is None
    assert early_bird(heads[:3], neurons[:3]) is None


# A search


def search(path=None, epochs=2, checks=9):
    data = split(96)
    model = Slimmed(classifier(3), checks)
    batches = TaskBatches(data, 16, seed=0)
    recipe = Recipe(epochs=epochs, batch_size=16, lr=3e-2, weight_decay=0.0)
    history = fit(model, batches, slimming_loss(1e-3), recipe, seed=0, after_step=check_every(2, epochs * batches.steps), checkpoint=path)
    return model, history


def test_a_search_learns_moves_the_coefficients_and_remembers_each_check():
    model, history = search(epochs=3)
    assert history.curves["train_loss"][-1] < history.curves["train_loss"][0]
    assert int(model.checks) == 9
    last = draw(torch.stack(list(model.heads)), torch.stack(list(model.neurons)))
    assert torch.equal(model.ticket(-1).heads, last.heads) and torch.equal(model.ticket(8).neurons, last.neurons)
    assert not torch.equal(model.ticket(0).neurons, model.ticket(-1).neurons)
    with pytest.raises(ValueError, match="room for 9"):
        model.check()


def test_an_interrupted_search_ends_with_the_same_tickets(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.training.loop.SAVE_EVERY_SECONDS", 0.0)
    whole, _ = search(epochs=3)

    class Stop(Exception):
        pass

    data = split(96)
    model = Slimmed(classifier(3), 9)
    batches = TaskBatches(data, 16, seed=0)
    recipe = Recipe(epochs=3, batch_size=16, lr=3e-2, weight_decay=0.0)
    every = check_every(2, 18)

    def stopping(model, step):
        if step == 15:
            raise Stop
        every(model, step)

    with pytest.raises(Stop):
        fit(model, batches, slimming_loss(1e-3), recipe, seed=0, after_step=stopping, checkpoint=tmp_path / "state")
    resumed, _ = search(tmp_path / "state", epochs=3)
    assert torch.equal(resumed.drawn_neurons, whole.drawn_neurons) and torch.equal(resumed.drawn_heads, whole.drawn_heads)
    assert int(resumed.checks) == 9
