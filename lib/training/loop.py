"""One training loop for everything in the book: images or text, one process or several, any device.

    recipe = Recipe(epochs=20, batch_size=128, lr=1e-3)
    history = fit(model, batches, classification_loss(recipe.label_smoothing), recipe, seed=0,
                  evaluate=lambda model: evaluate_classifier(model, images.validation, images))

What is trained on is anything with ``steps`` (per epoch) and ``batch(epoch, step)``; what is minimised is a
function ``loss(model, inputs, targets)``.  A method of the book is such a loss, or an ``after_step`` hook.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.runs import checkpoint as training_state
from lib.system import distributed
from lib.system.checks import one_of, require
from lib.system.device import synchronise
from lib.system.precision import PRECISIONS, autocast
from lib.training import optim
from lib.training.ema import WeightAverage
from lib.training.log import Means, Watch, append, check_progress, joined
from lib.training.losses import Loss
from lib.training.random_state import random_state, reseed, set_random_state
from lib.training.schedule import SCHEDULES, rate

#: Steps between looks at the loss.  Looking makes the device wait, so it is not done at every step.
LOOK_EVERY = 100

#: Training state is written at most this often.
SAVE_EVERY_SECONDS = 60.0


class Batches(Protocol):
    steps: int

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one global batch; the same ones whenever asked."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How to train.  Raises ValueError, naming what is allowed, for a value that makes no sense.

    optimizer: "adamw", "sgd" (Nesterov) or "muon", see :func:`lib.training.optim.build`.
    betas: AdamW's.  momentum: of SGD and Muon (0.95 is usual for the latter).
    warmup: fraction of all steps in which the learning rate climbs to ``lr``; then it follows half a
    cosine, or with ``schedule="linear"`` a straight line, down to ``final_lr * lr``.
    clip: largest norm of the whole gradient, None for no limit.  ema: decay of the weight average that
    is evaluated and returned, None for none.
    precision: "bf16" computes forward and backward in bfloat16 by autocast; weights stay fp32.  "auto" does
    so where the device has units for it, see :mod:`lib.system.precision`.
    batch_size and label_smoothing are for those who build the batches and the loss.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    warmup: float = 0.1
    final_lr: float = 0.0
    label_smoothing: float = 0.0
    clip: float | None = 1.0
    ema: float | None = None
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    schedule: str = "cosine"

    def __post_init__(self):
        def must(holds: bool, name: str, allowed: str) -> None:
            require(holds, f"{name} is {getattr(self, name)!r}: it must be {allowed}")

        one_of("optimizer", self.optimizer, optim.OPTIMIZERS)
        one_of("precision", self.precision, PRECISIONS)
        one_of("schedule", self.schedule, SCHEDULES)
        must(self.epochs >= 0 and self.epochs == int(self.epochs), "epochs", "a whole number from 0")
        must(self.batch_size >= 1 and self.batch_size == int(self.batch_size), "batch_size", "a whole number from 1")
        must(0 < self.lr < math.inf, "lr", "a number above 0")
        must(0 <= self.weight_decay < math.inf, "weight_decay", "a number from 0")
        must(len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", "two numbers in [0, 1)")
        for name in ("momentum", "warmup", "label_smoothing"):
            must(0 <= getattr(self, name) < 1, name, "a number in [0, 1)")
        must(0 <= self.final_lr <= 1, "final_lr", "a number in [0, 1], a fraction of lr")
        must(self.clip is None or self.clip > 0, "clip", "a number above 0, or None")
        must(self.ema is None or 0 < self.ema < 1, "ema", "a number in (0, 1), or None")


@dataclass(frozen=True)
class History:
    """What training showed.

    curves: name → one value per epoch: ``train_loss``, ``lr`` (of the epoch's last step), ``seconds``
    (training time so far), the means of what the loss logged, and what ``evaluate`` returned.
    seconds: training time without evaluation.  epochs: how many were finished.
    diverged_at: the step, counted from 1, at which training was given up, or None; the unfinished
    epoch is then the last value of the curves, NaN for what was not evaluated any more.
    """

    curves: dict[str, list]
    seconds: float
    epochs: int
    diverged_at: int | None = None

    @property
    def diverged(self) -> bool:
        return self.diverged_at is not None


def fit(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    recipe: Recipe,
    *,
    seed: int,
    optimizers: list[Optimizer] | None = None,
    until: int | None = None,
    within_epochs: bool = False,
    evaluate: Callable[[nn.Module], dict[str, float | list]] | None = None,
    after_step: Callable[[nn.Module, int], None] | None = None,
    checkpoint: Path | None = None,
    report: Callable[[float, str], None] | None = None,
) -> History:
    """Train ``model`` where it is, and leave it in evaluation mode, with the averaged weights if any.

    loss(model, inputs, targets) returns the scalar to minimise and scalars to log as epoch means.  All
    that learns must be part of ``model``.  optimizers: ready-made ones, with rates of their own or with what
    they remember of an earlier run; None: those that the recipe asks for.  until: stop after this many of the
    recipe's epochs, as if killed there: the state is kept in ``checkpoint``, from which another call goes on, and the
    model holds the weights as trained, not their average.  evaluate(model) is called after each epoch, in evaluation
    mode, without gradients, on the averaged weights if any.  after_step(model, step) follows the
    optimiser's step number ``step``, from 1.  report(fraction, text) is told of progress.

    The global random state is set at each epoch from (seed, epoch), the same in every process, so draws
    inside the model repeat.  With ``checkpoint`` (a folder) the state is kept there at epoch ends, at most once
    a minute, and training continues from it, on the CPU to the bit; state that a hook keeps must be in the model's
    buffers.  within_epochs: keep it between two steps too, for a loss and hooks that remember nothing from one step
    to the next.  The caller removes the folder when the result is safe (``shutil.rmtree``).  A damaged state,
    or one of another training, is renamed to ``*.damaged`` and training starts again.

    Training that diverges (a loss that is not finite, or stays above three times its start) ends early
    with ``history.diverged``; it does not raise.

    Under ``torchrun`` each process takes its rows of every batch and gradients are averaged: the same
    numbers as in one process where a loss is a mean over rows, or asks the other processes for what it
    needs of the batch (the balance losses and the bias of :mod:`lib.moe.balance` do).  They differ where
    a layer sees only its share: batch norm, an expert's capacity, a random partition; and where it draws:
    every process draws the same dropout or noise for its own rows.
    """
    training = Training(model, batches, loss, recipe, seed, optimizers, after_step, report or (lambda fraction, text: None))
    if checkpoint:
        training.resume(checkpoint)
    last = recipe.epochs if until is None else min(until, recipe.epochs)
    while training.epoch < last and training.watch.diverged_at is None:
        values = training.run_epoch(checkpoint if within_epochs else None)
        if training.watch.diverged_at is None:
            if evaluate:
                values = joined(values, training.evaluate(evaluate), "evaluate")
            training.epoch += 1
        append(training.curves, values)
        if checkpoint and training.watch.diverged_at is None:
            training.save(checkpoint, now=training.epoch == until)
        training.report_progress(0, values)

    if training.average and last == recipe.epochs:
        training.average.apply()
    model.eval()
    # What follows draws the same random numbers whether training was resumed or not.
    reseed(seed, recipe.epochs)
    return History(training.curves, training.seconds, training.epoch, training.watch.diverged_at)


class Training:
    """The moving parts of one call of :func:`fit`."""

    def __init__(self, model, batches, loss, recipe, seed, optimizers, after_step, report):
        self.model, self.batches, self.recipe, self.seed = model, batches, recipe, seed
        self.after_step, self.report = after_step, report
        self.device = next(model.parameters()).device
        distributed.check_batch_size(recipe.batch_size)
        distributed.broadcast_model(model)
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        self.loss = loss
        if recipe.compile:
            # With the model inside it, since a loss may call other methods than forward.  What was compiled
            # for earlier models is dropped: after eight of them torch would stop compiling.
            torch.compiler.reset()
            self.loss = torch.compile(loss)
        self.optimizers = optimizers or optim.build(
            model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas, momentum=recipe.momentum
        )
        self.trained = [p for o in self.optimizers for group in o.param_groups for p in group["params"]]
        self.average = WeightAverage(model, recipe.ema) if recipe.ema else None
        self.epoch = self.step = 0
        self.means = Means()
        self.spent = 0.0  # seconds of the unfinished epoch before it was resumed
        self.curves: dict[str, list] = {}
        self.watch = Watch()
        self.saved = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.curves["seconds"][-1] if self.curves else 0.0

    def run_epoch(self, checkpoint: Path | None) -> dict[str, float]:
        """Train for one epoch, or for the rest of one, or until the loss diverges.  Returns its values for the curves."""
        self.model.train()
        if self.step == 0:
            reseed(self.seed, self.epoch)
        synchronise(self.device)
        self.begun, means, steps = time.perf_counter(), self.means, self.batches.steps
        for step in range(self.step, steps):
            means.add(self.run_step(step))
            self.step = step + 1
            first, last = self.epoch == step == 0, step + 1 == steps
            if first or last or (step + 1) % LOOK_EVERY == 0:
                recent = means.look()
                self.watch.look(recent["train_loss"], self.epoch * steps + step + 1)
                if self.watch.diverged_at is not None:
                    break
                if not last:
                    self.report_progress((step + 1) / steps, recent)
            if checkpoint and not last and distributed.world_size() == 1:  # others hold sums of their own
                self.save(checkpoint)
        synchronise(self.device)
        distributed.average(b for b in self.model.buffers() if b.is_floating_point())
        seconds = self.seconds + self.spent + time.perf_counter() - self.begun
        self.step, self.means, self.spent = 0, Means(), 0.0
        own = {"lr": self.optimizers[0].param_groups[0]["lr"], "seconds": seconds}
        return joined(own, means.epoch(), "the loss")

    def run_step(self, step: int) -> dict[str, Tensor]:
        """One optimiser step.  Nothing here may wait for the device."""
        recipe, taken = self.recipe, self.epoch * self.batches.steps + step
        inputs, targets = (self.place(part) for part in self.batches.batch(self.epoch, step))
        with autocast(self.device, recipe.precision):
            loss, logged = self.loss(self.model, inputs, targets)
        loss.backward()
        distributed.average_gradients(self.trained)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.trained, recipe.clip)
        optim.set_lr(self.optimizers, rate(recipe.schedule, taken, recipe.epochs * self.batches.steps, recipe.warmup, recipe.final_lr))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.after_step:
            self.after_step(self.model, taken + 1)
        if self.average:
            self.average.update(taken + 1)
        return joined({"train_loss": loss}, logged, "the loss")

    def place(self, part):
        """This process's share of a batch (a tensor, or a tuple of them), on the model's device."""
        if isinstance(part, tuple):
            return tuple(self.place(piece) for piece in part)
        part = distributed.shard(part).to(self.device, non_blocking=True)
        if self.recipe.channels_last and part.ndim == 4:
            part = part.contiguous(memory_format=torch.channels_last)
        return part

    @torch.no_grad()
    def evaluate(self, evaluate) -> dict[str, float | list]:
        self.model.eval()
        with self.average.applied() if self.average else contextlib.nullcontext():
            values = evaluate(self.model)
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values.items()}

    def report_progress(self, part: float, values: dict[str, float]) -> None:
        """Tell how far training is: ``part`` of the current epoch done, besides the finished ones."""
        if self.watch.diverged_at is not None:
            self.report(1.0, f"diverged at step {self.watch.diverged_at}")
            return
        shown = "".join(f" {name} {values[name]:.4g}" for name in ("train_loss", "loss", "accuracy") if name in values)
        done, epochs = self.epoch + part, self.recipe.epochs
        self.report(done / epochs, f"epoch {done:.3g}/{epochs}{shown}")

    def identity(self) -> dict:
        return {
            "recipe": dataclasses.asdict(self.recipe) | {"betas": list(self.recipe.betas)},
            "seed": self.seed,
            "steps": self.batches.steps,
        }

    def save(self, folder: Path, now: bool = False) -> None:
        """Write the state, if the last time is long enough ago or it must be ``now``."""
        if not distributed.is_main() or not now and time.perf_counter() - self.saved < SAVE_EVERY_SECONDS:
            return
        average = self.average.average if self.average else {}
        tensors = training_state.tensors_of(self.model, self.optimizers, average) | self.means.tensors()
        record = {
            "training": self.identity(),
            "epoch": self.epoch,
            "step": self.step,
            "curves": self.curves,
            "watch": dataclasses.asdict(self.watch),
            "means": self.means.counts_and_sums(),
            "spent": self.spent + time.perf_counter() - self.begun if self.step else 0.0,
        }
        if self.step:
            tensors |= random_state(self.device)
        training_state.save(folder, tensors, record)
        self.saved = time.perf_counter()

    def resume(self, folder: Path) -> None:
        """Go on from the state in ``folder``.  The main process reads it first: it may have to set it aside."""
        if distributed.is_main():
            self.restore(folder)
        distributed.barrier()
        if not distributed.is_main():
            self.restore(folder)

    def restore(self, folder: Path) -> None:
        state = training_state.load(folder)
        if state is None:
            return
        tensors, record = state
        try:
            if record["training"] != self.identity():
                raise ValueError("written with another recipe, seed or number of steps")
            epoch, step, curves, watch = record["epoch"], record["step"], record["curves"], Watch(**record["watch"])
            check_progress(epoch, step, curves, watch, self.recipe.epochs, self.batches.steps)
            means, spent = Means.restored(record["means"], tensors, self.device), float(record["spent"])
            if step:  # first, since it may refuse; training that starts again seeds itself
                set_random_state(self.device, tensors)
            training_state.restore(tensors, self.model, self.optimizers, self.average.average if self.average else {})
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            training_state.set_aside(folder, f"it does not fit ({error})")
            return
        self.epoch, self.step, self.curves, self.watch, self.means, self.spent = epoch, step, curves, watch, means, spent
