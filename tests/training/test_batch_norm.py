"""Batch norm's statistics taken anew: medians over batches ignore the batch that a single image spoils, means do not."""

import pytest
import torch
from torch import nn

from lib.training.batch_norm import reestimate, settle


class Batches:
    """Five batches of unit variance, one of which has an image a thousand times as large."""

    steps = 5

    def batch(self, epoch: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        if step == 2:
            images[0] *= 1000
        return images, torch.zeros(64, dtype=torch.int64)


def test_medians_ignore_the_spoilt_batch_and_means_do_not():
    model = nn.Sequential(nn.BatchNorm2d(3)).eval()
    settle(model, Batches())
    assert not model.training and torch.allclose(model[0].running_var, torch.ones(3), atol=0.2)
    reestimate(model, Batches())
    assert (model[0].running_var > 100).all()


def test_medians_are_those_of_the_batches():
    model, batches = nn.Sequential(nn.BatchNorm2d(3)), Batches()
    settle(model, batches)
    found = torch.stack([batches.batch(0, step)[0].mean((0, 2, 3)) for step in range(batches.steps)])
    assert torch.allclose(model[0].running_mean, found.median(0).values, atol=1e-5) and model.training


def test_a_network_without_batch_norm_stays_and_no_steps_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    before = model[0].weight.clone()
    assert settle(model, Batches()) is model and torch.equal(model[0].weight, before)
    with pytest.raises(ValueError, match="steps is 0"):
        settle(model, Batches(), steps=0)
