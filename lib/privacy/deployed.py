"""What is left of AutoReP's layer when training is over: which ReLUs stay, one bit each, and the polynomials."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.privacy.activation import MaskedReLU
from lib.privacy.polynomial import evaluate
from lib.privacy.replace import relu_shapes
from lib.system.checks import require


class DeployedReLU(nn.Module):
    """relu(x) at some positions, c2 x² + c1 x + c0 at the others, for x [B, C, H, W].

    ``bits``          uint8, a bit per position, in the order of memory: 1 where the ReLU stays
    ``coefficients``  [3, C, 1, 1], as in :class:`~lib.privacy.activation.MaskedReLU`; may be trained on
    """

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape
        positions = torch.Size(shape).numel()
        self.register_buffer("bits", torch.zeros(-(-positions // 8), dtype=torch.uint8))
        self.register_buffer("mask", torch.zeros(shape, dtype=torch.bool), persistent=False)
        self.coefficients = nn.Parameter(torch.zeros(3, shape[0], 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.mask, x.relu(), evaluate(self.coefficients.to(x.dtype), x))

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.mask.copy_(unpacked(self.bits, self.mask.numel()).view(self.shape))

    @property
    def count(self) -> int:
        """ReLUs that are left."""
        return int(self.mask.sum())


@torch.no_grad()
def deployed(model: nn.Module) -> nn.Module:
    """A copy with a :class:`DeployedReLU` for each :class:`~lib.privacy.activation.MaskedReLU`; it computes the same.

    The scores that masks were learnt by are gone.  Raises ValueError where masks still move.
    """
    model = copy.deepcopy(model)
    for name, layer in [(name, module) for name, module in model.named_modules() if isinstance(module, MaskedReLU)]:
        require(bool(layer.frozen), f"the mask of {name} still follows its scores: freeze it first")
        plain = DeployedReLU(tuple(layer.mask.shape)).to(layer.mask.device)
        plain.load_state_dict({"bits": packed(layer.mask > 0), "coefficients": layer.coefficients})
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, plain.train(layer.training))
    return model


def unfilled(model: nn.Module, image_shape: Sequence[int]) -> nn.Module:
    """The modules that :func:`deployed` gives, in place of the ReLUs of ``model``, to be loaded afterwards."""
    for name, shape in relu_shapes(model, image_shape).items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, DeployedReLU(shape).to(next(model.parameters()).device))
    return model


def packed(mask: Tensor) -> Tensor:
    """A bool tensor as uint8, eight positions each, the first in the lowest bit."""
    flat = mask.flatten().to(torch.uint8)
    eights = nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (eights << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(1, dtype=torch.uint8)


def unpacked(bits: Tensor, count: int) -> Tensor:
    """The first ``count`` positions of what :func:`packed` gave, bool."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return ((bits[:, None] >> places) & 1).bool().flatten()[:count]
