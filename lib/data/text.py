"""Story data sets as tokens on the device: loading, splits, batches, bits per byte.

    text = load_text("grammar", vocabulary=512, device=device)
    batches = TextBatches(text.train, context=128, batch_size=32, steps=100, seed=0)
    inputs, targets = batches.batch(epoch=0, step=0)          # int64 [B, N] each, targets one token ahead
    evaluate_text(model, text.validation, context=128)        # {"loss": nats per token, "bits_per_byte": ...}

``grammar`` is made here (:mod:`lib.data.grammar`) and its floor in bits per byte is known exactly; ``tinystories``
(Eldan and Li, arXiv 2305.07759) is found or downloaded by :mod:`lib.data.text_files`.  Losses per token cannot
be compared across vocabularies; bits per byte can.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import tokenizers
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from lib.data import grammar, stories, text_cache, text_files
from lib.data.files import DataMissing
from lib.data.formats import DataDamaged
from lib.data.images import UnknownDataset
from lib.data.text_cache import Encoded
from lib.data.text_files import Texts
from lib.data.tokenizer import (
    END,
    GPT2_VOCABULARY,
    check_vocabulary,
    encode_stories,
    gpt2_files,
    gpt2_tokenizer,
    restore,
    token_bytes,
    train_tokenizer,
)
from lib.system.checks import did_you_mean, require
from lib.system.precision import autocast

#: Names that :func:`load_text` knows.
TEXT_NAMES = ("grammar", "tinystories")

#: Stories of the grammar: for training unless told otherwise, and in each of validation and test.
GRAMMAR_TRAIN, GRAMMAR_HELD_OUT = 4_000, 400

#: A tokenizer is trained on so many train stories at most: more of them change its merges little.
TOKENIZER_STORIES = 50_000


@dataclass(frozen=True, eq=False)
class TextSplit:
    """A stream of ``stories`` stories, each followed by the end token: int64 ``[T]``.

    ``bytes``: UTF-8 bytes of their text; end tokens stand for none.  ``token_bytes`` int64 ``[V]``: how
    many bytes each token of the vocabulary stands for, so that ``token_bytes[tokens].sum() == bytes``.
    """

    tokens: Tensor
    bytes: int
    stories: int
    token_bytes: Tensor

    def to(self, device: torch.device | str) -> TextSplit:
        return replace(self, tokens=self.tokens.to(device), token_bytes=self.token_bytes.to(device))


@dataclass(frozen=True, eq=False)
class TextSet:
    """One text data set in three disjoint splits.

    ``variant`` says which form of the data this is, ``fingerprint`` is a short sha256 of the tokenizer and
    all tokens.  ``entropy``: the lowest expected loss in bits per byte where that is known, else None; see
    :attr:`lib.data.grammar.Grammar.floor`.
    """

    name: str
    variant: str
    fingerprint: str
    tokenizer: Tokenizer
    vocabulary: int
    train: TextSplit
    validation: TextSplit
    test: TextSplit
    entropy: float | None = None

    @property
    def end(self) -> int:
        """The token that ends each story; begin a new story with it."""
        return cast(int, self.tokenizer.token_to_id(END))  # every tokenizer here has it

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def decode(self, tokens: list[int]) -> str:
        """The text; end tokens are spelt out."""
        return self.tokenizer.decode(tokens, skip_special_tokens=False)

    def to(self, device: torch.device | str) -> TextSet:
        return replace(self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device))

    def provenance(self) -> dict[str, Any]:
        """What a result records about its data: sizes are stories."""
        return {
            "name": self.name,
            "variant": self.variant,
            "fingerprint": self.fingerprint,
            "vocabulary": self.vocabulary,
            "train": self.train.stories,
            "validation": self.validation.stories,
            "test": self.test.stories,
            "train_tokens": len(self.train.tokens),
        }


def load_text(name: str, vocabulary: int, device: torch.device | str = "cpu", train_stories: int | None = None) -> TextSet:
    """Load ``"grammar"`` or ``"tinystories"`` as tokens onto ``device``.

    ``vocabulary``: tokens of a byte-level BPE trained on the train stories; 50257 means GPT-2's own.
    ``train_stories`` keeps the first so many train stories.  Of the grammar there are any number (4,000 if
    not told).  The tokenizer does not depend on it: it sees the first 4,000 stories of the grammar, or the
    first 50,000 of TinyStories at most.

    Splits: the grammar's come from different seeds, so that they overlap only by chance; TinyStories' are
    described in :func:`lib.data.text_files.read`.  Tokens are kept in a cache, keyed by the contents of what
    they were made from.

    Raises :class:`UnknownDataset`, :class:`DataMissing` (naming the three ways to supply the data),
    :class:`DataDamaged` (naming the file), ValueError for an impossible ``vocabulary`` or ``train_stories``.
    """
    check_name(name)
    check_vocabulary(vocabulary)
    require(train_stories is None or train_stories >= 1, f"train_stories must be at least 1, got {train_stories}")
    if name == "grammar":
        floor, source = grammar.story_grammar().floor, _digest(Path(grammar.__file__), Path(stories.__file__))
        read = partial(_told_stories, max(train_stories or 0, GRAMMAR_TRAIN))
        kept, seen = train_stories or GRAMMAR_TRAIN, GRAMMAR_TRAIN
    else:
        files = text_files.find() or text_files.download()
        floor, source, read = None, files.digest, partial(text_files.read, files)
        kept, seen = train_stories, TOKENIZER_STORIES
    encoded = _encoded(name, source, read, vocabulary, kept, seen)
    tokenizer = restore(encoded.tokenizer)
    widths = token_bytes(tokenizer)
    train, validation, test = (
        TextSplit(tokens.long(), size, count, widths)
        for tokens, size, count in zip((encoded.train, encoded.validation, encoded.test), encoded.bytes, encoded.stories, strict=True)
    )
    return TextSet(name, encoded.variant, encoded.fingerprint, tokenizer, vocabulary, train, validation, test, floor).to(device)


def check_name(name: str) -> None:
    """Raises :class:`UnknownDataset`, with the nearest name, for a text data set that the book does not know."""
    if name not in TEXT_NAMES:
        hint = did_you_mean(name.lower().replace("-", "").replace("_", ""), TEXT_NAMES)
        raise UnknownDataset(f"There is no text data set {name!r}.{hint} Known: {', '.join(TEXT_NAMES)}.")


def find_text() -> list[dict[str, Any]]:
    """Where each text data set stands on this machine, like :func:`lib.data.images.find_data`.  Downloads nothing."""
    made = {
        "name": "grammar",
        "found": True,
        "where": "the book",
        "variant": "made by a grammar",
        "notes": f"floor {grammar.story_grammar().floor:.4f} bits per byte",
    }
    tiny = {"name": "tinystories", "found": False, "where": None, "variant": None, "notes": ""}
    gpt2 = {
        "name": "gpt2",
        "found": False,
        "where": None,
        "variant": None,
        "notes": "for vocabulary=50257: gpt2/ with vocab.json, merges.txt",
    }
    try:
        if encoding := gpt2_files():
            gpt2 |= {"found": True, "where": str(encoding[0].parent), "variant": "GPT-2's encoding", "notes": ""}
        if files := text_files.find():
            counts = text_files.rows(files.train), text_files.rows(files.validation)
            tiny |= {"found": True, "where": str(files.folder), "variant": text_files.variant(*counts)}
        else:
            tiny["notes"] = "downloaded with the package datasets (1 GB), or supply tinystories/ with train.parquet and validation.parquet"
    except (DataMissing, DataDamaged) as error:
        tiny["notes"] = str(error)
    return [made, tiny, gpt2]


def _told_stories(train: int) -> Texts:
    told = grammar.story_grammar().sample
    return Texts(
        *(
            [story.text for story in told(count, split)]
            for split, count in (("train", train), ("validation", GRAMMAR_HELD_OUT), ("test", GRAMMAR_HELD_OUT))
        ),
        variant="made by a grammar",
    )


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _encoded(name: str, source: str, read: Callable[[], Texts], vocabulary: int, kept: int | None, seen: int) -> Encoded:
    """From the cache, or by reading, training the tokenizer on the first ``seen`` stories, encoding ``kept``."""
    key = ["1", source, tokenizers.__version__, vocabulary, kept, seen]  # "1": the layout of the cache file
    if vocabulary == GPT2_VOCABULARY and (files := gpt2_files()):
        key.append(_digest(*files))
    cached = f"tokens/{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.safetensors"
    if (encoded := text_cache.read(cached)) is not None:
        return encoded
    tokenizer = gpt2_tokenizer() if vocabulary == GPT2_VOCABULARY else None
    texts = read()
    require(kept is None or kept <= len(texts.train), f"train_stories must lie between 1 and {len(texts.train)} for {name}, got {kept}")
    tokenizer = tokenizer or train_tokenizer(texts.train[:seen], vocabulary)
    splits = (texts.train[:kept], texts.validation, texts.test)
    encoded = Encoded(
        *(encode_stories(tokenizer, split) for split in splits),
        bytes=tuple(sum(len(story.encode()) for story in split) for split in splits),
        stories=tuple(map(len, splits)),
        tokenizer=tokenizer.to_str(),
        variant=texts.variant,
    )
    text_cache.write(cached, encoded)
    return encoded


class TextBatches:
    """Random windows of ``context`` tokens from one split, gathered on the split's device.

    ``batch(epoch, step)`` depends on (seed, epoch, step) and nothing else.  Windows begin anywhere, also
    inside a story, and may overlap.  All random numbers come from the CPU, so that each device sees the
    same batches.  ``steps`` per epoch is what the caller wants an epoch to be.

    Raises ValueError for sizes below 1 and for a context that does not fit into the split.
    """

    def __init__(self, split: TextSplit, context: int, batch_size: int, steps: int, seed: int = 0) -> None:
        require(
            min(context, batch_size, steps) >= 1, f"context={context}, batch_size={batch_size} and steps={steps} must each be at least 1"
        )
        require(
            context < len(split.tokens),
            f"context={context} needs {context + 1} tokens, this split has {len(split.tokens)}: choose a shorter context or more stories",
        )
        self.split, self.context, self.batch_size, self.steps, self.seed = split, context, batch_size, steps, seed
        self._window = torch.arange(context + 1, device=split.tokens.device)
        self._starts: tuple[int, Tensor] | None = None

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Inputs int64 ``[B, N]`` and targets int64 ``[B, N]``: at each place the token that comes next.

        Raises IndexError for a step outside the epoch.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} lies outside the epoch's {self.steps} steps")
        tokens = self.split.tokens[self._epoch_starts(epoch)[step, :, None] + self._window]
        return tokens[:, :-1], tokens[:, 1:]

    def _epoch_starts(self, epoch: int) -> Tensor:
        """The windows' first tokens ``[steps, B]``, copied to the device once per epoch."""
        if self._starts is None or self._starts[0] != epoch:
            starts = torch.stack(
                [
                    torch.randint(
                        len(self.split.tokens) - self.context, (self.batch_size,), generator=_generator("windows", self.seed, epoch, step)
                    )
                    for step in range(self.steps)
                ]
            )
            self._starts = epoch, starts.to(self.split.tokens.device)
        return self._starts[1]


def _generator(*key: str | int) -> torch.Generator:
    """A CPU generator seeded by the whole key: neighbouring seeds, epochs and steps share nothing."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@torch.no_grad()
def evaluate_text(
    model: nn.Module, split: TextSplit, context: int, batch_size: int = 64, precision: str = "fp32", tokens: int | None = None
) -> dict[str, float]:
    """``{"loss", "bits_per_byte"}`` of a language model on ``split``, or on its first ``tokens`` tokens.

    The split, preceded by an end token as every story is, is cut into windows of ``context`` tokens that do
    not overlap, and each token is predicted once, from those before it in its window: the first token of a
    window from the one before the window alone.  So the loss is a little above what a longer memory gives.
    ``loss``: nats per predicted token, end tokens included.  ``bits_per_byte``: the sum of these nats / ln 2
    / UTF-8 bytes that the predicted tokens stand for; end tokens cost nats and stand for no bytes.

    The model, ``[B, N]`` to logits ``[B, N, V]``, is evaluated where it is and keeps its mode.  Raises
    ValueError for an unknown precision, and for a context longer than what is evaluated.
    """
    require(tokens is None or tokens >= 1, f"tokens must be at least 1, got {tokens}")
    targets = split.tokens[:tokens]
    require(1 <= context <= len(targets), f"context={context} must lie between 1 and the {len(targets)} tokens to predict")
    # The split's last token is the end token.
    inputs = torch.cat([split.tokens[-1:], targets[:-1]])
    whole = len(targets) // context * context
    batches = list(zip(inputs[:whole].view(-1, context).split(batch_size), targets[:whole].view(-1, context).split(batch_size)))
    if whole < len(targets):
        batches.append((inputs[None, whole:], targets[None, whole:]))
    device, mode = next(model.parameters()).device, model.training
    model.eval()
    sums = []
    for inputs_BN, targets_BN in batches:
        with autocast(device, precision):
            logits = model(inputs_BN.to(device)).float()
        sums.append(F.cross_entropy(logits.flatten(0, 1), targets_BN.to(device).flatten(), reduction="sum"))
    model.train(mode)
    nats = math.fsum(torch.stack(sums).tolist())
    read = split.bytes if len(targets) == len(split.tokens) else split.token_bytes[targets].sum().item()
    return {"loss": nats / len(targets), "bits_per_byte": nats / math.log(2) / read}
