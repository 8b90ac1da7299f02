"""DeiT's two tokens, TinyBERT's observations and its replaced words."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lib.data.masked_lm import Special
from lib.data.tasks import TaskSplit
from lib.distillation.bert_pair import TinyStudent, layer_losses, layers_loss, observe, predictions_loss
from lib.distillation.replacement import augmented, candidates, replaced
from lib.models.distilled_vit import DistilledViT, token_similarity
from lib.models.encoder import Classifier, Encoder, EncoderConfig, MaskedLM
from lib.models.vit import ViT, ViTConfig
from lib.moe.layer import MoEConfig

CONFIG = ViTConfig(image_size=8, channels=1, patch=4, width=16, depth=2, heads=2, hidden=32, classes=5, pool="class")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# DeiT


def test_two_tokens_two_heads_and_their_mean():
    model, images = DistilledViT(CONFIG).eval(), torch.randn(3, 1, 8, 8)
    by_class, by_token = model.both(images)
    assert by_class.shape == by_token.shape == (3, 5) and not torch.allclose(by_class, by_token)
    torch.testing.assert_close(model(images), (by_class + by_token) / 2)
    layers = model.layers(images)
    assert len(layers) == 3 and all(x.shape == (3, 2 + 4, 16) for x in layers)
    torch.testing.assert_close(model.head(layers[-1][:, 0]), by_class)


def test_the_class_token_is_that_of_the_plain_network_where_the_other_is_not_looked_at():
    """With attention switched off tokens do not meet, and the class token's head is the plain ViT's."""
    model = DistilledViT(CONFIG).eval()
    plain = ViT(CONFIG).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("distillation")})
    images = torch.randn(2, 1, 8, 8)
    assert not torch.allclose(model.both(images)[0], plain(images))
    with torch.no_grad():
        for network in (model, plain):
            for block in network.blocks:
                block.attention.out.weight.zero_()
    torch.testing.assert_close(model.both(images)[0], plain(images))


def test_each_loss_trains_its_own_head_and_both_tokens():
    model, images = DistilledViT(CONFIG), torch.randn(2, 1, 8, 8)
    model.both(images)[1].sum().backward()
    assert model.head.weight.grad is None and model.distillation_head.weight.grad is not None
    assert model.class_token.grad.abs().max() > 0 and model.distillation_token.grad.abs().max() > 0


def test_similarity_is_one_for_tokens_that_are_alike():
    model, images = DistilledViT(CONFIG).eval(), torch.randn(4, 1, 8, 8)
    found = token_similarity(model, images)
    assert len(found) == 3 and all(-1 <= value <= 1 for value in found) and max(found) < 0.999
    expected = F.cosine_similarity(model.class_token, model.distillation_token, dim=0).item()
    assert found[0] == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        model.distillation_token.copy_(model.class_token)
    assert token_similarity(model, images) == pytest.approx([1.0] * 3, abs=1e-5)


def test_networks_that_cannot_have_the_token_are_refused():
    with pytest.raises(ValueError, match="class"):
        DistilledViT(replace(CONFIG, pool="mean"))
    with pytest.raises(ValueError, match="dense"):
        DistilledViT(replace(CONFIG, moe=MoEConfig(experts=2)))


# TinyBERT

VOCABULARY = 20
SPECIAL = Special.after(VOCABULARY)
BIG = EncoderConfig(vocabulary=SPECIAL.total, context=12, width=16, depth=4, heads=2, hidden=32)
SMALL = replace(BIG, width=8, depth=2, hidden=16)


def rows(count=5, length=12):
    tokens = torch.randint(VOCABULARY, (count, length))
    tokens[:, 0] = SPECIAL.cls
    lengths = torch.randint(4, length + 1, (count,))
    lengths[0] = length
    for row, n in zip(tokens, lengths):
        row[n - 1], row[n:] = SPECIAL.sep, SPECIAL.pad
    return tokens, lengths


def test_observing_an_encoder_is_running_it():
    encoder = Encoder(BIG).eval()
    tokens, _ = rows()
    padding = tokens == SPECIAL.pad
    seen = observe(encoder, tokens, padding)
    torch.testing.assert_close(seen.hidden[-1], encoder(tokens, padding))
    assert len(seen.hidden) == len(seen.scores) == 4 and seen.scores[0].shape == (5, 2, 12, 12)
    block, x = encoder.blocks[1].attention, seen.hidden[0]
    q, k = block.q(x)[..., 8:], block.k(x)[..., 8:]  # the second head's features
    torch.testing.assert_close(seen.scores[1][:, 1], q @ k.transpose(-1, -2) / 8**0.5)


def test_layer_losses_are_their_formula_and_padding_counts_for_nothing():
    teacher, student = Encoder(BIG).double().eval(), TinyStudent(Classifier(Encoder(SMALL), 2, SPECIAL.pad), 16).double().eval()
    tokens, lengths = rows()
    padding = tokens == SPECIAL.pad
    parts = layer_losses(student, teacher, tokens, padding, (2, 4))
    own, other = observe(student.classifier.encoder, tokens, padding), observe(teacher, tokens, padding)
    attention = hidden = 0.0
    for m, g in ((0, 1), (1, 3)):
        squares = [((own.scores[m] - other.scores[g])[b, :, :n, :n] ** 2).flatten() for b, n in enumerate(lengths)]
        attention += torch.cat(squares).mean().item()
        gap = student.hidden(own.hidden[m]) - other.hidden[g]
        hidden += torch.cat([(gap[b, :n] ** 2).flatten() for b, n in enumerate(lengths)]).mean().item()
    assert parts["attention"].item() == pytest.approx(attention, rel=1e-4)
    assert parts["hidden"].item() == pytest.approx(hidden, rel=1e-4)
    total, logged = layers_loss(teacher, (2, 4), SPECIAL.pad)(student, tokens, torch.zeros(5))
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values())) and set(logged) == set(parts)
    total.backward()
    assert student.hidden.weight.grad is not None and student.embedding.weight.grad is not None
    assert student.classifier.head.weight.grad is None and all(p.grad is None for p in teacher.parameters())
    with pytest.raises(ValueError, match="one for each"):
        layer_losses(student, teacher, tokens, padding, (4,))


def test_answers_are_learnt_from_the_teacher_alone():
    teacher, student = (Classifier(Encoder(config), 2, SPECIAL.pad).eval() for config in (BIG, SMALL))
    tokens, _ = rows()
    first, second = (predictions_loss(teacher)(student, tokens, labels)[0] for labels in (torch.zeros(5).long(), torch.ones(5).long()))
    assert torch.equal(first, second)
    p, q = teacher(tokens).double().softmax(-1), student(tokens).double().log_softmax(-1)
    assert first.item() == pytest.approx(-(p * q).sum(-1).mean().item(), rel=1e-5)


def test_candidates_come_from_the_hidden_place():
    model = MaskedLM(Encoder(BIG)).eval()
    tokens, lengths = rows()
    found = candidates(model, tokens, SPECIAL, count=3, passes=12)  # one place at a time
    assert found.shape == (5, 12, 3) and found.max() < VOCABULARY
    shown = tokens.clone()
    shown[:, 2] = torch.where(tokens[:, 2] < VOCABULARY, SPECIAL.mask, tokens[:, 2])
    with torch.no_grad():
        expected = model(shown, padding_BN=tokens == SPECIAL.pad)[:, 2, :VOCABULARY].topk(3).indices
    assert torch.equal(found[:, 2], expected)
    for row, n in enumerate(lengths.tolist()):  # padding changes nothing
        assert torch.equal(candidates(model, tokens[row : row + 1, :n], SPECIAL, count=3, passes=12)[0], found[row, :n])


def test_replacing_spares_special_tokens_and_keeps_its_rate():
    tokens, _ = rows(400)
    other = (tokens[..., None] + torch.arange(1, 4)) % VOCABULARY  # never the token itself
    new = replaced(tokens, other, SPECIAL, 0.4, torch.Generator().manual_seed(0))
    special = tokens >= SPECIAL.pad
    assert torch.equal(new[special], tokens[special])
    changed = (new != tokens)[~special]
    assert changed.float().mean().item() == pytest.approx(0.4, abs=0.03)
    shift = (new - tokens)[~special][changed] % VOCABULARY
    assert set(shift.tolist()) == {1, 2, 3}
    assert torch.equal(new, replaced(tokens, other, SPECIAL, 0.4, torch.Generator().manual_seed(0)))


def test_augmented_keeps_the_originals_first():
    tokens, lengths = rows(6)
    split = TaskSplit(tokens, lengths, torch.arange(6) % 2)
    more = augmented(split, MaskedLM(Encoder(BIG)), SPECIAL, copies=2, seed=1)
    assert len(more) == 18 and torch.equal(more.tokens[:6], tokens) and torch.equal(more.labels, split.labels.repeat(3))
    assert not torch.equal(more.tokens[6:12], tokens) and not torch.equal(more.tokens[6:12], more.tokens[12:])
    assert augmented(split, MaskedLM(Encoder(BIG)), SPECIAL, copies=0) is split
