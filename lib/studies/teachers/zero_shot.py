"""Students that never see an image: the Specs on zero-shot knowledge transfer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.data.images import ImageSet, Split, normalise
from lib.distillation.exits import ExitConfig, ExitNet
from lib.distillation.skeptical import whispered
from lib.distillation.taps import Features
from lib.distillation.transition import transition_curves, transition_error
from lib.distillation.zero_shot import Game, Generator, Rounds, usual_lesson, zero_shot_loss
from lib.measure import cost as measure
from lib.models.resnet import ResNetConfig
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import scored, tested
from lib.studies.base.images import SHAPES
from lib.studies.base.pictures import as_pixels, contact_sheet
from lib.studies.base.weights import loaded
from lib.studies.distillation.api import Config, TaughtRun, against, network, own_seed, sizes
from lib.system.checks import require
from lib.training.loop import Recipe, fit

#: The authors' clipping, Adam without weight decay, a cosine without warm-up; AdamW with weight decay 0 is Adam.
USUAL = Recipe(epochs=10, batch_size=128, lr=2e-3, weight_decay=0.0, warmup=0.0, clip=5.0)


@dataclass(frozen=True, kw_only=True)
class ZeroShotRun(TaughtRun):
    """Train a student from a teacher and noise.  Real images only measure it: validation after each epoch, test once.

    ``parent``         the teacher
    ``model``          geometry of the student
    ``places``         blocks with shallow classifiers, which makes the student a skeptical one: the shallowest listens, the
                       others learn from it, and the teacher's features are not used
                       (:func:`lib.distillation.skeptical.whispered`). Needs a ResNetConfig; empty for an ordinary student
    ``beta``           weight of the attention term; 0 where only the teacher's answers are at hand
    ``noise``, ``width``   of the generator
    ``generator_lr``   its learning rate; the recipe's is the student's
    ``rounds``         in each of the recipe's epochs: one generator step and ``student_steps`` of the student
    ``gallery``        pseudo images that are kept
    """

    experiment: ClassVar[str] = "distillation-zero-shot"

    model: Config = field(default_factory=ResNetConfig)
    places: tuple[int, ...] = ()
    beta: float = 250.0
    temperature: float = 1.0
    noise: int = 100
    width: int = 128
    generator_lr: float = 1e-3
    rounds: int = 100
    student_steps: int = 10
    recipe: Recipe = USUAL
    gallery: int = 24

    def __post_init__(self) -> None:
        for name in ("noise", "width", "rounds", "student_steps", "gallery"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: it must be at least 1")
        require(self.beta >= 0, f"beta is {self.beta}: it must not be negative")
        require(self.temperature > 0 and self.generator_lr > 0, "temperature and generator_lr must be above 0")
        if self.places:
            require(isinstance(self.model, ResNetConfig), "shallow classifiers need a ResNetConfig")
            require(self.beta == 0, f"beta is {self.beta}: a skeptical student hears answers only, set it to 0")
            ExitConfig(self.model, self.places)

    def run(self, session: Session) -> Outcome:
        recipe = self.recipe
        teacher = self.parent.load(session)
        torch.manual_seed(own_seed(self))
        game = self.game().to(session.device)
        batches = Rounds(self.rounds, recipe.batch_size, self.noise, self.student_steps, self.seed)
        images = self.images(session)  # from here on, to measure with
        history = fit(
            game,
            batches,
            self.loss(teacher),
            recipe,
            seed=self.seed,
            optimizers=self.optimizers(game),
            checkpoint=session.checkpoint,
            report=session.report,
            evaluate=lambda game: scored(game, images.validation, images, recipe, "val"),
        )
        student = game.student.backbone if self.places else game.student
        session.save_weights(student)
        pictures, kept = self.pictures(game, teacher, images)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            **sizes(student, images),
            "term_parameters": measure.parameters(game) - measure.parameters(student),
            "pseudo_images": recipe.epochs * self.rounds * recipe.batch_size,
            **kept,
            **against(student, teacher, images, recipe),
            **tested(student, images, recipe),
        }
        return Outcome(significant(metrics), significant(history.curves), significant(pictures), images.provenance())

    def game(self) -> Game:
        side, channels = SHAPES[self.dataset]
        student = ExitNet(ExitConfig(self.model, self.places)) if self.places else network(self.model)
        return Game(student, Generator(self.noise, side, channels, self.width))

    def optimizers(self, game: Game) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.AdamW(part.parameters(), lr=lr, weight_decay=0.0, betas=self.recipe.betas)
            for part, lr in ((game.student, self.recipe.lr), (game.generator, self.generator_lr))
        ]

    def loss(self, teacher: nn.Module):
        if not self.places:
            return zero_shot_loss(teacher, usual_lesson(self.beta, self.temperature), temperature=self.temperature)
        whisper = whispered()

        def lesson(student: ExitNet, pseudo: Tensor, taught: Features) -> tuple[Tensor, Tensor]:
            logits_KBC, _ = student.all_exits(pseudo)
            return whisper(logits_KBC.float(), taught.logits), logits_KBC[0].float()

        return zero_shot_loss(teacher, lesson, heard=lambda student, pseudo: student.all_exits(pseudo)[0][0], temperature=self.temperature)

    @torch.no_grad()
    def pictures(self, game: Game, teacher: nn.Module, images: ImageSet) -> tuple[dict[str, list], dict[str, float]]:
        """Pseudo images of the trained generator as one sheet, what both networks hold them for, and how unlike real ones
        they are.
        """
        device = next(game.parameters()).device
        noise = torch.randn(256, self.noise, generator=torch.Generator().manual_seed(self.seed)).to(device)
        game.eval()
        pseudo = game.generator(noise)
        beliefs = {name: net(pseudo).float().softmax(-1) for name, net in (("teacher", teacher), ("student", game))}
        shown = slice(0, self.gallery)
        arrays = {
            "sheet": [contact_sheet(as_pixels(pseudo[shown], images.mean, images.std), columns=8)],
            **{f"{name}_classes": found[shown].argmax(-1).tolist() for name, found in beliefs.items()},
            **{f"{name}_confidence": found[shown].amax(-1).tolist() for name, found in beliefs.items()},
            "teacher_share_by_class": torch.bincount(beliefs["teacher"].argmax(-1), minlength=images.classes).div(len(pseudo)).tolist(),
        }
        return arrays, {"pseudo_mean": pseudo.mean().item(), "pseudo_std": pseudo.std().item()}

    def load(self, session: Session) -> nn.Module:
        """The trained student, in evaluation mode; trained first where it is not here."""
        return loaded(self, network(self.model), session)


@dataclass(frozen=True, kw_only=True)
class TransitionRun(Spec):
    """How alike a student and its teacher are near decision boundaries, on test images that both hold for the same class.

    ``parent``  the student: a Spec with ``load`` and a teacher as ``parent``.  The walk follows the student's gradient
    """

    experiment: ClassVar[str] = "distillation-transition"

    parent: Spec
    examples: int = 100
    steps: int = 30
    lr: float = 1.0

    def __post_init__(self) -> None:
        require(hasattr(self.parent, "parent"), "parent must be a student that has a teacher, such as a PairRun or a ZeroShotRun")
        require(self.examples >= 1 and self.steps >= 2 and self.lr > 0, "examples must be at least 1, steps at least 2 and lr above 0")

    def run(self, session: Session) -> Outcome:
        images = self.parent.parent.images(session)
        student, teacher = self.parent.load(session), self.parent.parent.load(session)
        start, agreement = alike(student, teacher, images, self.examples)
        inputs = normalise(start.images, images)
        own, other = transition_curves(student, teacher, inputs, self.steps, self.lr)
        curves = {"student": own.mean((0, 1)).tolist(), "teacher": other.mean((0, 1)).tolist()}
        metrics = {
            "transition_error": transition_error(own, other),
            "examples": len(inputs),
            "test_agreement": agreement,
            "reached": (own[..., -1] > 0.5).float().mean().item(),
        }
        return Outcome(significant(metrics), significant(curves), data=images.provenance())


@torch.no_grad()
def alike(student: nn.Module, teacher: nn.Module, images: ImageSet, count: int) -> tuple[Split, float]:
    """The first ``count`` test images that both networks hold for the same class, fewer where there are no more, and the
    share of those looked at, ten times as many, on which they agree.
    """
    inputs = normalise(images.test.images[: 10 * count], images)
    agree = student(inputs).argmax(-1) == teacher(inputs).argmax(-1)
    same = agree.nonzero()[:count, 0]
    require(len(same), "student and teacher agree on no test image: there is nowhere to begin")
    return Split(images.test.images[same], images.test.labels[same]), agree.float().mean().item()
