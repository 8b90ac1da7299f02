"""A small GPT: pre-norm decoder whose FFNs may be mixtures of experts.

    model = GPT(GPTConfig(width=96, depth=6, moe=MoEConfig(experts=8, k=2)))
    logits_BNV = model(tokens_BN)

Each choice that language models differ in (norm, positions, FFN, tied embeddings, biases, grouped queries) is a
field, because growing a model exactly means something else for each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.feedforward import KINDS, FeedForward
from lib.models.rotary import angles, rotate
from lib.models.softmax_attention import softmax_attention
from lib.moe.experts import Experts
from lib.moe.layer import MoEConfig, MoELayer
from lib.moe.routers import ROUTERS
from lib.moe.routing import Routing
from lib.system.checks import one_of, require

NORMS = ("rms", "layer")
POSITIONS = ("rope", "learned")

#: Routers that choose for each token by itself.
CAUSAL = tuple(name for name, router in ROUTERS.items() if router.causal)


@dataclass(frozen=True)
class GPTConfig:
    """Geometry of a :class:`GPT`.  Raises ValueError, saying what to do, where it does not fit together.

    ``vocabulary``, ``context``  tokens that exist, and the longest text that is seen at once
    ``kv_heads``  heads of keys and values, each shared by heads / kv_heads query heads (GQA, arXiv 2305.13245);
                  None: as many as there are heads
    ``hidden``    width of the FFNs and of each expert before it is split
    ``norm``      "rms" (arXiv 1910.07467) or "layer"
    ``tied``      one matrix for embedding and head
    ``bias``      whether linear layers, experts and layer norms have biases
    ``dropout``   after the embedding and on each residual branch
    """

    vocabulary: int = 512
    context: int = 128
    width: int = 96
    depth: int = 4
    heads: int = 4
    kv_heads: int | None = None
    hidden: int = 256
    norm: str = "rms"
    positions: str = "rope"
    ffn: str = "swiglu"
    tied: bool = True
    bias: bool = False
    moe: MoEConfig | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        one_of("norm", self.norm, NORMS)
        one_of("positions", self.positions, POSITIONS)
        one_of("ffn", self.ffn, KINDS)
        for name in ("vocabulary", "context", "width", "depth", "heads", "hidden"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: it must be at least 1")
        require(self.width % self.heads == 0, f"width {self.width} cannot be shared by {self.heads} heads: choose a multiple")
        require(
            self.keys >= 1 and self.heads % self.keys == 0, f"{self.heads} heads cannot share {self.keys} key-value heads: choose a divisor"
        )
        require(
            self.positions != "rope" or self.head_dim % 2 == 0,
            f"rotary positions turn pairs, and a head has {self.head_dim} features: choose an even number",
        )
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}: it must be in [0, 1)")
        if self.moe:
            require(
                self.moe.router in CAUSAL,
                f"router {self.moe.router!r} looks at tokens that are yet to come, or at images: use one of {', '.join(CAUSAL)}",
            )
            require(self.moe.policy == "dropless", f"policy {self.moe.policy!r} drops tokens by what follows them: use 'dropless'")
            require(not self.moe.shared, "a GPT's mixtures have no shared experts: use shared=0")
            require(self.moe.placement == "all", "every layer of a GPT has experts or none: use placement='all'")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def keys(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads


#: The four phases of the student project (model-growth): 12 layers × 512, with experts, 1024 wide, 15 layers.  It stated
#: the sizes with GPT-2's vocabulary, tied; its FFN has SwiGLU's three matrices.
_DENSE = dict(vocabulary=50257, context=256, width=512, depth=12, heads=8, hidden=2048)
_WIDE = _DENSE | dict(width=1024, heads=16, hidden=4096, moe=MoEConfig(experts=8, k=2))
PRESETS: dict[str, GPTConfig] = {
    "dense": GPTConfig(**_DENSE),
    "experts": GPTConfig(**_DENSE, moe=MoEConfig(experts=8, k=2)),
    "wide": GPTConfig(**_WIDE),
    "deep": GPTConfig(**_WIDE | dict(depth=15)),
}


class Attention(nn.Module):
    """Causal self-attention, softmax(q kᵀ / √d) v, with rotary positions if ``rope`` is given to ``forward``."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        width, self.head_dim = config.width, config.head_dim
        self.q = nn.Linear(width, config.heads * self.head_dim, config.bias)
        self.k = nn.Linear(width, config.keys * self.head_dim, config.bias)
        self.v = nn.Linear(width, config.keys * self.head_dim, config.bias)
        self.out = nn.Linear(config.heads * self.head_dim, width, config.bias)

    def forward(self, x_BND: Tensor, rope: tuple[Tensor, Tensor] | None, cache: LayerCache | None = None) -> Tensor:
        B, N, _ = x_BND.shape
        q, k, v = (layer(x_BND).unflatten(2, (-1, self.head_dim)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        if cache is not None:
            k, v = cache.extend(k, v)
        if k.shape[1] < q.shape[1]:  # repeated rather than ``enable_gqa``, for which CPUs have no fast kernel
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        # A single new token may see all that is cached; is_causal would align it with the first key.
        y_BHNd = softmax_attention(q, k, v, causal=N > 1)
        return self.out(y_BHNd.transpose(1, 2).flatten(2))


class LayerCache:
    """Keys and values [B, heads, N, d] of the tokens one layer has seen: a first stretch of text, then one at a time."""

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of new tokens, and return all.  Raises ValueError for several tokens after the first stretch."""
        if self.k is not None:
            require(k.shape[2] == 1, f"{k.shape[2]} tokens after a cached text: give them one at a time")
            k, v = torch.cat([self.k, k], dim=2), torch.cat([self.v, v], dim=2)
        self.k, self.v = k, v
        return k, v

    def __len__(self) -> int:
        return 0 if self.k is None else self.k.shape[2]


class Block(nn.Module):
    """x + Attention(norm(x)), then x + FFN(norm(x)); returns (x [B, N, D], Routing or None)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm1 = norm(config)
        self.attention = Attention(config)
        self.norm2 = norm(config)
        self.ffn = (
            MoELayer(config.moe, config.width, config.hidden, activation=config.ffn, bias=config.bias)
            if config.moe
            else FeedForward(config.width, config.hidden, config.ffn, config.bias)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BND: Tensor, rope, cache: LayerCache | None) -> tuple[Tensor, Routing | None]:
        x_BND = x_BND + self.dropout(self.attention(self.norm1(x_BND), rope, cache))
        h_BND = self.norm2(x_BND)
        y_BND, routing = (self.ffn(h_BND), None) if isinstance(self.ffn, FeedForward) else self.ffn(h_BND)
        return x_BND + self.dropout(y_BND), routing


class GPT(nn.Module):
    """Token embedding (+ learned positions) → blocks → norm → head."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(config.context, config.width)) if config.positions == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = norm(config)
        self.head = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Weights ~ N(0, 1/(3·fan-in)), those that write into the residual stream a factor √(2·depth) smaller (GPT-2).

        Embeddings ~ N(0, 1/width), so that the logits of a tied model start with a standard deviation of 1.  Routers keep
        their own.
        """
        writes = 1 / math.sqrt(2 * self.config.depth)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                scale = writes if name.endswith((".out", ".down")) else 1.0
                module.weight.normal_(std=scale / math.sqrt(3 * module.in_features))
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, Experts):
                module.w_in.normal_(std=1 / math.sqrt(3 * module.w_in.shape[1]))
                module.w_out.normal_(std=writes / math.sqrt(3 * module.w_out.shape[1]))
        self.embed.weight.normal_(std=1 / math.sqrt(self.config.width))
        if self.positions is not None:
            self.positions.normal_(std=0.5 / math.sqrt(self.config.width))

    def forward(self, tokens_BN: Tensor) -> Tensor:
        """Logits [B, N, V] of the token after each; int64 ``tokens_BN`` with N up to ``context``."""
        return self.with_routing(tokens_BN)[0]

    def with_routing(self, tokens_BN: Tensor, caches: list[LayerCache] | None = None) -> tuple[Tensor, list[Routing]]:
        """Logits, and the :class:`~lib.moe.routing.Routing` of each MoE layer, first to last.

        ``caches``, one per layer: what came before, see :func:`lib.models.generate.generate`.  Raises ValueError for a
        text that is longer than the context.
        """
        begin = len(caches[0]) if caches else 0
        end = begin + tokens_BN.shape[1]
        require(end <= self.config.context, f"a text of {end} tokens does not fit the context of {self.config.context}: cut it")
        x_BND = self.embed(tokens_BN)
        rope = None
        if self.positions is not None:
            x_BND = x_BND + self.positions[begin:end]
        else:
            rope = angles(torch.arange(begin, end, device=tokens_BN.device), self.config.head_dim)
        x_BND = self.dropout(x_BND)

        routings = []
        for layer, block in enumerate(self.blocks):
            x_BND, routing = block(x_BND, rope, caches[layer] if caches else None)
            if routing is not None:
                routings.append(routing)
        return F.linear(self.norm(x_BND), self.embed.weight if self.head is None else self.head.weight), routings

    def active_parameters(self) -> int:
        """Parameters that one token passes through; an untied embedding counts with one row."""
        layers = [block.ffn for block in self.blocks if isinstance(block.ffn, MoELayer)]
        idle = sum(sum(p.numel() for p in layer.parameters()) - layer.active_parameters() for layer in layers)
        looked_up = 0 if self.head is None else self.embed.weight.numel() - self.config.width
        return sum(p.numel() for p in self.parameters()) - idle - looked_up


def norm(config: GPTConfig) -> nn.Module:
    return nn.RMSNorm(config.width, eps=1e-6) if config.norm == "rms" else nn.LayerNorm(config.width, bias=config.bias)
