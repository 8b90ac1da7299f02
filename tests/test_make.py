"""`make` on machines as people have them, with a Python that only writes down what it was asked."""

import os
import platform
import shutil
import subprocess

import pytest

from conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make was not found")

#: Notes its words; has torch, or reaches PyTorch's index, where a variable says so; `-m venv FOLDER` makes an environment with a copy of itself, and `-m pip` fails where NO_PIP lies beside it.
FAKE_PYTHON = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
    *"import torch"*) test -n "$HAS_TORCH" ;;
    *urlopen*) test -n "$HAS_WHEELS" ;;
    *"-m venv"*) for folder; do :; done; mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" ;;
    *"-m ensurepip"*) rm "$(dirname "$0")/NO_PIP" ;;
    *"-m pip"*) test ! -e "$(dirname "$0")/NO_PIP" ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Calls make in a checkout whose path no program likes; returns status, output, and what its Python was asked."""
    checkout = tmp_path / 'my book\'s "ünï" $HOME & more'
    checkout.mkdir()
    for name in ("Makefile", "install.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)

    # What a `make test VENV=…` around these tests was told is not told to the makes inside them.
    outside = {
        name: value
        for name, value in os.environ.items()
        if name not in {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "VENV", "PYTHON", "EXTRAS", "TORCH", "SCALE"}
    }

    def call(*words, **environment):
        log.write_text("")
        done = subprocess.run(
            ["make", "--no-print-directory", f"PYTHON={python}", *words],
            cwd=checkout,
            text=True,
            capture_output=True,
            env=outside | {"LOG": str(log), "QUARTO_PATH": "somewhere"} | environment,
        )
        return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()

    call.checkout = checkout
    return call


#: Targets, and what the environment's Python is asked last.
TARGETS = [
    ("book", "-m lib book --scale laptop"),
    ("edition", "-m lib edition"),
    ("test", "-m pytest"),
    ("quick", "-m pytest -m not slow"),
    ("coverage", "-m pytest --cov --cov-report=term --cov-report=html:_build/coverage"),
    ("doctor", "-m lib doctor"),
    ("install", "-c "),
    ("help", None),
    ("clean", None),
]


@pytest.mark.parametrize("target, asked", TARGETS)
def test_every_target_works_in_any_folder_and_installs_once(make, target, asked):
    assert make(target)[0] == 0
    status, output, again = make(target)
    assert status == 0 and again[-1:] == ([asked] if asked else []), output
    assert not any("pip install" in line for line in again)


@pytest.mark.parametrize("folder", ["another folder/with an environment", "/elsewhere/with an environment"])
def test_the_environment_may_lie_anywhere(make, tmp_path, folder):
    folder = folder.replace("/elsewhere", str(tmp_path / "else where"))
    assert make("install", f"VENV={folder}")[0] == 0 and (make.checkout / folder / ".edlm-installed").exists()
    for target, last in TARGETS:
        status, output, asked = make(target, f"VENV={folder}")
        assert status == 0 and asked[-1:] == ([last] if last else []), output
        assert not any("pip install" in line for line in asked)


def test_an_environment_made_by_uv_gets_its_pip(make):
    environment = make.checkout / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "NO_PIP").touch()
    shutil.copy(make.checkout.parent / "python", environment / "python")
    status, output, asked = make("doctor")
    assert status == 0, output
    assert [line for line in asked if "ensurepip" in line] == ["-m ensurepip --upgrade"] and asked[-1] == "-m lib doctor"


def test_an_environment_without_pip_that_cannot_make_one_says_what_to_do(make):
    environment = make.checkout / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "python").write_text(FAKE_PYTHON.replace("rm ", "false "))
    (environment / "python").chmod(0o755)
    (environment / "NO_PIP").touch()
    status, output, _ = make("doctor")
    assert status == 2 and ".venv has no pip and cannot make one: install pip into it (uv pip install" in output


def test_a_python_that_is_gone_is_named(make):
    make("install")
    python = make.checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/bin/python-that-was-updated")
    status, output, asked = make("book")
    assert status == 2 and asked == []
    assert ".venv/bin/python does not start" in output and "Remove the folder .venv and call make again" in output


def test_an_existing_environment_is_used_as_it_is(make, tmp_path):
    environment = tmp_path / "conda"
    (environment / "bin").mkdir(parents=True)
    shutil.copy(tmp_path / "python", environment / "bin" / "python")
    status, output, asked = make("doctor", f"VENV={environment}")
    assert status == 0 and not any("venv" in line for line in asked) and any("pip install" in line for line in asked), output


@pytest.mark.parametrize(
    "words, says",
    [
        (["VENV="], "VENV names no folder"),
        (["PYTHON="], "Python 3.11 or newer is needed and none was found"),
        (["PYTHON=false"], "false could not create .venv"),
    ],
)
def test_what_cannot_be_installed_is_said_in_one_line(make, words, says):
    status, output, asked = make("book", *words)
    assert status == 2 and says in output and not any("lib book" in line for line in asked)


def test_a_changed_pyproject_is_installed_again(make):
    make("install")
    later = (make.checkout / ".venv" / ".edlm-installed").stat().st_mtime + 10
    os.utime(make.checkout / "pyproject.toml", (later, later))
    assert any("pip install" in line for line in make("install")[2])


@pytest.mark.parametrize(
    "words, has, cpu, says",
    [
        (["TORCH=cpu"], {"HAS_WHEELS": "1"}, True, "about 2 GB, with PyTorch for CPUs only (TORCH=default takes"),
        (["TORCH=cpu"], {}, False, "does not answer"),
        (["TORCH=default"], {"HAS_WHEELS": "1"}, False, "about 6.5 GB where PyTorch"),
        (["TORCH=cpu"], {"HAS_WHEELS": "1", "HAS_TORCH": "1"}, False, "beside the PyTorch that it has"),
    ],
)
def test_what_will_be_downloaded_is_said_before(make, words, has, cpu, says):
    status, output, asked = make("install", *words, **has)
    assert status == 0 and says in output, output
    (install,) = (line for line in asked if "pip install" in line)
    assert ("--extra-index-url https://download.pytorch.org/whl/cpu" in install) == cpu


@pytest.mark.skipif(platform.system() != "Linux" or platform.machine() != "x86_64", reason="elsewhere PyTorch has no CUDA by default")
def test_a_machine_without_a_gpu_gets_the_build_for_cpus(make):
    _, _, asked = make("install", HAS_WHEELS="1")
    assert any("--extra-index-url" in line for line in asked) != os.path.exists("/proc/driver/nvidia/version")


def test_pinned_versions_are_installed_where_they_are_asked_for(make):
    status, output, asked = make("install", "LOCKED=1")
    assert status == 0, output
    installed = [line for line in asked if line.startswith("-m pip install")]
    assert installed[0].endswith("--require-hashes -r requirements.lock") and installed[1].endswith("--no-deps -e .")
    assert not any("[" in line for line in installed)
