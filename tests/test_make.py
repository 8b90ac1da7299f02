"""`make` on machines as people have them, with a Python that only writes down what it was asked."""

import os
import shutil
import subprocess

import pytest

from conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make was not found")

#: Notes its words; `-m venv FOLDER` makes an environment with a copy of itself, and `-m pip` fails where NO_PIP lies beside it.
FAKE_PYTHON = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
    *"-m venv"*) for folder; do :; done; mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" ;;
    *"-m ensurepip"*) rm "$(dirname "$0")/NO_PIP" ;;
    *"-m pip"*) test ! -e "$(dirname "$0")/NO_PIP" ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Calls make in a checkout whose path no program likes; returns status, output, and what its Python was asked."""
    checkout = tmp_path / "my book's \"ünï\" $HOME & more"
    checkout.mkdir()
    for name in ("Makefile", "install.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)

    def call(*words):
        log.write_text("")
        done = subprocess.run(["make", "--no-print-directory", f"PYTHON={python}", *words], cwd=checkout, text=True,
                              capture_output=True, env=os.environ | {"LOG": str(log), "QUARTO_PATH": "somewhere"})
        return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()

    call.checkout = checkout
    return call


@pytest.mark.parametrize("target, asked", [
    ("book", "-m lib book --scale laptop"), ("edition", "-m lib edition"), ("test", "-m pytest"),
    ("quick", "-m pytest -m not slow"), ("doctor", "-m lib doctor"), ("install", "-c "), ("help", None), ("clean", None)])
def test_every_target_works_in_any_folder_and_installs_once(make, target, asked):
    assert make(target)[0] == 0
    status, output, again = make(target)
    assert status == 0 and again[-1:] == ([asked] if asked else []), output
    assert not any("pip install" in line for line in again)


@pytest.mark.parametrize("folder", ["another folder/with an environment", "/elsewhere/with an environment"])
def test_the_environment_may_lie_anywhere(make, tmp_path, folder):
    folder = folder.replace("/elsewhere", str(tmp_path / "else where"))
    for _ in range(2):
        status, output, asked = make("doctor", f"VENV={folder}")
        assert status == 0 and asked[-1] == "-m lib doctor", output
    assert (make.checkout / folder / ".edlm-installed").exists() and len(asked) == 2
