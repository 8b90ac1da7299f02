"""Images for a result file, so that a replayed chapter can show them without the data set."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from torch import Tensor


def png(image: Tensor) -> str:
    """An image uint8 [C, H, W] as PNG in base64."""
    from PIL import Image  # imported here: only galleries need it

    pixels = image.cpu().permute(1, 2, 0).numpy()
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def contact_sheet(images: Tensor, columns: int) -> str:
    """Images uint8 [N, C, H, W] side by side, row by row, a pixel apart, as one PNG in base64."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = torch.full((channels, rows * (height + 1) - 1, columns * (width + 1) - 1), 255, dtype=torch.uint8)
    for place, image in enumerate(images.cpu()):
        top, left = place // columns * (height + 1), place % columns * (width + 1)
        sheet[:, top : top + height, left : left + width] = image
    return png(sheet)


def as_pixels(inputs: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalised inputs [N, C, H, W] back to uint8, what lies outside 0…255 cut off."""
    mean_C11, std_C11 = (torch.tensor(np.array(values), dtype=inputs.dtype, device=inputs.device)[:, None, None] for values in (mean, std))
    return ((inputs * std_C11 + mean_C11) * 255).round().clamp(0, 255).to(torch.uint8)
