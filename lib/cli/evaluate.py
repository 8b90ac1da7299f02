"""``python -m lib evaluate FILE``: a packed network, from its bytes to its accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lib.cli.names import WrongUse, as_wrong_use
from lib.data.formats import DataDamaged, DataMissing
from lib.data.images import ImageSet, load_images
from lib.data.titles import title
from lib.quantization import catalogue, packed
from lib.system.checks import did_you_mean, require


def evaluate(file: str, examples: int | None, attacked: int) -> None:
    """Print what the file holds and how the network does on the first ``examples`` test images; None: on all of them."""
    path = path_of(file)
    with as_wrong_use():
        about = packed.about(path)
        require("dataset" in about, f"{path} does not say which images its network is for")
    try:
        images = load_images(about["dataset"])
    except (DataMissing, DataDamaged) as error:
        raise click.ClickException(str(error)) from error
    first = images.test.first(examples)
    found = catalogue.evaluate(path, images, first, attacked=attacked)
    for line in lines(path, about, found, images, len(first), min(attacked, len(first))):
        click.echo(line)


def path_of(file: str) -> Path:
    """Return the file of that name in ``data/models/``, or of that path.  Raises WrongUse, with the nearest name, where there is none."""
    known = catalogue.paths()
    if file in known:
        return known[file]
    if not Path(file).is_file():
        raise WrongUse(f"there is no file {file!r}, nor a network of that name.{did_you_mean(file, known)} Known: {', '.join(known)}")
    return Path(file)


def lines(path: Path, about: dict[str, str], found: dict[str, Any], images: ImageSet, examples: int, attacked: int) -> list[str]:
    told = {
        "file": f"{path.name}, {found['bytes']:,} bytes, {found['file_ratio']:,.0f} times smaller than all weights in 32 bits",
        "weights": f"{found['weights']:,} of {found['all_weights']:,} are left ({found['sparsity']:.2%} are zero)",
        "values": f"at most {found['unique']:,} different ones in a layer",
        "data": f"{title(images.name)}, {images.variant}",
        "accuracy": f"{found['accuracy']:.2%} of {examples:,} test images",
        "FGSM": f"{found['fgsm']:.1%} of {attacked:,} test images, each pixel moved by up to 8 of 255 grey levels",
        "PGD-7": f"{found['pgd']:.1%} of the same",
    }
    if about.get("fingerprint") not in (None, images.fingerprint):
        told["trained on"] = f"another variant of these images: {about.get('variant', 'unknown')}"
    return [f"{name:<12}{text}" for name, text in told.items()]
