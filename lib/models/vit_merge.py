"""From a mixture back to one network: average the experts of each layer into a dense FFN.

The merged model is an ordinary ViT with the dense model's cost.  It is exact when the experts are equal and
every token's gates have the same sum (hash, random routing, normalised top k).  How much it loses otherwise
is what experts that were pulled together (EWA) or made to agree (THOR, AdaMix) are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.models.vit import ViT
from lib.moe.average import average
from lib.moe.ffn import Mlp
from lib.moe.layer import MoELayer
from lib.moe.routing import Routing
from lib.system.checks import one_of

HOW = ("uniform", "usage")


@torch.no_grad()
def merge_to_dense(model: ViT, how: str = "uniform", routings: Sequence[Routing] | None = None) -> ViT:
    """A new dense ViT, in evaluation mode, whose FFNs are averages of ``model``'s experts.

    ``how="uniform"`` weighs experts equally, ``"usage"`` by the gate weight they were given in
    ``routings``, one per MoE layer as :meth:`~lib.models.vit.ViT.with_routing` returns them for held-out
    images.  With ``routings`` the FFN's output is also scaled by the mean gate weight of a token, which is
    below 1 for Switch, V-MoE and bias with k = 1, varies for expert choice, and is 1 for the others.  Shared experts are put beside the average.

    Raises ValueError for an unknown ``how``, for "usage" without routings, and for a wrong number of them.
    """
    one_of("how", how, HOW)
    if how == "usage" and routings is None:
        raise ValueError("how='usage' needs routings: pass model.with_routing(images)[1] of held-out images")
    moe_layers = [block.ffn for block in model.blocks if isinstance(block.ffn, MoELayer)]
    if routings is not None and len(routings) != len(moe_layers):
        raise ValueError(f"got {len(routings)} routings for {len(moe_layers)} MoE layers: give one per layer")

    remaining = iter(routings or [None] * len(moe_layers))
    ffns = [merged_ffn(block.ffn, how, next(remaining)) if isinstance(block.ffn, MoELayer) else block.ffn for block in model.blocks]
    dense = ViT(replace(model.config, moe=None, hidden=tuple(ffn.fc1.out_features for ffn in ffns)))
    dense.to(model.positions)  # device and data type
    wanted = dense.state_dict()
    state = {name: tensor for name, tensor in model.state_dict().items() if name in wanted}
    for layer, ffn in enumerate(ffns):
        state |= {f"blocks.{layer}.ffn.{name}": tensor for name, tensor in ffn.state_dict().items()}
    dense.load_state_dict(state)
    return dense.eval()


def merged_ffn(layer: MoELayer, how: str, routing: Routing | None) -> nn.Module:
    """The average of a layer's experts, next to its shared experts, as one :class:`Mlp`."""
    weight_E, scale = None, 1.0
    if routing is not None:
        given_E = gate_weight(routing)
        weight_E = given_E if how == "usage" else None
        scale = given_E.sum() / len(routing.gate_TK)
    ffn = average(layer.experts, weight_E)
    w_in, b_in, w_out, b_out = ffn.w_in.T, ffn.b_in, scale * ffn.w_out.T, scale * ffn.b_out
    if layer.shared is not None:
        w_in = torch.cat([w_in, layer.shared.fc1.weight])
        b_in = torch.cat([b_in, layer.shared.fc1.bias])
        w_out = torch.cat([w_out, layer.shared.fc2.weight], dim=1)
        b_out = b_out + layer.shared.fc2.bias
    merged = Mlp(w_in.shape[1], w_in.shape[0]).to(w_in)
    merged.load_state_dict({"fc1.weight": w_in, "fc1.bias": b_in, "fc2.weight": w_out, "fc2.bias": b_out})
    return merged


def gate_weight(routing: Routing) -> Tensor:
    """Sum of the gates given to each expert [E]."""
    return routing.gate_TKE.sum((0, 1))
