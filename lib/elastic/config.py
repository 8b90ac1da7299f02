"""The axes along which a network is elastic, and the size of a sub-network.

A :class:`Size` says how many of everything, a :class:`Space` which numbers are on offer.  *Which* layers,
experts, heads and hidden units these are is decided in :mod:`lib.elastic.subnet`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lib.system.checks import did_you_mean, require

#: The axes of a layer; depth is the fifth axis.
LAYER_AXES = ("heads", "hidden", "experts", "k")
AXES = ("depth", *LAYER_AXES)


@dataclass(frozen=True)
class LayerSize:
    """How many of everything one layer uses; ``experts`` and ``k`` are None where the FFN is dense."""

    heads: int
    hidden: int
    experts: int | None = None
    k: int | None = None


@dataclass(frozen=True)
class Size:
    """The size of a sub-network: a number for all its layers, or a tuple with one for each *active* layer.

    ``depth``    layers that are computed
    ``heads``    attention heads
    ``hidden``   width of the FFN, or of each expert
    ``experts``  experts that tokens may be sent to; None: dense FFNs
    ``k``        experts of each token

    Raises ValueError, saying what to do, for numbers that do not go together.
    """

    depth: int
    heads: int | tuple[int, ...]
    hidden: int | tuple[int, ...]
    experts: int | tuple[int, ...] | None = None
    k: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require(self.depth >= 1, f"depth is {self.depth}: a sub-network needs at least one layer")
        require((self.experts is None) == (self.k is None), "give both experts and k, or neither for dense FFNs")
        for axis in LAYER_AXES:
            value = getattr(self, axis)
            require(
                not isinstance(value, tuple) or len(value) == self.depth,
                f"{axis} has {len(value) if isinstance(value, tuple) else 0} entries for {self.depth} layers: "
                "give one number, or one per active layer",
            )
        for place, layer in enumerate(self.layers):
            require(
                layer.heads >= 1 and layer.hidden >= 1,
                f"layer {place} has {layer.heads} heads and {layer.hidden} hidden units: at least one of each is needed",
            )
            require(
                layer.experts is None or 1 <= layer.k <= layer.experts,
                f"layer {place} asks for k={layer.k} of {layer.experts} experts: choose k between 1 and their number",
            )

    @property
    def layers(self) -> tuple[LayerSize, ...]:
        """The size of each active layer, first to last."""
        columns = (
            [value[i] if isinstance(value, tuple) else value for i in range(self.depth)]
            for value in (getattr(self, axis) for axis in LAYER_AXES)
        )
        return tuple(LayerSize(*row) for row in zip(*columns))

    @property
    def label(self) -> str:
        """In words, such as ``4 layers, 6 heads, 8 experts of 96, k=2``; a range where layers differ."""

        def told(value) -> str:
            low, high = (min(value), max(value)) if isinstance(value, tuple) else (value, value)
            return str(low) if low == high else f"{low}–{high}"

        ffn = (
            f"hidden {told(self.hidden)}"
            if self.experts is None
            else (f"{told(self.experts)} experts of {told(self.hidden)}, k={told(self.k)}")
        )
        return f"{self.depth} layer{'s' * (self.depth > 1)}, {told(self.heads)} head{'s' * (self.heads != 1)}, {ffn}"


@dataclass(frozen=True)
class Space:
    """The numbers on offer on each axis, ascending; the largest together are the whole network.

    An axis with one number is rigid.  ``experts`` and ``k`` are empty for dense FFNs.
    """

    depth: tuple[int, ...]
    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    experts: tuple[int, ...] = ()
    k: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.experts) == bool(self.k), "give choices for both experts and k, or for neither (dense FFNs)")
        for axis in AXES:
            values = getattr(self, axis)
            require(values or axis in ("experts", "k"), f"{axis} needs at least one choice")
            require(list(values) == sorted(set(values)), f"{axis} is {values}: give each choice once, ascending")

    @classmethod
    def only(cls, size: Size) -> Space:
        """The rigid space of one network, whose layers are all alike."""
        return cls(*(() if (value := getattr(size, axis)) is None else (value,) for axis in AXES))

    @property
    def moe(self) -> bool:
        return bool(self.experts)

    @property
    def elastic_axes(self) -> tuple[str, ...]:
        return tuple(axis for axis in AXES if len(getattr(self, axis)) > 1)

    @property
    def largest(self) -> Size:
        return self.corner(-1)

    @property
    def smallest(self) -> Size:
        return self.corner(0)

    def corner(self, which: int) -> Size:
        return Size(*(values[which] if (values := getattr(self, axis)) else None for axis in AXES))

    def upper_half(self) -> Space:
        """Without the lower half of each axis's choices; an odd one out stays."""
        return Space(*(values[len(values) // 2 :] for values in (getattr(self, axis) for axis in AXES)))

    def sizes(self) -> Iterator[Size]:
        """All sizes whose layers are alike."""
        for values in itertools.product(*(getattr(self, axis) or (None,) for axis in AXES)):
            size = dict(zip(AXES, values))
            if size["k"] is None or size["k"] <= size["experts"]:
                yield Size(**size)

    def fitted(self, **wanted: float) -> Size:
        """The size whose axes come nearest to the wanted fractions of the largest; axes not named stay full.

        Raises ValueError for a name that is no axis.
        """
        chosen = {}
        for axis, fraction in wanted.items():
            require(axis in AXES, f"no axis {axis!r}; there are {', '.join(AXES)}.{did_you_mean(axis, AXES)}")
            values = getattr(self, axis)
            if values:
                chosen[axis] = min(values, key=lambda value: (abs(value - fraction * values[-1]), value))
        return replace(self.largest, **chosen)

    def __contains__(self, size: Size) -> bool:
        if size.depth not in self.depth or (size.experts is None) == self.moe:
            return False
        return all(
            getattr(layer, axis) in getattr(self, axis) for layer in size.layers for axis in LAYER_AXES if getattr(layer, axis) is not None
        )


#: The student project's three models as fractions of the largest network (depth 6, 16 experts, top 2): 4, 12 and 2,
#: then 3, 8 and 1.
PRESETS = {
    "large": {},
    "medium": {"depth": 4 / 6, "experts": 12 / 16},
    "small": {"depth": 3 / 6, "experts": 8 / 16, "k": 1 / 2},
}


def presets(space: Space) -> dict[str, Size]:
    """The named sizes of :data:`PRESETS` in this space."""
    return {name: space.fitted(**fractions) for name, fractions in PRESETS.items()}
