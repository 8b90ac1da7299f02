"""A small GPT that learns to tell stories from a larger one, and from which texts it does so best."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.data.text import TextBatches, TextSet, TextSplit, evaluate_text
from lib.distillation.language import AUTHORS, TARGETS, exposed, text_loss
from lib.measure import cost as measure
from lib.models.generate import generate
from lib.models.gpt import GPT
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.corpora import Corpus, available_text, spelled_out
from lib.studies.base.weights import loaded
from lib.studies.language.api import LanguageGPT, bigram_loss, windows_of
from lib.system.checks import one_of, require
from lib.training.loop import Recipe, fit

#: Stories that show how a student tells them.
SHOWN = 3

#: Held-out tokens that a loss is the mean of.
TOKENS = 32_768


@dataclass(frozen=True, kw_only=True)
class StoryStudent(Spec):
    """Go on training a small GPT by what a larger one thinks of some texts.

    ``parent``   the teacher;  ``start``: the student, so far trained from text alone.  Both read the same corpus
    ``author``   who writes what the student reads, see :data:`lib.distillation.language.AUTHORS`
    ``target``   what it pays for, see :data:`lib.distillation.language.TARGETS`
    ``prompt``   tokens of people's text that each window begins with, whoever goes on
    ``tokens``, ``steps``   in a step, and how many
    ``told``     prompts of held-out stories that student and teacher continue to be compared
    """

    experiment: ClassVar[str] = "distillation-stories"

    parent: LanguageGPT = field(default_factory=LanguageGPT)
    start: LanguageGPT = field(default_factory=LanguageGPT)
    author: str = "data"
    target: str = "text"
    prompt: int = 8
    tokens: int = 2048
    steps: int = 100
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=2, lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1))
    told: int = 256

    def __post_init__(self) -> None:
        one_of("author", self.author, AUTHORS)
        one_of("target", self.target, TARGETS)
        require(self.parent.corpus == self.start.corpus, "teacher and student read different stories: give both one corpus")
        require(self.parent.context == self.start.context, "teacher and student have different contexts: give both one")
        require(1 <= self.prompt < self.start.context, f"prompt is {self.prompt}: it must be in [1, {self.start.context})")
        require(
            self.tokens % self.start.context == 0, f"{self.tokens} tokens a step are not a whole number of texts of {self.start.context}"
        )
        require(
            self.steps % self.recipe.epochs == 0,
            f"{self.steps} steps cannot be shared by {self.recipe.epochs} measurements: choose a multiple",
        )

    @property
    def corpus(self) -> Corpus:
        return self.start.corpus

    def run(self, session: Session) -> Outcome:
        text, context = available_text(self.corpus, session.device), self.start.context
        teacher, student = (loaded(spec, spec.network(text.vocabulary), session) for spec in (self.parent, self.start))
        before = student_scores(student, teacher, text, text.validation, self)
        batches = TextBatches(text.train, context, self.tokens // context, self.steps // self.recipe.epochs, seed=self.seed)
        torch.manual_seed(self.seed)
        history = fit(
            student,
            batches,
            text_loss(teacher, self.author, self.target, self.prompt),
            self.recipe,
            seed=self.seed,
            checkpoint=session.checkpoint,
            report=session.report,
            evaluate=lambda model: {"val_loss": loss_on(model, text.validation, context, self.recipe.precision)},
        )
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "parameters": measure.parameters(student),
            "teacher_parameters": measure.parameters(teacher),
            "teacher_loss": loss_on(teacher, text.test, context, self.recipe.precision),
            "bigram_loss": bigram_loss(text.train.tokens, windows_of(text, context, TOKENS // context), text.vocabulary),
            "start_val_loss": before["loss"],
            "start_val_reverse": before["reverse"],
            **{f"val_{name}": value for name, value in student_scores(student, teacher, text, text.validation, self).items()},
            **{f"test_{name}": value for name, value in student_scores(student, teacher, text, text.test, self).items()},
        }
        return Outcome(significant(metrics), significant(history.curves), {"told": told(student, text, self.seed)}, data=text.provenance())


def loss_on(model: nn.Module, split: TextSplit, context: int, precision: str) -> float:
    """Nats per token on held-out stories."""
    return evaluate_text(model, split, context, precision=precision, tokens=TOKENS)["loss"]


def student_scores(student: GPT, teacher: GPT, text: TextSet, split: TextSplit, spec: StoryStudent) -> dict[str, float]:
    """The loss on held-out stories, and how the student goes on behind their first tokens, see :func:`lib.distillation.language.exposed`."""
    context, mode = spec.start.context, student.training
    student.eval()
    scores = exposed(student, teacher, beginnings(split, text.end, spec.prompt, spec.told), context - spec.prompt)
    student.train(mode)
    return {"loss": loss_on(student, split, context, spec.recipe.precision), **scores}


def beginnings(split: TextSplit, end: int, prompt: int, count: int) -> Tensor:
    """The end token and the first ``prompt - 1`` tokens of up to ``count`` stories, [S, P]; shorter stories are left out."""
    ends = torch.nonzero(split.tokens == end).flatten()
    starts = ends[:-1][ends.diff() >= prompt][:count]
    return split.tokens[starts[:, None] + torch.arange(prompt, device=split.tokens.device)]


def told(student: GPT, text: TextSet, seed: int) -> list[str]:
    """A few stories of the student's, from the first token on."""
    start = torch.full((SHOWN, 1), text.end, device=next(student.parameters()).device)
    tokens = generate(student, start, student.config.context - 1, seed=seed, end=text.end)
    return spelled_out(text, tokens)
