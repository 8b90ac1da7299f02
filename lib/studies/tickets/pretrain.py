"""Pre-training: the one checkpoint that all of the tickets chapter starts from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from lib.data.masked_lm import CHOSEN, MaskedBatches, Special, evaluate_masked, pretraining_loss, sentence_starts
from lib.measure import cost as measure
from lib.models.encoder import Encoder, EncoderConfig, MaskedLM
from lib.pruning.mask import prunable
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.weights import loaded
from lib.studies.tickets.text import Source, material
from lib.training.loop import Recipe, fit

#: Pairs of texts by which a model is judged.
EVALUATED = 512


@dataclass(frozen=True, kw_only=True)
class PretrainRun(Spec):
    """Train an encoder from scratch as BERT was: masked language modelling and next-sentence prediction.

    ``model``  its geometry; vocabulary and context are those of the ``source``
    ``steps``  per epoch of the recipe; an epoch is only how often the validation loss is looked at
    ``chosen`` share of the tokens that are predicted: BERT's, or more of them, from which a short training learns more
               (arXiv 2202.08005); scores are always of BERT's share
    """

    experiment: ClassVar[str] = "tickets-pretrain"

    source: Source = field(default_factory=Source)
    model: EncoderConfig = field(default_factory=EncoderConfig)
    recipe: Recipe = field(default_factory=Recipe)
    steps: int = 100
    chosen: float = CHOSEN

    @property
    def geometry(self) -> EncoderConfig:
        return replace(self.model, vocabulary=Special.after(self.source.vocabulary).total, context=self.source.context)

    @property
    def pad(self) -> int:
        """The token that only fills up rows."""
        return Special.after(self.source.vocabulary).pad

    def run(self, session: Session) -> Outcome:
        read, recipe = material(self.source), self.recipe
        model = self.untrained(self.seed).to(session.device)
        batches = masked_batches(self, read.train, session.device, recipe.batch_size, self.steps, self.seed, self.chosen)

        def evaluate(model: MaskedLM) -> dict[str, float]:
            return scored(self, model, "val", recipe.precision)

        before = evaluate(model)
        history = fit(
            model,
            batches,
            pretraining_loss,
            recipe,
            seed=self.seed,
            evaluate=evaluate,
            checkpoint=session.checkpoint,
            report=session.report,
        )
        session.save_weights(model)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "parameters": measure.parameters(model),
            "prunable": sum(weight.numel() for weight in prunable(model.encoder).values()),
            "untrained_val_loss": before["val_loss"],
            **evaluate(model),
            **scored(self, model, "test", recipe.precision),
        }
        return Outcome(significant(metrics), significant(history.curves), data=read.provenance())

    def untrained(self, seed: int) -> MaskedLM:
        """A model of this geometry with random weights."""
        torch.manual_seed(seed)
        return MaskedLM(Encoder(self.geometry))

    def load(self, session: Session) -> MaskedLM:
        """The pre-trained model, in evaluation mode; trained first where it is not here."""
        return loaded(self, MaskedLM(Encoder(self.geometry)), session)


class Reads(Protocol):
    """What has a source of words: a pre-training, or a checkpoint with a head for them."""

    @property
    def source(self) -> Any: ...


def masked_batches(
    parent: Reads, stream: Tensor, device: torch.device, batch_size: int, steps: int, seed: int | str, chosen: float = CHOSEN
) -> MaskedBatches:
    """Batches of a stream of the parent's source, on the device."""
    read = material(parent.source)
    starts = sentence_starts(stream, read.special, read.enders)
    return MaskedBatches(stream.to(device), starts.to(device), read.special, parent.source.context, batch_size, steps, seed, chosen)


def scored(parent: Reads, model: MaskedLM, split: str, precision: str) -> dict[str, float]:
    """Scores on "val" or "test", always the same 512 pairs of texts, their names with that prefix."""
    stream = {"val": material(parent.source).validation, "test": material(parent.source).test}[split]
    batches = masked_batches(parent, stream, next(model.parameters()).device, 64, EVALUATED // 64, "evaluation")
    return {f"{split}_{name}": value for name, value in evaluate_masked(model, batches, precision).items()}
