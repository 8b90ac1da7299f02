"""E feed-forward networks with stacked weights, of which each token uses a few."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.moe.backends import ACTIVATIONS, BACKENDS, Weights, batched, fastest
from lib.moe.expert_memory import keep_freed_memory

#: ``nn.Linear`` starts with variance 1 / (3 · fan-in); the cut at 2σ leaves 0.774 of a normal's variance.
LIKE_LINEAR = 1 / (3 * 0.774)


class Experts(nn.Module):
    """Experts E_i(x) = act(x W_in,i + b_in,i) W_out,i + b_out,i for i = 1 … E.

    ``w_in`` [E, D, P·H], ``b_in`` [E, P·H], ``w_out`` [E, H, D], ``b_out`` [E, D], where H is ``hidden``,
    the width after the activation.  P is 1 for "gelu" and "relu".  "swiglu" (Shazeer, arXiv 2002.05202,
    equation 6) is silu(gate) · up with P = 2: the first H columns of ``w_in`` make the gate, the others up.
    With ``bias=False`` the biases are zeros: buffers, not parameters, and not in the state dict.

    ``backend`` says how they are run ("loop", "einsum", "bmm", "grouped", see :mod:`lib.moe.backends`), not
    what comes out; "auto" takes the fastest for device, type and routing.  Under autocast the products run
    in its type, with the weights cast once per forward pass.

    Raises ValueError for an unknown activation or backend, and for sizes below 1.
    """

    def __init__(self, experts: int, d_model: int, hidden: int, activation: str = "gelu", backend: str = "auto", bias: bool = True):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: use one of {', '.join(ACTIVATIONS)}")
        if backend not in ("auto", *BACKENDS):
            raise ValueError(f"unknown backend {backend!r}: use 'auto' or one of {', '.join(BACKENDS)}")
        if min(experts, d_model, hidden) < 1:
            raise ValueError(f"experts={experts}, d_model={d_model}, hidden={hidden}: each must be at least 1")
        self.activation, self.backend = activation, backend
        inner = (2 if activation == "swiglu" else 1) * hidden
        self.w_in = nn.Parameter(torch.empty(experts, d_model, inner))
        self._add_bias("b_in", torch.empty(experts, inner), bias)
        self.w_out = nn.Parameter(torch.empty(experts, hidden, d_model))
        self._add_bias("b_out", torch.empty(experts, d_model), bias)
        self.reset_parameters()
        keep_freed_memory(self.w_in.nbytes)

    def _add_bias(self, name: str, bias: Tensor, trained: bool) -> None:
        if trained:
            self.register_parameter(name, nn.Parameter(bias))
        else:
            self.register_buffer(name, bias, persistent=False)

    def reset_parameters(self, scale: float = LIKE_LINEAR) -> None:
        """Weights from a normal with σ² = ``scale`` / fan-in, cut at 2σ; biases 0.

        By default with the variance of ``nn.Linear``, so that experts and a dense FFN start alike.
        Switch (Fedus et al., arXiv 2101.03961, section 2.4) takes 0.1.
        """
        for weight_EIO in (self.w_in, self.w_out):
            std = (scale / weight_EIO.shape[1]) ** 0.5
            nn.init.trunc_normal_(weight_EIO, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(self.b_in)
        nn.init.zeros_(self.b_out)

    def forward(self, x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor) -> Tensor:
        """y_t = Σ_k gate_tk · E_{expert_tk}(x_t), [T, D].

        ``expert_TK`` int64 in 0 … E - 1, or -1 for a dropped assignment: it adds exactly 0, and its gate's
        gradient is exactly 0.  Raises ValueError for shapes that do not fit.
        """
        if x_TD.shape != (len(expert_TK), self.w_in.shape[1]) or expert_TK.shape != gate_TK.shape:
            raise ValueError(
                f"x {list(x_TD.shape)}, expert {list(expert_TK.shape)} and gate {list(gate_TK.shape)} "
                f"should be [T, {self.w_in.shape[1]}], [T, K] and [T, K]"
            )
        x_TD, weights = self.cast(x_TD)
        gate_TK = torch.where(expert_TK < 0, 0, gate_TK).to(x_TD.dtype)
        with torch.autocast(x_TD.device.type, enabled=False):
            return BACKENDS[self.backend_for(expert_TK, x_TD.dtype)](x_TD, expert_TK, gate_TK, weights, self.activation)

    def slots(self, x_ESD: Tensor) -> Tensor:
        """Each expert on its own S rows, [E, S, D] to [E, S, D]: expert choice, soft MoE, random partition.

        Rows are equally many, so this is one batched product for every backend.
        """
        x_ESD, weights = self.cast(x_ESD)
        with torch.autocast(x_ESD.device.type, enabled=False):
            return batched(x_ESD, weights, self.activation)

    def backend_for(self, expert_TK: Tensor, dtype: torch.dtype) -> str:
        """Name of the backend that runs products of ``dtype`` for this routing."""
        return fastest(expert_TK, len(self.w_in), dtype) if self.backend == "auto" else self.backend

    def weights(self) -> Weights:
        """What the products are computed with."""
        return Weights(self.w_in, self.b_in, self.w_out, self.b_out)

    def cast(self, x: Tensor) -> tuple[Tensor, Weights]:
        """Input and weights in the type in which the products run: autocast's, or the weights' own."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.w_in.dtype
        return x.to(dtype), Weights(*(weight.to(dtype) for weight in self.weights()))

    def extra_repr(self) -> str:
        E, H, D = self.w_out.shape
        biases = "" if isinstance(self.b_in, nn.Parameter) else ", bias=False"
        return f"{E} x ({D} -> {H} -> {D}), {self.activation}, backend={self.backend}{biases}"
