"""Sizes as rows of whole numbers, which is what searches change and predictors read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.elastic.config import LAYER_AXES, Size, Space
from lib.system.checks import require


class Encoding:
    """One genome per size of a space whose layers may differ, and the other way round.

    A genome holds positions in the space's choices: of the depth, then of heads, hidden, experts and k of each
    place, first to last; rigid axes have no gene.  Genes beyond the depth repeat the last layer's, so that a
    layer added by a change of the depth alone is like the one before it, and no two genomes mean one size.

    Raises ValueError for a space that leaves nothing to choose.
    """

    def __init__(self, space: Space):
        require(space.elastic_axes, "this space has one choice on every axis: there is nothing to encode or to search")
        self.space, self.places = space, space.depth[-1]
        self.choices = [np.array(getattr(space, axis) or (0,)) for axis in LAYER_AXES]  # 0: no experts
        elastic_PA = np.tile([len(values) > 1 for values in self.choices], (self.places, 1))
        self.genes = np.concatenate([[len(space.depth) > 1], elastic_PA.ravel()])
        last_PA = np.tile([len(values) - 1 for values in self.choices], (self.places, 1))
        self.upper = np.concatenate([[len(space.depth) - 1], last_PA.ravel()])[self.genes]

    def repair(self, genome_NG: np.ndarray) -> np.ndarray:
        """The nearest valid genomes: enough experts for the smallest k, then a k that they allow."""
        depth_N, index_NPA = self.unpack(genome_NG)
        if self.space.moe:
            experts, k = self.choices[2:]
            enough = int(np.searchsorted(experts, k[0]))  # fewer experts than the smallest k cannot be
            index_NPA[..., 2] = np.maximum(index_NPA[..., 2], enough)
            allowed = np.searchsorted(k, experts[index_NPA[..., 2]], side="right") - 1
            index_NPA[..., 3] = np.minimum(index_NPA[..., 3], allowed)
        last_N = np.array(self.space.depth)[depth_N] - 1
        place_NP = np.minimum(np.arange(self.places), last_N[:, None])
        return self.pack(depth_N, np.take_along_axis(index_NPA, place_NP[..., None], axis=1))

    def random(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Genomes [count, G], each gene drawn uniformly, then repaired."""
        return self.repair(generator.integers(0, self.upper + 1, size=(count, len(self.upper))))

    def sizes(self, genome_NG: np.ndarray) -> list[Size]:
        """The sizes that valid genomes mean; an axis that all layers agree on is one number."""
        depth_N, index_NPA = self.unpack(genome_NG)
        found = []
        for depth, index_PA in zip(np.array(self.space.depth)[depth_N].tolist(), index_NPA):
            columns = [values[index_PA[:depth, axis]].tolist() for axis, values in enumerate(self.choices)]
            numbers = [column[0] if len(set(column)) == 1 else tuple(column) for column in columns]
            found.append(Size(depth, *(numbers if self.space.moe else numbers[:2])))
        return found

    def genomes(self, sizes: Sequence[Size]) -> np.ndarray:
        """Genomes [N, G].  Raises ValueError for a size that is not in the space."""
        depth_N = np.empty(len(sizes), dtype=int)
        index_NPA = np.empty((len(sizes), self.places, len(LAYER_AXES)), dtype=int)
        for row, size in enumerate(sizes):
            require(size in self.space, f"{size.label} is not in the space")
            depth_N[row] = self.space.depth.index(size.depth)
            rows = [
                [0 if (value := getattr(layer, axis)) is None else getattr(self.space, axis).index(value) for axis in LAYER_AXES]
                for layer in size.layers
            ]
            index_NPA[row] = rows + rows[-1:] * (self.places - size.depth)
        return self.pack(depth_N, index_NPA)

    def ordinal(self, sizes: Sequence[Size]) -> np.ndarray:
        """Features [N, 1 + P·A] in 0..1: how high up its choices each number is; 0 where a layer is left out."""
        depth_N, index_NPA = self.unpack(self.genomes(sizes))
        height_NPA = (index_NPA + 1) / [len(values) for values in self.choices]
        height_NPA *= self.computed(depth_N)
        return np.concatenate([(depth_N[:, None] + 1) / len(self.space.depth), height_NPA.reshape(len(sizes), -1)], 1)

    def one_hot(self, sizes: Sequence[Size]) -> np.ndarray:
        """Features of 0 and 1, one for each choice of each place, as Once-for-All's predictor has them."""
        depth_N, index_NPA = self.unpack(self.genomes(sizes))
        here_NP1 = self.computed(depth_N)
        parts = [np.eye(len(self.space.depth))[depth_N]]
        parts += [
            (np.eye(len(values))[index_NPA[..., axis]] * here_NP1).reshape(len(sizes), -1) for axis, values in enumerate(self.choices)
        ]
        return np.concatenate(parts, axis=1)

    def computed(self, depth_N: np.ndarray) -> np.ndarray:
        """1 for places within the depth, 0 beyond: [N, P, 1]."""
        return (np.arange(self.places) < np.array(self.space.depth)[depth_N][:, None])[..., None].astype(float)

    def unpack(self, genome_NG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the depth [N] and of every axis of every place [N, P, 4], rigid ones at 0."""
        whole = np.zeros((len(genome_NG), len(self.genes)), dtype=int)
        whole[:, self.genes] = genome_NG
        return whole[:, 0], whole[:, 1:].reshape(len(genome_NG), self.places, len(LAYER_AXES))

    def pack(self, depth_N: np.ndarray, index_NPA: np.ndarray) -> np.ndarray:
        return np.concatenate([depth_N[:, None], index_NPA.reshape(len(depth_N), -1)], axis=1)[:, self.genes]


def random_sizes(space: Space, count: int, seed: int) -> list[Size]:
    """Different sizes, each axis of each layer drawn uniformly; fewer than ``count`` where the space is nearly used up."""
    encoding, generator = Encoding(space), np.random.default_rng(seed)
    found: dict[Size, None] = {}
    for _ in range(20):
        found |= dict.fromkeys(encoding.sizes(encoding.random(count, generator)))
        if len(found) >= count:
            break
    return list(found)[:count]
