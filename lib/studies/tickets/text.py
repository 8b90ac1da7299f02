"""What the tickets chapter reads: one tokenizer, a stream for pre-training, and the tasks that share its words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from lib.data import sst2
from lib.data.images import DataDamaged, DataMissing
from lib.data.masked_lm import Special
from lib.data.story_tasks import story_task
from lib.data.tasks import STORY_TASKS, TASKS, Task, sentence_task, sst2_task
from lib.data.text import TOKENIZER_STORIES, check_name, load_text
from lib.data.tokenizer import END, encode_stories, train_tokenizer
from lib.runs.results import Unavailable
from lib.studies.tickets.checkpoint import Checkpoint
from lib.system.checks import one_of, require


@dataclass(frozen=True)
class Source:
    """Stories, as in :func:`lib.data.text.load_text`, and their ``vocabulary`` without BERT's four tokens.

    ``reviews``: the train phrases of SST-2 are read too, by the tokenizer and in pre-training, without their labels; a task
    of film reviews has words that stories lack.  ``stories``: train stories, None: all.  ``context``: tokens seen at once.
    """

    name: str = "grammar"
    vocabulary: int = 768
    stories: int | None = None
    reviews: bool = False
    context: int = 48

    def __post_init__(self) -> None:
        check_name(self.name)
        require(self.context >= 8, f"context is {self.context}: a text has at least 8 tokens")


@dataclass(frozen=True, eq=False)
class Material:
    """A source, read: streams of tokens int64 [T] in which separators end the stories, and the stories of each split.

    ``enders``: the tokens after which a sentence may begin.
    """

    tokenizer: Tokenizer
    special: Special
    train: Tensor
    validation: Tensor
    test: Tensor
    stories: tuple[list[str], list[str], list[str]]
    variant: str
    enders: tuple[int, ...]
    about: dict[str, Any]

    def provenance(self) -> dict[str, Any]:
        return self.about


@lru_cache(maxsize=4)
def material(source: Source | Checkpoint) -> Material:
    """Read a source, once per process.  Data that are missing make the Spec unavailable, not the chapter fail."""
    try:
        if isinstance(source, Checkpoint):
            return of_checkpoint(source)
        text = load_text(source.name, source.vocabulary, "cpu", source.stories)
        reviews = [sentence for sentence, _ in sst2.load().train] if source.reviews else []
    except (DataDamaged, DataMissing) as error:
        raise Unavailable(str(error)) from error
    special = Special.after(source.vocabulary)
    splits = (text.train, text.validation, text.test)
    stories = tuple(text.decode(split.tokens.tolist()).split(END)[:-1] for split in splits)
    tokenizer, streams = text.tokenizer, [split.tokens for split in splits]
    if reviews:
        phrases = [f" {review}" for review in reviews]
        tokenizer = train_tokenizer([*stories[0][:TOKENIZER_STORIES], *phrases], source.vocabulary)
        streams = [encode_stories(tokenizer, part).long() for part in stories]
        streams[0] = torch.cat([streams[0], encode_stories(tokenizer, phrases).long()])
    train, validation, test = (special.stream(stream, tokenizer.token_to_id(END)) for stream in streams)
    enders = tuple(sorted(number for token, number in tokenizer.get_vocab().items() if token[-1] in '.!?"' and token != END))
    about = text.provenance() | {"reviews": len(reviews), "train_tokens": len(train)}
    return Material(tokenizer, special, train, validation, test, stories, text.variant, enders, about)


def of_checkpoint(source: Checkpoint) -> Material:
    """Books in a checkpoint's tokens; there are no stories to make tasks from."""
    (train, validation, test), about = source.streams()
    return Material(source.tokenizer, source.special, train, validation, test, ([], [], []), about["variant"], source.enders, about)


@lru_cache(maxsize=16)
def task_of(source: Source | Checkpoint, name: str, train: int, held_out: int) -> Task:
    """A task in a source's tokens, made once per process: ``train`` examples, and ``held_out`` for validation and test each.

    Of SST-2, CoLA and TREC, ``train`` is the most, and validation and test are what they are.
    """
    one_of("task", name, TASKS)
    try:
        if isinstance(source, Checkpoint):
            return source.task(name, train)
        read = material(source)
        if name in STORY_TASKS:
            return story_task(name, read.stories, read.tokenizer, read.special, source.context, train, held_out, read.variant)
        if name == "sst2":
            return sst2_task(read.tokenizer, read.special, source.context, train)
        return sentence_task(name, read.tokenizer, read.special, source.context, train)
    except (DataDamaged, DataMissing) as error:
        raise Unavailable(str(error)) from error
