"""The distillation chapter's methods by name, with the weights and temperatures that their authors or usual comparisons give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from lib.distillation.attention_transfer import AttentionTransfer
from lib.distillation.contrastive import Contrastive
from lib.distillation.decoupled import Decoupled
from lib.distillation.dist import Dist
from lib.distillation.fitnets import Hint
from lib.distillation.pair import Pair, Soft, Together
from lib.distillation.relational import Relational
from lib.distillation.standardised import Standardised
from lib.distillation.taps import widths
from lib.system.checks import require


@dataclass(frozen=True)
class Setting:
    """What a run sets: None where the method's usual value serves.  ``steps`` of the whole training."""

    temperature: float | None
    alpha: float | None
    weight: float | None
    examples: int
    steps: int


@dataclass(frozen=True)
class Method:
    """How a term is built and mixed with the labels' loss.

    ``build``        (student, teacher, temperature, setting) → term
    ``weight``       of the term: the teacher's share α where the loss is shared, else what stands before the term
    ``labels``       weight of the labels' loss; None: it has the rest, 1 - α
    ``temperature``  the usual one; None for methods without
    ``warmup``       share of the training in which the term's weight climbs from zero
    """

    build: Callable[[nn.Module, nn.Module, float | None, Setting], nn.Module]
    weight: float
    labels: float | None = 1.0
    temperature: float | None = None
    warmup: float = 0.0

    @property
    def shares(self) -> bool:
        return self.labels is None

    def pair(self, student: nn.Module, teacher: nn.Module, setting: Setting) -> Pair:
        """A student and the term with this method's weights."""
        temperature = self.temperature if setting.temperature is None else setting.temperature
        chosen = setting.alpha if self.shares else setting.weight
        weight = self.weight if chosen is None else chosen
        labels = 1 - weight if self.shares else self.labels
        return Pair(student, self.build(student, teacher, temperature, setting), labels, weight, round(self.warmup * setting.steps))


def hint(student: nn.Module, teacher: nn.Module, temperature: float | None, setting: Setting) -> Hint:
    """In the middle, as the paper has it; of two stages the first, of three or four the second."""
    own, other = widths(student), widths(teacher)
    stage = (min(len(own), len(other)) - 1) // 2 if min(len(own), len(other)) < 3 else 1
    return Hint(own[stage], other[stage], stage)


def contrast(student: nn.Module, teacher: nn.Module, temperature: float | None, setting: Setting) -> Contrastive:
    return Contrastive(widths(student)[-1], widths(teacher)[-1], setting.examples)


def soft_attention(student: nn.Module, teacher: nn.Module, temperature: float | None, setting: Setting) -> Together:
    """Weight w · attention + 0.9 · Hinton's, as a term that w stands before.  Raises ValueError for a weight of 0."""
    weight = ATTENTION if setting.weight is None else setting.weight
    require(weight > 0, "without attention this is Hinton's: take the method 'hinton'")
    return Together(AttentionTransfer(), Soft(temperature), 0.9 / weight)


#: What stands before the attention term, of maps of 32 pixels a side and less.
ATTENTION = 1000.0

#: "hinton" has the seed project's α and T.  "patient" is function matching: no labels, T = 1; the long run, the strong
#: mixup and the common view are a run's recipe, augmentation and view.  "standardised" and the weights of hints, attention,
#: relations and contrast are those of the common comparison on CIFAR-100 (mdistiller, RepDistiller).
METHODS = {
    "hinton": Method(lambda s, t, temperature, _: Soft(temperature), 0.7, labels=None, temperature=4.0),
    "patient": Method(lambda s, t, temperature, _: Soft(temperature), 1.0, labels=None, temperature=1.0),
    "fitnets": Method(hint, 100.0),
    "attention": Method(lambda *_: AttentionTransfer(), ATTENTION),
    "soft attention": Method(soft_attention, ATTENTION, labels=0.1, temperature=4.0),
    "relational": Method(lambda *_: Relational(), 1.0),
    "contrastive": Method(contrast, 0.8),
    "decoupled": Method(lambda s, t, temperature, _: Decoupled(temperature), 1.0, temperature=4.0, warmup=20 / 240),
    "dist": Method(lambda s, t, temperature, _: Dist(temperature), 2.0, temperature=4.0),
    "standardised": Method(lambda s, t, temperature, _: Standardised(temperature), 9.0, labels=0.1, temperature=2.0),
}

#: How the chapter calls them.
TOLD = {
    "hinton": "Hinton KD",
    "patient": "function matching",
    "fitnets": "FitNets",
    "attention": "attention transfer",
    "soft attention": "Hinton KD and attention",
    "relational": "RKD",
    "contrastive": "CRD",
    "decoupled": "DKD",
    "dist": "DIST",
    "standardised": "logit standardisation",
}
