"""MetaPruning: generated weights, costs, the search, and a run from beginning to end."""

import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from lib.measure import cost as measure
from lib.models.cnn import BaselineCNN, CNNConfig
from lib.pruning.meta import SCALES, Generator, PruningNet, macs, scaled, stochastic_loss
from lib.pruning.meta_search import Evolution, evolve
from lib.runs.store import Store, obtain
from lib.studies.pruning.meta import MetaRun, PruningNetRun, rank_correlation
from lib.training.loop import Recipe

CONFIG = CNNConfig(((8,), (12, 10)), channels=2)


def test_the_scales_are_the_papers():
    assert len(SCALES) == 31 and SCALES[0] == 0.1 and SCALES[-1] == 1.0
    assert [scaled(10, gene) for gene in (0, 15, 30)] == [1, 6, 10] and scaled(3, 0) == 1


def test_cropping_before_or_after_gives_the_same():
    torch.manual_seed(0)
    generator = Generator(5, 7)
    scales = torch.tensor([0.4, 0.7])
    whole = generator.second(generator.first(scales).relu()).view(7, 5, 3, 3)
    torch.testing.assert_close(generator(scales, 3, 4), whole[:4, :3], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("genes", [(30, 30, 30), (0, 0, 0), (3, 25, 11)])
def test_the_generated_network_is_a_plain_one_with_these_weights(genes):
    torch.manual_seed(0)
    net = PruningNet(CONFIG).eval()
    net.scales = genes
    net.calibrate([torch.randn(16, 2, 8, 8) for _ in range(3)])
    widths = net.widths(genes)
    plain = BaselineCNN(CONFIG.with_widths(widths)).eval()
    convs = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    inputs, before = (2, *widths[:-1]), (1.0, *(SCALES[gene] for gene in genes[:-1]))
    with torch.no_grad():
        for number, gene in enumerate(genes):
            convs[number].weight.copy_(net.generators[number](torch.tensor([before[number], SCALES[gene]]), inputs[number], widths[number]))
            norms[number].load_state_dict(net.norms[number][gene].state_dict())
        plain.head.weight.copy_(net.head.weight[:, : widths[-1]])
        plain.head.bias.copy_(net.head.bias)
    x = torch.randn(4, 2, 8, 8)
    torch.testing.assert_close(net(x), plain(x), atol=1e-4, rtol=1e-4)
    assert macs(CONFIG, widths, 8) * 2 == measure.flops(plain, x[:1])


def test_one_batch_norm_per_scale_and_calibration_sets_only_the_present_ones():
    torch.manual_seed(0)
    net = PruningNet(CONFIG).eval()
    assert [len(norms) for norms in net.norms] == [31] * 3
    net.scales = (4, 5, 6)
    inputs = torch.randn(64, 2, 8, 8) * 3 + 1
    net.calibrate([inputs])
    assert not net.training and net.norms[0][4].momentum == 0.1
    seen = torch.nn.functional.conv2d(inputs, net.generators[0](torch.tensor([1.0, SCALES[4]]), 2, net.widths(net.scales)[0]), padding=1)
    torch.testing.assert_close(net.norms[0][4].running_mean, seen.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    assert net.norms[0][5].running_mean.eq(0).all()


def test_training_draws_scales_and_reaches_all_generators():
    torch.manual_seed(0)
    net, drawn = PruningNet(CONFIG), set()
    for _ in range(5):
        loss, logged = stochastic_loss(net, torch.randn(8, 2, 8, 8), torch.arange(8) % 10)
        loss.backward()
        drawn.add(net.scales)
    assert len(drawn) == 5 and set(logged) == {"train_accuracy"}
    assert all(generator.first.weight.grad.abs().sum() > 0 for generator in net.generators)
    for wrong in ((1, 2), (1, 2, 31)):
        with pytest.raises(ValueError, match="places among the 31"):
            net.widths(wrong)


def test_the_search_finds_the_best_within_the_budget_and_beats_chance():
    target = (9, 2, 7, 1, 4, 8)
    calls = []

    def score(genes):
        calls.append(genes)
        return -sum(abs(a - b) for a, b in zip(genes, target))

    found = evolve(6, 10, score, lambda genes: sum(genes) <= 31, Evolution(generations=12), seed=1)
    assert len(set(calls)) == len(calls) == len(found) and all(sum(genes) <= 31 for genes, _ in found)
    assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)
    rng = random.Random(0)
    chance = max(score(tuple(rng.randrange(10) for _ in range(6))) for _ in range(len(found)))
    assert found[0][1] > chance and found[0][1] >= -2
    assert found == evolve(6, 10, score, lambda genes: sum(genes) <= 31, Evolution(generations=12), seed=1)


def test_a_small_space_ends_the_search_and_an_impossible_budget_is_told(monkeypatch):
    monkeypatch.setattr("lib.pruning.meta_search.TRIES", 300)
    found = evolve(2, 3, sum, lambda genes: True, Evolution(population=4, parents=2, generations=3))
    assert found[0] == ((2, 2), 4) and len(found) <= 9
    with pytest.raises(ValueError, match="allow more"):
        evolve(2, 3, sum, lambda genes: False, Evolution())
    for fields in ({"population": 1}, {"parents": 60}, {"probability": 0.0}):
        with pytest.raises(ValueError):
            Evolution(**fields)


def test_rank_correlations():
    assert rank_correlation([1, 2, 3], [0.1, 0.5, 0.9]) == pytest.approx(1) and rank_correlation([1, 2], [2, 1]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_a_run_from_beginning_to_end(tmp_path):
    config = replace(CONFIG, channels=1)
    net = PruningNetRun(model=config, train_examples=256, recipe=Recipe(epochs=2, batch_size=64, lr=1e-2))
    spec = MetaRun(
        parent=net,
        controls=2,
        searched=50,
        evolution=Evolution(population=6, parents=3, generations=2, mutations=3, crossovers=3),
        recipe=Recipe(epochs=2, batch_size=64, lr=1e-2),
    )
    result = obtain([spec], store=Store(tmp_path / "none", tmp_path))[0]
    rows = result.arrays["networks"]
    assert [row["name"] for row in rows] == ["winner", "uniform", "control 1", "control 2"]
    assert all(0 < row["mac_share"] <= 0.25 for row in rows) and all(row["mac_share"] >= 0.9 * 0.25 for row in rows[2:])
    assert result.metrics["winner_predicted"] == result.arrays["found"][0] and result.metrics["candidates"] <= 6 + 2 * 6
    assert result.metrics["winner_test_accuracy"] == rows[0]["test_accuracy"]
    step = max(g for g in range(31) if macs(config, tuple(scaled(w, g) for w in config.widths), 8) <= 0.25 * macs(config, config.widths, 8))
    assert all(width in (scaled(full, step), scaled(full, step + 1)) for width, full in zip(rows[1]["widths"], config.widths))
    for fields in ({"budget": 0.0}, {"searched": 0}):
        with pytest.raises(ValueError):
            replace(spec, **fields)
