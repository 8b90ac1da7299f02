"""Optimisers and which parameters each of them gets."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from lib.training.muon import Muon

OPTIMIZERS = ("adamw", "sgd", "muon")

#: Kernels that update all tensors in one launch exist for these.
FUSED = ("cpu", "cuda", "mps", "xpu")


def build(
    model: nn.Module, kind: str, *, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999), momentum: float = 0.9
) -> list[Optimizer]:
    """Optimisers that together own every trainable parameter of ``model`` once.

    "adamw": decoupled weight decay (arXiv 1711.05101).  "sgd": Nesterov momentum, weight decay as an L2
    gradient.  "muon": orthogonalised momentum (:mod:`lib.training.muon`) for the weights of hidden layers, see
    :func:`hidden_weights`, and AdamW without weight decay for all else; one ``lr`` serves both.
    """
    if kind not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {kind!r}: use one of {', '.join(OPTIMIZERS)}")
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("the model has no trainable parameter")
    fused = all(p.device.type in FUSED for _, p in named)
    optimizers: list[Optimizer] = []

    if kind == "sgd":
        groups = decay_groups(named, weight_decay)
        optimizers.append(torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused))
    else:
        matrices = hidden_weights(model) if kind == "muon" else set()
        rest = [(name, p) for name, p in named if p not in matrices]
        if rest:
            decay = 0.0 if matrices else weight_decay
            optimizers.append(torch.optim.AdamW(decay_groups(rest, decay), lr=lr, betas=betas, fused=fused))
        if matrices:
            chosen = [p for _, p in named if p in matrices]
            optimizers.append(Muon(chosen, lr=lr, weight_decay=weight_decay, momentum=momentum))
    return optimizers


def set_lr(optimizers: list[Optimizer], factor: float) -> None:
    """Every group's learning rate becomes ``factor`` times the one it was built with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])


def decay_groups(named: list[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict]:
    """Two parameter groups: with weight decay, and without it (see :func:`decays`); empty ones left out."""
    kept = [p for name, p in named if decays(name, p)]
    free = [p for name, p in named if not decays(name, p)]
    groups = [{"params": kept, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay makes sense: not for biases, norms' gains, scalars, positions and class tokens.

    Vectors are told by their shape.  Biases of stacked experts are matrices [E, h] and positions are
    matrices [N, d]; both are told by their names: ``b_…``, ``…bias…``, ``pos…``, ``cls…``, ``class_token…``.
    """
    parts = name.split(".")
    bias = parts[-1].startswith("b_") or "bias" in parts[-1]
    place = any(part.startswith(("pos", "cls", "class_token")) for part in parts)
    return parameter.ndim > 1 and not bias and not place


def hidden_weights(model: nn.Module) -> set[nn.Parameter]:
    """Weights that Muon may have: of linear layers, convolutions and stacked experts inside the network.

    Also those behind a mask (parametrized).  Embeddings, a head tied to one, layers called ``head`` or ``classifier``,
    and what reads pixels stay with AdamW, as its author advises.
    """
    embedded = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    found = set()
    for name, module in model.named_modules():
        if {"head", "lm_head", "classifier"} & set(name.split(".")):
            continue
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            if torch.nn.utils.parametrize.is_parametrized(module, "weight"):
                found.add(module.get_parameter("parametrizations.weight.original"))
            else:
                found.add(module.weight)
        else:
            found |= {p for own, p in module.named_parameters(recurse=False) if p.ndim == 3 and decays(own, p)}  # experts
    return {p for p in found - embedded if p.requires_grad and not reads_pixels(p)}


def reads_pixels(weight: nn.Parameter) -> bool:
    """Whether this is a convolution of an image's one or three channels."""
    return weight.ndim == 4 and weight.shape[1] in (1, 3)
