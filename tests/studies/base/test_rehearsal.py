"""The work of a training is counted from a few rows of its first step, and is that of whole steps."""

import pytest
import torch
from torch import nn

from lib.measure.flop_count import count_flops
from lib.studies.base.rehearsal import Counted, rehearsing
from lib.training.loop import Recipe, Training, fit
from lib.training.losses import classification_loss


class Noise:
    """Three batches of twelve rows an epoch."""

    steps = 3

    def batch(self, epoch, step):
        return torch.randn(12, 5), torch.randint(4, (12,))


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 4))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_whole_step_is_counted_from_few_rows(optimizer):
    recipe = Recipe(epochs=7, batch_size=12, optimizer=optimizer)
    with rehearsing(), pytest.raises(Counted) as counted:
        fit(model(), Noise(), classification_loss(), recipe, seed=0)
    work = counted.value.work
    assert work.steps == 21 and work.recipe == recipe and work.operations > 10
    whole = Training(model(), Noise(), classification_loss(), recipe, 0, None, None, lambda part, text: None)
    assert work.flops == count_flops(lambda: whole.run_step(0))


def test_afterwards_training_trains():
    with rehearsing(), pytest.raises(Counted):
        fit(model(), Noise(), classification_loss(), Recipe(epochs=1), seed=0)
    assert fit(model(), Noise(), classification_loss(), Recipe(epochs=1), seed=0).epochs == 1


def test_nothing_is_compiled_to_be_counted():
    with rehearsing(), pytest.raises(Counted):
        fit(model(), Noise(), classification_loss(), Recipe(epochs=1, compile=True), seed=0)
