"""Contrastive representation distillation (Tian et al. 2020, arXiv 1910.10699).

Student and teacher embed each image on a sphere; the two embeddings of one image are to be told apart from those of it and
other images, which come from a memory of the whole training set.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.taps import Features


def nce_loss(scores: Tensor, examples: int) -> Tensor:
    """Noise-contrastive estimation: mean over the batch of -log D(positive) - Σ log(1 - D(negative)).

    scores [B, 1 + K] above 0, the positive first; D(s) = s / (s + K / examples), equations 9 and 19: the odds of a pair
    drawn jointly when there are K independent ones for it, out of ``examples`` images.
    """
    noise = (scores.shape[1] - 1) / examples
    right = (scores[:, 0] / (scores[:, 0] + noise)).log()
    wrong = (noise / (scores[:, 1:] + noise)).log().sum(1)
    return -(right + wrong).mean()


class Memory(nn.Module):
    """The last embedding of every training image, in both networks, and the scores of a batch against it.

    A score is exp(cosine / τ) / Z, with Z set from the first batch such that scores are 1 / examples on average.  After a
    batch, its rows become the mean of old and new, renormalised.  All of it is in buffers, so training resumes where it
    stopped.
    """

    def __init__(self, examples: int, width: int, negatives: int, tau: float = 0.07, momentum: float = 0.5):
        super().__init__()
        self.negatives, self.tau, self.momentum = negatives, tau, momentum
        bound = (3 / width) ** 0.5
        for name in ("student", "teacher"):
            self.register_buffer(name, torch.empty(examples, width).uniform_(-bound, bound))
            self.register_buffer(f"{name}_z", torch.zeros(()))

    def forward(self, student_BD: Tensor, teacher_BD: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B, 1 + K] of the student's embeddings against the teacher's memory, and the other way round."""
        drawn = torch.randint(len(self.student), (len(index), self.negatives), device=index.device)
        rows = torch.cat([index[:, None], drawn], 1)
        scores = (self.score(student_BD, self.teacher, rows, self.student_z), self.score(teacher_BD, self.student, rows, self.teacher_z))
        with torch.no_grad():
            for memory, new in ((self.student, student_BD), (self.teacher, teacher_BD)):
                memory[index] = F.normalize(self.momentum * memory[index] + (1 - self.momentum) * new.to(memory.dtype))
        return scores

    def score(self, own_BD: Tensor, memory_ND: Tensor, rows_BK: Tensor, z: Tensor) -> Tensor:
        # Products with all N rows and a choice among them are far cheaper than a choice of B·K vectors.
        raw = ((own_BD @ memory_ND.clone().T).gather(1, rows_BK) / self.tau).exp()
        with torch.no_grad():
            z.copy_(torch.where(z > 0, z, raw.mean() * len(self.student)))
        return raw / z.clone()  # a copy: the next batch must not change what this one's gradient needs


class Contrastive(nn.Module):
    """Both directions' :func:`nce_loss` of the pooled features' embeddings (equation 18).

    Negatives are drawn from all training images, the positive one among them, where the authors and the comparisons of mdistiller
    take images of other classes only (ours: no labels are needed); at most 16,384, and no more than there are images.  The index of each image in the
    training set is needed.  In one process only: processes would keep unlike memories.
    """

    NEGATIVES = 16_384

    def __init__(self, student_channels: int, teacher_channels: int, examples: int, width: int = 128):
        super().__init__()
        self.student, self.teacher = nn.Linear(student_channels, width), nn.Linear(teacher_channels, width)
        self.memory = Memory(examples, width, min(self.NEGATIVES, examples))

    def forward(self, student: Features, teacher: Features, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """Raises ValueError without ``index``."""
        if index is None:
            raise ValueError("contrastive distillation needs to know which training image is which: pass PairBatches")
        own, other = F.normalize(self.student(student.pooled)), F.normalize(self.teacher(teacher.pooled.detach()))
        first, second = self.memory(own, other, index)
        return nce_loss(first, len(self.memory.student)) + nce_loss(second, len(self.memory.student))
