"""From a dense model to a mixture of experts: each expert starts as the FFN, or as a group of its neurons.

Sparse Upcycling (Komatsuzaki et al., arXiv 2212.05055); virtual groups (He et al., arXiv 2410.07524); Drop-Upcycling
(Nakamura et al., ICLR 2025, arXiv 2502.19261).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.growth.growth import Growth, generator, normal_like
from lib.growth.layout import block_of
from lib.growth.moments import Moments
from lib.growth.rates import Factors
from lib.models.gpt import GPTConfig
from lib.moe.layer import MoEConfig
from lib.system.checks import require

#: An expert's tensors, and the parameter of the FFN that each is made of.
SOURCES = {"w_in": "ffn.up.weight", "b_in": "ffn.up.bias", "w_out": "ffn.down.weight", "b_out": "ffn.down.bias"}


@dataclass(frozen=True)
class Upcycle(Growth):
    """Replace every FFN by the experts of ``moe``.

    If a token's gates sum to 1, equal experts compute what the FFN did, whatever the router says.  They do for k > 1
    (:mod:`lib.moe.routers.token_choice`, :mod:`lib.moe.routers.bias`).  For one expert weighted by its own score they do not: then only
    ``router_scale=0`` is exact, with ``output_scale`` the inverse of the score (E for a softmax).

    ``router_scale``  standard deviation of the router's logits for what the layer's norm gives it: weights are N(0, σ²)
                      with σ = router_scale / √Σ(gain² + bias²).  With 0 all logits tie: the gradient that the loss
                      sends a router through equal experts and gates that sum to 1 is 0, and all tokens choose the
                      same experts, which stay equal.  Only a balance loss breaks the tie
    ``drop``          share of its neurons that each expert draws anew, from a normal with mean and deviation of what it
                      drops, for each matrix (and bias: our choice) by itself; not exact
    ``output_scale``  factor on what experts return, their bias included

    ``moe.split`` = G > 1 makes virtual groups: the FFN's neurons are cut into G groups of which ``moe.experts`` copies
    are made, expert g·E + c being copy c of group g.  Router rows are the same for every group, so the G·k best are k
    copies of all groups, with gates that sum to 1/G in each: outgoing weights are multiplied by G, biases are not.
    """

    moe: MoEConfig
    router_scale: float = 1.0
    drop: float = 0.0
    output_scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.router_scale >= 0, f"router_scale is {self.router_scale}: it must not be negative")
        require(0 <= self.drop <= 1, f"drop is {self.drop}: it must be in [0, 1]")
        require(self.output_scale > 0, f"output_scale is {self.output_scale}: it must be above 0")

    def config(self, config: GPTConfig) -> GPTConfig:
        require(isinstance(config, GPTConfig), "only a GPT's FFNs can become experts: widen or deepen other networks")
        require(config.moe is None, "the model has experts already: upcycle a dense one")
        require(
            config.hidden % self.moe.split == 0,
            f"hidden {config.hidden} cannot be cut into split={self.moe.split} groups: choose a divisor",
        )
        return replace(config, moe=self.moe)

    def exact(self, config: GPTConfig) -> bool:
        total = gate_sum(self.moe, zero_router=self.router_scale == 0)
        # A zero router picks any experts, of which some may be copies of the same group.
        one_per_group = self.moe.split == 1 or self.router_scale > 0 or self.moe.chosen == self.moe.routed
        return self.drop == 0 and total is not None and math.isclose(total * self.output_scale, 1) and one_per_group

    def weights(self, config: GPTConfig, tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        grown = {name: tensor for name, tensor in tensors.items() if not is_ffn(name)}
        for block in range(config.depth):
            prefix = f"blocks.{block}.ffn."
            stacks = stacked(tensors, prefix, self.moe)
            if self.drop:
                self.redraw(stacks, prefix, seed)
            grown |= {f"{prefix}experts.{name}": self.scales()[name][0] * tensor for name, tensor in joined(stacks).items()}
            grown |= {f"{prefix}router.{name}": tensor for name, tensor in self.router(tensors, block, seed).items()}
        return grown

    def scales(self) -> dict[str, tuple[float, float]]:
        """For each of an expert's tensors, the factor on its values, and on its gradients where gates sum to 1/output_scale.

        Each of E copies sees its share of the tokens, so 1/E of the gradient; what is scaled up learns from less.
        """
        groups, copies, scale = self.moe.split, self.moe.experts, self.output_scale
        outgoing = 1 / (copies * groups * scale)
        return {"w_in": (1.0, 1 / copies), "b_in": (1.0, 1 / copies), "w_out": (groups * scale, outgoing), "b_out": (scale, outgoing)}

    def router(self, tensors: dict[str, Tensor], block: int, seed: int) -> dict[str, Tensor]:
        """The router's tensors: weight [experts, D], the same rows for each group; biases zero."""
        norm = [tensors[name] for name in (f"blocks.{block}.norm2.weight", f"blocks.{block}.norm2.bias") if name in tensors]
        size = math.sqrt(sum(float(t.double().square().sum()) for t in norm))
        rows = norm[0].new_empty(self.moe.experts, len(norm[0]))
        sigma = self.router_scale / max(size, torch.finfo(rows.dtype).tiny)
        drawn = sigma * normal_like(rows, seed, f"blocks.{block}.ffn.router.gate.weight")
        zeros = rows.new_zeros(self.moe.routed)
        return (
            {"gate.weight": drawn.repeat(self.moe.split, 1)}
            | ({"gate.bias": zeros} if self.moe.router_bias else {})
            | ({"bias_E": zeros.clone()} if self.moe.router == "bias" else {})
        )

    def redraw(self, stacks: dict[str, Tensor], prefix: str, seed: int) -> None:
        """Draw neurons anew, in place: the same ones in all matrices of an expert, others in each expert."""
        E, H = stacks["up.weight"].shape[:2]
        for e in range(E):
            draw = generator(seed, f"{prefix}experts.{e}")
            dropped = torch.randperm(H, generator=draw)[: round(self.drop * H)]
            for name, stack in stacks.items():
                if name != "down.bias" and len(dropped):
                    old = stack[e, dropped]
                    noise = torch.randn(old.shape, dtype=old.dtype, generator=draw).to(old.device)
                    stack[e, dropped] = old.mean() + old.std(unbiased=False) * noise

    def moments(self, config: GPTConfig, moments: Moments, seed: int) -> Moments:
        """Experts take their share of the FFN's moments; the router starts from zero at step 0.

        An expert's gradient is 1/E of the FFN's on average.  The mean of its square would be 1/E² if all tokens pulled the
        same way.  It is 1/(E·k) where their noise prevails, for the expert sees k/E of the tokens, each with a weight of
        1/k, and the variances of these add up.  The second is taken (our choice): it is what small models show.
        Neurons drawn anew keep what the old ones had.
        """
        noise = self.moe.experts / self.moe.k

        def carried(tensors: dict[str, Tensor], factor) -> dict[str, Tensor]:
            kept = {name: tensor for name, tensor in tensors.items() if not is_ffn(name)}
            for block in sorted({block_of(name)[0] for name in tensors if is_ffn(name)}):
                prefix = f"blocks.{block}.ffn."
                kept |= {
                    f"{prefix}experts.{name}": factor(self.scales()[name][1]) * tensor
                    for name, tensor in joined(stacked(tensors, prefix, self.moe)).items()
                }
            return kept

        first = carried(moments.first, lambda gradient: gradient)
        return Moments(
            first,
            carried(moments.second, lambda gradient: gradient**2 * noise),
            {name: moments.step[self.source(config, name)] for name in first},
        )

    def source(self, config: GPTConfig, name: str) -> str | None:
        block, inner = block_of(name)
        if inner.startswith("ffn.experts."):
            return f"blocks.{block}.{SOURCES[inner.rpartition('.')[2]]}"
        return None if inner.startswith("ffn.router.") else name

    def rate(self, config: GPTConfig, name: str) -> Factors:
        """What was scaled up must move as much faster (our choice; the cited papers use one rate for all)."""
        _, inner = block_of(name)
        if not inner.startswith("ffn.experts."):
            return Factors()
        value, gradient = self.scales()[inner.rpartition(".")[2]]
        return Factors(lr=value, eps=gradient, weight_decay=1 / value)


def is_ffn(name: str) -> bool:
    return block_of(name)[1].startswith("ffn.")


def stacked(tensors: dict[str, Tensor], prefix: str, moe: MoEConfig) -> dict[str, Tensor]:
    """An FFN's tensors (or moments) for each expert, neurons first: weights [E, H, D]; ``down.bias`` [E, D]."""

    def copies(name: str, tensor: Tensor) -> Tensor:
        if name == "down.bias":
            return tensor.expand(moe.routed, -1)
        neurons = tensor.mT if name == "down.weight" else tensor
        return neurons.unflatten(0, (moe.split, -1)).repeat_interleave(moe.experts, dim=0)

    return {
        name.removeprefix(prefix): copies(name.removeprefix(prefix), tensor) for name, tensor in tensors.items() if name.startswith(prefix)
    }


def joined(stacks: dict[str, Tensor]) -> dict[str, Tensor]:
    """As :class:`~lib.moe.experts.Experts` has them: gate and up side by side in ``w_in``, neurons last there."""

    def parts(kind: str) -> Tensor:
        return torch.cat([stacks[f"{part}.{kind}"] for part in ("gate", "up") if f"{part}.{kind}" in stacks], dim=1)

    found = {"w_in": parts("weight").mT.contiguous(), "w_out": stacks["down.weight"].contiguous()}
    return found | ({"b_in": parts("bias"), "b_out": stacks["down.bias"].clone()} if "down.bias" in stacks else {})


def gate_sum(moe: MoEConfig, zero_router: bool) -> float | None:
    """What a token's gates sum to; None where that depends on the token (see the routers' own files)."""
    softmax = moe.router != "bias" or moe.scores == "softmax"
    if (moe.chosen > 1 and moe.router != "vmoe") or (moe.chosen == moe.routed and softmax):
        return 1.0
    if not zero_router:
        return None
    return moe.chosen / moe.routed if softmax and moe.single_gate != "share" else 0.5
