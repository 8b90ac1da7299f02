"""Dense to dynamic: nested FFNs, difficulty, routers, and the experiment on digits."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_model

from lib.data.images import load_images, normalise
from lib.elastic.difficulty import choose_size, difficulty
from lib.elastic.dynamic import DynamicViT, dynamic_loss, ffn_inputs, flops_without_ffns, routed_flops
from lib.elastic.nested import NestedMlp, importance, prefix, reorder
from lib.measure import cost as measure
from lib.models.vit import ViT, preset
from lib.moe.ffn import Mlp
from lib.moe.layer import MoEConfig
from lib.runs.store import Store, obtain
from lib.studies.elastic.dynamic import DynamicRun, rank_correlation
from lib.studies.moe.vit import ViTRun
from lib.training.loop import Recipe

WIDTHS = (8, 16, 40)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def mlp():
    return Mlp(12, 40).double()


@pytest.fixture
def x_TD():
    return torch.randn(50, 12, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def images():
    return torch.randn(6, 1, 8, 8)


@pytest.fixture
def vit():
    return ViT(preset("tiny")).eval()


def masked(mlp, x_TD, size_T):
    """The same by masks: every unit computed, those beyond a token's size set to 0."""
    kept_TH = torch.arange(WIDTHS[-1]) < torch.tensor(WIDTHS)[size_T][:, None]
    return mlp.fc2(F.gelu(mlp.fc1(x_TD)) * kept_TH)


@pytest.mark.parametrize(
    "size_T",
    [torch.arange(50) % 3, torch.zeros(50, dtype=torch.long), torch.full((50,), 2), torch.arange(50) % 2 * 2],
    ids=["mixed", "smallest", "largest", "without middle"],
)
def test_tokens_by_size_equal_masks(mlp, x_TD, size_T):
    upstream_TD = torch.randn(50, 12, dtype=torch.float64)
    results = []
    for y_TD in (NestedMlp(mlp, WIDTHS)(x_TD, size_T), masked(mlp, x_TD, size_T)):
        gradients = torch.autograd.grad(y_TD, [x_TD, *mlp.parameters()], upstream_TD, materialize_grads=True)
        results.append([y_TD, *gradients])
    for nested, reference in zip(*results):
        torch.testing.assert_close(nested, reference, atol=1e-12, rtol=0)


def test_tokens_cost_what_their_sizes_cost(mlp, x_TD):
    size_T = torch.arange(50) % 3
    units = torch.tensor(WIDTHS)[size_T].sum().item()
    assert measure.flops(NestedMlp(mlp, WIDTHS), x_TD, size_T) == 4 * 12 * units


def test_chunks_add_up_to_the_experts(mlp, x_TD):
    nested = NestedMlp(mlp, WIDTHS)
    parts = nested.chunks(x_TD)
    for size, width in enumerate(WIDTHS):
        expert = prefix(mlp, width)
        torch.testing.assert_close(sum(parts[: size + 1]) + mlp.fc2.bias, expert(x_TD))
        torch.testing.assert_close(nested(x_TD, torch.full((50,), size)), expert(x_TD))


@pytest.mark.parametrize("widths", [(), (8, 8, 40), (16, 8, 40), (0, 40), (8, 16)])
def test_widths_must_grow_to_the_whole(mlp, widths):
    with pytest.raises(ValueError, match="must grow from at least 1 to the FFN's 40 units"):
        NestedMlp(mlp, widths)


@pytest.mark.parametrize("how", ["activation", "weight"])
def test_reordering_keeps_the_function_and_sorts(mlp, x_TD, how):
    before_TD, score_H = mlp(x_TD), importance(mlp, x_TD, how)
    reorder(mlp, score_H)
    torch.testing.assert_close(mlp(x_TD), before_TD, atol=1e-12, rtol=0)
    torch.testing.assert_close(importance(mlp, x_TD, how), score_H.sort(descending=True).values)
    assert not torch.equal(importance(mlp, x_TD, how), score_H)


def test_activation_importance_is_the_mean_contribution(mlp, x_TD):
    unit = 7
    contribution_TD = F.gelu(mlp.fc1(x_TD))[:, unit, None] * mlp.fc2.weight[:, unit]
    torch.testing.assert_close(importance(mlp, x_TD)[unit], contribution_TD.norm(dim=1).mean())
    with pytest.raises(ValueError, match="'activation', 'weight'"):
        importance(mlp, x_TD, "random")


def test_difficulty_is_the_smallest_size_that_agrees():
    whole = torch.tensor([1.0, 0.0])
    y_ETD = torch.stack(
        [
            torch.tensor([[2.0, 0.1], [1, 1], [0, 1], [0, 0]]),
            torch.tensor([[0.0, 1], [1, 0.1], [0, 1], [0, 0]]),
            whole.expand(4, 2) * torch.tensor([[1.0], [1], [1], [0]]),
        ]
    )
    assert difficulty(y_ETD, 0.9).tolist() == [0, 1, 2, 2]
    assert difficulty(y_ETD, 0.7).tolist() == [0, 0, 2, 2]


def test_a_higher_threshold_never_chooses_a_smaller_size():
    probs_TE = torch.randn(200, 4).softmax(-1)
    assert torch.equal(choose_size(probs_TE), probs_TE.argmax(-1))
    assert (choose_size(probs_TE, 0.0) == 0).all()
    assert (choose_size(probs_TE, 1.0) == 3).all()
    sizes = [choose_size(probs_TE, threshold) for threshold in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert all((small <= large).all() for small, large in zip(sizes, sizes[1:]))
    enough_T = probs_TE.cumsum(-1).gather(1, sizes[3][:, None])[:, 0]
    assert (enough_T >= 0.6 - 1e-6).all()


@pytest.mark.parametrize("changes", [{}, {"pool": "class", "head_hidden": 40}, {"stem": "conv"}, {"stem": "strided"}])
def test_from_dense_keeps_the_function_at_full_size(images, changes):
    vit = ViT(preset("tiny", **changes)).eval()
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    model = DynamicViT.from_dense(vit, images).eval()
    model.threshold = 1.0
    torch.testing.assert_close(model(images), vit(images), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.static(vit.config.widths)(images), vit(images), atol=1e-6, rtol=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in vit.state_dict().items())
    assert not torch.equal(model.blocks[0].ffn.experts.fc1.weight, vit.blocks[0].ffn.fc1.weight)


def test_units_are_ordered_by_each_layers_own_inputs(vit, images):
    model = DynamicViT.from_dense(vit, images)
    for block, x_TD in zip(model.blocks, ffn_inputs(vit, images)):
        score_H = importance(block.ffn.experts, x_TD)
        assert (score_H.diff() <= 1e-6).all()


@pytest.mark.parametrize("changes", [{}, {"pool": "class", "head_hidden": 40}, {"stem": "conv"}, {"stem": "strided"}])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_flops_from_the_choices_are_those_that_run(images, changes, size):
    model = DynamicViT(preset("tiny", **changes)).eval()
    size_T = torch.full((len(images) * model.config.tokens,), size)
    static = model.static([block.ffn.experts.widths[size] for block in model.blocks])
    torch.testing.assert_close(model.with_sizes(images, [size_T] * 2), static(images))
    for block in model.blocks:  # a router that is sure of this size
        torch.nn.init.zeros_(block.ffn.router.fc2.weight)
        block.ffn.router.fc2.bias.data = 100 * F.one_hot(torch.tensor(size), 3).float()
    routings = model.with_routing(images)[1]
    assert routed_flops(model, routings) == measure.flops(model, images) / len(images)
    routers = 2 * 2 * model.config.tokens * (48 * 12 + 12 * 3)
    assert routed_flops(model, routings) - routers == measure.flops(static, images) / len(images)


def test_flops_of_mixed_choices(vit, images):
    model = DynamicViT.from_dense(vit, images).eval()
    sparse = []
    for threshold in (None, 0.2, 0.4, 0.6, 0.9):
        model.threshold = threshold
        routings = model.with_routing(images)[1]
        sparse.append(routed_flops(model, routings))
        assert sparse[-1] == pytest.approx(measure.flops(model, images) / len(images), rel=1e-9)
    assert sparse[1:] == sorted(sparse[1:]) and sparse[1] < sparse[-1]
    assert flops_without_ffns(model) == measure.flops(vit, images) / len(images) - 2 * 16 * 4 * 48 * 96


def test_given_sizes_are_used_and_forgotten(vit, images):
    model = DynamicViT.from_dense(vit, images).eval()
    before = model(images)
    size_LT = [torch.randint(0, 3, (len(images) * 16,)) for _ in model.blocks]
    assert not torch.allclose(model.with_sizes(images, size_LT), before)
    torch.testing.assert_close(model(images), before)
    with pytest.raises(ValueError):
        model.with_sizes(images, size_LT[:1])
    torch.testing.assert_close(model(images), before)


def test_the_training_loss_reaches_routers_and_network_apart(vit, images):
    model = DynamicViT.from_dense(vit, images, theta=0.8).train()
    labels = torch.randint(0, 10, (len(images),))
    loss, logged = dynamic_loss()(model, images, labels)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for block in model.blocks for p in block.ffn.router.parameters())
    assert 0.25 <= logged["mean_size"] <= 1

    torch.manual_seed(1)
    routings = model.with_routing(images)[1]
    shared = [model.embed.weight, *model.blocks[0].ffn.experts.parameters()]
    gradients = torch.autograd.grad(sum(r.loss for r in routings), shared, allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_the_training_output_is_that_of_the_chosen_sizes(vit, images):
    ffn = DynamicViT.from_dense(vit, images).blocks[0].ffn
    x_TD = torch.randn(64, 48)
    y_TD, decided = ffn.learn(x_TD)
    torch.testing.assert_close(y_TD, ffn.experts(x_TD, decided.expert_TK[:, 0]))
    y_ETD = torch.stack([prefix(ffn.experts, width)(x_TD) for width in ffn.experts.widths])
    label_T = difficulty(y_ETD - ffn.experts.fc2.bias, ffn.theta)
    torch.testing.assert_close(decided.losses["router"], F.cross_entropy(ffn.router(x_TD), label_T))


def test_bfloat16_gives_nearly_the_same(vit, images):
    model = DynamicViT.from_dense(vit, images).eval()
    size_LT = [torch.arange(len(images) * 16) % 3 for _ in model.blocks]
    exact = model.with_sizes(images, size_LT)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.with_sizes(images, size_LT), exact, atol=0.05, rtol=0)
        loss, _ = dynamic_loss()(model.train(), images, torch.zeros(len(images), dtype=torch.long))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_labels_of_bfloat16_outputs_are_added_up_in_fp32(vit, images):
    ffn = DynamicViT.from_dense(vit, images).blocks[0].ffn
    parts = [part.bfloat16() for part in ffn.experts.chunks(torch.randn(2000, 48))]
    y_ETD = torch.stack(parts).float().cumsum(0)
    ffn.theta = F.cosine_similarity(y_ETD[1], y_ETD[2], dim=-1).median().item()  # where a little noise decides
    assert torch.equal(ffn.label(parts), difficulty(y_ETD, ffn.theta))


@pytest.mark.parametrize(
    "sizes, theta, words",
    [((0.5,), 0.9, "must grow"), ((0.5, 0.25, 1), 0.9, "must grow"), ((), 0.9, "must grow"), ((0.5, 1), 0, "must be in")],
)
def test_wrong_settings_are_refused(vit, images, sizes, theta, words):
    with pytest.raises(ValueError, match=words):
        DynamicViT.from_dense(vit, images, sizes, theta)


def test_a_mixture_is_refused(images):
    sparse = ViT(preset("tiny", moe=MoEConfig(experts=4)))
    with pytest.raises(ValueError, match="only a dense ViT"):
        DynamicViT.from_dense(sparse, images)


def test_rank_correlation():
    a = torch.tensor([1.0, 2, 3, 4])
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, torch.ones(4)) is None


PARENT = ViTRun(recipe=Recipe(epochs=5, batch_size=64, lr=5e-3))
SPEC = DynamicRun(parent=PARENT, recipe=Recipe(epochs=1, batch_size=64, lr=2e-3), thresholds=(0.0, 0.5, 1.0))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return Store(folder / "reference", folder / "own")


@pytest.fixture(scope="module")
def result(store):
    return obtain([SPEC], store=store, device="cpu")[0]


def test_run_on_digits(result, store):
    metrics, arrays = result.metrics, result.arrays
    assert metrics["test_accuracy"] > 0.75 and abs(metrics["val_accuracy"] - metrics["dense_val_accuracy"]) < 0.1
    assert sum(metrics[f"share_{size:g}"] for size in SPEC.sizes) == pytest.approx(1)
    assert metrics["relative_flops"] == pytest.approx(metrics["flops_per_image"] / metrics["dense_flops_per_image"])
    assert metrics["relative_flops_fixed_0.25"] < metrics["relative_flops"] - 0.01 < metrics["relative_flops_fixed_1"] == 1
    assert all(-1 <= metrics[f"size_{name}_correlation"] <= 1 for name in ("loss", "correct", "dense_loss", "contrast"))
    assert 0 < metrics["router_agreement"] < 1 and 1 / 3 <= metrics["commonest_label"] <= 1
    assert arrays["sweep_relative_flops"] == sorted(arrays["sweep_relative_flops"])
    assert arrays["sweep_val_accuracy"][0] == pytest.approx(metrics["val_accuracy_fixed_0.25"])
    assert arrays["sweep_val_accuracy"][2] == pytest.approx(metrics["val_accuracy_fixed_1"])
    assert len(arrays["share_by_layer"]) == 2 and torch.tensor(arrays["share_by_position"]).shape == (3, 4, 4)
    assert torch.tensor(arrays["share_by_position"]).sum(0).allclose(torch.ones(4, 4), atol=0.01)
    assert torch.tensor(arrays["example_mean_size"]).shape == (6, 4, 4)
    means = [torch.tensor(image).mean().item() for image in arrays["example_mean_size"]]
    assert means == sorted(means) and means[0] < means[-1]
    assert len(json.dumps(result.content())) < 40_000


def test_controls_have_the_routers_flops(result):
    """The same sizes, dealt out otherwise, cost the same; the routers themselves come on top."""
    dense, routers = result.metrics["dense_flops_per_image"], 2 * 2 * 16 * (48 * 12 + 12 * 3)
    rows = [
        (result.metrics["relative_flops"], result.metrics["relative_flops_random"]),
        *zip(result.arrays["sweep_relative_flops"], result.arrays["sweep_relative_flops_random"]),
    ]
    for relative, chance in rows:
        assert relative * dense - routers == pytest.approx(chance * dense, rel=1e-6)
    assert result.metrics["relative_flops_fixed"] == pytest.approx(result.metrics["relative_flops_random"], abs=0.01)


def test_what_is_saved_is_the_model_that_was_scored(result, store):
    images = load_images("digits")
    model = DynamicViT(PARENT.geometry(images), SPEC.sizes, SPEC.theta).eval()
    load_model(model, str(store.scratch(SPEC) / "weights.safetensors"))
    logits, routings = model.with_routing(normalise(images.test.images, images))
    assert (logits.argmax(1) == images.test.labels).float().mean().item() == pytest.approx(result.metrics["test_accuracy"])
    relative = routed_flops(model, routings) / result.metrics["dense_flops_per_image"]
    assert relative == pytest.approx(result.metrics["test_relative_flops"])


def test_the_address_depends_on_the_parent():
    assert len({spec.key for spec in (SPEC, replace(SPEC, parent=replace(PARENT, seed=1)), replace(SPEC, theta=0.5))}) == 3


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"importance": "size"}, "'activation', 'weight'"),
        ({"theta": 0.0}, "theta is 0"),
        ({"theta": 1.5}, "theta is 1.5"),
        ({"sizes": (0.5, 0.25, 1)}, "must grow"),
        ({"sizes": (0.25, 0.5)}, "must grow"),
    ],
)
def test_a_spec_that_cannot_run_is_refused_at_once(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(SPEC, **changes)
