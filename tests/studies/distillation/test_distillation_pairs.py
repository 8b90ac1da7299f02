"""A student and its teacher: what a pair does, what the teacher sees, and Specs from beginning to end."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.data.augment import Augmentation
from lib.data.images import load_images, normalise
from lib.distillation.hinton import distillation, hinton_loss
from lib.distillation.pair import Pair, PairBatches, Soft, Together, pair_loss
from lib.distillation.taps import features
from lib.models.cnn import CNNConfig
from lib.models.resnet import ResNet, ResNetConfig
from lib.runs.results import Result
from lib.runs.spec import all_fields
from lib.runs.store import Store, obtain
from lib.studies.distillation.methods import METHODS, TOLD, Setting
from lib.studies.distillation.pairs import PairRun, PlainRun, network, own_seed
from lib.studies.distillation.students import STUDENTS, seeded, student_studies
from lib.studies.distillation.students_names import student as called
from lib.studies.teachers.nasty import NastyRun
from lib.training.loop import Recipe, fit

TINY, SMALL = ResNetConfig((4, 8), (1, 1), channels=1), CNNConfig(((3,), (6,)), channels=1)


@pytest.fixture(scope="module")
def images():
    return load_images("digits", train_examples=96)


@pytest.fixture(autouse=True)
def seeded_draws():
    torch.manual_seed(0)


# Pairs


@pytest.mark.parametrize("name", METHODS)
def test_each_method_trains_the_student_and_leaves_the_teacher(name, images):
    teacher, student = network(TINY), network(SMALL)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    weight = 10.0 if "attention" in name else None
    pair = METHODS[name].pair(student, teacher, Setting(None, None, weight, examples=96, steps=24))
    batches = PairBatches(images.train, images, 32, seed=0)
    start = [p.clone() for p in pair.parameters()]
    history = fit(pair, batches, pair_loss(teacher), Recipe(epochs=2, lr=3e-3), seed=0, after_step=pair.climb)
    assert not history.diverged and set(history.curves) == {"lr", "seconds", "train_loss", "train_accuracy", "term", "agreement"}
    assert all(not torch.equal(old, new) for old, new in zip(start, pair.parameters()))  # a term's own weights learn too
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items()) and not teacher.training
    assert torch.equal(pair(torch.zeros(1, 1, 8, 8)), student(torch.zeros(1, 1, 8, 8)))
    assert name in TOLD


def test_hintons_method_is_hintons_loss(images):
    teacher, student = network(TINY), network(TINY)
    inputs, (labels, index) = PairBatches(images.train, images, 32).batch(0, 0)
    pair = METHODS["hinton"].pair(student, teacher, Setting(2.0, 0.6, None, 96, 10)).eval()
    total, logged = pair_loss(teacher)(pair, inputs, (labels, index))
    expected, same = hinton_loss(teacher, 2.0, 0.6)(student, inputs, labels)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5) and logged["agreement"] == same["agreement"]


def test_weights_and_warm_up():
    teacher, student = network(TINY), network(TINY)
    pair = Pair(student, Soft(4.0), labels_weight=0.5, weight=3.0, warmup=4).eval()
    inputs, labels = torch.randn(8, 1, 8, 8), torch.arange(8)
    slopes = []
    for step in range(6):
        student.zero_grad()
        total, _ = pair_loss(teacher)(pair, inputs, labels)
        total.backward()
        slopes.append(student.head.weight.grad.clone())
        assert pair.ramp.item() == pytest.approx(min(1, step / 4))
        with torch.no_grad():
            logits, taught = student(inputs), teacher(inputs)
        assert total.item() == pytest.approx(
            (0.5 * F.cross_entropy(logits, labels) + 3 * distillation(logits, taught, 4.0)).item(), rel=1e-5
        )  # the value never ramps
        pair.climb(pair, step + 1)
    torch.testing.assert_close(slopes[2], (slopes[0] + slopes[4]) / 2)
    torch.testing.assert_close(slopes[5], slopes[4])
    assert METHODS["decoupled"].pair(student, teacher, Setting(None, None, None, 96, 240)).warmup == 20
    with pytest.raises(ValueError, match="not be negative"):
        Pair(student, Soft(4.0), -1.0, 1.0)


def test_two_terms_together():
    own, other = (features(network(TINY).eval(), torch.randn(4, 1, 8, 8)) for _ in range(2))
    both = Together(Soft(1.0), Soft(4.0), 0.3)
    assert both(own, other, None, None).item() == pytest.approx(
        (distillation(own.logits, other.logits, 1.0) + 0.3 * distillation(own.logits, other.logits, 4.0)).item()
    )
    pair = METHODS["soft attention"].pair(nn.Identity(), nn.Identity(), Setting(None, None, 60.0, 96, 10))
    assert (pair.weight * pair.term.share, pair.labels_weight, pair.weight) == (pytest.approx(0.9), 0.1, 60.0)
    with pytest.raises(ValueError, match="'hinton'"):
        METHODS["soft attention"].pair(nn.Identity(), nn.Identity(), Setting(None, None, 0.0, 96, 10))


# What the teacher sees


def test_the_teachers_view(images):
    crop = Augmentation(crop=2)
    same, other, fixed = (PairBatches(images.train, images, 16, crop, seed=3, view=view) for view in ("same", "independent", "fixed"))
    inputs, (labels, index) = same.batch(1, 2)
    assert torch.equal(images.train.labels[index], labels)
    for batches, expected in ((other, None), (fixed, normalise(images.train.images[index], images))):
        again, (targets, places, view) = batches.batch(1, 2)
        assert torch.equal(again, inputs) and torch.equal(targets, labels) and torch.equal(places, index)
        assert not torch.equal(view, inputs)
        if expected is not None:
            assert torch.equal(view, expected)
    assert torch.equal(other.batch(1, 2)[1][2], other.batch(1, 2)[1][2])  # the same whenever asked
    assert not torch.equal(other.batch(1, 2)[1][2], other.batch(2, 2)[1][2])
    with pytest.raises(ValueError, match="neither mixup"):
        PairBatches(images.train, images, 16, Augmentation(mixup=1.0), view="fixed")
    with pytest.raises(ValueError, match="'independent'"):
        PairBatches(images.train, images, 16, view="own")


def test_the_loss_uses_the_view(images):
    seen = []

    class Watching(ResNet):
        def __init__(self):
            super().__init__(TINY)
            self.conv.register_forward_hook(lambda module, given, out: seen.append(given[0]))

    teacher, pair = Watching(), Pair(network(TINY), Soft(4.0), 0.0, 1.0)
    batches = PairBatches(images.train, images, 16, Augmentation(crop=2), view="fixed")
    inputs, targets = batches.batch(0, 0)
    pair_loss(teacher)(pair, inputs, targets)
    assert len(seen) == 1 and torch.equal(seen[0], targets[2])


def test_mixed_images_have_soft_targets(images):
    batches = PairBatches(images.train, images, 16, Augmentation(mixup=1.0))
    inputs, (targets, index) = batches.batch(0, 0)
    pair = METHODS["patient"].pair(network(TINY), network(TINY), Setting(None, None, None, 96, 10))
    total, _ = pair_loss(network(TINY))(pair, inputs, (targets, index))
    assert targets.shape == (16, 10) and total.item() > 0


# Specs


def test_specs_refuse_what_makes_no_sense():
    base = PlainRun(model=TINY)
    for fields, message in (
        ({"method": "hintn"}, "method"),
        ({"view": "own"}, "view"),
        ({"temperature": 0.0}, "above 0"),
        ({"method": "fitnets", "temperature": 2.0}, "no temperature"),
        ({"method": "dist", "alpha": 0.5}, "weight"),
        ({"alpha": 2.0}, r"\[0, 1\]"),
        ({"weight": 1.0}, "alpha"),
        ({"method": "dist", "weight": -1.0}, "negative"),
    ):
        with pytest.raises(ValueError, match=message):
            PairRun(parent=base, **fields)


def test_a_pair_from_beginning_to_end(tmp_path):
    base = PlainRun(model=TINY, recipe=Recipe(epochs=4, batch_size=32, lr=1e-2), train_examples=400)
    pair = PairRun(parent=base, model=SMALL, method="fitnets", recipe=Recipe(epochs=1, batch_size=32, lr=1e-2), train_examples=96)
    second = PairRun(parent=pair, model=TINY, recipe=pair.recipe, train_examples=64)
    store = Store(tmp_path / "none", tmp_path)
    plain, first, last = obtain([base, pair, second], store=store)
    assert first.metrics["teacher_accuracy"] == pytest.approx(plain.metrics["test_accuracy"])
    assert plain.metrics["test_accuracy"] > 0.3
    # The student's weights, not the pair's:
    assert last.metrics["teacher_accuracy"] == pytest.approx(first.metrics["test_accuracy"])
    assert first.provenance["data"]["train"] == 96 and last.provenance["data"]["train"] == 64
    assert first.metrics["term_parameters"] == 3 * 4 + 2 * 4 and last.metrics["term_parameters"] == 0
    assert first.metrics["flops"] < plain.metrics["flops"] and 0 <= first.metrics["test_agreement"] <= 1
    again = obtain([pair], store=Store(tmp_path / "none", tmp_path / "again"))[0]
    assert {k: v for k, v in again.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in first.metrics.items() if k != "train_seconds"
    }


@pytest.mark.parametrize("scale", STUDENTS)
def test_every_scale_has_its_specs(scale):
    size = STUDENTS[scale]
    found = student_studies(size)
    for specs in found.values():
        assert len({spec.key for spec in specs}) == len(specs)
        for spec in specs:
            parent = getattr(spec, "parent", None)
            assert parent is None or parent.seed == spec.seed
    assert len(found["teacher"]) == len(found["alone"]) == size.seeds
    assert len(found["methods"]) == size.seeds * len(size.methods)
    assert {spec.method for spec in found["methods"]} == set(size.methods)
    budgets = {(spec.recipe, spec.train_examples) for spec in found["methods"]} | {
        (spec.recipe, spec.train_examples) for spec in found["alone"]
    }
    assert len(budgets) == 1  # all have the same training
    assert len(seeded(range(3), found["teacher"][0], found["teacher"][0])) == 3


def test_names():
    wide = replace(STUDENTS["cpu"], sweep=((1.0, 10.0), (0.7, 0.9)))
    found = {called(result(spec)) for specs in student_studies(wide).values() for spec in specs}
    assert {
        "labels alone",
        "Hinton KD",
        "Hinton KD, T = 10, α = 0.9",
        "function matching, mixup",
        "function matching, views of their own",
    } <= found
    base = PlainRun()
    assert called(result(replace(PairRun(parent=base), temperature=4.0, alpha=0.7))) == "Hinton KD"


def result(spec):
    return Result(spec.experiment, spec.key, all_fields(spec), {}, {}, {}, {"device": "none"})


def test_a_student_of_its_teachers_geometry_begins_as_another_network():
    teacher = PlainRun(model=ResNetConfig((4, 8), (1, 1), channels=1), seed=3)
    student = PairRun(parent=teacher, model=ResNetConfig((2, 4), (1, 1), channels=1), seed=3)
    nasty = NastyRun(parent=teacher, seed=3)
    assert [own_seed(spec) for spec in (teacher, student, nasty)] == [3, 3, 1003]
    assert own_seed(PairRun(parent=nasty, model=teacher.model, seed=3)) == 2003
    assert own_seed(PairRun(parent=student, model=student.model, seed=3)) == 1003


def test_decoupled_needs_classes():
    with pytest.raises(ValueError, match="mixup and cutmix"):
        PairRun(parent=PlainRun(), method="decoupled", augmentation=Augmentation(mixup=1.0))
