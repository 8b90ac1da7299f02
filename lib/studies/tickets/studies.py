"""Lottery tickets in transformers: what is run, and at which size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.data.tasks import TASKS
from lib.runs.spec import Spec
from lib.studies.base.parameters import ChapterParameters, given
from lib.studies.tickets.checkpoint import CheckpointRun
from lib.studies.tickets.finetune import FinetuneRun
from lib.studies.tickets.lth import IterativeRun, SubnetworkRun
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.sizes import HOME_MADE, PRETRAINED, SIZES, Scale
from lib.studies.tickets.structured import studies as structured_studies
from lib.studies.tickets.tinybert_studies import TEXTS, Texts, tinybert_studies
from lib.studies.tickets.words import BagOfWordsRun
from lib.studies.tickets.words_head import WordsHeadRun
from lib.system.checks import one_of, require


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    pretrained: bool | None = None  # whether the encoder is MiniLM instead of one that the book pre-trains; at cpu and gpu
    tasks: str | None = None  # of order, shuffled, name, sst2, cola, trec; several are separated by commas
    epochs: int | None = None  # of each fine-tuning
    sparsity: float | None = None  # of the subnetworks that are compared and moved to other tasks

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.pretrained or self.scale in PRETRAINED, f"pretrained needs scale {' or '.join(PRETRAINED)}, not {self.scale}")
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


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    size = sized(parameters)
    seeds, side = range(size.seeds), range(min(size.side, size.seeds))
    # One checkpoint for all, whatever the seed: what differs are the new heads and the order of the examples.
    parent = (
        CheckpointRun(source=size.checkpoint)
        if size.checkpoint
        else PretrainRun(source=size.source, model=size.model, recipe=size.pretrain, steps=size.steps, chosen=size.chosen)
    )
    whole = [FinetuneRun(parent=parent, task=task, size=size.size, recipe=size.recipe, seed=seed) for task in size.tasks for seed in seeds]
    few = [replace(run, size=replace(size.size, train=size.few)) for run in whole if run.task == size.tasks[0] and run.seed in side]
    chosen = [run for run in whole if run.task in size.tasks[: size.on]]
    others = [run for run in whole if run not in chosen]
    return (
        {
            "pretrain": [parent],
            "finetune": [*whole, *few],
            "from-scratch": [replace(run, start="random") for run in whole],
            "words": [BagOfWordsRun(source=parent.source, task=task, size=size.size) for task in size.tasks],
        }
        | ({"words-head": [headed(size, parent)]} if size.mlm else {})
        | ({"anchor": anchor(size, parent, seeds)} if size.anchor else {})
        | lottery(size, parent, seeds, side)
        | structured_studies(chosen, others, few, size.structured)
        | tinybert_studies(texts(parameters))
    )


def texts(parameters: Parameters) -> Texts:
    """TinyBERT's sizes at this scale, with the reader's seeds."""
    size, seeds = TEXTS[parameters.scale], parameters.seeds
    return size if seeds is None else replace(size, seeds=seeds, side=seeds)


def anchor(size: Scale, parent: PretrainRun | CheckpointRun, seeds: range) -> list[Spec]:
    """One task on all of its rows: the whole network, the same without pre-training, and counted words."""
    at = size.anchor
    whole = [FinetuneRun(parent=parent, task=at.task, size=at.size, recipe=at.recipe, seed=seed) for seed in seeds]
    return [whole[0], replace(whole[0], start="random"), BagOfWordsRun(source=parent.source, task=at.task, size=at.size), *whole[1:]]


def headed(size: Scale, parent: CheckpointRun) -> WordsHeadRun:
    return WordsHeadRun(parent=parent, recipe=size.mlm.head, steps=size.mlm.steps)


def lottery(size: Scale, parent: PretrainRun | CheckpointRun, seeds: range, side: range) -> dict[str, list[Spec]]:
    """Tickets of the pre-training task and of every task; their controls and transfers at the last sparsity."""
    last, first = size.sparsities[-1], size.tasks[0]
    common = dict(parent=parent, size=size.size, recipe=size.recipe)
    found: dict[str, list[Spec]] = {name: [] for name in ("tickets", "transfer", "controls", "rewinding", "standard")}
    for seed in seeds:
        tickets = {task: IterativeRun(**common, task=task, sparsities=size.sparsities, seed=seed) for task in ("mlm", *size.tasks)}
        if size.mlm:  # last: it takes longest
            tickets["mlm"] = replace(tickets.pop("mlm"), parent=headed(size, parent), recipe=size.mlm.recipe, size=size.mlm.size)
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
    if parameters.pretrained is not None:
        size = (PRETRAINED if parameters.pretrained else HOME_MADE)[parameters.scale]
    size = replace(size, recipe=replace(size.recipe, **given(epochs=parameters.epochs)))
    if parameters.sparsity is not None:
        last = parameters.sparsity
        size = replace(size, sparsities=(*(sparsity for sparsity in size.sparsities if sparsity < last), last))
    return replace(size, **given(tasks=parameters.names, seeds=parameters.seeds))
