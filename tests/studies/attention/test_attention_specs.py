"""The attention chapter's Specs at toy size: what each run measures, and what the claims read from it."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from claimed import reads
from lib.attention.standard import standard
from lib.measure.statistics import NotTestable
from lib.models.gpt import GPTConfig
from lib.runs.results import Results
from lib.runs.spec import all_fields
from lib.runs.store import Session, Store
from lib.studies.attention.contenders import Setting, contenders, share_computed
from lib.studies.attention.context import Recall, RecallBatches, RecallRun, StoriesRun, generator
from lib.studies.attention.cost import MachineRun, MemoryRun, TimingRun, kept_bytes
from lib.studies.attention.exact import ExactAttentionRun, StabilityRun
from lib.studies.attention.names import memories, timings
from lib.studies.attention.step import StepRun
from lib.studies.attention.studies import SIZES, Parameters, doublings, sized, studies
from lib.studies.base.corpora import Corpus
from lib.training.loop import Recipe

CPU = torch.device("cpu")
SMALL = Setting(heads=1, head_dim=16, tile=16, features=20)
NAMES = ("standard", "tiled", "sdpa", "block-sparse", "linformer", "performer")


def run(spec, tmp_path):
    """The result of a Spec, without a store."""
    outcome = spec.run(Session(CPU, Store(tmp_path, tmp_path), spec, lambda part, text: None))
    return SimpleNamespace(spec=all_fields(spec), metrics=outcome.metrics, arrays=outcome.arrays, curves=outcome.curves)


def test_timing_names_what_ran_and_why_the_rest_did_not(tmp_path):
    result = run(TimingRun(length=64, names=(*NAMES, "share 0.5", "tile 8", "flex", "triton"), setting=SMALL, rounds=2), tmp_path)
    assert {name for name in result.spec["names"] if f"ms_{name}" in result.metrics} == {*NAMES, "share 0.5", "tile 8"}
    assert "no backward pass" in result.metrics["absent_flex"] and "CUDA" in result.metrics["absent_triton"]
    assert result.metrics["speed_up_standard"] == 1 and result.metrics["share_share 0.5"] == 0.5
    frame = timings(Results((result,)))
    assert frame["method"].tolist()[:2] == ["standard", "tiled, ours"] and len(frame) == 8


def test_contenders_compute_attention():
    q, k, v = SMALL.tensors(64, CPU, seed=0)
    calls, absent = contenders(("standard", "tiled", "tile 5", "sdpa", "share 1"), SMALL, 64, CPU, training=False)
    assert not absent
    for call in calls.values():
        assert (call(q, k, v) - standard(q, k, v)).abs().max() <= 1e-5
    with pytest.raises(ValueError, match="no attention is called 'flush'"):
        contenders(("flush",), SMALL, 64, CPU, training=False)
    assert share_computed("tiled", SMALL, 64) == 1 and share_computed("block-sparse", SMALL, 128) == 4 / 8


def test_memory_tells_a_matrix_from_none(tmp_path):
    result = run(MemoryRun(lengths=(64, 128, 256), names=("standard", "tiled", "sdpa"), setting=replace(SMALL, tile=32)), tmp_path)
    N, d = 256, 16
    assert result.arrays["kept_tiled"][-1] == 4 * (4 * N * d + N) and result.arrays["kept_standard"][-1] >= 4 * (N * N + 3 * N * d)
    assert result.arrays["flops_standard"][-1] == 12 * N * N * d and result.arrays["flops_tiled"][-1] == 14 * N * N * d
    assert result.arrays["peak_standard"][-1] > 3 * result.arrays["peak_tiled"][-1]
    assert len(memories(Results((result,)))) == 9
    with pytest.raises(NotTestable, match="fewer than 1,024"):
        reads("flash-memory-linear")({"memory": Results((result,))})
    assert reads("flash-operations")({"memory": Results((result,))}) == [pytest.approx(14 / 12)]


def test_what_is_kept_is_counted_once():
    q, k, v = SMALL.tensors(32, CPU, seed=0)
    assert kept_bytes(lambda q, k, v: (q * q).sum() * (q + k).sum() * v.sum(), q, k, v) >= q.numel() * 4


def test_exactness_and_stability(tmp_path):
    exact = run(ExactAttentionRun(cases=12, longest=40), tmp_path)
    assert reads("flash-exact")({"exactness": Results((exact,))})[0] <= 1e-5
    assert {"tiled_causal", "sdpa_padding", "rounding_groups", "tiled_uneven", "tiled_blocks"} <= exact.metrics.keys()
    stable = run(StabilityRun(length=48, head_dim=16, spreads=(1.0, 256.0)), tmp_path)
    lost = {(name, precision, spread): share for name, precision, spread, _, share in stable.arrays["rows"]}
    assert lost["no maximum subtracted", "bf16", 256.0] > 0.5
    assert not any(share for (name, *_), share in lost.items() if name != "no maximum subtracted")
    assert reads("flash-stable")({"stability": Results((stable,))})[0] < 0.7


def test_a_step_with_either_attention(tmp_path):
    config = GPTConfig(vocabulary=32, context=24, width=16, depth=2, heads=2, hidden=32)
    result = run(StepRun(config=config, rounds=2), tmp_path)
    assert {f"{what}_ratio" for what in ("forward", "attention", "step")} <= result.metrics.keys()
    assert 0 < result.metrics["share_fused"] and result.metrics["step_ms_standard"] > 0
    with pytest.raises(NotTestable, match="1,024 tokens"):
        reads("flash-gpt2-attention")({"step": Results((result,))})


def test_the_machines_speeds(tmp_path):
    metrics = run(MachineRun(size=64, megabytes=1, repeats=3), tmp_path).metrics
    assert metrics["flops_per_second"] > 1e6 and metrics["bytes_per_second"] > 1e6


def test_recall_can_be_answered_from_what_it_says():
    task = Recall(length=20, pairs=5, values=3)
    tokens, value, distance = task.sample(500, generator("a test"))
    for row, right, far in zip(tokens[:50].tolist(), value.tolist(), distance.tolist()):
        pairs = {t // task.values: t % task.values for t in row if t < task.pairs * task.values}
        assert len(pairs) == task.pairs and pairs[row[-1] - task.pairs * task.values] == right
        assert row[-1 - far] // task.values == row[-1] - task.pairs * task.values
        assert max(row) < task.vocabulary
    assert distance.min() >= 1 and distance.max() <= 19
    assert (distance < 10).double().mean().item() == pytest.approx(9 / 19, abs=0.07)
    assert task.ceiling(20) == 1 and task.ceiling(1) == pytest.approx(1 / 3) and task.ceiling(10) == pytest.approx(9 / 19 + 10 / 19 / 3)


def test_recall_batches_repeat_and_are_cut():
    batches = RecallBatches(Recall(length=20, pairs=5), context=6, batch_size=4, steps=3, seed=1)
    assert torch.equal(batches.batch(1, 2)[0], batches.batch(1, 2)[0]) and not torch.equal(batches.batch(1, 2)[0], batches.batch(2, 2)[0])
    assert batches.batch(0, 0)[0].shape == (4, 6)


def test_recall_is_learnt_with_the_whole_context_only(tmp_path):
    task = Recall(length=12, pairs=2, values=2)
    base = RecallRun(task=task, context=12, width=16, steps=120, recipe=Recipe(epochs=2, batch_size=64, lr=1e-2, weight_decay=0.0))
    whole, part = run(base, tmp_path), run(replace(base, context=3), tmp_path)
    assert whole.metrics["accuracy"] > 0.9 and whole.metrics["accuracy_beyond"] is None
    assert part.metrics["accuracy"] <= part.metrics["ceiling"] + 0.05 and abs(part.metrics["accuracy_beyond"] - 0.5) < 0.06
    runs = {"recall": Results((part, whole))}
    assert reads("flash-context-recall")(runs)[0] > 0.2 and reads("flash-recall")(runs) == [whole.metrics["accuracy"] - 0.5]


def test_stories_with_a_context(tmp_path):
    spec = StoriesRun(corpus=Corpus(stories=200, vocabulary=300), context=8, width=16, depth=1, heads=1, tokens=32, steps=4, watched=64)
    result = run(spec, tmp_path)
    assert len(result.curves["loss"]) == 2 and math.isfinite(result.metrics["test_loss"])


@pytest.mark.parametrize("scale", SIZES)
def test_every_scale_makes_its_specs(scale):
    found = studies(Parameters(scale=scale))
    assert all(len({spec.key for spec in specs}) == len(specs) for specs in found.values())
    contexts = {spec.context for spec in found["stories"]}
    assert any(4 * context in contexts for context in contexts)
    assert any(spec.context == spec.task.length for spec in found["recall"])
    lengths = {spec.length for spec in found["timing"]}
    assert scale == "smoke" or {128, 256, 512, 1024, 2048} <= lengths


def test_parameters_reach_the_specs():
    found = studies(Parameters(scale="cpu", longest=512, heads=3, head_dim=32, tile=64, seeds=2, corpus="grammar"))
    assert {spec.length for spec in found["timing"]} == {128, 256, 512} and found["memory"][0].lengths == (128, 256, 512)
    assert {(spec.setting.heads, spec.setting.head_dim, spec.setting.tile) for spec in found["timing"]} == {(3, 32, 64)}
    assert {spec.seed for spec in found["recall"]} == {0, 1} and not found["engines"]
    assert {spec.corpus.name for spec in found["stories"]} == {"grammar"}
    assert doublings(64, 300) == [64, 128, 256] and sized(Parameters(scale="smoke")).seeds == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [({"longest": 32}, "at least 64"), ({"head_dim": 4}, "at least 8"), ({"corpus": "grammer"}, "use one of"), ({"tile": 0}, "at least 8")],
)
def test_bad_parameters_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Parameters(**{"scale": "smoke"} | values)


def rows(speed: dict[str, float], lengths=(128, 256, 512, 1024, 2048), **fields):
    """Timing results made up for claims: milliseconds of each name at 128 tokens, growing by its own power of two."""
    found = []
    for length in lengths:
        times = {name: ms * (length / 128) ** (1 if name in ("linformer", "performer") else 2) for name, ms in speed.items()}
        metrics = {f"ms_{name}": ms for name, ms in times.items()} | {
            f"speed_up_{name}": times["standard"] / ms for name, ms in times.items()
        }
        metrics |= {f"share_{name}": 0.3 if name == "block-sparse" else 1.0 for name in times}
        found.append(
            SimpleNamespace(
                spec={"length": length, "passes": "training", "seed": 0, "names": list(speed), "setting": {"precision": "fp32"}} | fields,
                metrics=metrics,
            )
        )
    return Results(tuple(found))


def test_claims_about_time():
    timing = {"timing": rows({"standard": 4.0, "tiled": 6.0, "sdpa": 2.0, "block-sparse": 0.5, "linformer": 8.0, "performer": 32.0})}
    assert reads("flash-speed")(timing) == [pytest.approx(2)]
    assert reads("flash-sparse-speed")(timing) == [pytest.approx(4)]  # over the fused kernel, not our tiled loop
    assert reads("flash-approximate")(timing) == [pytest.approx(512)]
    never = {"timing": rows({"standard": 4.0, "sdpa": 2.0, "linformer": 80.0, "performer": 80.0})}
    assert reads("flash-approximate")(never) == [2048]
    with pytest.raises(NotTestable, match="1,024"):
        reads("flash-approximate")({"timing": rows({"standard": 4.0, "sdpa": 2.0, "linformer": 8.0, "performer": 8.0}, lengths=(128, 256))})


def test_perplexity_with_four_times_the_context():
    stories = Results(
        tuple(
            SimpleNamespace(spec={"seed": 0, "context": context}, metrics={"test_loss": loss})
            for context, loss in {16: 2.2, 64: 2.1, 256: 2.0}.items()
        )
    )
    assert reads("flash-context-stories")({"stories": stories}) == [pytest.approx(1 - math.exp(-0.1))]
    with pytest.raises(NotTestable, match="factor of four"):
        reads("flash-context-stories")({"stories": Results(stories.found[:1])})
