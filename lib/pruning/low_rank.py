"""Low rank: each 3×3 convolution in two smaller ones, found by a singular value decomposition.

    smaller = factorised(model, ranks_for(model.config, share=0.5))

Jaderberg, Vedaldi and Zisserman 2014, "Speeding up convolutional neural networks with low rank expansions" (arXiv
1405.3866), their second scheme: a column of 3×1 into a few channels, then a row of 1×3.  They fit the factors to outputs;
here, as by Tai et al. 2016 (arXiv 1511.06067), the decomposition of the weights gives the best ones in closed form.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig
from lib.system.checks import require


@torch.no_grad()
def factors(weight_OIHW: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return a column [rank, I, H, 1] and a row [O, rank, 1, W] whose product is nearest to the weight in the square.

    Both get the root of the singular values.  Raises ValueError for a rank above that of the weight.
    """
    outputs, inputs, high, wide = weight_OIHW.shape
    matrix = weight_OIHW.permute(1, 2, 0, 3).reshape(inputs * high, outputs * wide)
    require(1 <= rank <= min(matrix.shape), f"rank is {rank}: of a weight {tuple(weight_OIHW.shape)} it is 1 to {min(matrix.shape)}")
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    column = (left[:, :rank] * root).T.reshape(rank, inputs, high, 1)
    row = (root[:, None] * right[:rank]).reshape(rank, outputs, wide).transpose(0, 1).unsqueeze(2)
    return column.contiguous(), row.contiguous()


def factorised(model: WhitenedCNN, ranks: tuple[int, ...]) -> WhitenedCNN:
    """Return a copy whose convolutions are factors of these ranks; all else keeps its values."""
    smaller = WhitenedCNN(replace(model.config, ranks=ranks)).to(model.head.weight.device)
    state, rank_of = {}, iter(ranks)
    for name, tensor in model.state_dict().items():
        if name.startswith("groups.") and ".conv" in name:
            layer = name.removesuffix(".weight")
            state[f"{layer}.0.weight"], state[f"{layer}.1.weight"] = factors(tensor, next(rank_of))
        else:
            state[name] = tensor
    smaller.load_state_dict(state)
    return smaller.train(model.training)


def ranks_for(config: WhitenedCNNConfig, share: float) -> tuple[int, ...]:
    """Return the ranks at which each convolution has at most ``share`` of its weights, one at least.

    A convolution of I into O channels has 9·I·O weights, its factors 3·(I + O) for each rank.
    Raises ValueError for a share that is not in (0, 1].
    """
    require(0 < share <= 1, f"share is {share}: it must be a share of the weights in (0, 1]")
    sides = []
    for before, width in zip((config.stem_width, *config.widths), config.widths):
        sides += [(before, width), (width, width)]
    return tuple(max(1, int(share * 3 * inputs * outputs / (inputs + outputs))) for inputs, outputs in sides)
