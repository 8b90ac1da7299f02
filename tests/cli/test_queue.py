"""The queue that works through the whole book."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from conftest import ROOT
from lib.studies import CHAPTERS
from lib.studies.base.worth import FIRST, in_order_of_worth


@pytest.fixture
def environment(tmp_path):
    folders = [ROOT / "tests" / "small_book", ROOT / "tests", ROOT]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "LOG": str(tmp_path / "log"),
        "BOOK_RUNS": str(tmp_path / "runs"),
    }


def command(*words):
    return [sys.executable, "-m", "lib", "run", *words]


def call(environment, *words):
    done = subprocess.run(command(*words), env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


def test_two_processes_make_each_result_once_and_say_what_is_left(environment, tmp_path):
    status, output = call(environment, "--all", "--scale", "smoke", "--processes", "2", "--device", "cpu")
    assert status == 0, output
    assert sorted((tmp_path / "log").read_text().split()[::2]) == ["one", "three", "two"]
    row = next(line for line in output.splitlines() if "98-small" in line)
    assert row.replace("│", " ").split() == ["98-small", "3", "0", "0.0"]
    assert call(environment, "--all", "--scale", "smoke", "--processes", "1")[0] == 0
    assert len((tmp_path / "log").read_text().split()) == 6


def test_a_time_limit_leaves_the_rest_for_the_next_call(environment):
    status, output = call(environment, "--all", "--scale", "smoke", "--processes", "1", "--time-limit", "0")
    assert status == 3 and "next: small main  test-logged name=one" in output, output


def test_the_list_names_each_result_in_order_and_runs_nothing(environment, tmp_path):
    status, output = call(environment, "--all", "--scale", "smoke", "--list")
    told = [line.split(maxsplit=4) for line in output.splitlines()]
    assert status == 0 and [line[1:4] for line in told] == [["missing", "small", study] for study in ("main", "main", "other")], output
    assert not (tmp_path / "log").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_its_scale_is_refused_in_a_line(environment):
    status, output = call(environment, "--all", "--scale", "gpu")
    assert status == 2 and output.splitlines() == [output.strip()] and "needs a CUDA device" in output


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_stopping_the_queue_stops_its_processes_and_loses_nothing(environment, tmp_path):
    environment |= {"PAUSE": "3"}
    running = subprocess.Popen(
        command("--all", "--scale", "smoke", "--processes", "2"),
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = tmp_path / "log"
    while not (log.exists() and len(log.read_text().splitlines()) == 2):
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=300) == 143
    found = subprocess.run(["pgrep", "-f", f"BOOK_RUNS={tmp_path}"], capture_output=True, text=True).stdout
    assert found == "" and len(log.read_text().splitlines()) == 2
    environment["PAUSE"] = "0"
    assert call(environment, "--all", "--scale", "smoke", "--processes", "2")[0] == 0
    assert sorted(set(log.read_text().split()[::2])) == ["one", "three", "two"]


@pytest.mark.parametrize(
    "words, message",
    [
        (("--all", "moe"), "name a chapter, or ask for --all"),
        ((), "name a chapter, or ask for --all"),
        (("moe", "--processes", "2"), "--processes goes with --all"),
        (("--all", "--study", "main"), "--all takes no parameters"),
    ],
)
def test_wrong_use_is_refused_in_a_line(environment, words, message):
    status, output = call(environment, *words)
    assert status == 2 and message in output


def test_what_decides_most_comes_first_and_each_result_once():
    listed = in_order_of_worth("smoke")
    specs = [spec for _, _, spec in listed]
    assert len(specs) == len(set(specs)) > 100
    names = [(chapter.subject, study) for chapter, study, _ in listed]
    assert names[0] == FIRST[0]
    assert {chapter for chapter, _, _ in listed} == {chapter for chapter in CHAPTERS if not chapter.summarises}


def test_the_order_names_studies_that_exist():
    known = {(chapter.subject, study) for chapter in CHAPTERS for study in chapter.module.studies(chapter.module.Parameters(scale="cpu"))}
    assert set(FIRST) <= known
