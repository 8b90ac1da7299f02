"""Text for a Spec that trains on it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

import torch

from lib.data.images import DataDamaged, DataMissing
from lib.data.text import TextSet, TextSplit, load_text
from lib.data.tokenizer import END, encode_stories
from lib.runs.results import Unavailable
from lib.system.checks import one_of

DIALECTS = ("plain", "pig-latin")

#: The last corpus that was translated.
TRANSLATED: dict[tuple[str, str], TextSet] = {}


@dataclass(frozen=True)
class Corpus:
    """Stories: ``name`` as in :func:`lib.data.text.load_text`, tokens in the ``vocabulary``, training ``stories`` (None: all).

    ``dialect`` "pig-latin": the same stories in another language, written in the tokens of the plain ones.
    """

    name: str = "grammar"
    vocabulary: int = 384
    stories: int | None = None
    dialect: str = "plain"

    def __post_init__(self) -> None:
        one_of("dialect", self.dialect, DIALECTS)


def available_text(corpus: Corpus, device: torch.device) -> TextSet:
    """The corpus on ``device``; data that are missing make the Spec unavailable, not the chapter fail."""
    try:
        text = load_text(corpus.name, corpus.vocabulary, device, corpus.stories)
    except (DataDamaged, DataMissing) as error:
        raise Unavailable(str(error)) from error
    if corpus.dialect == "plain":
        return text
    key = (text.fingerprint, str(device))
    if key not in TRANSLATED:  # several runs in a row want the same
        TRANSLATED.clear()
        TRANSLATED[key] = in_pig_latin(text)
    return TRANSLATED[key]


def spelled_out(text: TextSet, tokens_BN: torch.Tensor) -> list[str]:
    """Return what rows of tokens say, end tokens left out."""
    return [text.decode([token for token in row if token != text.end]) for row in tokens_BN.tolist()]


def in_pig_latin(text: TextSet) -> TextSet:
    """The same stories and tokenizer; the entropy is no longer known, as some words may fall together."""

    def split(plain: TextSplit) -> TextSplit:
        stories = [pig_latin(story) for story in text.decode(plain.tokens.tolist()).split(END)[:-1]]
        tokens = encode_stories(text.tokenizer, stories).long().to(plain.tokens.device)
        return replace(plain, tokens=tokens, bytes=sum(len(story.encode()) for story in stories))

    train, validation, test = split(text.train), split(text.validation), split(text.test)
    tokens = b"".join(part.tokens.cpu().numpy().tobytes() for part in (train, validation, test))
    return replace(
        text,
        variant=f"{text.variant}, in Pig Latin",
        fingerprint=hashlib.sha256(tokens).hexdigest()[:16],
        entropy=None,
        train=train,
        validation=validation,
        test=test,
    )


def pig_latin(text: str) -> str:
    """The children's language game: "story" becomes "orystay", "apple" becomes "appleway"."""
    return re.sub(r"[A-Za-z]+", lambda found: word_in_pig_latin(found[0]), text)


def word_in_pig_latin(word: str) -> str:
    start = re.match(r"[^aeiouyAEIOUY]*", word)[0] or word[:1] * (word[0] in "yY")
    turned = word[len(start) :] + start.lower() + ("ay" if start else "way")
    return turned.capitalize() if word[0].isupper() else turned
