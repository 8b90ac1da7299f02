"""The MoE layer that takes the place of a transformer's FFN, and its configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor, nn

from lib.moe.bias import SCORES, BiasBalanced
from lib.moe.capacity import POLICIES
from lib.moe.experts import Experts
from lib.moe.ffn import Mlp
from lib.moe.gate import PRECISIONS, Gate
from lib.moe.routers.adamix import AdaMix
from lib.moe.routers.expert_choice import GROUPS, ExpertChoice
from lib.moe.routers.hash import BY, Hash
from lib.moe.routers.partition import RandomPartition
from lib.moe.routers.soft import SoftMoE
from lib.moe.routers.thor import INFERENCE, Thor
from lib.moe.routers.token_choice import SINGLE_GATES, NoisyTokenChoice, TokenChoice
from lib.moe.routers.whole_network import WholeNetwork
from lib.moe.routing import Routing
from lib.system.checks import one_of, require

GATE = {"jitter", "router_precision", "router_init", "router_bias"}
TOP_K = {"k", "shared", "split"} | GATE

#: Each router, and the fields of :class:`MoEConfig` that it uses besides those that all use.
ROUTERS: dict[str, set[str]] = {
    "switch": TOP_K | {"balance", "z_loss", "policy", "capacity_factor", "single_gate"},
    "vmoe": TOP_K | {"balance", "policy", "capacity_factor"},
    "bias": TOP_K | {"scores", "bias_rate"},
    "expert-choice": GATE | {"capacity_factor", "group"},
    "soft": {"slots"},
    "hash": {"hash_by", "codes"},
    "thor": {"inference"},
    "adamix": set(),
    "partition": set(),
    "whole-network": set(),
}
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
        one_of("placement", self.placement, PLACEMENTS)
        one_of("router_precision", self.router_precision, PRECISIONS)
        one_of("policy", self.policy, POLICIES)
        one_of("scores", self.scores, SCORES)
        one_of("single_gate", self.single_gate, SINGLE_GATES)
        one_of("group", self.group, GROUPS)
        one_of("hash_by", self.hash_by, BY)
        one_of("inference", self.inference, INFERENCE)

        shared_by_all = {"experts", "router", "placement", "backend"}
        for field in dataclasses.fields(self):
            used = field.name in shared_by_all | ROUTERS[self.router]
            require(
                used or getattr(self, field.name) == field.default,
                f"router {self.router!r} does not use {field.name}: leave it at {field.default!r}",
            )

        require(self.experts >= 1, f"experts is {self.experts}: use at least 1")
        require(self.router != "partition" or self.experts >= 2, "router 'partition' averages experts: use at least 2")
        require(1 <= self.k <= self.experts, f"k={self.k} of {self.experts} experts: choose k between 1 and the number of experts")
        require(self.split >= 1, f"split is {self.split}: use 1 for whole experts, m to cut each into m")
        require(
            0 <= self.shared < self.chosen + self.shared,
            f"shared={self.shared} leaves nothing to route: it must be below split * k = {self.split * self.k}",
        )
        require(
            self.policy != "second-choice" or self.chosen < self.routed,
            "policy 'second-choice' needs an expert outside the top k: lower k or use another policy",
        )
        require(self.capacity_factor > 0, f"capacity_factor is {self.capacity_factor}: it must be above 0")
        require(0 <= self.jitter < 1, f"jitter is {self.jitter}: it must be in [0, 1)")
        require(self.router_init > 0, f"router_init is {self.router_init}: it must be above 0")
        require(self.slots is None or self.slots >= 1, f"slots is {self.slots}: use at least 1, or None")
        for name in ("balance", "z_loss", "bias_rate"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: it must not be negative")

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
        self.router = build_router(config, d_model, tokens)
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
        config = self.config
        if config.router == "soft":
            return others + experts
        if config.router == "expert-choice":  # on average
            return others + round(experts * min(1, config.capacity_factor / config.experts))
        return others + experts * config.chosen // config.routed


def build_router(config: MoEConfig, d_model: int, tokens: int | None) -> nn.Module:
    """The router that ``config`` names: a module ``(x_BND, experts, id_BN) -> (y_BND, Routing)``."""
    E, k = config.routed, config.chosen

    def gate() -> Gate:
        return Gate(
            d_model, E, precision=config.router_precision, jitter=config.jitter, init_scale=config.router_init, bias=config.router_bias
        )

    match config.router:
        case "switch":
            return TokenChoice(
                gate(),
                E,
                k,
                balance=config.balance,
                z_weight=config.z_loss,
                policy=config.policy,
                capacity_factor=config.capacity_factor,
                single_gate=config.single_gate,
            )
        case "vmoe":
            return NoisyTokenChoice(gate(), E, k, balance=config.balance, policy=config.policy, capacity_factor=config.capacity_factor)
        case "bias":
            return BiasBalanced(gate(), E, k, rate=config.bias_rate, scores=config.scores)
        case "expert-choice":
            return ExpertChoice(gate(), E, capacity_factor=config.capacity_factor, group=config.group)
        case "soft":
            require(config.slots or tokens, "router 'soft' needs slots, or the number of tokens of an image")
            return SoftMoE(d_model, E, slots=config.slots or -(-tokens // E))
        case "hash":
            vocabulary = tokens if config.hash_by == "position" else config.codes + 1  # + 1: tokens that are no patch
            require(vocabulary, "router 'hash' by position needs the number of tokens of an image")
            require(
                vocabulary >= E,
                f"router 'hash' has {vocabulary} ids for {E} experts: some would never be used; "
                "use fewer experts, smaller patches, or hash_by='patch' with more codes",
            )
            return Hash(vocabulary, E)
        case "thor":
            return Thor(E, inference=config.inference)
        case "adamix":
            return AdaMix(E)
        case "partition":
            return RandomPartition(E)
        case "whole-network":
            return WholeNetwork(E)
