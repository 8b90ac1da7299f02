"""Searching an elastic network: genomes, predictors of accuracy and latency, the search, and the Spec around them."""

import itertools
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch

from lib.data.images import load_images, normalise
from lib.elastic import latency
from lib.elastic.config import Size, Space
from lib.elastic.cost import cost
from lib.elastic.encode import Encoding, random_sizes
from lib.elastic.extract import extract
from lib.elastic.latency import LatencyTable, network_latencies
from lib.elastic.predict import AccuracyPredictor, quality
from lib.elastic.search import front, hypervolume, random_search, search
from lib.elastic.supernet import ElasticViT, geometry
from lib.measure.flop_count import count_flops
from lib.moe.layer import MoEConfig
from lib.runs.spec import Spec
from lib.runs.store import Store, obtain
from lib.studies.elastic.search import COSTS, METHODS, Search, SubnetSearchRun
from lib.training.loop import Recipe

SPACE = Space(depth=(1, 2), heads=(1, 2, 3), hidden=(8, 16), experts=(1, 2, 4), k=(1, 2))
DENSE = Space(depth=(1, 2, 3), heads=(1, 3), hidden=(8, 12, 16))
DIGITS = {"width": 24, "image_size": 8, "channels": 1, "patch": 2, "classes": 10}
CONFIG = geometry(SPACE, moe=MoEConfig(), **DIGITS)


def everything(space: Space) -> list[Size]:
    encoding = Encoding(space)
    genomes = np.array(list(itertools.product(*(range(last + 1) for last in encoding.upper))))
    return encoding.sizes(np.unique(encoding.repair(genomes), axis=0))


def believed(sizes: list[Size]) -> np.ndarray:
    """An accuracy with diminishing returns, in which layers matter differently and heads help experts."""

    def one(size: Size) -> float:
        gain = sum(
            (place + 1) * (np.log2(layer.hidden * layer.k) + 0.6 * layer.heads * layer.experts**0.5)
            for place, layer in enumerate(size.layers)
        )
        return 1 - np.exp(-gain / 12)

    return np.array([one(size) for size in sizes])


def flops(size: Size) -> float:
    return cost(size, CONFIG).flops


@pytest.fixture(scope="module")
def network() -> ElasticViT:
    torch.manual_seed(0)
    return ElasticViT(CONFIG).eval()


# Genomes


@pytest.mark.parametrize("space", [SPACE, DENSE, Space((2,), (2,), (8, 16), (4,), (1, 2)), Space((1, 3), (2,), (8,), (1, 4), (2, 4))])
def test_every_genome_means_one_valid_size_and_back(space):
    encoding = Encoding(space)
    genomes = encoding.random(300, np.random.default_rng(0))
    sizes = encoding.sizes(genomes)
    assert all(size in space for size in sizes)
    assert (encoding.genomes(sizes) == genomes).all()
    assert (encoding.repair(genomes) == genomes).all()
    assert len(set(sizes)) == len(np.unique(genomes, axis=0))
    assert set(space.sizes()) <= set(encoding.sizes(encoding.genomes(list(space.sizes()))))


def test_the_number_of_sizes_is_counted_by_hand():
    # A layer: 3 heads × 2 widths × (1 expert: k=1; 2 or 4 experts: k=1, 2) = 30 ways.
    assert len(everything(SPACE)) == 30 + 30**2
    assert len(everything(DENSE)) == 6 + 6**2 + 6**3


def test_random_sizes_differ_cover_every_choice_and_follow_the_seed():
    sizes = random_sizes(SPACE, 200, seed=1)
    assert len(set(sizes)) == 200 and sizes == random_sizes(SPACE, 200, seed=1) != random_sizes(SPACE, 200, seed=2)
    for axis in ("heads", "hidden", "experts", "k"):
        assert {getattr(layer, axis) for size in sizes for layer in size.layers} == set(getattr(SPACE, axis))
    assert len(random_sizes(Space((1,), (1, 2), (8,)), 50, seed=0)) == 2


def test_features_tell_all_sizes_apart_and_skipped_layers_are_zero():
    encoding, sizes = Encoding(SPACE), everything(SPACE)
    for features in (encoding.ordinal, encoding.one_hot):
        rows = features(sizes)
        assert len(np.unique(rows, axis=0)) == len(sizes) and rows.min() == 0 and rows.max() == 1
    assert (encoding.ordinal([Size(1, 3, 16, 4, 2)])[0, 5:] == 0).all()


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(ValueError, match="nothing to encode"):
        Encoding(Space((2,), (2,), (8,)))
    with pytest.raises(ValueError, match="not in the space"):
        Encoding(DENSE).genomes([Size(2, 2, 8)])


# Search


def test_the_search_finds_the_true_front():
    sizes = everything(SPACE)
    true = front(sizes, believed(sizes), [flops(size) for size in sizes])
    found = search(SPACE, believed, flops, population=32, generations=20, seed=3)
    whole = flops(SPACE.largest)
    area = {
        name: hypervolume(believed(part), [flops(size) for size in part], whole)
        for name, part in {"true": true, "found": found, "random": random_search(SPACE, believed, flops, evaluations=100, seed=3)}.items()
    }
    assert 0.995 * area["true"] <= area["found"] <= area["true"] + 1e-12
    assert area["random"] < area["found"]
    costs, accuracies = [flops(size) for size in found], believed(found)
    assert costs == sorted(costs) and (np.diff(accuracies) > 0).all()
    assert found == search(SPACE, believed, flops, population=32, generations=20, seed=3)


def test_a_budget_is_kept_and_an_impossible_one_refused():
    budget = 0.4 * flops(SPACE.largest)
    found = search(SPACE, believed, flops, budget, population=16, generations=8)
    assert max(flops(size) for size in found) <= budget
    best = max((size for size in everything(SPACE) if flops(size) <= budget), key=lambda size: believed([size])[0])
    assert believed(found[-1:])[0] >= 0.97 * believed([best])[0]
    with pytest.raises(ValueError, match="the smallest costs"):
        search(SPACE, believed, flops, 1.0, population=8, generations=2)


def test_the_cost_of_a_size_is_counted_once():
    counted = []

    def spent(size: Size) -> float:
        counted.append(size)
        return flops(size)

    search(SPACE, believed, spent, population=16, generations=8)
    assert len(counted) == len(set(counted)) > 16


def test_a_front_is_what_nothing_beats():
    sizes = [Size(1, 1, hidden) for hidden in (1, 2, 3, 4, 5)]
    assert front(sizes, [0.5, 0.4, 0.7, 0.7, 0.8], [1, 2, 3, 4, 4]) == [sizes[0], sizes[2], sizes[4]]
    assert hypervolume([0.5, 0.8], [1, 2], whole=4) == pytest.approx(0.5 * 0.25 + 0.8 * 0.5)
    assert hypervolume([0.9], [5], whole=4) == hypervolume([], [], whole=4) == 0


def test_the_library_prints_nothing_and_warns_of_nothing():
    program = (
        "from lib.elastic.search import *; from lib.elastic.config import Space\n"
        "search(Space((1, 2), (1, 2), (8, 16)), lambda sizes: np.array([float(s.depth) for s in sizes]), "
        "lambda s: s.depth, population=8, generations=3)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Predictors


def test_accuracy_is_learnt_and_judged_on_what_was_held_out():
    sizes = random_sizes(SPACE, 80, seed=0)
    noise = np.random.default_rng(0).normal(0, 0.005, len(sizes))
    predictor = AccuracyPredictor.fit(SPACE, sizes, np.clip(believed(sizes) + noise, 0, 1))
    assert predictor.held_out.n == 20 and predictor.held_out.kendall_tau > 0.8
    assert predictor.model == min(predictor.errors, key=predictor.errors.get)
    unseen = random_sizes(SPACE, 400, seed=9)
    assert quality(predictor(unseen), believed(unseen)).kendall_tau > 0.8

    lost = AccuracyPredictor.fit(SPACE, sizes, np.random.default_rng(1).permutation(believed(sizes)))
    assert lost.held_out.kendall_tau < 0.5  # nothing to learn, and it says so


def test_quality_of_constants_has_no_rank_correlation():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judged = quality([0.5, 0.5], [0.1, 0.9])
    assert np.isnan(judged.kendall_tau) and judged.rmse == pytest.approx(0.4) and judged.n == 2


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="at least 8"):
        AccuracyPredictor.fit(SPACE, random_sizes(SPACE, 5, 0), [0.5] * 5)


def test_the_latency_table_adds_up(network):
    images = torch.randn(64, 1, 8, 8)
    chosen = network.use(SPACE.smallest).subnet
    table = LatencyTable.measure(network, SPACE, images, rounds=2)
    assert network.subnet == chosen
    assert set(table.attention) == {1, 2, 3} and len(table.ffn) == 2 * 5 and table.batch == 64
    size = Size(2, (1, 3), (8, 16), (1, 4), (1, 2))
    parts = table.attention[1] + table.attention[3] + table.ffn[8, 1, 1] + table.ffn[16, 4, 2]
    assert table.predict(size) == pytest.approx(table.rest + parts)
    with pytest.raises(ValueError, match="no layer"):
        table.predict(Size(1, 5, 8, 1, 1))


def test_where_time_is_compute_the_parts_predict_whole_networks(network, monkeypatch):
    """With FLOPs for seconds, which no other process disturbs; experts one by one, so that none are padding."""

    def count(calls, rounds, device):
        return {name: [count_flops(call)] * rounds for name, call in calls.items()}

    monkeypatch.setattr(latency, "take_turns", count)
    images = torch.randn(8, 1, 8, 8)
    table = LatencyTable.measure(network, SPACE, images, rounds=1)
    sizes = [SPACE.smallest, Size(2, 3, 16, 4, 2), Size(1, 3, 16, 2, 2), Size(2, (1, 3), (8, 16), (2, 4), (1, 2))]
    measured = network_latencies([extract(network.use(size)) for size in sizes], images, rounds=1)
    assert measured == [pytest.approx(1000 * len(images) * flops(size)) for size in sizes]
    error, agreement = table.validate(sizes, measured)
    assert error < 1e-9 and agreement.kendall_tau == pytest.approx(1)
    error, _ = table.validate(sizes, [2 * value for value in measured])
    assert error == pytest.approx(0.5)


def test_looking_at_a_layers_input_leaves_the_network_as_it_was(network):
    chosen = network.use(SPACE.smallest).subnet
    with pytest.raises(RuntimeError):
        latency.input_of(network, 0, torch.randn(2, 3, 8, 8))  # colour, which it cannot take
    assert network.subnet == chosen and not network.blocks[0]._forward_pre_hooks and not network.training


def test_a_dense_space_has_a_table_too():
    model = ElasticViT(geometry(DENSE, moe=None, **DIGITS)).eval()
    table = LatencyTable.measure(model, DENSE, torch.randn(8, 1, 8, 8), rounds=2)
    assert set(table.ffn) == {(8, None, None), (12, None, None), (16, None, None)}
    assert table.predict(DENSE.largest) > table.predict(DENSE.smallest) > 0


# The Spec


@dataclass(frozen=True, kw_only=True)
class Parent(Spec):
    """An elastic network that was never trained."""

    experiment: ClassVar[str] = "test-elastic"

    dataset: str = "digits"
    train_examples: int | None = None
    space: Space = SPACE
    recipe: Recipe = field(default_factory=Recipe)

    def images(self, session):
        return load_images(self.dataset, session.device, self.train_examples)

    def network(self, images, session):
        torch.manual_seed(self.seed)
        return ElasticViT(CONFIG).eval()


SMALL = {
    "samples": 16,
    "validation_images": 64,
    "check_images": 100,
    "population": 12,
    "generations": 4,
    "members": 6,
    "budgets": (1.0, 0.5, 0.25, 0.01),
    "latency_batch": 8,
    "rounds": 2,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return obtain([SubnetSearchRun(parent=Parent(), **SMALL)], store=Store(folder / "reference", folder / "own"), device="cpu")[0]


def test_a_result_is_small_and_complete(result):
    assert len(json.dumps(result.content(), allow_nan=False)) < 60_000
    assert len(result.arrays["samples"]) == 16
    assert {f"hypervolume_{cost}_{method}" for cost in COSTS for method in METHODS} <= set(result.metrics)
    assert result.metrics["whole_parameters"] == cost(SPACE.largest, CONFIG).parameters
    for name in COSTS:
        rows = result.arrays[f"front_{name}"]
        assert 2 <= len(rows) <= SMALL["members"] + 1
        assert [row[name] for row in rows] == sorted(row[name] for row in rows)
        assert all(len(row["heads"]) == row["depth"] == len(row["k"]) for row in rows)


def test_budgets_are_kept_and_the_searchs_choices_are_extracted(result):
    rows = result.arrays["budgets"]
    assert {row["method"] for row in rows} == set(METHODS)
    assert 0.01 not in {row["budget"] for row in rows}  # nothing is that small, and none is claimed to be
    for row in rows:
        assert row[row["cost"]] <= row["budget"] * result.metrics[f"whole_{row['cost']}"]
        if row["method"] == "search":
            assert row["measured_ms"] > 0 and 0 <= row["test_accuracy"] <= 1
            assert row["file_bytes"] == pytest.approx(4 * row["parameters"], rel=0.3)  # a header beside few weights


def test_measured_accuracy_is_that_of_the_named_sub_network(result):
    row = result.arrays["budgets"][0]
    images = load_images("digits")
    size = Size(row["depth"], *(tuple(row[axis]) for axis in ("heads", "hidden", "experts", "k")))
    network = extract(Parent().network(images, None).use(size))
    with torch.no_grad():
        right = network(normalise(images.validation.images[:100], images)).argmax(1) == images.validation.labels[:100]
    assert row["val_accuracy"] == pytest.approx(right.float().mean().item(), abs=0.011)


def test_measuring_leaves_a_network_that_can_still_be_trained(network):
    images = load_images("digits")
    Search(SubnetSearchRun(parent=Parent(), **SMALL), images, network, None).accuracies([SPACE.smallest], 16)
    assert not any(block.ffn.router.off_E.is_inference() for block in network.blocks)


def test_a_rigid_parent_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to search"):
        obtain([SubnetSearchRun(parent=Parent(space=Space.only(SPACE.largest)))], store=Store(tmp_path, tmp_path), device="cpu")
