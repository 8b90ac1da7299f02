"""Renumbering units, so that the first ones are the important ones and a prefix is a good sub-network.

Heads, hidden units and experts may stand in any order: what goes in and what comes out is permuted together, and
the whole network computes the same function.  Layers may not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.elastic import importance
from lib.elastic.supernet import ElasticAttention, ElasticMlp, ElasticMoE, ElasticViT
from lib.moe.ffn import Mlp


@torch.no_grad()
def reorder(model: ElasticViT, expert_scores: list[Tensor] | None = None) -> ElasticViT:
    """Put heads and hidden units into the order of their L1 norms, in place; each expert's units into its own order.

    With ``expert_scores`` (one [E] per MoE layer, see :func:`lib.elastic.importance.reap`) experts too, together
    with their rows of the router and their balancing biases.
    """
    remaining = iter(expert_scores or ())
    for block in model.blocks:
        reorder_heads(block.attention, descending(importance.heads(block.attention)))
        order = descending(importance.ffn_channels(block.ffn))
        if isinstance(block.ffn, ElasticMlp):
            reorder_channels(block.ffn, order)
        else:
            reorder_expert_channels(block.ffn, order)
            if expert_scores is not None:
                reorder_experts(block.ffn, descending(next(remaining)))
    return model


def descending(scores: Tensor) -> Tensor:
    return scores.argsort(dim=-1, descending=True, stable=True)


def reorder_heads(attention: ElasticAttention, order_H: Tensor) -> None:
    H, d = attention.heads, attention.head_dim
    qkv, out = attention.qkv, attention.out
    qkv.weight.copy_(qkv.weight.view(3, H, d, -1)[:, order_H].reshape(qkv.weight.shape))
    qkv.bias.copy_(qkv.bias.view(3, H, d)[:, order_H].reshape(-1))
    out.weight.copy_(out.weight.view(-1, H, d)[:, order_H].reshape(out.weight.shape))


def reorder_channels(ffn: Mlp, order_H: Tensor) -> None:
    ffn.fc1.weight.copy_(ffn.fc1.weight[order_H])
    ffn.fc1.bias.copy_(ffn.fc1.bias[order_H])
    ffn.fc2.weight.copy_(ffn.fc2.weight[:, order_H])


def reorder_expert_channels(ffn: ElasticMoE, order_EH: Tensor) -> None:
    experts = ffn.experts
    experts.w_in.copy_(experts.w_in.take_along_dim(order_EH[:, None, :], 2))
    experts.b_in.copy_(experts.b_in.take_along_dim(order_EH, 1))
    experts.w_out.copy_(experts.w_out.take_along_dim(order_EH[:, :, None], 1))


def reorder_experts(ffn: ElasticMoE, order_E: Tensor) -> None:
    for tensor in (*ffn.experts.parameters(), *ffn.router.state_dict().values()):  # each has one row per expert
        tensor.copy_(tensor[order_E.to(tensor.device)])
