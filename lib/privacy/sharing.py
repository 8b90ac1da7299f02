"""Two parties that compute on numbers neither of them knows: additive secret sharing, simulated in one process.

    parties = Parties(seed=0)
    x, y = parties.share(torch.tensor([1.5, -2.0])), parties.share(torch.tensor([4.0, 0.25]))
    parties.recover(parties.multiply(x, y))            # [6.0, -0.5], up to 2^-bits or so
    parties.ledger                                     # what they would have sent

**A simulation, to show that the arithmetic is right and to count messages; no security product.**  Both parties, and the
dealer who hands out correlated random numbers, live in this process, the random numbers are predictable, nothing is sent,
and comparison is not a protocol here at all: it is computed in the clear and charged at a published price.

Sharing and Beaver's triples are as AutoReP describes them (Peng et al. 2023, arXiv 2308.10134, section 2.2; Beaver 1991),
truncation is that of SecureML (Mohassel and Zhang 2017, section 4.1).  The adversary is honest but curious, and holds one party.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.privacy.cost import comparison_bytes, comparison_rounds
from lib.privacy.fixed_point import FRACTION, RING, decode, encode, uniform
from lib.privacy.ledger import Ledger

#: Bytes of a number on its way.
WORD = RING // 8

Bilinear = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Shares:
    """Two int64 tensors whose sum modulo 2⁶⁴ is the secret.  Each of them alone is uniformly random.

    What is linear needs no message: ``+`` and ``-`` of shares, and moving entries about.
    """

    first: Tensor
    second: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.first.shape

    def __add__(self, other: Shares) -> Shares:
        return Shares(self.first + other.first, self.second + other.second)

    def __sub__(self, other: Shares) -> Shares:
        return Shares(self.first - other.first, self.second - other.second)

    def moved(self, move: Callable[[Tensor], Tensor]) -> Shares:
        """``move`` applied by each party to its own share: a reshaping, a selection, a sum of entries."""
        return Shares(move(self.first), move(self.second))


@dataclass(frozen=True, eq=False)
class Held:
    """A shared weight of which the masked difference F = weight - B was opened once, for all queries.

    ``mask`` is the dealer's random B, which neither party knows.
    """

    shares: Shares
    mask: Tensor
    difference: Tensor


class Parties:
    """Both parties, the dealer and the channel between them."""

    def __init__(self, seed: int = 0, bits: int = FRACTION):
        self.bits = bits
        self.ledger = Ledger()
        self.generator = torch.Generator().manual_seed(seed)

    # In and out

    def share(self, x: Tensor) -> Shares:
        """A secret in two shares: r and x - r with r uniform.  One word goes to each party."""
        whole = encode(x, self.bits)
        self.ledger.charge("input", 2 * WORD * whole.numel(), 1)
        return self.split(whole)

    def recover(self, x: Shares) -> Tensor:
        """The secret, as float64, for whoever asked.  One word comes from each party."""
        self.ledger.charge("output", 2 * WORD * x.first.numel(), 1)
        return decode(x.first + x.second, self.bits)

    def split(self, whole: Tensor) -> Shares:
        """Shares of integers, by whoever knows them; nothing is charged."""
        first = uniform(whole.shape, self.generator)
        return Shares(first, whole - first)

    def open(self, x: Shares, operation: str, rounds: int = 1) -> Tensor:
        """What is safe to know becomes known to both: each sends its share."""
        self.ledger.charge(operation, 2 * WORD * x.first.numel(), rounds)
        return x.first + x.second

    def deal(self, *whole: Tensor) -> list[Shares]:
        """The dealer's random numbers, shared with both parties before the query."""
        self.ledger.charge("dealer", sum(2 * WORD * one.numel() for one in whole), phase="offline")
        return [self.split(one) for one in whole]

    # Without a message

    def add(self, x: Shares, public: Tensor) -> Shares:
        """x + public, which one party adds.  public: float, broadcasts to x."""
        return Shares(x.first + encode(public, self.bits), x.second)

    def scale(self, x: Shares, public: Tensor | float) -> Shares:
        """x · public, which each party multiplies and truncates."""
        factor = encode(torch.as_tensor(public), self.bits)
        return self.truncate(x.moved(lambda share: share * factor))

    def truncate(self, x: Shares) -> Shares:
        """Divide by 2^bits after a product: each party shifts its own share (SecureML, section 4.1).

        The result is off by at most one in the last place.  With probability |x| / 2⁶⁴, where |x| is the integer that is
        truncated, the shares' sum has wrapped the wrong way and the result is off by 2^(64 - bits): small values are a must.
        """
        return Shares(x.first >> self.bits, -(-x.second >> self.bits))

    # With messages

    def multiply(self, x: Shares, y: Shares) -> Shares:
        """Elementwise product by a Beaver triple (A, B, Z = A · B)."""
        return self.truncate(self.bilinear(x, y, torch.mul, "multiply"))

    def square(self, x: Shares) -> Shares:
        """x² by a Beaver pair (A, Z = A²): with E = x - A opened, x² = E² + 2 E A + Z.  Half a multiplication's messages."""
        a = uniform(x.shape, self.generator)
        mask, z = self.deal(a, a * a)
        e = self.open(x - mask, "square")
        return self.truncate(Shares(e * e + 2 * e * mask.first + z.first, 2 * e * mask.second + z.second))

    def linear(self, x: Shares, weight: Held) -> Shares:
        """x [B, in] times weight [out, in] transposed, [B, out]."""
        return self.truncate(self.with_held(x, weight, lambda a, b: a @ b.T, "linear"))

    def conv2d(self, x: Shares, weight: Held, stride: int = 1, padding: int = 0) -> Shares:
        """Convolution of x [B, C, H, W] by weight [out, C, h, w]."""
        return self.truncate(self.with_held(x, weight, lambda a, b: F.conv2d(a, b, stride=stride, padding=padding), "convolution"))

    def relu(self, x: Shares) -> Shares:
        """relu(x), in the clear: what a comparison protocol would return, as fresh shares, at its published price."""
        self.ledger.charge("comparison", comparison_bytes(RING) * x.first.numel(), comparison_rounds(RING))
        return self.split((x.first + x.second).clamp(min=0))

    # What the above is made of

    def bilinear(self, x: Shares, y: Shares, product: Bilinear, operation: str) -> Shares:
        """Any product that is linear in both: E = x - A and F = y - B are opened, and

        x · y = E · y + x · F - E · F + Z with Z = A · B.
        """
        a, b = uniform(x.shape, self.generator), uniform(y.shape, self.generator)
        mask_x, mask_y, z = self.deal(a, b, product(a, b))
        e, f = self.open(x - mask_x, operation), self.open(y - mask_y, operation, rounds=0)
        return beaver(x, y, e, f, z, product)

    def hold(self, weight: Tensor) -> Held:
        """Share a weight and open its masked difference, once."""
        with self.ledger.during("setup"):
            whole = encode(weight, self.bits)
            self.ledger.charge("weights", 2 * WORD * whole.numel(), 1)
            shares, b = self.split(whole), uniform(whole.shape, self.generator)
            self.ledger.charge("dealer", 2 * WORD * whole.numel())
            return Held(shares, b, self.open(shares - self.split(b), "weights"))

    def with_held(self, x: Shares, weight: Held, product: Bilinear, operation: str) -> Shares:
        """:meth:`bilinear` with a weight whose F is known already: only E is sent."""
        a = uniform(x.shape, self.generator)
        mask, z = self.deal(a, product(a, weight.mask))
        return beaver(x, weight.shares, self.open(x - mask, operation), weight.difference, z, product)


def beaver(x: Shares, y: Shares, e: Tensor, f: Tensor, z: Shares, product: Bilinear) -> Shares:
    """Each party's own part; E · F is subtracted by one of them."""
    return Shares(
        product(x.first, f) + product(e, y.first) + z.first - product(e, f), product(x.second, f) + product(e, y.second) + z.second
    )
