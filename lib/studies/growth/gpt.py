"""Training one language model, from scratch or grown from another: most of the growth chapter's Specs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Optimizer

from lib.data.text import TextBatches, TextSet, evaluate_text
from lib.growth.depth import HOW, Deepen
from lib.growth.growth import Growth, grow, grow_moments
from lib.growth.moments import Moments, install, read
from lib.growth.rates import factors, groups
from lib.growth.verify import Report, next_token_loss, verify
from lib.measure import cost as measure
from lib.models.generate import generate
from lib.models.gpt import GPT, GPTConfig
from lib.models.gpt_cost import training_flops
from lib.moe.diagnostics import expert_table, load_entropy
from lib.moe.losses import moe_language_model_loss
from lib.moe.specialise import expert_distance, router_entropy, token_information
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.corpora import Corpus, available_text, spelled_out
from lib.studies.base.token_kinds import KINDS, token_kinds
from lib.system.checks import one_of, require
from lib.training import optim
from lib.training.loop import Recipe, fit

#: Texts of validation stories, always the same, by which transitions are judged.
PROBE = 16

#: Stories that each network tells.
STORIES = 2


@dataclass(frozen=True, kw_only=True)
class GrowthRun(Spec):
    """Train a GPT for ``steps`` steps: a new one, or one grown from ``parent``, which is a run itself.

    ``model``    geometry of a new network; a grown one has its parent's, grown
    ``growth``   operators applied to the parent, in this order; none: the parent itself trains on
    ``moments``  AdamW's state is "grown" with the weights, or "fresh"
    ``rates``    learning rates are the "usual" ones, or per tensor such that the small network's path is "kept"
    ``trained``  "all" parameters, or only those of "new blocks", as LLaMA-Pro does
    ``recipe``   its epochs only say how often the validation loss is measured; they share the steps equally
    ``watched``  tokens of the validation text behind each point of a curve; of the test text, four times as many are read,
                 once
    """

    experiment: ClassVar[str] = "growth-gpt"

    corpus: Corpus = field(default_factory=Corpus)
    model: GPTConfig | None = None
    parent: GrowthRun | None = None
    growth: tuple[Growth, ...] = ()
    steps: int = 100
    recipe: Recipe = field(default_factory=Recipe)
    moments: str = "grown"
    rates: str = "usual"
    trained: str = "all"
    watched: int = 16_384

    def __post_init__(self) -> None:
        one_of("moments", self.moments, ("grown", "fresh"))
        one_of("rates", self.rates, ("usual", "kept"))
        one_of("trained", self.trained, ("all", "new blocks"))
        require((self.model is None) != (self.parent is None), "give a new network's geometry or a parent, one of the two")
        require(
            self.steps % self.recipe.epochs == 0,
            f"{self.steps} steps cannot be shared by {self.recipe.epochs} measurements: choose a multiple",
        )
        require(self.recipe.optimizer == "adamw", f"optimizer is {self.recipe.optimizer!r}: only the state of 'adamw' can be grown")
        require(
            self.trained == "all" or (len(self.growth) == 1 and isinstance(self.growth[0], Deepen) and HOW[self.growth[0].how]),
            "new blocks alone are trained after one Deepen with silent blocks: change growth, or train all",
        )

    @property
    def config(self) -> GPTConfig:
        """Geometry of the network that is trained."""
        config = self.model or self.parent.config
        for operator in self.growth:
            config = operator.config(config)
        return config

    @property
    def flops(self) -> int:
        """Compute of this run alone."""
        return self.steps * training_flops(self.config, self.recipe.batch_size * self.config.context)

    @property
    def total_flops(self) -> int:
        """Compute of this training and of all that its network was grown from."""
        return self.flops + (self.parent.total_flops if self.parent else 0)

    @property
    def phase(self) -> int:
        """Number of runs before this one."""
        return self.parent.phase + 1 if self.parent else 0

    @property
    def draw(self) -> int:
        """Seed of what growth draws: another one in each phase, or noise would repeat the router's first weights."""
        return self.seed + 1000 * (self.phase - 1)

    @property
    def learnt_before(self) -> tuple[Corpus, ...]:
        """The text that the parent knows, where this training goes on with another."""
        return (self.parent.corpus,) if self.parent and self.parent.corpus != self.corpus else ()

    def run(self, session: Session) -> Outcome:
        text = available_text(self.corpus, session.device)
        torch.manual_seed(self.seed)
        probe_BN = windows(text, self.config.context)
        model, optimizers, metrics = self.begin(session, probe_BN)
        trained, curves = self.train(model, optimizers, text, probe_BN, session)
        arrays = {"stories": [] if trained["diverged"] else self.stories(model, text)} | expert_tables(model, text, probe_BN)
        moments = read(model, optimizers)
        session.save_weights(
            model, first=moments.first, second=moments.second, step={name: torch.tensor(step) for name, step in moments.step.items()}
        )
        return Outcome(significant(metrics | trained), significant(curves), significant(arrays), text.provenance())

    def begin(self, session: Session, probe_BN: Tensor) -> tuple[GPT, list[Optimizer], dict]:
        """The network as training finds it, its optimiser, and what the transition did to it."""
        if self.parent is None:
            model = GPT(self.config).to(session.device)
            return model, self.usual(model), {}
        before, moments = self.parent.load(session)
        model = grow(before, *self.growth, seed=self.draw)
        metrics = transition(verify(before, model, probe_BN), claims(before.config, self.growth))
        for corpus in self.learnt_before:
            old = available_text(corpus, session.device)
            metrics["old_test_bits_per_byte_before"] = self.tested(before, old)["bits_per_byte"]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.trained == "all" or self.is_new(name))
        optimizers = self.usual(model) if self.rates == "usual" else self.kept(model)
        if self.moments == "grown":
            install(model, optimizers, grow_moments(before.config, moments, *self.growth, seed=self.draw))
        return model, optimizers, metrics

    def usual(self, model: GPT) -> list[Optimizer]:
        recipe = self.recipe
        return optim.build(
            model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas, momentum=recipe.momentum
        )

    def kept(self, model: GPT) -> list[Optimizer]:
        recipe = self.recipe
        return [
            groups(model, factors(self.parent.config, *self.growth), lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas)
        ]

    def train(
        self, model: GPT, optimizers: list[Optimizer], text: TextSet, probe_BN: Tensor, session: Session
    ) -> tuple[dict, dict[str, list]]:
        """Metrics and curves of the training; curves have a point for each measurement."""
        recipe, context = self.recipe, self.config.context
        # No phase reads again, in the same order, what the one before it has read.
        batches = TextBatches(text.train, context, recipe.batch_size, self.steps // recipe.epochs, seed=1000 * self.seed + self.phase)

        learnt = [available_text(corpus, session.device) for corpus in self.learnt_before]

        def evaluate(model: GPT) -> dict[str, float]:
            held, *earlier = (
                evaluate_text(model, which.validation, context, precision=recipe.precision, tokens=self.watched)
                for which in (text, *learnt)
            )
            return (
                {"val_loss": held["loss"], "bits_per_byte": held["bits_per_byte"], "probe_loss": next_token_loss(model(probe_BN), probe_BN)}
                | {"old_val_loss": one["loss"] for one in earlier}
                | specialisation(model, probe_BN)
            )

        history = fit(
            model,
            batches,
            moe_language_model_loss,
            recipe,
            seed=self.seed,
            optimizers=optimizers,
            evaluate=evaluate,
            checkpoint=session.checkpoint,
            within_epochs=True,
            report=session.report,
        )
        test, *earlier = (self.tested(model, which) for which in (text, *learnt))
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "flops": self.flops,
            "total_flops": self.total_flops,
            "tokens": self.steps * recipe.batch_size * context,
            "entropy_bits_per_byte": text.entropy,
            "parameters": measure.parameters(model),
            "active_parameters": model.active_parameters(),
            "val_loss": last(history.curves, "val_loss"),
            "val_bits_per_byte": last(history.curves, "bits_per_byte"),
            "test_loss": test["loss"],
            "test_bits_per_byte": test["bits_per_byte"],
        } | {"old_test_bits_per_byte": one["bits_per_byte"] for one in earlier}
        return metrics | specialisation(model, probe_BN), history.curves

    def tested(self, model: GPT, text: TextSet) -> dict[str, float]:
        return evaluate_text(model, text.test, self.config.context, precision=self.recipe.precision, tokens=4 * self.watched)

    def stories(self, model: GPT, text: TextSet) -> list[str]:
        """What the network tells, from the end of the last story on."""
        start_B1 = torch.full((STORIES, 1), text.end, device=next(model.parameters()).device)
        told_BN = generate(model, start_B1, self.config.context - 1, temperature=0.8, seed=self.seed, end=text.end)
        return spelled_out(text, told_BN)

    def is_new(self, name: str) -> bool:
        """Whether a parameter belongs to a block that growth inserted."""
        plan = self.growth[0].plan(self.parent.config.depth)
        return any(silent and name.startswith(f"blocks.{layer}.") for layer, (_, silent) in enumerate(plan))

    def load(self, session: Session) -> tuple[GPT, Moments]:
        """The trained network, in evaluation mode, and its optimiser's moments; trained first where they are not here."""
        tensors = load_file(str(session.weights(self)), device=str(session.device))
        first, second, step = (
            {name.removeprefix(group): tensors.pop(name) for name in list(tensors) if name.startswith(group)}
            for group in ("first.", "second.", "step.")
        )
        model = GPT(self.config).to(session.device)
        model.load_state_dict(tensors)
        return model.eval(), Moments(first, second, {name: value.item() for name, value in step.items()})


def last(curves: dict[str, list], name: str) -> float:
    """A curve's end; not a number where training diverged before the first measurement."""
    return curves.get(name, [math.nan])[-1]


def claims(config: GPTConfig, operators: tuple[Growth, ...]) -> bool:
    """Whether operators, one after the other, all say that they keep the function."""
    for operator in operators:
        if not operator.exact(config):
            return False
        config = operator.config(config)
    return True


def transition(report: Report, exact: bool) -> dict[str, float | bool | None]:
    """A verification as metrics.  Identities between tensors hold for exact growth only."""
    return {
        "exact": exact,
        "relative": report.relative,
        "logit_difference": report.max_difference,
        "loss_before": report.loss_before,
        "loss_after": report.loss_after,
        "structure": max(report.structure.values()) if exact else None,
    } | {f"router_{name}": value for name, value in report.router.items()}


def windows(text: TextSet, context: int) -> Tensor:
    """The first texts of the validation stories, [PROBE, context]."""
    tokens = text.validation.tokens
    rows = min(PROBE, len(tokens) // context)
    return tokens[: rows * context].view(rows, context)


@torch.no_grad()
def specialisation(model: GPT, tokens_BN: Tensor) -> dict[str, float]:
    """How far experts and router have come, means over layers; empty for a dense network."""
    if model.config.moe is None:
        return {}
    routings = model.with_routing(tokens_BN)[1]
    load_LE = torch.stack([routing.load_E for routing in routings])
    layers = [block.ffn for block in model.blocks]
    vocabulary = model.config.vocabulary
    return {
        name: torch.stack(values).mean().item()
        for name, values in {
            "expert_distance": [expert_distance(layer.experts) for layer in layers],
            "router_entropy": [router_entropy(routing) for routing in routings],
            "token_information": [token_information(routing, tokens_BN.flatten(), vocabulary) for routing in routings],
            "probe_load_entropy": list(load_entropy(load_LE)),
        }.items()
    } | {"least_share": (load_LE.min(-1).values / load_LE.sum(-1)).min().item()}


@torch.no_grad()
def expert_tables(model: GPT, text: TextSet, tokens_BN: Tensor) -> dict[str, list]:
    """Share of the gate weight of each kind of token that goes to each expert, [layer][expert][kind]; empty if dense."""
    if model.config.moe is None:
        return {}
    kind_T = token_kinds(text).to(tokens_BN.device)[tokens_BN.flatten()]
    tables = [expert_table(routing, kind_T, len(KINDS)) for routing in model.with_routing(tokens_BN)[1]]
    return {"experts_by_kind": [(table / table.sum(0, keepdim=True).clamp(min=1e-9)).tolist() for table in tables]}
