"""What README says of numbers that repeat: to the bit on the same machine with as many threads, nearly so with others."""

import pytest
import torch

from conftest import ROOT
from lib.data.augment import Augmentation
from lib.data.images import ImageBatches, load_images
from lib.runs.store import Store, obtain
from lib.system import device as devices
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


@pytest.mark.skipif(devices.pick(None).type == "cpu", reason="this machine has a CPU only")
def test_another_device_draws_the_same_batches_and_changes_the_last_digits_only(tmp_path):
    place = devices.pick(None)
    images = [load_images("digits", device) for device in ("cpu", place)]
    for step in range(3):
        batches = [ImageBatches(one.train, one, 32, Augmentation(crop=1, flip=True, mixup=0.2), seed=3).batch(1, step) for one in images]
        for one, other in zip(*batches, strict=True):
            torch.testing.assert_close(one, other.cpu(), rtol=1e-5, atol=1e-5)
    found = [
        obtain([Trained(epochs=1)], store=Store(tmp_path / device, tmp_path / device / "own"), device=device)[0]
        for device in ("cpu", place.type)
    ]
    assert found[0].metrics["weight"] == pytest.approx(found[1].metrics["weight"], rel=1e-2)


def test_readme_says_what_repeats_and_what_need_not():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for words in (
        "same machine, device, PyTorch and number of threads a result repeats to the bit",
        "even when it was stopped and resumed",
        "Other threads, processors, devices or versions of PyTorch",
        "Times and memory never repeat exactly",
    ):
        assert words in text, words
