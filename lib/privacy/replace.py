"""AutoReP on a whole network: replacing its ReLUs, training weights and masks together, and keeping to a budget."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.hinton import distillation
from lib.privacy.activation import MaskedReLU
from lib.privacy.mask import best, indicator
from lib.system.checks import require

#: Softness of the teacher's probabilities in the authors' code.
TEMPERATURE = 4.0


def relu_shapes(model: nn.Module, image_shape: Sequence[int]) -> dict[str, tuple[int, int, int]]:
    """Shape [C, H, W] of what each ``nn.ReLU`` of the model works on, by its name, in the order of computation.

    image_shape: of one image, without the batch.  Raises ValueError for a module that is used twice: its positions could not be
    told apart.
    """
    shapes: dict[str, tuple[int, int, int]] = {}

    def note(name: str) -> Callable:
        def hook(module, inputs, output) -> None:
            require(name not in shapes, f"{name} is used more than once: give each ReLU a module of its own")
            shapes[name] = tuple(output.shape[1:])

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
    mode, parameter = model.training, next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
    return shapes


def relu_count(model: nn.Module, image_shape: Sequence[int]) -> int:
    """ReLU operations for one image: what a budget is a part of."""
    return sum(torch.Size(shape).numel() for shape in relu_shapes(model, image_shape).values())


def replaced(
    model: nn.Module, image_shape: Sequence[int], kind: str = "quadratic", threshold: float = 0.0, trained: bool = True
) -> nn.Module:
    """A copy of the network with a :class:`MaskedReLU` for each ReLU, all of them still ReLUs.  ``model`` stays as it is."""
    model = copy.deepcopy(model)
    device = next(model.parameters()).device
    for name, shape in relu_shapes(model, image_shape).items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, MaskedReLU(shape, kind, threshold, trained).to(device))
    return model


def masked_relus(model: nn.Module) -> list[MaskedReLU]:
    return [module for module in model.modules() if isinstance(module, MaskedReLU)]


def density(model: nn.Module) -> Tensor:
    """Share of the ReLUs that are left; its gradient reaches the scores."""
    layers = masked_relus(model)
    return sum(indicator(layer.score, layer.mask).sum() for layer in layers) / sum(layer.mask.numel() for layer in layers)


@torch.no_grad()
def calibrate(model: nn.Module, batches: Sequence[Tensor]) -> None:
    """Set the statistics, and the coefficients by them, from images through the network as it stands."""
    layers = masked_relus(model)
    seen: dict[MaskedReLU, list[Tensor]] = {layer: [] for layer in layers}

    def note(layer, inputs) -> None:
        x = inputs[0].float()
        seen[layer].append(torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]))

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    model.eval()
    for images in batches:
        model(images)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        mean, square = torch.stack(seen[layer]).mean(0)
        layer.mean.copy_(mean)
        layer.std.copy_((square - mean.square()).clamp(min=0).sqrt())
        layer.set_coefficients()


def replacement_loss(teacher: nn.Module, budget: int, penalty: float, temperature: float = TEMPERATURE):
    """A loss for :func:`lib.training.loop.fit`: CE + T² KL(teacher ‖ student) + penalty · relu(density - budget / all ReLUs).

    As in the authors' code; the paper writes its equation 5 with the L0 norm of the masks.  No penalty once the masks are
    frozen.  Logs ``train_accuracy`` and ``density``.
    """
    teacher.eval()

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            taught = teacher(inputs).float()
        logits = model(inputs).float()
        labels = targets if targets.ndim == 1 else targets.argmax(-1)
        layers = masked_relus(model)
        share = density(model)
        total = F.cross_entropy(logits, targets) + distillation(logits, taught, temperature)
        if not layers[0].frozen:
            total = total + penalty * F.relu(share - budget / sum(layer.mask.numel() for layer in layers))
        return total, {"train_accuracy": (logits.detach().argmax(-1) == labels).float().mean(), "density": share.detach()}

    return loss


def follow(budget: int, moving: int) -> Callable[[nn.Module, int], None]:
    """The hook for :func:`lib.training.loop.fit`: masks follow their scores for ``moving`` steps, then the best ``budget`` stay for good."""

    def after_step(model: nn.Module, step: int) -> None:
        layers = masked_relus(model)
        if step < moving:
            for layer in layers:
                layer.update()
        elif step == moving:
            # A ReLU in place counts more than any score: hysteresis keeps some whose score is lower.
            for layer, mask in zip(layers, best([layer.score + 1e3 * layer.mask for layer in layers], budget)):
                layer.freeze(mask)
                layer.settle()

    return after_step
