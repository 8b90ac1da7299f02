"""The distillation chapter's losses against float64 references written term by term, their gradients, and their limits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.distillation import zero_shot
from lib.distillation.attention_transfer import AttentionTransfer, attention_loss, attention_map
from lib.distillation.contrastive import Contrastive, Memory, nce_loss
from lib.distillation.decoupled import decoupled_loss, parts, parts_by_image
from lib.distillation.dist import dist_loss, pearson
from lib.distillation.fitnets import Hint, hint_loss
from lib.distillation.hinton import distillation
from lib.distillation.relational import angles, distances, relational_loss
from lib.distillation.standardised import standardised, standardised_loss
from lib.distillation.taps import Features, features, stages, widths
from lib.models.cnn import BaselineCNN, CNNConfig
from lib.models.resnet import ResNet, ResNetConfig
from loss_references import check_gradient, draw, kl, softmax

BATCH, CLASSES = 5, 4


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# Features on the way


@pytest.mark.parametrize(
    "model, channels, sides",
    [
        (ResNet(ResNetConfig((4, 6), (1, 2), channels=1)), [4, 6], [8, 4]),
        (BaselineCNN(CNNConfig(((3,), (5, 5), (7,)), channels=1)), [3, 5, 7], [8, 4, 2]),
    ],
)
def test_features_are_those_of_the_network(model, channels, sides):
    model.eval()
    images = torch.randn(2, 1, 8, 8)
    seen = features(model, images)
    assert torch.equal(seen.logits, model(images)) and widths(model) == channels
    assert [tuple(x.shape[1:]) for x in seen.stages] == [(c, s, s) for c, s in zip(channels, sides)]
    assert torch.equal(seen.pooled, seen.stages[-1].mean((2, 3))) and all((x >= 0).all() for x in seen.stages)
    every = [module for stage in stages(model) for layer in stage for module in layer.modules() if isinstance(module, nn.Conv2d)]
    assert len(every) == sum(isinstance(module, nn.Conv2d) for module in model.modules())


def test_other_networks_are_refused():
    with pytest.raises(TypeError, match="Linear are not known"):
        features(nn.Linear(2, 2), torch.zeros(1, 2))


# FitNets


def test_hints():
    own, other = draw(2, 3, 2, 2), draw(2, 3, 2, 2)
    differences = [(a - b) ** 2 for a, b in zip(own.flatten().tolist(), other.flatten().tolist())]
    assert hint_loss(own, other).item() == pytest.approx(sum(differences) / 24)
    check_gradient(hint_loss, own, other)
    with pytest.raises(ValueError, match="Hint"):
        hint_loss(own, draw(2, 4, 2, 2))
    term = Hint(3, 5, stage=0)
    seen = Features(own, (own.float(),), own)
    taught = Features(own, (torch.rand(2, 5, 4, 4),), own)
    assert term(seen, taught, None).item() > 0 and sum(p.numel() for p in term.parameters()) == 3 * 5 + 2 * 5


# Attention transfer


def test_attention():
    own, other = draw(2, 3, 2, 2), draw(2, 5, 2, 2)
    total = 0.0
    for a, b in zip(own.tolist(), other.tolist()):
        maps = []
        for x in (a, b):
            squares = [sum(channel[i][j] ** 2 for channel in x) / len(x) for i in range(2) for j in range(2)]
            length = math.sqrt(sum(value**2 for value in squares))
            maps.append([value / length for value in squares])
        total += sum((p - q) ** 2 for p, q in zip(*maps)) / 8
    assert attention_loss([own], [other]).item() == pytest.approx(total)
    check_gradient(lambda s, t: attention_loss([s, s], [t, t]), own, other)
    torch.testing.assert_close(attention_map(own), attention_map(-3 * own))  # where, not how much
    larger = other.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert attention_loss([own], [larger]).item() == pytest.approx(total)
    with pytest.raises(ValueError, match="as many"):
        attention_loss([own], [other, other])


# RKD


def test_relations():
    own, other = draw(BATCH, 3), draw(BATCH, 6)

    def reference(x):
        points = x.tolist()
        gaps = [[math.dist(a, b) for b in points] for a in points]
        mean = sum(map(sum, gaps)) / (BATCH * (BATCH - 1))
        cosines = []
        for i in points:
            for j in points:
                for k in points:
                    u, v = [a - b for a, b in zip(j, i)], [a - b for a, b in zip(k, i)]
                    size = math.hypot(*u) * math.hypot(*v)
                    cosines.append(sum(a * b for a, b in zip(u, v)) / size if size else 0.0)
        return [gap / mean for row in gaps for gap in row], cosines

    def huber(a, b):
        return sum(0.5 * (x - y) ** 2 if abs(x - y) < 1 else abs(x - y) - 0.5 for x, y in zip(a, b)) / len(a)

    (own_far, own_turn), (other_far, other_turn) = reference(own.detach()), reference(other.detach())
    assert relational_loss(own, other).item() == pytest.approx(25 * huber(own_far, other_far) + 50 * huber(own_turn, other_turn))
    check_gradient(relational_loss, own, other)


def test_relations_do_not_mind_size_place_or_turn():
    x = draw(BATCH, 3).detach()
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    assert relational_loss(5 * x @ turn + 2, x).item() == pytest.approx(0, abs=1e-10)
    twice = x[[0, 0, 1, 2]].clone().requires_grad_()  # two copies of an image: no infinite slope
    relational_loss(twice, draw(4, 3)).backward()
    assert twice.grad.isfinite().all() and distances(twice)[0, 1].item() < 1e-5 and angles(twice).isfinite().all()


# DKD


def test_decoupled():
    own, other, labels = draw(BATCH, CLASSES), draw(BATCH, CLASSES), torch.tensor([0, 3, 1, 1, 2])
    target = others = 0.0
    for z, v, y in zip(own.tolist(), other.tolist(), labels.tolist()):
        q, p = softmax(z, 4.0), softmax(v, 4.0)
        target += kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others += kl([a / (1 - p[y]) for i, a in enumerate(p) if i != y], [a / (1 - q[y]) for i, a in enumerate(q) if i != y])
    assert decoupled_loss(own, other, labels).item() == pytest.approx(16 * (target + 8 * others) / BATCH)
    check_gradient(lambda s, t: decoupled_loss(s, t, labels), own, other)


def test_its_parts_make_up_hintons_loss():
    own, other, labels = draw(BATCH, CLASSES), draw(BATCH, CLASSES), torch.tensor([0, 3, 1, 1, 2])
    target, others = parts_by_image(own, other, labels, 2.0)
    sure = (other / 2).softmax(-1).gather(1, labels[:, None])[:, 0]
    assert distillation(own, other, 2.0).item() == pytest.approx(4 * (target + (1 - sure) * others).mean().item())
    assert parts(own, other, labels, 2.0)[1].item() == pytest.approx(others.mean().item())


# DIST


def test_dist():
    own, other = draw(BATCH, CLASSES), draw(BATCH, CLASSES)
    q, p = ([softmax(row, 4.0) for row in x.tolist()] for x in (own, other))

    def correlation(a, b):
        a, b = [x - sum(a) / len(a) for x in a], [x - sum(b) / len(b) for x in b]
        return sum(x * y for x, y in zip(a, b)) / (math.hypot(*a) * math.hypot(*b))

    rows = sum(correlation(a, b) for a, b in zip(q, p)) / BATCH
    columns = sum(correlation(a, b) for a, b in zip(zip(*q), zip(*p))) / CLASSES
    assert dist_loss(own, other, beta=2.0, gamma=0.5).item() == pytest.approx(16 * (2 * (1 - rows) + 0.5 * (1 - columns)), rel=1e-5)
    check_gradient(dist_loss, own, other)
    x = torch.rand(3, 6, dtype=torch.float64)
    torch.testing.assert_close(pearson(x, 4 * x + 1), torch.ones(3, dtype=torch.float64))


# Logit standardisation


def test_standardised():
    own, other = draw(BATCH, CLASSES), draw(BATCH, CLASSES)

    def scaled(row):
        mean = sum(row) / len(row)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / (len(row) - 1))
        return [(x - mean) / deviation for x in row]

    total = sum(kl(softmax(scaled(v), 2.0), softmax(scaled(z), 2.0)) for z, v in zip(own.tolist(), other.tolist()))
    assert standardised_loss(own, other).item() == pytest.approx(4 * total / BATCH, rel=1e-5)
    check_gradient(standardised_loss, own, other)
    assert standardised_loss(0.1 * other.detach() + 3, other).item() == pytest.approx(0, abs=1e-10)  # size is free
    assert standardised(other).std(-1).tolist() == pytest.approx([1.0] * BATCH)


# CRD


def test_contrast():
    scores = torch.rand(BATCH, 1 + 3, dtype=torch.float64, requires_grad=True)
    total = 0.0
    for first, *rest in scores.tolist():
        total -= math.log(first / (first + 3 / 50)) + sum(math.log(3 / 50 / (s + 3 / 50)) for s in rest)
    assert nce_loss(scores, 50).item() == pytest.approx(total / BATCH)
    assert torch.autograd.gradcheck(lambda s: nce_loss(s, 50), scores)


def test_the_memory():
    memory = Memory(examples=20, width=4, negatives=6)
    before = memory.teacher.clone(), memory.student.clone()
    own, other = F.normalize(torch.randn(3, 4)).requires_grad_(), F.normalize(torch.randn(3, 4))
    index = torch.tensor([7, 2, 11])
    first, _ = memory(own, other, index)
    assert first.shape == (3, 7)
    raw = ((own * before[0][index]).sum(1) / 0.07).exp()
    torch.testing.assert_close(first[:, 0], raw / memory.student_z)
    assert first.mean().item() == pytest.approx(1 / 20, rel=1e-5)  # what sets Z
    torch.testing.assert_close(memory.student[index], F.normalize((before[1][index] + own.detach()) / 2))
    rest = [i for i in range(20) if i not in index.tolist()]
    assert torch.equal(memory.teacher[rest], before[0][rest])
    z = memory.student_z.clone()
    memory(own, other, index)
    assert torch.equal(memory.student_z, z)
    nce_loss(first, 20).backward()  # though the memory has changed meanwhile
    assert own.grad.isfinite().all() and own.grad.abs().sum() > 0


def test_contrast_needs_to_know_the_images():
    term = Contrastive(3, 5, examples=10)
    seen, taught = (Features(None, (), torch.rand(2, width)) for width in (3, 5))
    with pytest.raises(ValueError, match="PairBatches"):
        term(seen, taught, None)
    assert term.memory.negatives == 10
    term(seen, taught, None, torch.tensor([1, 2])).backward()
    assert all(p.grad is not None for p in term.parameters())


def test_networks_of_unlike_depth_are_compared_from_the_end():
    own, other = (
        features(ResNet(ResNetConfig(widths_, (1,) * len(widths_), channels=1)).eval(), torch.randn(2, 1, 16, 16))
        for widths_ in ((4, 4), (4, 6, 8))
    )
    expected = attention_loss(own.stages, other.stages[1:]).item()
    assert AttentionTransfer()(own, other, None).item() == pytest.approx(expected)
    assert zero_shot.student_loss(own, other, beta=10.0).item() == pytest.approx(
        zero_shot.student_loss(own, other, beta=0.0).item() + 10 * expected
    )
