"""Do experts do different things?  How far their weights are apart, and what a token's kind says about its expert."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.moe.experts import Experts
from lib.moe.routing import Routing


def expert_distance(experts: Experts) -> Tensor:
    """Root mean square distance of two experts' weights over the root mean square norm of one; 0 for copies.

    √2 for independent ones of mean zero.  Over all pairs, w_in and w_out together, without biases; a 0-d tensor.
    """
    weights_EP = torch.cat([experts.w_in.flatten(1), experts.w_out.flatten(1)], dim=1).double()
    E = len(weights_EP)
    spread = (weights_EP - weights_EP.mean(0)).square().sum() / max(1, E - 1)  # Σ over pairs |a - b|² / pairs = 2 · this
    return (2 * spread / weights_EP.square().sum(1).mean().clamp(min=1e-30)).sqrt()


def router_entropy(routing: Routing) -> Tensor:
    """Mean over tokens of -Σ p log p / log E: 1 where the router is indifferent, 0 where it is sure."""
    probs_TE = routing.probs_TE.float()
    return -torch.xlogy(probs_TE, probs_TE).sum(-1).mean() / math.log(max(2, probs_TE.shape[-1]))


def token_information(routing: Routing, kind_T: Tensor, kinds: int) -> Tensor:
    """Mutual information of a token's kind and its experts, in bits: 0 where choice does not depend on it.

    ``kind_T`` int64 in 0 … kinds - 1.  At most log2 (E / K) for K different experts per token.  A router that goes by the
    token reaches much of that whatever its experts are, so this says what the router reads, not what experts do.  Counted
    on the given tokens: experts drawn at random have a value above 0, the more so the rarer kinds are.
    """
    T, K = routing.expert_TK.shape
    E = len(routing.load_E)
    pairs = (kind_T[:, None] * E + routing.expert_TK).flatten()
    joint_VE = torch.bincount(pairs, minlength=kinds * E).view(kinds, E).double() / (T * K)
    apart_VE = joint_VE.sum(1, keepdim=True) * joint_VE.sum(0, keepdim=True)
    return torch.xlogy(joint_VE, joint_VE / apart_VE.clamp(min=1e-30)).sum() / math.log(2)
