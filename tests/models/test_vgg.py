"""VGG and the fully connected network: geometry, refusals, and that they learn."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.models.mlp import MLP, MLPConfig
from lib.models.vgg import VGG, VGGConfig, vgg16
from lib.pruning.mask import prunable, total


def test_vgg16_has_the_weights_that_the_literature_counts():
    with torch.device("meta"):
        model = VGG(vgg16())
    weights = prunable(model)
    assert total(weights) == 14_715_584
    assert len(weights) == 14 and weights["head"].shape == (10, 512)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64, 64, 128, 128] + [256] * 3 + [512] * 6
    assert all(c.bias is not None and c.kernel_size == (3, 3) for c in convs)
    assert sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)) == 4224
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == 5


def test_lenet_300_100_has_266_200_weights():
    assert total(prunable(MLP(MLPConfig()))) == 784 * 300 + 300 * 100 + 100 * 10 == 266_200


@pytest.mark.parametrize("side, pools, left", [(1, 0, 1), (8, 3, 1), (28, 4, 1), (32, 5, 1), (64, 5, 2)])
def test_pooling_stops_at_one_pixel(side, pools, left):
    config = vgg16(1 / 32, side=side, channels=2, classes=7)
    model = VGG(config).eval()
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == pools
    images = torch.randn(2, 2, side, side)
    assert model.features(images).shape == (2, config.widths[-1], left, left)
    assert model(images).shape == (2, 7)


def test_widths_scale_and_can_be_replaced():
    assert vgg16(1 / 8).widths[:3] == (8, 8, 16)
    config = vgg16(1 / 8).with_widths(range(1, 14))
    assert [m.out_channels for m in VGG(config).modules() if isinstance(m, nn.Conv2d)] == list(range(1, 14))
    assert not any(m.bias is not None for m in VGG(vgg16(1 / 32, bias=False)).modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"widths": (4, 4)}, "sum is the number of widths, 2"),
        ({"widths": (0,) * 13}, "at least 1 channel"),
        ({"side": 0}, "side is 0"),
        ({"classes": 0}, "classes is 0"),
    ],
)
def test_senseless_geometries_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VGGConfig(**changes)


def test_senseless_mlps_are_refused():
    with pytest.raises(ValueError, match="at least 1 unit"):
        MLPConfig(hidden=(3, 0))
    with pytest.raises(ValueError, match="inputs 0"):
        MLPConfig(inputs=0)


@pytest.mark.parametrize(
    "build",
    [lambda: VGG(VGGConfig(widths=(8, 8, 16), stages=(1, 2), channels=1, classes=3, side=8)), lambda: MLP(MLPConfig(64, (20, 10), 3))],
)
def test_it_learns_a_batch_by_heart(build):
    torch.manual_seed(0)
    model, images, labels = build(), torch.randn(24, 1, 8, 8), torch.randint(3, (24,))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert (model(images).argmax(1) == labels).all()
