"""The layer that AutoReP puts in place of a ReLU: a ReLU at some positions, a polynomial at the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.privacy.mask import hysteresis, indicator
from lib.privacy.polynomial import dapa, evaluate, released
from lib.system.checks import one_of

#: What stands where no ReLU does.  "identity" is SNL's choice (Cho et al. 2022, arXiv 2202.02340).
KINDS = ("identity", "linear", "quadratic", "released")

#: The kinds without a square.
LINES = ("identity", "linear")

#: Share of a new batch in the running statistics; PyTorch's usual one for batch norm.
MOMENTUM = 0.1


class MaskedReLU(nn.Module):
    """m · relu(x) + (1 - m) · (c2 x² + c1 x + c0), m per position, c per channel.

    ``score``         [C, H, W], trained; begins uniform in [0, 1], so that every ReLU stays at first
    ``mask``          [C, H, W] of zeros and ones; follows the score by :meth:`update`, until :meth:`freeze`
    ``coefficients``  [3, C, 1, 1]: constant, linear, square; of the kinds that are lines the square is 0 and stays it
    ``mean``, ``std`` running statistics of each channel's input
    ``flips``         how often a position has changed over, of all positions together; ``returns``: to a ReLU again

    As long as the layer *tracks*, it gathers the statistics in training and sets the coefficients by them.
    """

    def __init__(self, shape: tuple[int, int, int], kind: str = "quadratic", threshold: float = 0.0, trained: bool = True):
        super().__init__()
        one_of("kind", kind, KINDS)
        self.kind, self.threshold = kind, threshold
        channels = shape[0]
        self.score = nn.Parameter(torch.rand(shape))
        self.register_buffer("mask", torch.ones(shape))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("flips", torch.zeros((), dtype=torch.int64))
        self.register_buffer("returns", torch.zeros((), dtype=torch.int64))
        self.register_buffer("frozen", torch.tensor(False))
        self.register_buffer("tracks", torch.tensor(kind != "identity"))
        # What is multiplied by 0 gets no gradient: a line that is trained remains one.
        self.register_buffer("free", torch.tensor([1.0, 1.0, 0.0 if kind in LINES else 1.0]).view(3, 1, 1, 1), persistent=False)
        identity = torch.zeros(3, channels, 1, 1)
        identity[1] = 1.0
        self.coefficients = nn.Parameter(identity, requires_grad=trained and kind != "identity")
        self.set_coefficients()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.tracks:
            self.gather(x.detach())
        replaced = evaluate((self.free * self.coefficients).to(x.dtype), x)
        m = self.mask if self.frozen else indicator(self.score, self.mask)
        return replaced + m.to(x.dtype) * (x.relu() - replaced)

    @torch.no_grad()
    def gather(self, x: Tensor) -> None:
        """Bring the running statistics up to date with a batch [B, C, H, W], and the coefficients with them."""
        variance, mean = torch.var_mean(x.float(), (0, 2, 3))
        self.mean.lerp_(mean, MOMENTUM)
        self.std.copy_(self.std.square().lerp_(variance, MOMENTUM).sqrt_())
        self.set_coefficients()

    @torch.no_grad()
    def set_coefficients(self) -> None:
        if self.kind == "identity":
            return
        found = released(self.mean, self.std) if self.kind == "released" else dapa(self.mean, self.std, 1 if self.kind == "linear" else 2)
        self.coefficients.copy_(found[:, :, None, None])

    @torch.no_grad()
    def update(self) -> None:
        """Let the mask follow the score; call it after each optimiser step."""
        if self.frozen:
            return
        following = hysteresis(self.mask, self.score, self.threshold)
        self.flips += (following != self.mask).sum()
        self.returns += (following > self.mask).sum()
        self.mask.copy_(following)

    @torch.no_grad()
    def freeze(self, mask: Tensor) -> None:
        """Keep this mask from now on."""
        self.mask.copy_(mask)
        self.frozen.fill_(True)

    def settle(self) -> None:
        """Track no longer: coefficients stay as they are, or are trained."""
        self.tracks.fill_(False)

    @property
    def count(self) -> int:
        """ReLUs that are left."""
        return int(self.mask.sum())
