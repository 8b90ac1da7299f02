"""What a network would miss most: scores for experts, hidden units, heads and layers.  Higher is more important."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lib.elastic.subnet import Ranking, Subnet, whole_subnet
from lib.elastic.supernet import ElasticMlp, ElasticMoE, ElasticViT
from lib.system.checks import require


@torch.no_grad()
def reap(model: ElasticViT, images: Tensor) -> list[Tensor]:
    """Router-weighted expert activation of each layer's experts, [E] per layer, of the sub-network switched on.

    S_e = mean over the tokens routed to e of g_e(t) · ‖E_e(x_t)‖₂ (REAP, arXiv 2510.13999, eq. 9), 0 for an expert
    that gets none.  ``images`` [B, C, H, W] are normalised.  Raises ValueError for a dense network.
    """
    layers = [block.ffn for block in model.blocks if isinstance(block.ffn, ElasticMoE)]
    require(layers, "REAP ranks experts, and this network has none")
    seen: dict[int, tuple] = {}
    hooks = [
        layer.experts.register_forward_pre_hook(lambda module, args, index=i: seen.__setitem__(index, args))
        for i, layer in enumerate(layers)
    ]
    mode = model.training
    try:
        model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(mode)
    unused = {"dtype": torch.float64, "device": images.device}
    return [
        expert_activation(layer, *seen[i]) if i in seen else torch.zeros(layer.config.experts, **unused) for i, layer in enumerate(layers)
    ]


def expert_activation(layer: ElasticMoE, x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor) -> Tensor:
    E = layer.config.experts
    total_E, count_E = torch.zeros(2, E, dtype=torch.float64, device=x_TD.device)
    for expert_T, gate_T in zip(expert_TK.T, gate_TK.T):
        y_TD = layer.experts(x_TD, expert_T[:, None], torch.ones_like(gate_T)[:, None])
        total_E.index_add_(0, expert_T, (gate_T * y_TD.norm(dim=-1)).double())
        count_E.index_add_(0, expert_T, torch.ones_like(gate_T).double())
    return total_E / count_E.clamp(min=1)


def ffn_channels(ffn: ElasticMlp | ElasticMoE) -> Tensor:
    """L1 norm of each hidden unit's outgoing weights (Once-for-All's channel sorting): [H], or [E, H] for experts."""
    if isinstance(ffn, ElasticMlp):
        return ffn.fc2.weight.detach().abs().sum(0)
    return ffn.experts.w_out.detach().abs().sum(2)


def heads(attention) -> Tensor:
    """L1 norm of each attention head's outgoing weights, [H]."""
    return attention.out.weight.detach().abs().view(-1, attention.heads, attention.head_dim).sum((0, 2))


@torch.no_grad()
def layers(model: ElasticViT, loss: Callable[[ElasticViT], float]) -> Tensor:
    """How much ``loss(model)`` grows when one layer is skipped, [depth].  The sub-network switched on stays on."""
    before = model.subnet
    every = whole_subnet(model.whole).layers
    if len(every) == 1:
        return torch.zeros(1)
    try:
        base = loss(model.select(Subnet(every)))
        grown = [loss(model.select(Subnet(every[:i] + every[i + 1 :]))) - base for i in range(len(every))]
    finally:
        model.select(before)
    return torch.tensor(grown)


def rank(experts: list[Tensor] | None = None, layers: Tensor | None = None) -> Ranking:
    """Scores as a :class:`~lib.elastic.subnet.Ranking`, the best first."""

    def order(scores: Tensor) -> tuple[int, ...]:
        return tuple(scores.argsort(descending=True, stable=True).tolist())

    return Ranking(tuple(order(scores) for scores in experts or ()), order(layers) if layers is not None else ())
