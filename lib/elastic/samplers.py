"""Which sub-networks a training step passes its batch through: the rules of six papers and one project.

A sampler is a frozen dataclass with ``passes(space, progress)``: the step's :class:`Pass` list, where
``progress`` in [0, 1) says how much of the training is over.  Draws come from torch's global CPU generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from lib.elastic.config import AXES, LAYER_AXES, Size, Space
from lib.elastic.subnet import Policy, Subnet, choose
from lib.system.checks import one_of, require


@dataclass(frozen=True)
class Pass:
    """One sub-network's share of a step: the weights of what it learns from the labels and from the first pass."""

    subnet: Subnet
    size: Size
    label: float = 1.0
    teacher: float = 0.0


@dataclass(frozen=True)
class ERNIE:
    """One sub-network per step; each axis is whole with its own probability (ERNIE 5.0, arXiv 2602.04705).

    ``depth``, ``width`` and ``sparsity`` are the probabilities of all layers, all experts and the full k;
    otherwise one of the smaller choices.  Experts that take part are a random subset.  Heads and hidden units,
    which ERNIE does not vary, are drawn like experts where the space has choices.
    """

    depth: float = 0.75
    width: float = 0.80
    sparsity: float = 0.80
    policy: Policy = field(default_factory=lambda: Policy(experts="random"))

    def __post_init__(self) -> None:
        for name in ("depth", "width", "sparsity"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} is {value}: it is a probability, choose it in [0, 1]")

    def passes(self, space: Space, progress: float) -> list[Pass]:
        whole = {"depth": self.depth, "k": self.sparsity}
        drawn = {
            axis: values[-1] if len(values) == 1 or chance(whole.get(axis, self.width)) else pick(values[:-1])
            for axis in AXES
            if (values := getattr(space, axis))
        }
        return [taken(Size(**valid(drawn)), space, self.policy)]


@dataclass(frozen=True)
class Uniform:
    """``networks`` sub-networks per step, every choice of every axis equally likely."""

    policy: Policy = field(default_factory=Policy)
    networks: int = 1

    def passes(self, space: Space, progress: float) -> list[Pass]:
        return [taken(random_size(space), space, self.policy) for _ in range(self.networks)]


@dataclass(frozen=True)
class Sandwich:
    """Largest, smallest and ``random`` others in every step (US-Nets, arXiv 1903.05134, alg. 1: two others).

    With ``distil`` the largest alone sees the labels, and its prediction is what the others learn; before the share ``after``
    of the training all learn from labels, since what a nearly random network predicts teaches nothing (ours).
    """

    random: int = 2
    distil: bool = True
    policy: Policy = field(default_factory=Policy)
    after: float = 0.0

    def __post_init__(self) -> None:
        require(self.random >= 0, f"random is {self.random}: it is a number of sub-networks, at least 0")
        require(0 <= self.after < 1, f"after is {self.after}: it must be a share of the training, from 0 and below 1")

    def passes(self, space: Space, progress: float) -> list[Pass]:
        sizes = [space.largest, space.smallest, *(random_size(space) for _ in range(self.random))]
        soft = (0.0, 1.0) if self.distil and progress >= self.after else (1.0, 0.0)
        return [taken(size, space, self.policy, *(soft if place else ())) for place, size in enumerate(sizes)]


@dataclass(frozen=True)
class Weighted:
    """The student project's step: largest, smallest and a random one, with their losses weighted, all by labels.

    ``phases``: its schedule of three equal parts, in which the space is the largest network only, then the upper
    half of each axis, then everything.  In the first part its three networks are one and the same, computed
    three times; ``merge`` computes equal ones once, with the sum of their weights.
    """

    weights: tuple[float, float, float] = (0.5, 0.2, 0.3)
    phases: bool = False
    merge: bool = True
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        require(
            len(self.weights) == 3 and min(self.weights) >= 0 and self.weights[0] > 0,
            f"the weights are {self.weights}: give three, none below 0, and the first, the largest network's, above 0",
        )

    def passes(self, space: Space, progress: float) -> list[Pass]:
        if self.phases:
            space = (Space.only(space.largest), space.upper_half(), space)[min(2, int(3 * progress))]
        sizes = [space.largest, space.smallest, random_size(space)]
        found = [taken(size, space, self.policy, weight) for size, weight in zip(sizes, self.weights)]
        return merged(found) if self.merge else found


@dataclass(frozen=True)
class LayerwiseK:
    """The whole network with k drawn for each layer on its own (Matryoshka MoE, arXiv 2509.26520)."""

    policy: Policy = field(default_factory=Policy)

    def passes(self, space: Space, progress: float) -> list[Pass]:
        require(space.moe, "LayerwiseK varies experts per token: give the space experts and k")
        k = tuple(pick(space.k) for _ in range(space.largest.depth))
        return [taken(replace(space.largest, k=k), space, self.policy)]


@dataclass(frozen=True)
class Progressive:
    """Progressive shrinking (Once-for-All, arXiv 1908.09791): axes open one after another, sizes differ by layer.

    ``whole`` is the share of the training for the whole network alone; the rest is shared equally by the axes in
    ``order``.  An axis opens with the upper half of its choices and has all of them after half of its part.
    Each sub-network learns from labels and, as much, from the whole network's prediction.  There the teacher is
    a finished copy of the whole network; here it is the whole network as it stands (in-place), which is trained on.
    """

    whole: float = 0.4
    order: tuple[str, ...] = ("depth", "hidden", "experts", "k", "heads")
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        for axis in self.order:
            one_of("an axis in order", axis, AXES)

    def passes(self, space: Space, progress: float) -> list[Pass]:
        largest = taken(space.largest, space, self.policy)
        if progress < self.whole:
            return [largest]
        axes = [axis for axis in self.order if axis in space.elastic_axes]
        place = (progress - self.whole) / (1 - self.whole) * len(axes)
        opened = {}
        for axis in AXES:
            values = getattr(space, axis)
            since = place - axes.index(axis) if axis in axes else 0.0
            if since >= 0.5 or len(values) <= 1:
                opened[axis] = values
            else:
                opened[axis] = values[len(values) // 2 :] if since > 0 else values[-1:]
        return [largest, taken(random_size(Space(**opened), layerwise=True), space, self.policy, 1.0, 1.0)]


@dataclass(frozen=True)
class Nested:
    """One hidden width for all layers, each equally likely (MatFormer, arXiv 2310.07707, eq. 2); nothing else varies."""

    policy: Policy = field(default_factory=Policy)

    def passes(self, space: Space, progress: float) -> list[Pass]:
        return [taken(replace(space.largest, hidden=pick(space.hidden)), space, self.policy)]


@dataclass(frozen=True)
class CoActivation:
    """The whole network, each token's k experts drawn from its best ``times`` · k (Elastic MoE, arXiv 2509.21892).

    Experts so learn to work beside others than the usual ones, at the cost of k.
    """

    times: int = 2

    def passes(self, space: Space, progress: float) -> list[Pass]:
        require(space.moe, "CoActivation varies experts per token: give the space experts and k")
        one = taken(space.largest, space, Policy())
        layers = tuple(replace(units, pool=min(self.times * units.k, len(units.experts))) for units in one.subnet.layers)
        return [replace(one, subnet=Subnet(layers))]


Sampler = ERNIE | Uniform | Sandwich | Weighted | LayerwiseK | Progressive | Nested | CoActivation


def taken(size: Size, space: Space, policy: Policy, label: float = 1.0, teacher: float = 0.0) -> Pass:
    return Pass(choose(size, space.largest, policy), size, label, teacher)


def random_size(space: Space, layerwise: bool = False) -> Size:
    """A size with every choice of every axis equally likely; ``layerwise``: for each layer on its own."""
    depth = pick(space.depth)
    if not layerwise:
        return Size(depth, **random_layer(space))
    layers = [random_layer(space) for _ in range(depth)]
    return Size(depth, **{axis: tuple(layer[axis] for layer in layers) for axis in layers[0]})


def random_layer(space: Space) -> dict:
    return valid({axis: pick(values) for axis in LAYER_AXES if (values := getattr(space, axis))})


def valid(drawn: dict) -> dict:
    """No layer can use more experts than it has."""
    return drawn | {"k": min(drawn["k"], drawn["experts"])} if "k" in drawn else drawn


def merged(passes: list[Pass]) -> list[Pass]:
    """Equal passes once, with their weights added."""
    found: dict[Subnet, Pass] = {}
    for one in passes:
        earlier = found.get(one.subnet)
        if earlier:
            one = replace(one, label=one.label + earlier.label, teacher=one.teacher + earlier.teacher)
        found[one.subnet] = one
    return list(found.values())


def pick(values: Sequence):
    require(len(values) > 0, "there is nothing to choose from")
    return values[int(torch.randint(len(values), ()))]


def chance(probability: float) -> bool:
    return bool(torch.rand(()) < probability)
