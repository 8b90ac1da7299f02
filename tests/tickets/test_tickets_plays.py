"""When BERT Plays the Lottery: importance, masking step by step, sub-networks of equal size."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lib.models.encoder import Classifier, Encoder, EncoderConfig
from lib.models.encoder_remove import smaller
from lib.tickets.importance import Importance, by_layer, importance, released_importance
from lib.tickets.masks import Parts, bad_like, chance_overlap, chosen_parts, chosen_weights, overlap, random_like, share, whole
from lib.tickets.search import drop_least, largest, m_pruning, s_pruning, s_pruning_to

CONFIG = EncoderConfig(vocabulary=20, context=10, width=16, depth=3, heads=4, hidden=24)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier(Encoder(CONFIG), 2, pad=0).eval()


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 20, (13, 10), generator=generator)
    tokens[::3, 7:] = 0
    return tokens, torch.randint(0, 2, (13,), generator=generator)


def some_parts(seed=0, p=0.6):
    g = torch.Generator().manual_seed(seed)
    return Parts(torch.rand(3, 4, generator=g) < p, torch.rand(3, generator=g) < p)


# Importance


def test_importance_is_the_mean_absolute_gradient_of_each_example(model, examples):
    """Against central differences of each example's own loss, in float64."""
    tokens, labels = examples
    parts, model = some_parts(3, 0.8), model.double()
    found = importance(model, tokens, labels, parts)
    expected_heads, expected_ffns = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)

    def losses(heads, ffns):
        with torch.no_grad():
            logits = model(tokens, head_masks=list(heads[:, None]), layer_masks=list(ffns[:, None, None]))
            return F.cross_entropy(logits, labels, reduction="none")

    heads, ffns, step = parts.heads.double(), parts.ffns.double(), 1e-5
    for layer in range(3):
        for head in range(4):
            up, down = heads.clone(), heads.clone()
            up[layer, head] += step
            down[layer, head] -= step
            expected_heads[layer, head] = ((losses(up, ffns) - losses(down, ffns)) / (2 * step)).abs().mean()
        up, down = ffns.clone(), ffns.clone()
        up[layer] += step
        down[layer] -= step
        expected_ffns[layer] = ((losses(heads, up) - losses(heads, down)) / (2 * step)).abs().mean()
    torch.testing.assert_close(found.ffns.double(), expected_ffns, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.heads.double(), by_layer(expected_heads), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.heads.norm(dim=1), torch.ones(3))


def test_importance_leaves_the_model_as_it_was(model, examples, monkeypatch):
    before = copy.deepcopy(model.state_dict())
    model.train()
    whole_scores = importance(model, *examples, whole(CONFIG))
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    monkeypatch.setattr("lib.tickets.importance.TOGETHER", 4)
    pieces = importance(model, *examples, whole(CONFIG))
    torch.testing.assert_close(pieces.heads, whole_scores.heads)
    with pytest.raises(ValueError, match="at least one"):
        importance(model, examples[0], examples[1][:3], whole(CONFIG))


def test_released_importance_adds_running_sums(model, examples):
    """Spelled out with autograd on one shared mask whose gradient is never cleared, as in the released code."""
    tokens, labels = examples
    heads = [torch.ones(1, 4, requires_grad=True) for _ in range(3)]
    ffns = [torch.ones(1, 1, requires_grad=True) for _ in range(3)]
    total_heads, total_ffns = torch.zeros(3, 4), torch.zeros(3)
    for some, their in zip(tokens.split(5), labels.split(5)):
        F.cross_entropy(model(some, head_masks=heads, layer_masks=ffns), their).backward()
        total_heads += torch.stack([mask.grad[0].abs() for mask in heads])
        total_ffns += torch.stack([mask.grad[0, 0].abs() for mask in ffns])
    found = released_importance(model, tokens, labels, whole(CONFIG), batch_size=5)
    torch.testing.assert_close(found.heads, by_layer(total_heads), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.ffns, total_ffns, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found.ffns, importance(model, tokens, labels, whole(CONFIG)).ffns, rtol=0.05)


def test_a_layer_without_importance_stays_at_zero():
    assert torch.equal(by_layer(torch.tensor([[0.0, 0.0], [3.0, 4.0]])), torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


# Step by step


def scored(worth_heads, worth_ffns):
    """A made-up quality: the sum of what the parts that stay are worth."""
    return lambda parts: float((worth_heads * parts.heads).sum() + (worth_ffns * parts.ffns).sum())


def test_s_pruning_takes_the_least_and_stops_at_ninety_per_cent():
    worth_heads, worth_ffns = torch.arange(40.0).view(4, 10), torch.tensor([100.0, 1.0, 50.0, 2.0])
    score = scored(worth_heads, worth_ffns)
    start = Parts(torch.ones(4, 10, dtype=torch.bool), torch.ones(4, dtype=torch.bool))
    full = score(start)  # 780 + 153; at least 839.7 must stay
    good, tried = s_pruning(start, score, lambda parts: Importance(worth_heads, worth_ffns))
    assert score(good) >= 0.9 * full
    # Together: heads 0-3 and FFN 1 (926), heads 4-7 and FFN 3 (902), then heads 8-11 and FFN 2 (814) are too many.
    assert [(t.stage, t.score) for t in tried[:4]] == [("whole", 933.0), ("both", 926.0), ("both", 902.0), ("both", 814.0)]
    # Then heads two at a time: 8 and 9 (885), 10 and 11 (864), 12 and 13 (839) are too many; and no FFN can go.
    assert [(t.stage, t.score) for t in tried[4:]] == [("heads", 885.0), ("heads", 864.0), ("heads", 839.0), ("ffns", 814.0)]
    assert good.heads.flatten().nonzero().flatten().tolist() == list(range(12, 40))
    assert good.ffns.tolist() == [True, False, True, False]


def test_s_pruning_can_use_everything_up_and_never_less():
    """Where the score does not care, all goes, and the search ends."""
    start = whole(CONFIG)
    good, tried = s_pruning(start, lambda parts: 1.0, lambda parts: Importance(torch.rand(3, 4), torch.rand(3)))
    assert not good.heads.any() and not good.ffns.any() and tried[-1].mask is good
    fussy, tried = s_pruning(
        start, lambda parts: float(parts.heads.all() and parts.ffns.all()), lambda parts: Importance(torch.rand(3, 4), torch.rand(3))
    )
    assert fussy is start and [t.stage for t in tried] == ["whole", "both", "heads", "ffns"]


@pytest.mark.parametrize("part, heads, ffns", [(0.5, 6, 2), (0.25, 3, 1), (0.01, 1, 1), (1.0, 12, 3)])
def test_s_pruning_to_a_size(part, heads, ffns):
    asked = []

    def rank(parts):
        asked.append(parts)
        return Importance(torch.rand(3, 4), torch.rand(3))

    found = s_pruning_to(whole(CONFIG), rank, part)
    assert (int(found.heads.sum()), int(found.ffns.sum())) == (heads, ffns)
    assert len(asked) == max(12 - heads, 3 - ffns)  # importance is measured anew at each step
    with pytest.raises(ValueError, match="above 0"):
        s_pruning_to(whole(CONFIG), rank, 0.0)


def test_drop_least_passes_over_what_is_gone():
    mask, scores = torch.tensor([True, False, True, True]), torch.tensor([5.0, 0.0, 1.0, 1.0])
    assert drop_least(mask, scores, 1).tolist() == [True, False, False, True]
    assert drop_least(mask, scores, 9).tolist() == [False] * 4
    assert mask.tolist() == [True, False, True, True]


def test_m_pruning_keeps_the_largest_of_all_layers():
    g = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn(30, 20, generator=g), "b": 0.1 * torch.randn(40, 10, generator=g)}
    magnitude = lambda masks: sum(float((weights[n].abs() * m).sum()) for n, m in masks.items())  # noqa: E731
    masks, tried = m_pruning(weights, magnitude)
    kept = sum(int(mask.sum()) for mask in masks.values())
    smallest = min(float(weights[n][m].abs().min()) for n, m in masks.items() if m.any())
    largest_gone = max(float(weights[n][~m].abs().max()) for n, m in masks.items() if (~m).any())
    assert smallest >= largest_gone and masks["b"].float().mean() < masks["a"].float().mean()
    assert magnitude(masks) >= 0.9 * magnitude({n: torch.ones_like(w) for n, w in weights.items()}) > tried[-1].score
    sizes = [sum(int(mask.sum()) for mask in t.mask.values()) for t in tried]
    assert sizes[:4] == [1000, 900, 810, 729] and kept in sizes
    allowed, tried = m_pruning(weights, lambda masks: 1.0)
    assert len(tried) == 11 and sum(int(mask.sum()) for mask in allowed.values()) == pytest.approx(349, abs=3)
    assert sum(int(m.sum()) for m in largest({"a": torch.ones(9)}, 4).values()) == 4


# Sub-networks of equal size


@pytest.mark.parametrize("seed", range(12))
def test_controls_are_of_equal_size(seed):
    good = some_parts(seed, p=0.2 + 0.06 * seed)
    for choice in ("good", "random", "bad"):
        found = chosen_parts(good, choice, seed)
        assert found.heads.sum() == good.heads.sum() and found.ffns.sum() == good.ffns.sum()
    bad = bad_like(good.heads, seed)
    expected = max(0, 2 * int(good.heads.sum()) - good.heads.numel())
    assert int((bad & good.heads).sum()) == expected  # no more of the good one than it must have
    assert torch.equal(random_like(good.heads, seed), random_like(good.heads, seed))
    weights = {"a": torch.rand(5, 7) < 0.3, "b": torch.rand(11) < 0.9}
    for choice in ("random", "bad"):
        found = chosen_weights(weights, choice, seed)
        assert sum(int(m.sum()) for m in found.values()) == sum(int(m.sum()) for m in weights.values())
        assert [m.shape for m in found.values()] == [m.shape for m in weights.values()]


def test_bad_masks_are_not_the_random_ones():
    """Of few heads they coincide by chance; drawn in the same order they would whenever the random one holds what is masked."""
    good = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 0]], dtype=torch.bool)
    same = [torch.equal(random_like(good, seed), bad_like(good, seed)) for seed in range(200)]
    assert sum(same) < 20


def test_random_masks_are_everywhere_alike():
    good = torch.zeros(4, 5, dtype=torch.bool)
    good[:, 0] = True
    often = torch.stack([random_like(good, seed) for seed in range(600)]).float().mean(0)
    torch.testing.assert_close(often, torch.full((4, 5), 0.2), atol=0.06, rtol=0)


def test_the_share_counts_the_weights_that_removal_leaves(model):
    parts = some_parts(5)

    def weights(encoder):
        return sum(p.numel() for name, p in encoder.named_parameters() if "blocks" in name and p.ndim == 2)

    small = smaller(model, **parts.gates())
    assert share(parts, CONFIG) == pytest.approx(weights(small.encoder) / weights(model.encoder))
    assert share(whole(CONFIG), CONFIG) == 1


def test_masked_and_removed_compute_the_same(model, examples):
    for seed in range(4):
        parts = some_parts(seed)
        with torch.no_grad():
            small = smaller(model, **parts.gates())
            torch.testing.assert_close(small(examples[0]), model(examples[0], **parts.gates()), atol=1e-5, rtol=0)


def test_overlap():
    assert overlap([[1, 1, 0, 0]], [[0, 1, 1, 0]]) == pytest.approx(1 / 3)
    assert overlap(torch.zeros(3), torch.zeros(3)) == 1
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(200_000, generator=g) < 0.7, torch.rand(200_000, generator=g) < 0.4
    assert overlap(a, b) == pytest.approx(chance_overlap(0.7, 0.4), abs=0.01)
    assert chance_overlap(0.0, 0.0) == 1
    with pytest.raises(ValueError, match="cannot overlap"):
        overlap([1, 0], [1, 0, 1])


def test_parts_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="bool"):
        Parts(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match="do not fit"):
        Parts(torch.ones(2, 3, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="as many in each"):
        whole(EncoderConfig(width=16, depth=2, heads=(1, 2), head_dim=4))
