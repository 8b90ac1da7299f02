"""The elastic chapter's drawings: sub-networks within one network, and the sub-networks that one step of each sampler trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib.elastic.subnet import Subnet
from lib.figures.diagrams.parts import cell, faint
from lib.figures.drawing import Drawing, text


@dataclass(frozen=True)
class Layer:
    """What one layer uses: heads and experts by number, hidden units of each expert, experts per token."""

    heads: Sequence[int]
    hidden: int
    experts: Sequence[int]
    k: int


#: By place in the network, the layers that are used.
Network = Mapping[int, Layer]


def used(subnet: Subnet) -> Network:
    """Return the layers that a sub-network uses, as they are drawn."""
    return {units.layer: Layer(tuple(units.heads), len(units.hidden), tuple(units.experts), units.k) for units in subnet.layers}


def nested(depth: int, heads: int, hidden: int, experts: int, networks: Mapping[str, Network], shares: Mapping[str, float]) -> Drawing:
    """The same network with what each of at most three sizes uses; under each its share of the parameters."""
    parts, told, high = [], [], 46
    for panel, (name, layers) in enumerate(networks.items()):
        x = 1 + panel * 190
        parts += [text(x + 88, 18, name, "c"), text(x, 44, "heads", "m"), text(x + 62, 44, "experts", "m"), text(x + 176, 44, "k", "m e")]
        for place in range(depth):
            y, layer = 54 + (depth - 1 - place) * high, layers.get(place)
            for head in range(heads):
                spot = (x + head * 18, y + 11, 15, 15)
                parts.append(cell(*spot, kind="run", strength=0.7) if layer and head in layer.heads else cell(*spot, kind="off"))
            for expert in range(experts):
                at, full = x + 62 + expert * 12, high - 8
                used = round(full * layer.hidden / hidden) if layer and expert in layer.experts else 0
                parts.append(cell(at, y, 9, full, kind="off"))
                if used:
                    parts.append(cell(at, y + full - used, 9, used, kind="run", strength=0.7))
            parts.append(text(x + 176, y + 26, layer.k if layer else "–", "e" if layer else "e m"))
        parts.append(text(x + 88, 54 + depth * high + 16, f"{shares[name]:.0%}", "c"))
        told.append(
            f"{name}, {shares[name]:.0%} of the parameters: "
            + ", ".join(
                f"layer {place + 1} with {len(layer.heads)} heads, {len(layer.experts)} experts of {layer.hidden} units, k {layer.k}"
                for place, layer in layers.items()
            )
        )
    alt = (
        f"One network of {depth} layers, each with {heads} heads and {experts} experts of {hidden} hidden units, drawn from below to above; what is left out is dashed. "
        + "; ".join(told)
        + "."
    )
    return Drawing("dg-elastic-nested", alt, 560, 54 + depth * high + 26, parts)


def steps(depth: int, hidden: int, experts: int, samplers: Mapping[str, Sequence[tuple[Network, str]]]) -> Drawing:
    """By sampler, the networks of one step and what each learns from; layers are rows, experts columns, darker with more hidden units."""
    parts, told, size = [], [], 12
    high = depth * size + 66
    for row, (name, passes) in enumerate(samplers.items()):
        y = row * high
        parts.append(text(0, y + 28 + depth * size / 2 + 6, name))
        for place, (layers, teacher) in enumerate(passes):
            x = 118 + place * 112
            for at in range(depth):
                for expert in range(experts):
                    spot, layer = (x + expert * size, y + 28 + (depth - 1 - at) * size, size - 2, size - 2), layers.get(at)
                    parts.append(
                        cell(*spot, kind="run", strength=layer.hidden / hidden) if layer and expert in layer.experts else faint(*spot)
                    )
            ks = sorted({layer.k for layer in layers.values()})
            parts += [
                text(x + experts * size / 2, y + 20, f"k {'–'.join(map(str, ks))}", "c m"),
                text(x + experts * size / 2, y + 28 + depth * size + 20, teacher, "c"),
            ]
        told.append(
            f"{name}: "
            + ", ".join(
                f"{len(layers)} layers of {'–'.join(map(str, sorted({len(layer.experts) for layer in layers.values()})))} experts with k "
                f"{'–'.join(map(str, sorted({layer.k for layer in layers.values()})))} (learns from {teacher})"
                for layers, teacher in passes
            )
        )
    alt = (
        f"The networks that one training step passes its batch through, out of {depth} layers and {experts} experts. "
        + "; ".join(told)
        + "."
    )
    return Drawing("dg-elastic-steps", alt, 560, len(samplers) * high - 4, parts)
