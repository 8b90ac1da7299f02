"""Calibration: sums over what layers read, and blocks that see what the earlier ones have become."""

import pytest
import torch
from torch import nn

from lib.models.calibration import gather, output_error, sequentially, statistics_of
from lib.models.gpt import GPT, GPTConfig

CONFIG = GPTConfig(vocabulary=32, context=16, width=16, depth=2, heads=2, hidden=24)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return GPT(CONFIG).double().eval()


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(32, (2, 12), generator=generator) for _ in range(3)]


def read(model, name, batches):
    """All rows that a layer reads, [T, I]."""
    rows = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _, args: rows.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    hook.remove()
    return torch.cat(rows)


def test_statistics_equal_direct_computation(network, batches):
    layer = network.blocks[1].ffn.down
    found = gather(lambda: [network(batch) for batch in batches], [layer])[layer]
    x_TI = read(network, "blocks.1.ffn.down", batches)
    assert found.count == len(x_TI) == 3 * 2 * 12 and found.gram_II.dtype == torch.float64
    torch.testing.assert_close(found.gram_II, x_TI.T @ x_TI)
    torch.testing.assert_close(found.mean_I, x_TI.abs().mean(0))
    torch.testing.assert_close(found.largest_I, x_TI.abs().amax(0))
    torch.testing.assert_close(found.norm_I, x_TI.norm(dim=0))


def test_half_precision_is_summed_in_fp32():
    assert statistics_of(torch.ones(3, 2, dtype=torch.bfloat16)).gram_II.dtype == torch.float32


def test_hooks_are_gone_and_a_layer_that_did_not_run_is_named(network, batches):
    idle = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="did not run"):
        gather(lambda: network(batches[0]), [network.blocks[0].ffn.down, idle])
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_output_error_is_that_of_the_outputs():
    generator = torch.Generator().manual_seed(0)
    x_TI, weight, changed = (torch.randn(rows, 6, generator=generator, dtype=torch.float64) for rows in (50, 4, 4))
    direct = ((x_TI @ (weight - changed).T).square().sum() / (x_TI @ weight.T).square().sum()).item()
    assert output_error(weight, changed, statistics_of(x_TI)) == pytest.approx(direct)


def test_each_layer_sees_the_inputs_that_changed_layers_give(network, batches):
    visited, gram = [], {}

    def halve(layers, statistics):
        visited.append(list(layers))
        for name, layer in layers.items():
            gram[name] = statistics.gram_II.clone()
            layer.weight.mul_(0.5)

    sequentially(network, network.blocks, batches, halve)
    assert visited[:2] == [[f"blocks.0.attention.{name}" for name in "qkv"], ["blocks.0.attention.out"]]
    assert len(visited) == 8
    # A layer's input depends on earlier layers alone, all of which are changed by now: so the final network gives it again.
    for name in ("blocks.0.attention.out", "blocks.0.ffn.down", "blocks.1.attention.q", "blocks.1.ffn.down"):
        x_TI = read(network, name, batches)
        torch.testing.assert_close(gram[name], x_TI.T @ x_TI)


def test_no_batches_are_refused(network):
    with pytest.raises(ValueError, match="at least one batch"):
        sequentially(network, network.blocks, [], lambda layers, statistics: None)
