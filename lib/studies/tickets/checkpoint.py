"""A downloaded checkpoint in the place of the pre-training that the small scales do themselves: MiniLM-L6.

:class:`CheckpointRun` offers what :class:`lib.studies.tickets.pretrain.PretrainRun` does: a source of words, a geometry, a
network that is loaded, and one of the same shape with random weights.  All later Specs take either.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

import torch
from tokenizers import Tokenizer
from torch import Tensor

from lib.data.masked_lm import Special
from lib.data.passages import books
from lib.data.tasks import SENTENCE_TASKS, Task, sentence_task, sst2_task
from lib.measure import cost as measure
from lib.models import pretrained
from lib.models.encoder import Encoder, EncoderConfig, MaskedLM
from lib.models.encoder_pretrained import as_masked_lm, config_of, special_last
from lib.pruning.mask import prunable
from lib.runs.results import Outcome, Unavailable, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.system.checks import one_of, require

#: Layers and heads in each, of the checkpoints by name.
SHAPES = {"minilm": (6, 12)}


@dataclass(frozen=True)
class Checkpoint:
    """Which checkpoint of :mod:`lib.models.pretrained`, and how its texts are cut into batches.

    ``context``  tokens of a text at most, special ones included
    ``pool``     batches whose rows are sorted by length together
    ``passages`` of children's books, at even distances, for tickets of masked words
    """

    name: str = "minilm"
    context: int = 64
    pool: int = 50
    passages: int = 4_000

    def __post_init__(self) -> None:
        one_of("name", self.name, SHAPES)
        require(self.context >= 8 and self.pool >= 1, f"context is {self.context} and pool {self.pool}: give at least 8 and 1")

    @property
    def tokenizer(self) -> Tokenizer:
        return opened(self.name)[1]

    @property
    def vocabulary(self) -> int:
        """Tokens without the four special ones."""
        return self.tokenizer.get_vocab_size() - 4

    @property
    def enders(self) -> tuple[int, ...]:
        """The tokens after which a sentence may begin."""
        return tuple(number for token in '.!?"' if (number := self.tokenizer.token_to_id(token)) is not None)

    @property
    def special(self) -> Special:
        return Special.after(self.vocabulary)

    def streams(self) -> tuple[list[Tensor], dict[str, str | int]]:
        """Children's books in this checkpoint's tokens, passages ended by a separator, and what they are.

        int64 [T] each for train, validation and test; the last two are halves of the books that are held out.
        Raises :class:`lib.data.files.DataMissing` where they are not on this machine.
        """
        texts, marks = {}, []
        for split in ("train", "validation"):
            text, mark = books(split)
            texts[split], marks = text.split("\n\n"), [*marks, mark]
        held_out = texts["validation"]
        few = texts["train"][:: max(1, len(texts["train"]) // self.passages)]
        parts = (few, held_out[: len(held_out) // 2], held_out[len(held_out) // 2 :])
        separator = [self.special.sep]
        streams = [torch.tensor([n for e in self.tokenizer.encode_batch_fast(part) for n in [*e.ids, *separator]]) for part in parts]
        about = {"name": "children's books", "variant": f"{len(few)} passages", "fingerprint": "-".join(marks)}
        return streams, about | {"train_tokens": len(streams[0])}

    def task(self, name: str, train: int) -> Task:
        """A task of single sentences in this checkpoint's tokens; ``train`` is the most examples.

        Raises :class:`lib.runs.results.Unavailable` for a task that is made from stories, and
        :class:`lib.data.files.DataMissing` for missing data.
        """
        if name not in SENTENCE_TASKS:
            raise Unavailable(f"the task {name!r} is made from stories: of a checkpoint's, choose among {', '.join(SENTENCE_TASKS)}")
        make = sst2_task if name == "sst2" else lambda *rest: sentence_task(name, *rest)
        task = make(self.tokenizer, self.special, self.context, train)
        return replace(task, train=replace(task.train, pool=self.pool, round=1))


@lru_cache(maxsize=2)
def opened(name: str) -> tuple[pretrained.Loaded, Tokenizer, Tensor]:
    """A checkpoint, its tokenizer with the special tokens last, and the order of its words in that; read once per process.

    Raises :class:`lib.runs.results.Unavailable` where it, or a package that reads it, is missing.
    """
    loaded = pretrained.load(name)
    return loaded, *special_last(loaded.tokenizer)


@dataclass(frozen=True, kw_only=True)
class CheckpointRun(Spec):
    """Load a checkpoint into the book's encoder, and say how far both differ on a text."""

    experiment: ClassVar[str] = "tickets-checkpoint"

    source: Checkpoint = field(default_factory=Checkpoint)

    @property
    def builds_on(self) -> tuple[Spec, ...]:
        return ()

    @property
    def geometry(self) -> EncoderConfig:
        return config_of(opened(self.source.name)[0].model, self.source.context)

    @property
    def pad(self) -> int:
        """The token that only fills up rows."""
        return self.source.special.pad

    def run(self, session: Session) -> Outcome:
        (loaded, _, order), model = opened(self.source.name), self.load(session).cpu()
        tokens = torch.randint(self.source.vocabulary, (4, self.source.context), generator=torch.Generator().manual_seed(self.seed))
        with torch.no_grad():
            theirs = loaded.model(order[tokens]).last_hidden_state
            differ = (model.encoder(tokens) - theirs).abs().max() / theirs.abs().max()
        metrics = {
            "parameters": measure.parameters(loaded.model),
            "difference": float(differ),
            "prunable": sum(weight.numel() for weight in prunable(model.encoder).values()),
        }
        return Outcome(significant(metrics), data=loaded.provenance)

    def untrained(self, seed: int) -> MaskedLM:
        """A model of this geometry with random weights."""
        torch.manual_seed(seed)
        return MaskedLM(Encoder(self.geometry))

    def load(self, session: Session) -> MaskedLM:
        """The checkpoint, in evaluation mode; its heads for words and for pairs of texts are random, the same each time."""
        loaded, _, order = opened(self.source.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = as_masked_lm(loaded.model, order, self.source.context)
        return model.to(session.device).eval()
