"""Language models that learn from a larger one: divergences, whose texts are read, and how a student's own texts are judged."""

import pytest
import torch
import torch.nn.functional as F

from lib.distillation import language
from lib.distillation.language import AUTHORS, TARGETS, continued, divergence, exposed, text_loss
from lib.models.gpt import GPT, GPTConfig


def gpt(seed: int, width: int = 16) -> GPT:
    torch.manual_seed(seed)
    return GPT(GPTConfig(vocabulary=11, context=12, width=width, depth=1, heads=2, hidden=24))


@pytest.fixture
def pair() -> tuple[GPT, GPT]:
    return gpt(0), gpt(1, width=8)


@pytest.fixture
def window() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(11, (3, 13), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1], tokens[:, 1:]


def test_the_divergence_is_that_of_the_definition():
    torch.manual_seed(0)
    p, q = torch.randn(2, 5, 7, dtype=torch.float64), torch.randn(2, 5, 7, dtype=torch.float64)
    expected = F.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(divergence(p, q), expected)
    assert divergence(p, p).abs().max() < 1e-12
    assert (divergence(p, q) - divergence(q, p)).abs().max() > 0.1


@pytest.mark.parametrize("target", ["forward", "reverse"])
@pytest.mark.parametrize("author", AUTHORS)
def test_only_a_student_that_is_its_teacher_pays_nothing(author, target, pair, window):
    teacher, student = pair
    assert text_loss(teacher, author, target, prompt=4)(gpt(0), *window)[0].abs() < 1e-6
    assert text_loss(teacher, author, target, prompt=4)(student, *window)[0] > 0.01


def test_word_level_distillation_has_the_gradient_of_soft_labels(pair, window):
    teacher, student = pair
    text_loss(teacher, "data", "forward", prompt=1)(student, *window)[0].backward()
    found = [p.grad.clone() for p in student.parameters()]
    student.zero_grad()
    beliefs = teacher(window[0]).softmax(-1).detach()
    F.cross_entropy(student(window[0]).flatten(0, 1), beliefs.flatten(0, 1)).backward()
    for own, other in zip(found, student.parameters()):
        torch.testing.assert_close(own, other.grad, atol=1e-6, rtol=1e-4)
    assert all(p.grad is None for p in teacher.parameters())


def test_text_alone_is_the_usual_loss_behind_the_prompt(pair, window):
    teacher, student = pair
    loss, _ = text_loss(teacher, "data", "text", prompt=5)(student, *window)
    logits = student(window[0])[:, 4:]
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), window[1][:, 4:].flatten()))


@pytest.mark.parametrize("author, writes", [("data", None), ("teacher", "teacher"), ("student", "student")])
def test_the_author_is_who_it_is_called(author, writes, pair, window, monkeypatch):
    asked, networks = [], dict(zip(("teacher", "student"), pair))

    def drawn(network, prompt, tokens):
        asked.append(network)
        return continued(network, prompt, tokens)

    monkeypatch.setattr(language, "continued", drawn)
    text_loss(pair[0], author, "text", prompt=3)(pair[1], *window)
    assert asked == ([networks[writes]] if writes else [])


def test_what_is_drawn_begins_with_the_prompt_and_is_drawn_again_alike(pair, window):
    prompt = window[0][:, :4]
    text = continued(pair[1], prompt, 8)
    assert text.shape == (3, 12) and torch.equal(text[:, :4], prompt)
    assert torch.equal(text, continued(pair[1], prompt, 8))
    assert not torch.equal(text, continued(pair[0], prompt, 8))
    loss = text_loss(pair[0], "student", "reverse", prompt=4)
    assert loss(pair[1], *window)[0] == loss(pair[1], *window)[0]


def test_a_student_is_judged_by_its_own_texts(pair, window):
    teacher, student = pair
    scores = exposed(student, teacher, window[0][:, :2], 10)
    assert scores["reverse"] > 0 and scores["entropy"] > 0
    assert scores["exposure"] == pytest.approx(scores["error_own"] / scores["error_taught"] - 1)
    same = exposed(gpt(0), teacher, window[0][:, :2], 10)
    assert same["reverse"] == pytest.approx(0, abs=1e-6) and same["error_own"] == pytest.approx(same["error_taught"], abs=1e-6)


def test_reading_its_own_texts_by_the_reverse_divergence_brings_a_student_nearer(pair, window):
    teacher, student = pair
    prompts = torch.randint(11, (32, 12), generator=torch.Generator().manual_seed(1))
    loss, optimiser = text_loss(teacher, "student", "reverse", prompt=2), torch.optim.Adam(student.parameters(), 1e-2)
    before = exposed(student, teacher, prompts[:, :2], 10)["reverse"]
    for _ in range(20):
        optimiser.zero_grad()
        loss(student, prompts, prompts)[0].backward()
        optimiser.step()
    assert exposed(student, teacher, prompts[:, :2], 10)["reverse"] < 0.8 * before


@pytest.mark.parametrize(
    "author, target, prompt, said", [("me", "text", 1, "author"), ("data", "both", 1, "target"), ("data", "text", 0, "prompt")]
)
def test_what_makes_no_sense_is_refused(author, target, prompt, said, pair):
    with pytest.raises(ValueError, match=said):
        text_loss(pair[0], author, target, prompt)
    assert set(TARGETS) == {"text", "forward", "reverse"}


def test_a_prompt_must_leave_a_token(pair, window):
    with pytest.raises(ValueError, match="leaves none"):
        text_loss(pair[0], "data", "text", prompt=12)(pair[1], *window)
