"""The Specs that build on a trained elastic network, and training that was killed."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lib.data.images import DataMissing
from lib.elastic.compute import step_cost
from lib.elastic.config import Space
from lib.elastic.samplers import ERNIE, Nested, Sandwich
from lib.elastic.subnet import DEPTHS, EXPERTS
from lib.elastic.supernet import geometry
from lib.moe.layer import MoEConfig
from lib.runs.store import Session, Store, obtain, run
from lib.studies.base import images
from lib.studies.elastic import recovery as elastic_recovery
from lib.studies.elastic.cost import ExtractionRun, SamplerCost
from lib.studies.elastic.mixtures import MixNMatchRun
from lib.studies.elastic.recovery import RecoveryRun
from lib.studies.elastic.subsets import CUTS, SubsetRun
from lib.studies.elastic.vit import ElasticRun
from lib.training import loop as train
from lib.training.loop import Recipe

CPU = torch.device("cpu")
SPACE = Space(depth=(1, 2), heads=(3,), hidden=(12,), experts=(2, 4), k=(1, 2))
WIDTHS = Space(depth=(3,), heads=(3,), hidden=(4, 8, 16))
RECIPE = Recipe(epochs=2, batch_size=64, lr=5e-3)
MIXTURE = MoEConfig(single_gate="share")
PARENT = ElasticRun(train_examples=256, space=SPACE, sampler=ERNIE(), moe=MIXTURE, d_model=12, recipe=RECIPE)
NESTED = replace(PARENT, space=WIDTHS, sampler=Nested(), moe=None)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return Store(folder / "reference", folder / "own")


def result(spec, store):
    return obtain([spec], store=store, device="cpu")[0]


@pytest.fixture(scope="module")
def parent(store):
    return result(PARENT, store)


def grid(found) -> dict[tuple, float]:
    """Validation accuracy by (depth, experts, k)."""
    return {(row[0], row[3], row[4]): row[-1] for row in found.arrays["grid"]}


def test_subsets(parent, store):
    found = result(SubsetRun(parent=PARENT), store)
    cuts = {f"{axis}_{name}_{order}" for axis in ("heads", "hidden") for name in CUTS for order in ("as_trained", "by_importance")}
    names = {"whole", *(f"experts_{name}" for name in EXPERTS), *(f"depth_{name}" for name in DEPTHS), *cuts}
    assert set(found.metrics) == names and all(0 <= value <= 1 for value in found.metrics.values())
    known = grid(parent)
    assert found.metrics["whole"] == pytest.approx(known[2, 4, 2])
    assert found.metrics["experts_prefix"] == pytest.approx(known[2, 2, 2])
    assert found.metrics["depth_prefix"] == pytest.approx(known[1, 4, 2])
    assert torch.tensor(found.arrays["reap"]).shape == (2, 4) and sorted(found.arrays["layers"]) == [0, 1]
    for name in ("by_class_whole", "by_class_small"):
        shares = torch.tensor(found.arrays[name])
        assert shares.shape == (4, 10) and (shares.sum(0) - 1000).abs().max() <= 4  # rounded each
    assert (torch.tensor(found.arrays["by_class_small"])[2:] == 0).all()


@pytest.mark.parametrize("what", elastic_recovery.WHAT)
def test_recovery_trains_what_it_says_and_leaves_the_rest(parent, store, monkeypatch, what):
    states = []

    def watched(model, *args, **options):
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        history = train.fit(model, *args, **options)
        states.append(model.state_dict())
        return history

    monkeypatch.setattr(elastic_recovery, "fit", watched)
    found = result(RecoveryRun(parent=PARENT, what=what, recipe=replace(RECIPE, epochs=1)), store)
    small = grid(parent)[1, 2, 1]
    if what == "nothing":
        assert not states and found.metrics["trained_parameters"] == 0
        assert found.metrics["val_accuracy"] == pytest.approx(small)
        return
    before, after = states
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if what == "everything" or "router.gate" in name}
    assert found.metrics["trained_parameters"] == sum(before[name].numel() for name in moved)


def test_cutting_out_changes_nothing_but_the_size(parent, store):
    metrics = result(ExtractionRun(parent=PARENT, rounds=2), store).metrics
    for name in ("large", "medium", "small"):
        assert metrics[f"difference_{name}"] <= 1e-5
        assert metrics[f"counted_{name}"] == metrics[f"parameters_{name}"] == parent.metrics[f"parameters_{name}"]
        assert metrics[f"active_parameters_{name}"] == parent.metrics[f"active_parameters_{name}"]
        assert metrics[f"flops_{name}"] == parent.metrics[f"flops_{name}"]
    assert metrics["bytes_small"] < metrics["bytes_large"]
    assert metrics["latency_1_large_ratio"] == 1 and metrics["latency_ms_1_inside"] > 0


def test_mixing_and_matching_has_every_mixture_of_neighbours(store):
    found = result(MixNMatchRun(parent=NESTED), store)
    rows, depth, widths = found.arrays["mixtures"], 3, WIDTHS.hidden
    assert len(rows) == depth * (len(widths) - 1) + 1 and found.metrics["mixtures"] == len(rows) - len(widths)
    assert all(row[0] == sorted(row[0]) for row in rows)
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    whole = result(NESTED, store).metrics
    assert {row[0][0]: row[-1] for row in rows if len(set(row[0])) == 1} == {
        width: pytest.approx(whole[f"test_accuracy_hidden_{width}"]) for width in widths
    }


def test_the_cost_of_a_samplers_step(store):
    spec = SamplerCost(
        space=SPACE, sampler=Sandwich(), moe=MIXTURE, d_model=12, image_size=8, channels=1, patch=2, batch_size=16, steps=2, rounds=2
    )
    metrics = result(spec, store).metrics
    assert 0 < metrics["ratio_p05"] <= metrics["ratio"] <= metrics["ratio_p95"] and metrics["ordinary_ms"] > 0
    config = geometry(SPACE, width=12, moe=MIXTURE, image_size=8, channels=1, patch=2)
    assert metrics["flops_ratio"] == step_cost(Sandwich(), SPACE, config) > 1.5


def test_killed_and_resumed_is_the_same_as_undisturbed(parent, store, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill_after_the_first_epoch(part, text):
        if part >= 0.5:
            raise Killed

    monkeypatch.setattr(train, "SAVE_EVERY_SECONDS", 0.0)
    other = Store(tmp_path, tmp_path)
    session = Session(CPU, other, PARENT, kill_after_the_first_epoch)
    with pytest.raises(Killed):
        run(PARENT, session)
    assert any(session.checkpoint.iterdir()) and other.get(PARENT) is None
    reported = []
    again = run(PARENT, replace(session, report=lambda part, text: reported.append(part)))
    assert min(reported) > 0.5  # the first epoch was not repeated

    def known(found):
        return (
            {name: value for name, value in found.metrics.items() if name != "train_seconds"},
            {name: curve for name, curve in found.curves.items() if name != "seconds"},
            found.arrays,
        )

    assert known(again) == known(parent)
    mine, theirs = (load_file(place.scratch(PARENT) / "weights.safetensors") for place in (other, store))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items()) and mine.keys() == theirs.keys()


def test_without_data_it_is_unavailable_and_says_why(monkeypatch, tmp_path):
    def nothing(*args):
        raise DataMissing("no pictures here")

    monkeypatch.setattr(images, "load_images", nothing)
    for spec in (PARENT, SubsetRun(parent=PARENT)):
        (missing,) = obtain([spec], store=Store(tmp_path, tmp_path), device="cpu").missing
        assert missing.reason == "no pictures here"


def test_a_mixture_goes_with_a_space_of_experts():
    for changes in ({"moe": None}, {"space": WIDTHS}):
        with pytest.raises(ValueError, match="needs moe"):
            replace(PARENT, **changes)
