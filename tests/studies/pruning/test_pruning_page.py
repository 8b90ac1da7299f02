"""What the pruning page says of its networks."""

import pytest

from lib.data import images as images_module
from lib.data.images import load_images
from lib.models.vgg import VGGConfig, vgg16
from lib.runs.results import Result
from lib.studies.pruning import page, page_files


@pytest.mark.parametrize(
    "config, name",
    [
        (vgg16(), "VGG-16"),
        (vgg16(1 / 8), "VGG-16 with 1/8 of the channels"),
        (VGGConfig((16, 16, 32), (1, 1, 1)), "VGG"),
    ],
)
def test_networks_are_called_by_their_width(config, name):
    assert page.vgg_name(config.widths) == page.vgg_name(list(config.widths)) == name


def test_networks_without_a_path_are_cut_through():
    def pruned(*on_paths):
        return [Result("t", str(n), {}, {"on_paths": n}, {}, {}, {}) for n in on_paths]

    assert page.cut_through(pruned(0, 0))
    assert not page.cut_through(pruned(0, 5))
    assert not page.cut_through([])


def test_no_images_are_downloaded_for_the_table_of_files(monkeypatch):
    asked = []
    monkeypatch.setattr(images_module, "find", lambda dataset: asked.append(dataset.name))
    monkeypatch.setattr(page_files, "load_images", lambda name: load_images(name) if name == "digits" else pytest.fail(f"{name} is loaded"))
    monkeypatch.setattr(page_files.catalogue, "evaluate", lambda path, images, split, attacked: dict.fromkeys(EVALUATED, 1))
    table = page_files.evaluated()
    assert len(table) and all(name.startswith("digits") for name in table["file"]) and "cifar10" in asked


EVALUATED = ("file_ratio", "sparsity", "accuracy", "fgsm", "pgd", "imbalance", "unique", "unique_in_section")
