"""Exact attention without the matrix: what is run, and at which size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.data.text import TEXT_NAMES
from lib.models.gpt import GPTConfig
from lib.runs.spec import Spec
from lib.studies.attention.contenders import TYPES, Setting
from lib.studies.attention.context import Recall, RecallRun, StoriesRun
from lib.studies.attention.cost import PASSES, MachineRun, MemoryRun, TimingRun
from lib.studies.attention.exact import ExactAttentionRun, StabilityRun
from lib.studies.attention.step import StepRun
from lib.studies.base.corpora import Corpus
from lib.studies.base.parameters import ChapterParameters, given
from lib.system.checks import one_of, require
from lib.training.loop import Recipe


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    longest: int | None = None  # tokens: timings and memory go up to here, by doubling
    heads: int | None = None  # of what is timed
    head_dim: int | None = None
    tile: int | None = None  # rows and columns of our tiles and blocks
    corpus: str | None = None  # grammar | tinystories

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"longest": 64, "heads": 1, "head_dim": 8, "tile": 8}.items():
            value = getattr(self, name)
            require(value is None or value >= least, f"{name} must be at least {least}, not {value}")
        if self.corpus is not None:
            one_of("corpus", self.corpus, TEXT_NAMES)


@dataclass(frozen=True)
class Scale:
    """What a scale chooses.

    ``shortest``, ``longest``  lengths that are timed, each twice the one before
    ``memory``                 the longest of which memory is measured, with one matrix and head
    ``shares``                 of blocks that are computed, at the longest length
    ``engines``                lengths at which engines that have to be compiled are compared too, once: compiling takes its time
    ``tiles``                  sizes of tiles that are compared, at a length of ``tiled`` tokens
    ``step``                   the GPT whose training step is timed, at this batch size
    ``recall``, ``contexts``   a run on the recall task, and the contexts that it is repeated with
    ``stories``, ``windows``   a run on stories, and its contexts
    """

    setting: Setting
    shortest: int
    longest: int
    memory: int
    shares: tuple[float, ...]
    engines: tuple[int, ...]
    tiles: tuple[int, ...]
    tiled: int
    rounds: int
    seeds: int
    cases: int
    stability: int
    machine: dict[str, int]
    step: GPTConfig
    step_batch: int
    recall: RecallRun
    contexts: tuple[int, ...]
    stories: StoriesRun
    windows: tuple[int, ...]
    training_seeds: int = 1
    network: Setting = Setting(heads=4, head_dim=32, batch=64)  # of one layer of a small transformer on 64 tokens


def language(lr: float, epochs: int = 2, precision: str = "fp32") -> Recipe:
    return Recipe(epochs=epochs, lr=lr, betas=(0.9, 0.95), weight_decay=0.1, precision=precision)


def recalling(lr: float, batch_size: int, epochs: int) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, betas=(0.9, 0.95), weight_decay=0.01)


SIZES = {
    "smoke": Scale(
        Setting(heads=1, head_dim=16, tile=32, features=45),
        shortest=64,
        longest=128,
        memory=256,
        shares=(0.5, 0.25),
        engines=(),
        tiles=(16, 64),
        tiled=64,
        rounds=2,
        seeds=1,
        cases=6,
        stability=64,
        machine=dict(size=64, megabytes=2, repeats=3),
        step=GPTConfig(vocabulary=64, context=64, width=32, depth=2, heads=2, hidden=64),
        step_batch=1,
        recall=RecallRun(task=Recall(length=16, pairs=4, values=2), context=16, width=16, steps=20, recipe=recalling(5e-3, 16, 2)),
        contexts=(4, 16),
        stories=StoriesRun(
            corpus=Corpus(stories=200, vocabulary=300),
            context=32,
            width=16,
            depth=1,
            heads=1,
            tokens=64,
            steps=10,
            recipe=language(1e-2),
            watched=256,
        ),
        windows=(8, 32),
    ),
    "laptop": Scale(
        Setting(),
        shortest=128,
        longest=2048,
        memory=4096,
        shares=(0.5, 0.25, 0.125),
        engines=(),
        tiles=(16, 64, 256),
        tiled=512,
        rounds=3,
        seeds=2,
        cases=40,
        stability=256,
        machine={},
        step=GPTConfig(vocabulary=384, context=1024, width=128, depth=2, heads=2, hidden=344),
        step_batch=1,
        recall=RecallRun(),
        contexts=(8, 16, 32, 64),
        stories=StoriesRun(steps=150, width=48, recipe=language(1e-2, epochs=3)),
        windows=(4, 16, 64),
    ),
    "cpu": Scale(
        Setting(),
        shortest=128,
        longest=4096,
        memory=4096,
        shares=(0.5, 0.25, 0.125),
        engines=(2048,),
        tiles=(16, 32, 64, 128, 256, 512),
        tiled=1024,
        rounds=7,
        seeds=3,
        cases=200,
        stability=1024,
        machine=dict(repeats=15),
        step=GPTConfig(vocabulary=512, context=1024, width=256, depth=4, heads=4, hidden=688),
        step_batch=1,
        recall=RecallRun(task=Recall(length=128), context=128, steps=400, recipe=recalling(1e-2, 64, 8)),
        contexts=(16, 32, 64, 128),
        stories=StoriesRun(
            corpus=Corpus("tinystories", vocabulary=512), width=48, tokens=1024, steps=1000, recipe=language(5e-3, epochs=5), watched=32_768
        ),
        windows=(16, 64, 256),
        training_seeds=3,
    ),
    "gpu": Scale(
        Setting(heads=8, batch=16, precision="bf16", tile=1024),
        shortest=128,
        longest=16_384,
        memory=16_384,
        shares=(0.5, 0.25, 0.125),
        engines=(1024, 4096, 16_384),
        tiles=(128, 256, 512, 1024, 2048),
        tiled=4096,
        rounds=7,
        seeds=3,
        cases=200,
        stability=4096,
        machine=dict(size=8192, megabytes=4096, repeats=15),
        step=GPTConfig(vocabulary=50_257, context=1024, width=768, depth=12, heads=12, hidden=2048),
        step_batch=16,
        recall=RecallRun(task=Recall(length=2048, pairs=16), context=2048, width=64, steps=1500, recipe=recalling(5e-3, 128, 15)),
        contexts=(256, 512, 1024, 2048),
        stories=StoriesRun(
            corpus=Corpus("tinystories", vocabulary=4096),
            context=512,
            width=320,
            depth=6,
            heads=5,
            tokens=32_768,
            steps=5300,
            recipe=language(2e-3, epochs=4, precision="bf16"),
            watched=131_072,
        ),
        windows=(64, 128, 256, 512),
        training_seeds=3,
    ),
}

#: What is timed everywhere, and what has to be compiled first.
EAGER = ("standard", "tiled", "sdpa", "block-sparse", "linformer", "performer")
COMPILED = ("standard", "sdpa", "flex", "flex, block-sparse", "triton")

#: The definition and the fused kernel, in each precision, on so many tokens.
FUSED, NETWORK_TOKENS = ("standard", "sdpa"), 64

#: Of these, memory is measured.
HELD = ("standard", "tiled", "sdpa", "linformer", "performer")


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    size = sized(parameters)
    every, training = range(size.seeds), range(size.training_seeds)
    lengths = doublings(size.shortest, size.longest)

    def seeded(*specs: Spec, seeds: Iterable[int] = every) -> list[Spec]:
        return [replace(spec, seed=seed) for spec in specs for seed in seeds]

    def timed(length: int, names: tuple[str, ...], passes: str) -> TimingRun:
        return TimingRun(length=length, names=names, passes=passes, setting=size.setting, rounds=size.rounds)

    return {
        "exactness": seeded(ExactAttentionRun(cases=size.cases)),
        "stability": seeded(StabilityRun(length=size.stability)),
        "timing": seeded(*(timed(length, EAGER, passes) for length in lengths for passes in PASSES)),
        "sparsity": seeded(timed(lengths[-1], ("tiled", *(f"share {share:g}" for share in size.shares)), "training")),
        "engines": seeded(
            *(timed(length, COMPILED, passes) for length in size.engines if length <= lengths[-1] for passes in PASSES), seeds=(0,)
        ),
        "precision": seeded(
            *(
                TimingRun(
                    length=NETWORK_TOKENS,
                    names=FUSED,
                    passes=passes,
                    setting=replace(size.network, precision=precision),
                    rounds=size.rounds,
                )
                for precision in TYPES
                for passes in PASSES
            )
        ),
        "tiles": seeded(timed(size.tiled, tuple(f"tile {tile}" for tile in size.tiles), "forward")),
        "memory": seeded(
            MemoryRun(
                lengths=tuple(doublings(size.shortest, min(size.memory, parameters.longest or size.memory))),
                names=HELD,
                setting=replace(size.setting, heads=1, batch=1),
            )
        ),
        "machine": seeded(MachineRun(precision=size.setting.precision, **size.machine)),
        "step": seeded(StepRun(config=size.step, batch_size=size.step_batch, precision=size.setting.precision, rounds=size.rounds)),
        "recall": seeded(*(replace(size.recall, context=context) for context in size.contexts), seeds=training),
        "stories": seeded(*(replace(size.stories, context=context) for context in size.windows), seeds=training),
    }


def doublings(first: int, last: int) -> list[int]:
    """first, 2 · first, … up to ``last``."""
    found = [first]
    while 2 * found[-1] <= last:
        found.append(2 * found[-1])
    return found


def sized(parameters: Parameters) -> Scale:
    """The scale with the reader's knobs applied."""
    size = SIZES[parameters.scale]
    setting = replace(size.setting, **given(heads=parameters.heads, head_dim=parameters.head_dim, tile=parameters.tile))
    stories = size.stories
    if parameters.corpus not in (None, stories.corpus.name):
        stories = replace(stories, corpus=replace(stories.corpus, name=parameters.corpus, stories=None))
    return replace(
        size, setting=setting, stories=stories, **given(longest=parameters.longest, seeds=parameters.seeds, training_seeds=parameters.seeds)
    )
