"""Tests use one thread and their own results folder: yours is neither read nor written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def own_results(tmp_path_factory):
    """BOOK_RUNS for the whole session, so that a chapter's results made by one test are replayed in the next."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOK_RUNS", str(runs))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("BOOK_PROGRESS", raising=False)
        torch.set_num_threads(1)
        yield runs


@pytest.fixture
def python():
    """Runs ``python words...`` in the checkout and returns the finished process, output captured as text."""

    def run(*words, timeout=120, **environment):
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | {k: str(v) for k, v in environment.items()},
        )

    return run
