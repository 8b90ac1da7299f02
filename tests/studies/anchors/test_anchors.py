"""Anchors: runs that other chapters build on, in one piece or several."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from lib.data.augment import Augmentation
from lib.data.images import load_images
from lib.models.vgg import VGGConfig
from lib.models.vit import ViTConfig
from lib.models.whitened_cnn import WhitenedCNNConfig
from lib.runs.store import Session, Store, lineage, obtain
from lib.studies.anchors.recipes import cnn_recipe, recipes
from lib.studies.anchors.runs import AnchorPiece, AnchorRun, pieces
from lib.studies.anchors.table import fewest_to_most, reached
from lib.studies.base.answers import correct_of
from lib.training.loop import Recipe

TINY = AnchorRun(
    dataset="digits",
    train_examples=150,
    model=WhitenedCNNConfig(widths=(8, 12), channels=1),
    recipe=cnn_recipe(3, batch_size=50, ema=0.9),
    augmentation=Augmentation(alternate=True),
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "reference", tmp_path / "own")


def of(result):
    return {name: value for name, value in result.metrics.items() if "seconds" not in name}


@pytest.mark.parametrize(
    "model",
    [
        WhitenedCNNConfig(widths=(8, 12), channels=1),
        VGGConfig((4, 8), (1, 1), channels=1, side=8),
        ViTConfig(image_size=8, channels=1, patch=2, width=24, depth=2, heads=2, hidden=32, stem="conv"),
    ],
    ids=["cnn", "vgg", "vit"],
)
def test_a_run_tells_what_was_reached_and_leaves_its_weights(store, model):
    run = replace(TINY, model=model, recipe=replace(TINY.recipe, epochs=1))
    (result,) = obtain([run], store=store, device="cpu")
    assert result.metrics["precision"] in ("fp32", "bf16") and result.metrics["flops"] > 0
    assert correct_of(result.arrays["test_correct"]).mean() == pytest.approx(result.metrics["test_accuracy"])
    assert 0 <= result.metrics["val_accuracy_mirrored"] <= 1 and len(result.curves["val_accuracy"]) == 1
    images = load_images("digits")
    session = Session(torch.device("cpu"), store, run, lambda part, text: None)
    loaded = run.load(session, images)
    with torch.no_grad():
        logits = loaded(torch.zeros(2, 1, 8, 8))
    assert logits.shape == (2, 10) and not loaded.training


def test_a_chain_of_pieces_comes_out_as_one_training(store, tmp_path):
    (whole,) = obtain([TINY], store=store, device="cpu")
    run = replace(TINY, pieces=3)
    first, second, last = pieces(run)
    assert (first.number, second.number, last) == (1, 2, run)
    results = obtain(pieces(run), store=store, device="cpu")
    assert [result.metrics.get("epochs") for result in results] == [1, 2, None]
    assert of(results[2]) == of(whole) and results[2].arrays == whole.arrays
    alone = Store(tmp_path / "nothing", tmp_path / "new")  # the last piece fetches the ones before it by itself
    (again,) = obtain([run], store=alone, device="cpu")
    assert of(again) == of(whole)
    assert [each for each in lineage(run)] == [run, second, first]


def test_numbers_of_pieces_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="has 1 to 3"):
        replace(TINY, pieces=4)
    with pytest.raises(ValueError, match="has 1 to 1 before the last"):
        AnchorPiece(parent=replace(TINY, pieces=2), number=2)


def test_the_table_has_the_minutes_of_training(store):
    small = recipes("smoke")["small CNN"]
    results = obtain([small, replace(small, seed=1)], store=store, device="cpu")
    table = reached(results, "smoke")
    assert list(table["minutes"]) == [result.metrics["train_seconds"] / 60 for result in results]
    assert set(table["name"]) == {"small CNN"}
    assert fewest_to_most(pd.Series([37.2, 8.65, 9.7])) == "8.7 to 37"
    assert fewest_to_most(pd.Series([42.8])) == "43" and fewest_to_most(pd.Series([0.031, 0.032])) == "0.031 to 0.032"


def test_learning_is_what_the_recipes_do(store):
    run = replace(recipes("laptop")["CNN"], train_examples=600)
    (result,) = obtain([run], store=store, device="cpu")
    assert result.metrics["test_accuracy"] > 0.9


@pytest.mark.parametrize("scale", ["smoke", "laptop", "cpu", "gpu"])
def test_each_scale_has_the_same_anchors(scale):
    found = recipes(scale)
    larger = ["VGG16", "ViT"] if scale == "gpu" else []
    assert list(found) == ["small CNN", "CNN", *larger] and all(isinstance(run.recipe, Recipe) for run in found.values())
