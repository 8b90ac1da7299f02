"""The book's own GPT as a subject: trained here, so that its weights lie on no grid, and several seeds can be had."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.data.text import TextBatches, TextSet, evaluate_text
from lib.measure import cost as measure
from lib.models.gpt import GPT, GPTConfig
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.corpora import Corpus, available_text
from lib.system.checks import require
from lib.training.loop import Recipe, fit
from lib.training.losses import language_model_loss


@dataclass(frozen=True, kw_only=True)
class LanguageGPT(Spec):
    """Train a GPT on stories and keep its weights.  Its FFNs are ``3 · width`` wide, so that both sizes have a Hadamard matrix."""

    experiment: ClassVar[str] = "language-gpt"

    corpus: Corpus = field(default_factory=Corpus)
    context: int = 128
    width: int = 64
    depth: int = 3
    heads: int = 4
    tokens: int = 2048
    steps: int = 300
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=3, lr=6e-3, betas=(0.9, 0.95), weight_decay=0.1))
    watched: int = 8192

    def __post_init__(self) -> None:
        require(self.tokens % self.context == 0, f"{self.tokens} tokens a step are not a whole number of texts of {self.context}")
        require(
            self.steps % self.recipe.epochs == 0,
            f"{self.steps} steps cannot be shared by {self.recipe.epochs} measurements: choose a multiple",
        )

    def network(self, vocabulary: int) -> GPT:
        return GPT(
            GPTConfig(
                vocabulary=vocabulary, context=self.context, width=self.width, depth=self.depth, heads=self.heads, hidden=3 * self.width
            )
        )

    def run(self, session: Session) -> Outcome:
        text = available_text(self.corpus, session.device)
        torch.manual_seed(self.seed)
        model = self.network(text.vocabulary).to(session.device)
        batches = TextBatches(text.train, self.context, self.tokens // self.context, self.steps // self.recipe.epochs, seed=self.seed)

        def held_out(model: nn.Module) -> dict[str, float]:
            return {
                "loss": evaluate_text(model, text.validation, self.context, precision=self.recipe.precision, tokens=self.watched)["loss"]
            }

        history = fit(
            model,
            batches,
            language_model_loss,
            self.recipe,
            seed=self.seed,
            checkpoint=session.checkpoint,
            within_epochs=True,
            report=session.report,
            evaluate=held_out,
        )
        session.save_weights(model)
        return Outcome(
            significant(
                {
                    "val_loss": history.curves["loss"][-1],
                    "train_loss": history.curves["train_loss"][-1],
                    "diverged": history.diverged,
                    "train_seconds": history.seconds,
                    "parameters": measure.parameters(model),
                    "tokens_per_parameter": self.tokens * self.steps / measure.parameters(model),
                }
            ),
            significant(history.curves),
            data=text.provenance(),
        )


def bigram_loss(train_T: Tensor, windows_WN: Tensor, vocabulary: int, weight: float = 0.8) -> float:
    """Nats per token of a bigram model counted on ``train_T``, mixed with the unigram one (1 - weight), on tokens 2 … N of each window."""
    counts_VV = torch.zeros(vocabulary, vocabulary, dtype=torch.float64)
    counts_VV.index_put_((train_T[:-1].cpu(), train_T[1:].cpu()), torch.ones(len(train_T) - 1, dtype=torch.float64), accumulate=True)
    unigram_V = (counts_VV.sum(0) + 1) / (counts_VV.sum() + vocabulary)
    before, after = windows_WN[:, :-1].flatten().cpu(), windows_WN[:, 1:].flatten().cpu()
    seen = counts_VV.sum(1)[before]
    bigram = torch.where(seen > 0, counts_VV[before, after] / seen.clamp(min=1), unigram_V[after])
    return float(-(weight * bigram + (1 - weight) * unigram_V[after]).log().mean())


def unigram_loss(windows_WN: Tensor) -> float:
    """Nats per token of a model that knows how often each token of these windows occurs in them, and nothing else."""
    _, counts = windows_WN[:, 1:].unique(return_counts=True)
    share = counts.double() / counts.sum()
    return float(-(share * share.log()).sum())


def windows_of(text: TextSet, context: int, count: int) -> Tensor:
    """``count`` windows of ``context`` tokens, evenly spread over the test split, [W, N]; as many as there are where it is shorter."""
    return spread(text.test.tokens, context, count)


def spread(tokens_T: Tensor, context: int, count: int) -> Tensor:
    """Windows that do not overlap, evenly spread, [W, N].  Raises ValueError for a text shorter than one window."""
    there = len(tokens_T) // context
    require(there >= 1, f"{len(tokens_T)} tokens are fewer than a window of {context}")
    chosen = [number * there // min(count, there) for number in range(min(count, there))]
    return torch.stack([tokens_T[place * context : (place + 1) * context] for place in chosen])


def drawn(tokens_T: Tensor, length: int, count: int, seed: int) -> Tensor:
    """``count`` windows of ``length`` tokens that begin anywhere, [C, N]: one draw of calibration text."""
    starts = torch.randint(len(tokens_T) - length, (count,), generator=torch.Generator().manual_seed(seed))
    return torch.stack([tokens_T[start : start + length] for start in starts.tolist()])
