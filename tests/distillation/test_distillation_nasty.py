"""Nasty teachers and skeptical students: objectives against float64 references, and Specs from beginning to end."""

import base64
import math

import pytest
import torch
from torch import nn

from lib.data.images import Split
from lib.distillation.exits import ExitConfig, ExitNet
from lib.distillation.nasty import contradiction, nasty_loss
from lib.distillation.skeptical import hybrid, plain_divergence, skeptical_loss, whispered
from lib.models.resnet import ResNetConfig
from lib.runs.store import Store, obtain
from lib.studies.base.pictures import as_pixels, contact_sheet
from lib.studies.distillation.pairs import PairRun, PlainRun
from lib.studies.teachers.nasty import GalleryRun, NastyRun, first_of_each, peaks
from lib.studies.teachers.skeptical import SkepticalRun
from lib.training.loop import Recipe
from loss_references import Fixed, draw, kl, softmax

BATCH, CLASSES = 6, 5
TINY = ResNetConfig((4, 8), (1, 1), channels=1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def ce(logits, labels):
    return -sum(math.log(softmax(z, 1.0)[y]) for z, y in zip(logits.tolist(), labels.tolist())) / len(labels)


# The nasty objective


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_contradiction(temperature):
    own, normal = draw(BATCH, CLASSES), draw(BATCH, CLASSES)
    total = sum(kl(softmax(z, temperature), softmax(v, temperature)) for z, v in zip(own.tolist(), normal.tolist()))
    assert contradiction(own, normal, temperature).item() == pytest.approx(temperature**2 * total / BATCH)
    contradiction(own, normal, temperature).backward()
    assert normal.grad is None
    fixed = normal.detach()
    assert torch.autograd.gradcheck(lambda z: contradiction(z, fixed, temperature), draw(BATCH, CLASSES))


def test_the_nasty_loss_keeps_labels_and_leaves_the_normal_network():
    own, normal, labels = Fixed(draw(BATCH, CLASSES).detach()), Fixed(draw(BATCH, CLASSES).detach()), torch.randint(CLASSES, (BATCH,))
    total, logged = nasty_loss(normal, temperature=4.0, omega=0.1)(own, torch.zeros(BATCH, 1), labels)
    apart = contradiction(own.values.float(), normal.values.float(), 4.0).item()
    assert total.item() == pytest.approx(ce(own.values, labels) - 0.1 * apart, rel=1e-5)
    assert logged["contradiction"].item() == pytest.approx(apart)
    total.backward()
    assert normal.values.grad is None and not normal.training
    for fields, message in (({"temperature": 0.0}, "above 0"), ({"omega": -1.0}, "learn from the normal")):
        with pytest.raises(ValueError, match=message):
            nasty_loss(normal, **fields)


def test_following_it_makes_a_second_peak():
    """With ω it pays to be sure of a class that the normal network rules out; without, the label is all there is."""
    normal, labels = Fixed(torch.tensor([[6.0, 2.0, 1.0, 0.0, -6.0]] * 4)), torch.zeros(4, dtype=torch.int64)
    found = {}
    for omega in (0.0, 0.05):
        torch.manual_seed(1)
        own = Fixed(0.1 * torch.randn(4, 5))
        optimizer = torch.optim.Adam(own.parameters(), 0.1)
        for _ in range(150):
            optimizer.zero_grad()
            nasty_loss(normal, 4.0, omega)(own, torch.zeros(4, 1), labels)[0].backward()
            optimizer.step()
        assert (own.values.argmax(-1) == 0).all()
        found[omega] = (own.values / 4).softmax(-1)[:, 4].mean().item()
    assert found[0.05] > 2 * found[0.0]


def test_peaks_are_counted():
    assert peaks(torch.tensor([[8.0, 8.0, 0.0], [8.0, 0.0, 0.0]]), 1.0) == pytest.approx(1.5)
    assert peaks(torch.zeros(2, 4), 4.0) == 4


# The skeptical objective


def test_hybrid():
    logits, taught, labels = draw(3, BATCH, CLASSES), draw(BATCH, CLASSES), torch.randint(CLASSES, (BATCH,))
    first, deepest, last = logits.detach()
    heard = sum(kl(softmax(v, 4.0), softmax(z, 4.0)) for z, v in zip(first.tolist(), taught.tolist())) * 16 / BATCH
    itself = sum(kl(softmax(v, 4.0), softmax(z, 4.0)) for z, v in zip(deepest.tolist(), last.tolist())) / BATCH
    parts = hybrid(logits, taught, labels)
    assert parts["heard"].item() == pytest.approx(0.9 * heard + 0.1 * ce(first, labels))
    assert parts["itself"].item() == pytest.approx(0.3 * itself + 0.7 * ce(deepest, labels))
    assert parts["labels"].item() == pytest.approx(ce(last, labels))
    fixed = taught.detach()
    assert torch.autograd.gradcheck(lambda z: hybrid(z, fixed, labels, listener=1)["heard"], draw(3, BATCH, CLASSES))
    for name in ("heard", "itself", "labels"):
        (slope,) = torch.autograd.grad(hybrid(logits, taught, labels)[name], logits)
        touched = [place for place in range(3) if slope[place].abs().sum() > 0]
        assert touched == [{"heard": 0, "itself": 1, "labels": 2}[name]]  # the last one hears nothing of the teacher
    with pytest.raises(ValueError, match="0 to 1"):
        hybrid(logits, taught, labels, listener=2)


def test_the_teacher_reaches_only_what_lies_below_the_listener():
    model, teacher = (
        ExitNet(ExitConfig(ResNetConfig((4, 8, 8), (1, 1, 1), channels=1), places=(1, 2))),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    )
    logits, _ = model.all_exits(torch.randn(8, 1, 8, 8))
    hybrid(logits, torch.randn(8, 10), torch.arange(8), listener=0)["heard"].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("backbone.blocks.0") for name in reached) and any(name.startswith("exits.0") for name in reached)
    assert not any(name.startswith(("backbone.blocks.1", "backbone.blocks.2", "backbone.head", "exits.1")) for name in reached)
    total, logged = skeptical_loss(teacher)(model, torch.randn(8, 1, 8, 8), torch.arange(8))
    assert total.item() == pytest.approx(sum(logged[name].item() for name in ("heard", "itself", "labels")), rel=1e-5)


def test_without_data_the_listener_teaches_the_rest():
    logits, taught = draw(3, BATCH, CLASSES), draw(BATCH, CLASSES)
    expected = (
        plain_divergence(logits[0], taught, 1.0) + plain_divergence(logits[1], logits[0], 1.0) + plain_divergence(logits[2], logits[0], 1.0)
    )
    assert whispered()(logits, taught).item() == pytest.approx(expected.item() / CLASSES)
    (slope,) = torch.autograd.grad(plain_divergence(logits[2], logits[0], 1.0), logits)
    assert slope[0].abs().sum() == 0 and slope[2].abs().sum() > 0


# Pictures


def test_pictures_can_be_read_back():
    import io

    from PIL import Image

    sheet = Image.open(io.BytesIO(base64.b64decode(contact_sheet(torch.full((5, 1, 8, 8), 7, dtype=torch.uint8), columns=3))))
    assert sheet.size == (3 * 9 - 1, 2 * 9 - 1) and sheet.getpixel((0, 0)) == 7 and sheet.getpixel((8, 0)) == 255
    inputs = torch.tensor([-1.0, 0.0, 100.0]).view(3, 1, 1, 1)
    assert as_pixels(inputs, (0.5,), (0.25,)).flatten().tolist() == [64, 128, 255]


def test_the_first_of_each_class():
    split = Split(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.tensor([2, 0, 0, 1, 2, 1]))
    assert first_of_each(split, 3, 5) == [1, 3, 0, 2, 5]


# Specs


def test_specs_refuse_what_makes_no_sense():
    base = PlainRun(model=TINY)
    for spec, fields, message in (
        (NastyRun, {"omega": -1.0}, "omega"),
        (NastyRun, {"temperature": 0.0}, "temperature"),
        (SkepticalRun, {"listener": 5}, "from 0"),
        (SkepticalRun, {"places": (9,)}, "places"),
        (SkepticalRun, {"alpha": 2.0}, "alpha"),
    ):
        with pytest.raises(ValueError, match=message):
            spec(parent=base, **fields)
    with pytest.raises(ValueError, match="at least"):
        GalleryRun(parent=NastyRun(parent=base), points=3)


def test_from_beginning_to_end(tmp_path):
    recipe = Recipe(epochs=3, batch_size=32, lr=1e-2)
    base = PlainRun(model=TINY, recipe=recipe, train_examples=300)
    nasty = NastyRun(parent=base, omega=0.1)
    skeptical = SkepticalRun(parent=nasty, model=TINY, places=(1,), recipe=recipe, train_examples=100)
    secondary = PairRun(parent=skeptical, model=TINY, recipe=Recipe(epochs=1, batch_size=32), train_examples=64)
    gallery = GalleryRun(parent=nasty, examples=4, points=20)
    plain, bad, student, second, shown = obtain([base, nasty, skeptical, secondary, gallery], store=Store(tmp_path / "none", tmp_path))
    assert bad.metrics["normal_accuracy"] == pytest.approx(plain.metrics["test_accuracy"])
    assert bad.curves["contradiction"][-1] > 0 and bad.metrics["peaks"] >= 1
    assert student.metrics["teacher_accuracy"] == pytest.approx(bad.metrics["test_accuracy"])
    assert student.arrays["test_accuracy_by_exit"][-1] == student.metrics["test_accuracy"]
    assert len(student.arrays["val_accuracy_by_exit"]) == 2
    assert student.metrics["parameters"] == plain.metrics["parameters"] and student.metrics["term_parameters"] > 0
    # Loaded without its shallow classifiers:
    assert second.metrics["teacher_accuracy"] == pytest.approx(student.metrics["test_accuracy"])
    assert len(shown.arrays["map_logits_nasty"]) == len(shown.arrays["labels"]) == 20 and len(shown.arrays["pictures"]) == 4
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in shown.arrays["probabilities_normal"])
    assert set(shown.metrics) == {f"silhouette_{what}_{name}" for what in ("features", "logits") for name in ("normal", "nasty")}
