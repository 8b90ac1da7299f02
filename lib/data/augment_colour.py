"""Brightness, contrast, saturation and sharpness, with one factor per image.

Each is a blend ``factor · image + (1 - factor) · degenerate`` as torchvision and PIL define it: black for
brightness, the mean grey for contrast, the grey image for saturation, a smoothed one for sharpness.
torchvision takes one factor for a whole batch; these take a tensor of N.  All map uint8
``[N, 1 or 3, H, W]`` and ``factor`` float ``[N]`` (>= 0; 1 changes nothing) to uint8.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R 601 luma, in torchvision's four digits.
LUMA = (0.2989, 0.587, 0.114)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor[:, None, None, None]).clamp_(0, 255).to(torch.uint8)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _grey(images).mean((-3, -2, -1), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Grey images (one channel) have none to adjust and stay as they are."""
    return images if images.shape[1] == 1 else _blend(images, _grey(images), factor)


def adjust_sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """The border, where the 3×3 smoothing does not fit, stays as it is."""
    channels = images.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    smooth = images.float()
    smooth[..., 1:-1, 1:-1] = F.conv2d(smooth, kernel / 13, groups=channels).round_()
    return _blend(images, smooth, factor)


def colour_jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation by factors uniform in [max(0, 1 - s), 1 + s], drawn per image.

    As torchvision's ``ColorJitter(s, s, s)``, except that their random order is drawn per batch.
    """
    low = max(0.0, 1 - strength)
    factors = torch.empty(3, len(images)).uniform_(low, 1 + strength, generator=generator).to(images.device)
    operations = (adjust_brightness, adjust_contrast, adjust_saturation)
    for i in torch.randperm(3, generator=generator).tolist():
        images = operations[i](images, factors[i])
    return images


def _grey(images: Tensor) -> Tensor:
    """float32 ``[N, 1, H, W]``; from colours rounded down, as stored in a uint8 image."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.float().unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).floor_().unsqueeze(1)


def _blend(images: Tensor, degenerate: Tensor, factor: Tensor) -> Tensor:
    # As x + (1 - f)(d - x), which keeps x where d = x: f·x + (1 - f)·d can fall just below and be cut to x - 1.
    weight = (1 - factor)[:, None, None, None]
    return (degenerate - images).mul_(weight).add_(images).clamp_(0, 255).to(torch.uint8)
