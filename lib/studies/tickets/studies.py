"""Chapter 5, lottery tickets in transformers: what is run, and at which size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.data.masked_lm import CHOSEN
from lib.data.tasks import TASKS
from lib.models.encoder import EncoderConfig
from lib.runs.spec import Spec
from lib.studies.base.parameters import ChapterParameters
from lib.studies.tickets.finetune import FinetuneRun, TaskSize
from lib.studies.tickets.lth import IterativeRun, SubnetworkRun
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.structured import Structured
from lib.studies.tickets.structured import studies as structured_studies
from lib.studies.tickets.text import Source
from lib.studies.tickets.words import BagOfWordsRun
from lib.system.checks import one_of, require
from lib.training.loop import Recipe


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """Chapter 5's knobs.  A knob left at None follows the scale."""

    tasks: str | None = None  # of order, shuffled, name, sst2; several are separated by commas
    epochs: int | None = None  # of each fine-tuning
    sparsity: float | None = None  # of the subnetworks that are compared and moved to other tasks

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.names or ():
            one_of("task", name, TASKS)
        require(self.epochs is None or self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")
        require(
            self.sparsity is None or 0 < self.sparsity < 1,
            f"sparsity is {self.sparsity}: it must be a share of the weights, above 0 and below 1",
        )

    @property
    def names(self) -> tuple[str, ...] | None:
        return None if self.tasks is None else tuple(dict.fromkeys(part.strip() for part in self.tasks.split(",")))


@dataclass(frozen=True)
class Scale:
    """What a scale chooses.

    ``chosen``      share of the tokens that pre-training predicts
    ``tasks``       the first is the one that rewinding and standard pruning are tried on
    ``size``        of each task; ``few``: training examples where a task is to be small
    ``sparsities``  of the rounds of iterative pruning; the paper's are a tenth apart
    ``later``       shares of the first training after which rewinding takes the weights
    ``seeds``       of the main studies, ``side`` of rewinding, standard pruning and small tasks
    ``structured``  see :class:`lib.studies.tickets.structured.Structured`; all of it on the first ``on`` tasks
    """

    source: Source
    model: EncoderConfig
    pretrain: Recipe
    steps: int
    tasks: tuple[str, ...]
    size: TaskSize
    recipe: Recipe
    sparsities: tuple[float, ...]
    structured: Structured
    on: int
    seeds: int
    side: int = 1
    few: int = 500
    later: tuple[float, ...] = (0.5,)
    chosen: float = CHOSEN


def adam(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=0.01, **changes)


SIZES = {
    "smoke": Scale(
        Source(stories=200),
        EncoderConfig(width=32, depth=2, heads=4, hidden=64),
        adam(2, 16, 3e-3),
        20,
        ("shuffled", "order"),
        TaskSize(128, 64),
        adam(1, 32, 2e-3),
        (0.35, 0.7),
        Structured(
            looked=64,
            shares=(0.25,),
            untrained=("good",),
            harsh=("good", "random"),
            draws=("early", "late", "whole"),
            random=2,
            checks=6,
            targets=(0.4,),
            joint=1,
            tuned=1,
            predictor_lr=0.1,
            statics=("learnt", "important"),
            rounds=4,
        ),
        on=1,
        seeds=1,
        few=64,
    ),
    "laptop": Scale(
        Source(context=40),
        EncoderConfig(width=64, depth=2, heads=4, hidden=256),
        adam(4, 32, 3e-3),
        200,
        ("shuffled", "order"),
        TaskSize(680, 500),
        adam(3, 32, 1e-3),
        (0.35, 0.7),
        Structured(
            looked=250,
            shares=(0.25,),
            untrained=("good",),
            draws=("early", "late", "whole"),
            random=2,
            targets=(0.4,),
            joint=5,
            predictor_lr=0.1,
            statics=("usual", "important"),
            rounds=10,
        ),
        on=1,
        seeds=1,
        chosen=0.3,
    ),
    "cpu": Scale(
        Source("tinystories", 4_096, None, True, 48),
        EncoderConfig(width=96, depth=3, heads=4, hidden=384),
        adam(10, 32, 3e-3),
        600,
        ("name", "sst2"),
        TaskSize(2_500, 1_000),
        adam(3, 32, 2e-3),
        (0.3, 0.6, 0.7),
        Structured(joint=6, predictor_lr=0.1, statics=("usual", "important")),
        on=1,
        seeds=3,
        side=3,
        few=1_000,
        chosen=0.3,
    ),
    "gpu": Scale(
        Source("tinystories", 4_096, None, True, 64),
        EncoderConfig(width=256, depth=6, heads=8, hidden=1_024),
        adam(10, 128, 1e-3, precision="bf16"),
        1_000,
        ("sst2", "shuffled", "order", "name"),
        TaskSize(11_000, 2_000),
        adam(3, 128, 5e-4, precision="bf16"),
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        Structured(targets=(0.4, 0.6), joint=4),
        on=1,
        seeds=3,
        few=2_000,
        later=(0.1, 0.5),
        chosen=0.3,
    ),
}


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study of chapter 5 by name; see the chapter for what each shows."""
    size = sized(parameters)
    seeds, side = range(size.seeds), range(min(size.side, size.seeds))
    # One checkpoint for all, whatever the seed: what differs are the new heads and the order of the examples.
    parent = PretrainRun(source=size.source, model=size.model, recipe=size.pretrain, steps=size.steps, chosen=size.chosen)
    whole = [FinetuneRun(parent=parent, task=task, size=size.size, recipe=size.recipe, seed=seed) for task in size.tasks for seed in seeds]
    few = [replace(run, size=replace(size.size, train=size.few)) for run in whole if run.task == size.tasks[0] and run.seed in side]
    chosen = [run for run in whole if run.task in size.tasks[: size.on]]
    others = [run for run in whole if run not in chosen]
    return (
        {
            "pretrain": [parent],
            "finetune": [*whole, *few],
            "from-scratch": [replace(run, start="random") for run in whole],
            "words": [BagOfWordsRun(source=size.source, task=task, size=size.size) for task in size.tasks],
        }
        | lottery(size, parent, seeds, side)
        | structured_studies(chosen, others, few, size.structured)
    )


def lottery(size: Scale, parent: PretrainRun, seeds: range, side: range) -> dict[str, list[Spec]]:
    """Tickets of the pre-training task and of every task; their controls and transfers at the last sparsity."""
    last, first = size.sparsities[-1], size.tasks[0]
    common = dict(parent=parent, size=size.size, recipe=size.recipe)
    found: dict[str, list[Spec]] = {name: [] for name in ("tickets", "transfer", "controls", "rewinding", "standard")}
    for seed in seeds:
        tickets = {task: IterativeRun(**common, task=task, sparsities=size.sparsities, seed=seed) for task in ("mlm", *size.tasks)}
        found["tickets"] += tickets.values()
        base = SubnetworkRun(**common, masks="direct", sparsity=last, seed=seed)
        for target in size.tasks:
            there = replace(base, task=target)
            of_target = replace(there, masks="ticket", ticket=tickets[target])
            found["transfer"] += [replace(of_target, ticket=ticket) for task, ticket in tickets.items() if task != target]
            found["transfer"] += [there]
            found["controls"] += [replace(there, masks="random"), replace(of_target, start="random"), replace(of_target, start="shuffled")]
        if seed in side:
            found["rewinding"] += [replace(tickets[first], rewind=later) for later in size.later]
            found["standard"] += [replace(tickets[first], rewind=None)]
    return found


def sized(parameters: Parameters) -> Scale:
    """The scale's sizes with the reader's knobs applied."""
    size = SIZES[parameters.scale]
    if parameters.epochs is not None:
        size = replace(size, recipe=replace(size.recipe, epochs=parameters.epochs))
    if parameters.sparsity is not None:
        last = parameters.sparsity
        size = replace(size, sparsities=(*(sparsity for sparsity in size.sparsities if sparsity < last), last))
    changes = {"tasks": parameters.names, "seeds": parameters.seeds}
    return replace(size, **{name: value for name, value in changes.items() if value is not None})
