"""EarlyBERT: searching for a ticket, training it and its controls, and what both cost in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import nn

from lib.data.tasks import TaskBatches
from lib.measure import cost as measure
from lib.models.encoder import Classifier
from lib.models.encoder_remove import smaller
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.tickets.finetune import FinetuneRun, scored, tune
from lib.system.checks import one_of, require
from lib.system.precision import autocast
from lib.tickets.early import (
    DRAWN_AT,
    HEADS,
    NEURONS,
    PENALTY,
    Slimmed,
    Ticket,
    check_every,
    distances,
    early_bird,
    random_ticket,
    slimming_loss,
)
from lib.tickets.masks import overlap
from lib.training import optim
from lib.training.loop import Recipe
from lib.training.losses import classification_loss

#: Which ticket is trained: drawn after a fifth of an epoch, when masks have settled, at the end of the search, or at random;
#: or the whole network.
DRAWS = ("early", "settled", "late", "random", "whole")

#: Of the whole network's epochs, how many a ticket is trained for, and its learning rate; as released.
LESS, FASTER = 2 / 3, 2.0


@dataclass(frozen=True, kw_only=True)
class EarlySearchRun(Spec):
    """Train the whole network with coefficients as ``base`` trains it without, to the end, drawing a ticket at every check.

    A search that is meant to save time ends where the ticket is drawn; this one goes on, to see whether it was too early.

    ``penalty``   weight of the coefficients' L1 norm
    ``checks``    per epoch
    ``drawn_at``  epochs after which the early ticket is drawn, at the next check
    ``heads``, ``neurons``  shares that go
    """

    experiment: ClassVar[str] = "tickets-early-search"

    base: FinetuneRun
    penalty: float = PENALTY
    checks: int = 10
    drawn_at: float = DRAWN_AT
    heads: float = HEADS
    neurons: float = NEURONS

    def __post_init__(self) -> None:
        require(self.drawn_at > 0, f"drawn_at is {self.drawn_at}: it must be above 0")
        require(
            self.checks >= 1 and self.penalty >= 0,
            f"checks is {self.checks} and penalty {self.penalty}: give at least one check per epoch, and no negative penalty",
        )
        require(
            0 <= self.heads < 1 and 0 <= self.neurons < 1,
            f"heads is {self.heads} and neurons {self.neurons}: both must be shares in [0, 1)",
        )

    def run(self, session: Session) -> Outcome:
        task, recipe = self.base.task_on(session), self.base.recipe
        per_epoch = len(task.train) // recipe.batch_size
        steps, every = recipe.epochs * per_epoch, max(1, per_epoch // self.checks)
        model = Slimmed(self.base.fresh(session), steps // every + 1, self.heads, self.neurons)
        history = tune(model, task, recipe, self.seed, session, loss=slimming_loss(self.penalty), after_step=check_every(every, steps))
        if not int(model.checks):  # it diverged before the first
            model.check()
        checks = int(model.checks)
        heads, neurons = model.drawn_heads[:checks].cpu(), model.drawn_neurons[:checks].cpu()
        bird, last = early_bird(heads, neurons), checks - 1
        drawn = {
            "early": min(last, math.ceil(self.drawn_at * per_epoch / every) - 1),
            "settled": last if bird is None else bird,
            "late": last,
        }
        tickets = {name: model.ticket(check) for name, check in drawn.items()}
        steps_of = {name: min(steps, every * (check + 1)) for name, check in drawn.items()}
        session.save_weights(
            nn.Module(),
            **{
                name: {"heads": ticket.heads, "neurons": ticket.neurons, "step": torch.tensor(steps_of[name])}
                for name, ticket in tickets.items()
            },
        )
        early, late = tickets["early"], tickets["late"]
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "settles": bird is not None,
            "drawn_step": steps_of["early"],
            "drawn_epoch": steps_of["early"] / per_epoch,
            "steps": steps,
            "settled_epoch": steps_of["settled"] / per_epoch,
            "settled_share": steps_of["settled"] / steps,
            "heads_overlap": overlap(early.heads, late.heads),
            "neurons_overlap": overlap(early.neurons, late.neurons),
            **scored(model, task, recipe, "validation", "val"),
        }
        arrays = {
            "check_epoch": [min(steps, every * (place + 1)) / per_epoch for place in range(checks)],
            "distance_heads": distances(heads).tolist(),
            "distance_neurons": distances(neurons).tolist(),
            "distance": distances(torch.cat([heads.flatten(1), neurons.flatten(1)], 1)).tolist(),
            "neurons_by_layer": early.neurons.sum(1).tolist(),
            "late_neurons_by_layer": late.neurons.sum(1).tolist(),
        }
        return Outcome(significant(metrics), significant(history.curves), significant(arrays), task.provenance())

    def drawn(self, session: Session, which: str) -> tuple[Ticket, int]:
        """The "early", "settled" or "late" ticket, and after how many steps it was drawn; searched for where needed."""
        found = load_file(str(session.weights(self)))
        return Ticket(found[f"{which}.heads"], found[f"{which}.neurons"]), int(found[f"{which}.step"])


@dataclass(frozen=True, kw_only=True)
class TicketRun(Spec):
    """Train a ticket from the pre-trained weights, its other heads and neurons removed.

    ``draw``     see :data:`DRAWS`; "whole" trains the whole network as briefly, which tells what that alone saves
    ``number``   of the random draw
    ``less``     of the whole network's epochs, rounded, and ``faster``, times its learning rate
    """

    experiment: ClassVar[str] = "tickets-early"

    search: EarlySearchRun
    draw: str = "early"
    number: int = 0
    less: float = LESS
    faster: float = FASTER

    def __post_init__(self) -> None:
        one_of("draw", self.draw, DRAWS)
        require(self.less > 0 and self.faster > 0, f"less is {self.less} and faster {self.faster}: both must be above 0")

    @property
    def recipe(self) -> Recipe:
        base = self.search.base.recipe
        return replace(base, epochs=max(1, round(self.less * base.epochs)), lr=self.faster * base.lr)

    def run(self, session: Session) -> Outcome:
        base = self.search.base
        model = removed(base.fresh(session), self.ticket(session))
        metrics, curves, task = base.tune(model, session, self.seed, self.recipe)
        metrics["parameters"] = measure.parameters(model)
        return Outcome(significant(metrics), significant(curves), data=task.provenance())

    def ticket(self, session: Session) -> Ticket | None:
        """None for the whole network."""
        if self.draw == "whole":
            return None
        if self.draw == "random":
            config, search = self.search.base.parent.geometry, self.search
            return random_ticket(
                config.depth,
                config.heads_by_layer[0],
                config.hidden_by_layer[0],
                1000 * self.seed + self.number,
                search.heads,
                search.neurons,
            )
        return self.search.drawn(session, self.draw)[0]


def removed(model: Classifier, ticket: Ticket | None) -> Classifier:
    if ticket is None:
        return model
    device = model.head.weight.device
    return smaller(model, **{name: [gate.to(device) for gate in gates] for name, gates in ticket.gates().items()})


@dataclass(frozen=True, kw_only=True)
class TrainingTimeRun(Spec):
    """Time training steps of the whole network, of the one with coefficients, and of a drawn ticket, in turns.

    The time that a run takes is its number of steps times the median of its step; checks of the masks are timed too.
    Raises ValueError for a ticket that no search has drawn.
    """

    experiment: ClassVar[str] = "tickets-early-time"

    ticket: TicketRun
    rounds: int = 20

    def __post_init__(self) -> None:
        one_of("draw", self.ticket.draw, DRAWS[:3])

    def run(self, session: Session) -> Outcome:
        base, search, device = self.ticket.search.base, self.ticket.search, session.device
        task, recipe = base.task_on(session), base.recipe
        batches = TaskBatches(task.train, recipe.batch_size, self.seed)
        small = removed(base.fresh(session), self.ticket.ticket(session))
        slimmed = Slimmed(base.fresh(session), checks=measure.WARM_UP + self.rounds, head_share=search.heads, neuron_share=search.neurons)
        plain = classification_loss(recipe.label_smoothing)
        whole_model = base.fresh(session)
        calls = {
            "whole": stepping(whole_model, plain, batches, recipe, device),
            "search": stepping(slimmed, slimming_loss(search.penalty), batches, recipe, device),
            "ticket": stepping(small, plain, batches, recipe, device),
            "check": slimmed.check,
        }
        seconds = measure.take_turns(calls, self.rounds, device)
        median = {name: float(torch.tensor(times, dtype=torch.float64).median()) for name, times in seconds.items()}
        drawn_step = search.drawn(session, self.ticket.draw)[1]
        checks = drawn_step / max(1, batches.steps // search.checks)
        whole = median["whole"] * recipe.epochs * batches.steps
        of_search = median["search"] * drawn_step + median["check"] * checks
        of_ticket = median["ticket"] * self.ticket.recipe.epochs * batches.steps
        metrics = {
            **{f"{name}_step_ms": 1000 * value for name, value in median.items()},
            "step_ratio": measure.ratio(seconds["ticket"], seconds["whole"])["ratio"],
            "search_share": of_search / whole,
            "ticket_share": of_ticket / whole,
            "time_ratio": (of_search + of_ticket) / whole,
            "time_ratio_same_epochs": (of_search + median["ticket"] * recipe.epochs * batches.steps) / whole,
            "whole_parameters": measure.parameters(whole_model),
            "ticket_parameters": measure.parameters(small),
        }
        return Outcome(significant(metrics), data=task.provenance())


def stepping(model: nn.Module, loss: Callable, batches: TaskBatches, recipe: Recipe, device: torch.device) -> Callable[[], None]:
    """A function that takes one training step, on the next batch each time; batches are made beforehand."""
    model.train()
    optimizers = optim.build(
        model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas, momentum=recipe.momentum
    )
    ready = [tuple(part.to(device) for part in batches.batch(0, step)) for step in range(min(4, batches.steps))]
    taken = 0

    def step() -> None:
        nonlocal taken
        tokens, labels = ready[taken % len(ready)]
        taken += 1
        with autocast(device, recipe.precision):
            value, _ = loss(model, tokens, labels)
        value.backward()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step
