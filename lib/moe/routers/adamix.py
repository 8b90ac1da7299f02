"""AdaMix (Wang et al., arXiv 2205.12410): the two halves of an expert are drawn separately.

In training each layer draws i for the first projection and j for the second, so E experts give E² paths;
two passes must agree, each learning from the other held fixed (as in the authors' code):

    L = CE(p) + ½ [KL(sg q ‖ p) + KL(sg p ‖ q)]           sg: stop-gradient; labels on the first pass only

At inference the experts are averaged once and for all: no added cost.  Training does cost a second pass.

AdaMix trains small adapters in a frozen language model; here the experts are a ViT's whole FFNs, trained
from scratch, so the backbone learns too.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.average import draw, mean_for_all, one_for_all
from lib.moe.router import Router
from lib.moe.routing import Routing


class AdaMix(Router):
    """A random (first, second) projection pair per layer and batch; the averaged expert in evaluation."""

    label, colour, symbol = "AdaMix", "#8c4a00", "hexagon"

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        if self.training:
            device = x_BND.device
            return one_for_all(x_BND, experts, draw(self.experts, device), draw(self.experts, device))
        return mean_for_all(x_BND, experts)


def adamix_loss(label_smoothing: float = 0.0):
    """A loss for :func:`lib.training.loop.fit` that makes AdaMix's two passes."""

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        p, q = model(inputs), model(inputs)
        task = F.cross_entropy(p, targets, label_smoothing=label_smoothing)
        agree = 0.5 * (kl(q.detach(), p) + kl(p.detach(), q))
        return task + agree, {"consistency": agree.detach()}

    return loss


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of two logits [B, C], mean over B."""
    return F.kl_div(F.log_softmax(q, -1), F.log_softmax(p, -1), log_target=True, reduction="batchmean")
