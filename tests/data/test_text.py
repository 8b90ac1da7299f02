"""Story data sets: splits, cache, damage, windows that are pure functions, bits per byte."""

import importlib
import math
import os
import statistics
import urllib.error
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from lib.data import files as data_files
from lib.data import text_cache, text_files
from lib.data.files import DataMissing
from lib.data.formats import DataDamaged
from lib.data.grammar import story_grammar
from lib.data.images import UnknownDataset
from lib.data.text import GRAMMAR_HELD_OUT, TextBatches, TextSplit, evaluate_text, find_text, load_text

real_data = pytest.mark.skipif(not os.environ.get("BOOK_DATA"), reason="needs BOOK_DATA, a folder with tinystories/ and gpt2/")


@pytest.fixture
def given(tmp_path, monkeypatch):
    """An empty BOOK_DATA, an empty checkout and no network."""
    for name in ("given", "book"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("BOOK_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(data_files, "ROOT", tmp_path / "book")

    def offline(*_, **__):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    return tmp_path / "given"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The grammar's stories, cached in a folder of this test file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_files, "ROOT", tmp_path_factory.mktemp("book"))
        yield load_text("grammar", 384, train_stories=600)


@pytest.fixture(scope="module")
def stories():
    return [story.text for story in story_grammar().sample(700, "text tests")]


def write(path, stories, column="text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: stories}), path)


def write_both(given, train, validation):
    write(given / "tinystories" / "train.parquet", train)
    write(given / "tinystories" / "validation.parquet", validation)


def told(text_set, split):
    """The stories of a split, read back from its tokens."""
    ends = (split.tokens == text_set.end).nonzero().flatten().tolist()
    return [text_set.decode(split.tokens[start + 1 : end].tolist()) for start, end in zip([-1, *ends], ends)]


# ---- the grammar's stories ----------------------------------------------------------------------------------


def test_grammar_stories_come_from_three_seeds(text):
    for split, seed, count in (
        (text.train, "train", 600),
        (text.validation, "validation", GRAMMAR_HELD_OUT),
        (text.test, "test", GRAMMAR_HELD_OUT),
    ):
        expected = [story.text for story in story_grammar().sample(count, seed)]
        assert told(text, split) == expected
        assert split.stories == count and split.tokens.dtype == torch.int64
        assert split.bytes == sum(len(story.encode()) for story in expected)
        assert split.token_bytes[split.tokens].sum() == split.bytes
    known = set(told(text, text.train))
    assert len(known & {*told(text, text.validation), *told(text, text.test)}) <= 1
    assert text.provenance() == {
        "name": "grammar",
        "variant": "made by a grammar",
        "fingerprint": text.fingerprint,
        "vocabulary": 384,
        "train": 600,
        "validation": 400,
        "test": 400,
        "train_tokens": len(text.train.tokens),
    }
    assert len(text.fingerprint) == 16


def test_the_floor_is_that_of_the_stories(text):
    sampled = story_grammar().sample(GRAMMAR_HELD_OUT, "validation")
    bits = [-story.log_prob / math.log(2) for story in sampled]
    error = statistics.stdev(bits) / math.sqrt(len(bits)) / (text.validation.bytes / len(bits))
    assert abs(sum(bits) / text.validation.bytes - text.entropy) < 4 * error
    assert text.entropy == story_grammar().floor


def test_fewer_train_stories_are_the_first_ones_in_the_same_tokens(given, text):
    fewer = load_text("grammar", 384, train_stories=100)
    assert torch.equal(fewer.train.tokens, text.train.tokens[: len(fewer.train.tokens)]) and fewer.train.stories == 100
    assert torch.equal(fewer.test.tokens, text.test.tokens)
    assert fewer.tokenizer.to_str() == text.tokenizer.to_str() and fewer.fingerprint != text.fingerprint


# ---- TinyStories on disk ------------------------------------------------------------------------------------


def test_tinystories_splits(given, stories):
    train, validation = stories[:500], stories[500:560]
    write_both(given, train + [validation[0], " \n", validation[1]], validation + [""])
    loaded = load_text("tinystories", 300)
    assert loaded.variant == "sample of 503 stories (and 61 for testing)" and loaded.entropy is None
    assert told(loaded, loaded.test) == validation
    kept, held = told(loaded, loaded.train), told(loaded, loaded.validation)
    assert (len(kept), len(held)) == (300, 200) and sorted(kept + held) == sorted(train)
    assert load_text("tinystories", 300, train_stories=20).train.stories == 20
    assert told(loaded, load_text("tinystories", 300, train_stories=20).train) == kept[:20]
    with pytest.raises(ValueError, match="between 1 and 300 for tinystories, got 301"):
        load_text("tinystories", 300, train_stories=301)


def test_copies_of_held_out_stories_leave_the_train_split(given, stories):
    write_both(given, stories[:300] * 2, stories[300:320])
    loaded = load_text("tinystories", 300)
    kept, held = told(loaded, loaded.train), told(loaded, loaded.validation)
    assert len(held) == 200 and kept and not set(kept) & set(held)


def test_numbered_parts_in_a_folder(given, stories):
    home = given / "tinystories" / "data"
    for i in range(2):
        write(home / f"train-0000{i}-of-00002.parquet", stories[i * 200 : i * 200 + 200])
    write(home / "validation-00000-of-00001.parquet", stories[400:420])
    loaded = load_text("tinystories", 300)
    assert loaded.train.stories == loaded.validation.stories == 200 and loaded.test.stories == 20


def test_further_files_beside_the_splits_change_nothing(given, stories):
    """More stories are a corpus of their own: what was trained on ``train.parquet`` stays what it was."""
    write_both(given, stories[:300], stories[300:320])
    before = load_text("tinystories", 300).provenance()
    for name in ("train_extra", "train_lowercase"):
        write(given / "tinystories" / f"{name}.parquet", stories[320:700])
    assert load_text("tinystories", 300).provenance() == before


def test_misread_punctuation_is_repaired_and_told(given, stories):
    right = "“Can’t we?” – said Zoë… “No.”\n‘€’ â caf\u00e9"
    wrong = right.split("‘")[0]
    wrong = wrong.replace("ë", "e").encode().replace(b"\x9d", b"").decode("cp1252")
    assert wrong.startswith("â€œCanâ€™t we?â€ â€“ said")
    assert text_files.repaired(wrong + "‘€’ â") == right.split("‘")[0].replace("ë", "e") + "‘€’ â"
    assert text_files.repaired(right) == right
    write_both(given, stories[:300], [*stories[300:310], wrong])
    loaded = load_text("tinystories", 300)
    assert loaded.variant.endswith("(and 11 for testing), quotation marks and dashes repaired in 1")
    assert told(loaded, loaded.test)[-1].startswith("“Can’t we?” – said")


def test_the_official_splits_are_called_so():
    assert text_files.variant(2_119_719, 21_990) == "official"
    assert text_files.variant(2_119_719, 100) == "sample of 2119719 stories (and 100 for testing)"


def test_the_second_load_reads_the_cache(given, stories, monkeypatch):
    write_both(given, stories[:300], stories[300:320])
    first = load_text("tinystories", 300)
    monkeypatch.setattr(text_files, "read", lambda files: pytest.fail("read again"))
    second = load_text("tinystories", 300)
    assert second.provenance() == first.provenance() and second.tokenizer.to_str() == first.tokenizer.to_str()
    for name in ("train", "validation", "test"):
        a, b = getattr(first, name), getattr(second, name)
        assert torch.equal(a.tokens, b.tokens) and (a.bytes, a.stories) == (b.bytes, b.stories)


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_damaged_cache_is_made_anew(given, stories, damage):
    write_both(given, stories[:300], stories[300:320])
    first = load_text("tinystories", 300)
    (path,) = (data_files.ROOT / "data" / "cache" / "tokens").iterdir()
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw[:-100] if damage == "cut" else raw)
    assert torch.equal(load_text("tinystories", 300).test.tokens, first.test.tokens)
    assert text_cache.read(f"tokens/{path.name}").fingerprint == first.fingerprint


def test_other_files_are_not_mistaken_for_cached_ones(given, stories):
    write_both(given, stories[:300], stories[300:320])
    load_text("tinystories", 300)
    write_both(given, stories[:300], stories[330:350])
    loaded = load_text("tinystories", 300)
    assert told(loaded, loaded.test) == stories[330:350]


def test_without_a_place_to_write_everything_still_works(given, stories, monkeypatch):
    write_both(given, stories[:300], stories[300:320])
    (data_files.ROOT / "data").write_text("a file where a folder should be")
    monkeypatch.setenv("BOOK_RUNS", str(data_files.ROOT / "data"))
    assert load_text("tinystories", 300).test.stories == 20


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.write_bytes(b"no parquet"), "train.parquet cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:2_000]), "train.parquet cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:40] + bytes(4_000) + path.read_bytes()[4_040:]), "cannot be read"),
        (lambda path: write(path, ["a"], "story"), "has columns story; expected text"),
        (lambda path: write(path, [1, 2]), "not text"),
        (lambda path: write(path, ["a", None]), "not text"),
        (lambda path: write(path, ["a", "b"]), "holds 2 train and 20 validation stories: more than 200"),
    ],
)
def test_damaged_files_are_named(given, stories, damage, message):
    write_both(given, stories[:300], stories[300:320])
    damage(given / "tinystories" / "train.parquet")
    with pytest.raises(DataDamaged, match=message):
        load_text("tinystories", 300)


def test_missing_data_names_three_ways(given):
    with pytest.raises(DataMissing, match=r"(?s)BOOK_DATA.*data/cache/.*package datasets.*train.parquet"):
        load_text("tinystories", 300)


def test_download_through_datasets(given, stories, monkeypatch):
    class Split(list):
        def to_parquet(self, path):
            pq.write_table(pa.table({"text": list(self)}), path)

    class Source:
        @staticmethod
        def load_dataset(name):
            assert name == "roneneldan/TinyStories"
            return {"train": Split(stories[:300]), "validation": Split(stories[300:320])}

    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name, *rest: Source if name == "datasets" else real(name, *rest))
    with pytest.raises(DataMissing, match="no network in tests"):
        load_text("tinystories", 300)

    class Answer:
        __enter__ = __exit__ = lambda *_: None

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Answer())
    assert load_text("tinystories", 300).test.stories == 20
    assert (data_files.ROOT / "data" / "cache" / "tinystories" / "validation.parquet").is_file()


@pytest.mark.parametrize("name, hint", [("grammer", "grammar"), ("tiny-stories", "tinystories"), ("Tiny_Stories", "tinystories")])
def test_unknown_names(name, hint):
    with pytest.raises(UnknownDataset, match=f"Did you mean '{hint}'"):
        load_text(name, 300)


def test_impossible_sizes():
    with pytest.raises(ValueError, match="vocabulary is 256: it must lie between 257"):
        load_text("grammar", 256)
    with pytest.raises(ValueError, match="train_stories must be at least 1"):
        load_text("grammar", 300, train_stories=0)


def test_doctor_finds_them(given, stories):
    found = {row["name"]: row for row in find_text()}
    assert found["grammar"]["found"] and "bits per byte" in found["grammar"]["notes"]
    assert not found["tinystories"]["found"] and "train.parquet" in found["tinystories"]["notes"]
    assert not found["gpt2"]["found"]
    write_both(given, stories[:30], stories[30:40])
    assert {row["name"]: row for row in find_text()}["tinystories"]["variant"] == "sample of 30 stories (and 10 for testing)"
    (given / "tinystories" / "train.parquet").write_bytes(b"?")
    assert "cannot be read" in {row["name"]: row for row in find_text()}["tinystories"]["notes"]


@real_data
def test_the_real_files():
    loaded = load_text("tinystories", 1_024)
    assert loaded.train.stories > 1_000 and loaded.validation.stories >= 200 and loaded.test.stories > 100
    assert loaded.variant == "official" or loaded.variant.startswith("sample of ")
    again = load_text("tinystories", 50_257, train_stories=300)
    assert told(again, again.train) == told(loaded, loaded.train)[:300]
    assert told(again, again.test) == told(loaded, loaded.test) and again.test.bytes == loaded.test.bytes
    if loaded.variant.startswith("sample of 4043 stories (and 1059"):  # the book's own results are made from it
        assert load_text("tinystories", 512).fingerprint == "1dfd3e2e50da061e"


# ---- batches ------------------------------------------------------------------------------------------------


def test_windows_are_cut_from_the_stream(text):
    batches = TextBatches(text.train, context=32, batch_size=8, steps=5, seed=1)
    stream = text.train.tokens.unfold(0, 33, 1)
    assert batches.steps == 5
    for step in range(5):
        inputs, targets = batches.batch(0, step)
        assert inputs.shape == targets.shape == (8, 32) and inputs.dtype == targets.dtype == torch.int64
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        for row in torch.cat([inputs, targets[:, -1:]], 1):
            assert (stream == row).all(1).any()


def test_batches_are_a_pure_function_of_seed_epoch_and_step(text):
    def batch(seed, epoch, step, steps=4):
        return TextBatches(text.train, 16, 4, steps, seed).batch(epoch, step)[0]

    once = TextBatches(text.train, 16, 4, 4, 3)
    order = [(1, 2), (0, 0), (1, 2), (0, 3)]
    assert all(torch.equal(once.batch(*at)[0], batch(3, *at)) for at in order)
    assert torch.equal(batch(3, 0, 1, steps=2), batch(3, 0, 1, steps=9))
    others = [batch(*key) for key in ((3, 0, 0), (4, 0, 0), (3, 1, 0), (3, 0, 1))]
    assert all(not torch.equal(a, b) for i, a in enumerate(others) for b in others[:i])


def test_every_window_can_come(text):
    split = TextSplit(torch.arange(6), 6, 1, torch.ones(6, dtype=torch.int64))
    inputs, targets = TextBatches(split, context=3, batch_size=500, steps=1).batch(0, 0)
    assert set(inputs[:, 0].tolist()) == {0, 1, 2} and targets.max() == 5
    inputs, targets = TextBatches(split, context=5, batch_size=2, steps=1).batch(0, 0)
    assert targets.tolist() == [[1, 2, 3, 4, 5]] * 2


def test_windows_that_do_not_fit(text):
    split = TextSplit(torch.arange(6), 6, 1, torch.ones(6, dtype=torch.int64))
    with pytest.raises(ValueError, match="context=6 needs 7 tokens, this split has 6"):
        TextBatches(split, 6, 1, 1)
    with pytest.raises(ValueError, match="at least 1"):
        TextBatches(split, 0, 1, 1)
    with pytest.raises(IndexError):
        TextBatches(split, 2, 1, 1).batch(0, 1)
    with pytest.raises(ValueError, match="context=7 must lie between 1 and the 6 tokens"):
        evaluate_text(Bigram(6), split, 7)


# ---- bits per byte ------------------------------------------------------------------------------------------


class Bigram(nn.Module):
    """Logits from the token itself and the mean of the tokens so far: depends on the whole window."""

    def __init__(self, vocabulary):
        super().__init__()
        self.table = nn.Embedding(
            vocabulary, vocabulary, _weight=torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(0))
        )

    def forward(self, tokens):
        logits = self.table(tokens)
        return logits + 3 * logits.cumsum(1) / torch.arange(1, tokens.shape[1] + 1)[:, None]


@pytest.mark.parametrize("tokens", [None, 1_000, 256])
def test_each_token_is_predicted_once_and_counted_in_bytes(text, tokens):
    model = Bigram(text.vocabulary)
    got = evaluate_text(model, text.test, context=64, batch_size=5, tokens=tokens)
    stream, nats = [text.end, *text.test.tokens[:tokens].tolist()], []
    with torch.no_grad():
        for start in range(0, len(stream) - 1, 64):
            window = torch.tensor(stream[start : start + 65])
            logp = model(window[None, :-1])[0].log_softmax(-1)
            nats += (-logp[torch.arange(len(window) - 1), window[1:]]).tolist()
    assert len(nats) == (tokens or len(text.test.tokens))
    size = len(text.decode(stream[1:]).replace("<|endoftext|>", "").encode())
    assert got == pytest.approx({"loss": sum(nats) / len(nats), "bits_per_byte": sum(nats) / math.log(2) / size}, rel=1e-5)
    assert tokens or size == text.test.bytes


def test_a_model_that_knows_nothing(text):
    model = Bigram(text.vocabulary)
    nn.init.zeros_(model.table.weight)
    got = evaluate_text(model, text.validation, context=100)
    assert got["loss"] == pytest.approx(math.log(384), rel=1e-6)
    per_byte = len(text.validation.tokens) / text.validation.bytes
    assert got["bits_per_byte"] == pytest.approx(math.log2(384) * per_byte, rel=1e-6)


def test_evaluation_keeps_the_mode_and_takes_bfloat16(text):
    model = Bigram(text.vocabulary).train()
    plain = evaluate_text(model, text.test, 64, tokens=2_000)
    assert model.training
    assert evaluate_text(model, text.test, 64, precision="bf16", tokens=2_000) == pytest.approx(plain, rel=0.02)
    with pytest.raises(ValueError, match="precision"):
        evaluate_text(model, text.test, 64, precision="fp8")
