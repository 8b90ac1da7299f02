"""What heads attend to, against attention that is known."""

import pytest
import torch

from lib.data.tasks import TaskSplit
from lib.models.encoder import Classifier, Encoder, EncoderConfig
from lib.tickets.patterns import KINDS, attention_patterns, kinds

PAD, SEP = 10, 12


def model_and_texts():
    torch.manual_seed(0)
    model = Classifier(Encoder(EncoderConfig(vocabulary=14, context=8, width=12, depth=2, heads=3, hidden=8)), classes=2, pad=PAD)
    tokens = torch.tensor([[11, 1, 2, 3, SEP, PAD, PAD, PAD], [11, 4, 5, 6, 7, 8, 9, SEP]])
    return model, TaskSplit(tokens, torch.tensor([5, 8]), torch.tensor([0, 1]))


def test_the_kinds_of_one_text():
    found = kinds(torch.tensor([[11, 1, 2, SEP]]), SEP)[0]
    names = [[KINDS[kind] for kind in row] for row in found.tolist()]
    assert names[1] == ["[CLS]", "itself", "the token after", "[SEP]"]
    assert names[3] == ["[CLS]", "elsewhere", "the token before", "[SEP]"]  # [SEP] for itself


def test_even_attention_is_shared_by_number():
    model, texts = model_and_texts()
    for block in model.encoder.blocks:
        block.attention.q.weight.data.zero_(), block.attention.q.bias.data.zero_()
    found = attention_patterns(model, texts, SEP)
    assert found.shape == (2, 3, 6) and torch.allclose(found.sum(-1), torch.ones(2, 3), atol=1e-5)
    # 5 tokens that look at 5, and 8 that look at 8: one of each is [CLS], whatever padding there is.
    assert found[..., 0] == pytest.approx(torch.full((2, 3), 2 / 13))
    assert found[0, 0, KINDS.index("itself")] == pytest.approx((3 / 5 + 6 / 8) / 13)


def test_a_head_that_looks_at_the_token_itself():
    model, texts = model_and_texts()
    attention = model.encoder.blocks[0].attention
    with torch.no_grad():  # head 0: queries and keys are large and equal, so that a token fits itself best
        attention.k.weight[:4] = attention.q.weight[:4] = 40 * torch.randn(4, 12)
        attention.k.bias[:4] = attention.q.bias[:4] = 0
    found = attention_patterns(model.train(), texts, SEP)
    assert model.training
    own = found[0, :, KINDS.index("itself")]
    assert own[0] > 0.3 > own[1:].max()
