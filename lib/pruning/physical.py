"""Removing what masks have emptied: whole channels go, and a smaller dense network is left.

    silence(model, masks)                              # empty filters say nothing: changes the function a little
    smaller = remove(model, masks, shape=(3, 32, 32))  # the same function as before, with fewer channels

Torch-Pruning's dependency graph knows which layers share a channel.  What masks leave in sparse layers is kept in
compressed rows or blocks by :mod:`lib.pruning.sparse`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lib.pruning.mask import attach, bake, layers
from lib.system.checks import require

NORMS = (nn.modules.batchnorm._BatchNorm,)


def remove(model: nn.Module, masks: Mapping[str, Tensor], shape: tuple[int, ...]) -> nn.Module:
    """A smaller plain network in evaluation mode that computes what the masked ``model`` computes in it.

    shape: of one input, without the batch.  A channel goes when nothing that survives reads it, or when it is always zero:
    all its weights are masked, and its bias, or its batch norm's gain and shift, are zero.  (One whose batch norm still
    shifts it sends on a constant, which near a zero-padded border no bias can replace: see :func:`silence`.)  Where that
    leaves further channels unread, they go too.  Each layer keeps one at least.  A network whose config has ``with_widths``
    comes back as an instance of its class with a config of its own; another, such as a ResNet, as the thinned modules.

    ``model`` is left as it is.  Raises ValueError for grouped convolutions.
    """
    smaller = bake(attach(copy.deepcopy(model), masks)).eval().requires_grad_()
    require(
        all(layer.groups == 1 for layer in layers(smaller).values() if isinstance(layer, nn.Conv2d)),
        "channels of grouped convolutions cannot be removed one by one",
    )
    while True:
        graph, removed = dependencies(smaller, shape), False
        for group in list(graph.get_all_groups(root_module_types=(nn.Conv2d, nn.Linear))):
            gone = idle(group)[:-1] if len(idle(group)) == width(group) else idle(group)
            if gone:
                graph.get_pruning_group(group[0].dep.target.module, group[0].dep.handler, idxs=gone).prune()
                removed = True
        if not removed:
            return rebuilt(smaller)


def silence(model: nn.Module, masks: Mapping[str, Tensor], shape: tuple[int, ...]) -> nn.Module:
    """Set bias, gain and shift to zero, in place, where no weight of a filter survives; :func:`remove` then takes it out.

    It changes what the network computes by those constants, so it belongs before the last fine-tuning, or before
    :func:`lib.training.batch_norm.reestimate`.  The last layer's biases stay.  Returns ``model``.
    """
    plain = bake(copy.deepcopy(model)).eval().requires_grad_()
    graph, own = dependencies(plain, shape), dict(model.named_modules())
    names = {module: name for name, module in plain.named_modules()}
    readers = {
        names[group[0].dep.target.module]: len(consumers(group))
        for group in (
            graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, idxs=[0])
            for layer in layers(plain).values()
        )
    }
    with torch.no_grad():
        for name, mask in masks.items():
            empty = ~mask.flatten(1).any(1)
            if not readers[name]:
                continue
            follower = [node.module for node in graph.module2node[dict(plain.named_modules())[name]].outputs]
            for module in (own[name], *(own[names[norm]] for norm in follower if isinstance(norm, NORMS))):
                if isinstance(module, NORMS):
                    module.weight[empty] = 0
                if module.bias is not None:
                    module.bias[empty] = 0
    return model


def dependencies(model: nn.Module, shape: tuple[int, ...]):
    import torch_pruning  # imported here, so that pruned networks are loaded and run without it

    example = torch.zeros(1, *shape, device=next(model.parameters()).device)
    with torch.enable_grad():  # it finds out by autograd which layer reads which
        return torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)


def producers(group) -> list:
    """The group's items that are layers whose output channels these are."""
    return [item for item in group if isinstance(item.dep.target.module, (nn.Conv2d, nn.Linear)) and writes(item)]


def consumers(group) -> list:
    """The group's items that are layers whose input channels these are."""
    return [item for item in group if isinstance(item.dep.target.module, (nn.Conv2d, nn.Linear)) and not writes(item)]


def writes(item) -> bool:
    return item.dep.handler.__name__ == "prune_out_channels"


def width(group) -> int:
    return len(group[0].idxs)


@torch.no_grad()
def idle(group) -> list[int]:
    """Channels of a group, by its first layer's numbers, that no surviving weight reads or that are always zero."""
    if not consumers(group):
        return []  # the network's outputs
    unread, mute = torch.ones(width(group), dtype=torch.bool), torch.ones(width(group), dtype=torch.bool)
    norms = [item for item in group if isinstance(item.dep.target.module, NORMS)]
    for item in consumers(group):
        reads = item.dep.target.module.weight.transpose(0, 1).flatten(1).ne(0).any(1).cpu()
        for channel, place in zip(item.root_idxs, item.idxs):
            unread[channel] &= ~reads[place]
    for item in producers(group):
        layer = item.dep.target.module
        speaks = layer.weight.flatten(1).ne(0).any(1).cpu()
        if layer.bias is not None and not norms:
            speaks |= layer.bias.ne(0).cpu()
        for channel, place in zip(item.root_idxs, item.idxs):
            mute[channel] &= ~speaks[place]
    for item in norms:
        norm = item.dep.target.module
        speaks = norm.weight.ne(0).cpu() | norm.bias.ne(0).cpu()
        for channel, place in zip(item.root_idxs, item.idxs):
            mute[channel] &= ~speaks[place]
    return (unread | mute).nonzero()[:, 0].tolist()


def rebuilt(smaller: nn.Module) -> nn.Module:
    """The same network from a config that says its widths, where its config can."""
    if not hasattr(getattr(smaller, "config", None), "with_widths"):
        return smaller
    *hidden, _ = [layer.weight.shape[0] for layer in layers(smaller).values()]
    fresh = type(smaller)(smaller.config.with_widths(tuple(hidden))).to(next(smaller.parameters()).device)
    fresh.load_state_dict(smaller.state_dict())
    return fresh.eval()
