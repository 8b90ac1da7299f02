"""What the mixtures chapter draws of routers: a token's way through a small layer, who chooses whom, and whom experts serve."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lib.moe.experts import Experts
from lib.moe.gate import Gate
from lib.moe.layer import MoEConfig, MoELayer
from lib.moe.routers import expert_choice, soft, token_choice
from lib.runs.results import Result, Results
from lib.studies.moe.names import method


def way_of_a_token() -> tuple[list, ...]:
    """Return a token of two features, its probabilities, the gates, what each of four experts says of it, and what comes out."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(28)
        small = MoELayer(MoEConfig(experts=4, k=2, router_init=2.0), d_model=2, hidden=16).eval()
        token = torch.tensor([[[0.8, -1.4]]])
        mixed, decided = small(token)
        alone = [small.experts(token[0], torch.tensor([[i]]), torch.ones(1, 1))[0].tolist() for i in range(4)]  # each with a gate of one
    gates = torch.zeros(4).scatter(0, decided.expert_TK[0], decided.gate_TK[0])
    return token[0, 0].tolist(), decided.probs_TE[0].tolist(), gates.tolist(), alone, mixed[0, 0].tolist()


def who_chooses() -> tuple[list, ...]:
    """Return of eight tokens the expert that each wants, and the weights [8, 4] by token choice, expert choice and Soft MoE."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(36)
        logits = 2 * torch.nn.functional.normalize(torch.randn(8, 4), dim=-1)  # of length 2, for Soft MoE's logits have one length
        as_they_are = Gate(4, 4)
        as_they_are.weight.copy_(torch.eye(4))
        mixing = soft.SoftMoE(4, experts=4, slots=1)
        mixing.mu_DES.copy_(torch.eye(4)[..., None])
        mixing.scale.fill_(2)
        few = Experts(4, 4, 8)
        by_tokens = token_choice.TokenChoice(as_they_are, 4, 1, balance=0, z_weight=0, policy="arrival", capacity_factor=1.0)
        switched = by_tokens.train().route(logits)
        _, by_experts = expert_choice.ExpertChoice(as_they_are, 4, capacity_factor=1.0, group="image")(logits[None], few)
        _, by_all = mixing(logits[None], few)
    first = switched.probs_TE.argmax(-1)
    served = torch.where(switched.expert_TK >= 0, switched.gate_TK, 0.0)
    chosen = torch.zeros(8, 4).scatter(1, first[:, None], served)
    return first.tolist(), chosen.tolist(), by_experts.gate_TK.tolist(), by_all.gate_TK.tolist()


def traced(results: Results) -> Result | None:
    """Return the first seed's Switch run with the fewest experts, whose maps the chapter draws; None without any."""
    found = [r for r in results if method(r) == "switch" and r.fields["seed"] == 0]
    return min(found, key=lambda r: r.fields["moe.experts"]) if found else None


def shares(run: Result, by: str) -> tuple[list[Any], dict[str, Any]]:
    """Return gate weight by moment, expert and column (``by_class`` or ``by_position``), and the names of moments and experts.

    Experts are sorted by the column that they serve most at the end.
    """
    maps = run.arrays[by]
    in_order = np.argsort(np.array(maps[-1]).argmax(1), kind="stable")
    sorted_maps = [[[value / 1000 for value in one[expert]] for expert in in_order] for one in maps]
    return sorted_maps, {"x_title": by.removeprefix("by_"), "y": [str(expert) for expert in in_order]}


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the total variation distance of two maps [experts, columns], mean over columns: 0 alike, 1 disjoint."""
    return 0.5 * np.abs(first - second).sum(0).mean()


def told(run: Result, by: str) -> str:
    """Return how far a column is from the average column, and how far the map moves from one moment to the next."""
    maps = np.array(run.arrays[by]) / 1000
    apart = distance(maps[-1], maps[-1].mean(1, keepdims=True))
    moves = [distance(a, b) for a, b in zip(maps, maps[1:])]
    moved = f"; from one moment to the next the map moves by {', '.join(f'{m:.2f}' for m in moves)}" if moves else ""
    return f"by {by.removeprefix('by_')}: a column differs from the average column by {apart:.2f}{moved}."
