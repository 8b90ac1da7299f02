"""Private inference: what is run, and at which size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.data.augment import Augmentation
from lib.data.images import check_name
from lib.models.resnet import ResNetConfig, resnet18
from lib.runs.spec import Spec
from lib.studies.anchors.recipes import SHIFTED
from lib.studies.base.images import LIGHT, SHAPES, other_shape
from lib.studies.base.parameters import ChapterParameters, given, numbers
from lib.studies.base.seeds import with_seed
from lib.studies.privacy.shares import PolynomialRun, SharedRun
from lib.studies.privacy.train import BaselineRun, ReplacedRun
from lib.system.checks import require
from lib.training.loop import Recipe

#: ReLUs of ResNet-18 on 32×32 images, of which the papers' budgets are parts.
RESNET18_RELUS = 557_056

#: Half, and the papers' budgets of 100, 25, 12.9 and 6 thousand ReLUs as shares of those, per cent.
PAPER_BUDGETS = "50, 18, 4.5, 2.3, 1.1"

#: The authors' threshold in steps of their scores' learning rate, none, and a wider one.
USUAL, NONE, WIDE = 3.0, 0.0, 10.0


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    dataset: str | None = None  # digits | mnist | cifar10 | cifar100
    epochs: int | None = None  # of replacing ReLUs
    budgets: str = PAPER_BUDGETS  # shares of the ReLUs that stay, per cent, the largest first
    penalty: float | None = None  # weight of the ReLU count in the loss

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is not None:
            check_name(self.dataset)
        require(self.epochs is None or self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")
        require(self.penalty is None or self.penalty >= 0, f"penalty must not be negative, not {self.penalty}")
        shares = self.shares
        require(
            len(shares) >= 2 and sorted(shares, reverse=True) == list(shares) and 0 <= shares[-1] and shares[0] <= 1,
            f"budgets is {self.budgets!r}: give two or more numbers of per cent, separated by commas, the largest first",
        )

    @property
    def shares(self) -> tuple[float, ...]:
        return tuple(round(number / 100, 6) for number in numbers("budgets", self.budgets))


@dataclass(frozen=True)
class Scale:
    """What a scale chooses.

    ``first``    how the network is trained, with all its ReLUs
    ``second``   how it is trained while they are replaced; AdamW at the authors' rate of their Adam, or what a short
                 training takes, without weight decay
    ``travel``   see :class:`ReplacedRun`
    ``private``  images that pass through the network on shares
    ``bits``     after the point, the usual number first
    ``side``     seeds of the arms that decide no claim; None: as many as ``seeds``
    """

    dataset: str
    model: ResNetConfig
    first: Recipe
    second: Recipe
    penalty: float
    travel: float
    private: int
    seeds: int
    train_examples: int | None = None
    augmentation: Augmentation = Augmentation()
    budgets: int | None = None
    side: int | None = None
    bits: tuple[int, ...] = (14, 8, 10, 12, 16, 18, 20, 22, 24, 26)


def short(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=0.0, clip=5.0, **changes)


#: In bfloat16 where the processor has units for it.
AUTOMATIC = {"precision": "auto", "channels_last": True}

SIZES = {
    "smoke": Scale(
        "digits",
        ResNetConfig((4, 8), (1, 1), channels=1),
        first=Recipe(epochs=2, batch_size=64, lr=1e-2),
        second=short(2, 64, 3e-3),
        penalty=100.0,
        travel=4.0,
        private=2,
        seeds=1,
        train_examples=256,
        budgets=2,
        bits=(14, 8, 22),
    ),
    "laptop": Scale(
        "digits",
        ResNetConfig((8, 16), (1, 1), channels=1),
        first=Recipe(epochs=6, batch_size=64, lr=1e-2),
        second=short(5, 64, 3e-3),
        penalty=10.0,
        travel=3.0,
        private=16,
        seeds=1,
    ),
    "cpu": Scale(
        "cifar10",
        ResNetConfig((32, 64, 128), (1, 1, 1), stride=2),
        # On validation images Muon reaches 82.7 % in 4 epochs, SGD with momentum 76.5 %; this length 87.6 %.
        first=Recipe(epochs=12, batch_size=250, optimizer="muon", lr=0.02, weight_decay=0.1, schedule="linear", clip=None, **AUTOMATIC),
        second=short(3, 128, 2e-3, **AUTOMATIC),
        penalty=100.0,
        travel=4.0,
        private=16,
        seeds=3,
        augmentation=SHIFTED,
        # Three minutes a run: first what claims are about.
        budgets=2,
        side=0,
    ),
    "gpu": Scale(
        "cifar10",
        resnet18(),
        first=Recipe(epochs=30, batch_size=256, lr=2e-3, precision="bf16", channels_last=True),
        second=short(9, 256, 1e-3, precision="bf16", channels_last=True),
        penalty=100.0,
        travel=4.0,
        private=1,
        seeds=3,
        augmentation=LIGHT,
        budgets=2,
        bits=(14, 12, 16),
    ),
}


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    size = sized(parameters)
    shares = parameters.shares if size.budgets is None else parameters.shares[-size.budgets :]
    scarce = shares[-2:]  # the papers' 12.9 and 6 thousand
    small = scarce[0]
    seeds = range(size.seeds)
    side = range(size.seeds if size.side is None else min(size.side, size.seeds))
    base = BaselineRun(
        dataset=size.dataset, train_examples=size.train_examples, model=size.model, recipe=size.first, augmentation=size.augmentation
    )
    dapa = ReplacedRun(parent=base, budget=small, recipe=size.second, penalty=size.penalty, travel=size.travel)
    identity = replace(dapa, kind="identity")

    def seeded(*specs: Spec, seeds: Iterable[int] = seeds) -> list[Spec]:
        return [with_seed(spec, seed) for spec in specs for seed in seeds]

    return {
        "baseline": seeded(base),
        "budgets": seeded(*(replace(spec, budget=share) for spec in (identity, dapa) for share in shares)),
        "polynomials": [
            *seeded(*(replace(dapa, budget=share, kind="linear") for share in scarce)),
            *seeded(replace(dapa, trained=False), replace(dapa, kind="released"), seeds=side),
        ],
        # Without any ReLU left: what the polynomials alone can do, and a network of lines is one linear map.
        "none": seeded(*(replace(dapa, budget=0.0, kind=kind) for kind in ("quadratic", "linear", "identity"))),
        "masks": [
            *seeded(replace(dapa, masks="random"), replace(identity, masks="random")),
            *seeded(replace(dapa, masks="shuffled"), seeds=side),
        ],
        "hysteresis": [*seeded(replace(dapa, hysteresis=NONE)), *seeded(replace(dapa, hysteresis=WIDE), seeds=side)],
        "fit": seeded(PolynomialRun(parent=base), seeds=seeds[:1]),
        "shares": seeded(
            SharedRun(parent=dapa, images=size.private, bits=size.bits),
            # The most ReLUs of all budgets, and none, where these networks are trained.
            *(
                SharedRun(parent=replace(dapa, budget=share), images=size.private, bits=size.bits[:1])
                for share in (shares[0], *([0.0] if side else []))
                if share != small
            ),
            seeds=seeds[:1],
        ),
    }


def sized(parameters: Parameters) -> Scale:
    """The scale's sizes with the reader's knobs applied."""
    size = SIZES[parameters.scale]
    if parameters.dataset not in (None, size.dataset):
        _, channels = SHAPES[parameters.dataset]
        classes = 100 if parameters.dataset == "cifar100" else 10
        size = replace(
            size,
            dataset=parameters.dataset,
            model=replace(size.model, channels=channels, classes=classes),
            **other_shape(parameters.dataset, size.dataset),
        )
    second = replace(size.second, **given(epochs=parameters.epochs))
    return replace(size, second=second, **given(seeds=parameters.seeds, penalty=parameters.penalty))
