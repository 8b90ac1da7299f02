"""Compressing a trained language model: what is run, and at which size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.pruning.column_sweep import BLOCK
from lib.runs.spec import Spec
from lib.studies.base.parameters import ChapterParameters
from lib.studies.language.compress import CompressRun
from lib.studies.language.gpt_sizes import GPTS
from lib.studies.language.layers import LayersRun
from lib.studies.language.machine import LayerTimeRun, TorchaoLMRun
from lib.studies.language.methods import PrunedLM, RoundedActivationsLM, RoundedLM, ShortenedLM, Untouched
from lib.studies.language.subjects import OwnLM, PretrainedLM
from lib.system.checks import one_of, require


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    pretrained: bool | None = None  # whether SmolLM2 is compressed too
    windows: int | None = None  # of the test text: more of them make every interval narrower
    group: int | None = None  # neighbours in a row that share a grid
    corpus: str | None = None  # grammar | tinystories: what the book's own GPT reads

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.windows is None or self.windows >= 2, f"windows must be at least 2, not {self.windows}")
        require(self.group is None or (self.group >= 1 and BLOCK % self.group == 0), f"group is {self.group}: choose a divisor of {BLOCK}")
        if self.corpus is not None:
            one_of("corpus", self.corpus, ("grammar", "tinystories"))


@dataclass(frozen=True)
class Scale:
    """What a scale chooses.

    ``own``         the book's GPT, its group of weights that share a grid, and its number of seeds
    ``pretrained``  SmolLM2, or None; with ``draws`` of calibration text
    ``calibrations``  windows of calibration text, of the GPT
    ``removed``     numbers of blocks that are taken out: of the GPT, and of SmolLM2; the claims' is the last but one, or the only one
    """

    own: OwnLM
    own_group: int
    seeds: int
    densities: tuple[float, ...]
    bits: tuple[int, ...]
    removed: tuple[int, ...]
    rounds: int
    pretrained: PretrainedLM | None = None
    draws: int = 3
    removed_pretrained: tuple[int, ...] = ()
    torchao: bool = True
    calibrations: tuple[int, ...] = ()


#: Groups that SmolLM2's weights are rounded in: AWQ's.
GROUP = 128

#: Tokens that a dense or half pruned model adds to its prompt.
TOLD = 24

#: Windows of calibration text for methods that fit weights to it, SparseGPT and GPTQ.  Of the book's own GPT they needed 7 tokens for each
#: feature of the widest layer (study "calibration") before more text changed little, and SmolLM2's widest layer has 1,536.
FITTED = 24


SIZES = {
    "smoke": Scale(
        OwnLM(
            GPTS["smoke"],
            windows=8,
            calibration=8,
        ),
        own_group=8,
        seeds=1,
        densities=(0.5,),
        bits=(4, 3),
        removed=(1,),
        rounds=2,
        torchao=False,
    ),
    "laptop": Scale(OwnLM(GPTS["laptop"]), own_group=32, seeds=1, densities=(0.7, 0.5, 0.3), bits=(4, 3, 2), removed=(1, 2), rounds=30),
    "cpu": Scale(
        OwnLM(
            GPTS["cpu"],
            windows=256,
            calibration=128,
        ),
        own_group=32,
        seeds=3,
        densities=(0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
        bits=(8, 4, 3, 2),
        removed=(1, 2, 3),
        rounds=300,
        pretrained=PretrainedLM(),
        removed_pretrained=(1, 2, 4, 7),
        calibrations=(1, 4, 16, 128),
    ),
}
SIZES["gpu"] = replace(
    SIZES["cpu"],
    own=OwnLM(
        GPTS["gpu"],
        windows=256,
        calibration=128,
    ),
    pretrained=PretrainedLM(windows=128, calibration=128, length=1024),
)


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows.  SmolLM2's come first."""
    size = sized(parameters)
    pretrained, own = Runs(size.pretrained, range(size.draws), False), Runs(size.own, range(size.seeds), True)
    fitted = Runs(
        size.pretrained and replace(size.pretrained, calibration=max(FITTED, size.pretrained.calibration)), range(size.draws), False
    )
    group, fewer, fewer_pretrained = size.own_group, middle(size.removed), middle(size.removed_pretrained)

    found = {
        "gpt": [size.own.trained(seed) for seed in range(size.seeds)],
        "dense": [*pretrained.once(Untouched()), *own.once(Untouched())],
        "pruning": pruned(pretrained, fitted, own),
        "rounding": [
            *pretrained.once(*(RoundedLM("nearest", bits, GROUP) for bits in (4, 3))),
            *(
                run
                for bits in (3, 4)
                for some, by in ((fitted, "gptq"), (pretrained, "awq"))
                for run in some.seeded(RoundedLM(by, bits, GROUP))
            ),
            *own.seeded(*(RoundedLM(by, bits, group) for bits in size.bits for by in ("nearest", "gptq", "awq"))),
        ],
        "activations": [
            *pretrained.once(*(RoundedActivationsLM(activation_bits=bits) for bits in (8, 4))),
            *pretrained.seeded(
                *(RoundedActivationsLM("smoothquant", activation_bits=bits) for bits in (8, 4)),
                RoundedActivationsLM("rotation", activation_bits=4),
            ),
            *own.seeded(
                *(RoundedActivationsLM(by, activation_bits=bits) for bits in (8, 4) for by in ("nearest", "smoothquant", "rotation"))
            ),
        ],
        "patterns": pruned(pretrained, fitted, own, pattern="2:4"),
        "depth": [
            *(run for count in size.removed_pretrained for run in pretrained.once(ShortenedLM("influence", count))),
            *pretrained.seeded(*(ShortenedLM(by, fewer_pretrained) for by in ("influence", "random") if fewer_pretrained)),
            *own.seeded(
                *(ShortenedLM("influence", count) for count in size.removed), ShortenedLM("random", fewer), ShortenedLM("last", fewer)
            ),
        ],
        "joint": [
            *fitted.seeded(PrunedLM("sparsegpt", bits_left=4), RoundedLM("gptq", 3)),
            *pretrained.once(PrunedLM(bits_left=4)),
            *own.seeded(PrunedLM("sparsegpt", bits_left=4), RoundedLM("gptq", 3), PrunedLM(bits_left=4)),
        ],
        "layers": [
            *([LayersRun(model=size.pretrained, group=GROUP, every=5)] if size.pretrained else []),
            LayersRun(model=size.own, group=group),
        ],
        "rows": own.seeded(PrunedLM("wanda"), PrunedLM("wanda", per="layer")),
        "ratios": own.seeded(*(PrunedLM(by, density) for density in size.densities for by in ("magnitude", "wanda", "sparsegpt"))),
        "groups": own.seeded(*(RoundedLM(by, bits) for bits in size.bits for by in ("nearest", "gptq", "awq"))),
        "calibration": [
            *pretrained.seeded(PrunedLM("sparsegpt"), RoundedLM("gptq", 3, GROUP)),  # with more: "pruning", "rounding"
            *(
                run
                for count in size.calibrations
                for run in Runs(replace(size.own, calibration=count), range(size.seeds), True).seeded(
                    PrunedLM("wanda"), PrunedLM("sparsegpt"), RoundedLM("gptq", 3, group)
                )
            ),
        ],
        "torchao": [TorchaoLMRun(model=size.own)] if size.torchao else [],
        "time": [LayerTimeRun(rounds=size.rounds)],
    }
    return {name: list(dict.fromkeys(specs)) for name, specs in found.items()}


def pruned(pretrained: Runs, fitted: Runs, own: Runs, **kept) -> list[Spec]:
    """Half of the weights, by each method; ``fitted`` are runs of the pre-trained model with more calibration text."""
    return [
        *pretrained.once(PrunedLM(**kept)),
        *fitted.seeded(PrunedLM("sparsegpt", **kept)),
        *pretrained.seeded(PrunedLM("wanda", **kept)),
        *own.seeded(*(PrunedLM(by, **kept) for by in ("magnitude", "wanda", "sparsegpt"))),
    ]


@dataclass(frozen=True)
class Runs:
    """Runs of one model, or of none.  ``many``: each seed is another model, so that a method that draws nothing has as many runs."""

    model: OwnLM | PretrainedLM | None
    seeds: Iterable[int]
    many: bool

    def once(self, *methods: Untouched) -> list[CompressRun]:
        """Of methods that draw nothing: one run of each, or one for each trained network."""
        return self.of(methods, self.seeds if self.many else (0,))

    def seeded(self, *methods: Untouched) -> list[CompressRun]:
        return self.of(methods, self.seeds)

    def of(self, methods: Iterable[Untouched], seeds: Iterable[int]) -> list[CompressRun]:
        return (
            [
                CompressRun(model=self.model, method=method, told=TOLD if tells(method) else 0, seed=seed)
                for method in methods
                for seed in seeds
            ]
            if self.model
            else []
        )


def tells(method: Untouched) -> bool:
    """Whether the page shows what a model says after this method."""
    return type(method) is Untouched or (isinstance(method, PrunedLM) and replace(method, by="magnitude") == PrunedLM())


def middle(counts: tuple[int, ...]) -> int | None:
    """How many blocks go where ways to choose them are compared: the last number but one, or the only one."""
    return counts[-2] if len(counts) > 1 else counts[0] if counts else None


def sized(parameters: Parameters) -> Scale:
    """The scale with the reader's knobs applied."""
    size = SIZES[parameters.scale]
    own, pretrained = size.own, size.pretrained
    if parameters.pretrained is not None:
        pretrained = (pretrained or PretrainedLM()) if parameters.pretrained else None
        if pretrained and not size.removed_pretrained:
            size = replace(size, removed_pretrained=SIZES["cpu"].removed_pretrained)
    if parameters.corpus not in (None, own.gpt.corpus.name):
        own = replace(own, gpt=replace(own.gpt, corpus=replace(own.gpt.corpus, name=parameters.corpus, stories=None)))
    if parameters.windows:
        own, pretrained = replace(own, windows=parameters.windows), pretrained and replace(pretrained, windows=parameters.windows)
    return replace(
        size,
        own=own,
        pretrained=pretrained,
        own_group=parameters.group or size.own_group,
        seeds=parameters.seeds or size.seeds,
        draws=parameters.seeds or size.draws,
    )
