"""Augmentation: the same pixels as torchvision where it defines them, the right distributions elsewhere."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from lib.data import augment, augment_colour, augment_randaugment
from lib.data.augment import Augmentation, distort, mask_and_mix

SHAPES = [(1, 8, 8), (3, 32, 32)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["digits", "cifar"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    """Smooth pictures with noise, so that contrast and equalisation have something to do."""
    rough = torch.rand(n, shape[0], 4, 4, generator=seeded(seed))
    smooth = F.interpolate(rough, shape[1:], mode="bilinear")
    noise = 0.1 * torch.rand(n, *shape, generator=seeded(seed + 1))
    return ((0.1 + 0.7 * smooth + noise) * 255).to(torch.uint8)


def furthest(a: torch.Tensor, b: torch.Tensor) -> int:
    return (a.int() - b.int()).abs().max().item()


# ---- crop and flip ------------------------------------------------------------------------------------------


@shapes
@pytest.mark.parametrize("mode", augment.PADDINGS)
def test_crop_is_a_window_of_the_padded_image_at_every_offset(shape, mode):
    pad, n = 2, 600
    image = pictures(1, shape)[0]
    cropped = augment.random_crop(image.expand(n, *shape), pad, seeded(), mode)
    padded = F.pad(image[None].float(), [pad] * 4, "reflect" if mode == "reflect" else "constant")[0].to(torch.uint8)
    height, width = shape[1:]
    windows = torch.stack([padded[:, y : y + height, x : x + width] for y in range(5) for x in range(5)])
    matches = (cropped[:, None] == windows[None]).flatten(2).all(2)
    assert (matches.sum(1) == 1).all()
    counts = matches.sum(0)
    assert counts.min() > 0 and ((counts - n / 25) ** 2 / (n / 25)).sum() < 52  # chi square, 24 dof, p = 0.001


@shapes
def test_flip_mirrors_about_half(shape):
    images = pictures(2000, shape)
    flipped = augment.random_flip(images, seeded())
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (mirrored | (flipped == images).flatten(1).all(1)).all()
    assert abs(mirrored.float().mean() - 0.5) < 0.04


# ---- colour -------------------------------------------------------------------------------------------------


@shapes
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "sharpness"])
def test_colour_as_torchvision_but_with_a_factor_per_image(shape, name):
    images = pictures(8, shape)
    factors = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0, 1.3, 1.9, 3.0])
    ours = getattr(augment_colour, f"adjust_{name}")(images, factors)
    reference = getattr(functional, f"adjust_{name}")
    theirs = torch.stack([reference(image, factor) for image, factor in zip(images, factors.tolist())])
    assert ours.dtype == torch.uint8 and furthest(ours, theirs) <= 1  # float32 sums in another order, then cut
    assert (ours != theirs).float().mean() < 0.01
    assert torch.equal(ours[4], images[4])


@shapes
def test_colour_jitter_draws_factors_over_the_whole_range(shape):
    grey = torch.full((4000, *shape), 100, dtype=torch.uint8)  # flat and grey: only brightness shows
    level = augment.colour_jitter(grey, 0.4, seeded())[:, 0, 0, 0].float()
    assert 57 < level.min() < 62 and 138 < level.max() < 142  # grey is cut to whole levels up to three times
    assert abs(level.mean() - 100) < 2.5 and abs(level.std() - 80 / 12**0.5) < 1
    strong = augment.colour_jitter(grey, 1.5, seeded())
    assert strong.min() == 0 and strong.max() > 240


# ---- RandAugment --------------------------------------------------------------------------------------------


@shapes
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_randaugment_has_torchvisions_space(shape, magnitude):
    """Whatever torchvision makes of a picture is one of our 14 operations, and each of ours occurs."""
    image = pictures(1, shape)
    ours = torch.cat(
        [
            augment_randaugment.apply_operation(name, image, magnitude, torch.tensor([sign]))
            for name in augment_randaugment.OPERATIONS
            for sign in (-1, 1)
        ]
    )
    reference = v2.RandAugment(num_ops=1, magnitude=magnitude)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.cat([reference(image) for _ in range(500)])
    close = (ours[:, None].int() - theirs[None].int()).abs().flatten(2).amax(2) <= 1
    assert close.any(0).all() and close.any(1).all()


@shapes
@pytest.mark.parametrize("name", augment_randaugment.OPERATIONS)
def test_each_operation_treats_each_image_on_its_own(shape, name):
    images, sign = pictures(6, shape), torch.tensor([1, -1, -1, 1, 1, -1])
    together = augment_randaugment.apply_operation(name, images, 17, sign)
    alone = torch.cat([augment_randaugment.apply_operation(name, images[i : i + 1], 17, sign[i : i + 1]) for i in range(6)])
    assert together.dtype == torch.uint8 and together.shape == images.shape
    assert furthest(together, alone) <= 1
    unchanged = name == "identity" or (name in ("colour", "equalize") and shape == (1, 8, 8))
    assert torch.equal(together, images) == unchanged


def test_geometry_is_torchvisions_exactly():
    images = pictures(4, (3, 32, 32))
    warp = augment_randaugment.apply_operation
    plus, minus = torch.ones(4, dtype=torch.long), -torch.ones(4, dtype=torch.long)
    assert torch.equal(warp("rotate", images, 20, plus), functional.rotate(images, 20.0))
    assert torch.equal(warp("rotate", images, 20, minus), functional.rotate(images, -20.0))
    shift = int(150 / 331 * 32 * 20 / 30)
    moved = warp("translate_x", images, 20, plus)
    assert torch.equal(moved[..., shift:], images[..., :-shift]) and moved[..., :shift].eq(0).all()
    moved = warp("translate_y", images, 20, minus)
    assert torch.equal(moved[..., :-shift, :], images[..., shift:, :]) and moved[..., -shift:, :].eq(0).all()


def test_randaugment_draws_operations_evenly_and_per_image():
    image, n = pictures(1, (3, 32, 32)), 4000
    got = augment_randaugment.randaugment(image.expand(n, -1, -1, -1), 1, 20, seeded())
    made = {
        name: torch.cat([augment_randaugment.apply_operation(name, image, 20, torch.tensor([sign])) for sign in (-1, 1)])
        for name in augment_randaugment.OPERATIONS
    }
    for name, (minus, plus) in made.items():
        hits = [(got == each).flatten(1).all(1).sum().item() for each in (minus, plus)]
        if torch.equal(minus, plus):
            assert abs(hits[0] - n / 14) < 70, name
        else:
            assert all(abs(hit - n / 28) < 55 for hit in hits), name


@shapes
def test_randaugment_keeps_the_order_of_the_batch(shape):
    images = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *shape).contiguous()
    got = augment_randaugment.randaugment(images, 3, 0, seeded())  # magnitude 0 moves nothing
    middle = got[:, 0, shape[1] // 2, shape[2] // 2]
    assert torch.equal(middle, images[:, 0, 0, 0])


# ---- masks --------------------------------------------------------------------------------------------------


@shapes
@pytest.mark.parametrize("size", [3, 4])
def test_cutout_masks_exactly_the_square_inside_the_image(shape, size):
    n, (height, width) = 3000, shape[1:]
    masked = augment.cutout(torch.ones(n, *shape), size, seeded()) == 0
    assert (masked == masked[:, :1]).all()  # all channels alike
    rows, columns = masked[:, 0].any(2), masked[:, 0].any(1)
    area = masked[:, 0].flatten(1).sum(1)
    assert torch.equal(area, rows.sum(1) * columns.sum(1))  # a rectangle
    clipped = {min(c - size // 2 + size, height) - max(c - size // 2, 0) for c in range(height)}
    assert set(rows.sum(1).tolist()) == set(columns.sum(1).tolist()) == clipped
    inner = (height - size + 1) * (width - size + 1) / (height * width)
    assert abs((area == size * size).float().mean() - inner) < 0.04
    assert masked[:, 0].any(0).all()  # reaches every pixel


@shapes
def test_random_erasing_areas_ratios_and_probability(shape):
    n, pixels = 3000, shape[1] * shape[2]
    masked = (augment.random_erasing(torch.ones(n, *shape), 0.6, seeded()) == 0)[:, 0]
    area = masked.flatten(1).sum(1)
    assert abs((area > 0).float().mean() - 0.6) < 0.04
    assert torch.equal(area, masked.any(2).sum(1) * masked.any(1).sum(1))
    share = area[area > 0] / pixels
    slack = (shape[1] + 1) / pixels  # sides are rounded to whole pixels
    assert share.min() >= 0.02 - slack and share.max() <= 0.33 + slack
    assert abs(share.mean() - 0.175) < 0.02
    assert masked.any(0).all()
    assert (augment.random_erasing(torch.ones(50, *shape), 0.0, seeded()) == 1).all()


# ---- mixing -------------------------------------------------------------------------------------------------


def solve_mix(targets: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """λ of each image, from its own class's weight; images mixed within one class give 1."""
    return targets.gather(1, labels[:, None])[:, 0]


@shapes
def test_mixup_targets_match_the_weights_of_the_pixels(shape):
    n = 300
    labels = torch.arange(n) % 10
    inputs = labels.float()[:, None, None, None].expand(n, *shape)  # the pixels say the class
    mixed, targets = augment.mixup(inputs, F.one_hot(labels, 10).float(), 0.8, seeded())
    torch.testing.assert_close(targets.sum(1), torch.ones(n))
    torch.testing.assert_close(mixed[:, 0, 0, 0], targets @ torch.arange(10.0))
    assert (mixed == mixed[:, :1, :1, :1]).all() and ((targets > 0).sum(1) <= 2).all()
    weight = augment._beta(0.8, 20_000, seeded())
    assert abs(weight.mean() - 0.5) < 0.01 and abs(weight.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.005


@shapes
def test_cutmix_targets_match_the_pixels_pasted(shape):
    n = 300
    labels = torch.arange(n)  # each image its own class, and its class as its pixels
    inputs = labels.float()[:, None, None, None].expand(n, *shape)
    mixed, targets = augment.cutmix(inputs, F.one_hot(labels, n).float(), 1.0, seeded())
    torch.testing.assert_close(targets.sum(1), torch.ones(n))
    own = mixed[:, 0] == inputs[:, 0]
    torch.testing.assert_close(solve_mix(targets, labels), own.flatten(1).float().mean(1))
    pasted = ~own
    assert torch.equal(pasted.flatten(1).sum(1), pasted.any(2).sum(1) * pasted.any(1).sum(1))  # a rectangle
    partners = torch.where(pasted, mixed[:, 0], -1).flatten(1).amax(1)
    has = partners >= 0
    theirs = targets[has].gather(1, partners[has, None].long())[:, 0]
    torch.testing.assert_close(theirs, 1 - solve_mix(targets, labels)[has])
    assert pasted.any(0).all() and 0.1 < pasted.float().mean() < 0.5


def test_with_both_each_batch_uses_one():
    inputs = torch.arange(64.0)[:, None, None, None].expand(64, 1, 8, 8)
    labels = torch.arange(64) % 10
    both = Augmentation(mixup=1.0, cutmix=1.0)
    flat = [bool((m == m[:, :, :1, :1]).all()) for seed in range(60) for m in [mask_and_mix(inputs, labels, 10, both, seeded(seed))[0]]]
    assert 15 < sum(flat) < 45
    only = mask_and_mix(inputs, labels, 10, Augmentation(cutmix=1.0), seeded())
    assert only[1].shape == (64, 10) and only[1].dtype == torch.float32


# ---- the whole ----------------------------------------------------------------------------------------------


@shapes
def test_everything_together(shape):
    whole = Augmentation(
        crop=2,
        flip=True,
        cutout=3,
        colour_jitter=0.4,
        randaugment=(2, 9),
        random_erasing=0.25,
        mixup=0.8,
        cutmix=1.0,
        crop_padding="reflect",
    )
    images, labels = pictures(50, shape), torch.arange(50) % 10
    before = images.clone()
    runs = []
    for seed in (1, 1, 2):
        generator = seeded(seed)
        pixels = distort(images, whole, generator)
        assert pixels.dtype == torch.uint8 and pixels.shape == images.shape
        inputs, targets = mask_and_mix(pixels / 255, labels, 10, whole, generator)
        assert inputs.isfinite().all() and targets.shape == (50, 10)
        runs.append((pixels, inputs, targets))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1]))
    assert not torch.equal(runs[0][1], runs[2][1])
    assert torch.equal(images, before)


def test_no_augmentation_changes_nothing():
    images, labels = pictures(5, (3, 32, 32)), torch.arange(5)
    assert distort(images, Augmentation(), seeded()) is images
    inputs, targets = mask_and_mix(images.float(), labels, 10, Augmentation(), seeded())
    assert torch.equal(inputs, images.float()) and targets is labels


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": -1},
        {"cutout": -2},
        {"colour_jitter": -0.1},
        {"mixup": -1.0},
        {"cutmix": -1.0},
        {"random_erasing": 1.5},
        {"randaugment": (2, 31)},
        {"randaugment": (-1, 3)},
        {"randaugment": (2,)},
        {"crop_padding": "wrap"},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)


def test_settings_survive_json():
    assert Augmentation(randaugment=[2, 9]) == Augmentation(randaugment=(2, 9))
    with pytest.raises(ValueError, match="cutout=9 is larger"):
        Augmentation(cutout=9).check((8, 8))


def test_global_random_state_is_left_alone():
    torch.manual_seed(7)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    whole = Augmentation(crop=2, flip=True, cutout=3, colour_jitter=0.4, randaugment=(2, 9), random_erasing=0.5, mixup=1.0)
    generator = seeded()
    mask_and_mix(distort(pictures(9, (1, 8, 8)), whole, generator) / 255, torch.arange(9), 10, whole, generator)
    assert torch.equal(torch.get_rng_state(), states[0]) and np.array_equal(np.random.get_state()[1], states[1])
