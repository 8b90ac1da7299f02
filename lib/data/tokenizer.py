"""Byte-level byte-pair encoding: trained on the stories themselves, or GPT-2's own.

A token stands for a run of bytes (Sennrich et al., arXiv 1508.07909; on bytes: Radford et al. 2019,
section 2.2), so any text can be encoded and decoding gives it back exactly.  The work is done by the
package ``tokenizers``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from lib.data.files import DataMissing, data_folders
from lib.data.formats import DataDamaged
from lib.data.parts import all_or_none
from lib.system.checks import require

#: The token that ends each story.  It stands for no bytes of text.
END = "<|endoftext|>"

#: 256 bytes and the end of the story.
SMALLEST_VOCABULARY = 257

#: This size means GPT-2's encoding, whose end token comes last.
GPT2_VOCABULARY = 50_257

#: Stories that are handed to the encoder at once.
CHUNK = 4_096


def train_tokenizer(stories: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of exactly ``vocabulary`` tokens: the end token (0), 256 bytes, and the merges learnt here.

    The same stories give the same tokenizer.  Text is first cut into words by GPT-2's pattern, and no token
    crosses a cut.  Raises ValueError for fewer than 257 tokens and for more than these stories can give.
    """
    check_vocabulary(vocabulary)
    tokenizer = _byte_level(models.BPE())
    tokenizer.train_from_iterator(
        stories,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=[END], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    found = tokenizer.get_vocab_size()
    require(
        found == vocabulary,
        f"these stories give a vocabulary of at most {found} tokens (every word is one token "
        f"then): ask for {found} or fewer, not {vocabulary}",
    )
    return tokenizer


def check_vocabulary(vocabulary: int) -> None:
    """Raises ValueError for fewer tokens than there are bytes, and for more than GPT-2's."""
    require(
        SMALLEST_VOCABULARY <= vocabulary <= GPT2_VOCABULARY,
        f"vocabulary is {vocabulary}: it must lie between {SMALLEST_VOCABULARY} (256 bytes and the end of a story) "
        f"and {GPT2_VOCABULARY} (which means GPT-2's own encoding)",
    )


def gpt2_files() -> tuple[Path, ...] | None:
    """``gpt2/vocab.json`` and ``gpt2/merges.txt`` in the first data folder that has any, or None.

    Raises :class:`lib.data.parts.Incomplete` where one of them is missing.
    """
    names = ("vocab.json", "merges.txt")
    for folder in data_folders():
        home = folder / "gpt2"
        if all_or_none(home, [(home / name).is_file() for name in names], names):
            return tuple(home / name for name in names)
    return None


def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's encoding, 50,257 tokens (Radford et al. 2019), from its two files in a data folder.

    Raises :class:`lib.data.files.DataMissing` when there are none, :class:`lib.data.formats.DataDamaged`
    when they cannot be read.
    """
    files = gpt2_files()
    if files is None:
        raise DataMissing(
            f"vocabulary={GPT2_VOCABULARY} means GPT-2's encoding, whose files gpt2/vocab.json and gpt2/merges.txt are "
            "not on this machine. Supply them in one of three ways:\n"
            "  1. set the environment variable BOOK_DATA to a folder that holds them;\n"
            "  2. put them into the folder data/cache/ of the book (from huggingface.co/openai-community/gpt2);\n"
            "  3. do without them: any smaller vocabulary is trained on the stories themselves."
        )
    try:
        tokenizer = _byte_level(models.BPE.from_file(*map(str, files)))
    except Exception as error:  # the package raises bare Exception for a bad file
        raise DataDamaged(
            f"{files[0].parent} does not hold GPT-2's vocab.json and merges.txt ({error}): put fresh copies in their place."
        ) from error
    tokenizer.add_special_tokens([END])
    if tokenizer.get_vocab_size() != GPT2_VOCABULARY:
        raise DataDamaged(
            f"{files[0]} has {tokenizer.get_vocab_size()} tokens, GPT-2's has {GPT2_VOCABULARY}: put a fresh copy in its place."
        )
    return tokenizer


def restore(saved: str) -> Tokenizer:
    """A tokenizer from its ``to_str()``."""
    return _end_is_text(Tokenizer.from_str(saved))


def encode_stories(tokenizer: Tokenizer, stories: Sequence[str]) -> Tensor:
    """All stories in one stream, each followed by the end token: int32 ``[T]``."""
    end, chunks = [tokenizer.token_to_id(END)], []
    for start in range(0, len(stories), CHUNK):
        encoded = tokenizer.encode_batch_fast(stories[start : start + CHUNK])
        chunks.append(np.concatenate([np.array(one.ids + end, dtype=np.int32) for one in encoded]))
    return torch.from_numpy(np.concatenate(chunks))


def token_bytes(tokenizer: Tokenizer) -> Tensor:
    """How many bytes of text each token stands for, int64 ``[V]``; none for the end token."""
    # In a byte-level vocabulary each byte is spelt as one printable character.
    lengths = [0] * tokenizer.get_vocab_size()
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if token == END else len(token)
    return torch.tensor(lengths)


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _end_is_text(tokenizer)


def _end_is_text(tokenizer: Tokenizer) -> Tokenizer:
    """ "<|endoftext|>" spelt out in a story is text like any other, and never the end token."""
    tokenizer.encode_special_tokens = True
    return tokenizer
