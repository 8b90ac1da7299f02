"""What a router decided for one batch, in one shape for all routers.

Names of dimensions: B images, N tokens of an image, T = B·N tokens, D features, E experts,
K assignments of a token, S slots of an expert, G groups, C capacity.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """Where T tokens went.

    ``expert_TK``  int64: the expert of each assignment, -1 where it was dropped
    ``gate_TK``    the factor on that expert's output, 0 where dropped
    ``probs_TE``   the router's scores (fp32, or fp64 for fp64 inputs); None if it has none
    ``load_E``     assignments that each expert computed, after drops
    ``dropped``    fraction of the wanted assignments that were dropped, a 0-d tensor
    ``losses``     auxiliary losses by name, already weighted
    """

    expert_TK: Tensor
    gate_TK: Tensor
    probs_TE: Tensor | None
    load_E: Tensor
    dropped: Tensor
    losses: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """Sum of the auxiliary losses, 0 if there are none: add it to the task loss."""
        return sum(self.losses.values(), start=self.dropped.new_zeros(()))

    @property
    def gate_TKE(self) -> Tensor:
        """Each assignment's gate in its expert's column, 0 elsewhere."""
        every_E = torch.arange(len(self.load_E), device=self.expert_TK.device)
        return self.gate_TK[..., None] * (self.expert_TK[..., None] == every_E)


def routing(
    expert_TK: Tensor, gate_TK: Tensor, experts: int, probs_TE: Tensor | None = None, losses: dict[str, Tensor] | None = None
) -> Routing:
    """A :class:`Routing` whose load and drop rate are counted from ``expert_TK``."""
    load_E = count(expert_TK, experts)
    dropped = 1 - load_E.sum() / expert_TK.numel() if expert_TK.numel() else load_E.new_zeros(())
    return Routing(expert_TK, gate_TK, probs_TE, load_E, dropped, losses or {})


def count(expert_TK: Tensor, experts: int) -> Tensor:
    """Assignments per expert [E], fp32; dropped ones (-1) are not counted.

    A comparison and a sum: no host sync, no atomics, and it works on every device.
    """
    return (expert_TK.reshape(-1, 1) == torch.arange(experts, device=expert_TK.device)).sum(0).float()


def all_experts(gate_TE: Tensor, load_E: Tensor, probs_TE: Tensor | None = None) -> Routing:
    """The routing of a layer in which every token uses every expert, with weights ``gate_TE``."""
    T, E = gate_TE.shape
    expert_TE = torch.arange(E, device=gate_TE.device).expand(T, E)
    return Routing(expert_TE, gate_TE, probs_TE, load_E, load_E.new_zeros(()))
