"""A ViT in one file: its weights and, in the file's header, the configuration to build it from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_model

from lib.models.vit import ViT, ViTConfig
from lib.moe.layer import MoEConfig


def save_vit(model: ViT, path: Path) -> int:
    """Write a safetensors file and return its size in bytes."""
    save_model(model, str(path), metadata={"vit": json.dumps(asdict(model.config))})
    return Path(path).stat().st_size


def load_vit(path: Path, device: torch.device | str = "cpu") -> ViT:
    """The model of a file that :func:`save_vit` wrote, in evaluation mode.

    Raises FileNotFoundError, and ValueError for a damaged file, one of another kind or of another version.  No network is built that
    the file has no weights for, so that a header cannot ask for more memory or time than the file's own size.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(str(path), "pt", device=str(device)) as file:
            written = (file.metadata() or {}).get("vit")
            if written is None:
                raise ValueError(f"{path} does not say how to build its model: write it with lib.models.vit_file.save_vit")
            config = fitting_config(written, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    model = ViT(config).to(device)
    model.load_state_dict(state)
    return model.eval()


def fitting_config(written: str, shapes: dict[str, tuple[int, ...]]) -> ViTConfig:
    """Return the configuration in a header.  Raises ValueError unless its network has just the file's tensors, by name and shape."""
    fields = json.loads(written)
    values = sum(math.prod(shape) for shape in shapes.values())
    if not isinstance(fields, dict) or any(number > values for number in whole_numbers(fields)):
        raise ValueError(f"its configuration does not fit a file of {values:,} weights")
    # Each layer has tensors of its own, and each takes time to build, even where it takes no memory.
    if not isinstance(depth := fields.get("depth", 0), int) or depth > len(shapes):
        raise ValueError(f"it says that it has {depth} layers, and holds {len(shapes)} tensors")
    try:
        config = config_of(fields)
        with torch.device("meta"):
            wanted = {name: tuple(tensor.shape) for name, tensor in ViT(config).state_dict().items()}
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"its configuration is of no network ({error})") from error
    if wanted != shapes:
        name = next(iter(sorted(wanted.items() ^ shapes.items())))[0]
        raise ValueError(f"its configuration does not fit its weights: {name} is {shapes.get(name)} in the file, not {wanted.get(name)}")
    return config


def whole_numbers(value: Any) -> Iterator[int]:
    """Every whole number in nested JSON data."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from whole_numbers(part)


def config_of(fields: dict) -> ViTConfig:
    """A :class:`ViTConfig` from its fields as JSON gives them back: lists for tuples, dictionaries for mixtures.

    Raises ValueError for a field that is not known here.
    """

    def plain(value):
        if isinstance(value, list):
            return tuple(plain(item) for item in value)
        return MoEConfig(**value) if isinstance(value, dict) else value

    try:
        return ViTConfig(**{name: plain(value) for name, value in fields.items()})
    except TypeError as error:
        raise ValueError(f"written by another version of this library: {error}") from error
