"""Numbered parts of a data set: all of them, each once, or a refusal that names the file."""

import pytest

from lib.data import sst2, text_files
from lib.data.catalogue import CIFAR10
from lib.data.files import find
from lib.data.parts import Incomplete, first_whole, parts, with_subfolders


@pytest.fixture
def place(tmp_path):
    """A folder, and a function that puts empty files there."""

    def put(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return put


@pytest.mark.parametrize(
    "names",
    [
        ["train.parquet"],
        ["train-00000-of-00001.parquet"],
        [f"train-0000{i}-of-00004.parquet" for i in range(4)],
        ["train-00000-of-00002-2d5a1467fff1081b.parquet", "train-00001-of-00002-c1d04b3a.parquet"],
    ],
)
def test_whole_splits_are_found_in_order(place, names):
    folder = place(*reversed(names), "train.tsv", "not_exact.tsv", "test-00001-of-00002.parquet")
    assert [path.name for path in parts(folder, "train")] == names


@pytest.mark.parametrize(
    "names, words",
    [
        (
            ["train-00000-of-00004.parquet", "train-00003-of-00004.parquet"],
            "lacks train-00001-of-00004.parquet, train-00002-of-00004.parquet",
        ),
        (["train-00001-of-00002.parquet"], "lacks train-00000-of-00002.parquet"),
        (["train-00000-of-00012.parquet"], "train-00005-of-00012.parquet and 6 more"),
        (
            ["train-00000-of-00001-aaaa.parquet", "train-00000-of-00001-bbbb.parquet"],
            "train-00000-of-00001-aaaa.parquet, train-00000-of-00001-bbbb.parquet have one number",
        ),
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "train-00000-of-00001.parquet"], "announce 1 and 2 parts"),
        (["train-00000-of-00001.parquet", "train-00001-of-00001.parquet"], "train-00001-of-00001.parquet has a number too many"),
        (["train.parquet", "train-00000-of-00001.parquet"], "train.parquet and train-00000-of-00001.parquet hold it twice"),
        (["train-00000-of-00001.parquet", "train-mine.parquet"], "train-mine.parquet is not a part of it"),
        (["train-a.parquet", "train-b.parquet"], "train-a.parquet, train-b.parquet are not parts of it"),
    ],
)
def test_a_missing_doubled_or_foreign_part_is_refused_by_name(place, names, words):
    folder = place(*names)
    with pytest.raises(Incomplete, match="does not hold train whole") as error:
        parts(folder, "train")
    assert words in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize("kept", ["data", "other"])
def test_a_folder_that_holds_a_part_is_passed_over_for_one_that_is_whole(place, kept):
    folder = place("data/train-00000-of-00002.parquet", "other/train.parquet", "a file")
    if kept == "data":
        (folder / "other/train.parquet").unlink()
        with pytest.raises(Incomplete, match="data does not hold train whole"):
            first_whole(with_subfolders(folder), lambda path: parts(path, "train") or None)
    else:
        assert first_whole(with_subfolders(folder), lambda path: parts(path, "train") or None) == (folder / "other/train.parquet",)


@pytest.mark.parametrize(
    "find, home, other",
    [(lambda: find(CIFAR10), "cifar10", "test"), (text_files.find, "tinystories", "validation"), (sst2.find, "sst2", "validation")],
)
def test_every_data_set_is_held_to_it(place, monkeypatch, tmp_path, find, home, other):
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "runs"))
    folder = place(f"{home}/data/train-00000-of-00002.parquet", f"{home}/data/{other}-00000-of-00001.parquet") / home / "data"
    with pytest.raises(Incomplete, match="lacks train-00001-of-00002"):
        find()
    place(f"{home}/data/train-00001-of-00002.parquet")
    files = find()
    assert len(getattr(files, "train", None) or files[0]) == 2
    (folder / f"{other}-00000-of-00001.parquet").unlink()
    with pytest.raises(Incomplete, match=f"it lacks {other}.parquet"):
        find()
