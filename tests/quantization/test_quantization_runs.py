"""Quantized training, packed runs, the catalogue and torchao's baseline, from beginning to end on digits."""

import copy
import importlib.util
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from lib.data.images import load_images
from lib.models.vgg import VGG, VGGConfig
from lib.pruning.mask import attach, density, layers, masks_of
from lib.pruning.trainers import Plan
from lib.quantization import packed, torchao_baseline
from lib.quantization.catalogue import FOLDER, by_layer, entries, evaluate, load, paths, unique
from lib.quantization.codebook import books, quantize, reassign
from lib.quantization.fold import fold
from lib.quantization.train import pruning_too, reassigning
from lib.runs.results import Unavailable
from lib.runs.store import Session, Store, obtain
from lib.studies.pruning.dense import DenseRun
from lib.studies.pruning.quantize import PackedRun, QuantizedRun, TorchaoRun, export
from lib.studies.pruning.train import SparseRun
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss

MODEL = VGGConfig((8, 16), (1, 1), channels=1, side=8)
DENSE = DenseRun(model=MODEL, train_examples=512, recipe=Recipe(epochs=3, batch_size=64, lr=1e-2))
SPARSE = SparseRun(parent=DENSE, plan=Plan(density=0.2, every=4, allocation="lamp"), recipe=Recipe(epochs=2, batch_size=64, lr=5e-3))
AFTER = QuantizedRun(parent=SPARSE, bits=2, every=4, recipe=Recipe(epochs=2, batch_size=64, lr=2e-3))
JOINT = QuantizedRun(
    parent=DENSE, bits=3, grid=(16, 4), density=0.2, prune_every=4, recipe=Recipe(epochs=2, batch_size=64, lr=5e-3), distil=0.5
)


class Batches:
    """Random images with labels that their first column decides."""

    steps = 8

    def batch(self, epoch, step):
        generator = torch.Generator().manual_seed(100 * epoch + step)
        x = torch.randn(32, 1, 8, 8, generator=generator)
        return x, (x[:, 0, :, 0].mean(1) > 0).long()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return Store(folder / "none", folder)


@pytest.fixture(scope="module")
def results(store):
    specs = [
        DENSE,
        SPARSE,
        AFTER,
        JOINT,
        PackedRun(parent=AFTER, attacked=50),
        PackedRun(parent=AFTER, half=False, attacked=50),
        PackedRun(parent=JOINT, attacked=50),
        PackedRun(parent=SPARSE, attacked=50),
    ]
    return dict(zip(("dense", "sparse", "after", "joint", "half", "full", "joint file", "sparse file"), obtain(specs, store=store)))


# Hooks


def trained(hook, model, epochs=3, checkpoint=None):
    fit(
        model,
        Batches(),
        classification_loss(),
        Recipe(epochs=epochs, batch_size=32, lr=3e-3),
        seed=0,
        after_step=hook,
        checkpoint=checkpoint,
    )
    return model


def few_values(model, bits, grid=(1, 1)):
    return all(unique(layer.weight, grid) <= 2**bits for layer in layers(model).values())


def test_codes_move_until_they_settle():
    torch.manual_seed(0)
    start = quantize(attach(VGG(MODEL)), 2)
    model = trained(reassigning(2, last=16), copy.deepcopy(start))
    moved = sum(int(book.code.ne(before.code).sum()) for book, before in zip(books(model).values(), books(start).values()))
    assert moved > 0 and few_values(model, 2) and masks_of(model)["head"].all()
    assert all(not torch.equal(book.entries, before.entries) for book, before in zip(books(model).values(), books(start).values()))
    still = trained(reassigning(1, last=0), copy.deepcopy(start))
    assert all(torch.equal(book.code, before.code) for book, before in zip(books(still).values(), books(start).values()))
    assert reassign(copy.deepcopy(still)) > 0


def test_pruning_goes_on_under_codebooks():
    torch.manual_seed(0)
    hook = pruning_too(0.1, end=12, every=4, last=20, floor=3)
    seen = []

    def after_step(model, step):
        hook(model, step)
        seen.append(density(masks_of(model)))

    model = trained(after_step, quantize(attach(VGG(MODEL)), 3, (16, 4)))
    assert seen[2] == 1 > seen[3] > seen[7] > seen[11] == pytest.approx(0.1, abs=1e-3) and set(seen[11:]) == {seen[11]}
    assert few_values(model, 3, (16, 4)) and all(mask.sum() >= 3 for mask in masks_of(model).values())
    assert all(torch.equal(layer.weight != 0, masks_of(model)[name]) for name, layer in layers(model).items())


def test_a_hook_needs_steps_in_order():
    for wrong in (lambda: reassigning(0, 3), lambda: pruning_too(0.1, 4, 5, 9), lambda: pruning_too(0.1, 4, 2, 3)):
        with pytest.raises(ValueError, match="steps"):
            wrong()


def test_resuming_gives_the_same_network(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.training.loop.SAVE_EVERY_SECONDS", 0.0)
    torch.manual_seed(0)
    start = quantize(attach(VGG(MODEL)), 2, (16, 4))

    def hook():
        return pruning_too(0.2, end=12, every=4, last=20)

    whole = trained(hook(), copy.deepcopy(start))

    class Stop(Exception):
        pass

    def stops(model, step, inner=hook()):
        inner(model, step)
        if step == 18:
            raise Stop

    with pytest.raises(Stop):
        trained(stops, copy.deepcopy(start), checkpoint=tmp_path)
    resumed = trained(hook(), copy.deepcopy(start), checkpoint=tmp_path)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


# Runs


def test_quantized_runs_keep_masks_and_budgets(results, store):
    sparse, after, joint = results["sparse"].metrics, results["after"].metrics, results["joint"].metrics
    assert after["weights"] == sparse["weights"] and joint["density"] == pytest.approx(0.2, abs=1e-3)
    assert after["entries"] == 3 * 4 and results["after"].curves["density"] == [after["density"]] * 2
    assert after["val_accuracy_before"] == pytest.approx(sparse["val_accuracy"])
    session = Session(torch.device("cpu"), store, AFTER, lambda part, text: None)
    for spec, bits, grid in ((AFTER, 2, (1, 1)), (JOINT, 3, (16, 4))):
        assert few_values(spec.load(session), bits, grid)


def test_packed_runs_tell_the_size_of_a_real_file(results, store):
    half, full, sparse = results["half"].metrics, results["full"].metrics, results["sparse file"].metrics
    for run in (half, full, sparse):
        assert run["bytes"] == sum(run[f"bytes_{part}"] for part in ("codes", "positions", "codebooks", "norms", "header"))
        assert run["file_ratio"] < run["weights_ratio"] < run["claimed_ratio"]
        assert 0 <= run["pgd"] <= run["test_accuracy"] + 0.2 and run["bytes_dense"] == 4 * run["all_weights"]
    assert (store.scratch(PackedRun(parent=AFTER, attacked=50)) / "model.packed").stat().st_size == half["bytes"] < full["bytes"]
    assert sparse["claimed_ratio"] == pytest.approx(2 * sparse["all_weights"] / sparse["weights"])  # 16 bits a weight
    assert half["claimed_ratio"] == pytest.approx(16 * half["all_weights"] / half["weights"])
    assert full["test_accuracy"] == pytest.approx(results["after"].metrics["test_accuracy"], abs=0.01)
    assert sparse["code_bits"] == 16 and half["code_bits"] <= 2.1 and full["unique"] <= 4
    assert results["joint file"].metrics["unique_in_section"] <= 8
    assert [row["layer"] for row in results["half"].arrays["layers"]] == ["features.0", "features.4", "head"]


def test_exported_files_are_found_loaded_and_evaluated(results, store, tmp_path):
    spec = PackedRun(parent=AFTER, attacked=50)
    path = export(spec, "small-vgg", tmp_path, store)
    assert [(entry.name, entry.about["dataset"], entry.bytes) for entry in entries(tmp_path)] == [
        ("small-vgg", "digits", path.stat().st_size)
    ]
    images = load_images("digits", train_examples=512)
    found = evaluate(path, images, attacked=50)
    assert found["accuracy"] == pytest.approx(results["half"].metrics["test_accuracy"], abs=1e-6)
    assert found["pgd"] == pytest.approx(results["half"].metrics["pgd"], abs=1e-6)
    assert isinstance(load("small-vgg", tmp_path), VGG)
    with pytest.raises(ValueError, match="small-vgg"):
        load("smal-vgg", tmp_path)
    assert entries(tmp_path / "none") == []
    (store.scratch(spec) / "model.packed").unlink()
    assert export(spec, "again", tmp_path, store).read_bytes() == path.read_bytes()  # made anew


def test_what_is_told_of_each_layer():
    model = VGG(MODEL)
    with torch.no_grad():
        for layer in layers(model).values():
            layer.weight.zero_()
        model.features[0].weight[:2, 0, 0, 0] = torch.tensor([0.5, -0.5])
        model.features[4].weight[0, :3, 1, 1] = torch.tensor([1.0, 2.0, 2.0])
    first, second, head = by_layer(model)
    assert (first["weights"], first["unique"], first["unique_in_section"], first["sparsity"]) == (2, 2, 1, 1 - 2 / 72)
    assert (second["weights"], second["unique"], second["unique_in_section"]) == (3, 2, 2)
    assert (head["weights"], head["unique"], head["imbalance"]) == (0, 0, None)


def test_a_damaged_file_does_not_keep_another_from_being_loaded(tmp_path):
    shutil.copy(FOLDER / "digits-vgg-150x.packed", tmp_path / "whole.packed")
    (tmp_path / "damaged.packed").write_text("nothing")
    assert list(paths(tmp_path)) == ["damaged", "whole"] and isinstance(load("whole", tmp_path), VGG)
    with pytest.raises(packed.Unreadable):
        load("damaged", tmp_path)


def test_committed_networks_are_what_they_say():
    """Whatever lies in data/models/ can be read, and fits its own data set's shape."""
    for entry in entries():
        assert entry.about["dataset"] in ("digits", "mnist", "cifar10", "cifar100") and entry.bytes < 200_000
        assert packed.sizes_of(entry.path).total == entry.bytes


def test_specs_refuse_what_makes_no_sense():
    for fields, message in (
        ({"bits": 0}, "bits"),
        ({"density": 0.0}, "density"),
        ({"end": 0.9}, "order"),
        ({"every": 0}, "every"),
        ({"prune_every": 0}, "prune_every"),
        ({"recipe": Recipe(optimizer="sgd")}, "adamw"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(AFTER, **fields)
    with pytest.raises(ValueError, match="use one of"):
        TorchaoRun(parent=DENSE, bits=2)


# torchao


def test_an_unfolded_convolution_is_the_same():
    torch.manual_seed(0)
    for options in ({}, {"stride": 2}, {"padding": 1, "stride": 3}, {"bias": False, "padding": (0, 2)}):
        conv = nn.Sequential(nn.Conv2d(3, 5, (3, 2), **options))
        x = torch.randn(2, 3, 9, 11)
        torch.testing.assert_close(torchao_baseline.unfolded(conv)(x), conv(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="unfolded"):
        torchao_baseline.unfolded(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)))


def test_without_torchao_the_run_says_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="pip install torchao"):
        torchao_baseline.quantized(nn.Sequential(nn.Linear(3, 3)), 8)
    with pytest.raises(ValueError, match="4 or 8"):
        torchao_baseline.quantized(nn.Linear(3, 3), 5)


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason=torchao_baseline.MISSING)
def test_torchao_keeps_zeros_and_counts_its_bytes(results, store):
    torch.manual_seed(0)
    model = fold(VGG(replace(MODEL, widths=(8, 32))), (1, 8, 8))
    x = torch.randn(4, 1, 8, 8)
    for bits, tolerance in ((8, 0.02), (4, 0.3)):
        small = torchao_baseline.quantized(model, bits)
        assert (small(x) - model(x)).norm() < tolerance * model(x).norm()
        rows = 8 + 32 + 10  # one scale and one zero point each: rows of 9, of 72, and of 32 inputs, which are one group
        weights = 8 * 9 + 32 * 72 + 10 * 32
        rest = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 1)
        assert torchao_baseline.stored_bytes(small, bits) == weights * bits // 8 + 5 * rows + 4 * rest
    run = obtain([TorchaoRun(parent=SPARSE)], store=store)[0]
    assert run.metrics["test_accuracy"] == pytest.approx(results["sparse"].metrics["test_accuracy"], abs=0.03)
    assert 1 < run.metrics["file_ratio"] < 4 == run.metrics["claimed_ratio"] < results["sparse file"].metrics["file_ratio"] * 4
