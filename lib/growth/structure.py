"""Does a grown model satisfy what defines its growth?  Checked on the tensors alone, however they were made.

Added blocks write exactly nothing.  Copies of a unit are made equally, and what reads them sums to the old weight.  Hidden
units with the same incoming weights pass on together what the old one did.  Experts of all groups together are the FFN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lib.growth.depth import WRITES
from lib.growth.layout import FIXED, Axis, axes, block_of, sizes
from lib.models.gpt import GPT, GPTConfig
from lib.system.checks import require

#: What tells hidden units apart or is shared out among experts; it is compared network by network.
FFN = ("ffn.gate", "ffn.up", "ffn.down", "ffn.experts")


@torch.no_grad()
def structure(before: GPT, after: GPT, gate_sum: float = 1.0) -> dict[str, float]:
    """Largest violation for each group of tensors, relative to the largest entry of the old tensor; 0 is perfect.

    Groups: "embedding", "norms", "attention", "head", "router", "ffn", or "experts" where FFNs became experts, and
    "silent blocks" where blocks were added.  ``gate_sum``: what a token's gates sum to.  Raises ValueError for models of
    which the second is no larger version of the first.
    """
    small, large = before.config, after.config
    require(
        large.depth >= small.depth and large.width % small.width == 0 and not (small.moe and not large.moe),
        f"the second model is not a larger version of the first: {large} and {small}",
    )
    old, new = precise(before), precise(after)
    found: dict[str, float] = {}

    def note(group: str, violation: float) -> None:
        found[group] = max(found.get(group, 0.0), violation)

    if large.depth > small.depth:
        new, loudest = without_quietest(new, large.depth - small.depth)
        note("silent blocks", loudest)
    kind = "experts" if large.moe and not small.moe else "ffn"
    ratios = {axis: count // sizes(small)[axis] for axis, count in sizes(large).items() if axis != "hidden"}
    folded = {}
    for name, tensor in new.items():
        layout = axes(name, large)
        if block_of(name)[1].startswith(FFN):
            (folded[name],) = unfold(tensor, [axis if axis.flow == "in" else FIXED for axis in layout], ratios)
        elif name in old:
            note(group_of(name), relative(unfold(tensor, layout, ratios), old[name]))
    for block in range(small.depth):
        expected, made = networks(old, block, small), networks(folded, block, large)
        if large.moe and not small.moe:
            E = large.moe.experts
            expected, made = expected * E, [together(made[copy::E], gate_sum) for copy in range(E)]
        for network, original in zip(made, expected, strict=True):
            note(kind, unlike(network, original))
    return found


def precise(model: GPT) -> dict[str, Tensor]:
    """The state dict in float64; on the CPU where the device has no such type."""
    return {name: (tensor.cpu() if tensor.device.type == "mps" else tensor).double() for name, tensor in model.state_dict().items()}


def group_of(name: str) -> str:
    if name in ("embed.weight", "positions"):
        return "embedding"
    return next(group for group in ("norm", "attention", "head", "router") if group in name).replace("norm", "norms")


def without_quietest(tensors: dict[str, Tensor], count: int) -> tuple[dict[str, Tensor], float]:
    """Leave out the ``count`` blocks that write least; and the largest entry of what they write, relative to all blocks."""
    loudness: dict[int, float] = {}
    for name, tensor in tensors.items():
        block, inner = block_of(name)
        if block is not None and inner.startswith(WRITES):
            loudness[block] = max(loudness.get(block, 0.0), float(tensor.abs().max()))
    quiet = sorted(loudness, key=lambda block: (loudness[block], -block))[:count]
    place = {block: i for i, block in enumerate(sorted(loudness.keys() - set(quiet)))}
    kept = {
        name if (block := block_of(name)[0]) is None else f"blocks.{place[block]}.{block_of(name)[1]}": tensor
        for name, tensor in tensors.items()
        if block_of(name)[0] not in quiet
    }
    return kept, max((loudness[block] for block in quiet), default=0.0) / (max(loudness.values()) or 1.0)


def unfold(tensor: Tensor, layout: Sequence[Axis], ratios: dict[str, int]) -> Tensor:
    """[copies, *old shape]: summed over copies along "in" axes, one behind the other along "out" axes."""
    tensor = tensor[None]
    for dim, axis in enumerate(layout, start=1):
        parts = tensor.unflatten(dim, (ratios.get(axis.kind, 1), -1))
        tensor = parts.sum(dim) if axis.flow == "in" else parts.movedim(dim, 1).flatten(0, 1)
    return tensor


class Network(NamedTuple):
    """An FFN as its neurons: incoming weights (and biases) ``read`` [H, F], outgoing ``write`` [H, D], ``bias`` [D]."""

    read: Tensor
    write: Tensor
    bias: Tensor


def networks(tensors: dict[str, Tensor], block: int, config: GPTConfig) -> list[Network]:
    """A block's FFN, or its experts."""
    ffn = {name.split("ffn.")[1]: tensor for name, tensor in tensors.items() if name.startswith(f"blocks.{block}.ffn.")}
    if config.moe is None:
        parts = [part for part in ("gate", "up") if f"{part}.weight" in ffn]
        biases = [ffn[f"{part}.bias"][:, None] for part in parts if f"{part}.bias" in ffn]
        read = torch.cat([ffn[f"{part}.weight"] for part in parts] + biases, dim=1)
        write = ffn["down.weight"].mT
        return [Network(read, write, ffn.get("down.bias", torch.zeros_like(write[0])))]
    w_in, w_out = ffn["experts.w_in"], ffn["experts.w_out"]
    H = w_out.shape[1]
    read = w_in.unflatten(2, (-1, H)).permute(0, 3, 2, 1).flatten(2)
    if "experts.b_in" in ffn:
        read = torch.cat([read, ffn["experts.b_in"].unflatten(1, (-1, H)).mT], dim=2)
    b_out = ffn.get("experts.b_out", torch.zeros_like(w_out[:, 0]))
    return [Network(*parts) for parts in zip(read, w_out, b_out)]


def together(groups: list[Network], gate_sum: float) -> Network:
    """One copy of each group, as one network; their gates sum to ``gate_sum``."""
    read, write, bias = (torch.stack(part) for part in zip(*groups))
    return Network(read.flatten(0, 1), write.flatten(0, 1) * gate_sum / len(groups), bias.mean(0) * gate_sum)


def unlike(made: Network, original: Network) -> float:
    """How far ``made`` is from a network whose units are copies of the original's and write together what it wrote.

    Once for each copy of the residual stream that ``made`` writes into.
    """
    itself = nearest(original.read, original.read)  # where two old units read the same, the first stands for both
    unit = itself[nearest(made.read, original.read)]
    wrote = made.write.new_zeros(len(original.read), made.write.shape[1]).index_add_(0, unit, made.write)
    expected = torch.zeros_like(original.write).index_add_(0, itself, original.write)
    times = made.write.shape[1] // original.write.shape[1]
    return max(
        relative(made.read, original.read[unit]),
        relative(wrote, expected.repeat(1, times)),
        relative(made.bias, original.bias.repeat(times)),
    )


def nearest(rows: Tensor, among: Tensor) -> Tensor:
    """For each row the first of the nearest ones ``among``; equal up to the rounding of fp32 counts as equally near."""
    distance = torch.cdist(rows, among)
    return (distance <= distance.amin(1, keepdim=True) + 1e-5 * among.norm(dim=1).amax()).int().argmax(1)


def relative(made: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected entry, or the difference itself where all of those are 0."""
    return float((made - expected).abs().max()) / (float(expected.abs().max()) or 1.0)
