"""Pre-trained transformers, through the library ``transformers``: MiniLM-L6, an encoder, and SmolLM2-135M, a decoder.

    loaded = load("smollm2")             # loaded.model, .tokenizer, .variant, .fingerprint
    loaded = tiny("smollm2", tokenizer)  # the same architecture, small and random, for tests and quick runs

Their linear layers are ``nn.Linear``, so masks and quantizers work on them as on the book's own networks.
:mod:`lib.models.pretrained_files` finds the files.  ``pip install -e '.[language]'`` installs what this needs.
"""

from __future__ import annotations

import importlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from types import ModuleType

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from lib.models.pretrained_files import PRETRAINED, Found, files
from lib.runs.results import Unavailable
from lib.system.checks import one_of, require

#: The small ones: as many heads per layer as there are, all else a fraction.
TINY = {
    "minilm": dict(num_hidden_layers=2, num_attention_heads=12, hidden_size=48, intermediate_size=96, max_position_embeddings=128),
    "smollm2": dict(
        num_hidden_layers=2,
        num_attention_heads=9,
        num_key_value_heads=3,
        hidden_size=72,
        intermediate_size=96,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    ),
}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in fp32 and evaluation mode on the CPU, its tokenizer, and which variant of the weights it has."""

    name: str
    model: nn.Module
    tokenizer: Tokenizer
    variant: str
    fingerprint: str

    @property
    def provenance(self) -> dict[str, str]:
        """What a result records of the model it began with."""
        return {"name": self.name, "variant": self.variant, "fingerprint": self.fingerprint}


def load(name: str, architecture: str | None = None, **config) -> Loaded:
    """The pre-trained model of this name, "minilm" or "smollm2".

    architecture: another class of transformers to put around it, such as "BertForSequenceClassification"; layers that
    the file lacks are drawn from torch's global generator.  config: changed settings, such as ``num_labels=2``.
    Raises ValueError for an unknown name, and :class:`lib.runs.results.Unavailable` where the model, or a package that reads
    it, is missing.
    """
    one_of("name", name, PRETRAINED)
    library = transformers()
    found = files(PRETRAINED[name])
    gguf = gguf_file(found)
    with quiet():
        made = getattr(library, architecture or PRETRAINED[name].architecture)
        model = made.from_pretrained(found.folder, **gguf, dtype=torch.float32, local_files_only=True, **config)
        if gguf:
            read = library.AutoTokenizer.from_pretrained(found.folder, **gguf, local_files_only=True)
            tokenizer = read.backend_tokenizer
        else:
            tokenizer = Tokenizer.from_file(str(found.folder / "tokenizer.json"))
    # Files may ask for cut and padded texts; here, whoever makes batches decides.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Loaded(name, prepared(model), tokenizer, found.variant, found.fingerprint)


def tiny(name: str, tokenizer: Tokenizer, architecture: str | None = None, seed: int = 0, **config) -> Loaded:
    """A small model of the same architecture with random weights, for any tokenizer.  Looks for no files.

    architecture, config: as of :func:`load`.
    """
    one_of("name", name, PRETRAINED)
    library = transformers()
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        made = getattr(library, architecture or PRETRAINED[name].architecture)
        model = made(made.config_class(vocab_size=tokenizer.get_vocab_size(), **TINY[name] | config))
    return Loaded(name, prepared(model), tokenizer, f"tiny, random weights of seed {seed}", f"tiny-{seed}")


def prepared(model: nn.Module) -> nn.Module:
    """For evaluation, and without a cache of keys and values, which calibration would fill twice."""
    model.config.use_cache = False
    return model.eval()


def blocks(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks, first to last, of one of these models, with or without a head, or of the book's own GPT.

    Raises ValueError for a model that has none where they are looked for.
    """
    body = getattr(model, "base_model", model)
    parts = (submodule(body, path) for path in ("layers", "encoder.layer", "blocks"))
    found = next((part for part in parts if part is not None), None)
    require(isinstance(found, nn.ModuleList), f"a {type(model).__name__} has no transformer blocks that are known")
    return found


def submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


class Logits(nn.Module):
    """A language model of transformers as the book's own are: tokens [B, N] to logits [B, N, V]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens_BN: Tensor) -> Tensor:
        return self.model(tokens_BN).logits


def gguf_file(found: Found) -> dict[str, str]:
    """The argument by which transformers reads a GGUF file.  Raises Unavailable where a package for it is missing."""
    names = [path.name for path in found.paths if path.suffix == ".gguf"]
    if names:
        for package in ("gguf", "accelerate"):
            imported(package)
    return {"gguf_file": names[0]} if names else {}


def transformers() -> ModuleType:
    return imported("transformers")


def imported(package: str) -> ModuleType:
    """By name: optional, and slow to import."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise Unavailable(f"{package} is not installed ({error}): pip install -e '.[language]'") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and notes on new layers, which would end in a chapter's output, off the screen."""
    loggers = {logging.getLogger(name): logging.ERROR for name in ("transformers", "torch.utils._pytree")}
    levels = {logger: logger.level for logger in loggers}
    for logger, level in loggers.items():
        logger.setLevel(level)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
