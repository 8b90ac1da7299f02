"""The language chapter's Specs at toy size: each method does what its name says to a language model, and runs repeat."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lib.data.grammar import story_grammar
from lib.data.tokenizer import train_tokenizer
from lib.models.anatomy import anatomy, linear_layers, untie
from lib.models.calibration import statistics_of
from lib.models.gpt import GPT, GPTConfig
from lib.models.pretrained import Logits, tiny
from lib.pruning.sparsegpt import sparsegpt
from lib.pruning.structure import NM
from lib.quantization.gptq import gptq
from lib.quantization.sparse import sparse_and_rounded
from lib.quantization.stream import rotate_stream
from lib.runs.store import Session, Store
from lib.studies.base.corpora import Corpus
from lib.studies.language.compress import CompressRun
from lib.studies.language.gpt import LanguageGPT, bigram_loss, drawn, spread, unigram_loss
from lib.studies.language.layers import LayersRun
from lib.studies.language.machine import LayerTimeRun, TorchaoLMRun
from lib.studies.language.methods import PrunedLM, RoundedActivationsLM, RoundedLM, ShortenedLM, Untouched
from lib.studies.language.studies import SIZES, Parameters, studies
from lib.studies.language.subjects import OwnLM, losses
from lib.training.loop import Recipe

CPU = torch.device("cpu")
SMALL = OwnLM(
    LanguageGPT(
        corpus=Corpus(stories=200, vocabulary=300),
        context=32,
        width=16,
        depth=3,
        heads=2,
        tokens=256,
        steps=8,
        recipe=Recipe(epochs=2, lr=1e-2),
        watched=256,
    ),
    windows=4,
    calibration=6,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The GPT is trained once for all tests."""
    folder = tmp_path_factory.mktemp("runs")
    return Store(folder / "none", folder)


def run(spec, store):
    return spec.run(Session(CPU, store, spec, lambda part, text: None))


def compressed(method, store, **fields):
    return run(CompressRun(model=SMALL, method=method, **fields), store)


def subject(store):
    spec = CompressRun(model=SMALL)
    return SMALL.subject(Session(CPU, store, spec, lambda part, text: None), 0)


def test_windows_are_spread_and_draws_repeat():
    tokens = torch.arange(105)
    windows = spread(tokens, 10, 5)
    assert windows[:, 0].tolist() == [0, 20, 40, 60, 80] and windows.shape == (5, 10)
    assert len(spread(tokens, 10, 50)) == 10
    assert torch.equal(drawn(tokens, 8, 3, seed=1), drawn(tokens, 8, 3, seed=1))
    assert not torch.equal(drawn(tokens, 8, 3, seed=1), drawn(tokens, 8, 3, seed=2))
    with pytest.raises(ValueError, match="fewer than a window of 10"):
        spread(tokens[:5], 10, 1)


def test_simple_models_know_what_counts_know():
    windows = torch.tensor([[0, 1, 0, 1, 0, 1, 0, 1, 0]])
    assert unigram_loss(windows) == pytest.approx(math.log(2))
    assert bigram_loss(windows[0].repeat(50), windows, 2, weight=1.0) < 0.2 < bigram_loss(torch.randint(2, (500,)), windows, 2)


def test_losses_are_those_of_the_next_token():
    class Uniform(nn.Module):
        def forward(self, tokens_BN):
            return torch.zeros(*tokens_BN.shape, 7)

    windows = torch.randint(7, (5, 6))
    for at_once in (1, 3):
        assert losses(Uniform(), windows, at_once) == pytest.approx([math.log(7)] * 5)


def test_a_run_repeats_and_keeps_the_loss_of_each_window(store):
    first, again = (compressed(Untouched(), store, told=5) for _ in range(2))
    assert first.arrays == again.arrays and len(first.arrays["losses"]) == 4
    assert first.metrics["loss"] == pytest.approx(sum(first.arrays["losses"]) / 4)
    assert first.metrics["perplexity"] == pytest.approx(math.exp(first.metrics["loss"]))
    assert first.metrics["sample"].startswith("Once upon a time") and first.metrics["bits"] == 16
    assert first.metrics["bytes"] == 2 * first.metrics["parameters"]
    other = compressed(Untouched(), store, seed=1)
    assert other.arrays["losses"] != first.arrays["losses"]  # another network


@pytest.mark.parametrize("by", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("kept", [{"density": 0.25}, {"pattern": "2:4"}], ids=str)
def test_pruning_leaves_as_many_as_it_says(by, kept, store):
    model = subject(store)
    PrunedLM(by, **kept).apply(model, 0)
    for layer in linear_layers(model.model):
        share = (layer.weight != 0).float().mean().item()
        assert share == pytest.approx(kept.get("density", 0.5), abs=0.02)
        if "pattern" in kept:
            assert ((layer.weight != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all()
    dense = subject(store)
    for old, new in zip(linear_layers(dense.model), linear_layers(model.model)):
        unchanged = torch.equal(old.weight[new.weight != 0], new.weight[new.weight != 0])
        assert unchanged == (by != "sparsegpt")  # only the sweep corrects what stays


def test_wanda_compares_within_a_row_or_a_layer(store):
    for per, same in (("row", True), ("layer", False)):
        model = subject(store)
        PrunedLM("wanda", per=per).apply(model, 0)
        counts = [(layer.weight != 0).sum(1) for layer in linear_layers(model.model)]
        assert all((each == each[0]).all() for each in counts) == same


@pytest.mark.parametrize("by", ["nearest", "gptq", "awq"])
def test_rounding_leaves_few_values(by, store):
    model = subject(store)
    RoundedLM(by, 3, group=8).apply(model, 0)
    for layer in linear_layers(model.model):
        if by != "awq":  # whose scales differ by column
            groups = layer.weight.unflatten(1, (-1, 8)).flatten(0, 1)
            assert max(len(group.unique()) for group in groups) <= 8


def test_half_of_the_weights_on_a_grid(store):
    model = subject(store)
    PrunedLM("sparsegpt", bits_left=4).apply(model, 0)
    for layer in linear_layers(model.model):
        assert (layer.weight == 0).float().mean().item() >= 0.45
        assert max(len(row.unique()) for row in layer.weight) <= 16


def test_one_sweep_prunes_as_sparsegpt_and_rounds_as_gptq():
    torch.manual_seed(0)
    x = torch.randn(300, 16) @ torch.randn(16, 16)
    W, seen = torch.randn(12, 16), statistics_of(x)
    for group in (None, 8):
        assert torch.equal(sparse_and_rounded(W, seen, 3, density=1.0, group=group)[0], gptq(W, seen, 3, group))
    x[:, :2] *= 30  # two weights that stay and are large, so that no grid has to cut off what the others grow to
    W[:, 0], W[:, 1], seen = 20.0, -20.0, statistics_of(x)
    fine, mask = sparse_and_rounded(W, seen, 16, density=0.5)
    alone, same = sparsegpt(W, seen, density=0.5)
    assert torch.equal(mask, same) and (fine - alone).abs().max() < 0.02
    patterned, mask = sparse_and_rounded(W, seen, 4, structure=NM(2, 4), group=8)
    assert (mask.unflatten(1, (-1, 4)).sum(-1) == 2).all() and (patterned[~mask] == 0).all()
    with pytest.raises(ValueError, match="one of them"):
        sparse_and_rounded(W, seen, 4)


def test_blocks_go_by_influence_at_random_and_from_the_end(store):
    for by, count in (("influence", 1), ("random", 2), ("last", 1)):
        outcome = compressed(ShortenedLM(by, count), store)
        assert len(outcome.arrays["removed"]) == count and len(outcome.arrays["influences"]) == 3
        if by == "influence":
            scores = outcome.arrays["influences"]
            assert outcome.arrays["removed"] == [scores.index(min(scores))]
    assert compressed(ShortenedLM("last", 1), store).arrays["removed"] == [1]
    with pytest.raises(ValueError, match="leave one"):
        compressed(ShortenedLM("influence", 3), store)


def models():
    torch.manual_seed(0)
    yield GPT(GPTConfig(vocabulary=300, context=32, width=24, depth=2, heads=2, hidden=48)).eval(), 300
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[language]'")
    tokenizer = train_tokenizer([story.text for story in story_grammar().sample(200, "train")], 300)
    yield Logits(tiny("smollm2", tokenizer, hidden_size=144, num_attention_heads=9, num_key_value_heads=3).model).eval(), 300


def test_a_rotation_of_the_whole_model_changes_nothing():
    tokens = torch.randint(300, (2, 12), generator=torch.Generator().manual_seed(0))
    for model, _ in models():
        with torch.no_grad():
            for block in anatomy(model).blocks:  # gains that are not 1 have to be folded
                for norm in (block.norm1, block.norm2):
                    norm.weight.uniform_(0.5, 2.0)
            before = model(tokens)
            embedding = anatomy(model).embed.weight.clone()
            rotate_stream(model, seed=3)
            assert not torch.allclose(anatomy(model).embed.weight, embedding, atol=1e-3)
            assert torch.allclose(model(tokens), before, atol=1e-4 * before.abs().max().item())


def test_an_untied_head_is_a_copy():
    for model, _ in models():
        tied = anatomy(model).embed.weight
        head = untie(model)
        assert torch.equal(head.weight, tied) and head.weight is not tied and anatomy(model).head is head
    with pytest.raises(ValueError, match="no anatomy"):
        anatomy(nn.Linear(2, 2))


@pytest.mark.parametrize("by", ["smoothquant", "rotation"])
def test_before_rounding_neither_smoothing_nor_rotation_changes_anything(by, store):
    fine = compressed(RoundedActivationsLM(by, weight_bits=16, activation_bits=16), store)
    assert fine.metrics["loss"] == pytest.approx(compressed(Untouched(), store).metrics["loss"], abs=2e-3)


def test_activations_are_rounded_only_while_the_method_runs(store):
    model, method = subject(store), RoundedActivationsLM(activation_bits=2)
    before = losses(model.model, model.windows_WN, 4)
    with method.running(model.model):
        assert losses(model.model, model.windows_WN, 4) != before
    assert losses(model.model, model.windows_WN, 4) == before


def test_layers_are_looked_at_and_left_alone(store):
    outcome = run(LayersRun(model=SMALL, group=8), store)
    assert len(outcome.arrays["errors"]) == 3 * 7 * 6 and len(outcome.arrays["outliers"]) == 3 * 7
    mean = {}
    for _, method, error in outcome.arrays["errors"]:
        mean[method] = mean.get(method, 0) + error
    assert mean["sparsegpt"] < mean["wanda"] < mean["magnitude"] and mean["gptq"] < mean["nearest"]
    for x, w, x_after, w_after in outcome.arrays["channels"]:
        assert x_after == pytest.approx(w_after, rel=1e-3) and x * w == pytest.approx(x_after * w_after, rel=1e-3)
    assert len(run(LayersRun(model=SMALL, group=8, every=2), store).arrays["errors"]) == 2 * 7 * 6


def test_sizes_count_places_scales_and_what_is_left_whole(store):
    assert PrunedLM().bits(64) == 9 and PrunedLM(density=0.25).bits(64) == 5
    assert RoundedLM("nearest", 4, 64).bits(128) == 4 + 2 * 20 / 128
    assert PrunedLM(bits_left=4).bits(128) == 1 + 2 + 20 / 128
    assert RoundedActivationsLM().bits(128) == 8 + 16 / 128
    half = compressed(PrunedLM(), store).metrics
    inside = sum(layer.weight.numel() for layer in linear_layers(subject(store).model))
    assert half["bytes"] == round((9 * inside + 16 * (half["parameters"] - inside)) / 8) and half["zeros"] == pytest.approx(0.5, abs=0.01)


def test_the_time_of_a_layer(tmp_path):
    outcome = run(LayerTimeRun(inputs=32, outputs=64, tokens=(1, 4), rounds=2), Store(tmp_path, tmp_path))
    assert outcome.metrics["times_dense_1"] == 1 and outcome.metrics["ms_zeros_4"] > 0


def test_torchao_rounds_alike(store):
    pytest.importorskip("torchao", reason="torchao is not installed")
    metrics = run(TorchaoLMRun(model=SMALL), store).metrics
    for bits, close in ((8, 0.01), (4, 0.05)):
        assert metrics[f"perplexity_torchao_{bits}"] == pytest.approx(metrics[f"perplexity_ours_{bits}"], rel=close)


@pytest.mark.parametrize("scale", SIZES)
def test_every_scale_makes_its_specs(scale):
    found = studies(Parameters(scale=scale))
    assert all(len({spec.key for spec in specs}) == len(specs) for specs in found.values())
    needs_transformers = {type(getattr(spec, "model", None)).__name__ for specs in found.values() for spec in specs}
    assert ("PretrainedLM" in needs_transformers) == (scale in ("cpu", "gpu"))


def test_a_run_that_serves_several_studies_is_one_spec():
    found = studies(Parameters(scale="laptop"))
    assert set(found["ratios"]) & set(found["pruning"]) and set(found["rows"]) & set(found["pruning"])


def test_parameters_reach_the_specs():
    found = studies(Parameters(scale="cpu", pretrained=False, windows=9, group=32, corpus="grammar", seeds=2))
    specs = [spec for specs in found.values() for spec in specs if isinstance(spec, CompressRun)]
    assert {spec.model.windows for spec in specs} == {9} and {spec.seed for spec in specs} == {0, 1}
    assert {spec.model.gpt.corpus.name for spec in specs} == {"grammar"}
    assert {spec.method.group for spec in found["rounding"]} == {32}
    assert replace(found["dense"][0], seed=0).builds_on == (found["gpt"][0],)
    for values in ({"group": 48}, {"windows": 1}, {"corpus": "grammer"}):
        with pytest.raises(ValueError):
            Parameters(**values)
