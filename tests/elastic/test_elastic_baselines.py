"""The baselines of elastic training as Specs: from scratch, distilled, pruned."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, load_model

from lib.data.images import load_images
from lib.measure import cost as measure
from lib.models.cnn import BaselineCNN, preset
from lib.runs.spec import changed_fields
from lib.runs.store import Store, obtain
from lib.studies.elastic.baselines import CNNRun, PrunedRun, flops_per_image
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe

RECIPE = Recipe(epochs=2, batch_size=64, lr=1e-2, channels_last=True)
LARGE = CNNRun(size="large", train_examples=300, recipe=RECIPE)
SCRATCH = replace(LARGE, size="small")
DISTILLED = replace(SCRATCH, teacher=LARGE)
PRUNED = PrunedRun(parent=LARGE, keep=1 / 8, recipe=replace(RECIPE, epochs=4))

METRICS = {
    "test_accuracy",
    "val_accuracy",
    "test_loss",
    "val_loss",
    "parameters",
    "active_parameters",
    "flops_per_image",
    "file_bytes",
    "latency_ms_1",
    "latency_ms_256",
    "train_seconds",
    "train_flops",
    "diverged",
}

#: Images that one epoch shows: full batches only.
SEEN = 300 // 64 * 64


#: Training loss of the last epoch; processors differ by less than 1 %.  A greater change means that the numbers of the
#: book change.
GOLDEN = {LARGE: 0.5215, SCRATCH: 1.2797, DISTILLED: 0.525}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return Store(folder / "none", folder)


@pytest.fixture(scope="module")
def results(store):
    """By Spec; the pruned and the distilled run come first, so that they have to ask for the large one."""
    specs = [PRUNED, DISTILLED, LARGE, SCRATCH]
    return dict(zip(specs, obtain(specs, store=store, device="cpu"), strict=True))


@pytest.fixture(scope="module")
def images():
    return load_images("digits", train_examples=300)


def network(result, store, spec):
    """The network of a finished run, from nothing but its result and its weights."""
    config = preset("large", channels=1).with_widths(tuple(result.arrays["widths"]))
    model = BaselineCNN(config).eval()
    load_model(model, str(store.scratch(spec) / "weights.safetensors"))
    return model


@pytest.mark.parametrize("spec", [LARGE, SCRATCH, DISTILLED, PRUNED], ids=["large", "small", "distilled", "pruned"])
def test_metrics_are_of_the_network_that_was_kept(spec, results, store, images):
    result = results[spec]
    metrics = result.metrics
    extra = {"val_accuracy_before_finetuning"} if spec is PRUNED else set()
    assert metrics.keys() == METRICS | extra and None not in metrics.values()
    model = network(result, store, spec)
    assert measure.parameters(model) == metrics["parameters"] == metrics["active_parameters"]
    assert measure.file_bytes(model) == metrics["file_bytes"]
    kept = (store.scratch(spec) / "weights.safetensors").stat().st_size
    assert 64 < kept - metrics["file_bytes"] < 128  # the checksum in its header
    assert measure.flops(model, torch.zeros(1, 1, 8, 8)) == metrics["flops_per_image"]
    for split, name in ((images.test, "test"), (images.validation, "val")):
        scores = evaluate_classifier(model, split, images)
        assert scores["accuracy"] == pytest.approx(metrics[f"{name}_accuracy"])
        assert scores["loss"] == pytest.approx(metrics[f"{name}_loss"], rel=1e-4)
    assert 0 < metrics["latency_ms_1"] < metrics["latency_ms_256"]
    assert {"train_loss", "val_accuracy", "val_loss", "train_accuracy", "lr", "seconds"} <= result.curves.keys()
    assert {len(curve) for curve in result.curves.values()} == {spec.recipe.epochs}
    assert result.provenance["data"] == images.provenance()


def test_training_lowers_the_loss(results):
    for spec in (LARGE, SCRATCH, DISTILLED):
        curve = results[spec].curves["train_loss"]
        assert curve[-1] < 0.9 * curve[0], spec.label
        assert results[spec].metrics["val_accuracy"] > 0.2, spec.label
    assert "agreement" in results[DISTILLED].curves


def test_golden_losses(results):
    for spec, golden in GOLDEN.items():
        assert results[spec].curves["train_loss"][-1] == pytest.approx(golden, rel=1e-2), spec.label


def test_the_pruned_network_is_a_small_one(results):
    pruned, large = results[PRUNED].metrics, results[LARGE].metrics
    for name in ("parameters", "flops_per_image"):
        assert pruned[name] < 0.2 * large[name]
    assert 0.93 / 8 < pruned["parameters"] / large["parameters"] <= 1 / 8
    assert results[PRUNED].arrays["widths"] < results[LARGE].arrays["widths"] == [16, 32, 64, 144, 144]
    # Headers and the statistics of BN weigh more in a small file.
    assert pruned["file_bytes"] / large["file_bytes"] < 0.15
    assert pruned["val_accuracy"] > 0.3 > pruned["val_accuracy_before_finetuning"]


def test_training_flops_are_three_forwards_per_image_and_all_that_went_before(results, images):
    large, small = (flops_per_image(preset(size, channels=1), images) for size in ("large", "small"))
    assert results[LARGE].metrics["train_flops"] == 3 * large * 2 * SEEN
    assert results[SCRATCH].metrics["train_flops"] == 3 * small * 2 * SEEN
    assert results[DISTILLED].metrics["train_flops"] == (3 * small + large) * 2 * SEEN + 3 * large * 2 * SEEN
    assert results[PRUNED].metrics["train_flops"] == (3 * results[PRUNED].metrics["flops_per_image"] * 4 * SEEN + 3 * large * 2 * SEEN)


def test_flops_by_hand(images):
    config = preset("small", channels=1)
    sides, ins = (8, 4, 2, 1, 1), (1, *config.widths[:-1])
    convs = sum(2 * 9 * i * o * side**2 for i, o, side in zip(ins, config.widths, sides, strict=True))
    assert flops_per_image(config, images) == convs + 2 * config.widths[-1] * config.classes


def test_a_result_repeats(results, store, images):
    (again,) = obtain([PRUNED], store=store, device="cpu", recompute=True)
    timed = {"train_seconds", "latency_ms_1", "latency_ms_256"}
    assert {n: v for n, v in again.metrics.items() if n not in timed} == {
        n: v for n, v in results[PRUNED].metrics.items() if n not in timed
    }


def test_pruning_alone_is_a_run_without_epochs(results, store):
    (alone,) = obtain([replace(PRUNED, recipe=replace(RECIPE, epochs=0))], store=store, device="cpu")
    assert alone.metrics["val_accuracy"] == alone.metrics["val_accuracy_before_finetuning"]
    assert alone.metrics["train_flops"] == results[LARGE].metrics["train_flops"] and alone.curves == {}


def test_the_parent_is_trained_once(results, store):
    assert len(list((store.own / "checkpoints" / "elastic-cnn").iterdir())) == 3
    written = load_file(str(store.scratch(LARGE) / "weights.safetensors"))
    assert written["head.weight"].shape == (10, 144)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="dataset and train_examples"):
        replace(SCRATCH, train_examples=200, teacher=LARGE)
    for changes, words in (({"size": "huge"}, "size is 'huge'"), ({"temperature": 0.0}, "temperature is"), ({"alpha": 1.5}, "alpha is")):
        with pytest.raises(ValueError, match=words):
            replace(SCRATCH, **changes)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        PrunedRun(parent=LARGE, keep=0.0)
    assert changed_fields(DISTILLED)["teacher"]["size"] == "large"
    assert len({spec.key for spec in (LARGE, SCRATCH, DISTILLED, PRUNED, replace(DISTILLED, alpha=0.5))}) == 5
