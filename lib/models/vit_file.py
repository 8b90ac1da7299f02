"""A ViT in one file: its weights and, in the file's header, the configuration to build it from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

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

    Raises FileNotFoundError, and ValueError for a damaged file, one of another kind or of another version.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(str(path), "pt", device=str(device)) as file:
            written = (file.metadata() or {}).get("vit")
            if written is None:
                raise ValueError(f"{path} does not say how to build its model: write it with lib.models.vit_file.save_vit")
            state = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    model = ViT(config_of(json.loads(written))).to(device)
    model.load_state_dict(state)
    return model.eval()


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
