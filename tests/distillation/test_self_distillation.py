"""Networks with classifiers at several depths: their shapes, the losses against float64 references, and leaving early."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.distillation.early_exit import (
    NEVER,
    Setting,
    answers,
    ensemble,
    exit_flops,
    front,
    infer,
    judged,
    leave,
    search_thresholds,
    sweep_thresholds,
)
from lib.distillation.exits import DepthwiseConv, Exit, ExitConfig, ExitNet, SpatialAttention
from lib.distillation.self_distillation import REFERENCES, references, self_distillation, self_distillation_loss
from lib.models.resnet import ResNet, ResNetConfig

BACKBONE = ResNetConfig((4, 8, 8), (1, 2, 1), channels=1, classes=5)
K, BATCH, CLASSES, WIDTH = 4, 6, 5, 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def net(places=(1, 2, 3), **changes):
    return ExitNet(ExitConfig(BACKBONE, places, **changes))


# The network


def test_every_classifier_answers_and_the_deepest_is_the_plain_network():
    model, images = net().eval(), torch.randn(3, 1, 8, 8)
    logits, features = model.all_exits(images)
    assert logits.shape == (4, 3, 5) and features.shape == (4, 3, 8) and model.count == 4
    plain = ResNet(BACKBONE).eval()
    plain.load_state_dict(model.backbone.state_dict())
    torch.testing.assert_close(logits[-1], plain(images))
    torch.testing.assert_close(model(images), plain(images))


def test_without_places_it_is_a_resnet_with_the_same_first_weights():
    torch.manual_seed(3)
    model = net(())
    torch.manual_seed(3)
    plain = ResNet(BACKBONE)
    assert not len(model.exits)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_shallow_classifiers_only_see_what_lies_before_them():
    model, images = net().eval(), torch.randn(2, 1, 8, 8)
    before = model.all_exits(images)[0].detach()
    with torch.no_grad():
        for parameter in model.backbone.blocks[2].parameters():  # the third block, behind which exit 3 stands
            parameter.add_(0.5)
    after = model.all_exits(images)[0].detach()
    assert torch.equal(before[:2], after[:2]) and not torch.allclose(before[2], after[2])


@pytest.mark.parametrize("side", [5, 8])
def test_attention_weighs_each_position_between_one_half_and_one(side):
    attention = SpatialAttention(4).eval()
    x = torch.randn(2, 4, side, side)
    weights = attention.weights(x)
    assert weights.shape == x.shape and weights.min() >= 0.5 and weights.max() <= 1
    torch.testing.assert_close(attention(x), x * weights)
    assert isinstance(net(attention=False).exits[0].attention, nn.Identity)


def test_alignment_halves_once_per_stage_to_come():
    exit = Exit((4, 8, 16), 5, attention=True).eval()
    assert exit.align(torch.randn(1, 4, 8, 8)).shape == (1, 16, 2, 2)
    assert Exit((16,), 5, attention=True).eval().align(torch.randn(1, 16, 2, 2)).shape == (1, 16, 2, 2)


@pytest.mark.parametrize("places", [(0,), (4,), (2, 1), (1, 1)])
def test_places_that_are_none_are_refused(places):
    with pytest.raises(ValueError, match="rising order, from 1 to 3"):
        ExitConfig(BACKBONE, places)


# The loss


def sample(dtype=torch.float64):
    return (2 * torch.randn(K, BATCH, CLASSES, dtype=dtype), torch.randn(K, BATCH, WIDTH, dtype=dtype), torch.randint(CLASSES, (BATCH,)))


def by_hand(logits, features, labels, alpha, weight, temperature, chosen):
    """The whole loss in numpy, classifier by classifier, with ``chosen`` the references of each shallow one."""
    z, f = logits.detach().numpy(), features.detach().numpy()

    def log_softmax(a):
        return a - np.log(np.exp(a).sum(-1, keepdims=True))

    def ce(k):
        return -np.mean([log_softmax(z[k])[i, label] for i, label in enumerate(labels.tolist())])

    total = ce(K - 1)
    for k in range(K - 1):
        total += (1 - alpha) * ce(k)
        for reference in chosen[k]:
            zr, fr = (np.mean([part[j] for j in reference], axis=0) for part in (z, f))
            q, p = log_softmax(z[k] / temperature), log_softmax(zr / temperature)
            total += alpha * np.mean(np.sum(np.exp(p) * (p - q), -1)) / len(chosen[k])
            if k < K - 2:
                total += weight * math.sqrt(((f[k] - fr) ** 2).sum()) / len(chosen[k])
    return total


#: Of each shallow classifier: its references, each the classifiers whose mean it is.
CHOSEN = {
    "deepest": [[[3]], [[3]], [[3]]],
    "ensemble": [[[0, 1, 2, 3]]] * 3,
    "transitive": [[[1]], [[2]], [[3]]],
    "dense": [[[1], [2], [3]], [[2], [3]], [[3]]],
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_the_three_losses_are_their_formula(reference):
    logits, features, labels = sample()
    parts = self_distillation(logits, features, labels, alpha=0.3, weight=0.03, temperature=3.0, reference=reference)
    expected = by_hand(logits, features, labels, 0.3, 0.03, 3.0, CHOSEN[reference])
    assert sum(parts.values()).item() == pytest.approx(expected, rel=1e-10)
    single = self_distillation(logits.float(), features.float(), labels, reference=reference)
    assert sum(single.values()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reference", REFERENCES)
def test_gradients_pass_to_learners_and_not_to_references(reference):
    logits, features, labels = sample()

    def total(z, f):
        parts = self_distillation(z, f, labels, reference=reference)
        return parts["teacher"] + parts["hints"]

    z, f = logits.clone().requires_grad_(), features.clone().requires_grad_()
    total(z, f).backward()
    assert z.grad[-1].abs().max() == 0 and f.grad[-1].abs().max() == 0  # the deepest teaches and is not taught
    assert f.grad[-2].abs().max() == 0 and f.grad[0].abs().max() > 0  # no hint for the deepest shallow one
    # One shallow classifier's gradient, the references held fixed as the formula has them.
    step, place = 1e-6, (0, 2, 1)
    fixed = references(logits, reference)
    for side, expected in ((1, z.grad[place].item()),):
        moved = []
        for sign in (1, -1):
            other = logits.clone()
            other[place] += sign * step
            q = (other[0] / 3).log_softmax(-1)
            p = [(r / 3).softmax(-1) for r in fixed[0]]
            moved.append(0.3 * sum((-(a * q).sum(-1)).mean() for a in p) / len(p))
        assert expected == pytest.approx(((moved[0] - moved[1]) / (2 * step)).item(), rel=1e-4)


def test_a_classifier_like_its_reference_has_only_labels_to_learn():
    logits, features, labels = sample()
    alike = self_distillation(logits[-1:].expand(K, -1, -1), features[-1:].expand(K, -1, -1), labels)
    assert alike["teacher"].abs() < 1e-12 and alike["hints"].abs() < 1e-12
    ce = nn.functional.cross_entropy(logits[-1], labels)
    assert alike["labels"].item() == pytest.approx(ce.item() * (1 + 0.7 * (K - 1)))


def test_references_have_no_gradient_and_unknown_ones_are_refused():
    values = torch.randn(3, 2, 4, requires_grad=True)
    for choice in REFERENCES:
        assert not any(r.requires_grad for r in references(values, choice))
    with pytest.raises(ValueError, match="deepest"):
        references(values, "best")


def test_the_loss_for_training_logs_its_parts():
    model, images, labels = net().train(), torch.randn(4, 1, 8, 8), torch.randint(5, (4,))
    total, logged = self_distillation_loss()(model, images, labels)
    assert total.item() == pytest.approx(sum(logged[f"{name}_loss"] for name in ("labels", "teacher", "hints")).item(), rel=1e-5)
    total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    for bad, message in (
        ({"alpha": 1.5}, "alpha"),
        ({"weight": -1.0}, "λ"),
        ({"temperature": 0.0}, "temperature"),
        ({"reference": "x"}, "reference"),
    ):
        with pytest.raises(ValueError, match=message):
            self_distillation_loss(**bad)


# Leaving early


def test_the_ensemble_leaves_the_shallowest_out_of_three_or_more():
    logits = torch.randn(4, 2, 5)
    torch.testing.assert_close(ensemble(logits), logits[1:].mean(0).softmax(-1))
    torch.testing.assert_close(ensemble(logits[:2]), logits[:2].mean(0).softmax(-1))
    assert answers(logits).shape == (4, 2, 5)


def test_images_leave_at_the_first_classifier_that_is_sure():
    p = torch.tensor([[[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]], [[0.2, 0.8], [0.1, 0.9], [0.4, 0.6]], [[0.3, 0.7], [0.3, 0.7], [0.7, 0.3]]])
    left, predicted = leave(p, [0.8, 0.8])
    assert left.tolist() == [0, 1, 2] and predicted.tolist() == [0, 1, 0]
    assert leave(p, [NEVER, NEVER])[0].tolist() == [2, 2, 2]
    assert leave(p, [0.5, 0.5])[0].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="one for each"):
        leave(p, [0.5])
    setting = judged(p, torch.tensor([0, 1, 1]), [10, 20, 30], [0.8, 0.8])
    assert setting == Setting((0.8, 0.8), pytest.approx(2 / 3), pytest.approx(20.0))


def test_one_image_at_a_time_leaves_where_the_batch_says():
    model, images = net().eval(), 2 * torch.randn(12, 1, 8, 8)
    with torch.no_grad():
        model.exits[0].head.weight.mul_(6), model.exits[1].head.weight.mul_(9)
        probabilities = answers(model.all_exits(images)[0])
    thresholds = [probabilities[k].amax(-1).median().item() for k in range(3)]
    left, predicted = leave(probabilities, thresholds)
    assert len(set(left.tolist())) > 1
    assert [infer(model, image[None], thresholds) for image in images] == list(zip(left.tolist(), predicted.tolist()))


def test_flops_grow_with_depth_and_count_the_classifiers_on_the_way():
    model = net().eval()
    flops = exit_flops(model, (1, 8, 8))
    assert len(flops) == 4 and flops == sorted(flops) and len(set(flops)) == 4
    plain = exit_flops(net(()).eval(), (1, 8, 8))
    assert flops[-1] > plain[-1]
    with torch.device("meta"):
        assert exit_flops(net(), (1, 8, 8)) == flops


def drawn(images=400):
    """Three shallow classifiers and an ensemble: the deeper, the more often right, and surer where right."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(5, (images,), generator=generator)
    logits = torch.randn(4, images, 5, generator=generator)
    for depth, strength in enumerate((1.5, 2.0, 2.5, 3.0)):
        logits[depth, torch.arange(images), labels] += strength
    return logits.softmax(-1), labels


def test_the_search_is_no_worse_than_one_threshold_for_all():
    probabilities, labels = drawn()
    flops = [10, 18, 25, 30]
    found = search_thresholds(probabilities, labels, flops, population=16, generations=12, seed=0)
    assert found == search_thresholds(probabilities, labels, flops, population=16, generations=12, seed=0)
    for name in ("flops", "accuracy"):
        values = [getattr(setting, name) for setting in found]
        assert values == sorted(values)
    for setting in found:
        assert setting == judged(probabilities, labels, flops, setting.thresholds)
    alike = sweep_thresholds(probabilities, labels, flops)
    whole = max(alike, key=lambda s: s.accuracy)
    assert max(s.accuracy for s in found) >= whole.accuracy - 0.005
    assert found[0].flops == 10  # everything to the shallowest is on the front


def test_a_front_keeps_what_nothing_beats():
    a, b, c, d = Setting((), 0.5, 1.0), Setting((), 0.4, 2.0), Setting((), 0.7, 2.0), Setting((), 0.7, 3.0)
    assert front([d, c, b, a]) == [a, c]


def test_a_depthwise_convolution_in_bf16_is_the_one_in_fp32_rounded():
    """On a CPU it computes in fp32, whatever the precision of the step around it, and passes a gradient of the step's precision on."""
    torch.manual_seed(0)
    conv, x = DepthwiseConv(8, stride=2), torch.randn(4, 8, 10, 10)
    wanted = F.conv2d(x, conv.weight, stride=2, padding=1, groups=8)
    assert torch.equal(conv(x), wanted)

    half = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = conv(half)
    assert given.dtype == torch.bfloat16
    assert torch.equal(given, F.conv2d(half.float(), conv.weight, stride=2, padding=1, groups=8).bfloat16())
    given.sum().backward()
    assert half.grad.dtype == torch.bfloat16 and conv.weight.grad.dtype == torch.float32
