"""The language models that are compressed, with the text that they are judged by and calibrated on."""

from __future__ import annotations

import copy
import functools
import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_model
from tokenizers import Tokenizer
from torch import Tensor, nn

from lib.data import passages
from lib.data.formats import DataDamaged, DataMissing
from lib.models.pretrained import Loaded, Logits, blocks, load
from lib.runs.results import Unavailable
from lib.runs.store import Session
from lib.studies.base.corpora import available_text
from lib.studies.language.gpt import LanguageGPT, bigram_loss, drawn, spread, unigram_loss, windows_of

#: Characters of each text that are turned into tokens for calibration: 250,000 tokens or so.
CALIBRATION_CHARACTERS = 1_000_000

#: Windows of the GPT that are read at once.
AT_ONCE = 16


@dataclass(eq=False)
class Subject:
    """A language model to change in place: tokens [B, N] to logits [B, N, V].

    ``windows_WN``  test tokens.  ``calibration``: batches [B, N] of other text.  ``simple_loss``: nats per token of a model of one
    or two tokens, ``simple`` says which.  ``data``: what a result records
    """

    model: nn.Module
    windows_WN: Tensor
    calibration: list[Tensor]
    tokenizer: Tokenizer
    prompt: str
    simple: str
    simple_loss: float
    data: dict

    @property
    def blocks(self) -> nn.ModuleList:
        return blocks(self.model.model if isinstance(self.model, Logits) else self.model)


@dataclass(frozen=True)
class PretrainedLM:
    """SmolLM2, judged on WikiText-2's test split in windows of ``context`` tokens, calibrated on ``calibration`` windows of ``length``.

    Windows are spread evenly over the test split.  Calibration text is drawn from children's books.
    """

    name: str = "smollm2"
    context: int = 1024
    windows: int = 8
    calibration: int = 8
    length: int = 512

    #: As tables call it; no field, so no part of an address.
    title: ClassVar[str] = "SmolLM2"

    def subject(self, session: Session, seed: int) -> Subject:
        loaded = loaded_once(self.name)
        try:
            (test_T, test_mark), (train_T, train_mark) = tokens_of("wikitext", self.name), tokens_of("books", self.name)
        except (DataDamaged, DataMissing) as error:
            raise Unavailable(str(error)) from error
        windows_WN = spread(test_T, self.context, self.windows)
        mark = hashlib.sha256(f"{test_mark} {train_mark} {loaded.fingerprint}".encode()).hexdigest()[:16]
        data = {
            "name": "wikitext2",
            "variant": f"raw test split; calibrated on children's books; SmolLM2 from {loaded.variant}",
            "fingerprint": mark,
            "model": loaded.fingerprint,
            "test_tokens": len(test_T),
        }
        batches = [window[None] for window in drawn(train_T, self.length, self.calibration, seed)]
        return Subject(
            Logits(copy.deepcopy(loaded.model)).to(session.device),
            windows_WN.to(session.device),
            [batch.to(session.device) for batch in batches],
            loaded.tokenizer,
            "The city of Paris is the capital of France. It is known for",
            "unigram",
            unigram_loss(windows_WN),
            data,
        )


@functools.lru_cache(1)
def loaded_once(name: str) -> Loaded:
    """The model as it was read, for several runs in a row; copy it before you change it."""
    return load(name)


@functools.lru_cache(2)
def tokens_of(text: str, name: str) -> tuple[Tensor, str]:
    """The test text, or the first part of the calibration text, as tokens of this model, and the mark of its file."""
    content, mark = passages.wikitext() if text == "wikitext" else passages.books("train")
    content = content if text == "wikitext" else content[:CALIBRATION_CHARACTERS]
    return torch.tensor(loaded_once(name).tokenizer.encode(content).ids), mark


@dataclass(frozen=True)
class OwnLM:
    """The GPT that ``gpt`` trains, with the seed of the run it is compressed in, judged on windows of its own test split.

    ``context``  tokens of a window; its calibration windows are as long and come from the training stories
    """

    gpt: LanguageGPT = field(default_factory=LanguageGPT)
    windows: int = 64
    calibration: int = 64

    title: ClassVar[str] = "our GPT"

    def trained(self, seed: int) -> LanguageGPT:
        return replace(self.gpt, seed=seed)

    def subject(self, session: Session, seed: int) -> Subject:
        spec = self.trained(seed)
        text = available_text(spec.corpus, session.device)
        model = spec.network(text.vocabulary)
        load_model(model, str(session.weights(spec)))
        windows_WN = windows_of(text, spec.context, self.windows)
        batches = drawn(text.train.tokens, spec.context, self.calibration, seed).split(AT_ONCE)
        return Subject(
            model.to(session.device).eval(),
            windows_WN,
            list(batches),
            text.tokenizer,
            "Once upon a time, there was a little",
            "bigram",
            bigram_loss(text.train.tokens, windows_WN, text.vocabulary),
            text.provenance(),
        )


@torch.no_grad()
def losses(model: nn.Module, windows_WN: Tensor, at_once: int) -> list[float]:
    """Nats per token of each window: the mean over its tokens 2 … N, each predicted from all before it in the window."""
    found = []
    for part_BN in windows_WN.split(at_once):
        logits_BNV = model(part_BN)[:, :-1].float()
        nats_BN = (
            F.cross_entropy(logits_BNV.transpose(1, 2), part_BN[:, 1:], reduction="none")
            if at_once > 1
            else (F.cross_entropy(logits_BNV[0], part_BN[0, 1:], reduction="none")[None])
        )  # without a copy of the logits
        found += nats_BN.double().mean(1).tolist()
    return found


@torch.no_grad()
def continued(subject: Subject, tokens: int) -> str:
    """The prompt and what the model makes of it, always the likeliest token."""
    ids = subject.tokenizer.encode(subject.prompt).ids
    text_BN = torch.tensor([ids], device=subject.windows_WN.device)
    for _ in range(tokens):
        text_BN = torch.cat([text_BN, subject.model(text_BN[:, -subject.windows_WN.shape[1] :])[:, -1:].argmax(-1)], dim=1)
    return subject.tokenizer.decode(text_BN[0].tolist())


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begin
