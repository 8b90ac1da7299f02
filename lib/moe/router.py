"""What every router has: how a layer makes it, and what it is called.  A router is a file in ``lib/moe/routers`` and a line in its list."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from lib.moe.routing import Routing

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig


class Router(nn.Module):
    """Decide which expert each token goes to, and say what the experts made of it.

    ``uses``     the fields of :class:`~lib.moe.layer.MoEConfig` that it reads, besides those that every router has
    ``learned``  whether it has a probability of each expert for each token; others decide without looking, or blend
    ``causal``   whether it chooses for each token by itself; others look at tokens that are yet to come, or at images
    ``label``, ``colour``, ``symbol``  how it is written and drawn in the book
    """

    uses: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = False
    causal: ClassVar[bool] = False
    label: ClassVar[str]
    colour: ClassVar[str]
    symbol: ClassVar[str]

    def __init__(self, experts: int):
        super().__init__()
        self.experts = experts

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        """Return what ``experts`` made of features [B, N, D], in that shape, and where each token went.

        ``id_BN``  what a router goes by that does not look at features, see :mod:`lib.moe.routers.hash`
        """
        raise NotImplementedError

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        """Raise ValueError, saying what to do, where the fields that this router uses make no sense."""

    @classmethod
    def of(cls, config: MoEConfig, d_model: int, tokens: int | None) -> Router:
        """Return the router of one layer.  ``tokens``: of an image, where they are known.  ValueError where they are needed."""
        return cls(config.routed)

    @classmethod
    def active_parameters(cls, config: MoEConfig, parameters: int) -> int:
        """Return how many of the routed experts' ``parameters`` a token passes through, on average."""
        return parameters * config.chosen // config.routed


class TokenRouter(Router):
    """A router that looks at each token alone; a subclass says how in ``route(x_TD) -> Routing``."""

    learned = True
    causal = True

    def __init__(self, gate: nn.Module, experts: int, k: int):
        super().__init__(experts)
        self.gate, self.k = gate, k

    def route(self, x_TD: Tensor) -> Routing:
        raise NotImplementedError

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        x_TD = x_BND.flatten(0, 1)
        decided = self.route(x_TD)
        return experts(x_TD, decided.expert_TK, decided.gate_TK).view(x_BND.shape), decided
