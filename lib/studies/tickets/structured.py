"""The tickets chapter's studies of structured tickets: what is run on each fine-tuned network, and at which size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lib.runs.spec import Spec
from lib.studies.tickets.early import EarlySearchRun, TicketRun, TrainingTimeRun
from lib.studies.tickets.ebert import DynamicSpeedRun, JointRun, TunedRun
from lib.studies.tickets.finetune import FinetuneRun
from lib.studies.tickets.plays import RetrainRun, SearchRun


@dataclass(frozen=True)
class Structured:
    """What a scale chooses.

    ``looked``         validation examples that masks are searched with
    ``choices``        sub-networks that are trained again; ``untrained``: structured ones also without pre-training
    ``shares``         of heads and FFNs, where masking goes on regardless; ``harsh``: the sub-networks trained there
    ``draws``          EarlyBERT's tickets that are trained; ``random``: how many random ones to compare with
    ``checks``         of its masks per epoch
    ``targets``        shares of FLOPs of EBERT, the smallest first
    ``joint``, ``tuned``  epochs of EBERT's two stages; with few examples more of them, so that there are as many steps
    ``predictor_lr``   learning rate of its predictors: the released 0.02 needs thousands of steps
    ``statics``        its static controls: "learnt" gates, the dynamic one's "usual" gates, the "important" parts
    ``rounds``         of timing
    """

    looked: int = 500
    choices: tuple[str, ...] = ("good", "random", "bad")
    untrained: tuple[str, ...] = ("good", "random")
    shares: tuple[float, ...] = (0.5, 0.25)
    harsh: tuple[str, ...] = ("good", "random", "bad")
    draws: tuple[str, ...] = ("early", "settled", "late", "whole")
    random: int = 5
    checks: int = 10
    targets: tuple[float, ...] = (0.4, 0.6, 0.8)
    joint: int = 4
    tuned: int = 2
    predictor_lr: float = 0.05
    statics: tuple[str, ...] = ("learnt", "usual", "important")
    rounds: int = 30


def studies(
    whole: Sequence[FinetuneRun], others: Sequence[FinetuneRun], few: Sequence[FinetuneRun], size: Structured
) -> dict[str, list[Spec]]:
    """The Specs of each study by name.

    whole: fine-tunings at the scale's full size; others: of further tasks, whose good heads and FFNs are only searched for;
    few: with few training examples, of a task of ``whole``.  All must also be in a study of their own, "finetune", for the
    claims to compare with.
    """
    found = plays(whole, size) | early(whole, size) | ebert(whole, few, size)
    found["plays-search"] += [SearchRun(parent=run, looked=size.looked, seed=run.seed) for run in others]
    return found


def plays(whole: Iterable[FinetuneRun], size: Structured) -> dict[str, list[Spec]]:
    found: dict[str, list[Spec]] = {f"plays-{name}": [] for name in ("search", "retrain", "harsh", "random-weights")}
    for run in whole:
        structured = SearchRun(parent=run, looked=size.looked, seed=run.seed)
        searches = (structured, replace(structured, how="magnitude"))
        found["plays-search"] += searches
        found["plays-retrain"] += [
            RetrainRun(search=search, choice=choice, seed=run.seed) for search in searches for choice in size.choices
        ]
        found["plays-harsh"] += [
            RetrainRun(search=replace(structured, to=share), choice=choice, seed=run.seed) for share in size.shares for choice in size.harsh
        ]
        found["plays-random-weights"] += [
            RetrainRun(search=structured, choice=choice, weights="random", seed=run.seed) for choice in size.untrained
        ]
    return found


def early(whole: Iterable[FinetuneRun], size: Structured) -> dict[str, list[Spec]]:
    found: dict[str, list[Spec]] = {f"early-{name}": [] for name in ("search", "tickets", "time")}
    for run in whole:
        search = EarlySearchRun(base=run, checks=size.checks, seed=run.seed)
        ticket = TicketRun(search=search, seed=run.seed)
        found["early-search"].append(search)
        found["early-tickets"] += [
            *(replace(ticket, draw=draw) for draw in size.draws),
            *(replace(ticket, draw="random", number=number) for number in range(size.random)),
        ]
        found["early-time"].append(TrainingTimeRun(ticket=ticket, rounds=size.rounds, seed=run.seed))
    return found


def ebert(whole: Sequence[FinetuneRun], few: Iterable[FinetuneRun], size: Structured) -> dict[str, list[Spec]]:
    names = ("ebert", "ebert-static", "ebert-layers", "ebert-small", "ebert-speed")
    found: dict[str, list[Spec]] = {name: [] for name in names}

    def dynamic(run: FinetuneRun, target: float, size: Structured = size, **changes) -> TunedRun:
        joint = JointRun(
            parent=run,
            target=target,
            predictor_lr=size.predictor_lr,
            seed=run.seed,
            recipe=replace(run.recipe, epochs=size.joint),
            **changes,
        )
        return TunedRun(parent=joint, recipe=replace(run.recipe, epochs=size.tuned), seed=run.seed)

    def static(gated: TunedRun, name: str) -> TunedRun:
        if name == "learnt":
            return replace(gated, parent=replace(gated.parent, kind="constant"), how="static", equal=gated.parent)
        if name == "usual":
            return replace(gated, how="static")
        # All epochs of both stages: it needs no search by training.
        return replace(gated, how="important", recipe=replace(gated.recipe, epochs=size.joint + size.tuned))

    for run in whole:
        gated = [dynamic(run, target) for target in size.targets]
        found["ebert"] += gated
        found["ebert-static"] += [static(one, name) for one in gated for name in size.statics]
        found["ebert-layers"].append(dynamic(run, size.targets[0], per_layer=0.0))
        found["ebert-speed"].append(
            DynamicSpeedRun(dynamic=gated[0], static=static(gated[0], size.statics[-1]), rounds=size.rounds, seed=run.seed)
        )
    most = max((run.size.train for run in whole), default=0)
    for run in few:
        # As many steps as with all examples, in more epochs: otherwise it is short training that does less well.
        more = most / run.size.train
        longer = replace(size, joint=round(more * size.joint), tuned=round(more * size.tuned))
        found["ebert-small"].append(dynamic(run, size.targets[0], longer))
    return found
