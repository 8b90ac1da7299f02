"""Killed at any moment and started again, a run loses and repeats nothing that was finished."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

import kill_book
from conftest import ROOT
from lib.runs.store import Store, obtain
from store_specs import SETS

KILLS = 5


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def epochs(path):
    return [line for line in lines(path) if line.startswith("epoch")]


def start(folder):
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "store_specs.py", "trained", folder],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "LOG": str(folder / "log"), "PAUSE": "0.03"},
    )


@pytest.mark.slow
def test_kill_at_five_random_moments(tmp_path):
    specs, store = SETS["trained"], Store(tmp_path / "reference", tmp_path / "own")
    log, moments = tmp_path / "log", random.Random(1)
    finished = {}  # key -> bytes of the result file
    for _ in range(KILLS):
        begun, enough = len(lines(log)), len(epochs(log)) + moments.randint(2, 4)
        process = start(tmp_path)
        while len(epochs(log)) < enough and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.12))  # an epoch lasts 0.12 s
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
        again = {line.split()[1] for line in lines(log)[begun:]}
        assert not again & finished.keys(), "something finished was run again"
        finished = {spec.key: store.path(spec).read_bytes() for spec in specs if store.get(spec)}
    assert 0 < len(finished) < len(specs), "the kills should fall before and after a result"

    assert start(tmp_path).wait(timeout=60) == 0
    assert all(store.path(spec).read_bytes() == finished[spec.key] for spec in specs if spec.key in finished)
    assert not list(store.own.glob("checkpoints/*/*/state")), "training state outlived its result"
    whole = sum(spec.epochs for spec in specs)
    assert whole <= len(epochs(log)) <= whole + KILLS, "a kill costs at most the epoch it falls into"

    undisturbed = obtain(specs, store=Store(tmp_path / "reference", tmp_path / "undisturbed"), device="cpu")
    for result, expected in zip(obtain(specs, store=store), undisturbed, strict=True):
        assert (result.metrics, result.curves) == (expected.metrics, expected.curves)


def test_what_a_killed_book_is_compared_by(tmp_path):
    """`kill_book.py` passes over what a clock gave, and over nothing else."""
    one = {"metrics": {"test_accuracy": 0.5, "train_seconds": 3.0}, "arrays": {"load": [[1, 2], [3, 4]]}, "curves": {}}
    other = {"metrics": {"test_accuracy": 0.5, "train_seconds": 9.0}, "arrays": {"load": [[1, 2], [3, 4]]}, "curves": {}}
    assert list(kill_book.differences(one, other, "moe-vit 00")) == []
    timed = {"metrics": {"ratio": 1.5}}
    assert list(kill_book.differences(timed, {"metrics": {"ratio": 1.6}}, "moe-layer-cost 0a")) == []
    assert len(list(kill_book.differences(timed, {"metrics": {"ratio": 1.6}}, "pruning-packed 0a"))) == 1
    for changed in (other | {"arrays": {"load": [[1, 2], [3, 5]]}}, other | {"arrays": {}}, other | {"metrics": {"test_accuracy": 0.6}}):
        assert list(kill_book.differences(one, changed, "moe-vit 00"))
    for name in ("a/.weights.safetensors.0f", "a/state", "a/0.damaged-1.json", "a/weights.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(kill_book.left_over(tmp_path)) == ["a/.weights.safetensors.0f", "a/0.damaged-1.json", "a/state"]
