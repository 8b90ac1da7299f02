"""Byte-level BPE: decoding gives the text back, the same stories give the same tokens, GPT-2's own when asked."""

import hashlib
import os

import pytest
import torch

from lib.data import files as data_files
from lib.data.files import DataMissing
from lib.data.formats import DataDamaged
from lib.data.grammar import story_grammar
from lib.data.tokenizer import (
    END,
    GPT2_VOCABULARY,
    encode_stories,
    gpt2_files,
    gpt2_tokenizer,
    restore,
    token_bytes,
    train_tokenizer,
)

ODD = [
    "",
    " ",
    "  two  spaces \n\n and\r\nlines\t",
    "Zoë’s “café” — naïve 日本語 🦊🏽 \x00\x7f",
    f"before {END} after",
    END,
    "don't I'LL we've",
    "1234567890 !!??",
    "ﬁ e\u0301 \u200b\ufeff",
]


@pytest.fixture(scope="module")
def stories():
    return [story.text for story in story_grammar().sample(800, "tokenizer tests")]


@pytest.fixture(scope="module")
def tokenizer(stories):
    return train_tokenizer(stories, 400)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty BOOK_DATA and an empty checkout."""
    (tmp_path / "given").mkdir()
    monkeypatch.setenv("BOOK_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(data_files, "ROOT", tmp_path / "book")
    return tmp_path / "given"


def test_decoding_gives_the_text_back(tokenizer, stories):
    for text in stories[:100] + ODD:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    assert restore(tokenizer.to_str()).encode(stories[0]).ids == tokenizer.encode(stories[0]).ids


def test_the_end_token_is_never_text(tokenizer):
    end = tokenizer.token_to_id(END)
    for some in (tokenizer, restore(tokenizer.to_str())):
        assert not any(end in some.encode(text).ids for text in ODD)
    assert encode_stories(tokenizer, [f"a{END}", "b"]).tolist().count(end) == 2


def test_a_vocabulary_has_the_size_asked_for(tokenizer, stories):
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(400)) and vocabulary[END] == 0
    assert not [token for token in vocabulary if "Ġ" in token[1:]]  # no token reaches into the next word
    assert train_tokenizer(stories, 257).get_vocab_size() == 257
    assert len(tokenizer.encode(stories[0]).ids) < 0.5 * len(stories[0])


@pytest.mark.parametrize("vocabulary", [256, 0, -1, GPT2_VOCABULARY + 1])
def test_impossible_vocabularies(stories, vocabulary):
    with pytest.raises(ValueError, match="between 257 .* and 50257"):
        train_tokenizer(stories, vocabulary)


def test_more_tokens_than_the_stories_can_give(stories):
    with pytest.raises(ValueError, match=r"at most (\d+) tokens .* ask for \1 or fewer, not 5000"):
        train_tokenizer(stories, 5_000)


def test_training_is_deterministic(python, tokenizer):
    code = (
        "import hashlib; from lib.data.grammar import story_grammar; from lib.data.tokenizer import train_tokenizer;"
        "texts = [story.text for story in story_grammar().sample(800, 'tokenizer tests')];"
        "print(hashlib.sha256(train_tokenizer(texts, 400).to_str().encode()).hexdigest())"
    )
    printed = {python("-c", code, PYTHONHASHSEED=seed, RAYON_NUM_THREADS=seed).stdout for seed in (1, 2)}
    assert printed == {hashlib.sha256(tokenizer.to_str().encode()).hexdigest() + "\n"}


def test_a_stream_of_stories(tokenizer, stories, monkeypatch):
    stream = encode_stories(tokenizer, stories[:50])
    assert stream.dtype == torch.int32
    expected = [token for story in stories[:50] for token in [*tokenizer.encode(story).ids, 0]]
    assert stream.tolist() == expected
    monkeypatch.setattr("lib.data.tokenizer.CHUNK", 7)
    assert torch.equal(encode_stories(tokenizer, stories[:50]), stream)


def test_bytes_of_tokens(tokenizer, stories):
    widths = token_bytes(tokenizer)
    assert widths.shape == (400,) and widths[0] == 0 and widths[1:].min() == 1
    for text in stories[:50] + ODD:
        assert widths[tokenizer.encode(text).ids].sum() == len(text.encode())


def test_gpt2_is_named_when_it_is_missing(empty):
    assert gpt2_files() is None
    with pytest.raises(DataMissing, match=r"(?s)BOOK_DATA.*data/cache/.*do without"):
        gpt2_tokenizer()


@pytest.mark.parametrize("vocabulary", ["not json", '{"a": 0, "b": 1}'])
def test_damaged_gpt2_files(empty, vocabulary):
    (empty / "gpt2").mkdir()
    (empty / "gpt2" / "vocab.json").write_text(vocabulary)
    with pytest.raises(DataMissing, match="gpt2 holds a part of a data set: it lacks merges.txt"):
        gpt2_tokenizer()
    (empty / "gpt2" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(DataDamaged, match="gpt2"):
        gpt2_tokenizer()


@pytest.mark.skipif(not os.environ.get("BOOK_DATA"), reason="needs BOOK_DATA, a folder with gpt2/")
def test_gpt2s_own_encoding():
    tokenizer = gpt2_tokenizer()
    assert tokenizer.encode("Hello world").ids == [15496, 995]
    assert tokenizer.encode("Once upon a time, there was").ids == [7454, 2402, 257, 640, 11, 612, 373]
    assert tokenizer.token_to_id(END) == GPT2_VOCABULARY - 1
    widths = token_bytes(tokenizer)
    for text in ODD:
        tokens = tokenizer.encode(text).ids
        assert tokenizer.decode(tokens, skip_special_tokens=False) == text and widths[tokens].sum() == len(text.encode())
