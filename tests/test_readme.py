"""Every command line that a reader is told to type is understood: its program, its options, its files, its parameters."""

import re
import shlex
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from conftest import ROOT
from lib.__main__ import main
from lib.cli.names import value_of
from lib.studies import chapter
from lib.studies.base.parameters import checked

#: Programs of others, which are not run here.
OTHERS = ("git", "source", "export", "pip", "snakemake", "quarto", "apt", "conda")

#: Where each of our own begins.
OWN = ("make", "papermill", "python -m lib", "python -m pytest")


def commands():
    """(file, command) for each line of a block of shell code, and for each piece of code that begins like one of ours."""
    for file in ("README.md", "CONTRIBUTING.md", "workflow/README.md", "data/README.md", "benchmarks/README.md"):
        if not (ROOT / file).exists():
            continue
        text = (ROOT / file).read_text(encoding="utf-8")
        lines = [
            line for block in re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL) for line in block.splitlines()
        ]
        lines += [code for code in re.findall(r"`([^`\n]+)`", text) if code.startswith(tuple(f"{own} " for own in OWN))]
        for line in dict.fromkeys(line.partition("  #")[0].strip() for line in lines):
            for command in filter(None, re.split(r" && ", line)):
                if command.split()[0] not in (*OTHERS, "cd") and not command.startswith("#"):
                    yield pytest.param(command, id=f"{file}: {command}")


@pytest.mark.parametrize("command", list(commands()))
def test_a_command_line_is_understood(command, monkeypatch, tmp_path):
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        if not shutil.which("make"):
            pytest.skip("make was not found")
        done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif words[0] == "papermill":
        notebook, target, *options = words[1:]
        assert (ROOT / notebook).is_file() and target.endswith(".ipynb") and options[::3] == ["-p"] * len(options[::3])
        given = {name: value_of(value) for name, value in zip(options[1::3], options[2::3], strict=True)}
        where = chapter(notebook).module
        assert where.studies(checked(where.Parameters, given))
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:] if not word.startswith("-"))
    elif words[:3] == ["python", "-m", "lib"]:
        monkeypatch.setenv("BOOK_RUNS", str(tmp_path))
        for name in ("lib.cli.book.build", "lib.cli.book.make_edition", "lib.cli.queue.run", "lib.cli.hours.run"):
            monkeypatch.setattr(name, lambda *words: 0)
        monkeypatch.setattr("lib.cli.results.show", lambda *words: None)
        monkeypatch.setattr("lib.cli.claims.show", lambda *words: None)
        monkeypatch.setattr("lib.cli.show.show", lambda *words: None)
        monkeypatch.setattr("lib.cli.doctor.report", lambda: None)
        listed = ["--list"] if words[3:4] == ["run"] and "--all" not in words else []
        answer = CliRunner().invoke(main, [*words[3:], *listed])
        assert answer.exit_code == 0, answer.output
    else:
        assert words[0].startswith(("BOOK_", "OMP_")) or words[0] in ("python", "uv"), f"what is {command}?"


def test_there_are_command_lines():
    assert len(list(commands())) >= 25
