"""A small BERT: bidirectional, post-norm, and built so that heads, neurons and whole layers can be switched off or removed.

    encoder = Encoder(EncoderConfig(width=96, depth=4, heads=4))
    hidden_BND = encoder(tokens_BN, tokens_BN == pad)
    hidden_BND = encoder(tokens_BN, head_masks=[...], neuron_masks=[...], layer_masks=[...])

Masks are multiplied with the outputs of heads, of the neurons of each FFN, and of whole FFNs.  Whatever decides about them
(importance, learnt coefficients, a predictor that looks at the input) goes through this one mechanism, and what they switch
off for every input, :mod:`lib.models.encoder_remove` takes out for good.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.softmax_attention import softmax_attention
from lib.system.checks import require

#: One mask per layer.  A mask has one row for all inputs, [1, n], or one for each, [B, n]; None lets everything through.
Masks = Sequence[Tensor | None] | None


@dataclass(frozen=True)
class EncoderConfig:
    """Geometry of an :class:`Encoder`.  Raises ValueError, saying what to do, where it does not fit together.

    ``vocabulary``, ``context``  tokens that exist, special ones included, and the longest text that is seen at once
    ``heads``, ``hidden``        attention heads and FFN neurons; tuples have one entry per layer, which may be 0
    ``head_dim``                 features of a head; None: the width's share.  An encoder that lost heads keeps theirs
    ``dropout``                  after the embedding and on each residual branch
    ``norm_eps``                 added to the variance in each norm
    """

    vocabulary: int = 512
    context: int = 64
    width: int = 96
    depth: int = 4
    heads: int | tuple[int, ...] = 4
    hidden: int | tuple[int, ...] = 384
    head_dim: int | None = None
    dropout: float = 0.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "width", "depth"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("heads", "hidden"):
            counts = getattr(self, name)
            require(
                not isinstance(counts, tuple) or len(counts) == self.depth,
                f"{name} is {counts} for {self.depth} layers: give one number, or one per layer",
            )
            fewest = min(counts) if isinstance(counts, tuple) else counts
            require(fewest >= 0, f"{name} is {counts}: it cannot be negative")
        if self.head_dim is None:
            require(
                isinstance(self.heads, int) and self.heads >= 1,
                f"heads is {self.heads}: where layers differ, or have none, say how many features a head has (head_dim)",
            )
            require(
                self.width % self.heads == 0,
                f"width {self.width} cannot be shared by {self.heads} heads: choose a multiple, or give head_dim",
            )
        else:
            require(self.head_dim >= 1, f"head_dim is {self.head_dim}: it must be at least 1")
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}: it must be in [0, 1)")

    @property
    def heads_by_layer(self) -> tuple[int, ...]:
        return self.heads if isinstance(self.heads, tuple) else (self.heads,) * self.depth

    @property
    def hidden_by_layer(self) -> tuple[int, ...]:
        return self.hidden if isinstance(self.hidden, tuple) else (self.hidden,) * self.depth

    @property
    def head_features(self) -> int:
        return self.head_dim or self.width // self.heads


def masked(activations: Tensor, mask: Tensor) -> Tensor:
    """Their product, in the activations' type.

    A mask that is trained is multiplied in its own precision: bf16 has no number between 1 and 1.0078, and a coefficient
    that moves by a thousandth in a step would be rounded to the same ones for steps on end.
    """
    if mask.requires_grad:
        return (activations * mask).to(activations.dtype)
    return activations * mask.to(activations.dtype)


class Attention(nn.Module):
    """Multi-head self-attention, softmax(q kᵀ / √d) v, over all tokens but padding.

    Rows h·d to (h + 1)·d of ``q``, ``k`` and ``v`` and the same columns of ``out`` belong to head h.  Without heads only
    ``out``'s bias is left.
    """

    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.q = linear(width, heads * head_dim)
        self.k = linear(width, heads * head_dim)
        self.v = linear(width, heads * head_dim)
        self.out = linear(heads * head_dim, width)

    def forward(self, x_BND: Tensor, seen_B11N: Tensor | None = None, mask_BH: Tensor | None = None) -> Tensor:
        """``seen_B11N``: True where a token may be looked at.  ``mask_BH`` multiplies the heads' outputs."""
        if self.heads == 0:
            return self.out.bias.expand_as(x_BND)
        B, N, _ = x_BND.shape
        q, k, v = (layer(x_BND).view(B, N, self.heads, self.head_dim).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y_BHNd = softmax_attention(q, k, v, seen_B11N)
        if mask_BH is not None:
            y_BHNd = masked(y_BHNd, mask_BH[:, :, None, None])
        return self.out(y_BHNd.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """y = W_down gelu(W_up x + b_up) + b_down.  Without neurons only ``down``'s bias is left."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up = linear(width, hidden)
        self.down = linear(hidden, width)

    def forward(self, x_BND: Tensor, mask_Bh: Tensor | None = None) -> Tensor:
        """``mask_Bh`` multiplies the neurons' activations."""
        h_BNh = F.gelu(self.up(x_BND))
        if mask_Bh is not None:
            h_BNh = masked(h_BNh, mask_Bh[:, None, :])
        return self.down(h_BNh)


class Block(nn.Module):
    """norm1(x + Attention(x)), then norm2(x + FFN(x)): post-norm, as in BERT.

    The papers of this chapter are about BERT, whose residual stream is normalised after each addition; what is left of a
    layer that lost all its heads and neurons is its norms and biases.  With warm-up, six such layers train without trouble.
    """

    def __init__(self, config: EncoderConfig, layer: int):
        super().__init__()
        self.attention = Attention(config.width, config.heads_by_layer[layer], config.head_features)
        self.norm1 = nn.LayerNorm(config.width, config.norm_eps)
        self.ffn = FeedForward(config.width, config.hidden_by_layer[layer])
        self.norm2 = nn.LayerNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x_BND: Tensor,
        seen_B11N: Tensor | None = None,
        head_mask: Tensor | None = None,
        neuron_mask: Tensor | None = None,
        layer_mask: Tensor | None = None,
    ) -> Tensor:
        x_BND = self.norm1(x_BND + self.dropout(self.attention(x_BND, seen_B11N, head_mask)))
        y_BND = self.ffn(x_BND, neuron_mask)
        if layer_mask is not None:
            y_BND = masked(y_BND, layer_mask[:, :, None])
        return self.norm2(x_BND + self.dropout(y_BND))


class Encoder(nn.Module):
    """Embedding + learned positions → norm → blocks (Devlin et al., arXiv 1810.04805).

    Unlike BERT there is no embedding of the segments: the separator tells two sentences apart (as in RoBERTa,
    arXiv 1907.11692).
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(config.context, config.width))
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        initialise(self)
        with torch.no_grad():
            self.positions.normal_(std=0.5 * config.width**-0.5)

    def forward(
        self,
        tokens_BN: Tensor,
        padding_BN: Tensor | None = None,
        head_masks: Masks = None,
        neuron_masks: Masks = None,
        layer_masks: Masks = None,
    ) -> Tensor:
        """Hidden states [B, N, D] of int64 tokens.

        ``padding_BN``    True where a token only fills up the row; None: nowhere
        ``head_masks``    per layer [B or 1, heads], multiplied with the heads' outputs
        ``neuron_masks``  per layer [B or 1, hidden], multiplied with the FFN's activations
        ``layer_masks``   per layer [B or 1, 1], multiplied with the whole FFN's output, bias included

        Masks may be bool or float, also ones that need gradients.  Raises ValueError for a text that is longer than the
        context, and for another number of masks than there are layers.
        """
        x_BND, seen_B11N = self.start(tokens_BN, padding_BN)
        lists = [
            self.by_layer(name, masks)
            for name, masks in (("head_masks", head_masks), ("neuron_masks", neuron_masks), ("layer_masks", layer_masks))
        ]
        for block, *masks in zip(self.blocks, *lists):
            x_BND = block(x_BND, seen_B11N, *masks)
        return x_BND

    def start(self, tokens_BN: Tensor, padding_BN: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the first block gets: embedded tokens [B, N, D], and where they may be looked at [B, 1, 1, N] (None: all).

        For callers that decide about a layer's masks only when they see its input:
        ``for block in encoder.blocks: x = block(x, seen, head_mask, neuron_mask, layer_mask)``.
        """
        N = tokens_BN.shape[1]
        require(N <= self.config.context, f"a text of {N} tokens does not fit the context of {self.config.context}: cut it")
        x_BND = self.dropout(self.norm(self.embed(tokens_BN) + self.positions[:N]))
        return x_BND, None if padding_BN is None else ~padding_BN[:, None, None, :]

    def by_layer(self, name: str, masks: Masks) -> Sequence[Tensor | None]:
        require(
            masks is None or len(masks) == len(self.blocks),
            f"{name} has {0 if masks is None else len(masks)} entries for {len(self.blocks)} layers: give one per layer",
        )
        return [None] * len(self.blocks) if masks is None else masks


class MaskedLM(nn.Module):
    """An encoder with BERT's two heads of pre-training.

    Hidden tokens: Linear → GELU → norm → the embedding's own matrix (tied) + bias.  Whether the second text follows the
    first: the pooler on the first token, [CLS] (Linear → tanh), → Linear.
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        width = encoder.config.width
        self.encoder = encoder
        self.transform = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(encoder.config.vocabulary))
        self.pooler = nn.Linear(width, width)
        self.next = nn.Linear(width, 2)
        for part in (self.transform, self.pooler, self.next):
            initialise(part)

    def forward(self, tokens_BN: Tensor, places_BK: Tensor | None = None, **masks: Masks) -> Tensor:
        """Logits [B, N, V]; with ``places_BK``, int64 places in each row, only theirs: [B, K, V].  Rows have no padding."""
        return self.tokens_at(self.encoder(tokens_BN, **masks), places_BK)

    def both(self, tokens_BN: Tensor, places_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K, V] of the tokens at these places, and [B, 2]: does the second text follow the first, or not?"""
        hidden_BND = self.encoder(tokens_BN)
        return self.tokens_at(hidden_BND, places_BK), self.next(torch.tanh(self.pooler(hidden_BND[:, 0])))

    def tokens_at(self, h: Tensor, places_BK: Tensor | None) -> Tensor:
        if places_BK is not None:
            h = h.gather(1, places_BK[:, :, None].expand(-1, -1, h.shape[2]))
        return F.linear(self.norm(F.gelu(self.transform(h))), self.encoder.embed.weight, self.bias)


class Classifier(nn.Module):
    """An encoder and BERT's classification head on the first token, [CLS]: pooler (Linear → tanh) → Linear.

    ``pad``: the token that only fills up rows, and is not looked at.  ``pooler``: one that was pre-trained; None: a new one.
    """

    def __init__(self, encoder: Encoder, classes: int, pad: int, pooler: nn.Linear | None = None):
        super().__init__()
        self.encoder, self.pad = encoder, pad
        self.pooler = pooler or nn.Linear(encoder.config.width, encoder.config.width)
        self.head = nn.Linear(encoder.config.width, classes)
        if pooler is None:
            initialise(self.pooler)
        initialise(self.head)

    def forward(self, tokens_BN: Tensor, **masks: Masks) -> Tensor:
        """Logits [B, classes]; ``masks`` as :meth:`Encoder.forward` takes them."""
        return self.decide(self.encoder(tokens_BN, tokens_BN == self.pad, **masks))

    def decide(self, hidden_BND: Tensor) -> Tensor:
        """Logits [B, classes] from the encoder's hidden states."""
        return self.head(torch.tanh(self.pooler(hidden_BND[:, 0])))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that may be empty on one side, about which torch would warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nn.Linear(inputs, outputs)


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Weights ~ N(0, 1/(3·fan-in)), biases 0; embeddings ~ N(0, 1/width), as in :mod:`lib.models.gpt`.

    BERT's standard deviation of 0.02 for all is about right at its width of 768, and far too small at ours.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight.normal_(std=(3 * max(1, part.in_features)) ** -0.5)
            part.bias.zero_()
        elif isinstance(part, nn.Embedding):
            part.weight.normal_(std=part.embedding_dim**-0.5)
