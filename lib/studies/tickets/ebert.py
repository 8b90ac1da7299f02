"""EBERT: gates for each input learnt with the network, networks tuned with them or with static ones, and their speed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from safetensors.torch import load_file, load_model
from torch import Tensor, nn

from lib.data.tasks import TaskBatches
from lib.measure import cost as measure
from lib.models.encoder import Classifier
from lib.models.encoder_remove import smaller
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.weights import loaded
from lib.studies.tickets.finetune import FinetuneRun, scored, tested, tune
from lib.system.checks import one_of, require
from lib.tickets.ebert import KINDS, PER_LAYER, WEIGHT, Census, Dynamic, census, dynamic_loss
from lib.tickets.flops import flops_share
from lib.tickets.skipping import Skipping
from lib.tickets.static import cut_at, worth
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss

#: What is tuned in the second stage: the network with its gates, or one that lost for good what static masks close, which is
#: what is closed most often, or what does least for the fine-tuned network's loss per FLOP.
TUNED = ("dynamic", "static", "important")


@dataclass(frozen=True, kw_only=True)
class JointRun(Spec):
    """First stage: train the parent's fine-tuned network and its predictors together.

    ``kind``         see :data:`lib.tickets.ebert.KINDS`
    ``target``       share of the encoder's FLOPs
    ``per_layer``    weight of the terms for single layers in the loss, 0 to leave them out
    ``predictor_lr`` learning rate of the predictors; it follows the recipe's schedule, where the released code keeps it
    """

    experiment: ClassVar[str] = "tickets-ebert-joint"

    parent: FinetuneRun
    kind: str = "input"
    target: float = 0.4
    weight: float = WEIGHT
    per_layer: float = PER_LAYER
    predictor_lr: float = 0.02
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        require(0 < self.target <= 1, f"target is {self.target}: it must be a share of the FLOPs, above 0 and at most 1")
        for name in ("weight", "per_layer"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: it must not be negative")

    def run(self, session: Session) -> Outcome:
        task, model = self.parent.task_on(session), Dynamic(self.parent.load(session), self.kind)
        batches = TaskBatches(task.train, self.recipe.batch_size, self.seed)
        history = fit(
            model,
            batches,
            dynamic_loss(self.target, self.weight, self.per_layer),
            self.recipe,
            seed=self.seed,
            optimizers=[optimiser(model, self.recipe, self.predictor_lr)],
            checkpoint=session.checkpoint,
            evaluate=lambda model: scored(model, task, self.recipe, "validation", "val"),
            report=session.report,
        )
        session.save_weights(model)
        found = census(model, task.validation.tokens, self.recipe.precision)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "flops": found.flops,
            **found.count(),
            **scored(model, task, self.recipe, "validation", "val"),
            **emptiest(found),
        }
        return Outcome(significant(metrics), significant(history.curves), significant(by_layer(found)), task.provenance())

    def load(self, session: Session) -> Dynamic:
        """The network and its predictors, in evaluation mode; trained first where they are not here."""
        return loaded(self, Dynamic(self.parent.bare(session), self.kind), session)


def optimiser(model: Dynamic, recipe: Recipe, predictor_lr: float) -> torch.optim.Optimizer:
    """AdamW at the recipe's rate for the network and at another, without weight decay, for the predictors, as released."""
    of_predictors = list(model.predictors().parameters())
    groups = [
        {"params": list(model.model.parameters()), "lr": recipe.lr, "weight_decay": recipe.weight_decay},
        {"params": of_predictors, "lr": predictor_lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=recipe.betas)


def emptiest(found: Census) -> dict[str, float]:
    """Share of open gates where it is lowest, among attention layers and among FFNs; and how much layers differ.

    ``emptiest_by_kind``  of the attention layer or FFN that is emptiest beside its own kind: its share over the kind's mean.
                          Heads and neurons differ in what they cost, so that a loss for FLOPs may well treat them unalike
    ``layers_differ``     standard deviation between the layers of a kind over the kind's mean, the larger of both
    A kind without a single open gate has nothing to share out and does not count; NaN where that holds for both.
    """
    kinds = [found.heads.mean(1), found.neurons.mean(1)]
    open_kinds = [kind / kind.mean() for kind in kinds if kind.any()]
    none = [float("nan")]
    return {
        "emptiest_heads": float(kinds[0].min()),
        "emptiest_neurons": float(kinds[1].min()),
        "emptiest_by_kind": min([float(kind.min()) for kind in open_kinds] or none),
        "layers_differ": max([float(kind.std(correction=0)) for kind in open_kinds] or none),
    }


def by_layer(found: Census) -> dict[str, list]:
    """Per layer the share of open gates, and of gates that are open always, never, and for some inputs."""
    arrays = {}
    for name, often in (("heads", found.heads), ("neurons", found.neurons)):
        arrays |= {
            f"{name}_open": often.mean(1).tolist(),
            f"{name}_always_on": (often == 1).float().mean(1).tolist(),
            f"{name}_always_off": (often == 0).float().mean(1).tolist(),
            f"{name}_input_dependent": ((often > 0) & (often < 1)).float().mean(1).tolist(),
        }
    return arrays


@dataclass(frozen=True, kw_only=True)
class TunedRun(Spec):
    """Second stage: freeze the parent's gates and tune the network.

    ``how``     "dynamic": with its predictors, frozen.  "static": without them; the gates that are open most often stay, as
                many as fit the FLOPs of ``equal``, and the rest is removed.  "important": of the fine-tuned network, without
                any first stage, what is worth most stays; give it the epochs of both
    ``equal``   whose FLOPs, on validation inputs and with predictors, a static network may have; None: the parent's own.
                They are counted after the first stage: in the second, gates still change with the network below
    """

    experiment: ClassVar[str] = "tickets-ebert"

    parent: JointRun
    how: str = "dynamic"
    equal: JointRun | None = None
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        one_of("how", self.how, TUNED)
        require(self.how != "dynamic" or self.equal is None, "only a static network is cut to another one's FLOPs")

    def run(self, session: Session) -> Outcome:
        base, recipe = self.parent.parent, self.recipe
        task, joint = base.task_on(session), self.parent.load(session)
        found = census(joint, task.validation.tokens, recipe.precision)
        if self.how == "dynamic":
            joint.settle()
            model, loss, more = joint, dynamic_loss(self.parent.target), {}
        else:
            equal = None if self.equal is None else self.equal.load(session)
            of = found if equal is None else census(equal, task.validation.tokens, recipe.precision)
            whole = joint.model if self.how == "static" else base.load(session)
            seen = task.validation
            scores = often(joint, found) if self.how == "static" else worth(whole, seen.tokens, seen.labels)
            heads, neurons = cut_at(*scores, whole.encoder.config, seen.tokens.shape[1], of.flops)
            model = without(whole, heads, neurons)
            loss, more = classification_loss(), {"masks": {"heads": heads, "neurons": neurons}}
        before = scored(model, task, recipe, "validation", "untuned_val")
        history = tune(model, task, recipe, self.seed, session, loss=loss)
        session.save_weights(model, **more)
        metrics = {"diverged": history.diverged, "train_seconds": history.seconds, **before, **tested(model, task, recipe)}
        if self.how == "dynamic":
            found = census(model, task.validation.tokens, recipe.precision)
            metrics |= {"flops": found.flops, **found.count(), **emptiest(found)}
            arrays = by_layer(found)
        else:
            cost = flops_share(
                heads[:, None].float(), neurons[:, None].float(), whole.encoder.config, seen.tokens.shape[1], predicted=False
            )
            kept = Census(heads.float(), neurons.float(), float(cost))
            metrics |= {"flops": kept.flops, "budget": of.flops, **emptiest(kept)}
            arrays = {"heads_open": kept.heads.mean(1).tolist(), "neurons_open": kept.neurons.mean(1).tolist()}
        return Outcome(significant(metrics), significant(history.curves), significant(arrays), task.provenance())

    def load(self, session: Session) -> Dynamic | Classifier:
        """The tuned network, in evaluation mode; trained first where it is not here."""
        path = str(session.weights(self))
        if self.how == "dynamic":
            model = Dynamic(self.parent.parent.bare(session), self.parent.kind)
            load_model(model, path)
        else:
            tensors = load_file(path)
            model = without(self.parent.parent.bare(session), tensors.pop("masks.heads"), tensors.pop("masks.neurons"))
            model.load_state_dict(tensors)
        return model.to(session.device).eval()


def often(joint: Dynamic, found: Census) -> tuple[Tensor, Tensor]:
    """Scores of heads [L, H] and neurons [L, hidden]: how often a gate is open, or a constant gate's z, which is finer."""
    if joint.kind == "input":
        return found.heads, found.neurons
    heads, neurons = (torch.stack([constant.z.detach().cpu() for constant in kind]) for kind in (joint.of_heads, joint.of_neurons))
    return heads, neurons


def without(model: Classifier, heads: Tensor, neurons: Tensor) -> Classifier:
    """A smaller classifier: only these heads (bool [L, H]) and neurons (bool [L, hidden])."""
    device = model.head.weight.device
    return smaller(model, head_masks=list(heads.to(device)), neuron_masks=list(neurons.to(device)))


@dataclass(frozen=True, kw_only=True)
class DynamicSpeedRun(Spec):
    """Time inference of the whole network, the dynamic one with and without skipping, and the static one, in turns.

    ``batches``  inputs at a time; validation inputs, other ones in each turn.  A turn takes as many small batches one after
                 the other as make up the largest: a single input is answered too fast to be timed by itself
    """

    experiment: ClassVar[str] = "tickets-ebert-speed"

    dynamic: TunedRun
    static: TunedRun
    batches: tuple[int, ...] = (1, 32)
    rounds: int = 50

    def run(self, session: Session) -> Outcome:
        base, device = self.dynamic.parent.parent, session.device
        task, dynamic = base.task_on(session), self.dynamic.load(session)
        inputs = task.validation.tokens
        skipping = Skipping(dynamic)
        models = {"whole": base.load(session), "masked": dynamic, "skipping": skipping, "static": self.static.load(session)}
        metrics, needed = {}, {}
        for size in self.batches:
            several = max(1, max(self.batches) // size)
            calls = {name: answering(model, inputs, size, several) for name, model in models.items()}
            with torch.inference_mode():
                seconds = measure.take_turns(calls, self.rounds, device)
                needed[size] = share_needed(skipping, inputs, size)
            for name, times in seconds.items():
                metrics[f"{name}_ms_at_{size}"] = 1000 * float(torch.tensor(times, dtype=torch.float64).median()) / several
                if name != "whole":
                    ratios = measure.ratio(times, seconds["whole"])
                    metrics |= {f"{name}_{key}_at_{size}": value for key, value in ratios.items()}
            metrics[f"needed_at_{size}"] = needed[size]
        metrics["flops"] = census(dynamic, inputs, self.dynamic.recipe.precision).flops
        return Outcome(significant(metrics), data=task.provenance())


def answering(model: nn.Module, inputs: Tensor, size: int, several: int) -> Callable[[], None]:
    """A function that computes logits of the next batches of ``size`` inputs, ``several`` of them each time."""
    pieces = [piece for piece in inputs.split(size) if len(piece) == size]
    require(pieces, f"there are not {size} inputs to time a batch of")
    following = itertools.cycle(pieces)

    def call() -> None:
        for piece in itertools.islice(following, several):
            model(piece)

    return call


def share_needed(skipping: Skipping, inputs: Tensor, size: int) -> float:
    """Share of heads and neurons that some input of a batch needs, mean over batches."""
    found = []
    for piece in inputs.split(size)[:16]:
        skipping(piece)
        found.append(skipping.needed)
    return sum(found) / len(found)
