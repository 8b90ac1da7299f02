"""Units that only their own block sees, and networks without some of them.

    scores = importance(model, batches)                # {block: [units]}
    smaller = without(model, strongest(scores, keep=0.5))

They are the hidden units of a vision transformer's FFNs, and the channels between the two convolutions of a residual block.
Nothing else reads them, so they go without a trace: what is left is a network of the same class with a config of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.models.resnet import ResNet
from lib.models.vit import ViT
from lib.moe.ffn import Mlp
from lib.pruning.mask import gradients
from lib.system.checks import require
from lib.training.losses import Loss, classification_loss


@dataclass(frozen=True)
class Inner:
    """The layers around one block's units, by name: which writes them, which reads them, and a norm in between, if any."""

    writes: str
    reads: str
    along: str | None = None


def inner_layers(model: nn.Module) -> dict[str, Inner]:
    """By block.  Raises ValueError for a network that has no such blocks, such as one with experts everywhere."""
    if isinstance(model, ViT):
        found = {
            f"blocks.{n}": Inner(f"blocks.{n}.ffn.fc1", f"blocks.{n}.ffn.fc2")
            for n, block in enumerate(model.blocks)
            if isinstance(block.ffn, Mlp)
        }
    elif isinstance(model, ResNet):
        found = {f"blocks.{n}": Inner(f"blocks.{n}.conv1", f"blocks.{n}.conv2", f"blocks.{n}.bn1") for n in range(len(model.blocks))}
    else:
        found = {}
    require(found, f"a {type(model).__name__} has no units that only their own block sees: give a dense ViT or a ResNet")
    return found


def importance(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss = classification_loss(), inner: Mapping[str, Inner] | None = None
) -> dict[str, Tensor]:
    """For each block the squared change of the loss when a unit goes, to first order, [units], mean over the batches.

    A gate on each unit's output has the gradient Σ w · ∂L/∂w over the weights that read it (Molchanov et al. 2019, arXiv
    1906.10771).  The model stays as it is.  inner: the layers around the units, None for :func:`inner_layers`.
    Raises ValueError without batches.
    """
    model, found, count = copy.deepcopy(model).train().requires_grad_(), {}, 0
    inner = inner_layers(model) if inner is None else inner
    weights = {block: model.get_submodule(layers.reads).weight.detach() for block, layers in inner.items()}
    for inputs, targets in batches:
        count += 1
        slopes = gradients(model, lambda: loss(model, inputs, targets)[0])
        for block, layers in inner.items():
            gate = (weights[block] * slopes[layers.reads]).transpose(0, 1).flatten(1).sum(1)
            found[block] = found.get(block, 0.0) + gate.square()
    require(count, "importance needs at least one batch of inputs and targets")
    return {block: total / count for block, total in found.items()}


def strongest(scores: Mapping[str, Tensor], keep: float) -> dict[str, Tensor]:
    """Of each block the share ``keep`` of its units with the highest scores, one at least: places [kept], ascending.

    The same share in every block.  Raises ValueError for a share out of (0, 1].
    """
    return {
        block: score.argsort(descending=True, stable=True)[: kept_units(len(score), keep)].sort().values for block, score in scores.items()
    }


def kept_units(units: int, keep: float) -> int:
    require(0 < keep <= 1, f"keep is {keep}: it must be a share of the units in (0, 1]")
    return max(1, round(keep * units))


@torch.no_grad()
def without(model: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
    """A copy with only these units of the named blocks; it computes what ``model`` does with the others' outputs at zero.

    Keeps the mode.  Raises ValueError for masks or codebooks on the way: bake them first.
    """
    inner = inner_layers(model)
    require(
        not any(hasattr(module, "parametrizations") for module in model.modules()),
        "the network has masks or codebooks: removing units would not find them, so bake them first",
    )
    state = dict(model.state_dict())
    for block, places in kept.items():
        layers = inner[block]
        for owner in filter(None, (layers.writes, layers.along)):
            state |= {
                f"{owner}.{name}": tensor.index_select(0, places)
                for name, tensor in model.get_submodule(owner).state_dict().items()
                if tensor.ndim
            }
        reads = f"{layers.reads}.weight"
        state[reads] = state[reads].index_select(1, places)
    widths = tuple(len(kept[block]) if block in kept else whole for block, whole in zip(blocks(model), widths_of(model)))
    field = "hidden" if isinstance(model, ViT) else "inner"
    smaller = type(model)(replace(model.config, **{field: widths})).to(next(model.parameters()).device)
    smaller.load_state_dict(state)
    return smaller.train(model.training)


def blocks(model: nn.Module) -> list[str]:
    return [f"blocks.{n}" for n in range(len(model.blocks))]


def widths_of(model: ViT | ResNet) -> tuple[int, ...]:
    """Units of each block, first to last."""
    return model.config.widths if isinstance(model, ViT) else model.config.inner_by_block
