"""Classification tasks for a small encoder: three made from stories, and SST-2.

    task = story_task("order", stories, tokenizer, special, context=48, train=2_000, held_out=1_000)
    (tokens_BN, labels_B) = TaskBatches(task.train, batch_size=32, seed=0).batch(epoch=0, step=0)

order     two adjacent sentences of a story: did they change places?
shuffled  four adjacent sentences of a story: are they out of order?
name      excerpts of two stories: did one mention of the first hero's name change places with one of the second's?
sst2      a phrase of a film review: does it speak well of the film?  (:mod:`lib.sst2`)

Both classes of a story task hold the same words equally often, so that counting words does not help; half of the examples
belong to each.  What helps is to know how stories go on, which masked language modelling teaches.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from lib import sst2
from lib.checks import one_of, require
from lib.masked_lm import Special
from lib.train import autocast

STORY_TASKS = ("order", "shuffled", "name")

#: All tasks, story tasks first.
TASKS = (*STORY_TASKS, "sst2")

#: Sentences of one example of "shuffled".
SHUFFLED = 4

#: A hero is mentioned at least so often; a name occurs in at least so many stories.
MENTIONS, STORIES_WITH_NAME = 2, 3

#: Rows are cut to the longest of a batch, rounded up to a multiple of this: few shapes, so that a compiled model is kept.
ROUND = 8

#: Between two sentences; not before whoever said the first.
SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“])|(?<=[.!?][\"”])\s+(?=[A-Z\"“])(?!\w+ (?:said|asked|shouted|called|replied|cried|"
                           r"yelled|answered|exclaimed|whispered|smiled|laughed)\b)|\n+")

#: Story examples that are drawn and encoded at once.
DRAWN_AT_ONCE = 256

#: One text, or two that a separator keeps apart.
Example = tuple[str, str | None, int]


@dataclass(frozen=True, eq=False)
class TaskSplit:
    """``tokens`` int64 [n, N], filled up with padding; ``lengths`` [n] without it, on the CPU; ``labels`` int64 [n]."""

    tokens: Tensor
    lengths: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> TaskSplit:
        return replace(self, tokens=self.tokens.to(device), labels=self.labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Task:
    """A classification task in three splits.  ``variant`` says which data it is, ``fingerprint`` is a checksum of all tokens."""

    name: str
    classes: int
    variant: str
    train: TaskSplit
    validation: TaskSplit
    test: TaskSplit

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for tensor in (split.tokens, split.labels):
                digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()[:16]

    def to(self, device: torch.device | str) -> Task:
        return replace(self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device))

    def provenance(self) -> dict[str, Any]:
        """What a result records about its data."""
        return {"name": self.name, "variant": self.variant, "fingerprint": self.fingerprint, "train": len(self.train),
                "validation": len(self.validation), "test": len(self.test)}


class TaskBatches:
    """Random batches of a split: (tokens [B, N], labels [B]).  Each example is met once per epoch; an incomplete batch is left out.

    A pure function of (seed, epoch, step).  N is the length of the longest row, rounded up to a multiple of 8.
    """

    def __init__(self, split: TaskSplit, batch_size: int, seed: int = 0) -> None:
        require(1 <= batch_size <= len(split), f"batch_size={batch_size} must lie between 1 and the {len(split)} examples")
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.steps = len(split) // batch_size
        self.order: tuple[int, Tensor] | None = None

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} lies outside the epoch's {self.steps} steps")
        if self.order is None or self.order[0] != epoch:
            key = hashlib.sha256(f"examples/{self.seed}/{epoch}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
            self.order = epoch, torch.randperm(len(self.split), generator=generator)
        return rows(self.split, self.order[1][step * self.batch_size:(step + 1) * self.batch_size])


def rows(split: TaskSplit, index: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and labels of these rows, cut to the longest of them; ``index`` int64 on the CPU."""
    longest = math.ceil(split.lengths[index].max().item() / ROUND) * ROUND
    index = index.to(split.tokens.device, non_blocking=True)
    return split.tokens[index, :longest], split.labels[index]


@torch.no_grad()
def evaluate_task(model: nn.Module, split: TaskSplit, batch_size: int = 250, precision: str = "fp32", **masks) -> dict[str, float]:
    """``{"accuracy", "loss"}`` of a classifier on a split; ``masks`` are handed to the model.

    Rows are taken by length, which wastes least on padding.  The model is evaluated where it is and keeps its mode.
    """
    device, mode = next(model.parameters()).device, model.training
    model.eval()
    correct = loss = torch.zeros((), device=device)
    for index in split.lengths.argsort(stable=True).split(batch_size):
        tokens, labels = (part.to(device) for part in rows(split, index))
        with autocast(device, precision):
            logits = model(tokens, **masks).float()
        correct = correct + (logits.argmax(1) == labels).sum()
        loss = loss + F.cross_entropy(logits, labels, reduction="sum")
    model.train(mode)
    return {"accuracy": correct.item() / len(split), "loss": loss.item() / len(split)}


def story_task(name: str, stories: tuple[Sequence[str], Sequence[str], Sequence[str]], tokenizer: Tokenizer, special: Special,
               context: int, train: int, held_out: int, variant: str = "") -> Task:
    """One of :data:`STORY_TASKS`: ``train`` examples from the train stories, ``held_out`` each from validation and test.

    ``stories``: texts of the three splits.  Examples are drawn with a fixed seed, several from a story where they are
    needed, and are independent of how many others are asked for.  Raises ValueError where the stories do not give examples
    that fit the context.
    """
    one_of("task", name, STORY_TASKS)
    names = names_in(stories[0]) if name == "name" else frozenset()
    splits = []
    for part, texts, count in zip(("train", "validation", "test"), stories, (train, held_out, held_out)):
        told = [sentences(text) for text in texts]
        make = maker(name, told, names, context)
        splits.append(drawn(make, Random(f"{name}/{part}"), count, tokenizer, special, context, name))
    return Task(name, 2, variant, *splits)


def sst2_task(tokenizer: Tokenizer, special: Special, context: int, train: int | None = None) -> Task:
    """SST-2; ``train``: the first so many of its shuffled train rows, None: all.  Longer rows are cut to the context.

    Raises :class:`lib.data_files.DataMissing` naming the three ways to supply it.
    """
    reviews = sst2.load()
    chosen = (reviews.train[:train], reviews.validation, reviews.test)
    return Task("sst2", 2, reviews.variant, *(packed([(text, None, label) for text, label in part], tokenizer, special, context)
                                              for part in chosen))


def sentences(story: str) -> list[str]:
    """A story's sentences: cut after a full stop, exclamation or question mark, or the quotation mark that follows it.

    Who said it stays with what was said: in ``"Look!" Tim said.`` nothing is cut.
    """
    return [part for part in re.split(SENTENCE_ENDS, story.strip()) if part]


def names_in(stories: Sequence[str]) -> frozenset[str]:
    """Words that are always capitals-first, also inside a sentence, and occur in several stories: people's names."""
    inside, lower = Counter(), set()
    for story in stories:
        lower.update(re.findall(r"\b[a-z]+\b", story))
        inside.update(set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b", story)))
    return frozenset(word for word, count in inside.items() if count >= STORIES_WITH_NAME and word.lower() not in lower)


def maker(name: str, told: list[list[str]], names: frozenset[str], context: int) -> Callable[[Random, int], Example | None]:
    """A function (random, label) → an example of this task, or None where the draw gave none."""
    if name == "name":
        # No excerpt of more words than tokens that may be had for it.
        excerpts = [found for story in told if (found := heroes(story, names, (context - 3) // 2))]
        require(len(excerpts) >= 2, "no two of these stories mention a name often enough: give more stories")
        return lambda random, label: two_heroes(random, label, excerpts, names)
    needed = 2 if name == "order" else SHUFFLED
    long_enough = [story for story in told if len(story) >= needed]
    require(long_enough, f"none of these stories has {needed} sentences: give more stories")

    def example(random: Random, label: int) -> Example | None:
        story = random.choice(long_enough)
        start = random.randrange(len(story) - needed + 1)
        chosen = story[start:start + needed]
        if len(set(chosen)) < needed:
            return None
        if label:
            chosen = disordered(random, chosen)
        return (chosen[0], chosen[1], label) if name == "order" else (" ".join(chosen), None, label)
    return example


def disordered(random: Random, parts: list[str]) -> list[str]:
    """The parts in another order, each other one equally likely."""
    while True:
        order = random.sample(range(len(parts)), len(parts))
        if order != sorted(order):
            return [parts[i] for i in order]


def heroes(story: list[str], names: frozenset[str], room: int) -> tuple[str, list[str]] | None:
    """The name that a story mentions most and runs of adjacent sentences, of ``room`` words at most, with two mentions of it.

    None where there is no such run.
    """
    told = [words(sentence) for sentence in story]
    counts = Counter(word for sentence in told for word in sentence if word in names)
    if not counts:
        return None
    hero = counts.most_common(1)[0][0]
    runs = []
    for start in range(len(story)):
        mentions = length = 0
        for end in range(start, len(story)):
            mentions, length = mentions + told[end].count(hero), length + len(told[end])
            if length > room or mentions >= MENTIONS:
                if length <= room:
                    runs.append(" ".join(story[start:end + 1]))
                break
    return (hero, runs) if runs else None


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", text)


def two_heroes(random: Random, label: int, excerpts: list[tuple[str, list[str]]], names: frozenset[str]) -> Example | None:
    """Excerpts of two stories that share no name; with label 1 one mention of each hero becomes the other."""
    (hero, runs), (other, others) = random.sample(excerpts, 2)
    first, second = random.choice(runs), random.choice(others)
    if names & set(words(first)) & set(words(second)):
        return None
    if label:
        first, second = replaced(random, first, hero, other), replaced(random, second, other, hero)
    return first, second, label


def replaced(random: Random, text: str, old: str, new: str) -> str:
    """The text with one mention of ``old``, each equally likely, replaced."""
    mentions = [found.span() for found in re.finditer(rf"\b{old}\b", text)]
    start, end = random.choice(mentions)
    return text[:start] + new + text[end:]


def drawn(make: Callable[[Random, int], Example | None], random: Random, count: int, tokenizer: Tokenizer, special: Special,
          context: int, name: str) -> TaskSplit:
    """``count`` examples that fit the context, of the two classes in turn."""
    kept: tuple[list, list] = ([], [])   # by label, so that the classes stay balanced whichever has more that do not fit
    tried = 0
    while min(map(len, kept)) < math.ceil(count / 2):
        batch = [example for i in range(DRAWN_AT_ONCE) if (example := make(random, i % 2))]
        for tokens, label in encoded(batch, tokenizer, special):
            if len(tokens) <= context:
                kept[label].append((tokens, label))
        tried += DRAWN_AT_ONCE
        require(tried < 100 * (DRAWN_AT_ONCE + count),
                f"hardly any example of {name!r} fits a context of {context} tokens: choose a longer one")
    return padded([example for pair in zip(*kept) for example in pair][:count], special)


def packed(examples: Sequence[Example], tokenizer: Tokenizer, special: Special, context: int) -> TaskSplit:
    """These examples as tokens; what is too long loses its end."""
    return padded([(tokens if len(tokens) <= context else tokens[:context - 1] + [special.sep], label)
                   for tokens, label in encoded(examples, tokenizer, special)], special)


def encoded(examples: Sequence[Example], tokenizer: Tokenizer, special: Special) -> list[tuple[list[int], int]]:
    """[CLS] a [SEP], or [CLS] a [SEP] b [SEP].  Texts begin with a space, as sentences inside a story do."""
    firsts = tokenizer.encode_batch_fast([" " + first for first, _, _ in examples])
    seconds = iter(tokenizer.encode_batch_fast([" " + second for _, second, _ in examples if second is not None]))
    return [([special.cls, *first.ids, special.sep] + ([] if second is None else [*next(seconds).ids, special.sep]), label)
            for first, (_, second, label) in zip(firsts, examples)]


def padded(examples: list[tuple[list[int], int]], special: Special) -> TaskSplit:
    lengths = torch.tensor([len(tokens) for tokens, _ in examples])
    longest = math.ceil(lengths.max().item() / ROUND) * ROUND
    tokens = torch.full((len(examples), longest), special.pad)
    for row, (ids, _) in zip(tokens, examples):
        row[:len(ids)] = torch.tensor(ids)
    return TaskSplit(tokens, lengths, torch.tensor([label for _, label in examples]))
