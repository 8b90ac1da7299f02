"""Is the router healthy, and what has it learnt?

A small balance loss does not prove balance; these numbers do.  All take the load of one layer [E], or of
several [..., E], and return one number per layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lib.moe.routing import Routing


def load_entropy(load_E: Tensor) -> Tensor:
    """-Σ f log f / log E, f = load / Σ load: 1 when even, 0 when one expert does everything."""
    share_E = load_E / load_E.sum(-1, keepdim=True).clamp(min=1e-12)
    return -torch.xlogy(share_E, share_E).sum(-1) / math.log(max(2, load_E.shape[-1]))


def max_load(load_E: Tensor) -> Tensor:
    """Largest load over mean load: 1 when even, E at worst; what the slowest device waits for."""
    return load_E.amax(-1) / load_E.mean(-1).clamp(min=1e-12)


def dead_experts(load_E: Tensor) -> Tensor:
    """Number of experts without a single token."""
    return (load_E == 0).sum(-1)


def variation(load_E: Tensor) -> Tensor:
    """Coefficient of variation: standard deviation of the load over its mean."""
    return load_E.std(-1, unbiased=False) / load_E.mean(-1).clamp(min=1e-12)


def routing_logs(routings: Sequence[Routing]) -> dict[str, Tensor]:
    """What training logs each step: the weighted auxiliary loss, and means over layers of the rest.

    Empty for a dense model.
    """
    if not routings:
        return {}
    load_LE = torch.stack([routing.load_E for routing in routings])
    return {
        "balance_loss": sum(routing.loss.detach() for routing in routings),
        "load_entropy": load_entropy(load_LE).mean(),
        "max_load": max_load(load_LE).mean(),
        "dead_experts": dead_experts(load_LE).float().mean(),
        "dropped": torch.stack([routing.dropped for routing in routings]).float().mean(),
    }


def expert_by_class(routing: Routing, label_B: Tensor, classes: int) -> Tensor:
    """Gate weight that each expert gave to each class [E, classes], for one layer and batch."""
    label_T = label_B.repeat_interleave(len(routing.expert_TK) // len(label_B))
    return expert_table(routing, label_T, classes)


def expert_by_position(routing: Routing, positions: int) -> Tensor:
    """Gate weight that each expert gave to each token position [E, positions], for one layer and batch."""
    T = len(routing.expert_TK)
    return expert_table(routing, torch.arange(T, device=routing.expert_TK.device) % positions, positions)


def expert_table(routing: Routing, column_T: Tensor, columns: int) -> Tensor:
    """Σ of gates per (expert, column): ``column_T`` says which column each token belongs to."""
    weight_TE = routing.gate_TKE.sum(1)
    column_TC = column_T[:, None] == torch.arange(columns, device=column_T.device)
    return weight_TE.T @ column_TC.to(weight_TE.dtype)


def stability(before: Routing, after: Routing) -> Tensor:
    """Fraction of one layer's assignments that two checkpoints share for the same inputs, in [0, 1].

    With k = 1, the fraction of tokens that still go to the same expert.
    """
    same_TKK = before.expert_TK[:, :, None] == after.expert_TK[:, None, :]
    kept_TK = before.expert_TK >= 0
    return (same_TKK.any(-1) & kept_TK).sum() / kept_TK.sum().clamp(min=1)
