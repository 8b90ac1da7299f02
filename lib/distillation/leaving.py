"""A network with exits as one is used: each image runs as far as it needs to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.distillation.early_exit import ensemble
from lib.distillation.exits import ExitNet
from lib.system.checks import require


class EarlyExit(nn.Module):
    """Logits [B, classes] of images [B, C, H, W], each from the first classifier that is sure of it.

    ``net``         the trained network
    ``thresholds``  one per shallow classifier, as :func:`lib.distillation.early_exit.leave` has them: an image leaves where
                    its highest probability is above, else the ensemble decides

    In evaluation images that have left are not computed any further, so that a batch costs what its images need.  Answers
    are those of ``leave``.  Where the ensemble decides, the logarithms of its probabilities stand for logits.
    Raises ValueError for another number of thresholds.
    """

    def __init__(self, net: ExitNet, thresholds: Sequence[float]):
        super().__init__()
        require(net.count > 1, "the network has no shallow classifier to leave at: give it places")
        require(
            len(thresholds) == net.count - 1, f"{len(thresholds)} thresholds for {net.count - 1} shallow classifiers: give one for each"
        )
        self.net = net
        self.register_buffer(
            "thresholds", torch.tensor([float(t) for t in thresholds], dtype=torch.float32, device=next(net.parameters()).device)
        )

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        net, exits = self.net.backbone, dict(zip(self.net.config.places, self.net.exits))
        found, here = None, torch.arange(len(images), device=images.device)
        x_BCHW, seen = net.relu(net.bn(net.conv(images))), []
        for place, block in enumerate(net.blocks, 1):
            x_BCHW = block(x_BCHW)
            if place not in exits:
                continue
            logits_BC = exits[place](x_BCHW)[0].float()
            found = logits_BC.new_empty(len(images), logits_BC.shape[1]) if found is None else found
            sure_B = logits_BC.softmax(-1).amax(-1) > self.thresholds[len(seen)]
            found[here[sure_B]] = logits_BC[sure_B]
            if bool(sure_B.all()):
                return found
            seen = [logits[~sure_B] for logits in (*seen, logits_BC)]
            here, x_BCHW = here[~sure_B], x_BCHW[~sure_B]
        found[here] = ensemble(torch.stack([*seen, net.head(x_BCHW.mean((2, 3))).float()])).log()
        return found
