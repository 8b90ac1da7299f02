"""Whether attention in tiles is the same attention: in fp32 over random cases, and at low precision with large scores."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lib.attention.blocks import Blocks
from lib.attention.engines import sdpa
from lib.attention.masks import Mask
from lib.attention.standard import standard, without_maximum
from lib.attention.tiled import tiled
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session


@dataclass(frozen=True, kw_only=True)
class ExactAttentionRun(Spec):
    """Largest absolute difference to standard attention over ``cases`` random ones, in fp32: outputs, and gradients.

    Sizes up to ``longest`` tokens, drawn without regard to the tile; causal order, padding, blocks and grouped queries each
    in some of the cases.  Beside it, how far standard attention in fp32 is from itself in float64.
    """

    experiment: ClassVar[str] = "attention-exactness"

    cases: int = 100
    longest: int = 200

    def run(self, session: Session) -> Outcome:
        worst: dict[str, float] = {}
        for number in range(self.cases):
            q, k, v, mask, tile, described = draw(number + 10_000 * self.seed, self.longest, session.device)
            reference = both_passes(lambda *x: standard(*x, mask), q, k, v)
            for name, found in {
                "tiled": both_passes(lambda *x: tiled(*x, mask, tile), q, k, v),
                "sdpa": both_passes(lambda *x: sdpa(*x, mask), q, k, v),
                "rounding": both_passes(lambda *x: standard(*x, mask), *(x.double() for x in (q, k, v))),
            }.items():
                differences = [(a - b).abs().max().item() for a, b in zip(found, reference)]
                for what, value in {"output": differences[0], "gradient": max(differences[1:])}.items():
                    worst[f"{name}_{what}"] = max(worst.get(f"{name}_{what}", 0.0), value)
                for what in described:
                    worst[f"{name}_{what}"] = max(worst.get(f"{name}_{what}", 0.0), *differences)
            session.report((number + 1) / self.cases, f"case {number + 1}")
        return Outcome(significant({"cases": self.cases} | worst))


def draw(number: int, longest: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Mask, int, list[str]]:
    """A random case: queries, keys, values, mask, tile, and what is special about it."""
    dice, generator = random.Random(number), torch.Generator().manual_seed(number)
    shared, times, N, d = dice.randint(1, 2), dice.choice([1, 1, 2]), dice.randint(1, longest), dice.choice([8, 16, 32, 64])
    causal, padded, sparse = (dice.random() < 0.5 for _ in range(3))
    L = N + dice.choice([0, 0, dice.randint(1, longest)])
    tile = dice.randint(1, longest)
    keep = torch.rand(2, L, generator=generator) < 0.7 if padded else None
    blocks = Blocks(torch.rand(-(-N // tile), -(-L // tile), generator=generator) < 0.6, tile) if sparse else None
    q, k, v = (
        torch.randn(2, heads, length, d, generator=generator).to(device)
        for heads, length in ((shared * times, N), (shared, L), (shared, L))
    )
    special = {"causal": causal, "padding": padded, "blocks": sparse, "groups": times > 1, "uneven": N % tile or L % tile}
    return (
        q,
        k,
        v,
        Mask(causal, None if keep is None else keep.to(device), blocks),
        tile,
        [name for name, holds in special.items() if holds],
    )


def both_passes(attention, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
    """Output, and gradients of a fixed weighted sum of it."""
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    o = attention(*inputs)
    weight = torch.randn(o.shape, generator=torch.Generator().manual_seed(0)).to(o)
    return [o.detach(), *torch.autograd.grad(o, inputs, weight)]


#: What is compared at low precision.
FORMS = {"standard": standard, "tiled": tiled, "sdpa": sdpa, "no maximum subtracted": without_maximum}

LOW = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class StabilityRun(Spec):
    """Error of each form of attention at each precision as scores grow.

    ``spreads``  standard deviations of the scores q·k / √d, in float64
    The error is relative, in the root mean square, to float64 attention of the same rounded inputs; None where any output is
    not finite.
    """

    experiment: ClassVar[str] = "attention-stability"

    length: int = 512
    head_dim: int = 64
    spreads: tuple[float, ...] = (1.0, 4.0, 16.0, 64.0, 256.0)

    @torch.no_grad()
    def run(self, session: Session) -> Outcome:
        generator = torch.Generator().manual_seed(self.seed)
        q, k, v = (torch.randn(1, 2, self.length, self.head_dim, generator=generator) for _ in range(3))
        rows = []
        for precision, dtype in LOW.items():
            for spread in self.spreads:
                inputs = [x.to(dtype).to(session.device) for x in (q * spread, k, v)]
                exact = standard(*(x.double() for x in inputs))
                for name, attention in FORMS.items():
                    found = attention(*inputs).double()
                    error = ((found - exact).norm() / exact.norm()).item()
                    rows.append([name, precision, spread, error, (~torch.isfinite(found)).double().mean().item()])
        return Outcome({}, arrays={"rows": significant(rows)})
