"""What AdamW remembers of a run, by parameter name: read before growing, installed in the grown model's optimiser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.system.checks import require


@dataclass(frozen=True, eq=False)
class Moments:
    """AdamW's state (arXiv 1711.05101, algorithm 2), by parameter name; what is missing is zero at step 0.

    ``first``, ``second``  running means of gradients and of their squares, each of its parameter's shape
    ``step``               updates so far, which the correction of both means goes by
    """

    first: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)
    step: dict[str, float] = field(default_factory=dict)


def read(model: nn.Module, optimizers: Iterable[Optimizer]) -> Moments:
    """A copy of what AdamW or Adam remember of the model's parameters.

    Raises ValueError for the state of another optimiser.
    """
    state = {p: s for optimizer in optimizers for p, s in optimizer.state.items() if s}
    found = {name: state[p] for name, p in model.named_parameters() if p in state}
    for name, s in found.items():
        require(
            {"exp_avg", "exp_avg_sq", "step"} <= s.keys(),
            f"the optimiser's state of {name!r} is {sorted(s)}: only that of AdamW can be carried over",
        )
    return Moments(
        first={name: s["exp_avg"].clone() for name, s in found.items()},
        second={name: s["exp_avg_sq"].clone() for name, s in found.items()},
        step={name: float(s["step"]) for name, s in found.items()},
    )


def install(model: nn.Module, optimizers: Iterable[Optimizer], moments: Moments) -> None:
    """Let fresh AdamW optimisers of ``model`` go on from ``moments``; names missing there start from zero at step 0.

    Raises ValueError for moments of parameters that the model lacks, or that have another shape there.
    """
    names = {p: name for name, p in model.named_parameters()}
    unknown = sorted(moments.first.keys() - set(names.values()))
    require(not unknown, f"moments of {', '.join(unknown)}: the model has no such parameter; grow the moments as the model")
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for p in group["params"]:
                name = names[p]
                if name not in moments.first:
                    optimizer.state.pop(p, None)
                    continue
                first = moments.first[name]
                require(
                    first.shape == p.shape,
                    f"moments of {name!r} are {list(first.shape)}, the parameter is {list(p.shape)}: grow the moments as the model",
                )
                # Fused kernels want the step next to the parameter, the others on the CPU.
                place = p.device if group.get("fused") or group.get("capturable") else "cpu"
                optimizer.state[p] = {
                    "step": torch.tensor(moments.step[name], dtype=torch.float32, device=place),
                    "exp_avg": first.to(p).clone(),
                    "exp_avg_sq": moments.second[name].to(p).clone(),
                }
