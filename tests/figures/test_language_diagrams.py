"""The language chapter's drawings say and show the numbers that they are given."""

import xml.etree.ElementTree as ElementTree

from lib.figures.diagrams.language import smoothing, surgeon


def shown(drawing) -> list[str]:
    """The texts of a drawing, which has to be well-formed."""
    root = ElementTree.fromstring(drawing.svg)
    assert root.get("aria-label") == drawing.alt and drawing.width <= 560
    return [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_surgeon_shows_what_went_and_what_moved():
    drawing = surgeon([0.9, -0.6, 0.4], 1, [0.39, 0.0, 0.43], 0.389, 0.127)
    words = shown(drawing)
    assert words.count("0") == 2 and {"+0.90", "−0.60", "+0.39", "+0.43", "error 0.39", "error 0.13"} <= set(words)
    assert "Weight 2 goes" in drawing.alt and "0.13" in drawing.alt


def test_smoothing_shows_the_largest_before_and_after():
    channels = [[90.0, 0.5, 6.7, 6.7], *([3.0 / (i + 1), 0.4, 1.1 / (i + 1), 1.1 / (i + 1)] for i in range(20))]
    drawing = smoothing(channels)
    assert {"max 90", "max 0.5", "max 6.7"} <= set(shown(drawing)) and shown(drawing).count("max 6.7") == 2
    assert len(list(ElementTree.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}rect"))) == 4 * 9
    assert "inputs up to 90" in drawing.alt and "inputs 6.7, weights 6.7" in drawing.alt
