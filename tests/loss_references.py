"""What the tests of distillation losses compare with: float64, term by term, in plain Python."""

import math

import torch
from torch import nn


def draw(*shape, scale=2.0):
    return (scale * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def softmax(row, temperature=1.0):
    top = [math.exp(value / temperature) for value in row]
    return [value / sum(top) for value in top]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def check_gradient(loss, student, teacher):
    """The gradient is the loss's own, and the teacher has none."""
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher.detach()), student)
    student.grad = None
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


class Fixed(nn.Module):
    """Answers with its parameter, whatever the input."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self, inputs):
        return self.values
