"""Ways to grow, and small GPTs of every kind with weights as after training: no zeros, no ones, logits of some size."""

import functools
import itertools
from dataclasses import replace

import torch

from lib.growth.depth import Deepen
from lib.growth.net2net import Net2Wider
from lib.growth.upcycle import Upcycle
from lib.growth.width import Noise, Uneven, Widen
from lib.models.gpt import GPT, GPTConfig
from lib.moe.layer import MoEConfig

BASE = GPTConfig(vocabulary=31, context=16, width=16, depth=2, heads=4, hidden=12)

#: Every choice that growing has to mind, 64 in all.
VARIANTS = [
    dict(norm=norm, positions=positions, ffn=ffn, tied=tied, bias=bias, kv_heads=kv_heads)
    for norm, positions, ffn, tied, bias, kv_heads in itertools.product(
        ("rms", "layer"), ("rope", "learned"), ("swiglu", "gelu"), (True, False), (False, True), (None, 2)
    )
]

TOKENS = torch.randint(31, (2, 12), generator=torch.Generator().manual_seed(1))

MOE = MoEConfig(experts=4, k=2)
GROUPS = MoEConfig(experts=3, k=2, split=3)

#: What is put in all six orders below.
STEPS = {"experts": Upcycle(MoEConfig(experts=3, k=2)), "wide": Widen(2, Noise(0.0)), "deep": Deepen(3)}

#: Growths that keep the function.
EXACT = {
    "copies": (Widen(2),),
    "three copies": (Widen(3),),
    "noise": (Widen(2, Noise(0.0)),),
    "noise, -3 dB": (Widen(2, Noise(-3.0)),),
    "noise of three": (Widen(3, Noise(0.0)),),
    "uneven": (Widen(2, Uneven(0.5)),),
    "hidden": (Net2Wider(19),),
    "interleaved": (Deepen(3),),
    "top": (Deepen(4, "top"),),
    "experts": (Upcycle(MOE),),
    "experts, bias": (Upcycle(MoEConfig(experts=4, k=2, router="bias", router_bias=True)),),
    "one expert": (Upcycle(MoEConfig(experts=4, k=1), router_scale=0.0, output_scale=4.0),),
    "groups": (Upcycle(GROUPS),),
    "groups, one each": (Upcycle(MoEConfig(experts=4, k=1, split=2)),),
    "deep, groups, hidden, wide": (Deepen(3), Upcycle(MoEConfig(experts=2, k=2, split=2)), Net2Wider(20), Widen(2, Uneven(0.5))),
    "hidden, groups, wide": (Net2Wider(18), Upcycle(MoEConfig(experts=2, k=1, split=3)), Widen(2)),
} | {", ".join(order): tuple(STEPS[name] for name in order) for order in itertools.permutations(STEPS)}


def trained_like(config: GPTConfig, dtype: torch.dtype = torch.float64) -> GPT:
    """A GPT whose logits have a standard deviation of 1 to 6, with random gains and biases."""
    draw = torch.Generator().manual_seed(0)

    def noise(parameter):
        return torch.randn(parameter.shape, generator=draw, dtype=dtype)

    torch.manual_seed(0)
    model = GPT(config).to(dtype)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "embed" in name or "positions" in name:
                p.copy_(noise(p))
            elif "head" in name or "router.gate.weight" in name:
                p.copy_(0.5 * noise(p))
            elif p.ndim == 1 or name.rpartition(".")[2].startswith("b_"):
                p.add_(0.3 * noise(p))
            else:
                p.mul_(2)
        if config.tied:
            model.norm.weight.mul_(4 / config.width**0.5)
    return model.eval()


@functools.cache
@torch.no_grad()
def samples(dtype: torch.dtype) -> list[tuple[dict, GPT, torch.Tensor]]:
    """For each variant its choices, its GPT, and that one's logits for TOKENS.  Made once: leave them as they are."""
    models = [trained_like(replace(BASE, **variant), dtype) for variant in VARIANTS]
    return [(variant, model, model(TOKENS)) for variant, model in zip(VARIANTS, models)]
