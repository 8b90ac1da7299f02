"""Named tensors and a little JSON in one safetensors file, under a checksum over all of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.system.whole_file import replacing


class Unreadable(ValueError):
    """The file is not what was written: cut short, changed, or something else; the message names it."""


def write(path: Path, tensors: Mapping[str, Tensor], record: Any = None) -> None:
    """Write ``tensors`` (copied to the CPU) and ``record`` (JSON data), replacing ``path`` in one step.

    Raises :class:`lib.system.whole_file.NoRoom` where the disk is full.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record)
    with replacing(path) as part:
        save(plain, part, {"record": text, "sha256": checksum(plain, text)})


def save(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write one file of safetensors.  Raises OSError where the operating system did, which safetensors hides."""
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except SafetensorError as error:
        raise as_os_error(error, path) from error


def read(path: Path, needs_checksum: bool = True) -> tuple[dict[str, Tensor], Any]:
    """What :func:`write` wrote, on the CPU.

    needs_checksum: False lets files of safetensors pass that have none, as earlier versions of the book wrote them.
    Raises FileNotFoundError and :class:`Unreadable`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        text = about.get("record", "null")
        if "sha256" in about or needs_checksum:
            if about.get("sha256") != checksum(tensors, text):
                raise Unreadable(f"{path} does not fit its checksum" if "sha256" in about else f"{path} has no checksum")
        return tensors, json.loads(text)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, RecursionError, ValueError, TypeError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"{path} cannot be read ({error})") from error


def checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """sha256 over the text and every tensor's name, type, shape and bytes, in the order of names."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def as_os_error(error: SafetensorError, path: Path) -> Exception:
    """safetensors hides what the operating system said in its text."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), str(error), str(path)) if number else error
