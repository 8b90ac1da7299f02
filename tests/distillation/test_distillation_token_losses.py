"""DeiT's, TinyBERT's and self-distillation's losses against float64 references written term by term, and their gradients."""

import math

import pytest
import torch

from lib.distillation import deit, self_losses, tinybert
from loss_references import check_gradient, draw, kl, softmax

BATCH, CLASSES = 5, 4


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# DeiT


@pytest.mark.parametrize("reduction, divisor", [("batchmean", 1), ("numel", CLASSES)])
def test_deit_soft(reduction, divisor):
    own, token, other, labels = draw(BATCH, CLASSES), draw(BATCH, CLASSES), draw(BATCH, CLASSES), torch.tensor([0, 3, 1, 1, 2])
    ce = -sum(math.log(softmax(z, 1.0)[y]) for z, y in zip(own.tolist(), labels.tolist())) / BATCH
    far = sum(kl(softmax(v, 3.0), softmax(z, 3.0)) for z, v in zip(token.tolist(), other.tolist())) / BATCH / divisor
    assert deit.soft_loss(own, token, other, labels, reduction=reduction).item() == pytest.approx(0.9 * ce + 0.1 * 9 * far)
    check_gradient(lambda s, t: deit.soft_loss(own.detach(), s, t, labels, reduction=reduction), token, other)


def test_deit_hard():
    own, token, other, labels = draw(BATCH, CLASSES), draw(BATCH, CLASSES), draw(BATCH, CLASSES), torch.tensor([0, 3, 1, 1, 2])
    total = 0.0
    for z, d, v, y in zip(own.tolist(), token.tolist(), other.tolist(), labels.tolist()):
        total -= 0.5 * math.log(softmax(z, 1.0)[y]) + 0.5 * math.log(softmax(d, 1.0)[v.index(max(v))])
    assert deit.hard_loss(own, token, other, labels).item() == pytest.approx(total / BATCH)
    check_gradient(lambda s, t: deit.hard_loss(own.detach(), s, t, labels), token, other)
    both = deit.prediction(own, token)
    torch.testing.assert_close(both.sum(-1), torch.ones(BATCH, dtype=torch.float64))
    with pytest.raises(ValueError, match="batchmean"):
        deit.soft_loss(own, token, other, labels, reduction="mean")


# TinyBERT


def test_tinybert_attention_and_states():
    own, other = draw(2, 3, 4, 4), draw(2, 3, 4, 4)
    assert tinybert.attention_loss(own, other).item() == pytest.approx((own - other).pow(2).mean().item())
    check_gradient(tinybert.attention_loss, own, other)
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    by_hand = ((own - other)[0] ** 2).sum() + ((own - other)[1, :, :2, :2] ** 2).sum()
    assert tinybert.attention_loss(own, other, real).item() == pytest.approx((by_hand / (3 * 16 + 3 * 4)).item())
    states, theirs = draw(2, 4, 6), draw(2, 4, 6)
    by_hand = ((states - theirs)[0] ** 2).sum() + ((states - theirs)[1, :2] ** 2).sum()
    assert tinybert.hidden_loss(states, theirs, real).item() == pytest.approx((by_hand / (6 * 6)).item())
    check_gradient(lambda s, t: tinybert.hidden_loss(s, t, real), states, theirs)
    for loss, shape in ((tinybert.attention_loss, (2, 2, 4, 4)), (tinybert.hidden_loss, (2, 3, 4))):
        with pytest.raises(ValueError, match="need the same|project"):
            loss(draw(*shape), own)


def test_tinybert_predictions():
    own, other = draw(BATCH, CLASSES), draw(BATCH, CLASSES)
    total = -sum(p * math.log(q) for z, v in zip(own.tolist(), other.tolist()) for p, q in zip(softmax(v, 2.0), softmax(z, 2.0)))
    assert tinybert.prediction_loss(own, other, 2.0).item() == pytest.approx(total / BATCH)
    check_gradient(tinybert.prediction_loss, own, other)


def test_layer_maps():
    assert tinybert.layer_map(4, 12) == (3, 6, 9, 12)
    assert tinybert.layer_map(4, 12, "top") == (9, 10, 11, 12) and tinybert.layer_map(2, 4, "bottom") == (1, 2)
    for values, message in (((5, 4), "as its teacher"), ((3, 4), "divisor"), ((2, 4, "odd"), "uniform")):
        with pytest.raises(ValueError, match=message):
            tinybert.layer_map(*values)


# Self-distillation


def test_self_distillation():
    own, deepest, labels = draw(BATCH, CLASSES), draw(BATCH, CLASSES), torch.tensor([0, 3, 1, 1, 2])
    near, far = draw(BATCH, 2, 3), draw(BATCH, 2, 3)
    ce = -sum(math.log(softmax(z, 1.0)[y]) for z, y in zip(own.tolist(), labels.tolist())) / BATCH
    belief = sum(kl(softmax(v, 3.0), softmax(z, 3.0)) for z, v in zip(own.tolist(), deepest.tolist())) / BATCH
    norm = math.dist(near.flatten().tolist(), far.flatten().tolist())  # one norm of the whole batch
    assert self_losses.belief_loss(own, deepest).item() == pytest.approx(belief)
    assert self_losses.hint_loss(near, far).item() == pytest.approx(norm)
    assert self_losses.shallow_loss(own, labels, deepest, near, far).item() == pytest.approx(0.7 * ce + 0.3 * belief + 0.03 * norm)
    check_gradient(self_losses.belief_loss, own, deepest)
    check_gradient(self_losses.hint_loss, near, far)
