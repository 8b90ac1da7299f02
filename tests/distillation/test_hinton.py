"""Hinton's distillation against float64 references, its gradient, and its limits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.distillation.hinton import distillation, hinton_loss
from loss_references import Fixed

BATCH, CLASSES = 6, 5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def logits(scale=3.0, dtype=torch.float64):
    return scale * torch.randn(BATCH, CLASSES, dtype=dtype)


def reference(student, teacher, temperature):
    """T² Σ p log(p / q), summed term by term in double precision."""
    total = 0.0
    for z, v in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        q = [math.exp(a / temperature) / sum(math.exp(b / temperature) for b in z) for a in z]
        p = [math.exp(a / temperature) / sum(math.exp(b / temperature) for b in v) for a in v]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_distillation_is_its_formula(temperature):
    student, teacher = logits(), logits()
    assert distillation(student, teacher, temperature).item() == pytest.approx(reference(student, teacher, temperature))
    single = distillation(student.float(), teacher.float(), temperature).item()
    assert single == pytest.approx(reference(student, teacher, temperature), rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_its_gradient_is_the_difference_of_the_softened_probabilities(temperature):
    """Equation 2 of the paper times T²: T (q - p), per row of a mean over the batch."""
    student, teacher = logits().requires_grad_(), logits().requires_grad_()
    distillation(student, teacher, temperature).backward()
    expected = temperature * ((student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)) / BATCH
    torch.testing.assert_close(student.grad, expected.detach())
    assert teacher.grad is None
    fixed = teacher.detach()
    assert torch.autograd.gradcheck(lambda z: distillation(z, fixed, temperature), logits().requires_grad_())


def test_at_high_temperature_it_matches_centred_logits():
    student, teacher = logits().requires_grad_(), logits()
    loss = distillation(student, teacher, 1e4)
    loss.backward()
    apart = student.detach() - teacher
    apart = apart - apart.mean(-1, keepdim=True)
    assert loss.item() == pytest.approx((apart**2).mean(-1).mean().item() / 2, rel=1e-3)
    torch.testing.assert_close(student.grad, apart / (CLASSES * BATCH), rtol=1e-2, atol=1e-4)


def test_a_student_that_agrees_has_nothing_to_learn():
    teacher = logits()
    student = (teacher + 7.0).requires_grad_()  # a shift of all logits changes no probability
    loss = distillation(student, teacher, 4.0)
    loss.backward()
    assert abs(loss.item()) < 1e-12 and student.grad.abs().max() < 1e-12


def test_the_loss_weights_teacher_and_labels():
    student, teacher = Fixed(logits(dtype=torch.float32)), Fixed(logits(dtype=torch.float32))
    labels = torch.randint(CLASSES, (BATCH,))
    total, logged = hinton_loss(teacher, 4.0, 0.7, label_smoothing=0.1)(student, torch.zeros(BATCH, 1), labels)
    smooth = 0.9 * F.one_hot(labels, CLASSES) + 0.1 / CLASSES
    ce = -(smooth * student.values.double().log_softmax(-1)).sum(-1).mean()
    assert total.item() == pytest.approx(0.7 * reference(student.values, teacher.values, 4.0) + 0.3 * ce.item(), rel=1e-5)
    assert logged["train_accuracy"].item() == pytest.approx((student.values.argmax(-1) == labels).float().mean().item())
    assert logged["agreement"].item() == pytest.approx((student.values.argmax(-1) == teacher.values.argmax(-1)).float().mean().item())
    assert not any(value.requires_grad for value in logged.values())


def test_soft_targets_are_taken_too():
    student, teacher = Fixed(logits(dtype=torch.float32)), Fixed(logits(dtype=torch.float32))
    labels = torch.randint(CLASSES, (BATCH,))
    loss, inputs = hinton_loss(teacher), torch.zeros(BATCH, 1)
    hard, soft = loss(student, inputs, labels), loss(student, inputs, F.one_hot(labels, CLASSES).float())
    assert hard[0].item() == pytest.approx(soft[0].item()) and hard[1] == soft[1]


def test_the_teacher_is_left_alone():
    """In evaluation mode, without gradients, and no part of the model that is trained."""
    teacher = nn.Sequential(nn.Linear(3, CLASSES), nn.BatchNorm1d(CLASSES), nn.Dropout(0.5)).train()
    student = nn.Linear(3, CLASSES)
    with_gradients = []
    teacher.register_forward_hook(lambda *_: with_gradients.append(torch.is_grad_enabled()))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    loss = hinton_loss(teacher)
    student.train()
    inputs, labels = torch.randn(BATCH, 3), torch.randint(CLASSES, (BATCH,))
    first, _ = loss(student, inputs, labels)
    first.backward()
    assert with_gradients == [False]
    assert not teacher.training and student.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert torch.equal(first, loss(student, inputs, labels)[0])  # the teacher draws no dropout mask
    assert set(student.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("values, message", [({"temperature": 0.0}, "above 0"), ({"alpha": 1.5}, r"\[0, 1\]")])
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        hinton_loss(nn.Linear(1, 1), **values)


def test_distilling_brings_the_student_to_the_teacher():
    teacher, student = nn.Linear(8, CLASSES), nn.Linear(8, CLASSES)
    loss, optimizer = hinton_loss(teacher, alpha=1.0), torch.optim.Adam(student.parameters(), 0.05)
    inputs, labels = torch.randn(64, 8), torch.zeros(64, dtype=torch.int64)
    agreement = []
    for _ in range(60):
        value, logged = loss(student, inputs, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        agreement.append(logged["agreement"].item())
    assert agreement[0] < 0.6 and agreement[-1] > 0.95
