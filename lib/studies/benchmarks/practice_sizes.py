"""The benchmarks chapter's first regime: which methods compress the trained network at each scale, and with which recipes.

Every method that is trained gets the same number of steps; only the rate differs between families, see :data:`RATES`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.studies.anchors.recipes import cnn_recipe, recipes
from lib.studies.anchors.runs import AnchorRun
from lib.studies.base.seeds import with_seed
from lib.studies.benchmarks.compress import (
    Channels,
    Clustered,
    Codes,
    Compression,
    Files,
    LowRank,
    Rounded,
    Sparse,
    SparseCodes,
    Student,
    Tuned,
)
from lib.studies.benchmarks.practice import CompressedRun
from lib.studies.benchmarks.practice_times import CompressedTimes, Timed
from lib.training.loop import Recipe

#: Rates of the families.  Chosen on the validation images of the network with seed 0, after 30 of the 90 steps at ``cpu``: codebooks
#: (2 bits) and pruning (to 1/8) from 0.0007, 0.002 and 0.006, channels and factors (a quarter of the weights) from 0.002, 0.006 and
#: 0.02.  Pruning with codebooks and the control have the rate of pruning, new networks that of the recipe of the first one.
RATES = {Tuned: 0.002, Sparse: 0.002, SparseCodes: 0.002, Codes: 0.0007, Channels: 0.006, LowRank: 0.006, Student: 0.02}


@dataclass(frozen=True)
class Practice:
    """Sizes of a scale.

    ``anchor``   what is compressed;  ``epochs`` of its images: the budget of every run;  ``seeds`` of the anchor
    ``narrow``   widths of networks with about a half and a quarter of its parameters
    ``all``      whether every method is run, or one of each kind
    """

    anchor: AnchorRun
    epochs: int
    seeds: int
    narrow: tuple[tuple[int, ...], tuple[int, ...]]
    all: bool = True
    rounds: int = 15
    singles: int = 16

    def recipe(self, method: Compression) -> Recipe:
        """The anchor's, for the budget, at the family's rate."""
        batch = self.anchor.recipe.batch_size
        return cnn_recipe(self.epochs, batch_size=batch, lr=RATES[type(method)])


def practice(scale: str, seeds: int | None = None) -> Practice:
    """Return the sizes of a scale."""
    small = recipes(scale)["small CNN"]
    if scale == "smoke":
        return Practice(small, 1, seeds or 1, ((6, 12), (4, 8)), all=False, rounds=2, singles=2)
    if scale == "laptop":
        return Practice(small, 2, seeds or 1, ((12, 23), (8, 16)), rounds=9)
    return Practice(small, 1 if scale == "cpu" else 2, seeds or 3, ((24, 88, 88), (16, 64, 64)), rounds=30 if scale == "gpu" else 15)


def practice_studies(size: Practice) -> dict[str, list]:
    """Return the runs, the most decisive first, and the timing of the geometries that differ."""
    runs = [with_seed(run, seed) for part in compressed(size) for seed in range(size.seeds) for run in part]
    dense, (half, quarter) = size.anchor.model, size.narrow
    shapes = [
        dense,
        replace(dense, widths=half),
        replace(dense, widths=quarter),
        *(LowRank(share).geometry(dense) for share in (1 / 2, 1 / 4)),
    ]
    timed = [Timed(shape) for shape in shapes] + [Timed(shape, int8=True) for shape in shapes[:3]]
    return {
        "practice": runs,
        "practice-times": [CompressedTimes(dataset=size.anchor.dataset, networks=tuple(timed), rounds=size.rounds, singles=size.singles)],
    }


def compressed(size: Practice) -> list[list[CompressedRun]]:
    """Return a run of each method, with seed 0: without training, then what decides most, then the rest."""
    half, quarter = size.narrow

    def run(*methods: Compression) -> list[CompressedRun]:
        return [
            CompressedRun(parent=size.anchor, method=method, recipe=size.recipe(method) if method.trained else None) for method in methods
        ]

    def and_int8(runs: list[CompressedRun]) -> list[CompressedRun]:
        return [each for one in runs for each in (one, CompressedRun(parent=one, method=Rounded(8, activations=True)))]

    fine = (16, 4)
    parts = [
        run(Files(32), Rounded(8, activations=True), Clustered(4), Rounded(4, fine), Files(16), Rounded(8)),
        [
            *run(Tuned(), Sparse(1 / 8)),
            *and_int8(run(Channels(quarter))),
            *run(Codes(2), Student(quarter), LowRank(1 / 4)),
            *run(SparseCodes(1 / 4, 4)),
            *and_int8(run(Channels(half))),
            *run(Sparse(1 / 2, "2:4")),
        ],
    ]
    if size.all:
        parts.append(
            run(
                Sparse(1 / 4),
                Sparse(1 / 16),
                Student(quarter, taught=False),
                Student(half),
                LowRank(1 / 2),
                Codes(4),
                Sparse(1 / 2),
                SparseCodes(1 / 8, 4),
                Student(half, taught=False),
                Codes(3),
            )
        )
    return parts
