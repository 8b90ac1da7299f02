"""Sparse Cocktail: training many sparse networks in one, with or without dense steps, and merging the stages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from lib.data.images import ImageSet, Split
from lib.pruning.cocktail import PATTERNS, State, Turns, cocktail_loss, merged, unified
from lib.pruning.mask import Masks, attach, bake, density, ones, prunable, set_masks
from lib.runs import checkpoint as training_state
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import scored
from lib.studies.pruning.dense import DenseRun, build
from lib.studies.pruning.tickets import remaining
from lib.system.checks import one_of, require
from lib.training.batch_norm import reestimate
from lib.training.loop import fit

#: See :class:`CocktailRun`.
EQUAL = ("sparse steps", "updates")

#: Whose weights the sparse networks wear: each stage its own, all those of the last stage, or all the merged ones.
VARIANTS = ("own", "last", "merged")


@dataclass(frozen=True, kw_only=True)
class CocktailRun(Spec):
    """Train the parent's network in stages, with masks of all patterns that take turns; then merge and evaluate.

    Each sparse network gets batch-norm statistics of its own before it is evaluated, from training batches: patterns that
    share them would be judged by the mixture.  (The authors share them.)

    ``rewind``    step of the parent's training to which weights go back before each stage; one of its snapshots
    ``stages``    how many; the parent's training is the one before the first
    ``pivot``     whether a dense step stands before each sparse one; see :class:`lib.pruning.cocktail.Turns`
    ``equal``     what a run without dense steps has as many of as one with them: "sparse steps", or "updates" in all
    ``distil``    share of a sparse step's loss that the dense network's output has
    ``amount``    share of the weights that goes at each stage, unstructured; ``channels``: of the channels
    ``held``      validation images by which coefficients of merging are chosen
    ``batches``   training batches for the statistics
    """

    experiment: ClassVar[str] = "pruning-cocktail"

    parent: DenseRun
    rewind: int
    stages: int = 10
    pivot: bool = True
    distil: float = 0.5
    amount: float = 0.2
    channels: float = 0.1
    held: int = 1000
    batches: int = 10
    equal: str = "sparse steps"

    def __post_init__(self) -> None:
        one_of("equal", self.equal, EQUAL)
        require(
            self.rewind in self.parent.snapshots,
            f"rewind is {self.rewind}, but the parent's snapshots are {self.parent.snapshots}: add that step to them",
        )
        require(
            self.stages >= 1 and self.held >= 1 and self.batches >= 1,
            f"stages {self.stages}, held {self.held} and batches {self.batches} must be at least 1",
        )
        for name in ("amount", "channels"):
            require(0 < getattr(self, name) < 1, f"{name} is {getattr(self, name)}: it must be a share in (0, 1)")
        require(0 <= self.distil <= 1, f"distil is {self.distil}: it must be a share of the loss, in [0, 1]")

    def run(self, session: Session) -> Outcome:
        images = self.parent.images(session)
        states, masks, seconds = self.trained(images, session)
        judge = Judge(self, images, build(self.parent.model, self.seed).to(session.device), masks)
        held = images.validation.first(self.held)

        def score(state: State, stages: int) -> float:
            found = judge.accuracies([state] * stages, held, dense=False)
            return sum(map(sum, found.values())) / sum(map(len, found.values()))

        whole, coefficients = merged(states, score)
        sets = {"own": states, "last": [states[-1]] * self.stages, "merged": [whole] * self.stages}
        metrics, arrays = {"train_seconds": seconds}, {}
        for variant in VARIANTS:
            for part, split in (("val", images.validation), ("test", images.test)):
                found = judge.accuracies(sets[variant], split)
                sparse = [accuracy for pattern in PATTERNS for accuracy in found[pattern]]
                metrics |= {f"{part}_accuracy_{variant}": sum(sparse) / len(sparse), f"{part}_dense_{variant}": found["dense"][-1]}
                arrays |= {f"{part}_{variant}": [found[pattern] for pattern in PATTERNS]}
        arrays |= {"density": [[density(stage[pattern]) for stage in masks] for pattern in PATTERNS], "coefficients": coefficients}
        return Outcome(significant(metrics), arrays=significant(arrays), data=images.provenance())

    def trained(self, images: ImageSet, session: Session) -> tuple[list[State], list[dict[str, Masks]], float]:
        """Weights and masks of each stage, and the seconds of all.  Finished stages survive an interruption."""
        folder, device = session.checkpoint / "stages", session.device
        dense = self.parent.load(session)
        names, latest = list(prunable(dense)), dense.state_dict()
        states: list[State] = []
        masks: list[dict[str, Masks]] = []
        seconds = 0.0
        if stored := training_state.load(folder):
            tensors, record = stored
            seconds = record["seconds"]
            for stage in range(record["stages"]):
                states.append({name: tensors[f"{stage}.weights.{name}"].to(device) for name in latest})
                masks.append({pattern: {name: tensors[f"{stage}.{pattern}.{name}"].to(device) for name in names} for pattern in PATTERNS})
        before = masks[-1] if masks else {pattern: ones(prunable(dense)) for pattern in PATTERNS}
        for stage in range(len(states) + 1, self.stages + 1):
            latest = states[-1] if states else latest
            weights = {name: latest[f"{name}.weight"] for name in names}
            before = unified(weights, before, stage, self.stages, self.amount, self.channels)
            model = attach(self.parent.load(session, self.rewind))
            turns = Turns(self.parent.batches(images, first=self.rewind), model, before, self.pivot, self.equal == "updates")
            recipe = remaining(self.parent, images, self.rewind)
            history = fit(
                model,
                turns,
                cocktail_loss(turns, self.distil, recipe.label_smoothing),
                recipe,
                seed=self.seed,
                checkpoint=session.checkpoint / f"stage{stage}",
                report=told(session.report, stage, self.stages),
            )
            set_masks(model, turns.masks["dense"])
            states.append({name: value.clone() for name, value in bake(model).state_dict().items()})
            masks.append(before)
            seconds += history.seconds
            keep = {f"{number}.weights.{name}": value for number, state in enumerate(states) for name, value in state.items()}
            keep |= {
                f"{number}.{pattern}.{name}": mask
                for number, found in enumerate(masks)
                for pattern, kept in found.items()
                for name, mask in kept.items()
            }
            training_state.save(folder, keep, {"stages": stage, "seconds": seconds})
            shutil.rmtree(session.checkpoint / f"stage{stage}", ignore_errors=True)
        return states, masks, seconds


@dataclass(frozen=True)
class Judge:
    """Evaluates sparse networks: ``model`` is the network that wears weights and masks."""

    spec: CocktailRun
    images: ImageSet
    model: nn.Module
    masks: list[dict[str, Masks]]

    def accuracies(self, states: list[State], split: Split, dense: bool = True) -> dict[str, list[float]]:
        """Accuracy of each pattern at the first stages, as many as there are ``states``, and of the dense network."""
        return {
            pattern: [self.accuracy(state, stage.get(pattern), split) for state, stage in zip(states, self.masks)]
            for pattern in (*PATTERNS, *["dense"] * dense)
        }

    def accuracy(self, state: State, masks: Masks | None, split: Split) -> float:
        parent = self.spec.parent
        bake(self.model).load_state_dict(state)
        attach(self.model, masks)
        reestimate(self.model, parent.batches(self.images), self.spec.batches)
        return scored(self.model, split, self.images, parent.recipe, "own")["own_accuracy"]


def told(report: Callable[[float, str], None], stage: int, stages: int) -> Callable[[float, str], None]:
    return lambda part, text: report((stage - 1 + part) / stages, f"stage {stage}: {text}")
