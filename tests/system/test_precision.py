"""Which number format is computed in, and where."""

import pytest
import torch
from torch import nn

from lib.runs.provenance import provenance
from lib.system import precision
from lib.system.precision import autocast, bf16_units, resolved

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """Pretend to have a processor with these instruction sets."""

    def pretend(*flags):
        bf16_units.cache_clear()
        monkeypatch.setattr(precision, "processor_flags", lambda: frozenset(flags))

    yield pretend
    bf16_units.cache_clear()


@pytest.mark.parametrize(
    "flags, units",
    [
        (("avx512f", "amx_bf16", "avx512_bf16"), "AMX"),
        (("avx512_bf16",), "AVX-512"),
        (("svebf16", "bf16"), "SVE"),
        (("bf16",), "NEON"),
        (("avx512f",), None),
        ((), None),
    ],
)
def test_auto_is_bfloat16_where_there_are_units_for_it(processor, flags, units):
    processor(*flags)
    assert bf16_units(CPU) == units and provenance(CPU)["bf16_units"] == units
    assert resolved("auto", CPU) == ("bf16" if units else "fp32")
    layer = nn.Linear(4, 4)
    with autocast(CPU, "auto"):
        assert layer(torch.ones(2, 4)).dtype == (torch.bfloat16 if units else torch.float32)


def test_the_other_two_mean_what_they_say_everywhere(processor):
    layer = nn.Linear(4, 4)
    for flags in ((), ("amx_bf16",)):
        processor(*flags)
        assert (resolved("bf16", CPU), resolved("fp32", CPU)) == ("bf16", "fp32")
        with autocast(CPU, "bf16"):
            assert layer(torch.ones(2, 4)).dtype == torch.bfloat16
        with autocast(CPU, "fp32"):
            assert layer(torch.ones(2, 4)).dtype == torch.float32


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match="'fp32', 'bf16', 'auto'"):
        resolved("fp8", CPU)


def test_processor_flags_are_those_of_the_machine():
    assert all(flag == flag.strip() and " " not in flag for flag in precision.processor_flags())
