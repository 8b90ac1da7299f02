"""Attacks: they stay in their ball, they hurt, and without room they do nothing."""

import pytest
import torch
from torch import nn

from lib.data.images import ImageBatches, load_images, normalise
from lib.measure.robustness import EPSILON, fgsm, pgd, robust_accuracy
from lib.models.mlp import MLP, MLPConfig
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss


@pytest.fixture(scope="module")
def images():
    return load_images("digits")


@pytest.fixture(scope="module")
def model(images):
    torch.manual_seed(0)
    network = MLP(MLPConfig(64, (32,)))
    fit(network, ImageBatches(images.train, images, 64, seed=0), classification_loss(), Recipe(epochs=4, lr=1e-2), seed=0)
    return network


def test_without_room_accuracy_is_the_clean_one(model, images):
    clean = evaluate_classifier(model, images.test, images)["accuracy"]
    assert clean > 0.9
    for attack in ("fgsm", "pgd"):
        assert robust_accuracy(model, images.test, images, attack, epsilon=0.0) == clean


def test_attacks_hurt_the_more_room_they_have(model, images):
    for attack in ("fgsm", "pgd"):
        found = [robust_accuracy(model, images.test, images, attack, epsilon=epsilon) for epsilon in (0.0, EPSILON, 0.06)]
        assert found == sorted(found, reverse=True) and found[0] > found[1] + 0.02 > found[2] + 0.04
    assert robust_accuracy(model, images.test, images, "fgsm", epsilon=0.2) < 0.3
    assert robust_accuracy(model, images.test, images, "pgd", examples=50) in [n / 50 for n in range(51)]


@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.3])
def test_attacks_stay_in_the_ball_and_in_the_image(model, images, epsilon):
    x, y = images.test.images[:40].float() / 255, images.test.labels[:40]

    def logits(x):
        return model(normalise(255 * x, images))

    for changed in (fgsm(logits, x, y, epsilon), pgd(logits, x, y, epsilon, generator=torch.Generator().manual_seed(1))):
        assert (changed - x).abs().max() <= epsilon + 1e-6 and changed.min() >= 0 and changed.max() <= 1
        assert not changed.requires_grad


def test_on_a_linear_model_fgsm_is_the_worst_change():
    """Two classes, logit difference w·x: the worst change within ε is ε sign(w), and PGD finds the same one."""
    torch.manual_seed(0)
    linear = nn.Linear(12, 2)
    x = torch.rand(5, 12) * 0.4 + 0.3
    labels = torch.zeros(5, dtype=torch.int64)
    worst = x - 0.1 * (linear.weight[0] - linear.weight[1]).sign()
    torch.testing.assert_close(fgsm(linear, x, labels, 0.1), worst)
    torch.testing.assert_close(pgd(linear, x, labels, 0.1, step=0.05, steps=5), worst)


def test_pgd_is_stronger_than_fgsm_and_repeats(model, images):
    """As far as its 7 steps of 0.01 can cross the ball."""
    few = [robust_accuracy(model, images.test, images, "pgd", epsilon=EPSILON, seed=3) for _ in range(2)]
    assert few[0] == few[1] <= robust_accuracy(model, images.test, images, "fgsm", epsilon=EPSILON) + 0.01


def test_the_model_keeps_its_mode_and_its_gradients(model, images):
    model.train()
    model.zero_grad()
    robust_accuracy(model, images.test, images, "fgsm", examples=20)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    model.eval()


def test_what_makes_no_sense(model, images):
    x, y = torch.rand(2, 64), torch.zeros(2, dtype=torch.int64)
    for call, message in (
        (lambda: fgsm(model, 255 * x, y), "normalised"),
        (lambda: fgsm(model, x - 1, y), "normalised"),
        (lambda: fgsm(model, x, y, -1.0), "negative"),
        (lambda: pgd(model, x, y, step=0.0), "step"),
        (lambda: pgd(model, x, y, steps=0), "steps"),
        (lambda: robust_accuracy(model, images.test, images, "cw"), "fgsm"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
