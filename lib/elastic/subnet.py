"""Which units a sub-network keeps: a size and a policy become a list of layers, heads, units and experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lib.elastic.config import Size
from lib.system.checks import one_of, require

#: Units that are kept: a ``range`` where they are the first ones, which can be sliced without a copy.
Units = range | tuple[int, ...]

EXPERTS = ("prefix", "random", "importance")
DEPTHS = ("prefix", "strided", "random", "importance")


@dataclass(frozen=True)
class LayerUnits:
    """What one layer of the network keeps; ``layer`` is its place in the whole network.

    ``pool``: in training, a token's k experts are drawn from its best ``pool`` ones (see
    :class:`lib.elastic.samplers.CoActivation`); None: they are its best k.
    """

    layer: int
    heads: Units
    hidden: Units
    experts: Units | None = None
    k: int | None = None
    pool: int | None = None


@dataclass(frozen=True)
class Subnet:
    """A sub-network: its layers in order, each with the units that it keeps."""

    layers: tuple[LayerUnits, ...]


@dataclass(frozen=True)
class Ranking:
    """What is worth keeping, the best first: experts of each layer, and layers (see :mod:`lib.elastic.importance`)."""

    experts: tuple[tuple[int, ...], ...] = ()
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Policy:
    """Who stays when there is room for fewer.

    ``experts``  "prefix": the first ones, so that sub-networks are nested; "random": drawn anew each time
                 (ERNIE 5.0); "importance": the best of a :class:`Ranking`
    ``depth``    "prefix": the first layers; "strided": evenly spread; "random"; "importance"

    Heads and hidden units are always the first ones: :mod:`lib.elastic.reorder` puts the important ones there.
    """

    experts: str = "prefix"
    depth: str = "prefix"

    def __post_init__(self) -> None:
        one_of("experts", self.experts, EXPERTS)
        one_of("depth", self.depth, DEPTHS)


def choose(size: Size, whole: Size, policy: Policy = Policy(), ranking: Ranking | None = None) -> Subnet:
    """The sub-network of ``size`` within a network of size ``whole``.

    Random choices come from torch's global CPU generator, which :func:`lib.training.loop.fit` seeds for every epoch.
    Raises ValueError when there is less than asked for, or when a policy needs a ranking that is not given.
    """
    require(size.depth <= whole.depth, f"depth {size.depth} is asked of a network of {whole.depth} layers")
    layers = []
    for index, wanted in zip(chosen_layers(size.depth, whole.depth, policy.depth, ranking), size.layers):
        full = whole.layers[index]
        for axis in ("heads", "hidden", "experts"):
            have, want = getattr(full, axis), getattr(wanted, axis)
            require(
                (have is None) == (want is None) and (want is None or want <= have),
                f"layer {index} has {have} {axis}, and {want} are asked for",
            )
        experts = None
        if wanted.experts is not None:
            experts = chosen_experts(index, wanted.experts, full.experts, policy.experts, ranking)
        layers.append(LayerUnits(index, range(wanted.heads), range(wanted.hidden), experts, wanted.k))
    return Subnet(tuple(layers))


def chosen_layers(depth: int, of: int, policy: str, ranking: Ranking | None = None) -> Sequence[int]:
    """Places of the layers that stay, ascending."""
    if policy == "strided":
        # The first and the last layer stay, the others are as evenly spread as whole numbers allow.
        return [0] if depth == 1 else [round(i * (of - 1) / (depth - 1)) for i in range(depth)]
    return sorted(first(depth, of, policy, ranking.layers if ranking else (), "layers"))


def chosen_experts(layer: int, number: int, of: int, policy: str, ranking: Ranking | None) -> Units:
    order = ranking.experts[layer] if ranking and ranking.experts else ()
    found = first(number, of, policy, order, "experts")
    return found if isinstance(found, range) else tuple(sorted(found))


def first(number: int, of: int, policy: str, ranked: Sequence[int], what: str) -> Sequence[int]:
    """``number`` of the units 0 … ``of`` - 1 in the order of the policy; all of them in any case where none is left out."""
    if policy == "prefix" or number == of:
        return range(number)
    if policy == "random":
        return torch.randperm(of)[:number].tolist()
    require(len(ranked) == of, f"policy 'importance' needs a ranking of all {of} {what}: see lib.elastic.importance")
    return ranked[:number]


def whole_subnet(whole: Size) -> Subnet:
    """The network itself, as a sub-network."""
    return choose(whole, whole)
