"""When BERT Plays the Lottery: finding good sub-networks, and training good, random and bad ones again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from safetensors.torch import load_file
from scipy import stats
from torch import Tensor, nn

from lib.data.masked_lm import Special
from lib.data.tasks import TaskSplit, evaluate_task
from lib.measure import cost as measure
from lib.models.encoder import Classifier
from lib.models.encoder_remove import smaller
from lib.pruning.mask import attach, count, prunable, total
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.tickets.counted import measure as score_name
from lib.studies.tickets.finetune import FinetuneRun
from lib.system.checks import one_of, require
from lib.tickets.importance import Importance, importance, released_importance
from lib.tickets.masks import CHOICES, Parts, chosen_parts, chosen_weights, share, whole
from lib.tickets.patterns import attention_patterns
from lib.tickets.search import Tried, largest, m_pruning, s_pruning, s_pruning_to

#: Masks of whole heads and FFNs, or of single weights.
HOW = ("structured", "magnitude")

#: The number of [SEP] minus that of padding, see :class:`lib.data.masked_lm.Special`.
SEPARATOR_AFTER_PAD = Special.after(0).sep - Special.after(0).pad

#: What a sub-network is trained from: the pre-trained weights, or random ones that never saw a text.
WEIGHTS = ("pretrained", "random")


@dataclass(frozen=True, kw_only=True)
class SearchRun(Spec):
    """Mask the parent's fine-tuned network step by step as long as it scores 90 % of what it did, on validation examples.

    ``to``      go on, whatever the score, until this share of the heads and of the FFNs (or of the weights) is left
    ``looked``  validation examples that score and importance are taken from; the paper takes all of its development set for
                both, and for its results too, for which we have a test set
    """

    experiment: ClassVar[str] = "tickets-plays-search"

    parent: FinetuneRun
    how: str = "structured"
    to: float | None = None
    looked: int = 500

    def __post_init__(self) -> None:
        one_of("how", self.how, HOW)
        require(self.to is None or 0 < self.to < 1, f"to is {self.to}: it must be a share, above 0 and below 1")
        require(self.looked >= 1, f"looked is {self.looked}: at least one example is needed")

    def run(self, session: Session) -> Outcome:
        task, model = self.parent.task_on(session), self.parent.load(session)
        some = slice(self.looked)
        looked = TaskSplit(task.validation.tokens[some], task.validation.lengths[some], task.validation.labels[some])
        search = structured if self.how == "structured" else magnitude
        found, metrics, arrays = search(model, looked, score_name(self.parent.task), self.to, session)
        session.save_weights(nn.Module(), mask=found)
        return Outcome(significant(metrics), arrays=significant(arrays), data=task.provenance())

    def load(self, session: Session) -> dict[str, Tensor]:
        """The good masks: "heads" and "ffns", or one per layer's name; searched for first where they are not here."""
        return {name.removeprefix("mask."): mask for name, mask in load_file(str(session.weights(self))).items()}


def structured(model: Classifier, looked: TaskSplit, by: str, to: float | None, session: Session) -> tuple[dict[str, Tensor], dict, dict]:
    config, every = model.encoder.config, whole(model.encoder.config)

    def score(parts: Parts) -> float:
        session.report(0.5, f"{int(parts.heads.sum())} heads and {int(parts.ffns.sum())} FFNs")
        return evaluate_task(model, looked, **on(parts, looked.tokens.device))[by]

    def rank(parts: Parts) -> Importance:
        return importance(model, looked.tokens, looked.labels, parts)

    formula, released = rank(every), released_importance(model, looked.tokens, looked.labels, every)
    if to is None:
        good, tried = s_pruning(every, score, rank)
    else:
        good, tried = s_pruning_to(every, rank, to), [Tried("whole", every, score(every))]
        tried.append(Tried("both", good, score(good)))
    metrics = {
        "full_score": tried[0].score,
        "masked_score": score(good),
        "share": share(good, config),
        "heads": int(good.heads.sum()),
        "ffns": int(good.ffns.sum()),
        "all_heads": good.heads.numel(),
        "all_ffns": good.ffns.numel(),
        "heads_like_released": rank_correlation(formula.heads, released.heads),
        "ffns_like_released": rank_correlation(formula.ffns, released.ffns),
    }
    arrays = good.lists() | {
        "importance_heads": formula.heads.tolist(),
        "importance_ffns": formula.ffns.tolist(),
        "stages": [t.stage for t in tried],
        "scores": [t.score for t in tried],
        "shares": [share(t.mask, config) for t in tried],
        "patterns": attention_patterns(model, looked, SEPARATOR_AFTER_PAD + model.pad).tolist(),
    }
    return {"heads": good.heads, "ffns": good.ffns}, metrics, arrays


def on(parts: Parts, device: torch.device) -> dict[str, list[Tensor]]:
    return {name: [gate.to(device) for gate in gates] for name, gates in parts.gates().items()}


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's, over all entries."""
    return float(stats.spearmanr(first.flatten().numpy(), second.flatten().numpy()).statistic)


def magnitude(model: Classifier, looked: TaskSplit, by: str, to: float | None, session: Session) -> tuple[dict[str, Tensor], dict, dict]:
    weights = {name: weight.detach() for name, weight in encoder_weights(model).items()}
    everything = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    kept = {name: weight.clone() for name, weight in weights.items()}

    @torch.no_grad()
    def score(masks: dict[str, Tensor]) -> float:
        session.report(0.5, f"{count(masks) / total(masks):.0%} of the weights")
        for name, weight in weights.items():
            weight.copy_(kept[name] * masks[name])
        return evaluate_task(model, looked)[by]

    if to is None:
        good, tried = m_pruning(kept, score)
    else:
        good = largest(kept, round(to * total(everything)))
        tried = [Tried("whole", everything, score(everything)), Tried("weights", good, score(good))]
    metrics = {"full_score": tried[0].score, "masked_score": score(good), "share": count(good) / total(good)}
    arrays = {
        "stages": [t.stage for t in tried],
        "scores": [t.score for t in tried],
        "shares": [count(t.mask) / total(t.mask) for t in tried],
        "layers": [[name, count({name: mask}) / mask.numel()] for name, mask in good.items()],
    }
    return good, metrics, arrays


def encoder_weights(model: Classifier) -> dict[str, Tensor]:
    """What M-pruning may mask: q, k, v, out, up and down of every layer, by name, as :mod:`lib.pruning.mask` calls them.

    The released code masks most of their biases too.
    """
    return {name: weight for name, weight in prunable(model).items() if name.startswith("encoder.blocks.")}


@dataclass(frozen=True, kw_only=True)
class RetrainRun(Spec):
    """Fine-tune the good, a random or the bad sub-network as its whole was fine-tuned.

    ``weights``  "pretrained", or "random": the same sub-network without pre-training, which tells the part that its
                 shape plays from the part that its weights play

    Heads and FFNs that are off are removed, single weights are masked throughout the training.
    """

    experiment: ClassVar[str] = "tickets-plays-retrain"

    search: SearchRun
    choice: str = "good"
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        one_of("choice", self.choice, CHOICES)
        one_of("weights", self.weights, WEIGHTS)

    def run(self, session: Session) -> Outcome:
        base, good = self.search.parent, self.search.load(session)
        model = base.fresh(session, self.weights)
        if self.search.how == "structured":
            parts = chosen_parts(Parts(good["heads"], good["ffns"]), self.choice, self.seed)
            kept, model = share(parts, model.encoder.config), smaller(model, **on(parts, session.device))
        else:
            masks = chosen_weights(good, self.choice, self.seed)
            kept, model = count(masks) / total(masks), attach(model, masks)
        metrics, curves, task = base.tune(model, session, self.seed)
        metrics |= {"share": kept, "parameters": measure.parameters(model)}
        return Outcome(significant(metrics), significant(curves), data=task.provenance())
