"""Maps of classes and sheets of pictures as figures."""

import base64
import io
import json

import pytest
import torch
from PIL import Image

from lib.figures.beliefs import class_maps, picture
from lib.studies.base.pictures import png


def test_maps_stand_side_by_side():
    points = [[0.0, 5.0], [10.0, 5.0], [20.0, 7.0]]
    figure = class_maps({"features, normal": points, "logits, nasty": [[1.0, 1.0]] * 3}, [0, 2, 1], ["cat", "dog", "cow"])
    first, second = figure.data
    assert list(first.x) == [0.0, 0.5, 1.0] and list(first.y) == [0.0, 0.0, 1.0]  # each stretched to the same square
    assert min(second.x) > 1 and list(first.text) == ["cat", "cow", "dog"] and list(first.marker.color) == [0, 2, 1]
    assert "2 maps of 3 images, coloured by their 3 classes: features, normal" in figure.layout.meta["alt"]
    assert [note.text for note in figure.layout.annotations] == ["features, normal", "logits, nasty"]
    for maps in ({}, {"one": points[:2]}):
        with pytest.raises(ValueError, match="one point for each label"):
            class_maps(maps, [0, 2, 1], ["cat", "dog", "cow"])


def test_a_third_map_begins_a_row_below():
    points = [[0.0, 0.0], [1.0, 1.0]]
    first, second, third = class_maps(dict.fromkeys("abc", points), [0, 1], ["cat", "dog"]).data
    assert list(third.x) == list(first.x) and min(first.y) == min(second.y) > max(third.y)


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
