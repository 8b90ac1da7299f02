"""The plain CNN: geometry, sizes, parts, and that it learns."""

import pytest
import torch

from lib.measure import cost as measure
from lib.models.cnn import BaselineCNN, CNNConfig, preset


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def count(config):
    """Parameters by hand: 9 weights per pair of channels, gain and shift per channel, a linear head."""
    ins = (config.channels, *config.widths[:-1])
    layers = sum(9 * i * o + 2 * o for i, o in zip(ins, config.widths, strict=True))
    return layers + (config.widths[-1] + 1) * config.classes


def test_preset_sizes():
    sizes = {name: measure.parameters(BaselineCNN(preset(name))) for name in ("small", "medium", "large")}
    assert sizes == {"small": 36_706, "medium": 100_218, "large": 295_290}
    assert all(size == count(preset(name)) for name, size in sizes.items())
    assert 7 < sizes["large"] / sizes["small"] < 9
    assert measure.flops(BaselineCNN(preset("large")), torch.randn(1, 3, 32, 32)) < 2 * 10e6
    with pytest.raises(ValueError, match="'small', 'medium', 'large'"):
        preset("huge")


@pytest.mark.parametrize("channels, side", [(1, 8), (1, 28), (3, 32)], ids=["digits", "mnist", "cifar"])
def test_one_geometry_serves_all_images(channels, side):
    model = BaselineCNN(preset("small", channels=channels, classes=7)).eval()
    assert model(torch.randn(2, channels, side, side)).shape == (2, 7)
    assert model.features(torch.randn(2, channels, side, side)).shape[-1] == side // 8


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"stages": ()}, "at least one layer"),
        ({"stages": ((8,), ())}, "at least one layer"),
        ({"stages": ((8,), (0,))}, "at least 1 channel"),
        ({"stages": ((8,),), "channels": 0}, "channels"),
        ({"stages": ((8,),), "classes": 0}, "classes"),
    ],
)
def test_geometry_that_makes_no_sense_is_refused_with_advice(fields, message):
    with pytest.raises(ValueError, match=message):
        CNNConfig(**fields)


def test_widths_are_given_layer_by_layer():
    config = CNNConfig(stages=((8,), (16, 24)), channels=1)
    assert config.widths == (8, 16, 24)
    other = config.with_widths((1, 2, 3))
    assert other == CNNConfig(stages=((1,), (2, 3)), channels=1)
    assert measure.parameters(BaselineCNN(other)) == count(other)
    with pytest.raises(ValueError, match="one per layer"):
        config.with_widths((1, 2))


def test_the_forward_pass_is_conv_bn_relu_pool_mean_head():
    model = BaselineCNN(CNNConfig(stages=((4,), (5, 6)), channels=2)).double().eval()
    images = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.weight.data.normal_(), norm.bias.data.normal_()
    x = images
    for layer, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        if layer == 1:
            x = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
        x = torch.nn.functional.conv2d(x, conv.weight, padding=1)
        mean, scale = norm.running_mean, norm.weight / (norm.running_var + norm.eps).sqrt()
        x = ((x - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    torch.testing.assert_close(model(images), x.mean((2, 3)) @ model.head.weight.T + model.head.bias)


def test_activations_keep_their_scale_at_the_start():
    """He initialisation: without its norms too the network neither explodes nor dies."""
    model = BaselineCNN(preset("large"))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    spread = model.features(torch.randn(8, 3, 32, 32)).std().item()
    assert 0.1 < spread < 10


def test_it_learns_which_half_is_bright():
    model, labels = BaselineCNN(preset("small", channels=1, classes=2)), torch.arange(2).repeat(32)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        images = torch.randn(64, 1, 8, 8)
        images[labels == 0, :, :4] += 2
        images[labels == 1, :, 4:] += 2
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
