"""How a network of the benchmarks chapter is trained from new weights: dense, with experts or elastic.

Grown ones have a file of their own, :mod:`lib.studies.benchmarks.grown`.  All spend the same compute and train at
their family's learning rate, as in the elastic chapter: it is tuned for none of them.

FLOPs are those of products, and a training step costs three forward passes.  What an optimiser, a norm or an average of
weights computes is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from lib.elastic.compute import step_cost
from lib.elastic.config import Size, Space
from lib.elastic.extract import extract
from lib.elastic.loss import elastic_loss
from lib.elastic.samplers import Sampler, Uniform
from lib.elastic.supernet import ElasticViT
from lib.models.resnet import ResNetConfig
from lib.models.vit import ViT, ViTConfig
from lib.models.vit_merge import merge_to_dense
from lib.moe.layer import MoEConfig
from lib.moe.losses import moe_classification_loss
from lib.moe.routers.partition import expert_weight_averaging
from lib.pruning.inner import kept_units
from lib.studies.benchmarks.grown import Grown
from lib.studies.benchmarks.task import FAMILIES, TRAINING, Task, build
from lib.studies.benchmarks.work import Method, Trained, Work
from lib.system.checks import one_of, require
from lib.training.losses import classification_loss

__all__ = ["Averaged", "Dense", "Elastic", "Grown", "Method", "Switch"]

#: Sub-networks of an elastic network that are finished networks themselves.
CUTS = ("whole", "middle", "small")


@dataclass(frozen=True)
class Dense(Method):
    """The family's network with ``size`` of its width, and ``inner`` of what only its blocks see of theirs.

    That is the hidden units of a transformer's FFNs, the channels between a residual block's two convolutions.
    """

    families: ClassVar[tuple[str, ...]] = FAMILIES

    size: float = 1.0
    inner: float = 1.0

    def __post_init__(self) -> None:
        for name in ("size", "inner"):
            require(0 < getattr(self, name) <= 1, f"{name} is {getattr(self, name)}: it must be a share in (0, 1]")

    def config(self, task: Task, family: str) -> ViTConfig | ResNetConfig:
        config = task.sized(family, self.size)
        if self.inner == 1:
            return config
        if isinstance(config, ViTConfig):
            return replace(config, hidden=kept_units(config.hidden, self.inner))
        return replace(config, inner=tuple(kept_units(channels, self.inner) for channels in config.inner_by_block))

    def network(self, task: Task, family: str, seed: int) -> nn.Module:
        return build(self.config(task, family), seed)

    def train(self, work: Work) -> Trained:
        model = self.network(work.task, work.family, work.seed).to(work.device)
        forward = work.task.forward_flops(self.config(work.task, work.family))
        return Trained(model, (work.fit(model, TRAINING * forward, lambda _: classification_loss(work.smoothing)),))


@dataclass(frozen=True)
class Switch(Method):
    """Experts in place of FFNs, one for each token (Switch, arXiv 2101.03961): the mixtures chapter's router with its drops.

    An image costs what it costs in the dense network, and the router.  That is counted of training too: each token passes
    its expert once.  Those that are dropped beyond the capacity, and rows that fill up a batched product, are not looked at.
    """

    experts: int = 8
    capacity_factor: float = 1.25
    placement: str = "every-second"

    def config(self, task: Task) -> ViTConfig:
        return replace(
            task.vit, moe=MoEConfig(experts=self.experts, placement=self.placement, policy="arrival", capacity_factor=self.capacity_factor)
        )

    def network(self, task: Task, family: str, seed: int) -> ViT:
        return build(self.config(task), seed)

    def train(self, work: Work) -> Trained:
        config = self.config(work.task)
        model = self.network(work.task, work.family, work.seed).to(work.device)
        # One product per expert computes no row that fills up.
        forward = work.task.forward_flops(replace(config, moe=replace(config.moe, backend="loop")))
        return Trained(model, (work.fit(model, TRAINING * forward, lambda _: moe_classification_loss(work.smoothing)),))


@dataclass(frozen=True)
class Averaged(Method):
    """Experts that are trained on random parts of the tokens, pulled together and merged (EWA, arXiv 2308.06093).

    Each token passes one expert as wide as the dense FFN, so a step costs what the dense network's does; what is left at the
    end is an ordinary dense network.
    """

    experts: int = 8
    beta: float = 0.01

    def network(self, task: Task, family: str, seed: int) -> ViT:
        return build(task.vit, seed)

    def train(self, work: Work) -> Trained:
        config = work.task.vit
        model = build(replace(config, moe=MoEConfig(experts=self.experts, router="partition")), work.seed).to(work.device)
        phase = work.fit(
            model,
            TRAINING * work.task.forward_flops(config),
            lambda _: moe_classification_loss(work.smoothing),
            after_step=expert_weight_averaging(self.beta),
        )
        merged = self.network(work.task, work.family, work.seed).to(work.device)
        merged.load_state_dict(merge_to_dense(model).state_dict())
        return Trained(merged.eval(), (phase,))


@dataclass(frozen=True)
class Elastic(Method):
    """One training run of a network and all its sub-networks (the elastic chapter); three of them are cut out without further training.

    ``depth``, ``heads``, ``hidden``  shares of the whole network's that are on offer, ascending up to 1; equal numbers of
                                      units count once
    ``sampler``                       which sub-networks a step trains; its mean cost is what a step is charged

    "whole" and "small" have all axes at their largest and smallest, "middle" at the middle choice, the lower one of two.
    """

    cuts: ClassVar[tuple[str, ...]] = CUTS

    depth: tuple[float, ...] = (0.5, 0.75, 1.0)
    heads: tuple[float, ...] = (0.5, 0.75, 1.0)
    hidden: tuple[float, ...] = (0.25, 0.5, 1.0)
    sampler: Sampler = Uniform()

    def __post_init__(self) -> None:
        for axis in ("depth", "heads", "hidden"):
            shares = getattr(self, axis)
            require(
                shares and list(shares) == sorted(set(shares)) and shares[0] > 0 and shares[-1] == 1,
                f"{axis} is {shares}: give shares of the whole, each once, ascending up to 1",
            )

    def space(self, config: ViTConfig) -> Space:
        def numbers(shares: tuple[float, ...], of: int) -> tuple[int, ...]:
            return tuple(sorted({kept_units(of, share) for share in shares}))

        return Space(
            depth=numbers(self.depth, config.depth), heads=numbers(self.heads, config.heads), hidden=numbers(self.hidden, config.hidden)
        )

    def size(self, config: ViTConfig, name: str) -> Size:
        """Of one of :data:`CUTS`."""
        one_of("cut", name, self.cuts)
        if name != "middle":
            space = self.space(config)
            return space.largest if name == "whole" else space.smallest
        return Size(
            *(
                kept_units(getattr(config, axis), shares[(len(shares) - 1) // 2])
                for axis, shares in (("depth", self.depth), ("heads", self.heads), ("hidden", self.hidden))
            )
        )

    def network(self, task: Task, family: str, seed: int) -> ElasticViT:
        plain = build(task.vit, seed)
        model = ElasticViT(plain.config)
        model.load_state_dict(plain.state_dict())  # all methods start from the same weights
        return model

    def train(self, work: Work) -> Trained:
        config = work.task.vit
        space = self.space(config)
        model = self.network(work.task, work.family, work.seed).to(work.device)
        forward = work.task.forward_flops(config) * step_cost(self.sampler, space, config)

        def evaluate(_: ElasticViT) -> dict[str, float]:
            return {
                f"val_accuracy{suffix}": work.accuracy(model.use(self.size(config, name)))
                for name, suffix in (("small", "_small"), ("whole", ""))
            }

        def whole(model: ElasticViT, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return classification_loss(work.smoothing)(model.use(space.largest), inputs, targets)

        phase = work.fit(
            model,
            TRAINING * forward,
            lambda paced: elastic_loss(self.sampler, space, paced.progress, work.smoothing),
            evaluate=evaluate,
            costliest=whole,
        )
        return Trained(model.use(space.largest), (phase,))

    def cut(self, model: ElasticViT, name: str | None) -> ViT:
        """One of :data:`CUTS`, None for the whole, as an ordinary network."""
        return extract(model.use(self.size(model.config, name or "whole")))
