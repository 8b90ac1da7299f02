"""RandAugment (Cubuk et al. 2019, arXiv:1909.13719): n operations per image, one magnitude for all.

The 14 operations, their ranges and the scale of 31 magnitudes are torchvision's.  It applies one draw to
a whole batch; here each image draws its own operations and signs.  Images are sorted by
operation, so that each operation runs once, on its share of the batch.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from lib.data.augment_colour import adjust_brightness, adjust_contrast, adjust_saturation, adjust_sharpness

MAX_MAGNITUDE = 30
GEOMETRY = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDS = {"brightness": adjust_brightness, "colour": adjust_saturation, "contrast": adjust_contrast, "sharpness": adjust_sharpness}
#: The operation space, 14 names.
OPERATIONS = (*GEOMETRY, *BLENDS, "posterize", "solarize", "autocontrast", "equalize", "identity")


def randaugment(images: Tensor, n: int, magnitude: int, generator: torch.Generator) -> Tensor:
    """Apply ``n`` operations in turn, chosen per image with equal chance, at ``magnitude`` (0..30).

    uint8 ``[N, 1 or 3, H, W]`` → the same.  Operations with a direction draw their sign per image.
    Two do nothing to some images: colour to grey ones, equalize to those of fewer than 256 pixels (PIL's
    definition divides by the whole number of pixels per grey level).
    """
    for _ in range(n):
        operation = torch.randint(len(OPERATIONS), (len(images),), generator=generator)
        sign = torch.randint(2, (len(images),), generator=generator) * 2 - 1
        order = operation.argsort(stable=True)
        counts = operation.bincount(minlength=len(OPERATIONS)).tolist()
        parts = zip(OPERATIONS, images[order.to(images.device)].split(counts), sign[order].split(counts), strict=True)
        done = torch.cat([apply_operation(name, part, magnitude, signs) for name, part, signs in parts if len(part)])
        images = done[order.argsort().to(images.device)]
    return images


def apply_operation(name: str, images: Tensor, magnitude: int, sign: Tensor) -> Tensor:
    """One of :data:`OPERATIONS` on all images; ``sign`` int ``[N]`` of ±1 where it has a direction."""
    from torchvision.transforms.v2 import functional  # imported here: slow, and only RandAugment needs it

    level = magnitude / MAX_MAGNITUDE
    if name in GEOMETRY:
        return _warp(images, name, magnitude, sign)
    if name in BLENDS:
        return BLENDS[name](images, (1 + 0.9 * level * sign).to(images.device, torch.float32))
    if name == "posterize":
        return functional.posterize(images, bits=8 - round(4 * level))
    if name == "solarize":
        return functional.solarize(images, threshold=255 * (1 - level))
    if name == "autocontrast":
        return functional.autocontrast(images)
    return functional.equalize(images) if name == "equalize" else images


def _warp(images: Tensor, name: str, magnitude: int, sign: Tensor) -> Tensor:
    """Shear, translate or rotate: a gather by one of two tables of source pixels, black outside."""
    table = _source_pixels(name, magnitude, tuple(images.shape[-2:]))
    source = table[(sign > 0).long()].to(images.device)[:, None]
    index = (source - 1).clamp(min=0).expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).mul_(source > 0).view_as(images)


@lru_cache(maxsize=64)
def _source_pixels(name: str, magnitude: int, size: tuple[int, int]) -> Tensor:
    """int64 ``[2, H·W]``: for sign - and +, the number (from 1) of the pixel each result pixel comes from, 0 if none.

    torchvision warps one picture whose pixels are their own numbers; a batch then follows by a gather,
    exactly as if torchvision had warped each image, on any device.
    """
    from torchvision.transforms.v2 import functional

    height, width = size
    numbers = torch.arange(1.0, height * width + 1).view(1, height, width)
    level = magnitude / MAX_MAGNITUDE

    def warped(sign: int) -> Tensor:
        if name == "rotate":
            return functional.rotate(numbers, angle=sign * 30 * level)
        shear, shift = math.degrees(math.atan(sign * 0.3 * level)), sign * 150 / 331 * level
        about = {
            "shear_x": {"shear": [shear, 0.0], "center": [0, 0]},
            "shear_y": {"shear": [0.0, shear], "center": [0, 0]},
            "translate_x": {"translate": [int(shift * width), 0]},
            "translate_y": {"translate": [0, int(shift * height)]},
        }[name]
        return functional.affine(numbers, **{"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **about})

    return torch.stack([warped(sign).flatten().long() for sign in (-1, 1)])
