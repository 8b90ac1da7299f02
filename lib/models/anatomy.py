"""The parts of a decoder that compression has to know by their role, of the book's own GPT and of Llama's kind alike.

for block in anatomy(model).blocks:
    block.norm1, block.reads1, block.out, block.norm2, block.reads2, block.up, block.down
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lib.models.gpt import GPT, Block
from lib.models.pretrained import Logits, blocks
from lib.system.checks import require


@dataclass(frozen=True, eq=False)
class BlockParts:
    """x + out(attention(reads1(norm1 x))), then x + down(f(reads2(norm2 x))); ``up`` is the one of ``reads2`` that is not gated."""

    norm1: nn.Module
    reads1: tuple[nn.Linear, ...]
    out: nn.Linear
    norm2: nn.Module
    reads2: tuple[nn.Linear, ...]
    up: nn.Linear
    down: nn.Linear


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Embedding, blocks, the last norm, and the head, which may share its weight with the embedding."""

    embed: nn.Embedding
    blocks: tuple[BlockParts, ...]
    norm: nn.Module
    head: nn.Linear | None


def anatomy(model: nn.Module) -> Anatomy:
    """The parts of a :class:`lib.models.gpt.GPT`, or of a model of Llama's kind as transformers builds it, in :class:`Logits` or not.

    Raises ValueError for other models, and for a GPT without SwiGLU or with experts.
    """
    if isinstance(model, Logits):
        model = model.model
    if isinstance(model, GPT):
        return Anatomy(model.embed, tuple(map(parts_of_gpt, model.blocks)), model.norm, model.head)
    body = getattr(model, "model", None)
    require(hasattr(body, "embed_tokens"), f"a {type(model).__name__} has no anatomy that is known")
    return Anatomy(body.embed_tokens, tuple(map(parts_of_llama, body.layers)), body.norm, model.lm_head)


def parts_of_gpt(block: Block) -> BlockParts:
    require(
        getattr(block.ffn, "gate", None) is not None and isinstance(block.ffn.up, nn.Linear),
        "the GPT's FFNs must be SwiGLU, without experts",
    )
    attention, ffn = block.attention, block.ffn
    return BlockParts(
        block.norm1, (attention.q, attention.k, attention.v), attention.out, block.norm2, (ffn.gate, ffn.up), ffn.up, ffn.down
    )


def parts_of_llama(block: nn.Module) -> BlockParts:
    attention, mlp = block.self_attn, block.mlp
    return BlockParts(
        block.input_layernorm,
        (attention.q_proj, attention.k_proj, attention.v_proj),
        attention.o_proj,
        block.post_attention_layernorm,
        (mlp.gate_proj, mlp.up_proj),
        mlp.up_proj,
        mlp.down_proj,
    )


@torch.no_grad()
def untie(model: nn.Module) -> nn.Linear:
    """Give the head a weight of its own, a copy where it was the embedding's, and return it."""
    inner = model.model if isinstance(model, Logits) else model
    found = anatomy(inner)
    head = nn.Linear(found.embed.embedding_dim, found.embed.num_embeddings, bias=False)
    head.weight.copy_(found.embed.weight if found.head is None else found.head.weight)
    if isinstance(inner, GPT):
        inner.head = head
    else:
        inner.lm_head = head
    return head


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers of all blocks, in order: what is compressed.  Embedding and head are not among them."""
    inner = model.model if isinstance(model, Logits) else model
    return [module for block in blocks(inner) for module in block.modules() if isinstance(module, nn.Linear)]
