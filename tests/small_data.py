"""Data sets and pre-trained models of the real shapes, made in a moment: a few random images, a few sentences, random weights."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from lib.data import images
from lib.data.catalogue import DATASETS
from lib.data.files import Decoded
from lib.data.sentences import SETS
from lib.models import pretrained
from lib.models.encoder_pretrained import special_last
from lib.studies.language import subjects
from lib.studies.tickets import checkpoint, pretrain
from lib.studies.tickets.text import material, task_of
from word_pieces import word_pieces

#: Images of each set, for training and validation, and for the test.
IMAGES = 120, 12

#: Blocks of the small language model: chapter 10 takes out up to seven.
BLOCKS = 9


def use_small_data(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the library find small data in ``folder`` and nothing else, until ``patch`` is undone."""
    patch.setenv("BOOK_DATA", str(folder))
    patch.setattr(images, "load", random_images)
    write_sentences(folder)
    tokenizer = word_pieces()
    minilm = pretrained.tiny("minilm", tokenizer)
    opened = minilm, *special_last(minilm.tokenizer)
    patch.setattr(checkpoint, "opened", lambda name: opened)
    smollm = pretrained.tiny("smollm2", tokenizer, num_hidden_layers=BLOCKS, hidden_size=144, intermediate_size=256)
    patch.setattr(subjects, "load", lambda name: smollm)
    patch.setattr(pretrain, "EVALUATED", 64)
    forget()


def forget() -> None:
    """What was read is read again."""
    for cached in (task_of, material):
        cached.cache_clear()


def random_images(dataset) -> Decoded:
    """Noise in the shape of the data set's images; every class in turn."""
    about, (train, test) = DATASETS[dataset.name], IMAGES
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (train + test, *about.shape), dtype=torch.uint8, generator=generator)
    labels = torch.arange(train + test) % about.classes
    return Decoded(pixels[:train], labels[:train], pixels[train:], labels[train:], variant="noise")


def write_sentences(folder: Path) -> None:
    """Tables of film reviews, sentences and questions, books, and the text that language models are judged by."""
    for name, files in {"sst2": ("train.tsv", "dev.tsv"), **{name: about.files for name, about in SETS.items()}}.items():
        home = folder / name
        home.mkdir()
        classes = SETS[name].classes if name in SETS else 2
        for file, count in zip(files, (400, 40)):
            rows = [f"{file} bear {i} sees {'a film ' * (i % 4)}\t{i % classes}" for i in range(count)]
            (home / file).write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    (books := folder / "childrens_books").mkdir()
    for split in ("train", "validation"):
        passages = [f"who sees a film ? the bear sees {'a bear and ' * (i % 5)}the films ?" for i in range(400)]
        pd.DataFrame({"text": passages}).to_parquet(books / f"{split}.parquet")
    (wikitext := folder / "wikitext2").mkdir()
    (wikitext / "wiki.test.raw").write_text("who sees the film ? the bear sees a film about bears .\n" * 200)
