"""Running a dynamic network so that closed gates save time: only what some input of the batch needs is computed.

With one input at a time that is exactly what its gates say.  With many, each has its own gates, a matrix product serves
all of them, and little is closed for all at once: masks differ from row to row, and matrices cannot.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.encoder import Block
from lib.tickets.ebert import Dynamic, gate, state


class Skipping(nn.Module):
    """Computes what ``model`` does in evaluation mode, for inference.

    ``needed``: share of heads and neurons that were computed last time.  The columns of the matrices that read from heads
    and neurons are copied as rows, so that choosing some of them is a contiguous copy.
    """

    def __init__(self, model: Dynamic):
        super().__init__()
        self.model = model.eval()
        self.columns = [
            (block.attention.out.weight.detach().T.contiguous(), block.ffn.down.weight.detach().T.contiguous())
            for block in model.model.encoder.blocks
        ]
        self.needed = 1.0

    @torch.no_grad()
    def forward(self, tokens_BN: Tensor) -> Tensor:
        """Logits [B, classes]."""
        classifier, needed, there = self.model.model, 0, 0
        padding = tokens_BN == classifier.pad
        x, seen = classifier.encoder.start(tokens_BN, padding)
        for layer, block in enumerate(classifier.encoder.blocks):
            out, down = self.columns[layer]
            heads = gate(self.model.of_heads[layer](state(x, padding, layer)), noisy=False)
            kept = heads.any(0).nonzero()[:, 0]
            x = block.norm1(x + attend(block, x, seen, heads, kept, out))
            needed, there = needed + len(kept), there + heads.shape[1]
            neurons = gate(self.model.of_neurons[layer](x[:, 0]), noisy=False)
            kept = neurons.any(0).nonzero()[:, 0]
            x = block.norm2(x + feed(block, x, neurons, kept, down))
            needed, there = needed + len(kept), there + neurons.shape[1]
        self.needed = needed / there
        return classifier.decide(x)


def attend(block: Block, x_BND: Tensor, seen: Tensor | None, heads_BH: Tensor, kept: Tensor, out_HdD: Tensor) -> Tensor:
    """The attention of the heads in ``kept`` (int64), each multiplied by its gate."""
    attention, (B, N, _), d = block.attention, x_BND.shape, block.attention.head_dim
    if not len(kept):
        return attention.out.bias.expand_as(x_BND)
    rows = (kept[:, None] * d + torch.arange(d, device=kept.device)).flatten()
    q, k, v = (
        F.linear(x_BND, layer.weight[rows], layer.bias[rows]).view(B, N, len(kept), d).transpose(1, 2)
        for layer in (attention.q, attention.k, attention.v)
    )
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    if B > 1:
        y = y * heads_BH[:, kept, None, None].to(y.dtype)
    return y.transpose(1, 2).flatten(2) @ out_HdD[rows] + attention.out.bias


def feed(block: Block, x_BND: Tensor, neurons_Bh: Tensor, kept: Tensor, down_hD: Tensor) -> Tensor:
    """The FFN with the neurons in ``kept`` (int64), each multiplied by its gate."""
    ffn = block.ffn
    h = F.gelu(F.linear(x_BND, ffn.up.weight[kept], ffn.up.bias[kept]))
    if len(x_BND) > 1:
        h = h * neurons_Bh[:, None, kept].to(h.dtype)
    return h @ down_hD[kept] + ffn.down.bias
