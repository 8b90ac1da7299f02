"""Scores: how much each weight matters.  Higher is better, in every one of them.

    scores = compute("snip", model, batches)           # {layer: tensor of the weight's shape}

Weights come as :func:`lib.pruning.mask.prunable` gives them.  A masked weight is zero, and so is what its magnitude,
SNIP, GraSP, Taylor or SynFlow score says of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lib.pruning.mask import bake, gradients, prunable
from lib.system.checks import one_of, require
from lib.training.losses import Loss, classification_loss

#: Those that look at weights alone, those that need batches of data, and the one that needs the input's shape only.
BY_WEIGHT = ("magnitude", "random", "lamp")
BY_GRADIENT = ("snip", "grasp", "taylor")
SCORES = (*BY_WEIGHT, *BY_GRADIENT, "synflow")

Scores = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


def compute(kind: str, model: nn.Module, batches: Iterable[Batch] = (), *, seed: int = 0, ignored: Iterable[str] = ()) -> Scores:
    """The score of this name.  ``batches`` (inputs, targets): for :data:`BY_GRADIENT`; "synflow" looks at their shape only.

    Raises ValueError for an unknown name, or where batches are needed and there are none.
    """
    one_of("score", kind, SCORES)
    if kind in BY_WEIGHT:
        weights = {name: weight.detach() for name, weight in prunable(model, ignored).items()}
        return random(weights, seed) if kind == "random" else {"magnitude": magnitude, "lamp": lamp}[kind](weights)
    batches = list(batches)
    require(batches, f"the score {kind!r} needs batches of inputs and targets")
    if kind == "synflow":
        return synflow(model, tuple(batches[0][0].shape[1:]), ignored=ignored)
    return {"snip": snip, "grasp": grasp, "taylor": taylor}[kind](model, batches, ignored=ignored)


def magnitude(weights: Mapping[str, Tensor]) -> Scores:
    """|w|."""
    return {name: weight.detach().abs() for name, weight in weights.items()}


def random(weights: Mapping[str, Tensor], seed: int) -> Scores:
    """Uniform in [0, 1), the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator).to(weight) for name, weight in weights.items()}


def lamp(weights: Mapping[str, Tensor]) -> Scores:
    """w² over the sum of the squares of its layer's weights that are not smaller (Lee et al. 2021, arXiv 2010.07611, eq. 2).

    The largest weight of each layer has the score 1, so one threshold for all layers empties none of them.
    """
    return {name: normalised(weight.detach().abs().flatten()).view(weight.shape) for name, weight in weights.items()}


def normalised(values: Tensor) -> Tensor:
    """LAMP's rule for values [G] of one layer; those below 0 count as 0.  Of equal ones, the first has the higher score."""
    values = values.clamp(min=0)
    order = values.argsort(descending=True, stable=True)
    squares = values.double()[order].square()
    shares = squares / squares.cumsum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.empty_like(squares).index_copy_(0, order, shares).to(values.dtype)


def snip(model: nn.Module, batches: Iterable[Batch], loss: Loss = classification_loss(), ignored: Iterable[str] = ()) -> Scores:
    """|w · ∂L/∂w|, the gradient summed over the batches (Lee et al. 2019, arXiv 1810.02340, eq. 6, not normalised)."""
    model, weights = subject(model, ignored)
    found = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for inputs, targets in batches:
        for name, gradient in gradients(model, lambda: loss(model, inputs, targets)[0], ignored).items():
            found[name] += gradient
    return {name: (gradient * weights[name]).abs() for name, gradient in found.items()}


def taylor(model: nn.Module, batches: Iterable[Batch], loss: Loss = classification_loss(), ignored: Iterable[str] = ()) -> Scores:
    """(w · ∂L/∂w)², mean over the batches (Molchanov et al. 2019, arXiv 1906.10771, eq. 8).

    To first order, the squared change of the loss when the weight goes.
    """
    model, weights = subject(model, ignored)
    found, count = {name: torch.zeros_like(weight) for name, weight in weights.items()}, 0
    for inputs, targets in batches:
        count += 1
        for name, gradient in gradients(model, lambda: loss(model, inputs, targets)[0], ignored).items():
            found[name] += (gradient * weights[name]).square()
    return {name: square / count for name, square in found.items()}


def grasp(
    model: nn.Module, batches: Iterable[Batch], loss: Loss = classification_loss(), ignored: Iterable[str] = (), temperature: float = 200.0
) -> Scores:
    """w · (H g), signed (Wang et al. 2020, arXiv 2002.07376, algorithm 1).

    g is the gradient, H the Hessian.  The paper's S(-w) = -w · (H g) is the change of the squared gradient norm, halved,
    when w is removed, and it keeps the weights with the *lowest* S; this is -S, so the highest are kept, as everywhere here.
    A negative score means that removing the weight lets more gradient flow.  Logits are divided by ``temperature``, 200 in
    the authors' code, which makes the softmax nearly linear.
    """
    model, weights = subject(model, ignored)
    softened = Softened(model, temperature)
    found = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for inputs, targets in batches:

        def flow() -> Tensor:
            live = prunable(model, ignored)  # from the cache of the outer call, so both gradients are by the same tensors
            first = torch.autograd.grad(loss(softened, inputs, targets)[0], list(live.values()), create_graph=True)
            return sum((gradient * gradient.detach()).sum() for gradient in first)

        for name, product in gradients(model, flow, ignored).items():
            found[name] += product
    return {name: product * weights[name] for name, product in found.items()}


class Softened(nn.Module):
    """A model with its logits divided by a temperature."""

    def __init__(self, model: nn.Module, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs) / self.temperature


def synflow(model: nn.Module, shape: tuple[int, ...], ignored: Iterable[str] = ()) -> Scores:
    """w · ∂R/∂w, R the sum of the outputs for an input of ones with |w| for w (Tanaka et al. 2020, arXiv 2006.05467, eq. 5).

    shape: of one input, without the batch.  No data are looked at.  In float64, since R is a product over the layers.
    Biases count as zero and batch norms as the identity, so that only the weights decide; the authors take norms and biases
    as they are, which for a new network is the same.  Computed once, it starves layers too: it is made for many rounds, see
    :func:`lib.pruning.schedule.prune_in_rounds`.
    Raises ValueError where R is not finite.
    """
    weights = prunable(model, ignored)
    subject = bake(copy.deepcopy(model)).double().eval().requires_grad_()
    with torch.no_grad():
        for module in subject.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight.abs_()
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                neutralise(module)
    device = next(subject.parameters()).device
    found = gradients(subject, lambda: flow_of(subject(torch.ones(1, *shape, dtype=torch.float64, device=device))), ignored)
    return {name: (gradient * weights[name].detach().double().abs()) for name, gradient in found.items()}


def flow_of(outputs: Tensor) -> Tensor:
    total = outputs.sum()
    require(
        bool(torch.isfinite(total)),
        "the synaptic flow is not finite, even in float64: the network is too deep or its weights are too large",
    )
    return total


def neutralise(norm: nn.modules.batchnorm._BatchNorm) -> None:
    """The identity, but for eps."""
    norm.eps = 1e-38  # 1 + eps is 1, and PyTorch 2.11 refuses 0
    for tensor, value in ((norm.weight, 1.0), (norm.bias, 0.0), (norm.running_mean, 0.0), (norm.running_var, 1.0)):
        if tensor is not None:
            tensor.fill_(value)


def subject(model: nn.Module, ignored: Iterable[str]) -> tuple[nn.Module, Scores]:
    """A copy in training mode, whose running statistics may change, and its weights as they act."""
    model = copy.deepcopy(model).train().requires_grad_()
    return model, {name: weight.detach() for name, weight in prunable(model, ignored).items()}
