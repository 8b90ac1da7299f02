"""Iterative magnitude pruning of a pre-trained encoder, its controls and its Specs, on tiny networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.models.encoder import Classifier, Encoder, EncoderConfig, MaskedLM
from lib.pruning.mask import attach, density, latent, masks_of, prunable
from lib.runs.store import Session, Store, obtain
from lib.studies.tickets.finetune import FinetuneRun, TaskSize, shuffle
from lib.studies.tickets.lth import IterativeRun, SubnetworkRun, shared
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.text import Source
from lib.tickets.lth import iterative_pruning, randomly_removed, smallest_removed
from lib.training.loop import Recipe

PARENT = PretrainRun(
    source=Source(vocabulary=512, stories=100, context=48),
    model=EncoderConfig(width=16, depth=2, heads=2, hidden=32),
    recipe=Recipe(epochs=1, batch_size=16, lr=3e-3),
    steps=6,
)
TICKET = IterativeRun(
    parent=PARENT, task="order", size=TaskSize(64, 32), recipe=Recipe(epochs=2, batch_size=16, lr=2e-3), sparsities=(0.3, 0.6)
)


def made() -> Classifier:
    torch.manual_seed(3)
    return Classifier(Encoder(EncoderConfig(vocabulary=40, context=8, width=16, depth=2, heads=2, hidden=24)), 2, pad=39)


def moved(steps: int = 4):
    """A run that moves every weight, differently in each step, and remembers what it began with."""
    began = []

    @torch.no_grad()
    def train(model, after_step, number):
        began.append({name: weight.detach().clone() for name, weight in prunable(model.encoder).items()})
        for step in range(1, steps + 1):
            generator = torch.Generator().manual_seed(step)
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
            if after_step:
                after_step(model, step)
        return number

    return train, began


def test_only_the_matrices_of_the_blocks_are_pruned():
    masks = smallest_removed(made().encoder, 0.25)
    assert sorted(masks) == sorted(
        f"blocks.{layer}.{part}"
        for layer in range(2)
        for part in ("attention.q", "attention.k", "attention.v", "attention.out", "ffn.up", "ffn.down")
    )
    assert density(masks) == 0.75


def test_the_smallest_of_all_layers_go():
    encoder = made().encoder
    masks = smallest_removed(encoder, 0.4)
    weights = prunable(encoder)
    kept = torch.cat([weight[masks[name]].abs() for name, weight in weights.items()])
    gone = torch.cat([weight[~masks[name]].abs() for name, weight in weights.items()])
    assert gone.max() <= kept.min() and len(gone) == round(0.4 * (len(kept) + len(gone)))


def test_each_round_starts_from_the_same_weights_and_masks_are_nested():
    train, began = moved()
    rounds, model = iterative_pruning(made, train, (0.2, 0.4, 0.6))
    assert [round.sparsity for round in rounds] == [0.0, 0.2, 0.4, 0.6] and [round.outcome for round in rounds] == [0, 1, 2, 3]
    original = {name: weight.detach() for name, weight in prunable(made().encoder).items()}
    for found, weights in zip(rounds[1:], began[1:]):
        assert density(found.masks) == pytest.approx(1 - found.sparsity, abs=1e-3)
        for name, mask in found.masks.items():
            assert torch.equal(weights[name], torch.where(mask, original[name], 0.0))
    for earlier, later in zip(rounds[1:], rounds[2:]):
        assert all(not (later.masks[name] & ~earlier.masks[name]).any() for name in later.masks)
    assert all((prunable(model.encoder)[name][~mask] == 0).all() for name, mask in rounds[-1].masks.items())


def test_rewinding_takes_weights_of_the_first_training():
    train, began = moved(steps=4)
    rounds, _ = iterative_pruning(made, train, (0.5,), rewind=0.5, steps=4)
    reference, half = moved(steps=2)
    model = made()
    reference(model, None, 0)
    for name, mask in rounds[1].masks.items():
        torch.testing.assert_close(began[1][name], torch.where(mask, prunable(model.encoder)[name], 0.0))


def test_standard_pruning_goes_on_from_the_trained_weights():
    train, began = moved()
    rounds, model = iterative_pruning(made, train, (0.5,), rewind=None)
    reference, _ = moved()
    trained = made()
    reference(trained, None, 0)
    for name, mask in rounds[1].masks.items():
        torch.testing.assert_close(began[1][name], torch.where(mask, prunable(trained.encoder)[name], 0.0))


def test_random_masks_have_the_same_size_and_follow_the_seed():
    encoder = made().encoder
    first, again, other = (randomly_removed(encoder, 0.7, seed) for seed in (0, 0, 1))
    assert density(first) == pytest.approx(0.3, abs=1e-3)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_shared_is_of_what_the_first_keeps():
    first, second = {"a": torch.tensor([True, True, False, True])}, {"a": torch.tensor([True, False, True, True])}
    assert shared(first, second) == pytest.approx(2 / 3) and shared(first, first) == 1


@pytest.mark.parametrize("wrong", [(0.5, 0.3), (0.5, 0.5), (0.5, 1.0)])
def test_sparsities_must_rise_below_one(wrong):
    with pytest.raises(ValueError, match="rising"):
        iterative_pruning(made, moved()[0], wrong)


def test_shuffled_weights_keep_their_values_and_lose_their_places():
    torch.manual_seed(0)
    model = MaskedLM(Encoder(PARENT.geometry))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    shuffle(model, 1)
    for name, parameter in model.named_parameters():
        moved_ = parameter.ndim == 2 and (name.startswith("encoder.blocks") or name == "pooler.weight")
        assert torch.equal(before[name], parameter) != moved_
        assert torch.equal(before[name].flatten().sort().values, parameter.detach().flatten().sort().values)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("reference"), tmp_path_factory.mktemp("own"))


def session(store, spec):
    return Session(torch.device("cpu"), store, spec, lambda part, text: None)


def test_a_ticket_is_found_and_moved(store):
    control = SubnetworkRun(parent=PARENT, ticket=TICKET, task="shuffled", size=TICKET.size, recipe=TICKET.recipe, sparsity=0.6)
    found, other, again = obtain([TICKET, control, replace(control, task="order")], store=store)
    assert found.curves["sparsity"] == [0, 0.3, 0.6] and found.metrics["density"] == pytest.approx(0.4, abs=1e-3)
    assert 0.4 < found.metrics["shared_with_direct"] <= 1
    assert other.metrics["density"] == pytest.approx(0.4, abs=1e-3)
    # The ticket's own last round is the same training as its subnetwork on the same task.
    assert again.metrics["test_accuracy"] == found.metrics["test_accuracy"]
    assert again.metrics["test_loss"] == pytest.approx(found.curves["test_loss"][-1], rel=1e-6)
    masks = TICKET.masks(session(store, control), 0.3)
    assert density(masks) == pytest.approx(0.7, abs=1e-3)
    with pytest.raises(ValueError, match="no round at 0.5"):
        TICKET.masks(session(store, control), 0.5)


def test_its_first_round_is_an_ordinary_fine_tuning(store):
    base = FinetuneRun(parent=PARENT, task="order", size=TICKET.size, recipe=TICKET.recipe)
    whole, found = obtain([base, TICKET], store=store)
    assert whole.metrics["test_accuracy"] == found.metrics["dense_test_accuracy"]
    model = base.load(session(store, base))
    assert not model.training and masks_of(model) == {}


def test_controls_differ_from_the_ticket(store):
    base = SubnetworkRun(parent=PARENT, ticket=TICKET, task="order", size=TICKET.size, recipe=TICKET.recipe, sparsity=0.6)
    runs = [
        base,
        replace(base, start="random"),
        replace(base, start="shuffled"),
        replace(base, ticket=None, masks="random"),
        replace(base, ticket=None, masks="direct"),
        replace(base, ticket=None, masks="none"),
    ]
    losses = [run.metrics["test_loss"] for run in obtain(runs, store=store)]
    assert len(set(losses)) == len(runs)


def test_the_pre_training_task_can_be_pruned_on(store):
    ticket = replace(TICKET, task="mlm", sparsities=(0.5,))
    moved_ = SubnetworkRun(parent=PARENT, ticket=ticket, task="order", size=TICKET.size, recipe=TICKET.recipe, sparsity=0.5)
    found, there = obtain([ticket, moved_], store=store)
    assert 0 <= found.metrics["test_accuracy"] <= 1 and there.metrics["density"] == pytest.approx(0.5, abs=1e-3)
    kept = attach(PARENT.untrained(0).encoder, ticket.masks(session(store, moved_), 0.5))
    assert len(latent(kept)) == 12


def test_wrong_specs_are_refused():
    with pytest.raises(ValueError, match="'mlm', 'order'"):
        replace(TICKET, task="sst3")
    with pytest.raises(ValueError, match="needs a ticket"):
        SubnetworkRun(parent=PARENT, task="order", masks="ticket")
    with pytest.raises(ValueError, match="needs a ticket"):
        SubnetworkRun(parent=PARENT, ticket=TICKET, task="order", masks="random")
