"""Lottery tickets: masks of the next level, controls, lines between networks; the runs, also interrupted ones."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from lib.models.mlp import MLPConfig
from lib.models.vgg import VGGConfig
from lib.pruning.mask import count, density, ones
from lib.pruning.tickets import barrier, between, next_masks, scattered, shuffled
from lib.runs.store import Session, Store, obtain
from lib.studies.pruning import tickets as pruning_tickets
from lib.studies.pruning.barrier import BarrierRun
from lib.studies.pruning.dense import DenseRun
from lib.studies.pruning.tickets import ControlRun, TicketRun, remaining
from lib.training.loop import Recipe

ADAM = Recipe(epochs=3, batch_size=40, lr=2e-3, weight_decay=0.0, warmup=0.0, final_lr=1.0, clip=None)
LENET = DenseRun(model=MLPConfig(inputs=64, hidden=(20, 10)), train_examples=200, recipe=ADAM, snapshots=(0, 3))


def weights(seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = {"a": (6, 10), "b": (4, 6, 3, 3), "head": (5, 4)}
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


# Masks


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("amount", [0.2, 0.5, 0.99])
def test_a_level_takes_its_share_of_what_is_left(seed, amount):
    found, masks = weights(seed), ones(weights(seed))
    for _ in range(4):
        before, wanted = masks, round((1 - amount) * count(masks))
        masks = next_masks(found, before, amount)
        assert count(masks) == wanted
        assert not any((masks[name] & ~before[name]).any() for name in masks)
        kept = torch.cat([found[name].abs()[mask] for name, mask in masks.items()])
        gone = torch.cat([found[name].abs()[before[name] & ~mask] for name, mask in masks.items()])
        assert not len(kept) or kept.min() >= gone.max()


def test_survivors_that_are_zero_still_come_before_what_is_gone():
    zeros, masks = {"a": torch.zeros(2, 4)}, {"a": torch.tensor([[True, False, True, False], [True, False, True, True]])}
    kept = next_masks(zeros, masks, 0.2)["a"]
    assert kept.sum() == 4 and not (kept & ~masks["a"]).any()


def test_layerwise_takes_half_as_much_of_the_output():
    found = weights()
    masks = next_masks(found, ones(found), 0.2, "layerwise")
    assert [int(mask.sum()) for mask in masks.values()] == [48, 171, 18]  # 237 = 0.8 · 296, as by one global threshold
    for _ in range(4):
        before, masks = masks, next_masks(found, masks, 0.3, "layerwise")
        assert count(masks) == round(0.7 * count(before)) and not any((masks[name] & ~before[name]).any() for name in found)
    masks = next_masks(found, ones(found), 0.2, "layerwise")
    for name in found:
        assert found[name].abs()[masks[name]].min() >= found[name].abs()[~masks[name]].max()
    with pytest.raises(ValueError, match="scope"):
        next_masks(found, ones(found), 0.2, "local")
    with pytest.raises(ValueError, match="amount"):
        next_masks(found, ones(found), 1.0)


def test_controls_keep_the_numbers_they_promise():
    masks = next_masks(weights(), ones(weights()), 0.8)
    by_layer = [int(mask.sum()) for mask in masks.values()]
    moved, spread = shuffled(masks, 1), scattered(masks, 1)
    assert [int(mask.sum()) for mask in moved.values()] == by_layer and count(spread) == count(masks)
    assert any(not torch.equal(moved[name], masks[name]) for name in masks)
    assert any(not torch.equal(moved[name], shuffled(masks, 2)[name]) for name in masks)
    shares = torch.tensor([[float(mask.float().mean()) for mask in scattered(masks, seed).values()] for seed in range(200)])
    torch.testing.assert_close(shares.mean(0), torch.full((3,), density(masks)), atol=0.02, rtol=0)


# The line


def test_the_line_between_two_networks():
    torch.manual_seed(0)
    one, two = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    two(torch.randn(8, 3))
    for part, end in ((0.0, one), (1.0, two)):
        for name, value in between(one, two, part).state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, end.state_dict()[name])
    middle = between(one, two, 0.25).state_dict()
    torch.testing.assert_close(middle["0.weight"], 0.75 * one[0].weight.detach() + 0.25 * two[0].weight.detach())
    assert barrier([0.1, 0.5, 0.3]) == pytest.approx(0.3) and barrier([0.2, 0.1, 0.3]) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="between"):
        barrier([0.1, 0.2])


# Runs


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tickets")
    store = Store(folder / "none", folder)
    return store, TicketRun(parent=LENET, levels=3, amount=0.5, rewind=3)


def session_of(store, spec):
    return Session(torch.device("cpu"), store, spec, lambda part, text: None)


def test_a_ticket_goes_back_to_the_weights_it_had(ran, monkeypatch):
    store, spec = ran
    began = []
    real = pruning_tickets.trained_level

    def spy(model, *rest):
        began.append({name: value.clone() for name, value in model.state_dict().items()})
        return real(model, *rest)

    monkeypatch.setattr(pruning_tickets, "trained_level", spy)
    result = obtain([spec], store=store)[0]
    early = spec.parent.load(session_of(store, spec), 3)
    for level, state in enumerate(began, start=1):
        masks = spec.masks(session_of(store, spec), level)
        assert count(masks) == pytest.approx(0.5**level * 1580, abs=2)
        assert result.curves["density"][level - 1] == pytest.approx(count(masks) / 1580)
        for name, module in (("layers.0", early.layers[0]), ("head", early.head)):
            assert torch.equal(state[f"{name}.parametrizations.weight.original"], module.weight)
            assert torch.equal(state[f"{name}.parametrizations.weight.0.mask"], masks[name])
    assert count(spec.masks(session_of(store, spec), 0)) == 1580
    assert result.curves["level"] == [1, 2, 3] and len(result.arrays["val_accuracy_by_epoch"]) == 3
    assert all(3 < stop <= 15 for stop in result.curves["stop_step"])
    json.dumps(result.content())
    with pytest.raises(ValueError, match="levels 0 to 3"):
        spec.masks(session_of(store, spec), 4)


def test_interrupted_levels_are_not_trained_again(ran, tmp_path, monkeypatch):
    store, spec = ran
    whole = obtain([spec], store=store)[0]
    own, real, trained = Store(tmp_path / "none", tmp_path), pruning_tickets.trained_level, []

    def stopping(*args):
        trained.append(1)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(pruning_tickets, "trained_level", stopping)
    with pytest.raises(KeyboardInterrupt):
        obtain([spec], store=own)
    again = obtain([spec], store=own)[0]
    assert len(trained) == 4  # two, the one that was stopped, and that one again
    assert all(again.curves[name] == whole.curves[name] for name in ("test_accuracy", "density"))
    first, second = (spec.masks(session_of(place, spec), 3) for place in (store, own))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_one_cut_has_the_same_sizes(ran):
    store, spec = ran
    iterative, once = obtain([spec, replace(spec, iterative=False)], store=store)
    assert once.curves["density"] == pytest.approx(iterative.curves["density"], abs=1e-3)
    masks = [spec.masks(session_of(store, spec), 3) for spec in (spec, replace(spec, iterative=False))]
    assert any(not torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    nested = [replace(spec, iterative=False).masks(session_of(store, spec), level) for level in (1, 3)]
    # Both levels by the dense network's magnitudes.
    assert not any((nested[1][name] & ~nested[0][name]).any() for name in nested[0])


@pytest.mark.parametrize("retraining", ["lr-rewind", "finetune"])
def test_retraining_without_going_back(ran, retraining, monkeypatch):
    store, spec = ran
    spec, real, seen = replace(spec, retraining=retraining, levels=1), pruning_tickets.trained_level, {}

    def spy(model, dense, images, recipe, *rest):
        seen.update(recipe=recipe, weight=model.head.parametrizations.weight.original.detach().clone())
        return real(model, dense, images, recipe, *rest)

    monkeypatch.setattr(pruning_tickets, "trained_level", spy)
    obtain([spec], store=store)
    assert torch.equal(seen["weight"], spec.parent.load(session_of(store, spec)).head.weight)
    assert seen["recipe"].lr == pytest.approx(ADAM.lr * (0.01 if retraining == "finetune" else 1))
    images = spec.parent.images(session_of(store, spec))
    assert seen["recipe"].epochs == remaining(spec.parent, images, spec.rewind).epochs < 3  # as long as with rewound weights


@pytest.mark.parametrize("control", ["reinitialised", "shuffled", "random"])
def test_controls_change_one_thing(ran, control, monkeypatch):
    store, ticket = ran
    spec, began = ControlRun(parent=ticket, control=control, which=(1, 3)), []
    real = pruning_tickets.trained_level

    def spy(model, *rest):
        began.append({name: value.clone() for name, value in model.state_dict().items()})
        return real(model, *rest)

    obtain([ticket], store=store)
    monkeypatch.setattr(pruning_tickets, "trained_level", spy)
    result = obtain([spec], store=store)[0]
    assert result.curves["level"] == [1, 3] and len(began) == 2
    early = ticket.parent.load(session_of(store, ticket), 3)
    for level, state in zip((1, 3), began):
        own = ticket.masks(session_of(store, ticket), level)
        names = {"layers.0": early.layers[0], "layers.2": early.layers[2], "head": early.head}
        masks = {name: state[f"{name}.parametrizations.weight.0.mask"] for name in names}
        same_weights = all(torch.equal(state[f"{name}.parametrizations.weight.original"], module.weight) for name, module in names.items())
        same_masks = all(torch.equal(masks[name], own[name]) for name in own)
        same_counts = all(masks[name].sum() == own[name].sum() for name in own)
        assert (same_weights, same_masks, same_counts, count(masks) == count(own)) == {
            "reinitialised": (False, True, True, True),
            "shuffled": (True, False, True, True),
            "random": (True, False, False, True),
        }[control]


def test_what_is_left_after_rewinding(ran):
    store, spec = ran
    images = spec.parent.images(session_of(store, spec))
    assert remaining(spec.parent, images, 0) == ADAM
    warm = replace(spec.parent, recipe=replace(ADAM, epochs=4, warmup=0.5), portion=5)  # 20 steps, 10 of them warm-up
    assert (remaining(warm, images, 5).epochs, remaining(warm, images, 5).warmup) == (3, pytest.approx(5 / 15))
    assert (remaining(warm, images, 15).epochs, remaining(warm, images, 15).warmup) == (1, 0.0)


def test_runs_refuse_what_makes_no_sense(ran):
    _, spec = ran
    for fields, message in (
        ({"rewind": 7}, "snapshots"),
        ({"levels": 0}, "levels"),
        ({"amount": 1.0}, "amount"),
        ({"retraining": "rewound"}, "retraining"),
        ({"scope": "local"}, "scope"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(spec, **fields)
    for fields, message in (({"control": "mirrored"}, "control"), ({"which": (4,)}, "1 to 3"), ({"which": ()}, "1 to 3")):
        with pytest.raises(ValueError, match=message):
            ControlRun(**{"parent": spec, "control": "random", "which": (1,)} | fields)
    with pytest.raises(ValueError, match="levels"):
        BarrierRun(parent=spec, level=9)


def test_a_barrier_from_beginning_to_end(ran):
    store, spec = ran
    network = VGGConfig(widths=(4, 6), stages=(1, 1), channels=1, side=8)
    parent = DenseRun(model=network, train_examples=200, snapshots=(0, 14), recipe=replace(ADAM, optimizer="sgd", lr=0.1, final_lr=0.0))
    tickets = [replace(spec, parent=parent, rewind=step, levels=1) for step in (0, 14)]
    early, late, sparse = obtain(
        [
            BarrierRun(parent=tickets[0], points=5),
            BarrierRun(parent=tickets[1], points=5),
            BarrierRun(parent=tickets[0], level=1, points=3),
        ],
        store=store,
    )
    for result in (early, late, sparse):
        ends = (result.curves["test_error"][0] + result.curves["test_error"][-1]) / 2
        assert result.metrics["test_barrier"] == pytest.approx(max(result.curves["test_error"]) - ends, abs=1e-6)
    assert early.curves["part"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert early.metrics["density"] == 1 and sparse.metrics["density"] == pytest.approx(0.5, abs=0.01)
    # One step apart from the same weights, the two are nearly one network.
    assert abs(late.metrics["train_barrier"]) <= max(0.05, early.metrics["train_barrier"])
