"""From many experts to one FFN: EWA's averaging, merging, and Switch's distillation."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lib.models.vit import ViT, preset
from lib.models.vit_merge import merge_to_dense
from lib.moe.average import average
from lib.moe.experts import Experts
from lib.moe.ffn import Mlp
from lib.moe.layer import MoEConfig
from lib.moe.routers.partition import average_weights, expert_weight_averaging
from lib.moe.sparse_to_dense import copy_non_expert_weights, sparse_to_dense_loss


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def tiny(depth=3, **fields):
    return ViT(preset("tiny", depth=depth, moe=MoEConfig(**{"experts": 4, **fields})))


def equal_experts(model):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Experts):
                for stacked in module.parameters():
                    stacked.copy_(torch.randn_like(stacked[:1]).expand_as(stacked) / 5)
    return model


IMAGES = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "fields",
    [
        {"router": "thor"},
        {"router": "adamix"},
        {"router": "partition"},
        {"router": "whole-network"},
        {"router": "hash"},
        {"router": "switch", "k": 2},
        {"router": "bias", "k": 2},
        {"router": "switch", "k": 2, "split": 2, "shared": 1},
        {"router": "switch", "k": 2, "placement": "every-second", "split": 2},
    ],
    ids=lambda f: "-".join(map(str, f.values())),
)
@pytest.mark.parametrize("how", ["uniform", "usage"])
def test_merging_equal_experts_is_exact(fields, how):
    model = equal_experts(tiny(**fields)).eval()
    logits, routings = model.with_routing(IMAGES)
    merged = merge_to_dense(model, how, routings if how == "usage" else None)
    assert merged.config.moe is None
    assert all(isinstance(block.ffn, Mlp) for block in merged.blocks)
    torch.testing.assert_close(merged(IMAGES), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("router", ["thor", "adamix", "partition", "whole-network"])
def test_random_routers_evaluate_as_their_merged_model(router):
    model = tiny(router=router).eval()
    torch.testing.assert_close(merge_to_dense(model)(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


def test_a_merged_model_is_a_standalone_dense_one():
    model = tiny(router="partition")
    merged = merge_to_dense(model)
    dense = ViT(preset("tiny", depth=3))
    assert sum(p.numel() for p in merged.parameters()) == sum(p.numel() for p in dense.parameters())
    again = ViT(merged.config)
    again.load_state_dict(merged.state_dict())
    torch.testing.assert_close(again(IMAGES), merged(IMAGES))
    with torch.no_grad():
        model.embed.weight.zero_()
    assert merged.embed.weight.abs().sum() > 0


def test_usage_weighs_experts_by_their_gates_and_scales_the_output():
    model = tiny(depth=1, router="switch").eval()
    routings = model.with_routing(IMAGES)[1]
    layer, given = model.blocks[0].ffn, torch.zeros(4)
    given.index_add_(0, routings[0].expert_TK[:, 0], routings[0].gate_TK[:, 0].detach())
    merged = merge_to_dense(model, "usage", routings).blocks[0].ffn
    torch.testing.assert_close(merged.fc1.weight, torch.einsum("e,edh->hd", given / given.sum(), layer.experts.w_in))
    mean_gate = routings[0].gate_TK.mean()
    expected = mean_gate * torch.einsum("e,ehd->dh", given / given.sum(), layer.experts.w_out)
    torch.testing.assert_close(merged.fc2.weight, expected)


def test_merging_says_what_it_needs():
    model = tiny()
    with pytest.raises(ValueError, match="'uniform', 'usage'"):
        merge_to_dense(model, "best")
    with pytest.raises(ValueError, match="needs routings"):
        merge_to_dense(model, "usage")
    with pytest.raises(ValueError, match="one per layer"):
        merge_to_dense(model, "usage", model.with_routing(IMAGES)[1][:1])


# EWA ------------------------------------------------------------------------------------------------------


def test_ewa_is_the_papers_formula_and_keeps_the_mean():
    experts = Experts(5, 6, 7)
    before = copy.deepcopy(experts)
    average_weights(experts, 0.2)
    for old, new in zip(before.parameters(), experts.parameters()):
        torch.testing.assert_close(new.mean(0), old.mean(0))
        for i in range(5):
            others = torch.stack([old[j] for j in range(5) if j != i]).mean(0)
            torch.testing.assert_close(new[i], 0.8 * old[i] + 0.2 * others)


def test_ewa_then_merging_is_the_uniform_mean_and_draws_the_experts_together():
    model = tiny(router="partition")
    expected = average(model.blocks[0].ffn.experts)
    hook = expert_weight_averaging(beta=0.1)
    spread = model.blocks[0].ffn.experts.w_in.var(0).sum()
    for step in range(1, 51):
        hook(model, step)
    assert model.blocks[0].ffn.experts.w_in.var(0).sum() < 1e-4 * spread
    torch.testing.assert_close(merge_to_dense(model).blocks[0].ffn.fc1.weight, expected.w_in.T)


def test_ewa_ramp_and_its_limits():
    gentle, full = tiny(router="partition"), tiny(router="partition")
    full.load_state_dict(gentle.state_dict())
    expert_weight_averaging(0.1, ramp=10)(gentle, 5)
    expert_weight_averaging(0.05)(full, 1)
    torch.testing.assert_close(gentle.blocks[0].ffn.experts.w_in, full.blocks[0].ffn.experts.w_in)
    switch = tiny(router="switch")
    before = switch.blocks[0].ffn.experts.w_in.clone()
    expert_weight_averaging(0.1)(switch, 1)
    assert torch.equal(switch.blocks[0].ffn.experts.w_in, before)
    with pytest.raises(ValueError, match="beta"):
        expert_weight_averaging(1.0)


# Distillation ---------------------------------------------------------------------------------------------


def test_the_student_starts_with_everything_but_the_experts():
    teacher = tiny(placement="every-second")
    student = ViT(preset("tiny", depth=3))
    copied = copy_non_expert_weights(student, teacher)
    fresh = set(student.state_dict()) - set(copied)
    assert fresh == {f"blocks.1.ffn.{part}.{kind}" for part in ("fc1", "fc2") for kind in ("weight", "bias")}
    torch.testing.assert_close(student.blocks[0].ffn.fc1.weight, teacher.blocks[0].ffn.fc1.weight)


def test_distillation_mixes_teacher_and_labels():
    teacher, student = tiny(), ViT(preset("tiny"))
    labels = torch.arange(8)
    loss, logs = sparse_to_dense_loss(teacher)(student, IMAGES, labels)
    assert not teacher.training
    with torch.no_grad():
        taught = teacher(IMAGES).softmax(-1)
    logits = student(IMAGES)
    soft = -(taught * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss, 0.25 * soft + 0.75 * F.cross_entropy(logits, labels))
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert 0 <= logs["agreement"] <= 1
