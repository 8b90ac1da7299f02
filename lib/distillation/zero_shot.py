"""Zero-shot knowledge transfer (Micaelli and Storkey 2019, arXiv 1905.09768): no image, no label, only a trained teacher.

A generator looks for inputs on which the student disagrees with its teacher, and the student learns from them.  Each round
has one step of the generator and ten of the student, on the same pseudo images:

    L_G = - KL(teacher ‖ student),        L_S = KL(teacher ‖ student) + β · Σ ‖Â_t - Â_s‖²        (equations 1 to 3)

The generator differs from the released one in three places: that starts from 10 × 10 positions and enlarges them 1.6 times, then
twice, to 32 × 32; and its last batch norm has no scale and shift of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.attention_transfer import attention_loss, deepest
from lib.distillation.taps import Features, features
from lib.system.checks import require


class Generator(nn.Module):
    """Noise [B, Z] → pseudo images [B, C, side, side] of about mean 0 and variance 1, as normalised images are.

    Linear to ``width`` × side/4 × side/4 → BN → twice (nearest upsampling → conv → BN → LeakyReLU 0.2) → conv → BN: the
    authors' network, with widths 128, 128 and 64.  Raises ValueError for a side that is no multiple of 4.
    """

    def __init__(self, noise: int, side: int, channels: int, width: int = 128):
        super().__init__()
        require(side % 4 == 0, f"images of {side} pixels a side cannot be doubled twice: take a multiple of 4")
        self.start = (width, side // 4, side // 4)
        self.first = nn.Linear(noise, width * (side // 4) ** 2)
        layers, now = [nn.BatchNorm2d(width)], width
        for out in (width, width // 2):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(now, out, 3, padding=1), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
            now = out
        self.layers = nn.Sequential(*layers, nn.Conv2d(now, channels, 3, padding=1), nn.BatchNorm2d(channels))

    def forward(self, noise_BZ: Tensor) -> Tensor:
        return self.layers(self.first(noise_BZ).unflatten(1, self.start))


def divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher ‖ student) in nats, mean over the batch *and over the classes*, without T²; logits [B, classes].

    The division by the number of classes is ``F.kl_div``'s default and part of what the authors' β of 250 means: with a
    mean over the batch alone β would have to be that many times larger.  Gradients go to both, since the generator works
    through the teacher.
    """
    total = F.kl_div(
        F.log_softmax(student_logits / temperature, -1), F.log_softmax(teacher_logits / temperature, -1), reduction="sum", log_target=True
    )
    return total / student_logits.numel()


def student_loss(student: Features, teacher: Features, beta: float = 250.0, temperature: float = 1.0) -> Tensor:
    """L_S: :func:`divergence` + β · :func:`attention_loss` after every stage; β belongs to the latter's mean over
    positions.
    """
    matched = divergence(student.logits, teacher.logits, temperature)
    return matched + beta * attention_loss(*deepest(student.stages, teacher.stages)) if beta else matched


class Game(nn.Module):
    """Generator and student in one module, so that one training loop trains both; called with images, it is the student."""

    def __init__(self, student: nn.Module, generator: Generator):
        super().__init__()
        self.student, self.generator = student, generator
        self.pseudo: Tensor | None = None  # this round's images; made again at each round's start, so not saved

    def forward(self, images: Tensor) -> Tensor:
        return self.student(images)


class Rounds:
    """Noise for :func:`lib.training.loop.fit`: in each round ``[batch_size, noise]`` once, the generator's turn, and then for each
    of
    ``student_steps`` turns of the student an empty ``[0, noise]``, since the round's images are there already.

    A pure function of (seed, epoch, step).
    """

    def __init__(self, rounds: int, batch_size: int, noise: int, student_steps: int = 10, seed: int = 0):
        require(rounds >= 1 and student_steps >= 1, f"rounds is {rounds}, student_steps is {student_steps}: both must be at least 1")
        self.turns, self.steps = 1 + student_steps, rounds * (1 + student_steps)
        self.shape, self.seed = (batch_size, noise), seed

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        if step % self.turns:
            return torch.empty(0, self.shape[1]), torch.empty(0)
        digest = hashlib.sha256(f"noise/{self.seed}/{epoch}/{step}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return torch.randn(self.shape, generator=generator), torch.empty(0)


Lesson = Callable[[nn.Module, Tensor, Features], tuple[Tensor, Tensor]]


def usual_lesson(beta: float = 250.0, temperature: float = 1.0) -> Lesson:
    """lesson(student, images, teacher's features) → (L_S, the logits that listen to the teacher)."""

    def lesson(student: nn.Module, images: Tensor, taught: Features) -> tuple[Tensor, Tensor]:
        seen = features(student, images).float()
        return student_loss(seen, taught, beta, temperature), seen.logits

    return lesson


def zero_shot_loss(
    teacher: nn.Module, lesson: Lesson, heard: Callable[[nn.Module, Tensor], Tensor] | None = None, temperature: float = 1.0
):
    """A loss for :func:`lib.training.loop.fit` of a :class:`Game` on :class:`Rounds`.

    ``heard(student, images)`` gives the logits that the generator plays against; None: the student's own.  In the
    generator's turn the student's weights are held fixed (its batch norm sees the images, as in the authors' code); in the
    student's turn the images are. The value shown as the loss is the divergence alone, in either turn; the gradient is
    that of L_G or L_S.

    Logs ``teacher_confidence`` and ``student_confidence``: the mean probability of the likeliest class, and ``spread``: the
    entropy of the teacher's classes over the batch, as a share of the highest possible one.
    Puts the teacher into evaluation mode and freezes it.
    """
    teacher.eval().requires_grad_(False)
    heard = heard or (lambda student, images: student(images))

    def loss(game: Game, noise_BZ: Tensor, nothing: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if len(noise_BZ):
            images = game.generator(noise_BZ)
            game.pseudo = images.detach()
            with frozen(game.student):
                matched = divergence(heard(game.student, images).float(), teacher(images).float(), temperature)
            return shown(-matched, matched), {}
        images = game.pseudo
        with torch.no_grad():
            taught = features(teacher, images).float()
        total, logits = lesson(game.student, images, taught)
        matched = divergence(logits.detach(), taught.logits, temperature)
        beliefs = taught.logits.softmax(-1)
        share = F.one_hot(beliefs.argmax(-1), beliefs.shape[-1]).float().mean(0)
        spread = -torch.xlogy(share, share).sum() / torch.log(torch.tensor(float(len(share)), device=share.device))
        return shown(total, matched), {
            "teacher_confidence": beliefs.amax(-1).mean(),
            "spread": spread,
            "student_confidence": logits.detach().softmax(-1).amax(-1).mean(),
        }

    return loss


def shown(loss: Tensor, value: Tensor) -> Tensor:
    """A scalar with the gradient of one and the value of the other."""
    return loss - loss.detach() + value.detach()


class frozen:
    """Within this context no weight of the module gets a gradient; what flows through it does."""

    def __init__(self, module: nn.Module):
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)
