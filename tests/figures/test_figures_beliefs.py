"""Sheets of pictures as figures."""

import base64
import io
import json

import torch
from PIL import Image

from lib.figures.beliefs import picture
from lib.studies.base.pictures import png


def test_a_picture_is_shown_whole():
    figure = picture("aGk=", "two waves")
    assert figure.layout.images[0].source == "data:image/png;base64,aGk=" and figure.layout.images[0].sizing == "contain"
    assert figure.layout.meta["alt"] == "two waves" and len(json.dumps(figure.to_plotly_json(), default=str)) < 20_000


def test_noise_is_embedded_smaller_and_in_full_size():
    noise = torch.randint(0, 256, (3, 99, 263), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    large = png(noise)
    shown = picture(large, "noise").layout.images[0].source
    assert shown.startswith("data:image/jpeg;base64,") and len(shown) < 0.7 * len(large)
    assert Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))).size == (263, 99)
