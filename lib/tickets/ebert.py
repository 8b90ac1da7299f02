"""EBERT: small predictors decide, for each input anew, which heads and which neurons to compute.

Before each layer's attention a predictor reads the hidden state of [CLS] (in the first layer, where [CLS] has not seen
anything yet, the mean over the text) and gives a number z for each head; before the FFN another one gives a number for each
neuron.  In training a gate is open where σ(z + log u - log(1 - u)) ≥ 0.5 with u uniform in (0, 1), and its gradient passes
as that of the sigmoid (straight-through); afterwards it is open where z ≥ 0.  Liu et al., Findings of ACL 2021,
doi 10.18653/v1/2021.findings-acl.425, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.encoder import Classifier
from lib.system.checks import one_of, require
from lib.system.precision import autocast
from lib.tickets.flops import PREDICTOR, flops_share

#: Weight of the FLOPs' distance from their target, and of each layer's; as published and released.
WEIGHT, PER_LAYER = 4.0, 5.0

#: What decides about the gates: the input, or nothing but trained numbers ("constant"), the control.
KINDS = ("input", "constant")


@dataclass(frozen=True, eq=False)
class Gates:
    """What was open: per layer ``heads`` [B, H] and ``neurons`` [B, hidden], 0 or 1."""

    heads: list[Tensor]
    neurons: list[Tensor]


def predictor(width: int, gates: int) -> nn.Sequential:
    """Linear → BatchNorm → ReLU → Linear; weights ~ N(0, 0.02²), biases 0, so that z begins near 0 and gates half open."""
    layers = nn.Sequential(nn.Linear(width, PREDICTOR), nn.BatchNorm1d(PREDICTOR), nn.ReLU(), nn.Linear(PREDICTOR, gates))
    for layer in (layers[0], layers[3]):
        nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return layers


class Constant(nn.Module):
    """One trained z for each gate, the same for all inputs: gates learnt as EBERT's are, and static."""

    def __init__(self, gates: int):
        super().__init__()
        self.z = nn.Parameter(torch.zeros(gates))

    def forward(self, state_BD: Tensor) -> Tensor:
        return self.z.expand(len(state_BD), -1)


def gate(z: Tensor, noisy: bool) -> Tensor:
    """Open (1) or closed (0).  ``noisy``: with logistic noise and the sigmoid's gradient; else z ≥ 0 and no gradient."""
    if not noisy:
        return (z >= 0).to(z.dtype)
    soft = torch.sigmoid(z + torch.logit(torch.rand_like(z), eps=1e-6))
    return (soft >= 0.5).to(z.dtype) + soft - soft.detach()


class Dynamic(nn.Module):
    """A classifier whose heads and neurons are gated for each input.  All its layers must be of one size."""

    def __init__(self, model: Classifier, kind: str = "input"):
        super().__init__()
        one_of("kind", kind, KINDS)
        config = model.encoder.config
        require(min(config.heads_by_layer + config.hidden_by_layer) > 0, "a layer without heads or neurons cannot be gated")
        make = predictor if kind == "input" else lambda width, gates: Constant(gates)
        self.model, self.kind = model, kind
        self.of_heads = nn.ModuleList(make(config.width, n) for n in config.heads_by_layer)
        self.of_neurons = nn.ModuleList(make(config.width, n) for n in config.hidden_by_layer)
        self.settled = False  # no buffer: asking a tensor on a GPU would make it wait in every step
        self.to(model.head.weight.device)

    def forward(self, tokens_BN: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.with_gates(tokens_BN)[0]

    def with_gates(self, tokens_BN: Tensor) -> tuple[Tensor, Gates]:
        """Logits, and which gates were open.  All is computed and then multiplied by the gates: nothing is saved here."""
        padding = tokens_BN == self.model.pad
        x, seen = self.model.encoder.start(tokens_BN, padding)
        gates = Gates([], [])
        for layer, block in enumerate(self.model.encoder.blocks):
            gates.heads.append(self.decide(self.of_heads[layer], state(x, padding, layer)))
            x = block.norm1(x + block.dropout(block.attention(x, seen, gates.heads[-1])))
            gates.neurons.append(self.decide(self.of_neurons[layer], x[:, 0]))
            x = block.norm2(x + block.dropout(block.ffn(x, gates.neurons[-1])))
        return self.model.decide(x), gates

    def decide(self, predictor: nn.Module, state_BD: Tensor) -> Tensor:
        return gate(predictor(state_BD).float(), self.training and not self.settled)

    def settle(self) -> None:
        """Freeze the predictors for the second stage: no gradient, no noise, and batch norm with the statistics it has.

        The released code only takes away the gradient; noise and batch norm's statistics go on.
        """
        self.settled = True
        self.predictors().requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Dynamic:
        super().train(mode)
        if self.settled:
            self.predictors().eval()
        return self

    def predictors(self) -> nn.ModuleList:
        return nn.ModuleList([self.of_heads, self.of_neurons])


def state(x_BND: Tensor, padding_BN: Tensor, layer: int) -> Tensor:
    """What the heads' predictor of a layer reads, [B, D].  The mean leaves padding out; the released code's does not."""
    if layer:
        return x_BND[:, 0]
    there = (~padding_BN)[..., None].to(x_BND.dtype)
    return (x_BND * there).sum(1) / there.sum(1)


def dynamic_loss(target: float, weight: float = WEIGHT, per_layer: float = PER_LAYER):
    """A loss for :func:`lib.training.loop.fit`: CE + weight · [(S - S_t)² + per_layer · (mean (S_t - p_h)² + mean (S_t - p_f)²)].

    ``target`` share of the encoder's FLOPs, S_t = 1 - target; S the share that the batch saves, predictors counted; p_h and
    p_f the shares of closed gates, means over layers (section 3 of the paper).  In a settled network it is CE alone.
    """
    require(0 < target <= 1, f"target is {target}: it must be a share of the FLOPs, above 0 and at most 1")
    closed = 1 - target

    def loss(model: Dynamic, tokens: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, gates = model.with_gates(tokens)
        logits = logits.float()
        total = F.cross_entropy(logits, labels)
        share = flops_share(gates.heads, gates.neurons, model.model.encoder.config, tokens.shape[1], model.kind == "input")
        if not model.settled:
            layers = sum(
                torch.stack([(closed - (1 - gate.mean())).square() for gate in kind]).mean() for kind in (gates.heads, gates.neurons)
            )
            total = total + weight * ((1 - share - closed).square() + per_layer * layers)
        return total, {"train_accuracy": (logits.detach().argmax(1) == labels).float().mean(), "flops": share.detach()}

    return loss


@dataclass(frozen=True, eq=False)
class Census:
    """How often each gate is open over some inputs: ``heads`` [L, H] and ``neurons`` [L, hidden], from 0 to 1.

    ``flops``: share of the encoder's FLOPs that the average input takes, predictors counted.
    """

    heads: Tensor
    neurons: Tensor
    flops: float

    def count(self) -> dict[str, int]:
        """Heads and neurons that are open for every input, for none, and for some."""
        found = {}
        for name, often in (("heads", self.heads), ("neurons", self.neurons)):
            found |= {
                f"{name}_always_on": int((often == 1).sum()),
                f"{name}_always_off": int((often == 0).sum()),
                f"{name}_input_dependent": int(((often > 0) & (often < 1)).sum()),
            }
        return found


@torch.no_grad()
def census(model: Dynamic, tokens: Tensor, precision: str = "fp32", together: int = 256) -> Census:
    """Count open gates over these inputs [N, context], in evaluation mode.  The model keeps its own mode.

    ``precision``: as the network is evaluated otherwise, see :class:`lib.training.loop.Recipe`; gates near z = 0 may depend on it.
    """
    mode, opened, shares = model.training, None, 0.0
    model.eval()
    for some in tokens.split(together):
        with autocast(tokens.device, precision):
            gates = model.with_gates(some)[1]
        here = [torch.stack([gate.sum(0) for gate in kind]).cpu() for kind in (gates.heads, gates.neurons)]
        opened = here if opened is None else [a + b for a, b in zip(opened, here)]
        shares += len(some) * float(
            flops_share(gates.heads, gates.neurons, model.model.encoder.config, some.shape[1], model.kind == "input")
        )
    model.train(mode)
    return Census(opened[0] / len(tokens), opened[1] / len(tokens), shares / len(tokens))
