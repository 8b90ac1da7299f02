"""Refilling and regrouping: budgets, whole channels, dense groups, and the same function once they are taken apart."""

import pytest
import torch

from lib.models.vgg import VGG, VGGConfig
from lib.pruning.allocate import masks
from lib.pruning.coarsen import MORE, closed, clusters, coarsened, fewer_channels, jaccard, refill, refill_plus, regroup
from lib.pruning.mask import attach, count, prunable
from lib.pruning.physical import remove
from lib.pruning.score import magnitude
from lib.pruning.sparse import GroupedProduct, SparseConv2d, sparse


def scattered(shape, density, seed=0):
    g = torch.Generator().manual_seed(seed)
    score = torch.rand(shape, generator=g) * torch.rand(shape[0], generator=g).view(-1, *[1] * (len(shape) - 1))
    keep = score.flatten().topk(round(density * score.numel())).indices
    return torch.zeros(score.numel(), dtype=torch.bool).index_fill(0, keep, True).view(shape), score


@pytest.mark.parametrize("density", [0.9, 0.5, 0.2, 0.02])
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (7, 5, 1, 1), (12, 10)], ids=str)
def test_refilling_keeps_the_strongest_channels_whole(shape, density):
    mask, score = scattered(shape, density)
    found = refill(mask, score)
    inputs = mask.transpose(0, 1).flatten(1).any(1)
    alive = found.flatten(1).any(1)
    size = int(inputs.sum()) * mask[0, 0].numel()
    assert int(alive.sum()) == max(1, int(mask.sum()) // size)
    assert int(found.sum()) == int(alive.sum()) * size and (int(found.sum()) <= int(mask.sum()) or alive.sum() == 1)
    strength = (score * mask).flatten(1).sum(1)
    assert alive.all() or strength[alive].min() >= strength[~alive].max()


def test_refill_plus_keeps_some_of_those_that_would_go():
    mask, score = scattered((100, 8, 3, 3), 0.4)
    some, more = refill(mask, score).flatten(1).any(1), refill_plus(mask, score).flatten(1).any(1)
    kept = int(some.sum())
    assert (some <= more).all() and kept == 40
    assert int(more.sum()) == kept + int((int(mask.flatten(1).any(1).sum()) - kept) * MORE) > kept
    assert refill(mask, score, 1.0).flatten(1).any(1).equal(mask.flatten(1).any(1))


def test_gone_inputs_stay_gone_and_make_channels_smaller():
    mask, score = scattered((10, 8, 3, 3), 0.5)
    mask[:, 4:] = False
    found = refill(mask, score)
    assert not found[:, 4:].any() and int(found.flatten(1).any(1).sum()) == int(mask.sum()) // 36
    empty = torch.zeros_like(mask)
    assert not refill(empty, score).any() and not regroup(empty, score).any()


@pytest.mark.parametrize("density", [0.6, 0.3, 0.1])
def test_regrouping_makes_dense_groups_within_the_budget(density):
    mask, score = scattered((48, 6, 3, 3), density)
    found = regroup(mask, score, rows=12)
    assert 0.9 * int(mask.sum()) <= int(found.sum()) <= int(mask.sum())
    assert len(found.flatten(1).unique(dim=0)) <= 4 < len(mask.flatten(1).unique(dim=0))


def test_hidden_groups_are_found():
    """Twelve rows of three kinds in mixed order, each with a few survivors missing: the kinds come back, filled up."""
    kinds, order = torch.zeros(3, 30, dtype=torch.bool), torch.randperm(12, generator=torch.Generator().manual_seed(0)) % 3
    for kind in range(3):
        kinds[kind, 10 * kind : 10 * kind + 8] = True
    whole = kinds[order]
    mask = whole.clone()
    for row in range(0, 12, 2):
        mask[row, whole[row].nonzero()[row % 3, 0]] = False
    groups = clusters(mask, rows=4)
    assert len({(int(g), int(o)) for g, o in zip(groups, order)}) == 3
    found = regroup(mask, torch.rand(12, 30), rows=4)
    assert (found <= whole).all() and int(mask.sum()) - int(found.sum()) < 4 and (found & ~mask).any()


def test_jaccard_is_its_definition():
    matrix = torch.rand(9, 20, generator=torch.Generator().manual_seed(1)) < 0.3
    matrix[4] = False
    found = jaccard(matrix)
    for a in range(9):
        for b in range(9):
            both, either = int((matrix[a] & matrix[b]).sum()), int((matrix[a] | matrix[b]).sum())
            assert found[a, b] == pytest.approx(both / either if either else 0)


@pytest.mark.parametrize("form", ["refill", "refill_plus", "regroup"])
def test_a_coarsened_network_is_taken_apart_without_a_change(form):
    torch.manual_seed(0)
    model = VGG(VGGConfig(widths=(16, 24, 32), stages=(1, 2), channels=2, classes=5, side=8)).eval()
    weights = prunable(model)
    survivors = masks(magnitude(weights), 0.4)
    found = coarsened(form, survivors, weights)
    names = list(survivors)
    assert all(torch.equal(found[name], survivors[name]) for name in (names[0], names[-1]))
    assert all(not torch.equal(found[name], survivors[name]) for name in names[1:-1])
    if form != "refill_plus":
        assert count(found) <= count(survivors)
    kept = closed(model, found, (2, 8, 8))
    attach(model, kept)
    images = torch.randn(4, 2, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(sparse(model, "groups")(images), model(images), rtol=0, atol=1e-5)
        smaller = remove(model, kept, (2, 8, 8))
        torch.testing.assert_close(smaller(images), model(images), rtol=0, atol=1e-5)
    if form == "regroup":
        parts = [module.product for module in sparse(model, "groups").modules() if isinstance(module, SparseConv2d)]
        assert all(isinstance(part, GroupedProduct) for part in parts) and len(parts[1].parts) <= 4
    else:
        assert smaller.config.widths[1] < 24 and smaller.config.widths[2] < 32


def test_fewer_channels():
    mask, score = scattered((20, 8, 3, 3), 1.0)
    first = fewer_channels(mask, score, 0.2)
    second = fewer_channels(first, score, 0.5)
    strength = score.flatten(1).sum(1)
    for found, left in ((first, 16), (second, 8)):
        alive = found.flatten(1).any(1)
        assert int(alive.sum()) == left and int(found.sum()) == left * 72
        assert strength[alive].min() >= strength[~alive].max()


def test_closing_takes_the_readers_of_empty_channels_but_no_cells_of_live_kernels():
    """On a 1×1 image only the centre of a kernel is ever used; a kernel is kept or goes as a whole."""
    model = VGG(VGGConfig(widths=(4, 4), stages=(1, 1), channels=1, side=1))
    mask = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable(model).items()}
    mask["features.0"][2:] = False
    found = closed(model, mask, (1, 1, 1))
    assert found["features.0"][:2].all() and not found["features.0"][2:].any()
    assert found["features.3"][:, :2].all() and not found["features.3"][:, 2:].any() and found["head"].all()


def test_wrong_requests_are_refused():
    mask, score = scattered((4, 4), 0.5)
    with pytest.raises(ValueError, match="form is 'fill'"):
        coarsened("fill", {"a": mask, "b": mask}, {"a": score, "b": score})
    with pytest.raises(ValueError, match="more is 2"):
        refill(mask, score, 2)
    with pytest.raises(ValueError, match="same shape"):
        refill(mask, score[:2])
    with pytest.raises(ValueError, match="same shape"):
        regroup(mask, score[:2])
    with pytest.raises(ValueError, match="rows is 0"):
        regroup(mask, score, rows=0)
