"""Specs for the tests of the store, and a program that obtains some of them: ``store_specs.py KIND STORE LOG``."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lib.runs.spec import Spec
from lib.runs.store import Outcome, Store, Unavailable, obtain
from lib.system import distributed
from lib.training import loop as train


def log(line: str) -> None:
    """One line in the file that LOG names; a single short append is never torn by another process's."""
    if path := os.environ.get("LOG"):
        with open(path, "ab", buffering=0) as out:
            out.write(f"{line}\n".encode())


def pause() -> None:
    time.sleep(float(os.environ.get("PAUSE", "0")))


@dataclass(frozen=True, kw_only=True)
class Logged(Spec):
    """Says in the log that it ran; 13 is never available."""

    experiment = "test-logged"

    name: str
    rate: float = 1.0

    def run(self, session):
        log(f"{self.name} {distributed.rank()}")
        if self.name == "thirteen":
            raise Unavailable("thirteen needs a lucky machine")
        pause()
        session.report(0.5, "half")
        return Outcome({"length": len(self.name), "value": self.rate * (self.seed + 1)}, curves={"loss": [3.0, 2.0]}, data={"name": "none"})


@dataclass(frozen=True, kw_only=True)
class Teacher(Spec):
    """Leaves weights for others."""

    experiment = "test-teacher"

    def run(self, session):
        log("teacher")
        if distributed.is_main():  # which so writes later than others want to read
            pause()
        session.save_weights(nn.Linear(2, 2))
        return Outcome({"made": 1})


@dataclass(frozen=True, kw_only=True)
class Pupil(Spec):
    experiment = "test-pupil"

    name: str = "one"

    def run(self, session):
        log(f"pupil {self.name}")
        return Outcome({"bytes": session.weights(Teacher(seed=self.seed)).stat().st_size})


class Points:
    """Batches of a small regression task, a function of (epoch, step)."""

    steps = 4

    def batch(self, epoch, step):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(100 * epoch + step))
        return x, x.sum(1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class Trained(Spec):
    """Trains for a while with checkpoints at each epoch; dropout makes the random state matter."""

    experiment = "test-trained"

    epochs: int = 4

    def run(self, session):
        log(f"run {self.key}")
        torch.manual_seed(self.seed)
        model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

        def loss(model, x, y):
            return nn.functional.mse_loss(model(x), y), {}

        def after_step(model, step):
            if step % Points.steps == 1:
                log(f"epoch {self.key} {step // Points.steps}")
            pause()

        recipe = train.Recipe(epochs=self.epochs, batch_size=8, lr=0.01)
        history = train.fit(
            model, Points(), loss, recipe, seed=self.seed, after_step=after_step, checkpoint=session.checkpoint, report=session.report
        )
        curves = {name: curve for name, curve in history.curves.items() if name != "seconds"}
        return Outcome({"weight": model[0].weight.sum().item(), "loss": curves["train_loss"][-1]}, curves)


SETS = {
    "logged": [Logged(name=name) for name in ("one", "two", "three", "four", "five", "six")],
    "pupils": [Pupil(name="one"), Pupil(name="two")],
    "trained": [Trained(seed=seed) for seed in range(6)],
}


def main() -> None:
    kind, folder = sys.argv[1:]
    torch.set_num_threads(1)
    train.SAVE_EVERY_SECONDS = 0.0
    distributed.setup()
    results = obtain(SETS[kind], store=Store(Path(folder) / "reference", Path(folder) / "own"), device="cpu")
    if distributed.is_main():
        print(*(result.key for result in results))
    distributed.shutdown()


if __name__ == "__main__":
    main()
