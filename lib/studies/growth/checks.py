"""What growth promises, checked without training a large model: exactness, noise, the same path, the project's sizes."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.text import TextBatches
from lib.growth.depth import Deepen
from lib.growth.growth import Growth, grow, grow_moments
from lib.growth.moments import install, read
from lib.growth.net2net import Net2Wider
from lib.growth.rates import factors, groups
from lib.growth.upcycle import Upcycle
from lib.growth.verify import verify
from lib.growth.width import Even, Noise, Uneven, Widen
from lib.measure import cost as measure
from lib.models.gpt import GPT, PRESETS, GPTConfig
from lib.models.gpt_cost import forward_flops
from lib.moe.layer import MoEConfig
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.corpora import Corpus, available_text
from lib.studies.growth.gpt import GrowthRun, claims, windows
from lib.system.checks import require

MIXTURE = MoEConfig(experts=4, k=2)
EXPERTS, WIDTH, DEPTH = Upcycle(MIXTURE), Widen(2, Noise(0.0)), Deepen(3, "interleaved")

#: What is applied to each variant of the model: single operators, and the three in every order.
OPERATORS: dict[str, tuple[Growth, ...]] = {
    "experts": (EXPERTS,),
    "experts, two groups": (Upcycle(replace(MIXTURE, split=2)),),
    "width, equal copies": (Widen(2, Even()),),
    "width ×3, noise": (Widen(3, Noise(0.0)),),
    "width, unequal shares": (Widen(2, Uneven(0.5)),),
    "FFN width, Net2Net": (Net2Wider(40),),
    "depth, interleaved": (DEPTH,),
    "depth, on top": (Deepen(3, "top"),),
    **{
        ", ".join(names): tuple(operators)
        for names, operators in (
            zip(*order) for order in itertools.permutations([("experts", EXPERTS), ("width", WIDTH), ("depth", DEPTH)])
        )
    },
    "depth, stacked": (Deepen(4, "stack"),),
    "depth, interposed": (Deepen(4, "interpose"),),
    "depth, last block again": (Deepen(3, "copy-last"),),
    "experts, half re-drawn": (Upcycle(MIXTURE, drop=0.5),),
    "experts, one per token": (Upcycle(MoEConfig(experts=4, k=1)),),
}

SMALL = GPTConfig(vocabulary=61, context=24, width=16, depth=2, heads=4, hidden=24)


def variants(count: int) -> list[GPTConfig]:
    """So many of the 64 combinations of what language models differ in, drawn without choosing."""
    found = list(all_variants())
    return random.Random(0).sample(found, count)


def all_variants() -> Iterator[GPTConfig]:
    for norm, positions, ffn, tied, bias, kv_heads in itertools.product(
        ("rms", "layer"), ("rope", "learned"), ("swiglu", "gelu"), (True, False), (False, True), (None, 2)
    ):
        yield replace(SMALL, norm=norm, positions=positions, ffn=ffn, tied=tied, bias=bias, kv_heads=kv_heads)


@torch.no_grad()
def as_if_trained(config: GPTConfig, seed: int) -> GPT:
    """A network whose gains and biases are no longer 1 and 0, and whose logits spread by a few units."""
    torch.manual_seed(seed)
    model = GPT(config).double().eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            parameter.add_(0.3 * torch.randn_like(parameter))
        elif not name.startswith(("embed", "positions")):
            parameter.mul_(1.5)
    model.norm.weight.mul_(3)
    return model


@dataclass(frozen=True, kw_only=True)
class ExactGrowthRun(Spec):
    """How far each operator moves the logits of each of ``variants`` models, at most.

    In float64 as it is, in fp32 over the logits' standard deviation.
    """

    experiment: ClassVar[str] = "growth-exactness"

    variants: int = 64

    @torch.no_grad()
    def run(self, session: Session) -> Outcome:
        arrays: dict[str, list] = {"operators": list(OPERATORS), "claimed": [], "double": [], "single": []}
        models = [as_if_trained(config, self.seed + number).to(session.device) for number, config in enumerate(variants(self.variants))]
        singles = [copy.deepcopy(model).float() for model in models]
        spreads = [model(self.tokens(model)).std().item() for model in singles]
        for done, (name, operators) in enumerate(OPERATORS.items()):
            arrays["claimed"].append(all(claims(model.config, operators) for model in models))
            arrays["double"].append([self.moved(model, operators) for model in models])
            arrays["single"].append([self.moved(model, operators) / spread for model, spread in zip(singles, spreads)])
            session.report((done + 1) / len(OPERATORS), name)
        exact = [row for row, claimed in enumerate(arrays["claimed"]) if claimed]
        metrics = {
            "variants": len(models),
            "worst_double": max(max(arrays["double"][row]) for row in exact),
            "worst_single": max(max(arrays["single"][row]) for row in exact),
        }
        return Outcome(metrics, arrays=significant(arrays))

    @torch.no_grad()
    def moved(self, model: GPT, operators: tuple[Growth, ...]) -> float:
        """The largest change of a logit."""
        tokens_BN = self.tokens(model)
        return (grow(model, *operators, seed=self.seed)(tokens_BN) - model(tokens_BN)).abs().max().item()

    def tokens(self, model: GPT) -> Tensor:
        config, generator = model.config, torch.Generator().manual_seed(self.seed)
        return torch.randint(config.vocabulary, (2, config.context), generator=generator).to(model.embed.weight.device)


@dataclass(frozen=True, kw_only=True)
class NoiseRun(Spec):
    """How well noise of each size cancels in fp32 when a trained network, ``parent``, is made twice as wide."""

    experiment: ClassVar[str] = "growth-noise"

    parent: GrowthRun
    decibels: tuple[float, ...] = (60.0, 40.0, 20.0, 10.0, 6.0, 3.0, 0.0, -3.0, -6.0, -9.0, -12.0, -20.0)
    alphas: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0, 2.0, 4.0)

    def run(self, session: Session) -> Outcome:
        text = available_text(self.parent.corpus, session.device)
        model, _ = self.parent.load(session)
        probe_BN = windows(text, model.config.context)

        def errors(symmetries: list) -> list[float]:
            return [verify(model, grow(model, Widen(2, symmetry), seed=self.seed), probe_BN).relative for symmetry in symmetries]

        arrays = {
            "decibels": list(self.decibels),
            "noise": errors([Noise(db) for db in self.decibels]),
            "alphas": list(self.alphas),
            "uneven": errors([Uneven(alpha) for alpha in self.alphas]),
        }
        return Outcome({"even": errors([Even()])[0]}, arrays=significant(arrays), data=text.provenance())


@dataclass(frozen=True, kw_only=True)
class CommuteRun(Spec):
    """Train a small network on, and beside it the one that was grown from it, on the same text, in float64.

    Arrays: the small one's loss at each step, and by how much the grown one's differs with its moments and learning rates
    as they should be, with fresh moments, and with one learning rate for all tensors.  Gradients are not clipped.
    """

    experiment: ClassVar[str] = "growth-commuting"

    corpus: Corpus = field(default_factory=Corpus)
    model: GPTConfig = SMALL
    before: int = 20
    after: int = 30
    lr: float = 5e-3

    def run(self, session: Session) -> Outcome:
        text = available_text(self.corpus, session.device)
        config = replace(self.model, vocabulary=text.vocabulary)
        torch.manual_seed(self.seed)
        model = GPT(config).to(session.device).double()
        optimizer = self.optimizer(model, {})
        batches = TextBatches(text.train, config.context, 8, self.before + self.after, seed=self.seed)
        for step in range(self.before):
            one_step(model, optimizer, *batches.batch(0, step))

        growth = Widen(2, Even())
        carried = grow_moments(config, read(model, [optimizer]), growth, seed=self.seed)
        kept = factors(config, growth)
        followers = {}
        for name, moments, rates in (("as it should be", carried, kept), ("fresh moments", None, kept), ("usual rates", carried, {})):
            grown = grow(model, growth, seed=self.seed)
            follower = self.optimizer(grown, rates)
            if moments is not None:
                install(grown, [follower], moments)
            followers[name] = (grown, follower)

        losses: dict[str, list[float]] = {name: [] for name in ("small", *followers)}
        for step in range(self.before, self.before + self.after):
            batch = batches.batch(0, step)
            losses["small"].append(one_step(model, optimizer, *batch))
            for name, (grown, follower) in followers.items():
                losses[name].append(one_step(grown, follower, *batch))
        apart = {name: [abs(a - b) for a, b in zip(losses[name], losses["small"])] for name in followers}
        return Outcome(
            {"largest_difference": max(apart["as it should be"])},
            arrays=significant({"loss": losses["small"], "differences": apart}),
            data=text.provenance(),
        )

    def optimizer(self, model: GPT, rates: dict) -> torch.optim.Optimizer:
        return groups(model, rates, lr=self.lr, weight_decay=0.1, betas=(0.9, 0.95))


def one_step(model: GPT, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> float:
    """One step of training without clipping; returns the loss before it."""
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


#: What turns each of the project's networks into the next.
PROJECT_STEPS: dict[str, Growth] = {
    "experts": Upcycle(MoEConfig(experts=8, k=2)),
    "wide": Widen(2, Noise(0.0)),
    "deep": Deepen(15, "interleaved"),
}


@dataclass(frozen=True, kw_only=True)
class PresetRun(Spec):
    """The student project's four networks at full size, untrained, each grown from the one before it: sizes and exactness.

    They need about 15 GB of memory.
    """

    experiment: ClassVar[str] = "growth-presets"

    tokens: int = 32

    @torch.no_grad()
    def run(self, session: Session) -> Outcome:
        torch.manual_seed(self.seed)
        model = GPT(PRESETS["dense"]).to(session.device).eval()
        tokens_BN = torch.randint(model.config.vocabulary, (1, self.tokens), device=session.device)
        metrics = sizes("dense", model)
        for done, (name, operator) in enumerate(PROJECT_STEPS.items()):
            larger = grow(model, operator, seed=self.seed)
            expected = model(tokens_BN)
            relative = ((larger(tokens_BN) - expected).abs().max() / expected.std()).item()
            require(larger.config == PRESETS[name], f"the grown network is not the preset {name!r}: correct PROJECT_STEPS")
            metrics |= sizes(name, larger) | {f"relative_{name}": relative}
            model = larger
            session.report((done + 1) / len(PROJECT_STEPS), name)
        return Outcome(significant(metrics))


def sizes(name: str, model: GPT) -> dict[str, int]:
    return {
        f"parameters_{name}": measure.parameters(model),
        f"active_parameters_{name}": model.active_parameters(),
        f"flops_{name}": forward_flops(model.config, model.config.context),
    }
