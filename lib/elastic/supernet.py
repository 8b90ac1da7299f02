"""A vision transformer of which any sub-network can be run: :class:`ElasticViT`.

Its weights have the names and shapes of the ordinary :class:`~lib.models.vit.ViT` of the same configuration,
so either loads the other's file.  What a sub-network leaves out is not computed: layers are skipped, heads and
hidden units are sliced off, and no token is sent to an inactive expert.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.elastic.config import Size, Space
from lib.elastic.router import MaskedBiasBalanced, MaskedTokenChoice
from lib.elastic.subnet import LayerUnits, Policy, Ranking, Subnet, Units, choose, whole_subnet
from lib.models.layers import Attention, Block, attend
from lib.models.vit import ViT, ViTConfig
from lib.moe.backends import Weights
from lib.moe.experts import Experts
from lib.moe.ffn import Mlp
from lib.moe.gate import Gate
from lib.moe.layer import MoEConfig, MoELayer
from lib.moe.routing import Routing
from lib.system.checks import one_of, require

ROUTERS = ("switch", "bias")


class ElasticViT(ViT):
    """A ViT with a sub-network switched on; at first the whole.

        model = ElasticViT(geometry(space, ...))
        model.use(Size(depth=3, heads=6, hidden=96, experts=8, k=1))
        logits = model(images)             # of the sub-network

    Raises ValueError for routers that cannot be masked or have biases, for shared or split experts, for capacity
    limits, and for a hidden layer in the head.
    """

    def __init__(self, config: ViTConfig):
        require(
            config.head_hidden is None,
            "an elastic network's head is one linear layer, as lib.elastic.cost counts it: leave head_hidden at None",
        )
        for moe in config.mixtures:
            if moe is not None:
                one_of("router of an elastic network", moe.router, ROUTERS)
                require(
                    moe.split == 1 and not moe.shared and moe.policy == "dropless" and not moe.z_loss,
                    "an elastic network's experts are whole, unshared and dropless, without z-loss",
                )
                require(
                    not moe.router_bias,
                    "an elastic network's routers have no bias, as lib.elastic.cost counts them: leave router_bias at False",
                )
        super().__init__(config)
        self.whole = size_of(config)
        self.select(whole_subnet(self.whole))

    def block(self, layer: int) -> ElasticBlock:
        config, hidden, moe = self.config, self.config.widths[layer], self.config.mixtures[layer]
        ffn = ElasticMoE(moe, config.width, hidden) if moe else ElasticMlp(config.width, hidden)
        attention = ElasticAttention(config.width, config.heads_by_layer[layer], config.head_dim)
        return ElasticBlock(config.width, attention, ffn, config.drop_path * layer / max(1, config.depth - 1))

    def select(self, subnet: Subnet) -> ElasticViT:
        """Run this sub-network from now on."""
        kept = {units.layer: units for units in subnet.layers}
        for index, block in enumerate(self.blocks):
            block.use(kept.get(index))
        self.subnet = subnet
        return self

    def use(self, size: Size, policy: Policy = Policy(), ranking: Ranking | None = None) -> ElasticViT:
        """Run a sub-network of this size, chosen by :func:`lib.elastic.subnet.choose`."""
        return self.select(choose(size, self.whole, policy, ranking))


def geometry(space: Space, *, width: int, moe: MoEConfig | None, **rest) -> ViTConfig:
    """The :class:`ViTConfig` of a space's whole network; ``moe`` says all about its mixture but experts and k.

    Head dimension is the width's share with all heads.  ``rest``: image_size, channels, patch, classes, ...
    Raises ValueError when the space has experts and ``moe`` is None.
    """
    largest = space.largest
    require((moe is not None) == space.moe, "a space with experts needs a mixture, one without must not have it")
    if moe is not None:
        moe = replace(moe, experts=largest.experts, k=largest.k)
    return ViTConfig(
        width=width, depth=largest.depth, heads=largest.heads, hidden=largest.hidden, moe=moe, head_dim=width // largest.heads, **rest
    )


def size_of(config: ViTConfig) -> Size:
    """The size of a network with this configuration."""
    mixtures = config.mixtures
    require(all(mixtures) or not any(mixtures), "an elastic network has experts in every layer, or in none")
    experts, k = (tuple(m.experts for m in mixtures), tuple(m.k for m in mixtures)) if all(mixtures) else (None, None)
    return Size(config.depth, *(same(column) for column in (config.heads_by_layer, config.widths, experts, k)))


def same(column: tuple | None):
    """One number for a column of equal ones."""
    return column[0] if column and len(set(column)) == 1 else column


class ElasticBlock(Block):
    """A block that may be skipped: its input is then its output."""

    def use(self, units: LayerUnits | None) -> None:
        self.active = units is not None
        if units:
            self.attention.use(units.heads)
            self.ffn.use(units)

    def forward(self, x_BND: Tensor, id_BN: Tensor | None = None) -> tuple[Tensor, Routing | None]:
        return super().forward(x_BND, id_BN) if self.active else (x_BND, None)


class ElasticAttention(Attention):
    def use(self, heads: Units) -> None:
        self.active = heads

    def forward(self, x_BND: Tensor) -> Tensor:
        """Attention with the active heads: their rows of q, k, v and their columns of the output."""
        return attend(x_BND, *heads_of(self, self.active), len(self.active))


class ElasticMlp(Mlp):
    def use(self, units: LayerUnits) -> None:
        self.active = units.hidden

    def forward(self, x: Tensor) -> Tensor:
        """The FFN with its active hidden units."""
        hidden = F.gelu(F.linear(x, take(self.fc1.weight, 0, self.active), take(self.fc1.bias, 0, self.active)))
        return F.linear(hidden, take(self.fc2.weight, 1, self.active), self.fc2.bias)


class ElasticExperts(Experts):
    """Experts of which each uses the same hidden units: nested within the full ones (MatFormer, arXiv 2310.07707)."""

    active: Units | None = None

    def weights(self) -> Weights:
        whole, units = super().weights(), self.active
        if units is None or len(units) == whole.w_in.shape[2]:
            return whole
        return Weights(take(whole.w_in, 2, units), take(whole.b_in, 1, units), take(whole.w_out, 1, units), whole.b_out)

    def cast(self, x: Tensor) -> tuple[Tensor, Weights]:
        x, (w_in, b_in, w_out, b_out) = super().cast(x)
        return x, Weights(w_in.contiguous(), b_in, w_out.contiguous(), b_out)  # grouped products want rows without gaps


class ElasticMoE(MoELayer):
    def __init__(self, config: MoEConfig, d_model: int, hidden: int):
        super().__init__(config, d_model, hidden)
        E, k = config.experts, config.k
        gate = Gate(d_model, E, precision=config.router_precision, jitter=config.jitter, init_scale=config.router_init)
        if config.router == "switch":
            self.router = MaskedTokenChoice(
                gate,
                E,
                k,
                balance=config.balance,
                z_weight=0.0,
                policy="dropless",
                capacity_factor=config.capacity_factor,
                single_gate=config.single_gate,
            )
        else:
            self.router = MaskedBiasBalanced(gate, E, k, rate=config.bias_rate, scores=config.scores)
        self.experts = ElasticExperts(E, d_model, hidden, backend=config.backend)

    def use(self, units: LayerUnits) -> None:
        self.router.use(units.experts, units.k, units.pool)
        self.experts.active = units.hidden


def take(weight: Tensor, dim: int, units: Units) -> Tensor:
    """Some of the units along a dimension; a view where they are the first ones."""
    if isinstance(units, range):
        return weight.narrow(dim, 0, len(units))
    return weight.index_select(dim, torch.tensor(units, device=weight.device))


def heads_of(attention: Attention, heads: Units) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of some heads: qkv [3·H·d, D] and its bias, out [D, H·d] and its bias."""
    qkv, out, H, d = attention.qkv, attention.out, attention.heads, attention.head_dim
    if len(heads) == H:
        return qkv.weight, qkv.bias, out.weight, out.bias
    weight = take(qkv.weight.view(3, H, d, -1), 1, heads).reshape(3 * len(heads) * d, -1)
    bias = take(qkv.bias.view(3, H, d), 1, heads).reshape(-1)
    return weight, bias, take(out.weight.view(-1, H, d), 1, heads).flatten(1), out.bias
