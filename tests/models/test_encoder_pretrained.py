"""A BERT of transformers in the book's encoder: the same numbers, and the special tokens last."""

import pytest
import torch
from tokenizers import Tokenizer, models

from lib.models.encoder_pretrained import SPECIAL, as_masked_lm, config_of, special_last
from lib.models.encoder_remove import remove
from lib.models.pretrained import tiny
from word_pieces import word_pieces


@pytest.fixture
def loaded():
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[language]'")
    found = tiny("minilm", word_pieces(), num_hidden_layers=3)
    with torch.no_grad():  # as drawn, norms and biases are all ones and zeros, which would hide what is not copied
        for parameter in found.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    return found


def test_special_tokens_go_last_and_are_not_added():
    old = word_pieces()
    new, order = special_last(old)
    texts = ["who sees a film ?", "the bears"]
    assert [new.id_to_token(new.get_vocab_size() - 4 + i) for i in range(4)] == list(SPECIAL)
    for text in texts:
        plain = old.encode(text, add_special_tokens=False)
        assert new.encode(text).tokens == plain.tokens and order[new.encode(text).ids].tolist() == plain.ids
    assert sorted(order.tolist()) == list(range(old.get_vocab_size()))


def test_a_tokenizer_without_a_mask_is_refused():
    with pytest.raises(ValueError, match=r"\[MASK\]"):
        special_last(Tokenizer(models.WordPiece({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}, unk_token="[UNK]")))


@torch.no_grad()
def test_it_computes_what_transformers_does(loaded):
    tokenizer, order = special_last(loaded.tokenizer)
    model = as_masked_lm(loaded.model, order, context=16).eval()
    tokens = torch.randint(len(order), (3, 10), generator=torch.Generator().manual_seed(0))
    padding = torch.zeros(3, 10, dtype=torch.bool)
    padding[1, 6:] = True
    theirs = loaded.model(order[tokens], attention_mask=(~padding).long())
    ours = model.encoder(tokens, padding)
    torch.testing.assert_close(ours[~padding], theirs.last_hidden_state[~padding], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.tanh(model.pooler(ours[:, 0])), theirs.pooler_output, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_its_parts_can_be_removed(loaded):
    _, order = special_last(loaded.tokenizer)
    encoder = as_masked_lm(loaded.model, order, context=16).eval().encoder
    heads = [(torch.arange(12) % 3 > 0).float()[None] for _ in range(3)]
    tokens = torch.randint(len(order), (2, 9))
    small = remove(encoder, head_masks=heads)
    assert small.config.heads == (8, 8, 8)
    torch.testing.assert_close(small(tokens), encoder(tokens, head_masks=heads), atol=1e-5, rtol=1e-4)


def test_what_does_not_fit_is_refused(loaded):
    with pytest.raises(ValueError, match="positions"):
        config_of(loaded.model, context=1000)
    loaded.model.config.hidden_act = "relu"
    with pytest.raises(ValueError, match="relu"):
        config_of(loaded.model, context=16)
