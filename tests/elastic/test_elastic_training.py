"""Samplers, the elastic loss, equal compute, and the Specs that train."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lib.data.augment import Augmentation
from lib.elastic.compute import Paced, step_cost
from lib.elastic.config import Space
from lib.elastic.cost import cost, embedding_cost
from lib.elastic.loss import elastic_loss
from lib.elastic.samplers import ERNIE, CoActivation, LayerwiseK, Nested, Progressive, Sandwich, Uniform, Weighted
from lib.elastic.subnet import LayerUnits, Subnet
from lib.elastic.supernet import ElasticViT, geometry
from lib.models.vit import ViT
from lib.moe.layer import MoEConfig
from lib.runs.store import Store, obtain
from lib.studies.base.images import available_images
from lib.studies.elastic.names import WHOLE_DEPTH
from lib.studies.elastic.studies import SIZES as SCALES
from lib.studies.elastic.studies import Parameters, spaces, studies
from lib.studies.elastic.vit import ElasticRun
from lib.training.loop import Recipe

SPACE = Space(depth=(2, 3, 4), heads=(3,), hidden=(16,), experts=(2, 4, 8), k=(1, 2))
DENSE = Space(depth=(3,), heads=(3,), hidden=(4, 8, 16))
CONFIG = geometry(SPACE, width=24, moe=MoEConfig(single_gate="share"), image_size=8, channels=1, patch=2)
SAMPLERS = [
    ERNIE(),
    Uniform(),
    Sandwich(),
    Sandwich(distil=False),
    Weighted(),
    Weighted(phases=True),
    LayerwiseK(),
    Progressive(),
    CoActivation(),
]


def drawn(sampler, steps=4000, progress=0.99, space=SPACE):
    torch.manual_seed(0)
    return [sampler.passes(space, progress) for _ in range(steps)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: repr(sampler)[:24])
def test_every_sampler_draws_from_the_space_and_repeats_itself(sampler):
    steps = drawn(sampler, 50)
    assert steps == drawn(sampler, 50)
    assert all(one.size in SPACE for step in steps for one in step)


def test_ernie_keeps_each_axis_whole_as_often_as_it_says():
    sizes = [step[0].size for step in drawn(ERNIE())]
    share = {
        axis: sum(getattr(size, axis) == getattr(SPACE.largest, axis) for size in sizes) / len(sizes) for axis in ("depth", "experts", "k")
    }
    assert share == pytest.approx({"depth": 0.75, "experts": 0.80, "k": 0.80}, abs=0.025)
    whole = sum(size == SPACE.largest for size in sizes) / len(sizes)
    assert whole == pytest.approx(0.75 * 0.8 * 0.8, abs=0.03)  # the axes are independent
    subsets = Counter(step[0].subnet.layers[0].experts for step in drawn(ERNIE()) if step[0].size.experts == 4)
    assert len(subsets) > 20  # of 70


def test_sandwich_trains_both_ends_and_only_the_largest_sees_labels():
    for step in drawn(Sandwich(random=2), 20):
        assert len(step) == 4 and step[0].size == SPACE.largest and step[1].size == SPACE.smallest
        assert [(one.label, one.teacher) for one in step] == [(1, 0), (0, 1), (0, 1), (0, 1)]
    assert all(one.label == 1 and one.teacher == 0 for step in drawn(Sandwich(distil=False), 5) for one in step)


def test_the_projects_first_phase_computes_one_network_three_times_unless_merged():
    wasteful, merged = Weighted(phases=True, merge=False), Weighted(phases=True)
    for step in drawn(wasteful, 5, progress=0.1):
        assert [one.size for one in step] == [SPACE.largest] * 3
    for step in drawn(merged, 5, progress=0.1):
        assert len(step) == 1 and step[0].label == pytest.approx(1.0)
    half = SPACE.upper_half()
    assert all(one.size in half for step in drawn(merged, 50, progress=0.5) for one in step)
    assert {one.size.depth for step in drawn(merged, 200, progress=0.9) for one in step} == set(SPACE.depth)
    # ... which is what equal compute has to pay for.
    assert step_cost(wasteful, SPACE, CONFIG) > 1.3 * step_cost(merged, SPACE, CONFIG)


def test_progressive_shrinking_opens_one_axis_after_another():
    sampler = Progressive(whole=0.4, order=("depth", "experts", "k"))
    assert all([one.size for one in step] == [SPACE.largest] for step in drawn(sampler, 20, progress=0.39))
    seen = {}
    for progress in (0.45, 0.55, 0.65, 0.75, 0.85, 0.95):
        sizes = [step[1].size for step in drawn(sampler, 300, progress)]
        seen[progress] = [
            {size.depth for size in sizes},
            {layer.experts for size in sizes for layer in size.layers},
            {layer.k for size in sizes for layer in size.layers},
        ]
    assert seen[0.45] == [{3, 4}, {8}, {2}] and seen[0.55] == [{2, 3, 4}, {8}, {2}]
    assert seen[0.65] == [{2, 3, 4}, {4, 8}, {2}] and seen[0.75][1] == {2, 4, 8}
    assert seen[0.95] == [{2, 3, 4}, {2, 4, 8}, {1, 2}]
    assert any(
        isinstance(size.experts, tuple) and len(set(size.experts)) > 1 for size in (step[1].size for step in drawn(sampler, 50, 0.99))
    )


def test_layerwise_k_and_nested_widths():
    ks = {step[0].size.k for step in drawn(LayerwiseK(), 500)}
    assert len(ks) == 2**4  # every combination of four layers
    sizes = {step[0].size for step in drawn(Nested(), 100, space=DENSE)}
    assert sizes == {replace(DENSE.largest, hidden=width) for width in DENSE.hidden}


def test_co_activation_draws_from_a_pool_in_training_only():
    torch.manual_seed(0)
    model = ElasticViT(CONFIG).train()
    model.select(CoActivation(times=2).passes(SPACE, 0)[0].subnet)
    images = torch.randn(16, 1, 8, 8)
    _, (routing, *_) = model.with_routing(images)
    best_T4 = routing.probs_TE.topk(4).indices
    inside = (routing.expert_TK[..., None] == best_T4[:, None]).any(-1)
    assert inside.all() and routing.expert_TK.shape[1] == 2
    top2 = (routing.expert_TK[..., None] == best_T4[:, None, :2]).any(-1).float().mean()
    assert 0.35 < top2 < 0.65  # half of the pool
    torch.testing.assert_close(routing.gate_TK.sum(-1), torch.ones(len(routing.gate_TK)))
    assert set(routing.losses) == {"balance", "sharpen"}
    _, (routing, *_) = model.eval().with_routing(images)
    assert torch.equal(routing.expert_TK, routing.probs_TE.topk(2).indices)


def test_a_pool_that_meets_inactive_experts_has_finite_gradients():
    torch.manual_seed(0)
    model = ElasticViT(CONFIG).train()
    model.select(
        Subnet((LayerUnits(0, range(3), range(16), range(4), 2, pool=4), LayerUnits(2, range(3), range(16), range(3), 2, pool=4)))
    )  # the last: fewer than the pool
    logits, routings = model.with_routing(torch.randn(16, 1, 8, 8))
    (logits.square().mean() + sum(routing.loss for routing in routings)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.blocks[0].ffn.router.gate.weight.grad[:4].abs().sum() > 0
    assert routings[0].load_E[4:].sum() == 0


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: ERNIE(depth=1.5), "depth is 1.5"),
        (lambda: ERNIE(sparsity=-0.1), "sparsity is"),
        (lambda: Sandwich(random=-1), "random is -1"),
        (lambda: Weighted(weights=(0.0, 0.5, 0.5)), "above 0"),
        (lambda: Weighted(weights=(0.5, -0.2, 0.3)), "none below 0"),
        (lambda: Progressive(order=("depth", "width")), "an axis in order is 'width'"),
        (lambda: LayerwiseK().passes(DENSE, 0.0), "give the space experts and k"),
        (lambda: CoActivation().passes(DENSE, 0.0), "give the space experts and k"),
    ],
)
def test_samplers_that_cannot_work_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_loss_is_the_weighted_mean_of_its_passes():
    """Against the same sum written out; the teacher gets no gradient."""
    torch.manual_seed(0)
    model = ElasticViT(replace(CONFIG, moe=replace(CONFIG.moe, balance=0.0))).eval()
    images, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    sampler = Sandwich(random=1)
    torch.manual_seed(5)
    value, logs = elastic_loss(sampler, SPACE, lambda: 0.0)(model, images, labels)
    torch.manual_seed(5)
    largest, *others = [model.select(one.subnet)(images) for one in sampler.passes(SPACE, 0.0)]
    soft = largest.detach().softmax(-1)
    expected = (F.cross_entropy(largest, labels) + sum(F.cross_entropy(logits, soft) for logits in others)) / 3
    torch.testing.assert_close(value, expected)
    assert logs["train_loss_first"].item() == pytest.approx(F.cross_entropy(largest, labels).item())
    mine, theirs = (torch.autograd.grad(v, model.head.weight)[0] for v in (value, expected))
    torch.testing.assert_close(mine, theirs)


def test_a_step_makes_tokens_once_for_all_its_networks():
    model = ElasticViT(replace(CONFIG, patch=4, stem="conv")).train()
    calls = []
    model.embed.register_forward_hook(lambda *_: calls.append(1))
    elastic_loss(Sandwich(random=2), SPACE, lambda: 0.0)(model, torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]))
    assert len(calls) == 1


def test_step_cost_is_exact_where_it_can_be_said():
    assert step_cost(CoActivation(), SPACE, CONFIG) == pytest.approx(1.0)
    for config in (CONFIG, replace(CONFIG, patch=4, stem="conv")):
        (_, tokens), largest, smallest = embedding_cost(config), cost(SPACE.largest, config).flops, cost(SPACE.smallest, config).flops
        assert step_cost(Sandwich(random=0), SPACE, config) == pytest.approx((largest + smallest - tokens) / largest)
    before = torch.get_rng_state()
    step_cost(ERNIE(), SPACE, CONFIG)
    assert torch.equal(torch.get_rng_state(), before)


def test_paced_batches_go_on_where_the_epoch_stopped_and_know_the_time():
    class Numbered:
        steps = 10

        def batch(self, epoch, step):
            assert 0 <= step < 10
            return epoch, step

    paced = Paced(Numbered(), steps=4, epochs=5)
    assert [paced.batch(epoch, step) for epoch in range(5) for step in range(4)] == [divmod(i, 10) for i in range(20)]
    paced.batch(2, 2)
    assert paced.progress() == pytest.approx(10 / 20)


ELASTIC = ElasticRun(
    train_examples=256,
    space=SPACE,
    sampler=ERNIE(),
    moe=MoEConfig(single_gate="share"),
    d_model=24,
    recipe=Recipe(epochs=2, batch_size=32, lr=3e-3),
)
RUNS = [ELASTIC, replace(ELASTIC, space=Space.only(SPACE.largest), offered=SPACE, sampler=None)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.default(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def trained(store):
    return obtain(RUNS, store=store)


def test_an_elastic_run_reports_its_subnetworks(trained):
    elastic, rigid = trained
    assert not elastic.metrics["diverged"]
    assert elastic.curves["train_loss"][-1] < elastic.curves["train_loss"][0]
    for result in trained:
        assert len(result.arrays["grid"]) == 3 * 3 * 2
        assert {f"test_accuracy_{name}" for name in ("large", "medium", "small", "smallest")} <= set(result.metrics)
        assert result.metrics["parameters_small"] < result.metrics["parameters_medium"] < result.metrics["parameters_large"]
        assert result.arrays["wall_k"] == [1, 2, 3, 4, 6, 8]
    # Equal compute, up to the rounding of an epoch to whole steps.
    assert elastic.metrics["train_flops"] == pytest.approx(rigid.metrics["train_flops"], rel=0.08)
    assert elastic.metrics["steps"] > rigid.metrics["steps"] and elastic.metrics["step_cost"] < 1


def test_ordinary_training_trains_the_whole_network_in_every_epoch(trained, store):
    """Looking at small sub-networks in between leaves the whole one switched on: its last layer learns like its first."""
    learnt = load_file(store.scratch(RUNS[1]) / "weights.safetensors")
    torch.manual_seed(0)
    start = ViT(RUNS[1].geometry(available_images("digits", RUNS[1].train_examples, torch.device("cpu")))).state_dict()
    moved = [(learnt[name] - start[name]).abs().mean().item() for name in (f"blocks.{i}.norm1.weight" for i in range(4))]
    assert min(moved) > 0.3 * max(moved)


def test_stages_and_knobs():
    every = studies(Parameters(scale="smoke"))
    assert set(studies(Parameters(scale="smoke", stage="benchmark"))) == {"extraction", "pace", "search"}
    assert set(studies(Parameters(scale="smoke", stage="visualize"))) == set(every)
    assert Parameters(stage="visualize").replay_only and not Parameters().replay_only
    with pytest.raises(ValueError, match="use one of 'all'"):
        Parameters(stage="baseline")
    with pytest.raises(ValueError, match="num_experts must be at least 4"):
        Parameters(num_experts=2)
    wide = studies(Parameters(scale="smoke", num_experts=16, epochs=3))["samplers"][0]
    assert wide.space.experts == (16,) and wide.offered.experts == (4, 8, 12, 16) and wide.recipe.epochs == 3
    other = studies(Parameters(scale="cpu", dataset="digits"))["samplers"][0]
    assert (other.dataset, other.train_examples, other.patch) == ("digits", None, 2) and other.augmentation == Augmentation()
    alike = studies(Parameters(scale="cpu", dataset="cifar100"))["samplers"][0]  # of the same shape: all else stays
    usual = studies(Parameters(scale="cpu"))["samplers"][0]
    assert alike == replace(usual, dataset="cifar100")


@pytest.mark.parametrize("scale", SCALES)
def test_spaces_of_all_scales(scale):
    found = spaces(SCALES[scale].geometry)
    assert {found[name].largest for name in ("whole", "three", "depth", "experts", "k")} == {found["whole"].largest}
    assert set(found["five"].elastic_axes) >= {"depth", "hidden", "experts", "k"}
    whole = SCALES[scale].geometry
    assert found["widths"].largest.hidden == whole.k * whole.hidden  # as many FLOPs as k experts


def test_the_width_tells_the_scale():
    """Names of runs rely on it: a twin is told from the whole network by its depth at this width."""
    assert len(WHOLE_DEPTH) == len(SCALES)
