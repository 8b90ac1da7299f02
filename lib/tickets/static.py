"""Static masks of the same cost as a dynamic network: what does it bring to look at the input?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.models.encoder import Classifier, EncoderConfig
from lib.system.checks import require
from lib.tickets.flops import head_flops, neuron_flops, whole_flops


def cut_at(heads: Tensor, neurons: Tensor, config: EncoderConfig, tokens: int, budget: float) -> tuple[Tensor, Tensor]:
    """Masks bool [L, H] and [L, hidden] of the highest scores that fit ``budget``, a share of the encoder's FLOPs.

    Scores of heads [L, H] and of neurons [L, hidden] are on one scale, such as how often a gate is open.  Gates are taken in
    the order of their scores, of equal ones heads first, and one that does not fit is passed over for the next that does;
    what is left over is less than one neuron per input.
    """
    require(0 < budget, f"budget is {budget}: it must be above 0")
    costs = torch.cat(
        [
            torch.full((heads.numel(),), float(head_flops(config, tokens)), dtype=torch.float64),
            torch.full((neurons.numel(),), float(neuron_flops(config, tokens)), dtype=torch.float64),
        ]
    )
    order = torch.cat([heads.flatten(), neurons.flatten()]).argsort(descending=True, stable=True)
    kept, room = torch.zeros(len(costs), dtype=torch.bool), budget * whole_flops(config, tokens)
    for place in order.tolist():
        if costs[place] <= room:
            kept[place], room = True, room - float(costs[place])
    return kept[: heads.numel()].view(heads.shape), kept[heads.numel() :].view(neurons.shape)


def worth(model: Classifier, tokens: Tensor, labels: Tensor, together: int = 128) -> tuple[Tensor, Tensor]:
    """What each head [L, H] and each neuron [L, hidden] does for the loss, per FLOP: mean |∂L/∂gate| over examples, by cost.

    A gate's gradient is the first-order estimate of what closing it does to the loss, for heads and neurons alike, so that
    with their costs one scale serves both in :func:`cut_at`.  The model is used in evaluation mode and keeps its own.
    """
    config, mode = model.encoder.config, model.training
    sums = [torch.zeros(config.depth, n) for n in (config.heads_by_layer[0], config.hidden_by_layer[0])]
    model.eval()
    for some, their in zip(tokens.split(together), labels.split(together)):
        gates = [[torch.ones(len(some), total.shape[1], device=tokens.device, requires_grad=True) for _ in total] for total in sums]
        with torch.enable_grad():
            loss = F.cross_entropy(model(some, head_masks=gates[0], neuron_masks=gates[1]).float(), their, reduction="sum")
            found = torch.autograd.grad(loss, gates[0] + gates[1])
        for total, part in zip(sums, (found[: config.depth], found[config.depth :])):
            total += torch.stack([gradient.abs().sum(0).cpu() for gradient in part])
    model.train(mode)
    N = tokens.shape[1]
    return sums[0] / len(tokens) / head_flops(config, N), sums[1] / len(tokens) / neuron_flops(config, N)
