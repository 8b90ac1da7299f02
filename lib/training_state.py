"""The state of unfinished training in one file: tensors as safetensors, the rest as JSON in its header.

One file, because it can be replaced in one step: a reader finds the state of one epoch or of another,
never half of each.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

FILE = "training.safetensors"


def save(folder: Path, tensors: dict[str, Tensor], record: dict) -> None:
    """Write ``tensors`` and ``record`` (JSON data) to ``folder``, atomically, over what was there."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / FILE, folder / f"{FILE}.part-{os.getpid()}"
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part,
                  metadata={"record": json.dumps(record)})
        with open(part, "rb+") as file:  # on disk before the rename, or a power cut could leave zeros
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(folder: Path) -> tuple[dict[str, Tensor], dict] | None:
    """What :func:`save` wrote, on the CPU; None when there is nothing.  A damaged file is set aside."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()["record"])
            return {name: file.get_tensor(name) for name in file.keys()}, record
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        set_aside(folder, f"it cannot be read ({error})")
        return None


def set_aside(folder: Path, why: str) -> None:
    """Rename the state to ``*.damaged`` and say so; the training it belonged to starts again."""
    path = folder / FILE
    aside = path.with_name(f"{FILE}.damaged")
    os.replace(path, aside)
    print(f"training state set aside as {aside}: {why}; training starts from the beginning", file=sys.stderr)


def tensors_of(model: nn.Module, optimizers: list[Optimizer], average: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything training needs to go on, under names that say what it is.  Tied weights appear once."""
    tensors = {f"model.{name}": tensor for name, tensor in untied(model).items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{name}": value
                        for name, value in state.items() if isinstance(value, Tensor)}
    return tensors


@torch.no_grad()
def restore(tensors: dict[str, Tensor], model: nn.Module, optimizers: list[Optimizer],
            average: dict[str, Tensor]) -> None:
    """Put what :func:`tensors_of` gave back.  Raises ValueError, before anything changes, if it does not fit."""
    wanted = {f"model.{name}": tensor for name, tensor in untied(model).items()}
    wanted |= {f"average.{name}": tensor for name, tensor in average.items()}
    stored = {name: tensor for name, tensor in tensors.items() if name.startswith(("model.", "average."))}
    if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in stored.items()}:
        raise ValueError("written for another model")
    for name, tensor in wanted.items():
        tensor.copy_(stored[name])

    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimizer.{number}."):
                index, kind = name.split(".")[2:]
                state.setdefault(int(index), {})[kind] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        # The file holds plain row-major tensors; fused kernels walk moments and weights in memory order,
        # so moments of channels_last weights must be laid out as these are.
        for parameter, moments in optimizer.state.items():
            for kind, value in moments.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    moments[kind] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def untied(model: nn.Module) -> dict[str, Tensor]:
    """The model's state, each piece of memory under its first name only."""
    first: dict[tuple, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            key = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (name,)
            first.setdefault(key, (name, tensor))
    return dict(first.values())
