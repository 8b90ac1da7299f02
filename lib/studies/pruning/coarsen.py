"""Tickets in whole channels and in dense groups: one level of coarse iterative pruning, trained, taken apart and timed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import nn

from lib.data.images import normalise
from lib.measure import cost as measure
from lib.measure.cost import ratio, take_turns
from lib.pruning.coarsen import FORMS, closed, coarsened, fewer_channels
from lib.pruning.mask import Masks, attach, bake, density, layers, ones, prunable
from lib.pruning.physical import remove
from lib.pruning.sparse import sparse, stored
from lib.pruning.tickets import next_masks
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import tested
from lib.studies.pruning.dense import DenseRun, build
from lib.studies.pruning.tickets import remaining, trained_level
from lib.system.checks import one_of, require

#: The rules of :mod:`lib.pruning.coarsen`, and what they are compared with: channels pruned directly, and plain tickets.
COMPARED = (*FORMS, "channels", "unstructured")


@dataclass(frozen=True, kw_only=True)
class CoarseRun(Spec):
    """One level: prune the parent's weights, make the mask coarse, go back to the rewinding point, train, measure.

    The parent is the level before, or the dense network.  All levels of a chain have the same settings: see :func:`levels`.

    ``form``    see :data:`COMPARED`.  "channels": of each layer's channels the share ``amount`` with the least L1 norm goes
    ``amount``  share of the weights still there that go, by magnitude, all layers together but the first and the last
    ``rewind``  step of the dense training to which survivors go back; it must be among its snapshots
    ``timed``   images in the batch that is timed
    ``rounds``  in which the dense, the masked and the small network take turns
    """

    experiment: ClassVar[str] = "pruning-coarsen"

    parent: DenseRun | CoarseRun
    form: str = "refill"
    amount: float = 0.2
    rewind: int = 0
    timed: int = 64
    rounds: int = 15

    def __post_init__(self) -> None:
        one_of("form", self.form, COMPARED)
        require(0 < self.amount < 1, f"amount is {self.amount}: it must be a share of the weights that are left, in (0, 1)")
        require(
            self.rewind in self.dense.snapshots,
            f"rewind is {self.rewind}, but the dense network's snapshots are {self.dense.snapshots}: add that step to them",
        )
        require(
            self.timed >= 1 and self.rounds >= 2, f"timed {self.timed} and rounds {self.rounds}: at least 1 image and 2 rounds are needed"
        )

    @property
    def dense(self) -> DenseRun:
        """The network that the chain of levels begins with."""
        return self.parent.dense if isinstance(self.parent, CoarseRun) else self.parent

    @property
    def level(self) -> int:
        return self.parent.level + 1 if isinstance(self.parent, CoarseRun) else 1

    def run(self, session: Session) -> Outcome:
        dense = self.dense
        images, shape = dense.images(session), dense.images(session).shape
        masks = self.found(session, shape)
        model = attach(dense.load(session, self.rewind), masks)
        record = trained_level(model, dense, images, remaining(dense, images, self.rewind), self.rewind, self.seed, session.report)
        whole = dense.load(session)
        small = taken_apart(self.form, model, masks, shape)
        inputs = normalise(images.validation.images[: self.timed], images)
        metrics = {
            "level": self.level,
            "density": density(masks),
            "channels": channels_left(masks),
            **{name: record[name] for name in ("diverged", "train_seconds", "val_accuracy", "test_accuracy")},
            **{f"dense_{name}": value for name, value in tested(whole, images, dense.recipe).items()},
            **timings(self.form, whole, model, small, inputs, self.rounds, session.device),
        }
        session.save_weights(bake(model), masks=masks)
        return Outcome(significant(metrics), {"val_accuracy": record["val_curve"]}, data=images.provenance())

    def found(self, session: Session, shape: tuple[int, ...]) -> Masks:
        """This level's masks, closed: no kernel is left that nothing flows through."""
        trained, before = self.before(session)
        weights = {name: weight.detach() for name, weight in prunable(trained).items()}
        middle = list(weights)[1:-1]
        if self.form == "channels":
            survivors = {name: fewer_channels(before[name], weights[name].abs(), self.amount) for name in middle}
        else:
            survivors = next_masks({name: weights[name] for name in middle}, {name: before[name] for name in middle}, self.amount)
        survivors = {name: survivors.get(name, before[name]) for name in before}
        if self.form in FORMS:
            survivors = coarsened(self.form, survivors, weights)
        return closed(trained, survivors, shape)

    def before(self, session: Session) -> tuple[nn.Module, Masks]:
        """The network that is pruned, and its masks."""
        if isinstance(self.parent, DenseRun):
            trained = self.parent.load(session)
            return trained, ones(prunable(trained))
        tensors = load_file(session.weights(self.parent))
        model = build(self.dense.model, self.seed)
        model.load_state_dict({name: tensors[name] for name in model.state_dict()})
        masks = {name: tensors[f"masks.{name}"].to(session.device) for name in layers(model)}
        return model.to(session.device).eval(), masks


def levels(first: CoarseRun, number: int) -> list[CoarseRun]:
    """The chain of levels that begins with ``first``."""
    chain = [first]
    while len(chain) < number:
        chain.append(replace(first, parent=chain[-1]))
    return chain


def taken_apart(form: str, model: nn.Module, masks: Masks, shape: tuple[int, ...]) -> nn.Module:
    """The form in which such a network would be used: without its empty channels; with dense groups; compressed rows."""
    small = remove(model, masks, shape)
    layout = {"regroup": "groups", "unstructured": "csr"}.get(form)
    return sparse(small, layout) if layout else small


def channels_left(masks: Masks) -> float:
    """Share of the output channels, of all layers but the last, that have a weight."""
    alive = [mask.flatten(1).any(1) for mask in list(masks.values())[:-1]]
    return float(torch.cat(alive).float().mean())


@torch.no_grad()
def timings(
    form: str, dense: nn.Module, masked: nn.Module, small: nn.Module, inputs: torch.Tensor, rounds: int, device: torch.device
) -> dict[str, float]:
    """Costs of the three, in turns.  Ratios are of times, to the dense network's: below 1 is faster.

    Operations of products with compressed rows are not counted.
    """
    # Training may have left a network in another memory format than the one that was loaded.
    networks = {
        name: network.eval().to(memory_format=torch.contiguous_format)
        for name, network in (("dense", dense), ("masked", masked), ("small", small))
    }
    inputs = inputs.contiguous()
    calls = {name: lambda network=network: network(inputs) for name, network in networks.items()}
    seconds = take_turns(calls, rounds, device)
    found = {f"{name}_ms": 1000 * statistics.median(values) for name, values in seconds.items()}
    for name in ("masked", "small"):
        found |= {f"{name}_{what}": value for what, value in ratio(seconds[name], seconds["dense"]).items()}
    one = inputs[:1]
    found |= {
        "dense_flops": measure.flops(dense, one),
        "dense_parameters": stored(dense),
        "small_parameters": stored(small),
        "difference": (small(inputs) - masked(inputs)).abs().max().item(),
    }
    return found if form == "unstructured" else found | {"small_flops": measure.flops(small, one)}
