"""The table of dimensions: it knows every parameter of every kind of GPT, and what sizes they follow."""

from dataclasses import replace

import pytest

from growth_samples import BASE, GROUPS, VARIANTS
from lib.growth.layout import FLOWS, KINDS, Axis, axes, block_of, sizes
from lib.growth.rates import parameter_names
from lib.growth.width import Widen
from lib.models.gpt import GPT
from lib.moe.layer import MoEConfig

#: Sizes of which no two are equal, and none is a multiple of another by accident.
ODD = replace(BASE, vocabulary=37, context=11, width=24, heads=6, kv_heads=3, hidden=30)
MIXTURES = [None, MoEConfig(experts=5, k=2), replace(GROUPS, experts=5, router_bias=True), MoEConfig(experts=5, router="bias", k=2)]


@pytest.mark.parametrize("moe", MIXTURES, ids=["dense", "experts", "groups", "bias"])
def test_every_dimension_follows_its_size(moe):
    for variant in VARIANTS:
        config = replace(ODD, **variant | {"kv_heads": 3}, moe=moe)
        length = {"width": 24, "heads": 24, "kv": 12, "hidden": 30 // (moe.split if moe else 1)}
        for name, tensor in GPT(config).state_dict().items():
            layout = axes(name, config)
            assert len(layout) == tensor.ndim, name
            for axis, size in zip(layout, tensor.shape):
                assert axis.kind in KINDS and axis.flow in FLOWS
                assert size == axis.parts * length.get(axis.kind, size), (name, axis)
                assert axis.kind != "fixed" or size in (37, 11, 5, 15), name
            assert sum(axis.flow == "in" for axis in layout) <= 1


def test_what_depends_on_the_configuration():
    assert axes("norm.weight", BASE) == (Axis("width", "in"),)
    assert axes("norm.bias", replace(BASE, tied=False)) == (Axis("width", "out"),)
    assert axes("blocks.0.ffn.experts.w_in", BASE)[2] == Axis("hidden", "out", parts=2)
    assert axes("blocks.11.ffn.experts.b_in", replace(BASE, ffn="gelu"))[1] == Axis("hidden", "out", parts=1)
    with pytest.raises(ValueError, match="not in the table"):
        axes("blocks.0.attention.gate.weight", BASE)


def test_names_of_blocks():
    assert block_of("blocks.12.ffn.experts.w_in") == (12, "ffn.experts.w_in")
    assert block_of("norm.weight") == (None, "norm.weight")


def test_sizes_grow_together_and_names_stay():
    config = replace(ODD, moe=GROUPS)
    larger = sizes(Widen(3).config(config))
    assert larger == {kind: count * (1 if kind == "fixed" else 3) for kind, count in sizes(config).items()}
    assert parameter_names(config) == [name for name, _ in GPT(config).named_parameters()]
