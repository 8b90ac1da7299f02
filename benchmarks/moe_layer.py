"""One MoE layer, forward and backward, against the dense FFN with the same FLOPs: every backend, in turns.

    python benchmarks/moe_layer.py                              # 4 to 64 experts, fp32 and bf16
    python benchmarks/moe_layer.py --experts 64 --dtype fp32 --rounds 31

Prints the ratio of times (median over the rounds, 5th and 95th percentile): 1 would be free.  With
``transformers`` installed, its Switch block of the same shape takes its turn too.  On a CPU, use a machine
with nothing else to do, or OMP_NUM_THREADS=1: threads that wait for a core at the end of every product make
a loop over 64 experts look many times slower than it is.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import click
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.measure.cost import ratio, take_turns
from lib.moe.backend_cost import RoutedFFN, dense_ffn, training_pass
from lib.system.device import describe, pick

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HUGGING_FACE = "transformers' Switch block"


class HuggingFaceSwitch(nn.Module):
    """``transformers``' sparse MoE block with GELU, no dropout, and room for every token, as here.

    Raises ImportError without ``transformers``.
    """

    def __init__(self, experts: int, d_model: int, hidden: int, tokens: int):
        super().__init__()
        from transformers import SwitchTransformersConfig
        from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP

        self.block = SwitchTransformersSparseMLP(
            SwitchTransformersConfig(
                d_model=d_model,
                d_ff=hidden,
                num_experts=experts,
                expert_capacity=tokens,
                dense_act_fn="gelu",
                dropout_rate=0.0,
                router_jitter_noise=0.0,
            )
        )

    def forward(self, x_TD: torch.Tensor) -> torch.Tensor:
        return self.block(x_TD[None])[0]


@click.command()
@click.option("--experts", default="4,8,16,32,64", show_default=True, help="Numbers of experts, with commas.")
@click.option("--backends", default="loop,einsum,bmm,grouped", show_default=True, help="Backends, with commas.")
@click.option("--dtype", "dtypes", default="fp32,bf16", show_default=True, help="fp32, bf16 or both, with a comma.")
@click.option("--tokens", default=4160, show_default=True)
@click.option("--d-model", default=320, show_default=True)
@click.option("--hidden", default=1024, show_default=True)
@click.option("--k", default=1, show_default=True, help="Experts per token.")
@click.option("--rounds", default=15, show_default=True)
@click.option("--device", "device_name", default=None, help="cuda, mps or cpu; the fastest by default.")
def main(experts, backends, dtypes, tokens, d_model, hidden, k, rounds, device_name):
    """Time of an MoE layer over that of its dense twin."""
    device = pick(device_name)
    about = describe(device)
    print(f"{about['name']}, {about['threads']} threads, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"{tokens} tokens, {d_model} -> {hidden} -> {d_model}, top-{k}, forward + backward, {rounds} rounds in turns")
    columns = [*backends.split(","), HUGGING_FACE]
    notes = set()
    for dtype_name in dtypes.split(","):
        print(f"\n{dtype_name:<8}{'dense ms':>9}  " + "".join(f"{column:>27}" for column in columns))
        for count in map(int, experts.split(",")):
            torch.manual_seed(0)
            x = torch.randn(tokens, d_model, device=device)
            models = {"dense": dense_ffn(d_model, k * hidden)}
            for backend in columns[:-1]:
                models[backend] = RoutedFFN(count, d_model, hidden, k, backend)
            if k > 1:
                notes.add(f"{HUGGING_FACE}: not run, it is top-1 only")
            else:
                try:
                    models[HUGGING_FACE] = HuggingFaceSwitch(count, d_model, hidden, tokens)
                except ImportError:
                    notes.add(f"{HUGGING_FACE}: not run, transformers is not installed (pip install transformers)")
            calls = {name: training_pass(model.to(device), x, DTYPES[dtype_name]) for name, model in models.items()}
            seconds = take_turns(calls, rounds, device)
            cells = [ratio(seconds[name], seconds["dense"]) if name in seconds else None for name in columns]
            dense_ms = 1000 * torch.tensor(seconds["dense"]).median()
            print(f"E={count:<6}{dense_ms:9.1f}  " + "".join(f"{text(cell):>27}" for cell in cells), flush=True)
    print(*sorted(notes), sep="\n")


def text(cell: dict[str, float] | None) -> str:
    return f"{cell['ratio']:.2f} [{cell['ratio_p05']:.2f}, {cell['ratio_p95']:.2f}]" if cell else "-"


if __name__ == "__main__":
    main()
