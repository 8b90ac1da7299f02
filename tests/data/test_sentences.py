"""CoLA and TREC on disk, batches that are sorted by length, and Matthews' correlation."""

import math

import pytest
import torch

from lib.data import sentences
from lib.data.formats import DataDamaged, DataMissing
from lib.data.parts import Incomplete
from lib.data.tasks import TaskBatches, TaskSplit, matthews


def write(folder, name, train, test):
    home = folder / name
    home.mkdir()
    for file, rows in zip(sentences.SETS[name].files, (train, test)):
        (home / file).write_text("\n".join(["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]) + "\n")
    return home


def test_trec_is_read_and_split(tmp_path, monkeypatch):
    write(
        tmp_path,
        "trec",
        [(f"what is number {i} ?", i % 6) for i in range(40)] + [("Who is in both ?", 3)],
        [("who is in both ?", 3), ("who else ?", 3)],
    )
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    found = sentences.load("trec")
    parts = [{text.lower() for text, _ in part} for part in (found.train, found.validation, found.test)]
    assert [len(part) for part in parts][2] == 2 and len(parts[0]) + len(parts[1]) == 40 and len(parts[1]) in (3, 4)
    assert not parts[0] & parts[1] and "who is in both ?" not in parts[0] | parts[1]  # whatever its case
    assert {label for _, label in found.train} == set(range(6)) and found.variant == "sample of 41 rows (and 2 for testing)"
    assert sentences.load("trec").train == found.train
    entry = next(entry for entry in sentences.find_sentences() if entry["name"] == "trec")
    assert entry["found"] and entry["where"] == str(tmp_path / "trec")


def test_what_is_missing_or_damaged_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    monkeypatch.setattr(sentences, "data_folders", lambda: [tmp_path])
    with pytest.raises(DataMissing, match="cola/ with train.tsv and dev.tsv"):
        sentences.load("cola")
    home = write(tmp_path, "cola", [("a", 0), ("b", 2)], [("c", 1), ("d", 0)])
    with pytest.raises(DataDamaged, match=r"train.tsv.*label '2'"):  # TREC's sixth class is no class here
        sentences.load("cola")
    (home / "dev.tsv").unlink()
    with pytest.raises(Incomplete, match="dev.tsv"):
        sentences.load("cola")
    with pytest.raises(ValueError, match="'cola'"):
        sentences.load("colla")


def split(lengths, pool=1, round=8):
    lengths = torch.tensor(lengths)
    return TaskSplit(torch.arange(len(lengths))[:, None].expand(-1, 40), lengths, torch.arange(len(lengths)), pool, round)


def test_sorted_batches_hold_every_example_once_and_little_padding():
    lengths = torch.randint(4, 40, (400,), generator=torch.Generator().manual_seed(0)).tolist()

    def epoch(pool, number=0):
        batches = TaskBatches(split(lengths, pool, 1), 16, seed=3)
        return [batches.batch(number, step) for step in range(batches.steps)]

    plain, pooled = epoch(1), epoch(25)
    for batches in (plain, pooled):
        assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == list(range(400))
    needed = sum(lengths)
    assert sum(tokens.numel() for tokens, _ in pooled) < 1.1 * needed < 1.4 * needed < sum(tokens.numel() for tokens, _ in plain)
    widths = [tokens.shape[1] for tokens, _ in pooled]
    assert widths != sorted(widths)  # long texts do not come last
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(pooled, epoch(25)))
    assert not all(torch.equal(a, b) for (_, a), (_, b) in zip(pooled, epoch(25, number=1)))


def test_rows_are_rounded_up_as_the_split_says():
    assert TaskBatches(split([3, 5, 9], round=8), 3).batch(0, 0)[0].shape[1] == 16
    assert TaskBatches(split([3, 5, 9], round=1), 3).batch(0, 0)[0].shape[1] == 9


def test_matthews_is_that_of_its_formula():
    guessed, truth = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1]), torch.tensor([1, 0, 0, 1, 1, 0, 1, 1])
    tp, tn, fp, fn = 4, 2, 1, 1
    assert matthews(guessed, truth) == pytest.approx((tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    assert matthews(torch.ones(8, dtype=torch.int64), truth) == 0 and matthews(truth, truth) == pytest.approx(1)
    assert matthews(1 - truth, truth) == pytest.approx(-1)
