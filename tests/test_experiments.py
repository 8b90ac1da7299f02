"""Each chapter as a reader runs it, at smoke scale: through papermill, then its results and its claims."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from lib.claims.entries import claims
from lib.claims.judge import judge
from lib.moe.layer import MoEConfig
from lib.runs.store import Store, obtain
from lib.studies import CHAPTERS
from lib.studies.benchmarks import names as benchmark_names
from lib.studies.distillation import names as distillation_names
from lib.studies.elastic import names as elastic_names
from lib.studies.growth import names as growth_names
from lib.studies.language import names as language_names
from lib.studies.privacy import names as privacy_names
from lib.studies.pruning import names as pruning_names
from lib.studies.teachers import names as teachers_names
from lib.studies.tickets import names as tickets_names

#: Loss of the first seed at smoke scale, by what it is in one of the chapter's studies.  A change means that the numbers of
#: the book change.
GOLDEN = {
    "moe": {"dense": 2.304418, "switch": 2.314376, "partition": 2.308511},
    "elastic": {"rigid": 2.325448, "uniform": 2.318262, "sandwich": 2.316898, "progressive shrinking": 2.322322},
    "growth": {"experts": 5.246521, "experts, 50% re-drawn": 5.299663, "experts, 2 groups": 5.183113, "dense, trained on": 5.142111},
    "pruning": {"ours": 2.258943, "gradual": 2.266956, "GraNet": 2.231627, "RigL": 2.106218},
    "tickets": {"pre-training": 5.567337},
    "distillation": {"labels alone": 2.32812, "hard labels": 2.225441, "softened labels": 2.097811},
    "teachers": {"plain network": 2.282815, "self-distillation": 5.917793},
    "attention": {"8 tokens": 5.577522, "32 tokens": 5.54074},
    "privacy": {"identity (SNL)": 2.201136},  # a parabola's loss hangs on single images
    "benchmarks": {"dense": 2.311725, "dense, 1/2 width": 2.237237},
    "language": {"our GPT": 4.33516},
}


def moe_method(result):
    moe = result.spec["moe"]
    return "dense" if moe is None else moe["router"]


#: That study, what its runs are called above, and which loss is meant.
FIRST = {
    "moe": ("random", moe_method, "train_loss"),
    "elastic": ("samplers", elastic_names.method, "train_loss"),
    "growth": ("upcycling", growth_names.method, "test_loss"),
    "pruning": ("trainers", pruning_names.method, "test_loss"),
    "tickets": ("pretrain", tickets_names.method, "test_loss"),
    "distillation": ("deit", distillation_names.method, "train_loss"),
    "teachers": ("self", teachers_names.method, "train_loss"),
    "attention": ("stories", lambda result: f"{result.spec['context']} tokens", "test_loss"),
    "privacy": ("budgets", privacy_names.method, "test_loss"),
    "benchmarks": ("dense", lambda result: benchmark_names.name(result.spec), "train_loss"),
    "language": ("dense", language_names.model, "loss"),
}


@pytest.fixture(scope="module", params=[c for c in CHAPTERS if not c.summarises], ids=lambda chapter: chapter.slug)
def executed(request, tmp_path_factory):
    """A chapter after papermill ran it at smoke scale into an empty store: (chapter, notebook, store)."""
    chapter, folder = request.param, tmp_path_factory.mktemp(request.param.slug)
    runs = folder / "runs"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            str(chapter.path),
            str(folder / "out.ipynb"),
            "-p",
            "scale",
            "smoke",
            "--cwd",
            str(chapter.path.parent),
            "--no-progress-bar",
        ],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"BOOK_RUNS": str(runs)},
    )
    return chapter, json.loads((folder / "out.ipynb").read_text(encoding="utf-8")), Store(folder / "none", runs)


def smoke_results(chapter, store):
    studies = chapter.module.studies(chapter.module.Parameters(scale="smoke"))
    return {name: obtain(specs, store=store, cannot_run="the chapter should have run it") for name, specs in studies.items()}


@pytest.mark.slow
def test_a_chapter_runs_all_its_studies_and_says_nothing_is_missing(executed):
    chapter, notebook, store = executed
    for name, results in smoke_results(chapter, store).items():
        assert not results.missing, name
    text = "".join(
        "".join(output.get("data", {}).get("text/markdown", "")) for cell in notebook["cells"] for output in cell.get("outputs", ())
    )
    assert "Missing:" not in text


@pytest.mark.slow
def test_every_claim_is_judged_from_results(executed):
    chapter, _, store = executed
    results = smoke_results(chapter, store)
    for claim in claims().values():
        if claim.subject == chapter.subject:
            verdict = judge(claim, results)
            assert verdict.text
            assert verdict.estimate is None or math.isfinite(verdict.estimate.mean)


@pytest.mark.slow
def test_golden_losses(executed):
    chapter, _, store = executed
    study, called, loss = FIRST[chapter.subject]
    losses = {}
    for result in smoke_results(chapter, store)[study]:
        losses.setdefault(called(result), result.metrics[loss])
    for name, golden in GOLDEN[chapter.subject].items():
        assert losses[name] == pytest.approx(golden, rel=2e-3), name


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["baselines", "benchmark", "visualize"])
def test_a_stage_of_chapter_2_runs_alone(stage, tmp_path):
    """From an empty store; "visualize" trains nothing and names all that is missing."""
    chapter, runs = CHAPTERS[1], tmp_path / "runs"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            str(chapter.path),
            str(tmp_path / "out.ipynb"),
            "-p",
            "scale",
            "smoke",
            "-p",
            "stage",
            stage,
            "--cwd",
            str(chapter.path.parent),
            "--no-progress-bar",
        ],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"BOOK_RUNS": str(runs)},
    )
    stored = {path.parent.name for path in (runs / "results").glob("*/*.json")}
    if stage == "visualize":
        assert not stored
        assert "Missing:" in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    else:
        assert stored >= {"baselines": {"elastic-cnn", "elastic-pruned"}, "benchmark": {"elastic-extraction", "elastic-search"}}[stage]
        assert "elastic-recovery" not in stored


def test_the_command_line_visualises_without_training(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lib", "run", "elastic", "--scale", "smoke", "-p", "stage", "visualize"],
        capture_output=True,
        text=True,
        env=os.environ | {"BOOK_RUNS": str(tmp_path)},
    )
    assert done.returncode == 2 and "ask for stored results only" in done.stderr
    assert not list(tmp_path.glob("results/*/*.json"))


def test_parameters_reach_the_specs():
    module = CHAPTERS[0].module
    studies = module.studies(module.Parameters(scale="smoke", experts=8, epochs=3, batch_size=32, d_model=24, seeds=2))
    runs = studies["accuracy"]
    assert {spec.moe.experts for spec in runs if spec.moe} == {8}
    assert {spec.recipe.batch_size for spec in runs} == {32} and {spec.d_model for spec in runs} == {24}
    usual = module.studies(module.Parameters(scale="smoke"))
    assert {spec.d_model for spec in studies["layer"]} == {24} and {spec.batch_size for spec in studies["steps"]} == {32}
    assert {spec.hidden / spec.d_model for spec in studies["layer"]} == {spec.hidden / spec.d_model for spec in usual["layer"]}
    assert {spec.recipe.epochs for spec in runs} == {3, 6} and {spec.seed for spec in runs} == {0, 1}
    only = module.studies(module.Parameters(scale="smoke", dense_only=True))
    assert only.keys() == studies.keys() and only["accuracy"] and not only["capacity"]
    assert all(spec.moe is None and spec.recipe.epochs == 1 for specs in only.values() for spec in specs)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "cifar11"}, "Did you mean 'cifar10'"),
        ({"experts": 1}, "experts must be at least 2"),
        ({"d_model": 50}, "multiple of 3"),
        ({"scale": "lap"}, "laptop"),
        ({"seeds": 0}, "at least 1"),
    ],
)
def test_bad_parameters_are_refused_before_anything_runs(values, message):
    with pytest.raises(ValueError, match=message):
        CHAPTERS[0].module.Parameters(**{"scale": "smoke"} | values)


def test_another_data_set_keeps_what_fits_it():
    """Of the same shape: all settings stay.  Of another: its own number of images, and digits are not mirrored."""
    module = CHAPTERS[0].module
    usual, alike, other = (
        module.studies(module.Parameters(scale="cpu", dataset=name))["accuracy"][0] for name in ("cifar10", "cifar100", "mnist")
    )
    assert alike == replace(usual, dataset="cifar100") and usual.augmentation.alternate
    assert (other.train_examples, other.patch, other.augmentation.alternate) == (None, None, False)


def test_studies_share_their_specs():
    """A run that serves several studies is one Spec, so it is trained once."""
    module = CHAPTERS[0].module
    studies = module.studies(module.Parameters(scale="laptop"))
    assert set(studies["routers"]) & set(studies["accuracy"]) and set(studies["random"]) & set(studies["baseline"])


def test_more_experts_than_positions_are_hashed_by_patch():
    module = CHAPTERS[0].module
    hashed = [
        spec.moe
        for spec in module.studies(module.Parameters(scale="laptop", experts=64))["routers"]
        if spec.moe and spec.moe.router == "hash"
    ]
    assert hashed and all(moe == MoEConfig(router="hash", experts=64, placement="every-second", hash_by="patch") for moe in hashed)
