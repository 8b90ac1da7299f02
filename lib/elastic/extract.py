"""Cutting a sub-network out: an ordinary, smaller :class:`~lib.models.vit.ViT` that knows nothing of the whole."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lib.elastic.subnet import LayerUnits, Subnet
from lib.elastic.supernet import ElasticViT, heads_of, take
from lib.models.vit import ViT, ViTConfig
from lib.moe.ffn import Mlp


@torch.no_grad()
def extract(model: ElasticViT, subnet: Subnet | None = None) -> ViT:
    """A standalone copy of a sub-network (None: the one switched on), in evaluation mode.

    Every tensor is sliced: what was left out is gone, from memory, from the file and from the compute.
    Its outputs are the sub-network's, up to the order in which sums are taken.
    """
    subnet = subnet or model.subnet
    small = ViT(extracted_config(model.config, subnet)).to(model.positions)
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("blocks.")}
    for place, units in enumerate(subnet.layers):
        kept |= {f"blocks.{place}.{name}": tensor for name, tensor in sliced(model.blocks[units.layer], units).items()}
    small.load_state_dict({name: tensor.clone() for name, tensor in kept.items()})
    return small.eval()


def extracted_config(config: ViTConfig, subnet: Subnet) -> ViTConfig:
    """The configuration that the extracted network is built from."""
    layers = subnet.layers
    mixtures = tuple(
        replace(moe, experts=len(units.experts), k=units.k, placement="all") if moe else None
        for units in layers
        for moe in [config.mixtures[units.layer]]
    )
    head_dim = config.head_dim or config.width // config.heads_by_layer[0]
    return replace(
        config,
        depth=len(layers),
        heads=tuple(len(units.heads) for units in layers),
        hidden=tuple(len(units.hidden) for units in layers),
        moe=mixtures if any(mixtures) else None,
        head_dim=head_dim,
        drop_path=0.0,
    )


def sliced(block: torch.nn.Module, units: LayerUnits) -> dict[str, Tensor]:
    """A block's tensors, cut down to the units that stay, by the names they have in the block."""
    names = ("qkv.weight", "qkv.bias", "out.weight", "out.bias")
    found = {f"attention.{name}": tensor for name, tensor in zip(names, heads_of(block.attention, units.heads))}
    for norm in ("norm1", "norm2"):
        found |= {f"{norm}.{name}": tensor for name, tensor in getattr(block, norm).state_dict().items()}
    ffn, hidden = block.ffn, units.hidden
    if isinstance(ffn, Mlp):
        cut = {
            "fc1.weight": take(ffn.fc1.weight, 0, hidden),
            "fc1.bias": take(ffn.fc1.bias, 0, hidden),
            "fc2.weight": take(ffn.fc2.weight, 1, hidden),
            "fc2.bias": ffn.fc2.bias,
        }
    else:
        experts = ffn.experts
        cut = {
            "experts.w_in": take(experts.w_in, 2, hidden),
            "experts.b_in": take(experts.b_in, 1, hidden),
            "experts.w_out": take(experts.w_out, 1, hidden),
            "experts.b_out": experts.b_out,
        }
        cut |= {f"router.{name}": tensor for name, tensor in ffn.router.state_dict().items()}  # all have one row per expert
        cut = {name: take(tensor, 0, units.experts) for name, tensor in cut.items()}
    return found | {f"ffn.{name}": tensor for name, tensor in cut.items()}
