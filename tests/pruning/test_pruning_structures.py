"""Every structure: exact budgets, the right pieces, ties, tiny layers, 99.9 %; over random shapes."""

import pytest
import torch

from lib.pruning.pieces import ANY, EACH, Block, Grid, labels, top
from lib.pruning.structure import NAMED, NM, WORKERS, Balanced, Pattern, imbalance, structure

NAMES = [*NAMED, "1:4", "3:4", "4:8", "block 3x5", "block 1x4"]
SHAPES = [(1, 1), (10, 3), (5, 7), (1, 1, 3, 3), (8, 3, 3, 3), (17, 5, 3, 3), (16, 8, 3, 3), (33, 70, 1, 1), (4, 6, 5, 5)]


def scores(shape, seed=0, ties=False):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return (values * 3).round() if ties else values


def pieces(name, shape):
    """Which piece each weight belongs to, spelled out index by index; None where pieces are single weights."""
    index = [range(n) for n in (*shape, *(1,) * (4 - len(shape)))]
    axes = {"filter": (0,), "channel": (1,), "kernel": (0, 1), "column": (1, 2, 3)}.get(name)
    found = {}
    for o in index[0]:
        for i in index[1]:
            for r in index[2]:
                for c in index[3]:
                    place = (o, i, r, c)
                    if axes:
                        key = tuple(place[axis] for axis in axes)
                    elif name.startswith("block"):
                        rows, columns = (16, 16) if name == "block" else map(int, name[6:].split("x"))
                        key = (o // rows, ((i * len(index[2]) + r) * len(index[3]) + c) // columns)
                    else:
                        return None
                    found.setdefault(key, []).append(((o * len(index[1]) + i) * len(index[2]) + r) * len(index[3]) + c)
    return list(found.values())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_budgets_are_exact(name, shape, ties):
    kind, score = structure(name), scores(shape, ties=ties)
    capacity = kind.capacity(shape)
    for keep in {0, 1, capacity // 1000, capacity // 10, capacity // 2, max(0, capacity - 1), capacity}:
        mask = kind.mask(score, keep)
        assert mask.shape == shape and mask.dtype == torch.bool
        kept = int(mask.sum())
        assert kept <= keep and keep - kept < max(kind.unit(shape), 1)
        assert kept == keep or kind.unit(shape) > 1
        assert torch.equal(mask, kind.mask(score.clone(), keep))
    assert int(kind.mask(score).sum()) == capacity == int(kind.sizes(shape).sum())
    assert len(kind.groups(score)) == len(kind.sizes(shape))
    few = min(0.001, capacity / score.numel())
    assert int(kind.mask(score, few).sum()) <= round(few * score.numel())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["filter", "channel", "kernel", "column", "block", "block 3x5", "block 1x4"])
def test_pieces_live_or_die_together_and_the_best_live(name, shape):
    kind, score = structure(name), scores(shape, 1)
    parts, flat = pieces(name, shape), score.flatten()
    assert sorted(len(part) for part in parts) == sorted(kind.sizes(shape).tolist())
    assert sorted(kind.groups(score).tolist()) == pytest.approx(sorted(float(flat[part].mean()) for part in parts), abs=1e-5)
    mask = kind.mask(score, 0.4).flatten()
    alive = [part for part in parts if mask[part].all()]
    dead = [part for part in parts if not mask[part].any()]
    assert len(alive) + len(dead) == len(parts)
    if alive and dead:
        assert min(flat[part].mean() for part in alive) >= max(flat[part].mean() for part in dead) - 1e-6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n, m", [(1, 4), (2, 4), (3, 4), (4, 8), (1, 2)])
def test_n_of_m_inputs(n, m, shape):
    score = scores(shape, 2)
    mask = NM(n, m).mask(score)
    for start in range(0, shape[1], m):
        group, kept = score[:, start : start + m], mask[:, start : start + m]
        wanted = min(n, group.shape[1])
        assert (kept.sum(1) == wanted).all()
        best = group.topk(wanted, 1).values
        torch.testing.assert_close((group * kept).sum(1), best.sum(1))
    thin = NM(n, m).mask(score, NM(n, m).capacity(shape) // 2)
    assert (thin <= mask).all()


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (17, 5, 3, 3), (16, 8, 3, 3)], ids=str)
def test_patterns(shape):
    score = scores(shape, 3)
    mask = Pattern().mask(score)
    kernels = mask.flatten(0, 1).flatten(1)
    assert (kernels.sum(1) == 4).all() and kernels[:, 4].all()
    assert len(kernels.unique(dim=0)) <= 8
    kept = (score * mask).sum((2, 3)).flatten()
    library = Pattern().natural(score)
    best = (score.flatten(0, 1).flatten(1)[:, None] * library).sum(2).max(1).values
    torch.testing.assert_close(kept, best)
    few = Pattern().mask(score, Pattern().capacity(shape) // 4)  # connectivity: whole kernels go, the rest keep their patterns
    alive = few.flatten(2).any(2)
    assert torch.equal(few, mask & alive[..., None, None])
    if alive.any() and not alive.all():
        assert kept.view(shape[:2])[alive].min() >= kept.view(shape[:2])[~alive].max()


def test_the_library_holds_the_most_frequent_patterns():
    """Twenty kernels want one pattern, fifteen another, one a third, and there is room for two."""
    wanted = [({0, 1, 4, 5}, 20), ({4, 6, 7, 8}, 15), ({2, 3, 4, 5}, 1)]
    cells = torch.cat([torch.tensor([[1.0 if c in want else 0.01 * c for c in range(9)]]).repeat(count, 1) for want, count in wanted])
    library = Pattern(library=2).natural(cells.view(36, 1, 3, 3))
    assert [set(row.nonzero().flatten().tolist()) for row in library] == [want for want, _ in wanted[:2]]


@pytest.mark.parametrize("shape", SHAPES + [(64, 3, 3, 3), (64, 64, 3, 3)], ids=str)
def test_balanced_masks_load_all_workers_alike(shape):
    score = scores(shape, 4) * torch.linspace(0.1, 10, shape[0]).view(-1, *[1] * (len(shape) - 1))
    tile = labels(WORKERS, shape).flatten()
    counts = torch.bincount(tile)
    for keep in (0.3, 0.05):
        mask = Balanced().mask(score, keep).flatten()
        load = torch.bincount(tile[mask], minlength=len(counts))
        full = load == counts
        assert full.all() or load[~full].max() - load.min().clamp(max=int(load[~full].min())) <= 1
        for t in range(len(counts)):
            own = score.flatten()[tile == t]
            kept = mask[tile == t]
            if 0 < kept.sum() < len(own):
                assert own[kept].min() >= own[~kept].max()
    if shape == (64, 64, 3, 3):
        free = structure("unstructured").mask(score, 0.1)
        balanced = Balanced().mask(score, 64 * 57)
        assert imbalance(balanced) == 1 and imbalance(free) > 2
        assert len(counts) == 64
    if shape == (64, 3, 3, 3):
        assert len(counts) == 48


def test_imbalance_is_the_busiest_over_the_mean():
    mask = torch.zeros(16, 4, dtype=torch.bool)
    mask[0, 0] = mask[1, 1] = True
    assert imbalance(mask) == 32
    assert imbalance(mask, Grid(1, 1, ANY, ANY)) == 1
    assert imbalance(torch.ones(64, 64, 3, 3)) == 1
    with pytest.raises(ValueError, match="keeps nothing"):
        imbalance(torch.zeros(4, 4))


@pytest.mark.parametrize("dim, n", [(64, 16), (40, 16), (7, 16), (17, 4), (512, 4)])
def test_a_grid_cuts_an_axis_evenly(dim, n):
    parts = Grid(n, EACH, EACH, EACH).cuts((dim, 2))[0]
    assert len(parts) == min(n, dim) and parts.sum() == dim and parts.max() - parts.min() <= 1


@pytest.mark.parametrize("case", range(10))
def test_the_first_of_equal_values_wins(case):
    values = (torch.rand(50, generator=torch.Generator().manual_seed(case)) * 4).floor()
    for keep in range(51):
        expected = sorted(range(50), key=lambda i: (-values[i], i))[:keep]
        assert sorted(expected) == top(values, keep).nonzero().flatten().tolist()
    assert top(torch.full((4,), -torch.inf), 2).tolist() == [True, True, False, False]


def test_wrong_names_scores_and_budgets_are_refused():
    for name, message in (("kernels", "Did you mean 'kernel'"), ("5:4", "5:4 makes no sense"), ("block 4", "block RxC")):
        with pytest.raises(ValueError, match=message):
            structure(name)
    assert structure("block 4x16") == Block(4, 16) and structure("3:8") == NM(3, 8)
    score = torch.rand(4, 8)
    for keep in (-1, 33, 1.5, -0.5):
        with pytest.raises(ValueError, match="keep is"):
            structure("unstructured").mask(score, keep)
    with pytest.raises(ValueError, match=r"keeps 0 to 16 of 32"):
        structure("2:4").mask(score, 17)
    with pytest.raises(ValueError, match="NaN"):
        structure("kernel").mask(score.index_fill(0, torch.tensor(1), torch.nan), 0.5)
    with pytest.raises(ValueError, match=r"\(3,\): it must be"):
        structure("filter").mask(torch.rand(3), 1)
