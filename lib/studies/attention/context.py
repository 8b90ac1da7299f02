"""What a longer context is worth: a recall task whose answer may stand anywhere, and stories."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.text import TextBatches, evaluate_text
from lib.measure import cost as measure
from lib.models.gpt import GPT, GPTConfig
from lib.moe.losses import moe_language_model_loss
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.corpora import Corpus, available_text
from lib.system.checks import require
from lib.system.precision import autocast
from lib.training.loop import Recipe, fit

#: Sequences on which recall is judged, never trained on but by chance.
HELD_OUT = 2000

#: So many of them at a time.
AT_ONCE = 200


@dataclass(frozen=True)
class Recall:
    """Find the value of a key: ``pairs`` (key, value) tokens stand at random places of ``length`` tokens, and the last asks for a key.

    Every key is there once, among tokens that say nothing.  The place of the one that is asked for is uniform, so a model
    that sees the last c tokens has seen it with probability (c - 1) / (length - 1), and can only guess otherwise.  Like Path-X,
    it has two tokens to be linked over any distance; unlike it, no path in between has to be followed.
    """

    length: int = 64
    pairs: int = 8
    values: int = 4

    def __post_init__(self) -> None:
        require(
            1 <= self.pairs < self.length and self.values >= 2,
            f"{self.pairs} pairs with {self.values} values do not make a task of {self.length} tokens: more tokens than pairs, two values at least",
        )

    @property
    def vocabulary(self) -> int:
        """A token for each (key, value), one for each key that is asked for, and one that says nothing."""
        return self.pairs * self.values + self.pairs + 1

    def ceiling(self, context: int) -> float:
        """The accuracy of a perfect model that sees the last ``context`` tokens."""
        seen = min(1.0, (context - 1) / (self.length - 1))
        return seen + (1 - seen) / self.values

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [count, length], the values asked for [count], and how many tokens before the question they stand [count]."""
        place = torch.rand(count, self.length - 1, generator=generator).topk(self.pairs, 1).indices  # of each key, in its order
        value = torch.randint(self.values, (count, self.pairs), generator=generator)
        asked = torch.randint(self.pairs, (count, 1), generator=generator)
        tokens = torch.full((count, self.length), self.vocabulary - 1)
        tokens.scatter_(1, place, torch.arange(self.pairs) * self.values + value)
        tokens[:, -1:] = self.pairs * self.values + asked
        return tokens, value.gather(1, asked)[:, 0], self.length - 1 - place.gather(1, asked)[:, 0]


@dataclass(frozen=True)
class RecallBatches:
    """Fresh sequences for every step, cut to their last ``context`` tokens: functions of (seed, epoch, step)."""

    task: Recall
    context: int
    batch_size: int
    steps: int
    seed: int

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        tokens, value, _ = self.task.sample(self.batch_size, generator("train", self.seed, epoch, step))
        return tokens[:, -self.context :], value


def generator(*key: str | int) -> torch.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@dataclass(frozen=True, kw_only=True)
class RecallRun(Spec):
    """Train a GPT that sees the last ``context`` tokens on recall.

    ``recipe``  its epochs share the ``steps``; at the end of each, accuracy is measured
    """

    experiment: ClassVar[str] = "attention-recall"

    task: Recall = field(default_factory=Recall)
    context: int = 64
    width: int = 32
    depth: int = 1
    heads: int = 1
    steps: int = 240
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=6, batch_size=64, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.01))

    def __post_init__(self) -> None:
        require(2 <= self.context <= self.task.length, f"a context of {self.context} tokens: choose from 2 to {self.task.length}")
        require(
            self.steps % self.recipe.epochs == 0,
            f"{self.steps} steps cannot be shared by {self.recipe.epochs} measurements: choose a multiple",
        )

    def run(self, session: Session) -> Outcome:
        torch.manual_seed(self.seed)
        config = GPTConfig(
            vocabulary=self.task.vocabulary,
            context=self.context,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            hidden=2 * self.width,
            positions="learned",
        )  # where a pair stands does not matter
        model = GPT(config).to(session.device)
        batches = RecallBatches(self.task, self.context, self.recipe.batch_size, self.steps // self.recipe.epochs, self.seed)
        tokens, value, distance = (x.to(session.device) for x in self.task.sample(HELD_OUT, generator("test", self.seed)))

        def right(model: nn.Module) -> Tensor:
            with torch.no_grad(), autocast(session.device, self.recipe.precision):
                said = torch.cat([self.answer(model, part[:, -self.context :]).argmax(1) for part in tokens.split(AT_ONCE)])
            return (said == value).double()

        history = fit(
            model,
            batches,
            self.loss,
            self.recipe,
            seed=self.seed,
            checkpoint=session.checkpoint,
            report=session.report,
            evaluate=lambda model: {"accuracy": right(model).mean().item()},
        )
        correct, within = right(model), distance < self.context
        return Outcome(
            significant(
                {
                    "accuracy": correct.mean().item(),
                    "ceiling": self.task.ceiling(self.context),
                    "chance": 1 / self.task.values,
                    "accuracy_within": mean(correct[within]),
                    "accuracy_beyond": mean(correct[~within]),
                    "train_loss": history.curves["train_loss"][-1],
                    "diverged": history.diverged,
                    "train_seconds": history.seconds,
                    "parameters": measure.parameters(model),
                }
            ),
            significant(history.curves),
        )

    def answer(self, model: nn.Module, tokens_BN: Tensor) -> Tensor:
        """Logits of the values [B, values] after the question."""
        return model(tokens_BN)[:, -1, : self.task.values]

    def loss(self, model: nn.Module, tokens_BN: Tensor, value_B: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return F.cross_entropy(self.answer(model, tokens_BN).float(), value_B), {}


def mean(values: Tensor) -> float | None:
    return values.mean().item() if len(values) else None


@dataclass(frozen=True, kw_only=True)
class StoriesRun(Spec):
    """Train a GPT on stories with this ``context``; each step reads ``tokens`` tokens, whatever the context.

    Judged on the validation text cut into windows of the same context, as perplexity with a context is (the paper's Table 4).
    """

    experiment: ClassVar[str] = "attention-stories"

    corpus: Corpus = field(default_factory=Corpus)
    context: int = 64
    width: int = 32
    depth: int = 2
    heads: int = 2
    tokens: int = 512
    steps: int = 100
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=2, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1))
    watched: int = 8192

    def __post_init__(self) -> None:
        require(self.tokens % self.context == 0, f"{self.tokens} tokens a step are not a whole number of texts of {self.context}")
        require(
            self.steps % self.recipe.epochs == 0,
            f"{self.steps} steps cannot be shared by {self.recipe.epochs} measurements: choose a multiple",
        )

    def run(self, session: Session) -> Outcome:
        text = available_text(self.corpus, session.device)
        torch.manual_seed(self.seed)
        model = GPT(
            GPTConfig(
                vocabulary=text.vocabulary,
                context=self.context,
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                hidden=8 * self.width // 3,
            )
        ).to(session.device)
        batches = TextBatches(text.train, self.context, self.tokens // self.context, self.steps // self.recipe.epochs, seed=self.seed)

        def held_out(model: nn.Module) -> dict[str, float]:
            found = evaluate_text(model, text.validation, self.context, precision=self.recipe.precision, tokens=self.watched)
            return {"loss": found["loss"], "bits_per_byte": found["bits_per_byte"]}

        history = fit(
            model,
            batches,
            moe_language_model_loss,
            self.recipe,
            seed=self.seed,
            checkpoint=session.checkpoint,
            report=session.report,
            evaluate=held_out,
        )
        final = evaluate_text(model, text.test, self.context, precision=self.recipe.precision, tokens=4 * self.watched)
        return Outcome(
            significant(
                {
                    "test_loss": final["loss"],
                    "test_bits_per_byte": final["bits_per_byte"],
                    "entropy_bits_per_byte": text.entropy,
                    "val_loss": history.curves["loss"][-1],
                    "train_loss": history.curves["train_loss"][-1],
                    "diverged": history.diverged,
                    "train_seconds": history.seconds,
                    "parameters": measure.parameters(model),
                }
            ),
            significant(history.curves),
            data=text.provenance(),
        )
