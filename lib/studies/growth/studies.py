"""Growing models: what is run, and at which size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.data.text import TEXT_NAMES
from lib.growth.depth import Deepen
from lib.growth.faults import NoiseFault, TiedFault
from lib.growth.growth import Growth
from lib.growth.net2net import Net2Wider
from lib.growth.upcycle import Upcycle
from lib.growth.width import Even, Noise, Uneven, Widen
from lib.models.gpt import GPTConfig
from lib.models.gpt_cost import training_flops
from lib.moe.layer import MoEConfig
from lib.runs.spec import Spec
from lib.studies.base.corpora import Corpus
from lib.studies.base.parameters import ChapterParameters, given, numbers
from lib.studies.base.seeds import with_seed
from lib.studies.growth.checks import CommuteRun, ExactGrowthRun, NoiseRun, PresetRun
from lib.studies.growth.gpt import GrowthRun
from lib.studies.growth.pace import PaceRun
from lib.studies.growth.sizes import SIZES, Scale
from lib.system.checks import one_of, require
from lib.training.loop import Recipe

#: The grammar has too few words for a large vocabulary.
GRAMMAR_TOKENS = 384

#: The steps of the pipeline by the names that the chapter's parameter takes.
STEPS = ("experts", "width", "depth")


#: Layers of the final network; to list what grows to it takes time in proportion to their square.
DEEPEST = 1000


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    corpus: str | None = None  # grammar | tinystories
    steps: int | None = None  # of the final dense network, trained from scratch: the compute that all get
    lr: float | None = None  # at its peak
    width: int | None = None  # of the final network
    depth: int | None = None
    experts: int | None = None
    order: str = "experts, width, depth"  # of the pipeline's three steps of growth
    shares: str = "25, 25, 25, 25"  # of the compute that its four phases get, per cent
    rates: str = "1, 1, 1, 1"  # learning rates of its four phases, as multiples of lr

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corpus is not None:
            one_of("corpus", self.corpus, TEXT_NAMES)
        for name, least in {"steps": 10, "width": 16, "depth": 2, "experts": 2}.items():
            value = getattr(self, name)
            require(value is None or value >= least, f"{name} must be at least {least}, not {value}")
        require(self.depth is None or self.depth <= DEEPEST, f"depth must be at most {DEEPEST}, not {self.depth}")
        require(self.lr is None or self.lr > 0, f"lr must be above 0, not {self.lr}")
        require(sorted(self.ordered) == sorted(STEPS), f"order is {self.order!r}: it must name {', '.join(STEPS)}, each once")
        for name in ("shares", "rates"):
            values = numbers(name, getattr(self, name))
            require(len(values) == 4 and min(values) > 0, f"{name} is {getattr(self, name)!r}: give four numbers above 0")

    @property
    def ordered(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.order.split(","))


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    size = sized(parameters)
    plan = Plan(size)
    final, mixture = size.final, plan.mixture
    first = size.shares[0]

    def seeded(*specs: Spec) -> list[Spec]:
        return [with_seed(spec, seed) for spec in specs for seed in range(size.seeds)]

    deep = {
        how: plan.grown(plan.shallow, Deepen(final.depth, how), share=first)
        for how in ("interleaved", "top", "stack", "interpose", "copy-last")
    }
    wide = {
        symmetry: plan.grown(plan.narrow, Widen(2, symmetry), share=first) for symmetry in (Even(), Noise(0.0), Noise(-6.0), Uneven(1.0))
    }
    experts = {
        name: plan.grown(final, operator, share=first)
        for name, operator in {
            "random": Upcycle(mixture),
            "small": Upcycle(mixture, router_scale=0.1),
            "zero": Upcycle(mixture, router_scale=0.0),
            "drop": Upcycle(mixture, drop=0.5),
            "groups": Upcycle(replace(mixture, k=1, split=2)),
            "plain gates": Upcycle(replace(mixture, router="vmoe"), router_scale=0.1, output_scale=mixture.experts / mixture.k),
        }.items()
    }
    uneven = wide[Uneven(1.0)]
    three = (deep["stack"], wide[Noise(0.0)], experts["random"])
    orders = dict.fromkeys((parameters.ordered, ("width", "experts", "depth"), ("depth", "experts", "width")))
    shares, rates = numbers("shares", parameters.shares), numbers("rates", parameters.rates)
    pipelines = [plan.pipeline(order, shares, rates) for order in orders]
    found = {
        "scratch": seeded(*(plan.scratch(config, budget) for config in (final, plan.sparse) for budget in size.budgets)),
        # The sizes that growth starts from, and one between, with the full compute budget: whether the final network is too large for it.
        "envelope": seeded(*(plan.scratch(config, budget) for config in plan.smaller for budget in size.budgets)),
        "depth": seeded(*deep.values()),
        "width": seeded(*wide.values(), plan.grown(plan.thin, Net2Wider(final.hidden), share=first)),
        # Dropout, in the source too, tells equal copies apart, as the papers presuppose.
        "dropout": seeded(
            *(
                plan.grown(replace(plan.narrow, dropout=DROPOUT), Widen(2, symmetry), share=first)
                for symmetry in (Even(), Noise(0.0), Uneven(1.0))
            )
        ),
        "upcycling": seeded(*experts.values(), plan.grown(final, share=first)),
        "faults": seeded(*(plan.grown(plan.narrow, fault, share=first) for fault in (TiedFault(2), NoiseFault(2, db=0.0)))),
        "times": seeded(*(plan.later(run, share) for run in three for share in size.shares[1:])),
        "moments": seeded(
            *(
                replace(uneven, **changes)
                for changes in (
                    dict(moments="fresh"),
                    dict(rates="kept"),
                    dict(recipe=replace(uneven.recipe, warmup=0.0)),
                    dict(moments="fresh", recipe=replace(uneven.recipe, warmup=0.0)),
                    dict(recipe=replace(uneven.recipe, lr=uneven.recipe.lr / 4)),
                )
            ),
            replace(deep["interleaved"], moments="fresh"),
        ),
        "pipeline": seeded(*(phase for run in pipelines for phase in chain(run))),
        "continual": seeded(*plan.continual()),
        "exactness": [ExactGrowthRun(variants=size.variants)],
        "noise": [NoiseRun(parent=run) for run in seeded(plan.source(plan.narrow, first))],
        "commuting": seeded(CommuteRun(corpus=size.corpus)),
        "presets": [PresetRun()] if size.presets else [],
    }
    runs = [run for name, specs in found.items() if name not in CONTROLS for run in specs if isinstance(run, GrowthRun)]
    grown = [run for run in runs if run.parent]
    geometries = dict.fromkeys(run.config for one in runs for run in chain(one))
    pace = PaceRun(configs=tuple(geometries), batch_size=size.recipe.batch_size, precision=size.recipe.precision, rounds=size.rounds)
    sources = dict.fromkeys(run.parent for run in grown if run not in found["pipeline"])
    return {"sources": list(sources), **found, "pace": [pace]}


#: Studies whose networks stand in no table of times.
CONTROLS = ("envelope", "dropout")

#: Of the networks whose equal copies are to part.
DROPOUT = 0.1


@dataclass(frozen=True)
class Plan:
    """The networks of a scale, and runs that spend given shares of its compute."""

    size: Scale

    @property
    def mixture(self) -> MoEConfig:
        return MoEConfig(experts=self.size.experts, k=2)

    @property
    def sparse(self) -> GPTConfig:
        """The final network with experts, of which each token uses two: twice the FFN's compute."""
        return replace(self.size.final, moe=self.mixture)

    @property
    def narrow(self) -> GPTConfig:
        final = self.size.final
        return replace(final, width=final.width // 2, heads=final.heads // 2, hidden=final.hidden // 2)

    @property
    def shallow(self) -> GPTConfig:
        return replace(self.size.final, depth=self.size.final.depth // 2)

    @property
    def thin(self) -> GPTConfig:
        """Only the FFNs are narrower."""
        return replace(self.size.final, hidden=self.size.final.hidden // 2)

    @property
    def smaller(self) -> tuple[GPTConfig, ...]:
        """Dense networks that are smaller than the final one: the sources' geometries, each once."""
        return tuple(dict.fromkeys((self.thin, self.shallow, self.narrow, self.seedling)))

    @property
    def seedling(self) -> GPTConfig:
        """What the pipeline begins with: half as wide, two thirds as deep, dense."""
        return replace(self.narrow, depth=max(1, round(self.size.final.depth * 2 / 3)))

    @property
    def budget(self) -> int:
        return self.size.steps * step_flops(self.size.final, self.size.recipe)

    def run(self, share: float, last: bool, lr: float = 1.0, **fields) -> GrowthRun:
        """A run that spends ``share`` of the compute; if it is not the ``last`` one its learning rate stays up.

        A network that is to grow is not annealed first: growth then restarts from a worse place (our choice, after
        Expert Upcycling and the continued runs of NVIDIA's study).
        """
        size = self.size
        run = GrowthRun(corpus=size.corpus, watched=size.watched, steps=1, recipe=replace(size.recipe, epochs=1), **fields)
        points = max(2, round(share * size.points))
        steps = max(1, round(share * self.budget / step_flops(run.config, run.recipe) / points))
        recipe = replace(size.recipe, epochs=points, lr=lr * size.recipe.lr, warmup=0.1, final_lr=0.1 if last else 1.0)
        return replace(run, steps=steps * points, recipe=recipe)

    def scratch(self, config: GPTConfig, budget: float) -> GrowthRun:
        return self.run(budget, last=True, model=config)

    def source(self, config: GPTConfig, share: float) -> GrowthRun:
        return self.run(share, last=False, model=config)

    def grown(self, config: GPTConfig, *growth: Growth, share: float) -> GrowthRun:
        """A source that got ``share`` of the compute, grown, and trained with the rest of it."""
        return self.run(1 - share, last=True, parent=self.source(config, share), growth=growth)

    def later(self, run: GrowthRun, share: float) -> GrowthRun:
        """The same growth at another time."""
        return self.grown(run.parent.model, *run.growth, share=share)

    def pipeline(self, order: tuple[str, ...], shares: tuple[float, ...], rates: tuple[float, ...]) -> GrowthRun:
        """Four phases: the small dense network, and one step of growth before each of the others."""
        operators = {"experts": Upcycle(self.mixture), "width": Widen(2, Noise(0.0)), "depth": Deepen(self.size.final.depth, "interleaved")}
        run = self.run(shares[0] / sum(shares), last=False, lr=rates[0], model=self.seedling)
        for step, share, rate in zip(order, shares[1:], rates[1:]):
            run = self.run(share / sum(shares), last=step == order[-1], lr=rate, parent=run, growth=(operators[step],))
        return run

    def continual(self) -> list[GrowthRun]:
        """Learning another language with new blocks alone, with all of the deeper network, and without growth."""
        first = self.size.shares[0]
        source = self.source(self.shallow, first)
        deeper = (Deepen(self.size.final.depth, "interleaved"),)
        other = replace(self.size.corpus, dialect="pig-latin")
        return [
            replace(self.run(first, last=True, parent=source, growth=growth), corpus=other, trained=trained)
            for growth, trained in ((deeper, "new blocks"), (deeper, "all"), ((), "all"))
        ]


def chain(run: GrowthRun) -> list[GrowthRun]:
    """All runs behind a network, the first one first."""
    return (chain(run.parent) if run.parent else []) + [run]


def step_flops(config: GPTConfig, recipe: Recipe) -> int:
    return training_flops(config, recipe.batch_size * config.context)


def sized(parameters: Parameters) -> Scale:
    """The scale's sizes with the reader's knobs applied."""
    size = SIZES[parameters.scale]
    corpus, final = size.corpus, size.final
    if parameters.corpus not in (None, corpus.name):
        tokens = corpus.vocabulary if parameters.corpus != "grammar" else min(corpus.vocabulary, GRAMMAR_TOKENS)
        corpus = Corpus(parameters.corpus, tokens)
        final = replace(final, vocabulary=tokens)
    if parameters.width is not None:  # heads keep their size, the FFN its proportion
        require(
            parameters.width % (2 * final.head_dim) == 0,
            f"width {parameters.width} must be a multiple of {2 * final.head_dim}, two heads: half of it is a network too",
        )
        times = parameters.width / final.width
        final = replace(final, width=parameters.width, heads=parameters.width // final.head_dim, hidden=2 * round(times * final.hidden / 2))
    if parameters.depth is not None:
        require(parameters.depth % 2 == 0, f"depth {parameters.depth} must be even: half of it is a network too")
        final = replace(final, depth=parameters.depth)
    return replace(
        size,
        corpus=corpus,
        final=final,
        recipe=replace(size.recipe, **given(lr=parameters.lr)),
        **given(steps=parameters.steps, experts=parameters.experts, seeds=parameters.seeds),
    )
