"""The networks that can grow, and what growing has to know of each: its class and its table of dimensions."""

from __future__ import annotations

import torch
from torch import nn

from lib.growth import layout, layout_vit
from lib.growth.layout import Axis
from lib.models.gpt import GPT, GPTConfig
from lib.models.vit import ViT, ViTConfig
from lib.system.checks import require

#: Geometry of a network that can grow, and the network.
Config = GPTConfig | ViTConfig
Network = GPT | ViT

LAYOUTS = {GPTConfig: layout, ViTConfig: layout_vit}


def axes(name: str, config: Config) -> tuple[Axis, ...]:
    """The :class:`~lib.growth.layout.Axis` of each dimension of the parameter ``name``."""
    return LAYOUTS[type(config)].axes(name, config)


def sizes(config: Config) -> dict[str, int]:
    """How many units of each kind there are."""
    return LAYOUTS[type(config)].sizes(config)


def check(config: Config) -> None:
    """Raises ValueError, saying what to do, for a network that cannot grow."""
    require(
        type(config) in LAYOUTS,
        f"a network with a {type(config).__name__} cannot grow: it must have one of {', '.join(kind.__name__ for kind in LAYOUTS)}",
    )
    if isinstance(config, ViTConfig):
        layout_vit.check(config)


def build(config: Config) -> nn.Module:
    """A new network of this geometry."""
    return ViT(config) if isinstance(config, ViTConfig) else GPT(config)


def parameter_names(config: Config) -> list[str]:
    """The names of the network's parameters; it is not built for that."""
    with torch.device("meta"):
        return [name for name, _ in build(config).named_parameters()]
