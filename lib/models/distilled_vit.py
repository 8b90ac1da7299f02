"""DeiT: a vision transformer with a distillation token (Touvron et al., ICML 2021, arXiv 2012.12877, sec. 4).

    model = DistilledViT(ViTConfig(pool="class"))
    by_class, by_distillation = model.both(images)     # two tokens, two heads, [B, classes] each

The distillation token stands beside the class token, goes through the same attention and has a head of its own, which
learns what the teacher says while the class token's learns the labels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.vit import ViT, ViTConfig
from lib.moe.gate import truncated_normal_
from lib.system.checks import require


class DistilledViT(ViT):
    """A dense :class:`~lib.models.vit.ViT` with a class token (token 0) and a distillation token (token 1).

    The paper gives the distillation token a position of its own; here both tokens have none, as the class token of
    :class:`~lib.models.vit.ViT`, which is the same thing: a position would be added to a learned vector.
    Raises ValueError for a configuration without class token, or with experts.
    """

    def __init__(self, config: ViTConfig):
        require(config.pool == "class", 'a distillation token stands beside a class token: give ViTConfig pool="class"')
        require(not any(config.mixtures), "a network with a distillation token is dense here: give ViTConfig moe=None")
        super().__init__(config)
        self.distillation_token = nn.Parameter(torch.empty(config.width))
        self.distillation_head = nn.Linear(config.width, config.classes)
        truncated_normal_(self.distillation_token, 0.5)
        truncated_normal_(self.distillation_head.weight, math.sqrt(config.init / config.width))
        nn.init.zeros_(self.distillation_head.bias)

    def layers(self, images: Tensor) -> list[Tensor]:
        """Tokens [B, 2 + N, D] before the first block and behind each, the last ones normalised."""
        x_BND = self.embedded(images) + self.positions[: self.config.patches]
        two_2D = torch.stack([self.class_token, self.distillation_token]).to(x_BND.dtype)
        seen = [torch.cat([two_2D.expand(len(x_BND), 2, -1), x_BND], dim=1)]
        for block in self.blocks:
            seen.append(block(seen[-1])[0])
        return [*seen[:-1], self.norm(seen[-1])]

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, classes] of the class token's head and of the distillation token's, in at least fp32."""
        x_BND = self.layers(images)[-1]
        logits = self.head(x_BND[:, 0]), self.distillation_head(x_BND[:, 1])
        return tuple(part.to(torch.promote_types(part.dtype, torch.float32)) for part in logits)

    def forward(self, images: Tensor) -> Tensor:
        """Mean of both heads' logits [B, classes], as in the released code; the paper adds their softmax outputs."""
        by_class, by_distillation = self.both(images)
        return (by_class + by_distillation) / 2


@torch.no_grad()
def token_similarity(model: DistilledViT, images: Tensor) -> list[float]:
    """Cosine between the class and the distillation token, mean over images: as they enter, then behind each block."""
    return [F.cosine_similarity(x_BND[:, 0].float(), x_BND[:, 1].float(), dim=-1).mean().item() for x_BND in model.layers(images)]
