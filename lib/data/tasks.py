"""Classification tasks for an encoder: three made from stories, and SST-2, CoLA and TREC.

    tokens_BN, labels_B = TaskBatches(task.train, batch_size=32, seed=0).batch(epoch=0, step=0)

order     two adjacent sentences of a story: did they change places?
shuffled  four adjacent sentences of a story: are they out of order?
name      excerpts of two stories: did one mention of the first hero's name change places with one of the second's?
          (these three: :func:`lib.data.story_tasks.story_task`)
sst2      a phrase of a film review: does it speak well of the film?  (:mod:`lib.data.sst2`)
cola      a sentence: is it English as its speakers would say it?  (:mod:`lib.data.sentences`)
trec      a question: which of six kinds of answer does it want?  (the same)

Both classes of a story task hold the same words equally often, so that counting words does not help; half of the examples
belong to each.  What helps is to know how stories go on, which masked language modelling teaches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from lib.data import sentences, sst2
from lib.data.masked_lm import Special
from lib.system.checks import require
from lib.system.precision import autocast

STORY_TASKS = ("order", "shuffled", "name")

#: Tasks of single sentences, with the number of classes.
SENTENCE_TASKS = {"sst2": 2, "cola": 2, "trec": 6}

#: All tasks, story tasks first.
TASKS = (*STORY_TASKS, *SENTENCE_TASKS)

#: Rows are cut to the longest of a batch, rounded up to a multiple of this: few shapes, so that a compiled model is kept.
ROUND = 8

#: One text, or two that a separator keeps apart.
Example = tuple[str, str | None, int]


@dataclass(frozen=True, eq=False)
class TaskSplit:
    """``tokens`` int64 [n, N], filled up with padding; ``lengths`` [n] without it, on the CPU; ``labels`` int64 [n].

    ``pool``   batches whose rows are sorted by length together, so that little of a batch is padding; 1: no sorting
    ``round``  rows are cut to the longest of a batch, rounded up to a multiple of this
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor
    pool: int = 1
    round: int = ROUND

    def to(self, device: torch.device | str) -> TaskSplit:
        return replace(self, tokens=self.tokens.to(device), labels=self.labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Task:
    """A classification task in three splits.  ``variant`` says which data it is, ``fingerprint`` is a checksum of it."""

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
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def to(self, device: torch.device | str) -> Task:
        return replace(self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device))

    def provenance(self) -> dict[str, Any]:
        """What a result records about its data."""
        return {
            "name": self.name,
            "variant": self.variant,
            "fingerprint": self.fingerprint,
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }


class TaskBatches:
    """Random batches of a split: (tokens [B, N], labels [B]).

    Each example is met once per epoch; an incomplete batch is left out.  A pure function of (seed, epoch, step).  N is the
    length of the longest row, rounded up to a multiple of the split's ``round``.
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
            order = torch.randperm(len(self.split), generator=generator)
            if self.split.pool > 1:
                order = self.sorted_in_pools(order, generator)
            self.order = epoch, order
        return rows(self.split, self.order[1][step * self.batch_size : (step + 1) * self.batch_size])

    def sorted_in_pools(self, order: Tensor, generator: torch.Generator) -> Tensor:
        """The same examples, those of ``pool`` batches at a time sorted by length, and the batches in random order."""
        order, lengths = order[: self.steps * self.batch_size], self.split.lengths
        pools = order.split(self.split.pool * self.batch_size)
        batches = torch.cat([pool[lengths[pool].argsort(stable=True)] for pool in pools]).view(self.steps, -1)
        return batches[torch.randperm(self.steps, generator=generator)].flatten()


def rows(split: TaskSplit, index: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and labels of these rows, cut to the longest of them; ``index`` int64 on the CPU."""
    longest = math.ceil(split.lengths[index].max().item() / split.round) * split.round
    index = index.to(split.tokens.device, non_blocking=True)
    return split.tokens[index, :longest], split.labels[index]


@torch.no_grad()
def evaluate_task(model: nn.Module, split: TaskSplit, batch_size: int = 250, precision: str = "fp32", **masks) -> dict[str, float]:
    """``{"accuracy", "loss"}`` of a classifier on a split, and of two classes "matthews"; ``masks`` are handed to the model.

    Matthews' correlation is that of the guessed with the true classes: 0 where a model always says the same, 1 where it is
    always right; GLUE judges CoLA by it.  Rows are taken by length, which wastes least on padding.  The model is evaluated where it is and keeps its mode.
    """
    device, mode = next(model.parameters()).device, model.training
    model.eval()
    loss = torch.zeros((), device=device)
    guessed = torch.empty_like(split.labels, device=device)
    classes = 0
    for index in split.lengths.argsort(stable=True).split(batch_size):
        tokens, labels = (part.to(device) for part in rows(split, index))
        with autocast(device, precision):
            logits = model(tokens, **masks).float()
        guessed[index.to(device)], classes = logits.argmax(1), logits.shape[1]
        loss = loss + F.cross_entropy(logits, labels, reduction="sum")
    model.train(mode)
    truth = split.labels.to(device)
    found = {"accuracy": (guessed == truth).sum().item() / len(split), "loss": loss.item() / len(split)}
    return found | ({"matthews": matthews(guessed, truth)} if classes == 2 else {})


def matthews(guessed: Tensor, truth: Tensor) -> float:
    """Correlation of two int64 [n] of zeros and ones; 0 where one of them does not vary."""
    guessed, truth = guessed.double() - guessed.double().mean(), truth.double() - truth.double().mean()
    spread = float(guessed.square().sum() * truth.square().sum()) ** 0.5
    return float((guessed * truth).sum()) / spread if spread else 0.0


def sst2_task(tokenizer: Tokenizer, special: Special, context: int, train: int | None = None) -> Task:
    """SST-2; ``train``: the first so many of its shuffled train rows, None: all.  Longer rows are cut to the context.

    Raises :class:`lib.data.files.DataMissing` naming the three ways to supply it.
    """
    reviews = sst2.load()
    chosen = (reviews.train[:train], reviews.validation, reviews.test)
    splits = (packed([(text, None, label) for text, label in part], tokenizer, special, context) for part in chosen)
    return Task("sst2", 2, reviews.variant, *splits)


def sentence_task(name: str, tokenizer: Tokenizer, special: Special, context: int, train: int | None = None) -> Task:
    """CoLA or TREC, with the arguments of :func:`sst2_task`.

    Raises :class:`lib.data.files.DataMissing` naming the ways to supply it.
    """
    read = sentences.load(name)
    splits = (
        packed([(text, None, label) for text, label in part], tokenizer, special, context)
        for part in (read.train[:train], read.validation, read.test)
    )
    return Task(name, SENTENCE_TASKS[name], read.variant, *splits)


def packed(examples: Sequence[Example], tokenizer: Tokenizer, special: Special, context: int) -> TaskSplit:
    """These examples as tokens; what is too long loses its end."""
    return padded(
        [
            (tokens if len(tokens) <= context else tokens[: context - 1] + [special.sep], label)
            for tokens, label in encoded(examples, tokenizer, special)
        ],
        special,
    )


def encoded(examples: Sequence[Example], tokenizer: Tokenizer, special: Special) -> list[tuple[list[int], int]]:
    """[CLS] a [SEP], or [CLS] a [SEP] b [SEP].  Texts begin with a space, as sentences inside a story do."""
    firsts = tokenizer.encode_batch_fast([" " + first for first, _, _ in examples])
    seconds = iter(tokenizer.encode_batch_fast([" " + second for _, second, _ in examples if second is not None]))
    return [
        ([special.cls, *first.ids, special.sep] + ([] if second is None else [*next(seconds).ids, special.sep]), label)
        for first, (_, second, label) in zip(firsts, examples)
    ]


def padded(examples: list[tuple[list[int], int]], special: Special) -> TaskSplit:
    lengths = torch.tensor([len(tokens) for tokens, _ in examples])
    longest = math.ceil(lengths.max().item() / ROUND) * ROUND
    tokens = torch.full((len(examples), longest), special.pad)
    for row, (ids, _) in zip(tokens, examples):
        row[: len(ids)] = torch.tensor(ids)
    return TaskSplit(tokens, lengths, torch.tensor([label for _, label in examples]))
