"""Image augmentation, a whole batch at a time on the images' device.

:class:`Augmentation` says what to do; :func:`distort` applies the part that works on uint8 pixels,
:func:`mask_and_mix` the part that works on normalised inputs.  Every function takes an explicit
``torch.Generator`` and draws per image; there is no loop over images.  Colour is in
:mod:`lib.data.augment_colour`, RandAugment in :mod:`lib.data.augment_randaugment`.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.augment_colour import colour_jitter
from lib.data.augment_randaugment import MAX_MAGNITUDE, randaugment

PADDINGS = ("zeros", "reflect")


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images, in this order.  The defaults do nothing.

    ``crop``: shift by up to this many pixels each way (pad and crop back); ``crop_padding``: ``"zeros"``
    (black, as in the ResNet recipe) or ``"reflect"``.  ``flip``: mirror half of the images, drawn anew each time;
    ``alternate``: mirror a random half in the first epoch and from then on each image every second time, so that two
    epochs show both sides of all (arXiv 2404.00498, section 3.6); done by :class:`lib.data.images.ImageBatches`.
    ``randaugment``: (n, magnitude 0..30), n operations each.  ``colour_jitter``: strength s, factors
    uniform in [1 - s, 1 + s].  ``cutout``: side of the masked square in pixels.  ``random_erasing``:
    probability.  ``mixup``, ``cutmix``: the α of Beta(α, α); with both, each batch uses one of them.

    Raises ValueError for values out of range.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    colour_jitter: float = 0.0
    randaugment: tuple[int, int] = (0, 0)
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    crop_padding: str = "zeros"
    alternate: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "randaugment", tuple(self.randaugment))  # a list when read from JSON
        for name in ("crop", "cutout", "colour_jitter", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.random_erasing <= 1:
            raise ValueError(f"random_erasing is a probability, got {self.random_erasing}")
        if len(self.randaugment) != 2 or self.randaugment[0] < 0 or not 0 <= self.randaugment[1] <= MAX_MAGNITUDE:
            raise ValueError(f"randaugment is (n >= 0, magnitude 0 to {MAX_MAGNITUDE}), got {self.randaugment}")
        if self.flip and self.alternate:
            raise ValueError("flip draws anew what alternate has decided: use one of them")
        if self.crop_padding not in PADDINGS:
            raise ValueError(f"crop_padding is one of {', '.join(PADDINGS)}, got {self.crop_padding!r}")

    @property
    def mixes(self) -> bool:
        """Whether targets come out soft."""
        return self.mixup > 0 or self.cutmix > 0

    def check(self, size: tuple[int, int]) -> None:
        """Raise ValueError when this cannot be applied to images of ``size`` (height, width)."""
        if self.crop >= min(size):
            raise ValueError(f"crop={self.crop} is too much for images of {size[0]}x{size[1]} pixels")
        if self.cutout > min(size):
            raise ValueError(f"cutout={self.cutout} is larger than images of {size[0]}x{size[1]} pixels")


def distort(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop, flip, RandAugment, colour jitter: uint8 ``[N, C, H, W]`` → the same."""
    if augmentation.crop:
        images = random_crop(images, augmentation.crop, generator, augmentation.crop_padding)
    if augmentation.flip:
        images = random_flip(images, generator)
    if augmentation.randaugment[0]:
        images = randaugment(images, *augmentation.randaugment, generator)
    if augmentation.colour_jitter:
        images = colour_jitter(images, augmentation.colour_jitter, generator)
    return images


def mask_and_mix(
    inputs: Tensor, labels: Tensor, classes: int, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cutout, random erasing, then mixup or cutmix, on normalised inputs ``[N, C, H, W]``.

    Returns inputs and targets: the int64 labels ``[N]``, or float32 ``[N, classes]`` when mixing.
    """
    if augmentation.cutout:
        inputs = cutout(inputs, augmentation.cutout, generator)
    if augmentation.random_erasing:
        inputs = random_erasing(inputs, augmentation.random_erasing, generator)
    if not augmentation.mixes:
        return inputs, labels
    targets = F.one_hot(labels, classes).float()
    both = augmentation.mixup > 0 and augmentation.cutmix > 0
    if augmentation.mixup > 0 and not (both and torch.rand((), generator=generator) < 0.5):
        return mixup(inputs, targets, augmentation.mixup, generator)
    return cutmix(inputs, targets, augmentation.cutmix, generator)


def random_crop(images: Tensor, padding: int, generator: torch.Generator, mode: str = "zeros") -> Tensor:
    """Pad by ``padding`` pixels on each side and crop back at a uniform offset, drawn per image.

    He et al. 2015 (arXiv:1512.03385, section 4.2) with ``mode="zeros"``; ``"reflect"`` mirrors at the
    border.  One gather does it: row y of the result is row y + shift of the padded image.
    """
    n, _, height, width = images.shape
    shift_2N = torch.randint(-padding, padding + 1, (2, n, 1), generator=generator).to(images.device)
    y_NH = shift_2N[0] + torch.arange(height, device=images.device)
    x_NW = shift_2N[1] + torch.arange(width, device=images.device)
    if mode == "reflect":
        y_NH, x_NW = _mirror(y_NH, height), _mirror(x_NW, width)
    source = y_NH.clamp(0, height - 1)[:, :, None] * width + x_NW.clamp(0, width - 1)[:, None, :]
    cropped = images.flatten(2).gather(2, source.view(n, 1, -1).expand(-1, images.shape[1], -1)).view_as(images)
    if mode == "zeros":
        inside = _within(y_NH, height)[:, :, None] & _within(x_NW, width)[:, None, :]
        cropped = cropped.mul_(inside[:, None])
    return cropped


def _mirror(index: Tensor, size: int) -> Tensor:
    """Reflect indices in [-(size-1), 2(size-1)] into [0, size-1], without repeating the border."""
    return (size - 1) - (index.abs() - (size - 1)).abs()


def _within(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(-1), images)


def cutout(inputs: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Mask a square of ``size`` pixels with zero, the mean of normalised inputs.

    DeVries and Taylor 2017 (arXiv:1708.04552, section 3.2): the centre is uniform over the image and the
    square may reach beyond the border.  Their released code masks 2·⌊size/2⌋ pixels; here odd sizes are exact.
    """
    n, _, height, width = inputs.shape
    top = torch.randint(height, (n,), generator=generator) - size // 2
    left = torch.randint(width, (n,), generator=generator) - size // 2
    return inputs.masked_fill(_box(top, left, top + size, left + size, inputs), 0)


def random_erasing(inputs: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Mask a random rectangle with zero, with the given probability per image.

    Zhong et al. 2017 (arXiv:1708.04896, algorithm 1) with area 2 % to 33 % of the image and log-uniform
    aspect ratio 0.3 to 3.3; of ten proposals the first that fits, as in torchvision's ``RandomErasing``.
    """
    n, _, height, width = inputs.shape
    tries = 10
    area = height * width * torch.empty(n, tries, dtype=torch.float64).uniform_(0.02, 0.33, generator=generator)
    ratio = torch.empty(n, tries, dtype=torch.float64).uniform_(np.log(0.3), np.log(3.3), generator=generator).exp()
    high, wide = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (high < height) & (wide < width)
    first = fits.int().argmax(1, keepdim=True)
    high, wide = high.gather(1, first)[:, 0], wide.gather(1, first)[:, 0]
    erased = (torch.rand(n, generator=generator) < probability) & fits.any(1)
    top = _uniform_integer(height - high + 1, generator)
    left = _uniform_integer(width - wide + 1, generator)
    box = _box(top, left, top + high * erased, left + wide, inputs)
    return inputs.masked_fill(box, 0)


def mixup(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x̃ = λx + (1 - λ)x', ỹ = λy + (1 - λ)y' with λ ~ Beta(α, α) per image, x' another image of the batch.

    Zhang et al. 2017 (arXiv:1710.09412, equation 1).  Their code draws one λ per batch; the formula,
    and this function, one per pair.  ``targets``: float ``[N, classes]``.
    """
    partner = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    weight = _beta(alpha, len(inputs), generator).to(inputs.device, inputs.dtype)
    return (torch.lerp(inputs[partner], inputs, weight[:, None, None, None]), torch.lerp(targets[partner], targets, weight[:, None]))


def cutmix(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another image; targets mix by the exact share of pixels.

    Yun et al. 2019 (arXiv:1905.04899, equations 1 and 2): sides √(1 - λ) of the image's with
    λ ~ Beta(α, α), centre uniform, clipped at the border, λ then recomputed from the pixels pasted.
    Drawn per image, where the paper's code draws once per batch.  ``targets``: float ``[N, classes]``.
    """
    n, _, height, width = inputs.shape
    partner = torch.randperm(n, generator=generator).to(inputs.device)
    side = (1 - _beta(alpha, n, generator)).sqrt()
    high, wide = (height * side).long(), (width * side).long()
    top = torch.randint(height, (n,), generator=generator) - high // 2
    left = torch.randint(width, (n,), generator=generator) - wide // 2
    box = _box(top, left, top + high, left + wide, inputs)
    kept = 1 - box.flatten(1).float().mean(1)
    return torch.where(box, inputs[partner], inputs), torch.lerp(targets[partner], targets, kept[:, None])


def _box(top: Tensor, left: Tensor, bottom: Tensor, right: Tensor, inputs: Tensor) -> Tensor:
    """bool ``[N, 1, H, W]``: true at rows top..bottom-1 and columns left..right-1 of each image."""
    top, left, bottom, right = torch.stack((top, left, bottom, right)).to(inputs.device)[:, :, None]
    y = torch.arange(inputs.shape[2], device=inputs.device)
    x = torch.arange(inputs.shape[3], device=inputs.device)
    return (((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :])[:, None]


def _uniform_integer(below: Tensor, generator: torch.Generator) -> Tensor:
    """Integers uniform in 0..below-1, one per entry of ``below``."""
    return (torch.rand(below.shape, generator=generator, dtype=torch.float64) * below).long()


def _beta(alpha: float, n: int, generator: torch.Generator) -> Tensor:
    """n draws from Beta(α, α), float64.  torch.distributions takes no generator, so numpy draws."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator).item())
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, n))
