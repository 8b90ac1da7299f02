"""The online softmax: a softmax-weighted sum, one block of scores at a time (Milakov and Gimelshein, arXiv 1805.02867).

Of the scores seen so far three things are kept: their maximum m, the normaliser l = Σ e^(s-m), and the weighted
sum a = Σ e^(s-m) v.  When a block brings a larger maximum, l and a are multiplied by e^(m_old - m_new): what was
measured against the old maximum is then measured against the new one.  At the end a / l is the exact result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Running:
    """What is known of rows of scores: m and l [..., r, 1], a [..., r, d]."""

    m: Tensor
    l: Tensor  # noqa: E741 - the paper's letter
    a: Tensor

    @classmethod
    def start(cls, q: Tensor) -> Running:
        """Before any score of these queries [..., r, d]: nothing was seen, so the maximum is -∞ and the sums are 0."""
        column = q[..., :1]
        return cls(torch.full_like(column, -torch.inf), torch.zeros_like(column), torch.zeros_like(q))

    def update(self, s: Tensor, v: Tensor) -> Running:
        """With one more block of scores s [..., r, c] of values v [..., c, d]  (Algorithm 1, lines 10 to 13)."""
        m = torch.maximum(self.m, s.amax(-1, keepdim=True))
        base = m.masked_fill(m == -torch.inf, 0.0)  # where still nothing was seen: -∞ - -∞ is not a number
        p = torch.exp(s - base)
        rescale = torch.exp(self.m - base)
        return Running(m, rescale * self.l + p.sum(-1, keepdim=True), rescale * self.a + p @ v)

    @property
    def output(self) -> Tensor:
        """a / l; zeros for rows that saw nothing."""
        return self.a / self.l.masked_fill(self.l == 0, 1.0)

    @property
    def log_sum(self) -> Tensor:
        """log Σ e^s = m + log l, from which any probability can be had again: p = e^(s - log_sum).  +∞ for rows that saw nothing."""
        return (self.m + self.l.log()).masked_fill(self.l == 0, torch.inf)


def online_softmax(s: Tensor, v: Tensor, size: int) -> Iterator[Running]:
    """What is known after each block of ``size`` scores s [r, L] of values v [L, d]."""
    running = Running.start(s.new_zeros(len(s), v.shape[-1]))
    for start in range(0, s.shape[-1], size):
        running = running.update(s[:, start : start + size], v[start : start + size])
        yield running
