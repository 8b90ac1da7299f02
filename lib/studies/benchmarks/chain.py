"""Going on from a trained network in stages, each of which makes it cheaper to use or better: the benchmarks chapter's second Spec.

ChainRun(parent=StartRun(task=task, share=0.5), stages=(Prune(0.25), Quantize(4)))
ChainRun(parent=StartRun(task=task, method=Elastic()), cut="small")
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from lib.data.images import ImageSet
from lib.distillation.exits import ExitNet
from lib.distillation.leaving import EarlyExit
from lib.privacy.deployed import DeployedReLU
from lib.pruning.mask import sparsity
from lib.quantization.fold import baked
from lib.runs.results import Outcome, Result, significant
from lib.runs.spec import Spec
from lib.runs.store import Session, run_once
from lib.studies.base.weights import loaded
from lib.studies.benchmarks.exits import exit_row
from lib.studies.benchmarks.rows import row
from lib.studies.benchmarks.stage import Setting, Stage, followed, forward_flops
from lib.studies.benchmarks.stages import Distil, Exits, Prune, Quantize, Remove, Replace
from lib.studies.benchmarks.start import StartRun
from lib.studies.benchmarks.task import TRAINING
from lib.studies.benchmarks.work import Phase, Trained, step_memory
from lib.system.checks import require
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import fit


@dataclass(frozen=True, kw_only=True)
class ChainRun(Spec):
    """Cut a network out of the parent's, where it is elastic, and train it on in ``stages``.

    ``cut``     "whole", "middle" or "small" of an elastic parent; None of another
    ``stages``  see :mod:`lib.studies.benchmarks.stages`; none: the cut itself is judged
    ``share``   of the task's budget, in equal parts for the stages.  What a stage spends before its training (on finding out
                which units matter, say) comes out of its part; finding codes and masks is not counted

    Metrics as :class:`~lib.studies.benchmarks.start.StartRun` has them; ``train_flops`` and ``train_seconds_total`` are
    the parent's too, ``diverged`` looks at both, the others of training are this run's own.  ``density``: share of the
    layers' weights that are not zero.  ``relus``, ``all_relus`` where some were replaced; for early exits see
    :func:`lib.studies.benchmarks.exits.exit_row`.
    Arrays: ``stages``, what each one took and the validation accuracy after it, before anything was rounded to 16 bits.

    Raises ValueError for stages in an order that makes no sense.
    """

    experiment: ClassVar[str] = "benchmark-chain"

    parent: StartRun
    cut: str | None = None
    stages: tuple[Stage, ...] = ()
    share: float = 0.5

    def __post_init__(self) -> None:
        check_order(self.stages)
        require(0 < self.share <= 1, f"share is {self.share}: it must be a part of the budget in (0, 1]")
        require(
            (self.cut is None) == (not self.parent.cuts) and (self.cut is None or self.cut in self.parent.cuts),
            f"cut is {self.cut!r}: name one of {', '.join(self.parent.cuts)}"
            if self.parent.cuts
            else f"cut is {self.cut!r}, but only an elastic parent can be cut: leave it at None",
        )
        require(
            self.parent.family == "cnn" or not any(isinstance(stage, (Replace, Exits)) for stage in self.stages),
            "Replace and Exits are for convolutional networks: give a parent of the family 'cnn'",
        )
        optimizer = self.parent.task.recipe(self.parent.family).optimizer
        require(
            optimizer == "adamw" or not any(isinstance(stage, (Quantize, Replace)) for stage in self.stages),
            f"optimizer is {optimizer!r}: codebooks and scores of ReLUs need 'adamw'",
        )

    def run(self, session: Session) -> Outcome:
        task, before = self.parent.task, self.parent_result(session).metrics
        images, precision = task.images(session.device), task.recipe(self.parent.family).precision
        model, phases, accuracies, spent = self.start(session), [], [], 0.0
        for number in range(len(self.stages)):
            first = before["steps"] + sum(phase.steps for phase in phases)
            model, phase, extra = self.pass_stage(number, model, images, first, session)
            phases.append(phase)
            accuracies.append(evaluate_classifier(model, images.validation, images, precision=precision)["accuracy"])
            spent += extra
        model = baked(copy.deepcopy(model)).eval()
        arrays = {
            "stages": [
                {"stage": type(stage).__name__, "steps": phase.steps, "seconds": phase.history.seconds, "val_accuracy": accuracy}
                for stage, phase, accuracy in zip(self.stages, phases, accuracies)
            ]
        }
        if isinstance(model, ExitNet):
            judged = exit_row(model, images, precision, session.folder, self.seed)
            model, metrics, answers = judged.model, judged.metrics, judged.arrays
        else:
            metrics, answers = row(model, images, precision, session.folder)
        session.save_weights(model)
        metrics |= self.spent(phases, spent, before) | {"density": 1 - sparsity(model)} | relus(model)
        curves = Trained(model, tuple(phases)).curves if phases else {}
        return Outcome(significant(metrics), significant(curves), significant(answers | arrays), images.provenance())

    def pass_stage(self, number: int, model: nn.Module, images: ImageSet, first: int, session: Session) -> tuple[nn.Module, Phase, float]:
        """The network after a stage, its training, and the FLOPs that it took before that."""
        stage, task, family = self.stages[number], self.parent.task, self.parent.family
        teacher = functools.cache(lambda: self.teacher(session))
        setting = Setting(task, family, images, self.share / len(self.stages), self.seed, first, teacher)
        model, extra = stage.begin(model, setting)
        step_flops = TRAINING * forward_flops(model, task.shape)
        if stage.taught:
            step_flops += forward_flops(teacher(), task.shape)
        left = setting.share - extra / task.training_flops(images, family)
        require(left > 0, f"{stage} has no budget left for its training: give the task more epochs, or the chain more of it")
        batches, recipe = task.phase(images, family, left, step_flops, self.seed, first)
        recipe = replace(recipe, compile=False)  # masks and codes change under way
        training = stage.training(model, batches, recipe, setting)
        history = fit(
            model,
            batches,
            training.loss,
            recipe,
            seed=self.seed + 100 * number,
            optimizers=training.optimizers,
            after_step=followed(model, training.after_step, recipe.epochs * batches.steps),
            evaluate=lambda model: {
                "val_accuracy": evaluate_classifier(model, images.validation, images, precision=recipe.precision)["accuracy"]
            },
            checkpoint=session.checkpoint / f"stage{number}",
            report=lambda part, text: session.report((number + part) / len(self.stages), text),
        )
        training.finish(model)
        steps = history.diverged_at or batches.steps * history.epochs
        phase = Phase(
            share=1 / len(self.stages),
            history=history,
            steps=steps,
            step_flops=step_flops * recipe.batch_size,
            peak_bytes=step_memory(model, batches, training.loss, recipe),
        )
        return stage.end(model).eval(), phase, extra

    def spent(self, phases: list[Phase], extra: float, before: dict) -> dict[str, float | bool | None]:
        """Metrics of the runs, the parent's included where the name says so."""
        if phases:
            own = Trained(None, tuple(phases)).spent
        else:
            own = {
                "own_train_flops": 0.0,
                "train_seconds": 0.0,
                "train_peak_bytes": before["train_peak_bytes"],
                "steps": 0,
                "diverged": False,
            }
        flops = own["own_train_flops"] + extra
        return own | {
            "own_train_flops": flops,
            "train_flops": flops + before["train_flops"],
            "train_seconds_total": own["train_seconds"] + before["train_seconds_total"],
            "diverged": own["diverged"] or before["diverged"],
        }

    def parent_result(self, session: Session) -> Result:
        """What is known of the parent, whose weights are on this machine afterwards."""
        session.weights(self.parent)
        return run_once(self.parent, replace(session, spec=self.parent), replay=True)

    def start(self, session: Session) -> nn.Module:
        """The network that the first stage gets."""
        return self.parent.load(session, self.cut)

    def teacher(self, session: Session) -> nn.Module:
        """The parent's whole network."""
        return self.parent.load(session)

    def load(self, session: Session) -> nn.Module:
        """The finished network without masks and codebooks, in evaluation mode; trained first where it is not here.

        Its weights have 32 bits: it is judged as :func:`lib.studies.benchmarks.rows.shipped` gives it back.  With early
        exits it is an :class:`~lib.distillation.leaving.EarlyExit`, which computes of each image what it needs.
        """
        model, task, family = self.start(session), self.parent.task, self.parent.family
        for stage in self.stages:
            model = stage.form(model, task, family)
        if isinstance(model, ExitNet):
            model = EarlyExit(model, [0.0] * (model.count - 1))
        return loaded(self, model, session)


def check_order(stages: tuple[Stage, ...]) -> None:
    """Raises ValueError, saying what to do, where a stage would undo an earlier one or cannot come that late."""
    for number, stage in enumerate(stages):
        earlier = stages[:number]
        require(
            not (isinstance(stage, Distil) and stage.size is not None and earlier),
            "Distil with a size begins with a new network, so what stages before it did would be lost: put it first",
        )
        require(
            not (isinstance(stage, Remove) and any(isinstance(other, (Prune, Quantize, Replace)) for other in earlier)),
            "Remove takes units away that masks and codes were made for: put it before Prune, Quantize and Replace",
        )
        require(
            not any(isinstance(other, Exits) for other in earlier),
            "Exits need a run of their own kind, which no other stage goes on with: put them last",
        )
        require(
            not (isinstance(stage, (Quantize, Replace)) and any(type(other) is type(stage) for other in earlier)),
            f"{type(stage).__name__} comes twice: once is enough",
        )


def relus(model: nn.Module) -> dict[str, int]:
    """``relus`` that are left of ``all_relus``, where some were replaced."""
    layers = [module for module in model.modules() if isinstance(module, DeployedReLU)]
    if not layers:
        return {}
    return {"relus": sum(layer.count for layer in layers), "all_relus": sum(layer.mask.numel() for layer in layers)}
