"""Runs with long epochs: killed in the middle of one, they go on from the last step that was written, to the same result."""

from dataclasses import replace

import pytest

from lib.data.augment import Augmentation
from lib.growth.upcycle import Upcycle
from lib.models.gpt import GPTConfig
from lib.models.resnet import ResNetConfig
from lib.models.whitened_cnn import WhitenedCNNConfig
from lib.moe.layer import MoEConfig
from lib.runs.store import Store, obtain
from lib.studies.anchors.recipes import cnn_recipe
from lib.studies.anchors.runs import AnchorRun
from lib.studies.base.corpora import Corpus
from lib.studies.growth.gpt import GrowthRun
from lib.studies.language.gpt import LanguageGPT
from lib.studies.privacy.train import BaselineRun, ReplacedRun
from lib.training.loop import Recipe, Training

CORPUS = Corpus(stories=60, vocabulary=300)
RECIPE = Recipe(epochs=2, batch_size=4, lr=5e-3, warmup=0.0)
GPT = GrowthRun(
    corpus=CORPUS,
    model=GPTConfig(vocabulary=300, context=16, width=16, depth=2, heads=2, hidden=16, dropout=0.1),
    steps=8,
    recipe=RECIPE,
    watched=256,
)
NETWORK = BaselineRun(
    dataset="digits", train_examples=128, model=ResNetConfig((4,), (1,), channels=1), recipe=Recipe(epochs=1, batch_size=32)
)

#: Runs of two epochs of four steps, and what is stored before they begin.
RUNS = {
    "anchor": AnchorRun(
        dataset="digits",
        train_examples=128,
        model=WhitenedCNNConfig(widths=(8, 12), channels=1),
        recipe=cnn_recipe(2, batch_size=32, ema=0.9),
        augmentation=Augmentation(alternate=True),
    ),
    "language model": LanguageGPT(
        corpus=CORPUS, context=16, width=16, depth=2, heads=2, tokens=64, steps=8, recipe=replace(RECIPE, lr=1e-2), watched=256
    ),
    "new GPT": GPT,
    "mixture from a GPT": replace(GPT, model=None, parent=GPT, growth=(Upcycle(MoEConfig(experts=4, k=2, router="bias")),)),
    "parabolas": ReplacedRun(parent=NETWORK, budget=0.1, recipe=replace(NETWORK.recipe, epochs=2), moving=0.9),
    "lines, masks settled": ReplacedRun(
        parent=NETWORK, budget=0.1, kind="linear", trained=False, recipe=replace(NETWORK.recipe, epochs=2), moving=0.3
    ),
}


class Killed(BaseException):
    pass


def measured(spec, store):
    (result,) = obtain([spec], store=store, device="cpu")
    parts = result.metrics, result.curves, result.arrays
    return [{name: value for name, value in part.items() if "seconds" not in name} for part in parts]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_in_the_middle_of_an_epoch_comes_to_the_same_result(name, tmp_path, monkeypatch):
    spec, steps = RUNS[name], []
    undisturbed, killed = (Store(tmp_path / folder / "reference", tmp_path / folder / "own") for folder in ("whole", "killed"))
    if parent := getattr(spec, "parent", None):
        obtain([parent], store=killed, device="cpu")
    expected = measured(spec, undisturbed)
    run_step = Training.run_step

    def dies_in_the_second_epoch(training, step):
        steps.append((training.epoch, step))
        if len(steps) == 7:
            raise Killed
        return run_step(training, step)

    monkeypatch.setattr("lib.training.loop.SAVE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(Training, "run_step", dies_in_the_second_epoch)
    with pytest.raises(Killed):
        obtain([spec], store=killed, device="cpu")
    assert killed.get(spec) is None
    assert measured(spec, killed) == expected
    assert steps[6:] == [(1, 2), (1, 2), (1, 3)], "steps that were finished were taken again"
