"""The residual network: geometry, ReLUs by name, and that it learns."""

import pytest
import torch

from lib.measure import cost as measure
from lib.models.resnet import ResNet, ResNetConfig, resnet18
from lib.privacy.replace import relu_count, relu_shapes


def test_resnet18_has_the_relus_and_parameters_that_the_papers_count():
    with torch.device("meta"):
        model = ResNet(resnet18())
    assert measure.parameters(model) == 11_173_962
    assert relu_count(ResNet(resnet18(widths=(4, 8, 16, 32))), (3, 32, 32)) * 16 == 557_056


@pytest.mark.parametrize("channels, side, stride", [(1, 8, 1), (1, 28, 2), (3, 32, 2), (3, 31, 1)])
def test_one_geometry_serves_all_images(channels, side, stride):
    torch.manual_seed(0)
    model = ResNet(ResNetConfig((4, 8), (1, 2), stride, channels, classes=7))
    assert model(torch.randn(2, channels, side, side)).shape == (2, 7)
    shapes = relu_shapes(model, (channels, side, side))
    assert list(shapes)[:2] == ["relu", "blocks.0.relu1"] and len(shapes) == 7
    assert all(shape[0] in (4, 8) for shape in shapes.values())


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"widths": ()}, "same stages"),
        ({"widths": (4, 8), "blocks": (1,)}, "same stages"),
        ({"widths": (0,), "blocks": (1,)}, "at least 1 channel"),
        ({"widths": (4,), "blocks": (0,)}, "1 block"),
        ({"stride": 0}, "stride"),
        ({"channels": 0}, "channels"),
        ({"classes": 0}, "classes"),
    ],
)
def test_geometry_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ResNetConfig(**fields)


def test_it_learns_and_keeps_fp32_logits():
    torch.manual_seed(0)
    model = ResNet(ResNetConfig((8,), (1,), channels=1, classes=2))
    images, labels = torch.randn(64, 1, 6, 6), torch.arange(64) % 2
    images[labels == 1, :, :3] += 1.5
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(20):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logits.dtype == torch.float32 and loss < 0.3
