"""The MoE layer that takes the place of a transformer's FFN, and its configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor, nn

from lib.moe.experts import Experts
from lib.moe.ffn import Mlp
from lib.moe.gate import PRECISIONS
from lib.moe.routers import ROUTERS
from lib.moe.routing import Routing
from lib.system.checks import one_of, require

#: What every router has: how many experts there are and where.
COMMON = {"experts", "router", "placement", "backend"}
PLACEMENTS = ("all", "every-second", "last-two")


@dataclass(frozen=True)
class MoEConfig:
    """A mixture of experts.  Raises ValueError, saying what to do, for what makes no sense together.

    ``experts``, ``k``     E experts of the layer's hidden width, k of them for each token
    ``split``, ``shared``  DeepSeekMoE (arXiv 2401.06066): m·E experts of width h/m, m·k at work, of
                           which ``shared`` always are; parameters and FLOPs stay as they were
    ``placement``          which layers get experts: all; every second (the 2nd, 4th, ...); the last two
                           of those (V-MoE's "Every-2" and "Last-2")
    ``balance``            weight of the router's balance loss
    ``policy``             who is dropped beyond ``capacity_factor``, see :mod:`lib.moe.capacity`
    """

    experts: int = 8
    router: str = "switch"
    placement: str = "all"
    backend: str = "auto"  # see lib.moe.backends

    k: int = 1
    shared: int = 0
    split: int = 1
    jitter: float = 0.0
    router_precision: str = "fp32"
    router_init: float = 0.1
    router_bias: bool = False

    balance: float = 0.01
    z_loss: float = 0.0
    policy: str = "dropless"
    capacity_factor: float = 1.25
    single_gate: str = "probability"  # switch: the gate when k is 1, see lib.moe.routers.token_choice.gates
    scores: str = "sigmoid"  # bias
    bias_rate: float = 1e-3  # bias
    group: str = "image"  # expert-choice
    slots: int | None = None  # soft: per expert; None: as many in all as there are tokens
    hash_by: str = "position"  # hash
    codes: int = 256  # hash by patch: size of the k-means vocabulary
    inference: str = "average"  # thor

    def __post_init__(self) -> None:
        one_of("router", self.router, ROUTERS)
        router = ROUTERS[self.router]
        one_of("placement", self.placement, PLACEMENTS)
        one_of("router_precision", self.router_precision, PRECISIONS)

        for field in dataclasses.fields(self):
            used = field.name in COMMON | router.uses
            require(
                used or getattr(self, field.name) == field.default,
                f"router {self.router!r} does not use {field.name}: leave it at {field.default!r}",
            )

        require(self.experts >= 1, f"experts is {self.experts}: use at least 1")
        require(1 <= self.k <= self.experts, f"k={self.k} of {self.experts} experts: choose k between 1 and the number of experts")
        require(self.split >= 1, f"split is {self.split}: use 1 for whole experts, m to cut each into m")
        require(
            0 <= self.shared < self.chosen + self.shared,
            f"shared={self.shared} leaves nothing to route: it must be below split * k = {self.split * self.k}",
        )
        require(self.capacity_factor > 0, f"capacity_factor is {self.capacity_factor}: it must be above 0")
        require(0 <= self.jitter < 1, f"jitter is {self.jitter}: it must be in [0, 1)")
        require(self.router_init > 0, f"router_init is {self.router_init}: it must be above 0")
        for name in ("balance", "z_loss"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: it must not be negative")
        router.check(self)

    @property
    def routed(self) -> int:
        """Number of experts the router chooses among."""
        return self.split * self.experts - self.shared

    @property
    def chosen(self) -> int:
        """Number of them that it chooses for each token (one for the routers without k)."""
        return self.split * self.k - self.shared

    def places(self, depth: int) -> list[bool]:
        """Which of ``depth`` layers get experts."""
        layers = range(depth) if self.placement == "all" else range(1, depth, 2)
        if self.placement == "last-two":
            layers = layers[-2:]
        return [layer in layers for layer in range(depth)]


class MoELayer(nn.Module):
    """Router, experts and shared experts: features [B, N, D] → (output [B, N, D], :class:`Routing`).

    ``hidden`` is the width of an unsplit expert, after the activation.  ``tokens`` is the number of tokens of
    an image; only ``hash`` by position and ``soft`` without ``slots`` need it.  ``activation`` and ``bias`` are
    those of the experts, see :class:`~lib.moe.experts.Experts`; shared experts are a GELU network with biases.
    Raises ValueError for widths and numbers that do not fit the configuration, and for shared experts with
    another activation or without biases.
    """

    def __init__(
        self, config: MoEConfig, d_model: int, hidden: int, tokens: int | None = None, activation: str = "gelu", bias: bool = True
    ):
        super().__init__()
        require(
            not config.shared or (activation == "gelu" and bias),
            f"shared={config.shared} with activation={activation!r} and bias={bias}: shared experts are a GELU "
            "network with biases; use activation='gelu' and bias=True, or shared=0",
        )
        require(hidden % config.split == 0, f"hidden width {hidden} cannot be cut into split={config.split} equal parts: choose a multiple")
        width = hidden // config.split
        self.config = config
        self.router = ROUTERS[config.router].of(config, d_model, tokens)
        self.experts = Experts(config.routed, d_model, width, activation, config.backend, bias)
        self.shared = Mlp(d_model, config.shared * width) if config.shared else None

    def forward(self, x_BND: Tensor, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        """``id_BN``: what a content-free router goes by instead of features, see :mod:`lib.moe.routers.hash`."""
        y_BND, routing = self.router(x_BND, self.experts, id_BN)
        if self.shared is not None:
            y_BND = y_BND + self.shared(x_BND)
        return y_BND, routing

    def active_parameters(self) -> int:
        """Parameters that one token passes through: router, shared experts, and its own experts.

        Biases that are no parameters (``bias=False``) do not count.
        """
        experts = sum(p.numel() for p in self.experts.parameters())
        others = sum(p.numel() for p in self.parameters()) - experts
        return others + ROUTERS[self.config.router].active_parameters(self.config, experts)
