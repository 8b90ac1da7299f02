"""A head for masked words on a checkpoint that comes without one, so that tickets can be sought on masked words too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from lib.data.masked_lm import masked_lm_loss
from lib.models.encoder import Encoder, EncoderConfig, MaskedLM
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.weights import loaded
from lib.studies.tickets.checkpoint import Checkpoint, CheckpointRun
from lib.studies.tickets.pretrain import masked_batches, scored
from lib.studies.tickets.text import material
from lib.training.loop import Recipe, fit


@dataclass(frozen=True, kw_only=True)
class WordsHeadRun(Spec):
    """Train a new head for masked words on the checkpoint's frozen encoder; its matrix is the embedding's own.

    It can stand where a checkpoint does: the encoder is the checkpoint's, weight by weight.

    ``steps``  per epoch of the recipe
    """

    experiment: ClassVar[str] = "tickets-words-head"

    parent: CheckpointRun
    recipe: Recipe = field(default_factory=Recipe)
    steps: int = 100

    @property
    def source(self) -> Checkpoint:
        return self.parent.source

    @property
    def geometry(self) -> EncoderConfig:
        return self.parent.geometry

    @property
    def pad(self) -> int:
        return self.parent.pad

    def run(self, session: Session) -> Outcome:
        read, recipe, model = material(self.source), self.recipe, self.parent.load(session)
        model.encoder.requires_grad_(False)
        batches = masked_batches(self, read.train, session.device, recipe.batch_size, self.steps, self.seed)

        def evaluate(model: MaskedLM, split: str = "val") -> dict[str, Any]:
            return {name: value for name, value in scored(self, model, split, recipe.precision).items() if "next" not in name}

        before = evaluate(model)
        history = fit(
            model,
            batches,
            masked_lm_loss,
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
            "untrained_val_loss": before["val_loss"],
            **evaluate(model),
            **evaluate(model, "test"),
        }
        return Outcome(significant(metrics), significant(history.curves), data=read.provenance())

    def untrained(self, seed: int) -> MaskedLM:
        return self.parent.untrained(seed)

    def load(self, session: Session) -> MaskedLM:
        """The checkpoint with its trained head, in evaluation mode; the head is trained first where it is not here."""
        torch.manual_seed(0)
        return loaded(self, MaskedLM(Encoder(self.geometry)), session)
