"""A cache of tokens on disk, so that text is read and encoded once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from torch import Tensor

from lib.data.files import cache_folders
from lib.runs import tensor_file
from lib.system.whole_file import replacing


@dataclass(frozen=True, eq=False)
class Encoded:
    """Three splits as int32 tokens ``[T]`` with their bytes and stories, and the tokenizer's ``to_str()``."""

    train: Tensor
    validation: Tensor
    test: Tensor
    bytes: tuple[int, ...]
    stories: tuple[int, ...]
    tokenizer: str
    variant: str

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the sha256 of the tokenizer and all tokens."""
        digest = hashlib.sha256(self.tokenizer.encode())
        for tokens in (self.train, self.validation, self.test):
            digest.update(repr(len(tokens)).encode())
            digest.update(tokens.contiguous().numpy().data)
        return digest.hexdigest()[:16]


def read(name: str) -> Encoded | None:
    """The encoded splits in the cache file of this name; None when there is none or it is damaged."""
    from safetensors import SafetensorError, safe_open

    for folder in cache_folders():
        try:
            with safe_open(folder / name, framework="pt") as file:
                about = file.metadata() or {}
                # clone: the tensors are windows into the file, which may be replaced while they are in use.
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
            notes = json.loads(about["about"])
            encoded = Encoded(**tensors, **notes | {key: tuple(notes[key]) for key in ("bytes", "stories")})
            if encoded.fingerprint == about["fingerprint"]:
                return encoded
        except (OSError, SafetensorError, TypeError, KeyError, ValueError):  # absent, cut short, or other fields
            continue
    return None


def write(name: str, encoded: Encoded) -> None:
    """Write atomically into the first cache folder that can be written; nothing happens where none can."""
    fields = asdict(encoded)
    tensors = {key: fields.pop(key) for key in ("train", "validation", "test")}
    about = {"about": json.dumps(fields), "fingerprint": encoded.fingerprint}
    for path in (folder / name for folder in cache_folders()):
        try:
            with replacing(path) as part:
                tensor_file.save({key: tensor.contiguous() for key, tensor in tensors.items()}, part, about)
                part.chmod(0o644)  # safetensors makes it private; others who share the checkout may read it
            return
        except OSError:
            continue
