"""What kinds of tokens experts are asked about."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.data.text import TextSet

KINDS = ("capitalised word", "word", "rest of a word", "mark", "end of story")


def token_kinds(text: TextSet) -> Tensor:
    """Index into :data:`KINDS` of each token of the vocabulary, int64 [V]."""
    return torch.tensor([KINDS.index(kind(text, token)) for token in range(text.vocabulary)])


def kind(text: TextSet, token: int) -> str:
    if token == text.end:
        return "end of story"
    written = text.decode([token])
    word = written.strip()
    if not any(letter.isalnum() for letter in word):
        return "mark"
    if written[0].isspace() or word[0].isupper():
        return "capitalised word" if word[0].isupper() else "word"
    return "rest of a word"
