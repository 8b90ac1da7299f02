"""Whether a network is stable to the noise of SGD: two runs part, and the error between their ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from lib.data.images import Split
from lib.pruning.mask import attach, density
from lib.pruning.tickets import barrier, between
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import scored
from lib.studies.pruning.tickets import TicketRun, remaining
from lib.system.checks import require
from lib.training.batch_norm import reestimate
from lib.training.loop import fit
from lib.training.losses import classification_loss

#: The two runs see other batches than the parent, and than each other.
NOISES = (101, 202)


@dataclass(frozen=True, kw_only=True)
class BarrierRun(Spec):
    """Train two copies of the parent's network at its rewinding step, which differ in the order and the distortion of their
    images only, and measure the error along the straight line between them (Frankle et al. 2020, arXiv 1912.05671).

    ``level``   of the parent's tickets; 0 for the dense network, for which its tickets are not needed
    ``points``  on the line, both ends included
    """

    experiment: ClassVar[str] = "pruning-barrier"

    parent: TicketRun
    level: int = 0
    points: int = 11

    def __post_init__(self) -> None:
        require(0 <= self.level <= self.parent.levels, f"level is {self.level}: the parent has levels 0 to {self.parent.levels}")
        require(self.points >= 3, f"points is {self.points}: both ends and one between them are needed at least")

    def run(self, session: Session) -> Outcome:
        dense, ticket = self.parent.parent, self.parent
        images, recipe = dense.images(session), remaining(dense, dense.images(session), ticket.rewind)
        masks = ticket.masks(session, self.level)
        ends, diverged = [], False
        for number, noise in enumerate(NOISES):
            model = attach(dense.load(session, ticket.rewind), masks)
            batches = dense.batches(images, seed=noise + 1000 * self.seed, first=ticket.rewind)
            history = fit(
                model,
                batches,
                classification_loss(recipe.label_smoothing),
                recipe,
                seed=noise + self.seed,
                checkpoint=session.checkpoint / str(noise),
                report=lambda part, text: session.report((number + part) / len(NOISES), f"copy {number + 1}: {text}"),
            )
            diverged |= history.diverged
            ends.append(model)
        parts = [point / (self.points - 1) for point in range(self.points)]
        fresh = dense.batches(images)

        def errors(split: Split) -> list[float]:
            return [1 - scored(model, split, images, recipe, "line")["line_accuracy"] for model in line]

        line: list[nn.Module] = [reestimate(between(*ends, part), fresh) for part in parts]
        curves = {
            "part": parts,
            "val_error": errors(images.validation),
            "train_error": errors(images.train),
            "test_error": errors(images.test),
        }
        metrics = {
            "density": density(masks),
            "step": ticket.rewind,
            "diverged": diverged,
            **{f"{split}_barrier": barrier(curves[f"{split}_error"]) for split in ("train", "val", "test")},
        }
        return Outcome(significant(metrics), significant(curves), data=images.provenance())
