"""Training steps of the book's networks: as PyTorch runs them by default, and as the book's recipes do, in turns.

    python benchmarks/training_step.py                           # every network
    python benchmarks/training_step.py --networks vit,vgg --rounds 21
    OMP_NUM_THREADS=1 python benchmarks/training_step.py         # one of the two processes that train most per hour

"by default" is fp32 with images in rows of channels; "the book's" is the precision that pays on this machine (bfloat16
where there are units for it), images channel by channel where convolutions read them, and attention by the engine that
trains faster.  Prints examples (images or tokens) per second of both, their ratio with its 5th and 95th percentile over the
rounds, and the share of this machine's fastest matrix product that the step's FLOPs come to.  Run it with nothing else
running.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.measure.cost import flops, ratio, take_turns, timed
from lib.models.encoder import Classifier, Encoder, EncoderConfig
from lib.models.gpt import GPT, GPTConfig
from lib.models.vgg import VGG, vgg16
from lib.models.vit import ViT, ViTConfig
from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig
from lib.system.device import describe, pick
from lib.system.precision import autocast, bf16_units, resolved
from lib.training import optim

#: Forward and backward together, in forward passes.
PASSES = 3


@dataclass(frozen=True)
class Network:
    """What is trained: how it is built, on what, how many examples a batch has, and what an example is called."""

    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    examples: int
    unit: str
    images: bool


def images(count: int) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (torch.randn(count, 3, 32, 32), torch.randint(10, (count,)))


def text(rows: int, length: int, vocabulary: int, classes: int | None = None) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: (
        torch.randint(vocabulary, (rows, length)),
        torch.randint(classes, (rows,)) if classes else torch.randint(vocabulary, (rows, length)),
    )


NETWORKS = {
    "vit": Network(lambda: ViT(ViTConfig(width=128, depth=6, heads=4, hidden=512)), images(256), 256, "images", True),
    "vit with a stem": Network(
        lambda: ViT(ViTConfig(width=128, depth=6, heads=4, hidden=512, stem="conv")), images(256), 256, "images", True
    ),
    "vgg": Network(lambda: VGG(vgg16(0.5)), images(256), 256, "images", True),
    "cnn": Network(lambda: WhitenedCNN(WhitenedCNNConfig()), images(256), 256, "images", True),
    "gpt": Network(
        lambda: GPT(GPTConfig(vocabulary=2048, context=128, width=192, depth=6, heads=6, hidden=512)),
        text(32, 128, 2048),
        32 * 128,
        "tokens",
        False,
    ),
    "encoder": Network(
        lambda: Classifier(Encoder(EncoderConfig(vocabulary=4096, context=64, width=256, depth=6, heads=8, hidden=1024)), 2, pad=0),
        text(64, 64, 4096, classes=2),
        64 * 64,
        "tokens",
        False,
    ),
}


def training_step(network: Network, device: torch.device, precision: str, channels_last: bool) -> Callable[[], None]:
    """A whole step on one batch: forward, backward, AdamW."""
    torch.manual_seed(0)
    model = network.build().to(device).train()
    inputs, targets = (part.to(device) for part in network.batch())
    if channels_last:
        model, inputs = model.to(memory_format=torch.channels_last), inputs.contiguous(memory_format=torch.channels_last)
    optimizers = optim.build(model, "adamw", lr=1e-4, weight_decay=0.05)

    def step() -> None:
        with autocast(device, precision):
            logits = model(inputs)
        F.cross_entropy(logits.float().flatten(0, -2), targets.flatten()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def peak(device: torch.device, precision: str, size: int = 2048, repeats: int = 20) -> float:
    """FLOP/s of the fastest of some square matrix products in that format."""
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return 2 * size**3 / min(timed(lambda: a @ b, 1, device) for _ in range(repeats))


@click.command()
@click.option("--networks", default=",".join(NETWORKS), show_default=True, help="Networks, with commas.")
@click.option("--rounds", default=11, show_default=True)
@click.option("--device", "device_name", default=None, help="cuda, mps or cpu; the fastest by default.")
def main(networks: str, rounds: int, device_name: str | None) -> None:
    device = pick(device_name)
    about = describe(device)
    ours = resolved("auto", device)
    best = peak(device, ours)
    click.echo(
        f"{about['name']}, {about['threads']} threads, torch {torch.__version__}, bfloat16 by {bf16_units(device) or 'emulation'}: "
        f"the book computes in {ours}; its fastest matrix product runs at {best / 1e9:.0f} GFLOP/s"
    )
    click.echo(f"{'network':18} {'by default':>18} {'the book’s':>18} {'ratio':>6} {'5 %':>6} {'95 %':>6} {'of the peak':>12}")
    for name in networks.split(","):
        network = NETWORKS[name]
        steps = {"default": training_step(network, device, "fp32", False), "ours": training_step(network, device, ours, network.images)}
        seconds = take_turns(steps, rounds, device)
        found = ratio(seconds["default"], seconds["ours"])
        typical = {kind: sorted(values)[len(values) // 2] for kind, values in seconds.items()}
        work = PASSES * flops(network.build().to(device), network.batch()[0].to(device))
        speeds = (f"{network.examples / typical[kind]:.0f} {network.unit}/s" for kind in ("default", "ours"))
        click.echo(
            f"{name:18} {next(speeds):>18} {next(speeds):>18} {found['ratio']:6.2f} {found['ratio_p05']:6.2f} "
            f"{found['ratio_p95']:6.2f} {100 * work / typical['ours'] / best:11.0f}%"
        )


if __name__ == "__main__":
    main()
