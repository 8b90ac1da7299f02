"""From dense to dynamic: a trained ViT whose FFNs give each token as many hidden units as it needs.

    model = DynamicViT.from_dense(vit, images)          # nested experts, untrained routers
    fit(model, batches, dynamic_loss(), recipe, seed=0)
    model.threshold = 0.8                               # compute against accuracy, without training again
    logits, routings = model.with_routing(images)       # one Routing per layer: expert_TK is each token's size

After DynaMoE (arXiv 2502.12325), which does this to the FFNs of language models; :mod:`lib.elastic.difficulty`
says which parts of it are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.elastic.cost import embedding_cost
from lib.elastic.difficulty import choose_size, difficulty
from lib.elastic.nested import NestedMlp, importance, prefix, reorder
from lib.models.vit import ViT, ViTConfig
from lib.moe.ffn import Mlp
from lib.moe.gate import softmax, without_autocast
from lib.moe.routing import Routing, routing
from lib.system.checks import require


def check_sizes(sizes: Sequence[float], theta: float) -> None:
    """Raise ValueError for fractions that do not grow to 1, and for θ outside (0, 1]."""
    require(
        sizes and sizes[-1] == 1 and all(a < b for a, b in zip((0, *sizes), sizes)),
        f"the sizes are {tuple(sizes)}: they must grow from above 0 to 1",
    )
    require(0 < theta <= 1, f"theta is {theta}: it must be in (0, 1]")


class SizeRouter(nn.Module):
    """Logits over sizes [T, E]: a two-layer MLP with D/4 hidden units on the FFN's input.

    It learns from the labels alone: its loss does not reach the features, whose gradient is the task's.
    """

    def __init__(self, width: int, sizes: int):
        super().__init__()
        self.fc1 = nn.Linear(width, max(4, width // 4))
        self.fc2 = nn.Linear(self.fc1.out_features, sizes)

    def forward(self, x_TD: Tensor) -> Tensor:
        with without_autocast(x_TD.device.type):
            x_TD = x_TD.detach().to(self.fc1.weight.dtype)
            return self.fc2(F.gelu(self.fc1(x_TD)))


class DynamicFfn(nn.Module):
    """A nested FFN and the router that says how much of it a token gets.

    In training all sizes are computed, at the cost of the whole FFN: each token's label comes from them.  Its
    output is that of the size that the router chooses at a threshold drawn from U(0, 1) for each layer and
    step, so that every later setting of the threshold has been trained for.  In evaluation a token costs what
    its size costs.

    ``threshold``  see :func:`~lib.elastic.difficulty.choose_size`; evaluation only
    ``given_T``    sizes to use in evaluation in place of the router's; the router is then not run
    """

    def __init__(self, mlp: Mlp, widths: Sequence[int], theta: float):
        super().__init__()
        self.experts = NestedMlp(mlp, widths)
        self.router = SizeRouter(mlp.fc1.in_features, len(widths))
        self.theta = theta
        self.threshold: float | None = None
        self.given_T: Tensor | None = None

    def forward(self, x_BND: Tensor, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        x_TD = x_BND.flatten(0, 1)
        y_TD, decided = (self.learn if self.training else self.infer)(x_TD)
        return y_TD.view(x_BND.shape), decided

    def learn(self, x_TD: Tensor) -> tuple[Tensor, Routing]:
        logits_TE = self.router(x_TD)
        probs_TE = softmax(logits_TE.detach())
        size_T = choose_size(probs_TE, torch.rand((), device=x_TD.device))
        parts = self.experts.chunks(x_TD)
        y_TD = self.experts.fc2.bias + parts[0]
        for size, part_TD in enumerate(parts[1:], start=1):
            y_TD = y_TD + part_TD * (size_T >= size)[:, None]
        losses = {"router": F.cross_entropy(logits_TE, self.label(parts))}
        return y_TD, self.routing(size_T, probs_TE, losses)

    def label(self, parts: list[Tensor]) -> Tensor:
        """The smallest size that does for each token [T], from what :meth:`NestedMlp.chunks` returned."""
        part_ETD = torch.stack(parts).detach()
        part_ETD = part_ETD.to(torch.promote_types(part_ETD.dtype, torch.float32))  # θ is too near 1 for sums in bf16
        return difficulty(part_ETD.cumsum(0), self.theta)

    def infer(self, x_TD: Tensor) -> tuple[Tensor, Routing]:
        if self.given_T is not None:
            return self.experts(x_TD, self.given_T), self.routing(self.given_T, None)
        probs_TE = softmax(self.router(x_TD))
        size_T = choose_size(probs_TE, self.threshold)
        return self.experts(x_TD, size_T), self.routing(size_T, probs_TE)

    def routing(self, size_T: Tensor, probs_TE: Tensor | None, losses: dict[str, Tensor] | None = None) -> Routing:
        ones_TK = torch.ones_like(size_T[:, None], dtype=torch.float32)
        return routing(size_T[:, None], ones_TK, len(self.experts.widths), probs_TE, losses)


class DynamicViT(ViT):
    """A ViT whose FFNs are :class:`DynamicFfn`; ``sizes`` are fractions of each layer's hidden units.

    Raises ValueError for sizes that do not grow to 1, for θ outside (0, 1], and for a mixture of experts.
    """

    def __init__(self, config: ViTConfig, sizes: Sequence[float] = (1 / 4, 1 / 2, 1), theta: float = 0.9):
        require(not any(config.mixtures), "only a dense ViT can be made dynamic: this one has a mixture of experts")
        check_sizes(sizes, theta)
        super().__init__(config)
        self.sizes, self.theta = tuple(sizes), theta
        for block, hidden in zip(self.blocks, config.widths):
            block.ffn = DynamicFfn(block.ffn, [max(1, round(size * hidden)) for size in sizes], theta)

    @classmethod
    def from_dense(
        cls, vit: ViT, images: Tensor, sizes: Sequence[float] = (1 / 4, 1 / 2, 1), theta: float = 0.9, how: str = "activation"
    ) -> DynamicViT:
        """The same function as ``vit`` while every token has the full size; ``vit`` is left as it is.

        ``images`` [B, C, H, W], normalised, are what the importance of hidden units is measured on.
        """
        model = cls(vit.config, sizes, theta).to(vit.positions)
        for block, trained in zip(model.blocks, vit.blocks):
            block.ffn.experts.load_state_dict(trained.ffn.state_dict())
        others = {name: tensor for name, tensor in vit.state_dict().items() if ".ffn." not in name}
        model.load_state_dict(others, strict=False)
        for block, x_TD in zip(model.blocks, ffn_inputs(vit, images)):
            reorder(block.ffn.experts, importance(block.ffn.experts, x_TD, how))
        return model

    @property
    def threshold(self) -> float | None:
        return self.blocks[0].ffn.threshold

    @threshold.setter
    def threshold(self, value: float | None) -> None:
        for block in self.blocks:
            block.ffn.threshold = value

    @torch.no_grad()
    def with_sizes(self, images: Tensor, size_LT: Sequence[Tensor]) -> Tensor:
        """Logits when the tokens have the given sizes, one tensor per layer, whatever the routers say."""
        try:
            for block, size_T in zip(self.blocks, size_LT, strict=True):
                block.ffn.given_T = size_T
            return self(images)
        finally:
            for block in self.blocks:
                block.ffn.given_T = None

    def static(self, widths: Sequence[int]) -> ViT:
        """An ordinary ViT, in evaluation mode, in which every token has the first ``widths[l]`` units of layer l."""
        vit = ViT(replace(self.config, hidden=tuple(widths))).to(self.positions)
        state = {name: tensor for name, tensor in self.state_dict().items() if ".ffn." not in name}
        for layer, (block, width) in enumerate(zip(self.blocks, widths, strict=True)):
            ffn = prefix(block.ffn.experts, width).state_dict()
            state |= {f"blocks.{layer}.ffn.{name}": tensor for name, tensor in ffn.items()}
        vit.load_state_dict(state)
        return vit.eval()


@torch.no_grad()
def ffn_inputs(vit: ViT, images: Tensor) -> list[Tensor]:
    """What each layer's FFN is given for ``images``: one [T, D] per layer.  Leaves ``vit`` in evaluation mode."""
    seen: list[Tensor] = []
    hooks = [block.ffn.register_forward_pre_hook(lambda ffn, inputs: seen.append(inputs[0].flatten(0, 1))) for block in vit.blocks]
    try:
        vit.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def dynamic_loss(label_smoothing: float = 0.0):
    """Cross-entropy of the task plus the mean over layers of the routers', as a loss for :func:`lib.training.loop.fit`.

    Logs ``router_loss`` and ``mean_size``, the chosen hidden units as a fraction of all.
    """

    def loss(model: DynamicViT, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, routings = model.with_routing(inputs)
        router = torch.stack([routing.loss for routing in routings]).mean()
        task = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        return task + router, {"router_loss": router.detach(), "mean_size": mean_size(model, routings)}

    return loss


def mean_size(model: DynamicViT, routings: Sequence[Routing]) -> Tensor:
    """Mean over layers and tokens of the chosen fraction of hidden units."""
    load_LE = torch.stack([routing.load_E for routing in routings])
    return (load_LE / load_LE.sum(1, keepdim=True) @ load_LE.new_tensor(model.sizes)).mean()


def flops_without_ffns(model: ViT) -> int:
    """FLOPs of one image outside the FFNs: what makes tokens of it, attention and head (a multiply-add counts 2)."""
    N, D = model.config.tokens, model.config.width
    total = embedding_cost(model.config)[1]
    for block in model.blocks:
        A = block.attention.out.in_features  # heads × features of a head
        total += 2 * N * D * 3 * A + 2 * 2 * N * N * A + 2 * N * A * D
    return total + sum(2 * weight.numel() for weight in model.head.parameters() if weight.ndim == 2)


def routed_flops(model: DynamicViT, routings: Sequence[Routing]) -> float:
    """FLOPs per image, mean over the images that gave ``routings``: exact, from the sizes that were chosen.

    Outside the FFNs as ever; 4 · D · h_e for each token of size e; and the routers where they ran.
    """
    N, D = model.config.tokens, model.config.width
    total = float(flops_without_ffns(model))
    for block, decided in zip(model.blocks, routings, strict=True):
        images = len(decided.expert_TK) / N
        total += sum(4 * D * width * load for width, load in zip(block.ffn.experts.widths, decided.load_E.tolist())) / images
        if decided.probs_TE is not None:
            total += 2 * N * sum(weight.numel() for weight in block.ffn.router.parameters() if weight.ndim == 2)
    return total
