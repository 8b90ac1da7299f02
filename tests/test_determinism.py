"""What README says of numbers that repeat: to the bit on the same machine with as many threads, nearly so with others."""

import pytest
import torch

from lib.data.augment import Augmentation
from lib.data.images import ImageBatches, load_images
from lib.runs.store import Store, obtain
from store_specs import Trained


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def trained(folder, seed=0):
    return obtain([Trained(epochs=2, seed=seed)], store=Store(folder / "reference", folder / "own"), device="cpu", recompute=True)[0]


@pytest.mark.parametrize("count", [1, 2])
def test_the_same_spec_repeats_to_the_bit(tmp_path, threads, count):
    threads(count)
    first, again = trained(tmp_path), trained(tmp_path)
    assert (first.metrics, first.curves) == (again.metrics, again.curves)
    assert first.provenance["threads"] == count and first.metrics != trained(tmp_path, seed=1).metrics


def test_threads_may_change_the_last_digits_and_no_more(tmp_path, threads):
    found = []
    for count in (1, 2):
        threads(count)
        found.append(trained(tmp_path))
    assert found[0].metrics == pytest.approx(found[1].metrics, rel=1e-4)


def test_threads_change_no_batch(threads):
    images = load_images("digits")
    for step in range(3):
        batches = []
        for count in (1, 2):
            threads(count)
            made = ImageBatches(images.train, images, 32, Augmentation(crop=1, flip=True, mixup=0.2), seed=3)
            batches.append(made.batch(epoch=1, step=step))
        for one, other in zip(*batches):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
