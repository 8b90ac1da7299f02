"""Files of tensors, and files in general: whole and as written, or refused; on the disk before they replace anything."""

import os
import random
import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.runs import tensor_file
from lib.runs.tensor_file import Unreadable
from lib.system.whole_file import NoRoom, replacing

TENSORS = {
    "weight": torch.randn(40, 30),
    "half": torch.randn(7).bfloat16(),
    "step": torch.tensor(3.0),
    "mask": torch.tensor([True, False]),
    "none": torch.empty(0, 4),
    "turned": torch.randn(4, 5).T,
}
RECORD = {"epoch": 3, "curves": {"loss": [1.5, float("nan")]}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "folder" / "state.safetensors"
    tensor_file.write(path, TENSORS, RECORD)
    return path


def test_what_was_written_is_read(path):
    tensors, record = tensor_file.read(path)
    assert tensors.keys() == TENSORS.keys() and repr(record) == repr(RECORD)
    assert all(torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in TENSORS.items())
    assert load_file(path).keys() == TENSORS.keys()  # and any other program can read it


def test_every_changed_byte_is_noticed(path):
    content, draw = path.read_bytes(), random.Random(0)
    for place in [*range(0, 24), *(draw.randrange(len(content)) for _ in range(400)), len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(Unreadable, match="state.safetensors"):
            tensor_file.read(path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[:-100],
        lambda content: content[:5],
        lambda content: b"",
        lambda content: content + b"more",
        lambda content: b"rubbish" * 100,
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: content.replace(b'"epoch', b'"epocs'),
    ],
)
def test_other_damage_is_named(path, harm):
    content = path.read_bytes()
    assert harm(content) != content
    path.write_bytes(harm(content))
    for needs_checksum in (True, False):
        with pytest.raises(Unreadable, match="state.safetensors"):
            tensor_file.read(path, needs_checksum)


def test_a_file_without_a_checksum_passes_only_where_that_is_allowed(path):
    save_file({"weight": torch.ones(3)}, path)
    assert tensor_file.read(path, needs_checksum=False) == ({"weight": pytest.approx(torch.ones(3))}, None)
    with pytest.raises(Unreadable, match="has no checksum"):
        tensor_file.read(path)


def test_a_folder_or_nothing_in_its_place(path):
    path.unlink()
    with pytest.raises(FileNotFoundError):
        tensor_file.read(path)
    path.mkdir()
    with pytest.raises(Unreadable):
        tensor_file.read(path)


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done, fsync, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append("synced") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda part, path: done.append("replaced") or rename(part, path))
    with replacing(tmp_path / "file") as part:
        part.write_text("new")
    assert done == ["synced", "replaced", "synced"] and os.listdir(tmp_path) == ["file"]


@contextmanager
def a_full_disk():
    """Within this context no file may grow beyond 500 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: tensor_file.write(path, {"weight": torch.ones(1000)}),
        lambda path: replaced(path, "x" * 1000),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("old")
    with a_full_disk(), pytest.raises(NoRoom, match="file could not be written .* Make room, or set BOOK_RUNS"):
        write(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    write(path)
    assert path.stat().st_size > 500


def replaced(path, text):
    with replacing(path) as part:
        part.write_text(text)
