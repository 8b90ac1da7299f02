"""The state of unfinished training in one file: tensors as safetensors, the rest as JSON in its header.

One file, because it can be replaced in one step: a reader finds the state of one epoch or of another,
never half of each.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.runs import tensor_file

FILE = "training.safetensors"


def save(folder: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write ``tensors`` and ``record`` (JSON data) to ``folder``, in one step, over what was there."""
    tensor_file.write(folder / FILE, tensors, record)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What :func:`save` wrote, on the CPU; None when there is nothing.  A damaged file is set aside."""
    try:
        return tensor_file.read(folder / FILE)
    except FileNotFoundError:
        return None
    except tensor_file.Unreadable as error:
        set_aside(folder, str(error))
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
            tensors |= {f"optimizer.{number}.{index}.{name}": value for name, value in state.items() if isinstance(value, Tensor)}
    return tensors


@torch.no_grad()
def restore(tensors: dict[str, Tensor], model: nn.Module, optimizers: list[Optimizer], average: dict[str, Tensor]) -> None:
    """Put what :func:`tensors_of` gave back.  Raises ValueError, before anything changes, if it does not fit."""
    wanted = {f"model.{name}": tensor for name, tensor in untied(model).items()}
    wanted |= {f"average.{name}": tensor for name, tensor in average.items()}
    stored = {name: tensor for name, tensor in tensors.items() if name.startswith(("model.", "average."))}
    if {n: (t.shape, t.dtype) for n, t in wanted.items()} != {n: (t.shape, t.dtype) for n, t in stored.items()}:
        raise ValueError("written for another model")
    kept = ("model.", "average.", "optimizer.")
    if spoilt := [
        name for name, tensor in tensors.items() if name.startswith(kept) and tensor.is_floating_point() and tensor.isnan().any()
    ]:
        raise ValueError(f"{spoilt[0]} holds NaN")
    states = optimizer_states(tensors, optimizers)

    for name, tensor in wanted.items():
        tensor.copy_(stored[name])
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        # The file holds plain row-major tensors; fused kernels walk moments and weights in memory order,
        # so moments of channels_last weights must be laid out as these are.
        for parameter, moments in optimizer.state.items():
            for kind, value in moments.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    moments[kind] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def optimizer_states(tensors: dict[str, Tensor], optimizers: list[Optimizer]) -> list[dict[int, dict[str, Tensor]]]:
    """What each optimiser remembers: parameter number → kind → tensor.

    Raises ValueError unless each is of a parameter that is there, a scalar or of that parameter's shape, and all
    parameters of an optimiser have the same kinds.
    """
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, value in tensors.items():
        if not name.startswith("optimizer."):
            continue
        words = name.split(".")
        if len(words) != 4 or not (words[1] + words[2]).isdecimal() or int(words[1]) >= len(optimizers):
            raise ValueError(f"{name} belongs to no optimiser here")
        number, index, kind = int(words[1]), int(words[2]), words[3]
        parameters = [p for group in optimizers[number].param_groups for p in group["params"]]
        if index >= len(parameters) or (value.numel() != 1 and value.shape != parameters[index].shape):
            raise ValueError(f"{name} fits no parameter")
        states[number].setdefault(index, {})[kind] = value
    for number, state in enumerate(states):
        if len({frozenset(kinds) for kinds in state.values()}) > 1:
            raise ValueError(f"optimiser {number} remembers different things of different parameters")
    return states


def untied(model: nn.Module) -> dict[str, Tensor]:
    """The model's state, each piece of memory under its first name only."""
    first: dict[tuple[Any, ...], tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            key = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (name,)
            first.setdefault(key, (name, tensor))
    return dict(first.values())
