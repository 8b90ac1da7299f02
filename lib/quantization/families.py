"""The architectures that a packed file can describe: by name, with their configs."""

from __future__ import annotations

import torch
from torch import nn

from lib.models.cnn import BaselineCNN, CNNConfig
from lib.models.mlp import MLP, MLPConfig
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vgg import VGG, VGGConfig
from lib.models.vit import ViT, ViTConfig
from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig
from lib.quantization.fold import unfilled

FAMILIES = {
    "VGG": (VGG, VGGConfig),
    "ResNet": (ResNet, ResNetConfig),
    "BaselineCNN": (BaselineCNN, CNNConfig),
    "MLP": (MLP, MLPConfig),
    "ViT": (ViT, ViTConfig),
    "WhitenedCNN": (WhitenedCNN, WhitenedCNNConfig),
}


def packable(model: nn.Module) -> bool:
    """Whether a packed file can describe the network, once :func:`lib.quantization.fold.fold` has seen it.

    It must be one of :data:`FAMILIES`, without masks, codebooks and mixtures of experts, and made as its config says.
    """
    return type(model).__name__ in FAMILIES and as_its_config_says(model)


def as_its_config_says(model: nn.Module) -> bool:
    """Whether each module and each tensor is there that the architecture has with this config, and no other."""
    if any(getattr(model.config, "mixtures", ())):
        return False
    with torch.device("meta"):
        plain = FAMILIES[type(model).__name__][0](model.config)
    return parts(model) in (parts(plain), parts(unfilled(plain)))


def parts(model: nn.Module) -> tuple[dict, dict]:
    """By name: the types of the modules within, and the shapes of the tensors."""
    return (
        {name: type(module) for name, module in model.named_modules() if name},
        {name: tensor.shape for name, tensor in model.state_dict().items()},
    )
