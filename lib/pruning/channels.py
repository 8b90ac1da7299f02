"""Structured pruning: whole channels are removed, so the network that remains is small and dense.

    smaller = prune_to(model, keep=0.25)     # a BaselineCNN with at most a quarter of the parameters

The channels that go are those whose filters have the smallest L1 norm (Li et al. 2017, "Pruning filters for
efficient ConvNets", arXiv 1608.08710).  Setting them to zero would remove nothing: the arrays keep their
size, and the next training step fills them again.
"""

from __future__ import annotations

import bisect
import copy

import torch
from torch import Tensor, nn

from lib.measure import cost as measure
from lib.models.cnn import BaselineCNN, CNNConfig
from lib.system.checks import require


def prune_channels(model: BaselineCNN, ratio: float) -> BaselineCNN:
    """A smaller network without the fraction ``ratio`` of each layer's channels; ``model`` is left as it is.

    Removed with a channel: its filter, its gain, shift and statistics in BN, and the weights of the next
    layer (or the head) that read it.  The rest keeps its values.  Outputs in evaluation mode are those of
    ``model`` with the channel at zero after its ReLU.  The same ratio for all layers is a deviation: the
    paper chooses one per stage by how much pruning it alone hurts.

    Raises ValueError for a ratio out of range.
    """
    import torch_pruning  # imported here, so that pruned networks are loaded and run without it

    smaller = copy.deepcopy(model).requires_grad_()
    side = 2 ** (len(model.config.stages) - 1)
    images = torch.zeros(1, model.config.channels, side, side, device=model.head.weight.device)
    with torch.enable_grad():  # it finds out by autograd which layer reads which
        graph = torch_pruning.DependencyGraph().build_dependency(smaller, example_inputs=images)
    for conv, weakest in zip(convolutions(smaller), weakest_channels(model, ratio), strict=True):
        if len(weakest):
            graph.get_pruning_group(conv, torch_pruning.prune_conv_out_channels, idxs=weakest.tolist()).prune()

    rebuilt = BaselineCNN(pruned_config(model.config, ratio)).to(images.device)
    rebuilt.load_state_dict(smaller.state_dict())
    return rebuilt.train(model.training)


def prune_to(model: BaselineCNN, keep: float) -> BaselineCNN:
    """:func:`prune_channels` with the smallest ratio, in thousandths, that leaves at most ``keep`` of the parameters.

    ``keep`` is a fraction in (0, 1].  Layers have whole channels, so a little less than it is left.
    Raises ValueError where even one channel per layer is too much.
    """
    require(0 < keep <= 1, f"keep is {keep}: it must be a fraction of the parameters in (0, 1]")
    wanted = keep * measure.parameters(model)
    ratios = [i / 1000 for i in range(1000)]
    # Fewer parameters at each larger ratio, so minus their number is sorted.
    found = bisect.bisect_left(ratios, -wanted, key=lambda ratio: -size(pruned_config(model.config, ratio)))
    require(
        found < len(ratios),
        f"keep is {keep}, but one channel per layer has "
        f"{size(pruned_config(model.config, ratios[-1])) / measure.parameters(model):.2g} of the parameters",
    )
    return prune_channels(model, ratios[found])


def weakest_channels(model: BaselineCNN, ratio: float) -> list[Tensor]:
    """For each layer the channels that :func:`prune_channels` removes, weakest first.

    Strength is the L1 norm of the filter as it stands in ``model``, with the weights for input channels that
    go as well: what the paper calls independent pruning (section 3.3).
    """
    kept = pruned_config(model.config, ratio).widths
    return [
        conv.weight.detach().abs().sum((1, 2, 3)).argsort()[: conv.out_channels - width]
        for conv, width in zip(convolutions(model), kept, strict=True)
    ]


def pruned_config(config: CNNConfig, ratio: float) -> CNNConfig:
    """The geometry that is left: each layer loses ⌊ratio · channels⌋, so it keeps at least one channel."""
    require(0 <= ratio < 1, f"ratio is {ratio}: it must be in [0, 1), the fraction of channels to remove")
    return config.with_widths(tuple(width - int(width * ratio) for width in config.widths))


def convolutions(model: BaselineCNN) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def size(config: CNNConfig) -> int:
    """Parameters of a network that is not built."""
    with torch.device("meta"):
        return measure.parameters(BaselineCNN(config))
