"""Expert capacity: how many tokens an expert may take in training, and who gives way.

A dropped assignment is marked -1 and contributes exactly 0; the residual connection carries the token.
Evaluation is dropless, so that a prediction does not depend on what else is in the batch, unless a study asks what dropping
costs there (:class:`lib.studies.moe.capacity.InferenceRun`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.moe.routing import count

POLICIES = ("dropless", "arrival", "random", "priority", "second-choice")


def capacity(tokens: int, experts: int, k: int, factor: float) -> int:
    """C = ⌈CF · T · k / E⌉, the most assignments an expert takes (Switch, arXiv 2101.03961, eq. 3)."""
    return math.ceil(factor * tokens * k / experts)


def limit(expert_TK: Tensor, probs_TE: Tensor, C: int, policy: str) -> Tensor:
    """``expert_TK`` with -1 where an expert would take more than ``C`` assignments.

    All first choices are served before any second choice.  Among equals, ``policy`` says who comes first:

    ``"arrival"``        tokens in the order of the batch (GShard, Switch)
    ``"random"``         a new random order each time
    ``"priority"``       tokens with the largest max_i p_i (V-MoE's batch prioritised routing)
    ``"second-choice"``  arrival; then a token that lost an assignment gets its next best expert, if that
                         has room left
    ``"dropless"``       nobody is dropped
    """
    if policy == "dropless":
        return expert_TK
    T, K = expert_TK.shape
    order_T = torch.arange(T, device=expert_TK.device)
    if policy == "random":
        order_T = torch.randperm(T, device=expert_TK.device)
    elif policy == "priority":
        order_T = probs_TE.amax(-1).argsort(descending=True, stable=True)

    E = probs_TE.shape[-1]
    queue_KT = expert_TK[order_T].T
    place_KT = place_in_queue(queue_KT.reshape(-1), E).view(K, T)
    kept_TK = torch.empty_like(expert_TK)
    kept_TK[order_T] = torch.where(place_KT < C, queue_KT, -1).T
    return reassign(kept_TK, probs_TE, C) if policy == "second-choice" else kept_TK


def place_in_queue(expert_N: Tensor, experts: int) -> Tensor:
    """How many earlier entries want the same expert [N]; -1 where the entry itself is -1."""
    wants_NE = expert_N[:, None] == torch.arange(experts, device=expert_N.device)
    return (wants_NE.cumsum(0) * wants_NE).sum(-1) - 1


def reassign(kept_TK: Tensor, probs_TE: Tensor, C: int) -> Tensor:
    """Offer each token's first dropped assignment to its best expert outside its top k, while there is room."""
    T, K = kept_TK.shape
    lost_TK = kept_TK < 0
    column_T = lost_TK.int().argmax(-1)
    spare_T = torch.where(lost_TK.any(-1), probs_TE.topk(K + 1, dim=-1).indices[:, K], -1)
    taken_E = count(kept_TK, probs_TE.shape[-1])
    place_T = place_in_queue(spare_T, probs_TE.shape[-1]) + taken_E[spare_T]
    column_T1, row_T1 = column_T[:, None], torch.where(place_T < C, spare_T, -1)[:, None]
    return torch.where(lost_TK.any(-1, keepdim=True), kept_TK.scatter(1, column_T1, row_T1), kept_TK)
