"""Codebooks: k-means, look-up and gradients, sections, masks; and training with them."""

import copy

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn

from lib.models.mlp import MLP, MLPConfig
from lib.models.vgg import VGG, VGGConfig
from lib.pruning.mask import attach, latent, layers, masks_of
from lib.quantization.codebook import Codebook, books, centres, nearest, quantize, reassign, refit, shadows, share_norms
from lib.quantization.fold import fold
from lib.quantization.packed import write
from lib.quantization.values import section_of

SMALL = VGGConfig((8, 16), (1, 1), channels=1, side=8)


def random_masks(model, density=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(layer.weight.shape, generator=generator) < density for name, layer in layers(model).items()}


def one_section(values, count):
    values = torch.as_tensor(np.asarray(values))
    return centres(values, torch.zeros(len(values), dtype=torch.int64), 1, count)[0].sort().values.numpy()


def test_centres_are_those_of_k_means():
    rng = np.random.default_rng(0)
    groups = np.concatenate([rng.normal(centre, 0.01, 50) for centre in (-1, -0.4, 0.5, 2)])
    np.testing.assert_allclose(one_section(groups, 4), [-1, -0.4, 0.5, 2], atol=0.01)
    wide = rng.normal(size=4000)
    gap = wide[np.abs(wide) > 1]  # what magnitude pruning leaves: most evenly spread centres start in the gap
    for values in (wide, gap):
        reference = KMeans(8, init=np.linspace(values.min(), values.max(), 8)[:, None], n_init=1, max_iter=40).fit(values[:, None])
        own = np.square(values[:, None] - one_section(values, 8)).min(1).sum()
        assert own <= 1.03 * reference.inertia_


def test_few_values_are_their_own_centres():
    assert set(one_section([3.0, 1.0], 4)) >= {1, 3} and set(one_section([0.25] * 5, 2)) == {0.25}
    assert not one_section(np.zeros(0), 2).any()
    values = torch.tensor([1.0, 2, 3, 4, 10, 20])
    section = torch.tensor([0, 0, 0, 0, 2, 2])
    found = centres(values, section, 3, 4)
    assert found[0].sort().values.tolist() == [1, 2, 3, 4] and not found[1].any() and set(found[2].tolist()) >= {10.0, 20.0}


def test_sections_do_not_see_each_other():
    generator = torch.Generator().manual_seed(0)
    values, section = torch.randn(500, generator=generator), torch.randint(5, (500,), generator=generator)
    together = centres(values, section, 5, 4)
    for number in range(5):
        own = values[section == number]
        alone = centres(own, torch.zeros(len(own), dtype=torch.int64), 1, 4)
        torch.testing.assert_close(together[number], alone[0])
    entries = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    expected = (values[:, None] - entries[section]).abs().argmin(1)
    assert torch.equal(nearest(values, section, entries), expected)


@pytest.mark.parametrize("shape", [(32, 12, 3, 3), (20, 7, 3, 3), (10, 6), (1, 1)])
@pytest.mark.parametrize("grid", [(1, 1), (16, 4)])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_every_section_has_few_values_and_each_weight_the_nearest(shape, grid, bits):
    torch.manual_seed(0)
    weight = torch.randn(shape) * (torch.rand(shape) < 0.5)
    book = Codebook(weight, bits, grid)
    quantized = book(weight).detach()
    assert torch.equal(quantized == 0, weight == 0)
    section = torch.from_numpy(section_of(shape, grid).copy())
    assert torch.equal(book.section(weight.ndim).expand(shape), section)  # the same sections as the file's
    for number in section.unique():
        own = quantized[(section == number) & (weight != 0)]
        assert len(own.unique()) <= 2**bits
        entries = book.entries.detach().view(-1, 2**bits)[number]
        nearest = (weight[(section == number) & (weight != 0)][:, None] - entries).abs().min(1).values
        torch.testing.assert_close((own - weight[(section == number) & (weight != 0)]).abs(), nearest)


@pytest.mark.parametrize("shape", [(8, 6, 3, 3), (9, 6)])
@pytest.mark.parametrize("grid", [(1, 1), (4, 2)])
def test_an_entry_gets_the_sum_of_its_weights_gradients(shape, grid):
    torch.manual_seed(1)
    weight = (torch.randn(shape, dtype=torch.float64) * (torch.rand(shape) < 0.6)).requires_grad_()
    book = Codebook(weight, 2, grid).double()
    upstream = torch.randn(shape, dtype=torch.float64)
    book(weight).backward(upstream)
    assert torch.equal(weight.grad, upstream)
    place = (book.section(weight.ndim).expand(shape) * 4 + book.code.long())[weight != 0]
    expected = torch.zeros_like(book.entries).index_add_(0, place, upstream[weight != 0])
    torch.testing.assert_close(book.entries.grad, expected)


def test_codebooks_follow_masks():
    torch.manual_seed(0)
    model = VGG(SMALL)
    masks = random_masks(model)
    quantize(attach(model, masks), 2, ignored=("head",))
    assert list(books(model)) == ["features.0", "features.4"] and list(shadows(model)) == list(books(model))
    assert all(torch.equal(model.get_submodule(name).weight != 0, masks[name]) for name in books(model))
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    for name, weight in latent(model).items():
        assert torch.equal(weight.grad[~masks[name]], torch.zeros_like(weight.grad[~masks[name]]))
        assert name == "head" or books(model)[name].entries.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="already"):
        quantize(model, 2)


def test_reassigning_and_refitting():
    torch.manual_seed(0)
    model = quantize(attach(MLP(MLPConfig(20, (15,))), random_masks(MLP(MLPConfig(20, (15,))))), 3)
    assert reassign(model) == 0
    with torch.no_grad():
        latent(model)["head"].neg_()
    assert reassign(model) > 0 and reassign(model) == 0
    head = books(model)["head"]
    before = (shadows(model)["head"] - model.head.weight).square().sum()
    refit(model)
    assert (shadows(model)["head"] - model.head.weight).square().sum() < before
    head.entries.data.add_(1)
    refit(model)
    assert head.entries.abs().max() < 1


def test_without_masks_every_weight_has_a_code():
    model = MLP(MLPConfig(20, (15,)))
    quantize(model, 4, (16, 4))
    assert model.head.weight.ne(0).all() and len(books(model)) == 2


def test_state_and_copies_keep_codes(tmp_path):
    torch.manual_seed(0)
    model = quantize(attach(VGG(SMALL), random_masks(VGG(SMALL))), 2, (16, 4))
    with torch.no_grad():
        books(model)["head"].entries.mul_(1.5)
    other = quantize(attach(VGG(SMALL)), 2, (16, 4))
    other.load_state_dict(model.state_dict())
    images = torch.randn(3, 1, 8, 8)
    for one in (other, copy.deepcopy(model), fold(model, (1, 8, 8))):
        torch.testing.assert_close(one.eval()(images), model.eval()(images), atol=1e-5, rtol=1e-5)
    assert masks_of(other)["head"].equal(masks_of(model)["head"])


def test_a_training_that_diverges_does_not_end_in_an_index_error():
    model = quantize(MLP(MLPConfig(20, (15,))), 2, (16, 4))
    model.head.parametrizations.weight.original.data[0, 0] = torch.nan
    reassign(model)
    refit(model)
    assert books(model)["head"].code.max() <= 3


def test_norms_can_share_values_too(tmp_path):
    torch.manual_seed(0)
    model = VGG(VGGConfig((64, 64), (1, 1), channels=1, side=8))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    folded = fold(attach(model, random_masks(model, 0.02)), (1, 8, 8))
    shared = share_norms(folded, 3)
    for name, vector in shared.named_parameters():
        if vector.ndim == 1:
            own = dict(folded.named_parameters())[name]
            assert len(vector[vector != 0].unique()) <= 8 and torch.equal(vector != 0, own != 0)
            assert (vector - own).norm() <= 0.3 * own.norm()
    assert write(shared, tmp_path / "shared").norms < 0.7 * write(folded, tmp_path / "own").norms
    with pytest.raises(ValueError, match="bits"):
        share_norms(folded, 0)


@pytest.mark.parametrize("fields, message", [((0,), "bits"), ((9,), "bits"), ((4, (0, 4)), "grid")])
def test_what_makes_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        quantize(nn.Linear(3, 3), *fields)
