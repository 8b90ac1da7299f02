"""Random choice among whole networks: one expert index per batch, the same in every layer.

The routing of the Switch-ViT project that the mixtures chapter answers.  Layer l's expert i only ever works with the
other layers' expert i, so E networks are trained that share attention, embedding and head, each on 1/E of
the batches, and nothing makes them agree.  Evaluation averages their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.moe.average import draw, mean_for_all, one_for_all
from lib.moe.router import Router
from lib.moe.routing import Routing


class WholeNetwork(Router):
    """All tokens of a training batch through ``expert``, which :func:`draw_network` sets for all layers."""

    label, colour, symbol = "Whole network", "#c90049", "bowtie"

    def __init__(self, experts: int):
        super().__init__(experts)
        self.expert = torch.zeros(1, dtype=torch.int64)

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        if self.training:
            return one_for_all(x_BND, experts, self.expert.to(x_BND.device))
        return mean_for_all(x_BND, experts)


def draw_network(model: nn.Module, device: torch.device) -> None:
    """Draw one index and give it to every layer of ``model``; a model calls this as a forward pass begins."""
    layers = [module for module in model.modules() if isinstance(module, WholeNetwork)]
    if layers:
        expert = draw(layers[0].experts, device)
        for layer in layers:
            layer.expert = expert
