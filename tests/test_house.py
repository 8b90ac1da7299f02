"""The library's rooms: imports run one way, no room is crowded, no file long, and the linter is content."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

#: What a room may hold, and a file.
ROOMS, FILES, LINES = 20, 25, 350


def sources() -> list[Path]:
    return sorted((ROOT / "lib").rglob("*.py"))


def test_imports_run_one_way():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("asked", [("check",), ("format", "--check")], ids=lambda asked: asked[0])
def test_the_linter_is_content(asked):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *asked, "--no-cache", "lib", "tests", "benchmarks"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_rooms_are_few_and_none_is_crowded():
    rooms = {path.relative_to(ROOT / "lib").parts[0] for path in sources() if path.parent != ROOT / "lib"}
    assert len(rooms) <= ROOMS, sorted(rooms)
    assert {path.name for path in (ROOT / "lib").glob("*.py")} == {"__init__.py", "__main__.py"}
    for folder in {path.parent for path in sources()}:
        assert len(list(folder.glob("*.py"))) <= FILES, folder


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES


def test_each_room_says_what_it_is_for():
    for folder in {path.parent for path in sources()}:
        first = (folder / "__init__.py").read_text(encoding="utf-8").lstrip()
        assert first.startswith('"""') and len(first.split("\n")[0]) > 20, folder


@pytest.mark.slow
def test_types_are_what_is_said():
    """Of the rooms that ``pyproject.toml`` lists; pyright comes with the extra ``test`` and fetches its program once."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pyright", "--pythonpath", sys.executable], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pyright could not fetch its program")
    if " errors, " not in done.stdout and " error, " not in done.stdout:
        pytest.skip(f"pyright could not start: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    assert done.returncode == 0, done.stdout
