"""The network of the short recipe: geometry, whitening, and that it learns."""

import pytest
import torch

from lib.measure import cost as measure
from lib.models.whitened_cnn import EPSILON, WhitenedCNN, WhitenedCNNConfig, whiten


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_sizes():
    model = WhitenedCNN(WhitenedCNNConfig())
    weights = 12 * 24 + 9 * (24 * 64 + 64**2 + 64 * 256 + 3 * 256**2) + 2560
    others = 2 * (2 * 64 + 4 * 256)
    assert measure.parameters(model) == weights + others
    assert 0.22e9 < measure.flops(model, torch.randn(1, 3, 32, 32)) < 0.25e9


@pytest.mark.parametrize("channels, side, widths", [(1, 8, (8, 12)), (1, 28, (8, 12, 16)), (3, 32, (8, 12, 16))])
def test_one_geometry_serves_all_images(channels, side, widths):
    model = WhitenedCNN(WhitenedCNNConfig(widths=widths, channels=channels, classes=7)).eval()
    assert model(torch.randn(2, channels, side, side)).shape == (2, 7)


def test_the_stem_makes_patches_white_and_is_not_trained():
    mixing = torch.randn(3, 3)
    images = torch.einsum("ij,njhw->nihw", mixing, torch.nn.functional.avg_pool2d(torch.randn(200, 3, 12, 12), 3, 1))
    model = WhitenedCNN(WhitenedCNNConfig(widths=(8,)))
    whiten(model, images)
    out = model.stem(images).permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(out[:, :12], -out[:, 12:])
    second = out[:, :12].T @ out[:, :12] / len(out)
    values = torch.linalg.eigvalsh(torch.nn.functional.unfold(images, 2).transpose(1, 2).flatten(0, 1).T.cov(correction=0))
    assert values.max() / values.min() > 10  # they were far from white
    torch.testing.assert_close(second, torch.diag(second.diagonal()), rtol=0, atol=1e-3)
    assert second.diagonal().max() <= 1.001 and second.diagonal().min() > 1 - 10 * EPSILON / values.min()
    assert not any(p.requires_grad for p in model.stem.parameters())


def test_convolutions_hand_their_input_on_at_first():
    model = WhitenedCNN(WhitenedCNNConfig(widths=(32, 48)))
    x = torch.randn(1, 32, 5, 5)
    torch.testing.assert_close(model.groups[1].conv1(x)[:, :32], x)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"widths": ()}, "at least 1 channel"),
        ({"widths": (0,)}, "at least 1 channel"),
        ({"patch": 0}, "patch"),
        ({"classes": 0}, "classes"),
    ],
)
def test_wrong_geometry_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        WhitenedCNNConfig(**fields)
