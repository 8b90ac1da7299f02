"""A pre-trained BERT in the book's own encoder, so that whatever masks, gates or removes its parts works on both.

    loaded = load("minilm")
    tokenizer, order = special_last(loaded.tokenizer)     # the words first, then [PAD], [CLS], [SEP], [MASK]
    model = as_masked_lm(loaded.model, order, context=64)

The arithmetic is the same but for the order of additions; ``tests/models/test_encoder_pretrained.py`` compares both.
"""

from __future__ import annotations

import json

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from lib.models.encoder import Encoder, EncoderConfig, MaskedLM
from lib.system.checks import require

#: The tokens that BERT adds to its vocabulary, in the order of :class:`lib.data.masked_lm.Special`.
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")


def special_last(tokenizer: Tokenizer) -> tuple[Tokenizer, Tensor]:
    """A tokenizer whose four special tokens have the highest numbers, and ``order`` int64 [V]: the old number of each new one.

    It adds no special tokens by itself.  Raises ValueError for a tokenizer that lacks one of the four.
    """
    state = json.loads(tokenizer.to_str())
    known = sorted(state["model"]["vocab"].items(), key=lambda entry: entry[1])
    require(all(token in state["model"]["vocab"] for token in SPECIAL), f"this tokenizer lacks one of {', '.join(SPECIAL)}")
    tokens = [token for token, _ in known if token not in SPECIAL] + list(SPECIAL)
    new = {token: number for number, token in enumerate(tokens)}
    order = torch.tensor([state["model"]["vocab"][token] for token in tokens])
    state["model"]["vocab"], state["post_processor"] = new, None
    for added in state["added_tokens"]:
        added["id"] = new[added["content"]]
    state["added_tokens"].sort(key=lambda added: added["id"])
    return Tokenizer.from_str(json.dumps(state)), order


def config_of(model: nn.Module, context: int) -> EncoderConfig:
    """The geometry of a BertModel of transformers, for texts of ``context`` tokens at most, without dropout.

    Raises ValueError for an activation or positions that the book's encoder does not have.
    """
    given = model.config
    require(given.hidden_act == "gelu", f"the activation is {given.hidden_act!r}: only gelu is known here")
    require(context <= given.max_position_embeddings, f"context is {context}: there are {given.max_position_embeddings} positions")
    return EncoderConfig(
        vocabulary=given.vocab_size,
        context=context,
        width=given.hidden_size,
        depth=given.num_hidden_layers,
        heads=given.num_attention_heads,
        hidden=given.intermediate_size,
        norm_eps=given.layer_norm_eps,
    )


@torch.no_grad()
def as_masked_lm(model: nn.Module, order: Tensor, context: int) -> MaskedLM:
    """The same network as :class:`MaskedLM`: encoder and pooler are the BertModel's; the other heads are drawn anew.

    order: int64 [V], see :func:`special_last`.  All texts are taken for first segments, whose embedding goes into the
    positions.
    """
    found = MaskedLM(Encoder(config_of(model, context)))
    encoder, embeddings = found.encoder, model.embeddings
    encoder.embed.weight.copy_(embeddings.word_embeddings.weight[order])
    encoder.positions.copy_(embeddings.position_embeddings.weight[:context] + embeddings.token_type_embeddings.weight[0])
    encoder.norm.load_state_dict(embeddings.LayerNorm.state_dict())
    for ours, theirs in zip(encoder.blocks, model.encoder.layer, strict=True):
        pairs = {
            ours.attention.q: theirs.attention.self.query,
            ours.attention.k: theirs.attention.self.key,
            ours.attention.v: theirs.attention.self.value,
            ours.attention.out: theirs.attention.output.dense,
            ours.norm1: theirs.attention.output.LayerNorm,
            ours.ffn.up: theirs.intermediate.dense,
            ours.ffn.down: theirs.output.dense,
            ours.norm2: theirs.output.LayerNorm,
        }
        for own, other in pairs.items():
            own.load_state_dict(other.state_dict())
    found.pooler.load_state_dict(model.pooler.dense.state_dict())
    return found
