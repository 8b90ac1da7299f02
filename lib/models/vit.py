"""A vision transformer whose FFNs may be mixtures of experts.

model = ViT(preset("small", moe=MoEConfig(experts=16)))
logits, routings = model.with_routing(images)      # one Routing per MoE layer
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.models.conv_stem import ConvStem
from lib.models.layers import Attention, Block
from lib.moe.experts import Experts
from lib.moe.ffn import Mlp
from lib.moe.gate import truncated_normal_
from lib.moe.layer import MoEConfig, MoELayer
from lib.moe.routers.hash import PatchCodes
from lib.moe.routers.whole_network import draw_network
from lib.moe.routing import Routing
from lib.system.checks import one_of

POOLS = ("mean", "class")
STEMS = ("patch", "conv", "strided")


@dataclass(frozen=True)
class ViTConfig:
    """Geometry of a :class:`ViT`.  Raises ValueError, saying what to do, where it does not fit together.

    ``heads``       attention heads; ``head_dim`` features of each, None: the width's share
    ``hidden``      width of the FFNs and of each expert
    ``moe``         mixture of experts in place of FFNs, None: dense.  ``heads``, ``hidden`` and ``moe`` may be
                    tuples with one entry per layer
    ``pool``        ``"mean"`` of the tokens, or a ``"class"`` token (which has no position of its own)
    ``head_hidden`` width of a hidden layer in the head; None: the head is linear
    ``positions``   rows of the position table; None: one per patch
    ``drop_path``   stochastic depth of the last block, growing linearly from 0 at the first
    ``init``        weights of the blocks ~ N(0, init / fan-in), cut at 2σ; 0.1 is Switch's choice and close
                    to the usual σ = 0.02 at width 320
    ``stem``        ``"patch"``, a linear map of each patch, ``"conv"``, see :mod:`lib.models.conv_stem`, or
                    ``"strided"``, the same without its residual convolution
    """

    image_size: int = 32
    channels: int = 3
    patch: int = 4
    width: int = 96
    depth: int = 4
    heads: int | tuple[int, ...] = 6
    hidden: int | tuple[int, ...] = 384
    classes: int = 10
    moe: MoEConfig | tuple[MoEConfig | None, ...] | None = None
    drop_path: float = 0.0
    pool: str = "mean"
    head_hidden: int | None = None
    positions: int | None = None
    init: float = 0.1
    head_dim: int | None = None
    stem: str = "patch"

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise ValueError(
                f"images of {self.image_size} pixels cannot be cut into patches of {self.patch}: choose a patch size that divides the image"
            )
        for name in ("heads", "hidden", "moe"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.depth:
                raise ValueError(f"{name} has {len(value)} entries for {self.depth} layers: give one per layer")
        for heads in self.heads_by_layer:
            if self.head_dim is None and self.width % heads:
                raise ValueError(f"width {self.width} cannot be shared by {heads} heads: choose a multiple")
        one_of("pool", self.pool, POOLS)
        one_of("stem", self.stem, STEMS)
        if self.positions is not None and self.positions < self.patches:
            raise ValueError(f"a table of {self.positions} positions is too small for {self.patches} patches")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path is {self.drop_path}: it must be in [0, 1)")

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch) ** 2

    @property
    def tokens(self) -> int:
        """Patches, and the class token if there is one."""
        return self.patches + (self.pool == "class")

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden width of each layer."""
        return self.hidden if isinstance(self.hidden, tuple) else (self.hidden,) * self.depth

    @property
    def heads_by_layer(self) -> tuple[int, ...]:
        return self.heads if isinstance(self.heads, tuple) else (self.heads,) * self.depth

    @property
    def mixtures(self) -> tuple[MoEConfig | None, ...]:
        """The mixture of each layer, None where its FFN is dense."""
        if isinstance(self.moe, tuple):
            return self.moe
        places = self.moe.places(self.depth) if self.moe else [False] * self.depth
        return tuple(self.moe if place else None for place in places)

    @property
    def patch_codes(self) -> int:
        """Size of the vocabulary of patch codes; 0 unless a router goes by them."""
        return max((moe.codes for moe in self.mixtures if moe and moe.router == "hash" and moe.hash_by == "patch"), default=0)


class ViT(nn.Module):
    """Patches → linear embedding or convolutional stem + learned positions → pre-norm blocks → norm → pool → head."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        pixels = config.channels * config.patch**2
        if config.stem == "patch":
            self.embed = nn.Linear(pixels, config.width)
        else:
            self.embed = ConvStem(config.channels, config.width, config.patch, residual=config.stem == "conv")
        self.positions = nn.Parameter(torch.empty(config.positions or config.patches, config.width))
        self.class_token = nn.Parameter(torch.empty(config.width)) if config.pool == "class" else None
        self.blocks = nn.ModuleList(self.block(layer) for layer in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = (
            nn.Linear(config.width, config.classes)
            if config.head_hidden is None
            else nn.Sequential(nn.Linear(config.width, config.head_hidden), nn.GELU(), nn.Linear(config.head_hidden, config.classes))
        )
        self.codes = PatchCodes(config.patch_codes, pixels) if config.patch_codes else None
        self.initialise()

    def block(self, layer: int) -> Block:
        config, hidden, moe = self.config, self.config.widths[layer], self.config.mixtures[layer]
        attention = Attention(config.width, config.heads_by_layer[layer], config.head_dim)
        ffn = MoELayer(moe, config.width, hidden, config.tokens) if moe else Mlp(config.width, hidden)
        return Block(config.width, attention, ffn, config.drop_path * layer / max(1, config.depth - 1))

    def initialise(self) -> None:
        """Experts get the same distribution as the dense FFN that they replace; routers keep their own.

        Patches enter at unit scale and positions at half of it: with the usual 0.02 a short run is
        over before the model can tell positions apart.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                truncated_normal_(module.weight, math.sqrt(self.config.init / module.in_features))
                nn.init.zeros_(module.bias)
            elif isinstance(module, Experts):
                module.reset_parameters(self.config.init)
        if self.config.stem == "patch":
            truncated_normal_(self.embed.weight, math.sqrt(1 / self.embed.in_features))
        truncated_normal_(self.positions, 0.5)
        if self.class_token is not None:
            truncated_normal_(self.class_token, 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W], in at least fp32."""
        return self.with_routing(images)[0]

    def with_routing(self, images: Tensor) -> tuple[Tensor, list[Routing]]:
        """Logits, and the :class:`~lib.moe.routing.Routing` of each MoE layer, first to last."""
        return self.routed(self.tokens(images), self.patch_ids(images))

    def tokens(self, images: Tensor) -> Tensor:
        """What enters the first block [B, N, D]: embedded patches with their positions, after the class token if there is one."""
        x_BND = self.embedded(images) + self.positions[: self.config.patches]
        if self.class_token is not None:
            x_BND = torch.cat([self.class_token.expand(len(x_BND), 1, -1), x_BND], dim=1)
        return x_BND

    def routed(self, x_BND: Tensor, id_BN: Tensor | None = None) -> tuple[Tensor, list[Routing]]:
        """:meth:`with_routing` of :meth:`tokens`; ``id_BN`` are their patch codes."""
        if self.training:
            draw_network(self, x_BND.device)
        routings = []
        for block in self.blocks:
            x_BND, routing = block(x_BND, id_BN)
            if routing is not None:
                routings.append(routing)

        x_BND = self.norm(x_BND)
        pooled_BD = x_BND.mean(1) if self.class_token is None else x_BND[:, 0]
        logits = self.head(pooled_BD)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), routings

    def embedded(self, images: Tensor) -> Tensor:
        """What the stem makes of each patch [B, N, D], positions not yet added."""
        if self.config.stem != "patch":
            return self.embed(images).flatten(2).transpose(1, 2)
        return self.embed(self.patches(images))

    def patches(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] as rows of patches, flattened: [B, N, C·p·p]."""
        p = self.config.patch
        B, C, H, W = images.shape
        tiles = images.reshape(B, C, H // p, p, W // p, p)
        return tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def patch_ids(self, images: Tensor) -> Tensor | None:
        """Patch code of each token [B, N]; None unless a router goes by them.  A class token has its own."""
        if self.codes is None:
            return None
        id_BN = self.codes(self.patches(images))
        if self.class_token is None:
            return id_BN
        return torch.cat([torch.full_like(id_BN[:, :1], self.config.patch_codes), id_BN], dim=1)


PRESETS = {
    # digits on a laptop, CIFAR on a CPU, CIFAR on a GPU, the last two with a convolutional stem: all widths are multiples of 8
    "tiny": ViTConfig(image_size=8, channels=1, patch=2, width=48, depth=2, heads=3, hidden=96),
    "small": ViTConfig(image_size=32, channels=3, patch=4, width=96, depth=4, heads=6, hidden=384),
    "base": ViTConfig(image_size=32, channels=3, patch=4, width=320, depth=12, heads=10, hidden=1024),
    "stemmed": ViTConfig(image_size=32, channels=3, patch=4, width=192, depth=6, heads=6, hidden=768, stem="conv"),
    "small-stemmed": ViTConfig(image_size=32, channels=3, patch=8, width=64, depth=4, heads=2, hidden=64, stem="conv"),
}


def preset(name: str, **changes) -> ViTConfig:
    """A size by name, one of :data:`PRESETS`, with some fields changed.

    Raises ValueError for another name.
    """
    one_of("preset", name, PRESETS)
    return replace(PRESETS[name], **changes)


def seed_geometry(experts: int | None = None) -> ViTConfig:
    """The Switch-ViT for CIFAR-10 of the student project that the mixtures chapter answers, dense or with 32 or 64 experts.

    12,798,490 parameters dense, 238,732,426 with 32 experts, 464,669,962 with 64.  Its odd sizes are kept
    (d = 300 is not a multiple of 8; the position table is 300 × 300 for 64 patches; the experts are narrower
    than the dense FFN by E/2 - 2).  Its dropout of 0.1 is not, nor that a token dropped by an expert is
    passed on as p·LN(x), nor that tokens are dropped in evaluation too.
    """
    moe = None
    if experts is not None:
        moe = MoEConfig(experts=experts, router_bias=True, balance=0, policy="random", capacity_factor=1.0)
    return ViTConfig(
        width=300,
        depth=12,
        heads=12,
        hidden=1024 if moe is None else 1024 - experts // 2 + 2,
        moe=moe,
        pool="class",
        head_hidden=3072,
        positions=300,
    )
