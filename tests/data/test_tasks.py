"""Masked language modelling and the tasks made from stories: pure functions, balanced, and not to be solved by counting words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lib.data import hugging_face, sst2
from lib.data.files import DataMissing
from lib.data.formats import DataDamaged
from lib.data.masked_lm import MaskedBatches, Special, evaluate_masked, masked_lm_loss, pretraining_loss, sentence_starts
from lib.data.story_tasks import names_in, sentences, story_task
from lib.data.tasks import STORY_TASKS, TaskBatches, evaluate_task, sst2_task
from lib.models.encoder import Encoder, EncoderConfig, MaskedLM
from lib.studies.tickets.text import Source, material, task_of

SOURCE = Source(vocabulary=512, context=64, stories=800)


@pytest.fixture(scope="module")
def read():
    return material(SOURCE)


def pairs(read, context=64, batch_size=256, steps=3, seed=0):
    starts = sentence_starts(read.train, read.special, read.enders)
    return MaskedBatches(read.train, starts, read.special, context, batch_size, steps, seed)


def test_masks_hide_as_many_tokens_as_bert_does(read):
    (tokens, places), (hidden, elsewhere) = pairs(read).batch(0, 1)
    assert tokens.shape == (256, 64) and places.shape == hidden.shape == (256, 10) and elsewhere.shape == (256,)
    assert (tokens[:, 0] == read.special.cls).all() and (hidden < read.special.pad).all()
    assert all(len(set(row.tolist())) == 10 for row in places)
    shown = tokens.gather(1, places)
    assert abs((shown == read.special.mask).float().mean().item() - 0.8) < 0.03
    assert abs((shown == hidden).float().mean().item() - 0.1) < 0.03
    untouched = torch.ones_like(tokens, dtype=torch.bool).scatter(1, places, False)
    assert not (tokens[untouched] == read.special.mask).any()


def test_the_second_text_follows_the_first_in_half_of_the_pairs(read):
    batches = pairs(read, context=32, batch_size=64)
    (tokens, places), (hidden, elsewhere) = batches.batch(0, 0)
    whole = tokens.scatter(1, places, hidden)
    stream = " ".join(map(str, read.train.tolist()))
    assert 16 < elsewhere.sum() < 48 and (whole[:, -1] == read.special.sep).all()
    for row, apart in zip(whole.tolist(), elsewhere.tolist()):
        # Stories end with separators too: one of those inside the row is the one between the texts.
        inside = [place for place in range(9, 18) if row[place] == read.special.sep]
        joined = (" ".join(map(str, row[1:place] + row[place + 1 : -1])) for place in inside)
        assert inside and any(text in stream for text in joined) == (not apart)


def test_sentences_begin_after_full_stops(read):
    starts = sentence_starts(read.train, read.special, read.enders)
    before = {read.tokenizer.decode([token]) for token in read.train[starts - 1].unique().tolist()}
    assert before and all(text[-1] in '.!?"' for text in before)
    assert not (read.train[starts] == read.special.sep).any()


def test_a_batch_depends_on_seed_epoch_and_step_alone(read):
    def batch(seed, epoch, step):
        return pairs(read, 32, 4, 5, seed).batch(epoch, step)[0][0]

    batches = pairs(read, 32, 4, 5, 7)
    later = batches.batch(1, 3)[0][0]
    assert torch.equal(later, batch(7, 1, 3)) and torch.equal(batches.batch(1, 3)[0][0], later)
    assert not any(torch.equal(later, batch(*key)) for key in ((8, 1, 3), (7, 0, 3), (7, 1, 2)))
    with pytest.raises(IndexError):
        batches.batch(0, 5)
    with pytest.raises(ValueError, match="give more text"):
        MaskedBatches(read.train[:20], sentence_starts(read.train[:20], read.special, read.enders), read.special, 32, 4, 5)


def test_stories_end_with_separators(read):
    assert (read.train == read.special.sep).sum() == len(read.stories[0])
    assert read.special == Special.after(512) and read.special.total == 516


def test_a_masked_language_model_starts_near_chance(read):
    torch.manual_seed(0)
    model = MaskedLM(Encoder(EncoderConfig(vocabulary=516, context=64, width=16, depth=1, heads=2, hidden=16)))
    batches = pairs(read, batch_size=64, steps=1)
    found = evaluate_masked(model, batches)
    assert found == evaluate_masked(model, batches)
    assert 5.5 < found["loss"] < 7.5 and found["accuracy"] < 0.1 and 0.2 < found["next_accuracy"] < 0.8
    inputs, targets = batches.batch(0, 0)
    alone, logged = masked_lm_loss(model, inputs, targets)
    both, more = pretraining_loss(model, inputs, targets)
    torch.testing.assert_close(both, alone + more["train_next_loss"])
    both.backward()
    assert model.next.weight.grad.abs().sum() > 0 and logged["train_accuracy"] == more["train_accuracy"]


@pytest.mark.parametrize("name", STORY_TASKS)
def test_classes_are_balanced_and_a_bag_of_words_does_not_tell_them_apart(name, read):
    task = task_of(SOURCE, name, 1_200, 400)
    assert (len(task.train), len(task.validation), len(task.test)) == (1_200, 400, 400)
    assert all(split.labels.float().mean() == 0.5 for split in (task.train, task.validation, task.test))
    assert task.train.lengths.max() <= 64 and (task.train.tokens[:, 0] == read.special.cls).all()

    def bag(split, present):
        counts = np.zeros((len(split), read.special.total))
        for row, tokens in zip(counts, split.tokens.numpy()):
            np.add.at(row, tokens, 1)
        return (counts > 0).astype(float) if present else counts

    for present in (False, True):
        guess = LogisticRegression(C=0.1, max_iter=200).fit(bag(task.train, present), task.train.labels)
        assert guess.score(bag(task.test, present), task.test.labels) < 0.6


def test_tasks_say_what_they_mean(read):
    def told(name, label):
        task = task_of(SOURCE, name, 1_200, 400)
        tokens = next(row for row, known in zip(task.train.tokens, task.train.labels) if known == label)
        return read.tokenizer.decode([token for token in tokens.tolist() if token < 512])

    straight, stories = told("order", 0), {" ".join(sentences(story)) for story in read.stories[0]}
    assert any(straight.strip() in story for story in stories)
    swapped, whole = told("order", 1), told("shuffled", 0)
    assert not any(swapped.strip() in story for story in stories)
    assert any(whole.strip() in story for story in stories)


def test_examples_do_not_depend_on_how_many_are_asked_for(read):
    few = story_task("order", read.stories, read.tokenizer, read.special, 64, 100, 50)
    many = story_task("order", read.stories, read.tokenizer, read.special, 64, 300, 50)
    assert torch.equal(few.test.tokens, many.test.tokens)
    width = min(few.train.tokens.shape[1], many.train.tokens.shape[1])
    assert torch.equal(few.train.tokens[:, :width], many.train.tokens[:100, :width])


def test_sentences_keep_who_said_it():
    assert sentences('Tim ran. "Look at me!" Tim said. "I can see you." Then he sat down.\nThe end.') == [
        "Tim ran.",
        '"Look at me!" Tim said.',
        '"I can see you."',
        "Then he sat down.",
        "The end.",
    ]


def test_names_are_told_from_other_capitals():
    told = ["One day, Lily ran to the Mill. Lily saw Tom, and Tom saw the mill."] * 3
    assert names_in(told) == {"Lily", "Tom"}


def test_batches_are_cut_to_their_longest_row(read):
    task = task_of(SOURCE, "order", 1_200, 400)
    batches = TaskBatches(task.train, 32, seed=3)
    assert batches.steps == 37
    tokens, labels = batches.batch(2, 5)
    assert tokens.shape[1] % 8 == 0 and (tokens[:, -8:] != read.special.pad).any() and len(labels) == 32
    again = TaskBatches(task.train, 32, seed=3).batch(2, 5)
    assert torch.equal(tokens, again[0]) and torch.equal(labels, again[1])
    with pytest.raises(IndexError):
        batches.batch(0, 37)
    with pytest.raises(ValueError, match="batch_size"):
        TaskBatches(task.train, 1_201)


def test_evaluation_sees_every_row_once(read):
    task = task_of(SOURCE, "order", 1_200, 400)

    class Knows(torch.nn.Linear):
        answers = {tuple(row[row != read.special.pad].tolist()): label for row, label in zip(task.test.tokens, task.test.labels.tolist())}

        def forward(self, tokens):
            found = torch.tensor([self.answers[tuple(row[row != read.special.pad].tolist())] for row in tokens])
            return torch.nn.functional.one_hot(found, 2).float() * 9

    assert evaluate_task(Knows(1, 1), task.test)["accuracy"] == 1.0


def test_wrong_names_and_sizes_are_refused(read):
    with pytest.raises(ValueError, match="'order', 'shuffled', 'name'"):
        story_task("ordr", read.stories, read.tokenizer, read.special, 64, 10, 10)
    with pytest.raises(ValueError, match="choose a longer one"):
        story_task("shuffled", tuple(part[:20] for part in read.stories), read.tokenizer, read.special, 12, 5, 5)
    with pytest.raises(ValueError, match="context is 4"):
        Source(context=4)


def reviews(folder, train=30, dev=8):
    home = folder / "sst2"
    home.mkdir()
    for name, count in (("train", train), ("dev", dev)):
        lines = [f"a {name} film number {i}\t{i % 2}" for i in range(count)]
        (home / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines, "seen twice\t1"]) + "\n")
    return home


def test_sst2_is_read_and_split(tmp_path, monkeypatch, read):
    reviews(tmp_path)
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    found = sst2.load()
    assert (len(found.train), len(found.validation), len(found.test)) in {(27, 3, 9), (28, 2, 9)}  # "seen twice" is in dev too
    assert "seen twice" not in {text for text, _ in found.train + found.validation}
    assert found.variant.startswith("sample of 31 rows")
    task = sst2_task(read.tokenizer, read.special, 16, train=10)
    assert len(task.train) == 10 and task.train.tokens.shape[1] == 16 and len(task.test) == 9


def test_sst2_may_be_parquet_and_damage_is_named(tmp_path, monkeypatch):
    import pandas as pd

    home = tmp_path / "sst2"
    home.mkdir()
    for name in ("train", "validation"):
        pd.DataFrame({"sentence": [f"{name} {i}" for i in range(20)], "label": [i % 2 for i in range(20)]}).to_parquet(
            home / f"{name}.parquet"
        )
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    assert len(sst2.load().test) == 20
    assert sst2.find_reviews()[0]["found"]
    (home / "train.parquet").write_bytes(b"no parquet")
    assert "train.parquet" in sst2.find_reviews()[0]["notes"]
    with pytest.raises(DataDamaged, match="train.parquet"):
        sst2.load()


@pytest.mark.parametrize("labels", [[0, 0.5], [0, None], [1, 2], [True, False], ["0", "positive"]])
def test_a_label_of_sst2_is_0_or_1_and_a_wrong_row_is_named(tmp_path, labels):
    import pandas as pd

    pd.DataFrame({"sentence": ["one", "two"], "label": labels}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataDamaged, match=r"train.parquet cannot be read .*row [12] has the sentence '(one|two)' and the label"):
        sst2.read(tmp_path / "train.parquet")


def test_sst2_may_be_a_snapshot_of_hugging_face_or_begin_with_a_mark(tmp_path, monkeypatch):
    import pandas as pd

    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    home = reviews(tmp_path)
    plain = sst2.load()
    for path in home.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert sst2.load() == plain
    (home / "data").mkdir()
    for name, split in (("train", "train"), ("dev", "validation")):
        frame = pd.read_csv(home / f"{name}.tsv", sep="\t", encoding="utf-8-sig")
        halves = (frame[:3], frame[3:]) if name == "train" else (frame,)
        for part, rows in enumerate(halves):
            rows.to_parquet(home / "data" / f"{split}-{part:05}-of-{len(halves):05}.parquet")
        (home / f"{name}.tsv").unlink()
    assert sst2.load() == plain and sst2.find_reviews()[0]["where"] == str(home / "data")


def test_missing_sst2_names_three_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    monkeypatch.setattr(sst2, "data_folders", lambda: [tmp_path])
    monkeypatch.setattr(hugging_face.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(f"no {name}")))
    assert not sst2.find_reviews()[0]["found"] and "train.tsv" in sst2.find_reviews()[0]["notes"]
    with pytest.raises(DataMissing) as error:
        sst2.load()
    assert all(f"  {i}. " in str(error.value) for i in (1, 2, 3)) and "train.tsv" in str(error.value)
