"""The pruning chapter's Specs for coarse tickets, Sparse Cocktail and the latency study, at a very small size."""

from dataclasses import replace

import pytest

from lib.models.mlp import MLPConfig
from lib.models.vgg import VGGConfig
from lib.runs.store import obtain
from lib.studies.pruning import cocktail as pruning_cocktail
from lib.studies.pruning.coarsen import COMPARED, CoarseRun, levels
from lib.studies.pruning.cocktail import CocktailRun
from lib.studies.pruning.dense import DenseRun
from lib.studies.pruning.speed import FORMS, SpeedRun, share_of_channels
from lib.training.loop import Recipe, fit

DENSE = DenseRun(
    dataset="digits",
    train_examples=192,
    model=VGGConfig(widths=(8, 12, 16), stages=(1, 2), channels=1, side=8),
    recipe=Recipe(epochs=2, batch_size=64, optimizer="sgd", lr=0.1),
    snapshots=(2,),
)


@pytest.mark.parametrize("pivot", [True, False])
def test_the_cocktail_spec(pivot):
    spec = CocktailRun(parent=DENSE, rewind=2, stages=2, pivot=pivot, amount=0.5, channels=0.3, held=40, batches=1)
    result = obtain([spec])[0]
    metrics, arrays = result.metrics, result.arrays
    for variant in ("own", "last", "merged"):
        values = [value for row in arrays[f"test_{variant}"] for value in row]
        assert len(values) == 6 and metrics[f"test_accuracy_{variant}"] == pytest.approx(sum(values) / 6, rel=1e-6)
        assert 0 <= metrics[f"val_dense_{variant}"] <= 1
    assert [row[-1] for row in arrays["test_own"]] == [row[-1] for row in arrays["test_last"]]
    assert arrays["density"][0][0] > arrays["density"][0][1] and len(arrays["coefficients"]) == 1


def test_an_interrupted_cocktail_goes_on(monkeypatch, tmp_path):
    spec = CocktailRun(parent=DENSE, rewind=2, stages=2, amount=0.4, held=40, batches=1)
    expected = obtain([spec])[0]
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path))
    calls = []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError
        return fit(*arguments, **options)

    monkeypatch.setattr(pruning_cocktail, "fit", failing)
    with pytest.raises(InterruptedError):
        obtain([spec])
    again = obtain([spec])[0]
    assert len(calls) == 3  # the first stage was not trained again
    assert again.arrays == expected.arrays


@pytest.mark.parametrize("form", COMPARED)
def test_the_coarse_spec(form):
    first = CoarseRun(parent=DENSE, form=form, amount=0.4, rewind=2, timed=4, rounds=2)
    results = [result.metrics for result in obtain(levels(first, 2))]
    assert [metrics["level"] for metrics in results] == [1, 2]
    assert results[0]["density"] > results[1]["density"]
    for metrics in results:
        assert metrics["difference"] < 1e-4 and metrics["small_ratio"] > 0 and metrics["dense_test_accuracy"] > 0
    last = results[-1]
    assert last["small_parameters"] < last["dense_parameters"]
    if form in ("refill", "refill_plus", "channels"):
        assert last["channels"] < 1 and last["small_flops"] < last["dense_flops"]


@pytest.mark.parametrize("model", [VGGConfig(widths=(16, 32, 32), stages=(1, 2), side=8), MLPConfig(64, (64, 64))], ids=["vgg", "mlp"])
def test_the_speed_spec(model):
    metrics = obtain([SpeedRun(model=model, density=0.3, batch=2, rounds=2)])[0].metrics
    for form in FORMS[:-1]:
        assert metrics[f"{form}_ms"] > 0 and metrics[f"{form}_ratio_p05"] <= metrics[f"{form}_ratio"] <= metrics[f"{form}_ratio_p95"]
    for form in ("csr", "bsr", "removed"):
        assert metrics[f"{form}_difference"] < 1e-4 and metrics[f"{form}_stored"] < 0.5 * metrics["dense_stored"]
    assert metrics["zeros_bytes"] == metrics["dense_bytes"] > 2 * metrics["removed_bytes"]
    assert metrics["filter_density"] == pytest.approx(0.3, abs=0.05)
    assert metrics["unstructured_density"] == pytest.approx(0.3, abs=0.01)


def test_the_share_of_channels():
    for outer, inner in ((100, 10_000), (5000, 0), (300, 300)):
        for kept in (1.0, 0.3, 0.01):
            share = share_of_channels(outer, inner, kept)
            assert share * outer + share**2 * inner == pytest.approx(kept * (outer + inner))


def test_senseless_specs_are_refused():
    for make, message in (
        (lambda: CocktailRun(parent=DENSE, rewind=1), "add that step"),
        (lambda: CocktailRun(parent=DENSE, rewind=2, amount=1.0), "amount"),
        (lambda: CocktailRun(parent=DENSE, rewind=2, stages=0), "stages 0"),
        (lambda: CocktailRun(parent=DENSE, rewind=2, distil=-1), "distil"),
        (lambda: CoarseRun(parent=DENSE, rewind=2, form="fill"), "form is 'fill'"),
        (lambda: CoarseRun(parent=DENSE), "add that step"),
        (lambda: replace(CoarseRun(parent=DENSE, rewind=2), rounds=1), "2 rounds"),
        (lambda: SpeedRun(density=0.0), "density"),
        (lambda: SpeedRun(batch=0), "batch 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
