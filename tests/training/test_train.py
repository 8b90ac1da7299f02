"""The training loop: what it computes, what it records, how it stops and goes on."""

import dataclasses
import json
import math
import os

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lib.data.images import load_images, normalise
from lib.runs import checkpoint as training_state
from lib.training import loop as train
from lib.training.ema import WeightAverage
from lib.training.evaluate import evaluate_classifier
from lib.training.log import Watch, append
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss, language_model_loss
from lib.training.schedule import rate, warmup_cosine


class Blobs:
    """Three separable classes of small images; a pure function of (epoch, step)."""

    def __init__(self, steps=6, size=12, soft=False):
        self.steps, self.size, self.soft = steps, size, soft
        self.centres = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1))

    def batch(self, epoch, step):
        generator = torch.Generator().manual_seed(1000 * epoch + step)
        labels = torch.randint(0, 3, (self.size,), generator=generator)
        inputs = self.centres[labels] + 0.5 * torch.randn(self.size, 4, 4, 4, generator=generator)
        return inputs, F.one_hot(labels, 3).float() if self.soft else labels


def network(seed=0, norm=True):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(128, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )


def accuracy(model):
    inputs, labels = Blobs(size=60).batch(99, 0)
    return {"accuracy": (model(inputs).argmax(1) == labels).float().mean().item(), "per_class": [1.0, 2.0, 3.0]}


RECIPE = Recipe(epochs=4, batch_size=12, lr=1e-2, ema=0.9)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def without_seconds(history):
    return {name: curve for name, curve in history.curves.items() if name != "seconds"}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


# --- recipe, schedule, losses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"optimizer": "adam"}, "'adamw', 'sgd', 'muon'"),
        ({"precision": "fp16"}, "'fp32', 'bf16', 'auto'"),
        ({"schedule": "step"}, "'cosine', 'linear'"),
        ({"epochs": -1}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr": 0.0}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"momentum": 1.0}, "momentum"),
        ({"warmup": 1.0}, "warmup"),
        ({"final_lr": 2.0}, "final_lr"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"clip": 0.0}, "clip"),
        ({"ema": 1.0}, "ema"),
    ],
)
def test_recipe_names_what_is_allowed(wrong, named):
    with pytest.raises(ValueError, match=named):
        Recipe(**wrong)


def test_schedule_climbs_then_falls_along_a_cosine():
    factors = [warmup_cosine(step, 100, 0.1, 0.01) for step in range(100)]
    assert factors[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert factors[10] == 1 and factors[55] == pytest.approx(0.01 + 0.99 / 2)
    assert all(a >= b for a, b in zip(factors[10:], factors[11:])) and 0.01 < factors[-1] < 0.02
    assert warmup_cosine(0, 1, 0.0, 0.0) == 1


def test_the_straight_schedule_climbs_alike_and_ends_at_its_last_step():
    factors = [rate("linear", step, 100, 0.1, 0.2) for step in range(100)]
    assert factors[:11] == pytest.approx([i / 10 for i in range(1, 11)] + [1.0])
    assert factors[55] == pytest.approx(0.6) and factors[-1] == pytest.approx(0.2 + 0.8 / 90)
    assert [rate("cosine", step, 100, 0.1, 0.01) for step in (3, 50)] == [warmup_cosine(step, 100, 0.1, 0.01) for step in (3, 50)]
    with pytest.raises(ValueError, match="'cosine', 'linear'"):
        rate("step", 0, 1, 0.0, 0.0)


def test_smoothing_treats_hard_and_soft_targets_alike():
    inputs, labels = Blobs().batch(0, 0)
    model = network().eval()
    hard, logged = classification_loss(0.1)(model, inputs, labels)
    soft, logged_soft = classification_loss(0.1)(model, inputs, F.one_hot(labels, 3).float())
    smooth = 0.9 * F.one_hot(labels, 3) + 0.1 / 3
    expected = -(smooth * model(inputs).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(hard, expected)
    torch.testing.assert_close(soft, expected)
    assert logged["train_accuracy"] == logged_soft["train_accuracy"]


def test_language_model_loss_is_per_token_and_skips_masked_ones():
    model = nn.Embedding(5, 5)
    inputs = torch.randint(0, 5, (2, 7))
    targets = inputs.roll(-1, 1)
    targets[:, -1] = -100
    loss, _ = language_model_loss(model, inputs, targets)
    logits = model(inputs)[:, :-1].reshape(-1, 5)
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets[:, :-1].reshape(-1)))


def test_evaluate_classifier_counts_every_image_and_keeps_the_mode():
    images = load_images("digits")
    model = nn.Sequential(nn.Flatten(), nn.Linear(images.test.images[0].numel(), 10)).train()
    result = evaluate_classifier(model, images.test, images, batch_size=37)
    with torch.no_grad():
        logits = model(normalise(images.test.images, images))
    loss = F.cross_entropy(logits, images.test.labels).item()
    assert model.training and result["accuracy"] == (logits.argmax(1) == images.test.labels).sum().item() / len(logits)
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert evaluate_classifier(model, images.test, images, precision="bf16")["loss"] == pytest.approx(loss, rel=0.05)


# --- the loop ------------------------------------------------------------------------------------


def test_the_loop_is_the_plain_one():
    """Against the loop anyone would write, weight for weight."""
    recipe = Recipe(epochs=2, batch_size=12, optimizer="sgd", lr=0.05, weight_decay=0.0, clip=0.5)
    model, plain, batches = network(norm=False), network(norm=False), Blobs()
    model[4].p = plain[4].p = 0.0
    history = fit(model, batches, classification_loss(), recipe, seed=3)

    optimizer, losses = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=True), []
    for step in range(12):
        optimizer.param_groups[0]["lr"] = 0.05 * warmup_cosine(step, 12, 0.1, 0.0)
        inputs, labels = batches.batch(step // 6, step % 6)
        loss = F.cross_entropy(plain(inputs), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    for mine, theirs in zip(model.parameters(), plain.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    assert history.curves["train_loss"] == pytest.approx([sum(losses[:6]) / 6, sum(losses[6:]) / 6], rel=1e-5)
    assert history.curves["lr"] == pytest.approx([0.05 * warmup_cosine(s, 12, 0.1, 0.0) for s in (5, 11)])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": "sgd"},
        {"optimizer": "muon"},
        {"precision": "bf16"},
        {"channels_last": True},
        {"ema": None},
        {"label_smoothing": 0.1},
    ],
)
def test_it_learns(change):
    model, steps, told = network(), [], []
    recipe = dataclasses.replace(RECIPE, epochs=8, **change)
    history = fit(
        model,
        Blobs(soft=recipe.label_smoothing > 0),
        classification_loss(recipe.label_smoothing),
        recipe,
        seed=0,
        evaluate=accuracy,
        after_step=lambda m, step: steps.append(step),
        report=lambda part, text: told.append((part, text)),
    )
    assert history.curves["accuracy"][-1] > 0.9 and not history.diverged and history.epochs == 8
    assert {len(curve) for curve in history.curves.values()} == {8}
    assert history.curves["per_class"][0] == [1.0, 2.0, 3.0]
    assert set(history.curves) == {"train_loss", "train_accuracy", "lr", "seconds", "accuracy", "per_class"}
    seconds = history.curves["seconds"]
    assert history.seconds == seconds[-1] and sorted(seconds) == seconds
    assert steps == list(range(1, 49)) and not model.training
    assert [part for part, _ in told] == sorted(part for part, _ in told) and told[-1][0] == 1.0
    assert "epoch 8/8" in told[-1][1] and "accuracy" in told[-1][1]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_compile_hands_the_whole_loss_to_the_compiler(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    loss = classification_loss()
    fit(network(), Blobs(), loss, dataclasses.replace(RECIPE, epochs=1, compile=True), seed=0)
    assert compiled == [loss]


def test_tuples_of_tensors_are_batches_too():
    class Pairs(Blobs):
        def batch(self, epoch, step):
            inputs, labels = super().batch(epoch, step)
            return inputs, (labels, inputs.mean((1, 2, 3)))

    def loss(model, inputs, targets):
        return F.cross_entropy(model(inputs), targets[0]) + targets[1].mean(), {}

    assert fit(network(), Pairs(), loss, dataclasses.replace(RECIPE, epochs=1), seed=0).epochs == 1


def test_the_random_state_depends_on_seed_and_epoch_only():
    draws = {}
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        drawn = draws[seed, noise] = []
        fit(
            network(),
            Blobs(steps=1),
            classification_loss(),
            dataclasses.replace(RECIPE, epochs=2),
            seed=seed,
            after_step=lambda model, step: drawn.append(torch.rand(()).item()),
        )
        drawn.append(torch.rand(()).item())
    assert draws[0, 1] == draws[0, 2] != draws[1, 1] and len(set(draws[0, 1])) == 3


def test_a_curve_written_twice_is_named():
    def logs_lr(model, inputs, targets):
        return F.cross_entropy(model(inputs), targets), {"lr": targets.float().mean()}

    with pytest.raises(ValueError, match="the loss returned lr"):
        fit(network(), Blobs(), logs_lr, RECIPE, seed=0)
    with pytest.raises(ValueError, match="evaluate returned train_loss"):
        fit(network(), Blobs(), classification_loss(), RECIPE, seed=0, evaluate=lambda model: {"train_loss": 0.0})


def test_no_epochs_changes_nothing():
    model = network()
    before = state(model)
    history = fit(model, Blobs(), classification_loss(), dataclasses.replace(RECIPE, epochs=0), seed=0)
    assert history.curves == {} and history.seconds == 0 and history.epochs == 0
    assert_same(before, state(model))


def test_a_late_curve_is_filled_up():
    curves = {}
    append(curves, {"a": 1.0})
    append(curves, {"a": 2.0, "b": 5.0})
    append(curves, {"b": 6.0})
    assert curves["a"][:2] == [1.0, 2.0] and math.isnan(curves["a"][2])
    assert math.isnan(curves["b"][0]) and curves["b"][1:] == [5.0, 6.0]


# --- weight average ------------------------------------------------------------------------------


def test_the_average_is_swapped_in_and_masks_are_not_averaged():
    model = network()
    model.register_buffer("mask", torch.ones(3))
    average = WeightAverage(model, 0.9)
    expected = {name: tensor.clone() for name, tensor in average.average.items()}
    assert "1.running_var" in expected and "mask" not in expected
    for step in range(1, 30):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
            model.mask[0] = 0
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * average.live[name] for name in expected}
    own = state(model)
    with average.applied():
        for name, tensor in average.live.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
        assert model.mask.tolist() == [0, 1, 1]
    assert_same(own, state(model))


def test_fit_averages_after_each_step_and_evaluates_and_returns_the_average():
    seen, model = [], network()
    replayed = WeightAverage(model, RECIPE.ema)
    fit(
        model,
        Blobs(),
        classification_loss(),
        RECIPE,
        seed=0,
        after_step=lambda m, step: replayed.update(step),
        evaluate=lambda m: seen.append(state(m)) or {},
    )
    assert_same(seen[-1], state(model))
    for name, tensor in replayed.average.items():
        assert torch.equal(tensor, model.state_dict()[name])


# --- divergence ----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_training():
    def loss(model, inputs, targets):
        value = F.cross_entropy(model(inputs), targets)
        loss.calls += 1
        return value * (math.inf if loss.calls > 8 else 1.0), {}

    loss.calls, told = 0, []
    history = fit(network(), Blobs(), loss, RECIPE, seed=0, evaluate=accuracy, report=lambda part, text: told.append(text))
    assert history.diverged and history.diverged_at == 12 and history.epochs == 1
    assert len(history.curves["train_loss"]) == 2 and math.isfinite(history.curves["train_loss"][0])
    assert not math.isfinite(history.curves["train_loss"][1]) and math.isnan(history.curves["accuracy"][1])
    assert told[-1] == "diverged at step 12"


def test_a_loss_far_above_its_start_for_long_ends_training(monkeypatch):
    monkeypatch.setattr(train, "LOOK_EVERY", 2)
    recipe = Recipe(epochs=3, batch_size=12, optimizer="sgd", lr=1e4, clip=None, warmup=0.0, weight_decay=0.0)
    history = fit(network(norm=False), Blobs(), classification_loss(), recipe, seed=0)
    assert history.diverged and history.diverged_at <= 12


def test_a_short_rise_and_a_low_start_are_no_divergence():
    watch = Watch()
    for step, loss in enumerate([2.0, 7.0, 7.0, 1.0, 7.0, 7.0, 5.9, 7.0]):
        watch.look(loss, step)
    assert watch.diverged_at is None
    watch.look(7.0, 8)
    watch.look(7.0, 9)
    assert watch.diverged_at == 9
    fine_tuned = Watch()
    for step, loss in enumerate([0.01, 0.5, 0.9, 1.2, 2.0, 2.5]):
        fine_tuned.look(loss, step)
    assert fine_tuned.diverged_at is None


# --- resuming ------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def kill_after(epochs):
    """A report that dies once ``epochs`` epochs are done."""

    def report(part, text):
        if part * RECIPE.epochs >= epochs - 1e-9:
            raise Killed

    return report


@pytest.mark.parametrize(
    "change", [{}, {"optimizer": "sgd", "ema": None}, {"optimizer": "muon"}, {"channels_last": True, "precision": "bf16"}]
)
def test_resumed_training_is_the_same_to_the_bit(tmp_path, monkeypatch, change):
    monkeypatch.setattr(train, "SAVE_EVERY_SECONDS", 0.0)
    recipe = dataclasses.replace(RECIPE, **change)

    def run(model, **more):
        return fit(model, Blobs(), classification_loss(), recipe, seed=5, evaluate=accuracy, **more)

    through = network()
    expected = run(through)
    after = torch.rand(())
    for epochs in (1, 3):
        with pytest.raises(Killed):
            run(network(), checkpoint=tmp_path, report=kill_after(epochs))
    resumed = network(seed=77)  # all of it must come from the file
    history = run(resumed, checkpoint=tmp_path)
    assert torch.equal(torch.rand(()), after)
    assert_same(state(through), state(resumed))
    assert without_seconds(history) == without_seconds(expected) and history.epochs == 4
    assert len(history.curves["seconds"]) == 4

    finished = network(seed=78)  # nothing is left to do, and the result is still there
    assert run(finished, checkpoint=tmp_path).curves == history.curves
    assert torch.equal(torch.rand(()), after)
    assert_same(state(through), state(finished))


def test_tied_weights_survive_resuming(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVE_EVERY_SECONDS", 0.0)

    class Tokens:
        steps = 3

        def batch(self, epoch, step):
            tokens = torch.randint(0, 9, (4, 6), generator=torch.Generator().manual_seed(10 * epoch + step))
            return tokens[:, :-1], tokens[:, 1:]

    def tied(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9, bias=False))
        model[2].weight = model[0].weight
        return model

    through, resumed = tied(0), tied(1)
    fit(through, Tokens(), language_model_loss, RECIPE, seed=0)
    with pytest.raises(Killed):
        fit(tied(0), Tokens(), language_model_loss, RECIPE, seed=0, checkpoint=tmp_path, report=kill_after(2))
    with safe_open(tmp_path / training_state.FILE, framework="pt") as file:
        assert "model.2.weight" not in file.keys()
    fit(resumed, Tokens(), language_model_loss, RECIPE, seed=0, checkpoint=tmp_path)
    assert_same(state(through), state(resumed))
    assert resumed[2].weight is resumed[0].weight


@pytest.mark.parametrize("harm", ["cut short", "rubbish", "empty", "other recipe", "other model"])
def test_a_damaged_state_is_set_aside_and_training_starts_again(tmp_path, monkeypatch, capsys, harm):
    monkeypatch.setattr(train, "SAVE_EVERY_SECONDS", 0.0)
    recipe, model = RECIPE, network()
    with pytest.raises(Killed):
        fit(network(), Blobs(), classification_loss(), RECIPE, seed=0, checkpoint=tmp_path, report=kill_after(2))
    path = tmp_path / training_state.FILE
    content = path.read_bytes()
    if harm == "other recipe":
        recipe = dataclasses.replace(RECIPE, lr=2e-2)
    elif harm == "other model":
        model.append(nn.Linear(3, 3))
    else:
        path.write_bytes({"cut short": content[:-100], "rubbish": b"rubbish" * 100, "empty": b""}[harm])
    expected = network()
    if harm == "other model":
        expected.append(nn.Linear(3, 3))
    model.load_state_dict(expected.state_dict())
    fit(expected, Blobs(), classification_loss(), recipe, seed=0)
    history = fit(model, Blobs(), classification_loss(), recipe, seed=0, checkpoint=tmp_path)
    assert history.epochs == 4
    assert_same(state(expected), state(model))
    assert (tmp_path / f"{training_state.FILE}.damaged").exists() and path.exists()
    assert "set aside" in capsys.readouterr().err


def edited(change):
    """A harm that puts other tensors or another record under a checksum of their own."""

    def harm(folder):
        tensors, record = training_state.load(folder)
        change(tensors, record)
        training_state.save(folder, tensors, record)

    return harm


def without_checksum(folder):
    tensors, record = training_state.load(folder)
    save_file(tensors, folder / training_state.FILE, metadata={"record": json.dumps(record)})


MOMENT = "optimizer.0.0.exp_avg"


@pytest.mark.parametrize(
    "harm, words",
    [
        (without_checksum, "has no checksum"),
        (edited(lambda tensors, record: record.update(epoch=-5)), "epoch -5 of 4"),
        (edited(lambda tensors, record: record.update(epoch=10**6)), "epoch 1000000 of 4"),
        (edited(lambda tensors, record: record.update(epoch="2")), "epoch '2' of 4"),
        (edited(lambda tensors, record: record.update(step=99)), "step 99 of 6 in epoch 2"),
        (edited(lambda tensors, record: record.update(epoch=0)), "step 0 of 6 in epoch 0"),
        (edited(lambda tensors, record: record.update(step=3)), "random.cpu"),
        (edited(lambda tensors, record: record.update(step=3) or tensors.update({"random.cpu": torch.zeros(5, dtype=torch.uint8)})), "RNG"),
        (edited(lambda tensors, record: record["means"].update(sums=None)), "means that are none"),
        (edited(lambda tensors, record: record.update(spent="long")), "long"),
        (edited(lambda tensors, record: record["curves"]["train_loss"].pop()), "curves that are not 2 epochs long"),
        (edited(lambda tensors, record: record.update(curves=[])), "curves"),
        (edited(lambda tensors, record: record["watch"].update(start="high")), "a first loss of 'high'"),
        (edited(lambda tensors, record: record.pop("watch")), "watch"),
        (edited(lambda tensors, record: tensors.pop(MOMENT)), "remembers different things"),
        (edited(lambda tensors, record: tensors.update({MOMENT: torch.ones(3)})), f"{MOMENT} fits no parameter"),
        (edited(lambda tensors, record: tensors.update({"optimizer.0.99.exp_avg": torch.ones(3)})), "optimizer.0.99.exp_avg fits no"),
        (edited(lambda tensors, record: tensors.update({"optimizer.5.0.exp_avg": torch.ones(3)})), "belongs to no optimiser"),
        (edited(lambda tensors, record: tensors.update({"optimizer.x": torch.ones(3)})), "belongs to no optimiser"),
        (edited(lambda tensors, record: tensors["model.0.weight"][0].fill_(math.nan)), "model.0.weight holds NaN"),
        (edited(lambda tensors, record: tensors.update({"model.0.weight": tensors["model.0.weight"].double()})), "another model"),
    ],
)
def test_a_state_that_makes_no_sense_is_refused_before_anything_is_touched(tmp_path, monkeypatch, capsys, harm, words):
    monkeypatch.setattr(train, "SAVE_EVERY_SECONDS", 0.0)
    with pytest.raises(Killed):
        fit(network(), Blobs(), classification_loss(), RECIPE, seed=0, checkpoint=tmp_path, report=kill_after(2))
    harm(tmp_path)
    model = network(seed=1)
    training = train.Training(model, Blobs(), classification_loss(), RECIPE, 0, None, None, None)
    weights, average = state(model), {name: value.clone() for name, value in training.average.average.items()}
    training.resume(tmp_path)
    assert words in capsys.readouterr().err
    assert (training.epoch, training.step, training.curves, training.watch) == (0, 0, {}, Watch())
    assert_same(weights, state(model))
    assert_same(average, training.average.average)
    assert all(optimizer.state_dict()["state"] == {} for optimizer in training.optimizers)


def test_state_is_not_written_more_often_than_every_minute(tmp_path, monkeypatch):
    assert train.SAVE_EVERY_SECONDS == 60
    now, written = [0.0], []
    monkeypatch.setattr(train.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(training_state, "save", lambda *args: written.append(now[0]))

    def evaluate(model):
        now[0] += 12.0
        return {}

    fit(network(), Blobs(), classification_loss(), dataclasses.replace(RECIPE, epochs=7), seed=0, evaluate=evaluate, checkpoint=tmp_path)
    assert written == [60.0]


@pytest.mark.parametrize("change", [{}, {"optimizer": "muon", "schedule": "linear"}])
def test_training_killed_within_an_epoch_goes_on_from_the_last_step_that_was_written(tmp_path, monkeypatch, change):
    recipe = dataclasses.replace(RECIPE, **change)
    through, resumed, taken = network(), network(seed=77), []
    expected = fit(through, Blobs(), classification_loss(), recipe, seed=5, evaluate=accuracy)
    after = torch.rand(())

    def die_in_epoch_three(model, step):
        if step == 16:
            raise Killed

    monkeypatch.setattr(train, "SAVE_EVERY_SECONDS", 0.0)
    with pytest.raises(Killed):
        fit(
            network(),
            Blobs(),
            classification_loss(),
            recipe,
            seed=5,
            evaluate=accuracy,
            checkpoint=tmp_path,
            within_epochs=True,
            after_step=die_in_epoch_three,
        )
    history = fit(
        resumed,
        Blobs(),
        classification_loss(),
        recipe,
        seed=5,
        evaluate=accuracy,
        checkpoint=tmp_path,
        within_epochs=True,
        after_step=lambda model, step: taken.append(step),
    )
    assert taken == list(range(16, 25))  # 15 steps were kept, three of them of the third epoch
    assert torch.equal(torch.rand(()), after)
    assert_same(state(through), state(resumed))
    assert without_seconds(history) == without_seconds(expected)


def test_training_in_pieces_is_the_same_to_the_bit(tmp_path):
    through, pieces = network(), network()
    expected = fit(through, Blobs(), classification_loss(), RECIPE, seed=5, evaluate=accuracy)
    first = fit(pieces, Blobs(), classification_loss(), RECIPE, seed=5, evaluate=accuracy, checkpoint=tmp_path, until=3)
    assert first.epochs == 3 and first.curves["lr"] == expected.curves["lr"][:3]
    with safe_open(tmp_path / training_state.FILE, framework="pt") as file:
        assert torch.equal(file.get_tensor("model.0.weight"), pieces[0].weight)  # as trained, not the average
    last = network(seed=77)
    history = fit(last, Blobs(), classification_loss(), RECIPE, seed=5, evaluate=accuracy, checkpoint=tmp_path)
    assert_same(state(through), state(last))
    assert without_seconds(history) == without_seconds(expected)


def test_an_interrupted_write_leaves_the_old_state(tmp_path, monkeypatch):
    training_state.save(tmp_path, {"a": torch.ones(3)}, {"epoch": 1})
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        training_state.save(tmp_path, {"a": torch.zeros(3)}, {"epoch": 2})
    tensors, record = training_state.load(tmp_path)
    assert record == {"epoch": 1} and tensors["a"].tolist() == [1, 1, 1]
    assert [path.name for path in tmp_path.iterdir()] == [training_state.FILE]
