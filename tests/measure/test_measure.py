"""Costs: each measure against a number known in advance."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.measure import cost as measure
from lib.system import device as devices

CPU = torch.device("cpu")


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Experts(nn.Module):
    """8 experts, of which an input uses 2."""

    def __init__(self):
        super().__init__()
        self.router, self.w = nn.Linear(4, 8), nn.Parameter(torch.zeros(8, 4, 4))

    def active_parameters(self):
        return 40 + 2 * 16


def test_parameters_count_tied_weights_once():
    model = nn.Sequential(nn.Embedding(10, 4), nn.BatchNorm1d(4), nn.Linear(4, 10))
    model[2].weight = model[0].weight
    assert measure.parameters(model) == 40 + 8 + 10
    assert measure.active_parameters(model) == 58


def test_active_parameters_ask_the_modules_that_know():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Experts(), nn.Linear(4, 4)))
    assert measure.parameters(model) == 20 + 40 + 128 + 20
    assert measure.active_parameters(model) == 20 + 72 + 20
    assert measure.active_parameters(model[1][0]) == 72


X, W, V = torch.randn(100, 64), torch.randn(4, 64, 32), torch.randn(64)
Q = torch.randn(2, 4, 16, 8)
OFFSETS = torch.tensor([10, 40, 60, 100], dtype=torch.int32)


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda: F.linear(X, W[0].T), 2 * 100 * 64 * 32),
        (lambda: torch.einsum("td,edh->teh", X, W), 2 * 4 * 100 * 64 * 32),
        (lambda: torch.bmm(X[:8].view(4, 2, 64), W), 2 * 8 * 64 * 32),
        (lambda: F.grouped_mm(X, W, offs=OFFSETS), 2 * 100 * 64 * 32),
        (lambda: F.grouped_mm(X[:8].view(4, 2, 64), W), 2 * 8 * 64 * 32),
        (lambda: F.grouped_mm(X.T.contiguous(), X, offs=OFFSETS), 2 * 100 * 64 * 64),
        (lambda: F.scaled_dot_product_attention(Q, Q, Q), 2 * 2 * 8 * 16 * 16 * 8),
        (lambda: F.scaled_dot_product_attention(Q, Q, Q, is_causal=True), 2 * 2 * 8 * 16 * 16 * 8),
        (lambda: F.scaled_dot_product_attention(Q, Q[:, :2], Q[:, :2], enable_gqa=True), 2 * 2 * 8 * 16 * 16 * 8),
        (lambda: X @ V, 2 * 100 * 64),
        (lambda: V @ V, 2 * 64),
        (lambda: F.gelu(X) + X, 0),
    ],
)
def test_flops(function, expected):
    assert measure.flops(Apply(function)) == expected


def test_flops_of_layers_and_mode_kept():
    assert measure.flops(nn.Conv2d(3, 8, 3, stride=2, groups=1), torch.randn(2, 3, 9, 9)) == 2 * 2 * 8 * 16 * 27
    assert measure.flops(nn.Conv2d(4, 8, 3, groups=2), torch.randn(1, 4, 5, 5)) == 2 * 8 * 9 * 18
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    tokens = torch.randn(3, 10, 16)
    assert measure.flops(layer, tokens) == 2 * 30 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 2 * 3 * 10 * 10 * 16
    assert layer.training and torch.backends.mha.get_fastpath_enabled()


class Clock:
    """Stands in for the module ``time``: time passes only where a test says so, whatever else the machine does."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


def test_latency_counts_measured_calls_only(clock):
    pauses = iter([0.05] * 3 + [0.001] * 19 + [0.03])
    calls = []

    def fn():
        calls.append(1)
        clock.sleep(next(pauses))

    latency = measure.latency(fn, device=CPU, warmup=3, repeats=20)
    assert len(calls) == 23 and latency.n == 20
    assert latency.p50_ms == pytest.approx(1) and latency.p95_ms == pytest.approx(1 + 0.05 * 29)
    with pytest.raises(ValueError, match="repeats is 1"):
        measure.latency(fn, device=CPU, repeats=1)


def test_throughput_is_items_per_second(clock):
    assert measure.throughput(lambda: clock.sleep(0.005), 10, device=CPU, seconds=0.1) == pytest.approx(2000)


def test_peak_memory_is_what_lives_at_the_same_time():
    megabyte = 2**18  # floats

    def keep_two():
        first = torch.zeros(megabyte)
        del first
        second = torch.zeros(megabyte)
        return second + 1  # two alive

    assert measure.peak_memory(keep_two, CPU) == pytest.approx(2 * 2**20, rel=0.01)


def test_peak_memory_of_training_grows_with_depth_and_batch():
    def peak(depth, batch):
        model = nn.Sequential(*[layer for _ in range(depth) for layer in (nn.Linear(64, 64), nn.GELU())])
        inputs = torch.randn(batch, 64)

        def step():
            model(inputs).sum().backward()
            model.zero_grad()

        return measure.peak_memory(step, CPU)

    assert peak(2, 1000) < peak(4, 1000) < peak(4, 2000)
    # Each layer keeps its own result and GELU's until backward.
    assert peak(4, 2000) >= 7 * 2000 * 64 * 4


def test_file_bytes_are_the_files_bytes():
    model = nn.Sequential(nn.Embedding(100, 50), nn.Linear(50, 100, bias=False)).to(torch.float32)
    untied = measure.file_bytes(model)
    assert 2 * 100 * 50 * 4 < untied < 2 * 100 * 50 * 4 + 400
    model[1].weight = model[0].weight
    assert 100 * 50 * 4 < measure.file_bytes(model) < 100 * 50 * 4 + 400
    assert measure.file_bytes(model.bfloat16()) < 100 * 50 * 2 + 400
    assert measure.file_bytes(nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last)) > 8 * 8 * 9 * 4


# --- devices -------------------------------------------------------------------------------------


def test_pick_and_describe():
    assert devices.pick("cpu") == CPU
    told = devices.describe(devices.pick("cpu"))
    assert told["type"] == "cpu" and told["name"] and told["threads"] == 1 and told["memory_bytes"] > 2**28
    devices.synchronise(CPU)
    assert devices.pick().type in ("cpu", "cuda", "mps")


def test_a_missing_or_unknown_device_is_named(monkeypatch):
    for name in ("gpu", "tpu:0", "meta"):
        with pytest.raises(ValueError, match=f"unknown device '{name}'.*'cpu', 'cuda'"):
            devices.pick(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="'cuda' was asked for.*no GPU.*use 'cpu'"):
        devices.pick("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="'mps' was asked for"):
        devices.pick("mps")
    assert devices.pick() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert devices.pick("cuda") == torch.device("cuda:1") == devices.pick()
    with pytest.raises(RuntimeError, match="cuda:0 to cuda:1"):
        devices.pick("cuda:2")


def test_taking_turns_calls_everything_in_every_round():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in ("one", "two")}
    seconds = measure.take_turns(calls, 4, CPU)
    assert called == ["one", "two"] * (measure.WARM_UP + 4)
    assert [len(times) for times in seconds.values()] == [4, 4] and min(map(min, seconds.values())) > 0


def test_ratio_is_taken_round_by_round():
    assert measure.ratio([1, 20, 3], [1, 10, 1])["ratio"] == 2
