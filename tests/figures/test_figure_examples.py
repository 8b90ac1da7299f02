"""Images above maps of their parts."""

import base64
import io

import pytest
from PIL import Image

from lib.figures.examples import image_maps


def png(shade: int) -> str:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), shade).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_each_image_stands_above_its_map_with_the_first_row_on_top():
    figure = image_maps([png(0), png(255)], [[[1, 2], [3, 4]], [[0, 0], [0, 8]]], ["cat", "dog"], value_title="size", format=".1f")
    assert [tuple(map(tuple, trace.z)) for trace in figure.data] == [((3, 4), (1, 2)), ((0, 8), (0, 0))]
    assert all((trace.zmin, trace.zmax) == (0, 8) for trace in figure.data)  # one scale for all
    assert [image.x for image in figure.layout.images] == [trace.x0 - trace.dx / 2 for trace in figure.data]
    assert "cat 2.5" in figure.layout.meta["alt"] and "dog 2.0" in figure.layout.meta["alt"]


def test_as_many_images_as_maps_and_names():
    with pytest.raises(ValueError, match="as many of each"):
        image_maps([png(0)], [], ["cat"], value_title="size")
    with pytest.raises(ValueError, match="at least one"):
        image_maps([], [], [], value_title="size")
