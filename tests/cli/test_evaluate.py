"""``python -m lib evaluate``: what it says of the committed networks, and of files that are none."""

import re

import pytest
from click.testing import CliRunner

from lib.__main__ import main
from lib.cli import evaluate as command
from lib.data.formats import DataMissing
from lib.data.images import Split, load_images
from lib.quantization import catalogue

NAME = "digits-vgg-50x"


def call(*words, status=0):
    found = CliRunner().invoke(main, ["evaluate", *words])
    assert found.exit_code == status, found.output
    return found.output


def test_a_committed_network_is_what_the_page_says():
    """The same numbers as :func:`lib.quantization.catalogue.evaluate`, from which the page's table is made."""
    images = load_images("digits")
    first = Split(images.test.images[:50], images.test.labels[:50])
    found = catalogue.evaluate(catalogue.FOLDER / f"{NAME}.packed", images, first, attacked=20)
    said = call(NAME, "--examples", "50", "--attacked", "20")
    assert f"{found['bytes']:,} bytes" in said and f"{found['weights']:,} of {found['all_weights']:,} are left" in said
    assert f"{found['accuracy']:.2%} of 50 test images" in said and f"{found['fgsm']:.1%} of 20 test images" in said
    assert re.search(rf"PGD-7 +{found['pgd']:.1%}", said) and "another variant" not in said


def test_a_path_is_as_good_as_a_name():
    assert call(str(catalogue.FOLDER / f"{NAME}.packed"), "--examples", "5") == call(NAME, "--examples", "5")


def test_a_network_of_another_variant_of_the_images_is_told(monkeypatch):
    monkeypatch.setattr(command.packed, "about", lambda path: {"dataset": "digits", "fingerprint": "another", "variant": "blurred"})
    assert "another variant of these images: blurred" in call(NAME, "--examples", "5", "--attacked", "2")


@pytest.mark.parametrize(
    "word, message",
    [
        ("digits-vgg-5x", "Did you mean 'digits-vgg-50x'"),
        ("no/such/file", "there is no file 'no/such/file'"),
        ("text", "is not a packed network"),
        ("cut", "damaged or cut short"),
        (".", "there is no file '.'"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(word, message, tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "cut").write_bytes((catalogue.FOLDER / f"{NAME}.packed").read_bytes()[:2000])
    said = call(str(tmp_path / word) if word in ("text", "cut") else word, status=2)
    assert message in " ".join(said.split()) and "Traceback" not in said


def test_images_that_are_not_here_are_asked_for(monkeypatch):
    def missing(name):
        raise DataMissing(f"{name} is not on this machine: put it there")

    monkeypatch.setattr(command, "load_images", missing)
    assert "digits is not on this machine" in call(NAME, status=1)


def test_a_file_that_does_not_name_its_images(monkeypatch):
    monkeypatch.setattr(command.packed, "about", lambda path: {})
    assert "does not say which images" in call(NAME, status=2)
