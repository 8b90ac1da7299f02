"""Knowledge distillation from a stronger teacher (DIST; Huang et al. 2022, arXiv 2205.10536).

A student need not have its teacher's probabilities, only their relations: Pearson's correlation of the classes of each
image, and of the images of a batch for each class.
"""

from __future__ import annotations

from torch import Tensor, nn

from lib.distillation.taps import Features


def pearson(a: Tensor, b: Tensor, eps: float = 1e-8) -> Tensor:
    """Correlation of each row of a with the same row of b: [N, M] and [N, M] → [N]."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + eps)


def dist_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0, beta: float = 1.0, gamma: float = 1.0) -> Tensor:
    """T² (β · (1 - mean correlation within rows) + γ · (1 - mean correlation within columns)) of logits [B, classes].

    Equations 8 to 10, on probabilities at the temperature; the factor T² is that of the authors' code and not in the
    paper.  No gradient passes to the teacher.
    """
    student, teacher = (student_logits / temperature).softmax(-1), (teacher_logits.detach() / temperature).softmax(-1)
    rows, columns = 1 - pearson(student, teacher).mean(), 1 - pearson(student.T, teacher.T).mean()
    return temperature**2 * (beta * rows + gamma * columns)


class Dist(nn.Module):
    """:func:`dist_loss` as a term."""

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features, targets: Tensor, index: Tensor | None = None) -> Tensor:
        return dist_loss(student.logits, teacher.logits, self.temperature)
