"""A trained network as it is stored: no masks, no batch norm, and nothing that cannot reach the output.

Batch norm in evaluation mode is one multiplication and one addition per channel.  They are not put into the weights, which
would then have a value of their own in each channel, and no small codebook.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.models.whitened_cnn import WhitenedCNN


class Affine(nn.Module):
    """x ↦ scale · x + shift, channel by channel [C], of x [B, C, …]: what is left of batch norm."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        each = (1, -1) + (1,) * (x.ndim - 2)
        return x * self.scale.view(each) + self.shift.view(each)


@torch.no_grad()
def fold(model: nn.Module, image_shape: Sequence[int]) -> nn.Module:
    """A copy in evaluation mode, on the CPU, that computes what ``model`` does, in its smallest terms.

    Masks and codebooks become plain weights; each batch norm becomes an :class:`Affine`, which also takes up the bias of the
    layer before it; scales and shifts that have no effect become zero (:func:`trim`), and so does every -0.
    image_shape: of one image, (channels, height, width).  ``model`` stays as it is.
    What has no effect is found where activations are ReLUs and poolings are modules.  Of others nothing is found: a vision
    transformer's layer norms let every channel act on every other, and a whitened CNN's maxima hide paths.
    """
    model = baked(copy.deepcopy(model).cpu().eval())
    if not named(model, nn.LayerNorm):
        fold_norms(model, image_shape)
        if not isinstance(model, WhitenedCNN):
            trim(model, image_shape)
    for parameter in model.parameters():
        parameter.add_(0.0)  # -0 + 0 = 0
    return model


def fold_norms(model: nn.Module, image_shape: Sequence[int]) -> None:
    """Put an :class:`Affine` in the place of each batch norm and, into its shift, of the bias before it."""
    before = producers(model, image_shape)
    for name, norm in named(model, nn.modules.batchnorm._BatchNorm):
        affine = Affine(norm.num_features)
        gain = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
        affine.scale.copy_(gain / (norm.running_var + norm.eps).sqrt())
        affine.shift.copy_(-norm.running_mean * affine.scale + (0.0 if norm.bias is None else norm.bias))
        if name in before and before[name].bias is not None:
            affine.shift.add_(before[name].bias * affine.scale)
            before[name].bias.zero_()
        replace_module(model, name, affine)


def unfilled(model: nn.Module) -> nn.Module:
    """The same modules that :func:`fold` gives, in place, for weights that are loaded afterwards."""
    for name, norm in named(model, nn.modules.batchnorm._BatchNorm):
        replace_module(model, name, Affine(norm.num_features))
    return model.eval()


@torch.no_grad()
def halved(model: nn.Module) -> nn.Module:
    """A copy with each parameter rounded to 16-bit floating point, still held in 32 bits, so that a file needs 16.

    Raises ValueError for a parameter beyond 65,504.
    """
    model = copy.deepcopy(model)
    for name, parameter in model.named_parameters():
        rounded = parameter.half().float()
        if not rounded.isfinite().all():
            raise ValueError(f"{name} holds a number beyond 65504, which 16 bits cannot: keep this network at 32 bits")
        parameter.copy_(rounded + 0.0)  # a zero without a sign: a file of few weights holds no zeros, so none of its sign either
    return model


def baked(model: nn.Module) -> nn.Module:
    """Every parametrization (masks, codebooks) replaced by what it gives, in place.

    ``parametrize.remove_parametrizations`` changes the module's class, which a deep copy shares with its original: there it
    would take the weights away.
    """
    for module in [module for module in model.modules() if parametrize.is_parametrized(module)]:
        values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))
    return model


def producers(model: nn.Module, image_shape: Sequence[int]) -> dict[str, nn.Module]:
    """For each batch norm, by name, the linear or convolutional layer whose output it is given, if it is one's."""
    made: dict[int, tuple[Tensor, nn.Module]] = {}
    found: dict[str, nn.Module] = {}

    def note_norm(name: str):
        def hook(norm, inputs) -> None:
            if id(inputs[0]) in made:
                found[name] = made[id(inputs[0])][1]

        return hook

    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: made.update({id(output): (output, layer)}))
        for _, layer in named(model, (nn.Linear, nn.Conv2d))
    ]
    hooks += [norm.register_forward_pre_hook(note_norm(name)) for name, norm in named(model, nn.modules.batchnorm._BatchNorm)]
    model(torch.zeros(1, *image_shape))
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def trim(model: nn.Module, image_shape: Sequence[int]) -> None:
    """Zero, in place, what has no effect: a scale whose channel is given nothing but zeros, and scales, shifts and biases of
    channels from which no path of weights leads to the output.

    Paths are counted on a copy with 1 for each weight that is not zero and averages for maxima, so that none can cancel or
    hide.  The last layer's bias always counts.
    """
    fed, reaching = paths(model, image_shape)
    for name, affine in named(model, Affine):
        affine.scale[~(fed[name] & reaching[f"{name}.shift"])] = 0
        affine.shift[~reaching[f"{name}.shift"]] = 0
    for name, layer in named(model, (nn.Linear, nn.Conv2d)):
        if layer.bias is not None:
            layer.bias[~reaching[f"{name}.bias"]] = 0


def paths(model: nn.Module, image_shape: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Which channels of each affine are fed, and which shifts and biases (by parameter name) reach the output."""
    count = copy.deepcopy(model).double()
    fed: dict[str, Tensor] = {}
    for name, pool in named(count, nn.MaxPool2d):
        replace_module(count, name, nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode))
    for parameter_name, parameter in count.named_parameters():
        kind = parameter_name.rpartition(".")[2]
        parameter.copy_((parameter != 0).double())
        if kind == "weight":
            parameter.div_(parameter.flatten(1).sum(1).max().clamp(min=1))  # or counts would overflow
        if kind == "scale":
            parameter.fill_(1)
    hooks = [
        affine.register_forward_pre_hook(
            lambda affine, inputs, name=name: fed.update(
                {name: inputs[0].detach().flatten(2).amax(2)[0] > 0 if inputs[0].ndim > 2 else inputs[0].detach()[0] > 0}
            )
        )
        for name, affine in named(count, Affine)
    ]
    with torch.enable_grad():
        places = {name: p for name, p in count.named_parameters() if name.endswith((".shift", ".bias"))}
        output = count(torch.ones(1, *image_shape, dtype=torch.float64)).sum()
        gradients = torch.autograd.grad(output, list(places.values()))
    for hook in hooks:
        hook.remove()
    return fed, {name: gradient > 0 for name, gradient in zip(places, gradients)}


def named(model: nn.Module, kinds) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
