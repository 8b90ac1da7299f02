"""The frames and numbers that the teachers chapter's figures draw: the zero-shot game, walks between classes, exits."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch

from lib.distillation import early_exit
from lib.distillation.exits import ExitConfig, ExitNet
from lib.distillation.zero_shot import Game, Generator, divergence, usual_lesson, zero_shot_loss
from lib.models.resnet import ResNet, ResNetConfig
from lib.runs.results import Result
from lib.studies.teachers.names import method, student

#: Curves of the zero-shot game, in words.
GAME = {
    "teacher_confidence": "teacher is sure",
    "student_confidence": "student is sure",
    "spread": "spread of classes",
    "val_accuracy": "validation accuracy",
}


def one_round() -> list[float]:
    """Return how far student and teacher are apart on generated images before a round, after the generator moved once, and after the
    student moved ten times: of two untrained networks of which the teacher was made surer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ResNetConfig((4, 8), (1, 1), channels=1)
        teacher, learner, generator = ResNet(config), ResNet(config), Generator(16, 8, 1, width=8)
        with torch.no_grad():
            for weight in list(teacher.parameters())[-2:]:  # the linear classifier
                weight *= 20
        noise, game, loss = torch.randn(64, 16), Game(learner, generator), zero_shot_loss(teacher, usual_lesson(beta=0.0))

        def apart() -> float:
            with torch.no_grad():
                return divergence(learner(generator(noise)), teacher(generator(noise))).item()

        found = [apart()]
        for mover, steps in ((generator, 1), (learner, 10)):
            moves = torch.optim.SGD(mover.parameters(), lr=1.0)
            for _ in range(steps):
                moves.zero_grad()
                loss(game, noise if mover is generator else noise[:0], noise)[0].backward()
                moves.step()
            found.append(apart())
    return found


def game_curves(run: Result) -> pd.DataFrame:
    """Return how sure teacher and student are in the course of the game, and how evenly classes are spread."""
    return pd.DataFrame(
        [{"method": told, "step": step + 1, "value": value} for name, told in GAME.items() for step, value in enumerate(run.curves[name])]
    )


def walks(runs: Iterable[Result]) -> pd.DataFrame:
    """Return the ``belief`` of student and teacher in the class that is walked to, by ``step``."""
    return pd.DataFrame(
        [
            {"method": f"{student(r)}: {who}", "step": step, "belief": value}
            for r in runs
            for who in ("student", "teacher")
            for step, value in enumerate(r.curves[who])
        ]
    )


def by_exit(runs: Iterable[Result]) -> pd.DataFrame:
    """Return the test ``accuracy`` of each ``classifier``, from the shallowest to the deepest."""
    return pd.DataFrame(
        [
            {"method": method(r), "seed": r.fields["seed"], "classifier": place, "accuracy": value}
            for r in runs
            for place, value in enumerate(r.arrays["test_accuracy_by_exit"], 1)
        ]
    )


def leaving() -> tuple[list[float], list[list[float]], list[int], list[float]]:
    """Return thresholds, highest probabilities of four made-up images at three classifiers, where they leave, and the work until there."""
    highest = torch.tensor([[0.97, 0.99, 0.99], [0.62, 0.91, 0.94], [0.55, 0.71, 0.83], [0.93, 0.88, 0.90]])
    limits = [0.90, 0.85]
    gone, _ = early_exit.leave(torch.stack([highest, 1 - highest], -1).transpose(0, 1), limits)
    with torch.random.fork_rng():
        paid = early_exit.exit_flops(ExitNet(ExitConfig(ResNetConfig(), places=(1, 2))), (3, 32, 32))
    return limits, highest.tolist(), gone.tolist(), [flops / paid[-1] for flops in paid]


def alone_points(trained: Result, plain: Result) -> dict[str, tuple[float, float]]:
    """Return work and test accuracy of the plain network, and of each classifier that decides for all images."""
    found = {"plain network": (plain.metrics["flops_per_image"], plain.metrics["test_accuracy"])}
    pairs = list(zip(trained.arrays["flops_by_exit"], trained.arrays["test_accuracy_by_exit"]))
    found |= {f"classifier {place} alone": pair for place, pair in enumerate(pairs[:-1], 1)}
    return found | {"deepest alone": (plain.metrics["flops_per_image"], pairs[-1][1])}
