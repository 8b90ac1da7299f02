"""The benchmarks chapter's measurements of this machine: what a call must do at least, its share of the roofline, networks in turns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from lib.distillation.early_exit import NEVER
from lib.distillation.exits import ExitConfig, ExitNet
from lib.distillation.leaving import EarlyExit
from lib.figures import compare
from lib.measure.flop_count import count_flops
from lib.measure.roofline import Cost, Probe, copying, product
from lib.models.resnet import ResNetConfig
from lib.models.vit import ViT, ViTConfig
from lib.pruning.mask import attach
from lib.pruning.sparse import SparseLinear, sparse
from lib.quantization.fold import baked
from lib.runs.spec import all_fields
from lib.runs.store import Session, Store, obtain
from lib.studies.benchmarks import machine, scaling
from lib.studies.benchmarks.axes import AXES, Geometry, attention_cost
from lib.studies.benchmarks.chain import ChainRun
from lib.studies.benchmarks.machine import Contender, TimesRun, batches, called, contender, typical
from lib.studies.benchmarks.methods import Dense
from lib.studies.benchmarks.scaling import ScalingRun
from lib.studies.benchmarks.stages import Exits, Prune
from lib.studies.benchmarks.start import StartRun
from lib.studies.benchmarks.task import Task, build
from lib.training.loop import Recipe

CPU = torch.device("cpu")
SMALL = Geometry(batch=2, tokens=16, width=32, hidden=64, heads=2)
SIZES = {"experts": (1, 2, 8), "width": (32, 64), "depth": (1, 3), "sequence": (16, 64), "sparsity": (0.0, 0.5, 0.99)}
TASK = Task(
    train_examples=100,
    epochs=1,
    points=1,
    vit=ViTConfig(image_size=8, channels=1, patch=4, width=16, depth=1, heads=2, hidden=32),
    cnn=ResNetConfig(widths=(4, 8), blocks=(1, 1), channels=1),
    recipe_vit=Recipe(batch_size=50),
    recipe_cnn=Recipe(batch_size=50),
)


def points(axis, precision="fp32"):
    return ScalingRun(axis=axis, values=SIZES[axis], geometry=SMALL, precision=precision).points(CPU)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("axis", AXES)
def test_work_is_what_the_counter_counts(axis, precision):
    for point in points(axis, precision):
        if point.series != "compressed rows":  # torch counts no sparse products
            more = count_flops(point.call) - point.cost.flops
            # A mixture also routes, may pad, and makes gradients of biases by products.
            assert more >= 0 if axis == "experts" and point.value > 1 else more == 0, (point.series, point.value, point.passes)
    assert {point.passes for point in points(axis)} == {"forward", "training"}


def test_least_bytes_are_those_of_the_tensors():
    itemsize, (small, large) = 4, SIZES["width"]
    by_place = {(point.value, point.passes): point.cost for point in points("width")}
    for D in (small, large):
        model = nn.Sequential(nn.Linear(D, 2 * D, bias=False), nn.Linear(2 * D, D, bias=False))
        x = torch.zeros(SMALL.rows, D)
        held = sum(p.nbytes for p in model.parameters()) + x.nbytes + model(x).nbytes
        assert by_place[D, "forward"].bytes == held and by_place[D, "training"].bytes == 2 * held
    half = {(point.value, point.passes): point.cost for point in points("width", "bf16")}
    assert 2 * half[small, "forward"].bytes == by_place[small, "forward"].bytes
    weights = 4 * 2 * small * 2 * small
    # Weights in fp32, 16 bits around them.
    assert half[small, "training"].bytes == 2 * (weights + SMALL.rows * small * itemsize)
    q = torch.zeros(3, 2, 64, 16)
    assert attention_cost(3, 64, 32, 4)[0].bytes == 4 * q.nbytes


@pytest.mark.parametrize("axis", AXES)
def test_bounds_grow_with_the_work(axis):
    seen = {}
    for point in points(axis):
        seen.setdefault((point.series, point.passes), []).append(point.cost.seconds(1e9, 1e9))
    for (series, _), bounds in seen.items():
        assert len(bounds) == len(SIZES[axis])
        if series == "masked":
            assert len(set(bounds)) == 1  # a zero is multiplied like any number
        else:
            assert sorted(bounds, reverse=axis == "sparsity") == bounds, series
            assert len(set(bounds)) > 1 or axis == "experts"  # whose compute does not grow


def test_compressed_rows_hold_what_is_left():
    found = {point.value: point for point in points("sparsity") if point.series == "compressed rows"}
    H, T = SMALL.hidden, SMALL.rows
    for value, point in found.items():
        layer = nn.Linear(H, H)
        left = torch.randperm(H * H).view(H, H) < round((1 - value) * H * H)
        product = SparseLinear(baked(attach(nn.Sequential(layer), {"0": left}))[0], "csr", 1).product.weight
        held = product.values().nbytes + product.col_indices().nbytes + product.crow_indices().nbytes
        assert point.cost == Cost(2 * T * product.values().numel(), held + 4 * 2 * T * H)
    assert not [point for point in points("sparsity", "bf16") if point.series == "compressed rows"]


def test_a_probe_knows_its_rate():
    square, copy = product(8, CPU, torch.float32), copying(0.5, CPU)
    assert square.rate(2.0) == 8**3 and copy.amount == 2**20 and torch.equal(copy.call(), torch.ones(2**17))
    thrice = square.repeated(3)
    assert count_flops(square.call) == square.amount and count_flops(thrice.call) == thrice.amount == 3 * square.amount
    assert Cost(100, 10).seconds(10, 10) == 10 and Cost(100, 1000).seconds(10, 10) == 100


def test_a_ceiling_is_what_a_longer_probe_reaches():
    probes = [Probe(lambda: None, amount) for amount in (1, 10, 100)]
    assert scaling.ceilings(probes, [[4.0, 2.0], [1.0, 9.0], [50.0, 100.0]]) == [10, 10, 2]


@pytest.mark.parametrize("axis", AXES)
def test_a_scaling_run(axis, tmp_path):
    spec = ScalingRun(axis=axis, values=SIZES[axis], geometry=SMALL, rounds=5, square=128, copied=(0.1, 4))
    (result,) = obtain([spec], store=Store(tmp_path, tmp_path), device="cpu")
    frame = scaling.frame([result])
    assert len(frame) == len(points(axis)) and set(frame["limit"]) <= {"arithmetic", "memory"}
    assert (frame[["ms", "ms_fastest", "bound_ms"]] > 0).all().all()
    assert (frame["ms_fastest"] <= frame["ms"]).all() and (frame["ms_p05"] <= frame["ms_p95"]).all()
    assert ((frame["share"] > 0) & (frame["share"] <= 1.3)).all(), frame[["series", "value", "passes", "share"]]
    assert (frame.groupby(["series", "passes"])["grown"].first() == 1).all() and result.metrics["unrest"] >= 1
    forward = frame[frame["passes"] == "forward"]
    size = "kept" if axis == "sparsity" else "value"
    assert len(compare.scaling(forward, size, "ms", "series", log_y=True).data) == forward["series"].nunique()
    assert compare.bars(forward, size, "share", "series").data


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"axis": "widths"}, "use one of"),
        ({"axis": "width", "values": ()}, "at least one size"),
        ({"axis": "width", "values": (0.5,)}, "whole numbers"),
        ({"axis": "sparsity", "values": (1.0,)}, "shares in"),
        ({"axis": "depth", "rounds": 1}, "at least 2 rounds"),
        ({"axis": "depth", "precision": "int8"}, "use one of"),
    ],
)
def test_bad_scaling_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ScalingRun(**values)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Geometry(batch=0)
    with pytest.raises(ValueError, match="choose a multiple"):
        Geometry(width=30, heads=4)


VIT, CNN = StartRun(task=TASK, method=Dense()), StartRun(task=TASK, family="cnn")
EXITS, MASKED = ChainRun(parent=CNN, stages=(Exits((1,)),)), ChainRun(parent=VIT, stages=(Prune(0.5, "2:4"),))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Where networks that one test trains are found by the next."""
    folder = tmp_path_factory.mktemp("trained")
    return Store(folder, folder)


def test_networks_take_turns(store):
    trials = (VIT, replace(VIT, method=Dense(0.5)), MASKED, EXITS)
    (result,) = obtain([TimesRun(trials=trials, batches=(1, 8), rounds=3, singles=4, passes=2)], store=store, device="cpu")
    frame = machine.frame([result])
    assert len(frame) == 8 and set(frame["key"]) == {trial.key for trial in trials}
    assert frame["name"].tolist()[:4] == ["dense", "dense, 1/2 width", "pruned 2:4", "early exits"]
    assert frame["form"].tolist()[:4] == ["dense", "dense", "dense", "early exits"]
    measured = ["ms", "p95_ms", "mean_ms", "dense_ms", "ratio", "mean_ratio", "images_per_second", "peak_bytes"]
    assert (frame[measured] > 0).all().all()
    assert (frame["ratio_p05"] <= frame["ratio"]).all() and (frame["ratio"] <= frame["ratio_p95"]).all()
    assert (frame["p95_ms"] >= frame["ms"]).all() and set(frame["batch"]) == {1, 8}
    memory = frame.set_index(["name", "batch"])["peak_bytes"]
    assert memory["dense", 8] > memory["dense, 1/2 width", 8] and memory["dense", 8] == memory["pruned 2:4", 8]
    assert compare.bars(frame, "batch", "ratio", "name").data


def test_early_exits_are_left():
    inputs = [torch.randn(1, 1, 8, 8)]
    nets = [EarlyExit(ExitNet(ExitConfig(TASK.cnn, (1,))), [limit]).eval() for limit in (0.0, NEVER)]
    with torch.no_grad():
        early, late = (Contender(net, torch.float32).call(inputs, alone=True) for net in nets)
        assert count_flops(early) < count_flops(late) and isinstance(early(), int)
        assert Contender(nets[0], torch.float32).call(inputs, alone=False)().shape == (1, 10)


def test_masks_are_plain_weights_when_timed(store):
    session = Session(CPU, store, MASKED, lambda part, text: None)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        network = contender(MASKED, session, precision).network
        assert type(network) is ViT and not hasattr(network.blocks[0].ffn.fc1, "parametrizations")
        assert network.blocks[0].ffn.fc1.weight.dtype == dtype
        assert network.blocks[0].ffn.fc1.weight.view(-1, 4).count_nonzero(-1).max() == 2


def test_attention_whose_layers_are_called_may_be_sparse():
    network, images = build(TASK.vit, 0).eval(), torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        before = network(images)
        small = sparse(called(network), "csr")
        assert isinstance(small.blocks[0].attention.qkv, SparseLinear)
        torch.testing.assert_close(small(images), before)


def test_images_come_again_where_there_are_too_few():
    images = TASK.images(CPU)
    held = len(images.validation.images)
    (alone,) = batches(images, held + 3, 1)
    assert len(alone) == held + 3 and torch.equal(alone[:3], alone[held:])
    assert [len(x) for x in batches(images, 1, 5)] == [1] * 5


def test_means_are_over_images_and_medians_over_passes():
    assert typical([1.0, 10.0, 2.0, 20.0, 60.0, 30.0], 2) == pytest.approx((2 + 20) / 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trials": ()}, "same task"),
        ({"trials": (VIT, replace(CNN, task=replace(TASK, epochs=2)))}, "same task"),
        ({"batches": ()}, "at least one image"),
        ({"precision": "fp8"}, "use one of"),
        ({"passes": 1}, "2 passes"),
    ],
)
def test_bad_trials_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TimesRun(**{"trials": (VIT,)} | values)


def test_a_spec_with_trials_has_an_address():
    spec = TimesRun(trials=(VIT, EXITS))
    assert spec.key != TimesRun(trials=(EXITS, VIT)).key and all_fields(spec)["trials"][1]["stages"][0]["type"] == "Exits"
    assert machine.family_of(EXITS) == "cnn" and machine.semi_structured(MASKED) and not machine.semi_structured(VIT)
