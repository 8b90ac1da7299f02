"""Zero-shot transfer: its losses, the game of generator and student, and that no real image is ever learnt from."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lib.data.images import ImageSet, Split
from lib.distillation.attention_transfer import attention_loss
from lib.distillation.hinton import distillation
from lib.distillation.taps import features
from lib.distillation.transition import transition_curves, transition_error
from lib.distillation.zero_shot import Game, Generator, Rounds, divergence, frozen, shown, student_loss, usual_lesson, zero_shot_loss
from lib.models.resnet import ResNetConfig
from lib.runs.store import Session, Store, obtain
from lib.studies.base import image_run
from lib.studies.distillation.pairs import PairRun, PlainRun, network
from lib.studies.teachers import zero_shot as distillation_zero_shot
from lib.studies.teachers.zero_shot import TransitionRun, ZeroShotRun
from lib.training.loop import Recipe, fit

BATCH, CLASSES = 6, 5
TINY = ResNetConfig((4, 8), (1, 1), channels=1)
RECIPE = Recipe(epochs=2, batch_size=8, lr=2e-3, weight_decay=0.0, warmup=0.0, clip=5.0)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def draw(*shape):
    return (2 * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def softmax(row):
    top = [math.exp(value) for value in row]
    return [value / sum(top) for value in top]


# Losses


def test_divergence_is_per_class():
    own, other = draw(BATCH, CLASSES), draw(BATCH, CLASSES)
    total = sum(p * math.log(p / q) for z, v in zip(own.tolist(), other.tolist()) for p, q in zip(softmax(v), softmax(z)))
    assert divergence(own, other).item() == pytest.approx(total / (BATCH * CLASSES))
    assert divergence(own, other).item() == pytest.approx(distillation(own, other, 1.0).item() / CLASSES)
    assert torch.autograd.gradcheck(divergence, (own, other))  # to both: the generator works through the teacher


def test_the_students_loss_adds_attention():
    own, other = (features(network(TINY).double().eval(), torch.randn(4, 1, 8, 8, dtype=torch.float64)) for _ in range(2))
    expected = divergence(own.logits, other.logits) + 250 * attention_loss(own.stages, other.stages)
    assert student_loss(own, other).item() == pytest.approx(expected.item())
    assert student_loss(own, other, beta=0.0).item() == pytest.approx(divergence(own.logits, other.logits).item())


def test_shown_has_the_value_of_one_and_the_slope_of_the_other():
    x = torch.tensor(3.0, requires_grad=True)
    both = shown(x**2, torch.tensor(-1.0))
    both.backward()
    assert both.item() == -1 and x.grad.item() == 6


# The game


@pytest.mark.parametrize("side, channels", [(8, 1), (32, 3)])
def test_the_generator(side, channels):
    generator = Generator(16, side, channels, width=8)
    images = generator(torch.randn(64, 16))
    assert images.shape == (64, channels, side, side)
    assert images.mean().item() == pytest.approx(0, abs=1e-4) and images.std().item() == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="multiple of 4"):
        Generator(16, 30, 1)


def test_rounds():
    rounds = Rounds(rounds=3, batch_size=4, noise=5, student_steps=2, seed=1)
    assert rounds.steps == 9
    shapes = [tuple(rounds.batch(0, step)[0].shape) for step in range(9)]
    assert shapes == [(4, 5), (0, 5), (0, 5)] * 3
    assert torch.equal(rounds.batch(0, 3)[0], rounds.batch(0, 3)[0])
    assert not torch.equal(rounds.batch(0, 3)[0], rounds.batch(0, 0)[0]) and not torch.equal(rounds.batch(0, 3)[0], rounds.batch(1, 3)[0])
    with pytest.raises(ValueError, match="at least 1"):
        Rounds(rounds=0, batch_size=4, noise=5)


def test_each_turn_moves_one_player():
    teacher, game = network(TINY).eval(), Game(network(TINY), Generator(16, 8, 1, width=8))
    loss = zero_shot_loss(teacher, usual_lesson())
    value, _ = loss(game, torch.randn(8, 16), torch.empty(0))
    value.backward()
    assert all(p.grad is None for p in game.student.parameters()) and all(p.grad is not None for p in game.generator.parameters())
    with torch.no_grad():
        game.generator.zero_grad(set_to_none=True)
    assert value.item() >= 0 and all(p.requires_grad for p in game.student.parameters())
    value, logged = loss(game, torch.empty(0, 16), torch.empty(0))
    value.backward()
    assert all(p.grad is None for p in game.generator.parameters()) and all(p.grad is not None for p in game.student.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert 0 <= logged["spread"].item() <= 1.0001 and 0.1 <= logged["student_confidence"].item() <= 1
    with frozen(game.student):
        assert not any(p.requires_grad for p in game.student.parameters())


def test_the_generators_step_raises_what_the_students_lowers():
    torch.manual_seed(3)
    teacher, game = network(TINY).eval(), Game(network(TINY), Generator(16, 8, 1, width=8))
    loss, noise = zero_shot_loss(teacher, usual_lesson(beta=0.0)), torch.randn(32, 16)

    def disagreement():
        with torch.no_grad():
            return divergence(game.student(game.generator(noise)), teacher(game.generator(noise))).item()

    for part, turn, sign in ((game.generator, noise, 1), (game.student, torch.empty(0, 16), -1)):
        optimizer, before = torch.optim.SGD(part.parameters(), lr=0.05), disagreement()
        loss(game, noise, torch.empty(0))  # makes this round's images
        for _ in range(3):
            optimizer.zero_grad()
            loss(game, turn, torch.empty(0))[0].backward()
            optimizer.step()
        assert sign * (disagreement() - before) > 0


# No real image


def poisoned(images: ImageSet) -> ImageSet:
    """The same data set with other pixels and labels wherever there are any."""

    def other(split: Split) -> Split:
        return Split(255 - split.images.flip(0), split.labels.roll(1))

    return replace(images, train=other(images.train), validation=other(images.validation), test=other(images.test))


def test_no_real_image_is_touched(tmp_path, monkeypatch):
    """The student's weights do not change by a bit when every image and label does, and nothing but the generator's output
    ever reaches a network while it trains."""
    base = PlainRun(model=TINY, recipe=Recipe(epochs=1, batch_size=32, lr=1e-2), train_examples=128)
    run = ZeroShotRun(parent=base, model=TINY, recipe=RECIPE, rounds=3, noise=8, width=8, gallery=4)
    store = Store(tmp_path / "none", tmp_path / "first")
    first = obtain([base, run], store=store)[1]
    session = Session(torch.device("cpu"), store, run, lambda part, text: None)
    weights = {name: value.clone() for name, value in run.load(session).state_dict().items()}

    loading = image_run.available_images
    monkeypatch.setattr(image_run, "available_images", lambda *words: poisoned(loading(*words)))
    known, made, fed = loading("digits", 128, torch.device("cpu")), [], []
    fitting = distillation_zero_shot.fit

    def watched_fit(game, batches, loss, recipe, **more):
        taught = [cell.cell_contents for cell in loss.__closure__ if isinstance(cell.cell_contents, nn.Module)]
        assert len(taught) == 1
        game.generator.register_forward_hook(lambda module, given, out: made.append(out.detach().clone()))
        for part in (game.student.conv, taught[0].conv):
            part.register_forward_hook(lambda module, given, out: fed.append(given[0].detach().clone()) if game.training else None)
        assert isinstance(batches, Rounds)
        return fitting(game, batches, loss, recipe, **more)

    monkeypatch.setattr(distillation_zero_shot, "fit", watched_fit)
    second = obtain([run], store=store, recompute=True)[0]
    assert all(torch.equal(value, weights[name]) for name, value in run.load(session).state_dict().items())
    assert second.metrics["test_accuracy"] != first.metrics["test_accuracy"]  # it was measured on other images
    assert len(fed) >= 2 * 3 * (2 + 2 * 10) - 20 and all(any(torch.equal(x, y) for y in made) for x in fed)
    assert not any(torch.equal(x.flatten(1)[0], y.flatten(1)[0]) for x in made for y in known.train.images.float().split(1))


# Beliefs near boundaries


class Linear2(nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        z = self.slope * x.flatten(1)[:, :1]
        return torch.cat([z, -z], 1)


def test_transition_curves_by_hand():
    first, second = Linear2(1.0), Linear2(0.5)
    start, lr = 2.0, 0.7
    own, other = transition_curves(first, second, torch.full((1, 1, 1, 1), start), steps=5, lr=lr)
    x, expected = start, []
    for _ in range(5):
        p = 1 / (1 + math.exp(2 * x))  # of the second class, to which it walks
        expected.append((p, 1 / (1 + math.exp(x))))
        x -= lr * 2 * (1 - p)  # d(-log p)/dx = 2 (1 - p)
    assert own[0, 0].tolist() == pytest.approx([a for a, _ in expected], rel=1e-5)
    assert other[0, 0].tolist() == pytest.approx([b for _, b in expected], rel=1e-5)
    assert transition_error(own, other) == pytest.approx(sum(abs(a - b) for a, b in expected) / 5, rel=1e-5)


def test_a_network_is_like_itself():
    net = network(TINY).eval()
    own, other = transition_curves(net, net, torch.randn(3, 1, 8, 8), steps=4)
    assert own.shape == (3, 9, 4) and torch.equal(own, other) and transition_error(own, other) == 0
    assert (own[..., -1] > own[..., 0]).float().mean() > 0.9 and all(p.grad is None for p in net.parameters())


# Specs


def test_specs_refuse_what_makes_no_sense():
    base = PlainRun(model=TINY)
    for fields, message in (
        ({"beta": -1.0}, "beta"),
        ({"rounds": 0}, "rounds"),
        ({"places": (1,), "beta": 250.0}, "answers only"),
        ({"places": (9,), "beta": 0.0, "model": TINY}, "places"),
        ({"temperature": 0.0}, "above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ZeroShotRun(parent=base, **fields)
    with pytest.raises(ValueError, match="has a teacher"):
        TransitionRun(parent=base)


def test_from_beginning_to_end(tmp_path):
    base = PlainRun(model=TINY, recipe=Recipe(epochs=3, batch_size=32, lr=1e-2), train_examples=300)
    run = ZeroShotRun(parent=base, model=TINY, recipe=RECIPE, rounds=2, noise=8, width=8, gallery=10)
    skeptical = replace(run, places=(1,), beta=0.0)
    full = PairRun(parent=base, model=TINY, method="soft attention", weight=60.0, recipe=Recipe(epochs=2, batch_size=32, lr=1e-2))
    store = Store(tmp_path / "none", tmp_path)
    plain, zero, other, near, far = obtain(
        [base, run, skeptical, TransitionRun(parent=run, examples=5, steps=3), TransitionRun(parent=full, examples=5, steps=3)], store=store
    )
    assert zero.metrics["teacher_accuracy"] == pytest.approx(plain.metrics["test_accuracy"])
    assert zero.metrics["pseudo_images"] == 2 * 2 * 8 and len(zero.curves["val_accuracy"]) == 2
    assert sum(zero.arrays["teacher_share_by_class"]) == pytest.approx(1, abs=1e-5)
    assert other.metrics["parameters"] == zero.metrics["parameters"]
    assert other.metrics["term_parameters"] > zero.metrics["term_parameters"]
    assert 0 <= near.metrics["transition_error"] <= 1 and len(far.curves["teacher"]) == 3
    again = obtain([run], store=Store(tmp_path / "none", tmp_path / "again"))[0]
    assert {k: v for k, v in again.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in zero.metrics.items() if k != "train_seconds"
    }


def test_training_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Round by round state is made anew, so an interrupted game ends with the same weights, to the bit."""
    monkeypatch.setattr("lib.training.loop.SAVE_EVERY_SECONDS", 0.0)
    teacher = network(TINY).eval()
    spec = ZeroShotRun(parent=PlainRun(model=TINY), model=TINY, recipe=RECIPE, rounds=2, noise=8, width=8)

    def play(folder, stop=False):
        torch.manual_seed(0)
        game = spec.game()
        evaluations = iter(range(10))

        def evaluate(model):
            if stop and next(evaluations) == 1:
                raise KeyboardInterrupt
            return {}

        try:
            fit(
                game,
                Rounds(2, 8, 8, seed=0),
                spec.loss(teacher),
                RECIPE,
                seed=0,
                optimizers=spec.optimizers(game),
                checkpoint=tmp_path / folder,
                evaluate=evaluate,
            )
        except KeyboardInterrupt:
            return play(folder)
        return game.state_dict()

    whole, resumed = play("whole"), play("resumed", stop=True)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
