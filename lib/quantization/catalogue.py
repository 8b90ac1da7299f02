"""The packed networks that come with the book, in ``data/models/``: listed, loaded, and looked at from all sides.

for entry in entries():
    evaluate(entry.path, images)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib import ROOT
from lib.data.images import ImageSet, Split
from lib.measure.robustness import ATTACKS, robust_accuracy
from lib.pruning.mask import prunable
from lib.pruning.structure import imbalance
from lib.quantization import entropy, packed
from lib.quantization.values import section_of
from lib.system.checks import did_you_mean
from lib.training.evaluate import evaluate_classifier

FOLDER = ROOT / "data" / "models"

#: How the files are called: what they are about, then this.
SUFFIX = ".packed"


@dataclass(frozen=True)
class Entry:
    """One file.  about: what was written into it, such as its data set."""

    name: str
    path: Path
    about: dict[str, str]

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size


def entries(folder: Path = FOLDER) -> list[Entry]:
    """All packed networks of a folder by name; none where there is no such folder.  Raises :class:`packed.Unreadable`."""
    return [Entry(name, path, packed.about(path)) for name, path in paths(folder).items()]


def paths(folder: Path = FOLDER) -> dict[str, Path]:
    """Return the files of a folder by the names of their networks, without reading them."""
    return {path.name.removesuffix(SUFFIX): path for path in sorted(Path(folder).glob(f"*{SUFFIX}"))}


def load(name: str, folder: Path = FOLDER) -> nn.Module:
    """The network of that name, ready to run.  Raises ValueError, with the nearest name, where there is none."""
    known = paths(folder)
    if name not in known:
        raise ValueError(
            f"there is no packed network {name!r} in {Path(folder).name}.{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}"
        )
    return packed.read(known[name])


def evaluate(
    path: Path, images: ImageSet, split: Split | None = None, attacked: int | None = None, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Everything about a packed network: accuracy and robustness on ``split``, its weights, its bytes.

    split: the test images unless given.  attacked: images that FGSM and PGD-7 are tried on, the first ones; None for all.
    Returns accuracy, fgsm, pgd (shares), what :func:`weights` and :func:`spent` tell, and ``layers``: see :func:`by_layer`.
    """
    model, split = packed.read(path), split or images.test
    found = weights(model) | spent(path, model) | {"layers": by_layer(model)}
    model.to(device)
    found["accuracy"] = evaluate_classifier(model, split, images)["accuracy"]
    return found | {attack: robust_accuracy(model, split, images, attack, examples=attacked) for attack in ATTACKS}


def weights(model: nn.Module) -> dict[str, Any]:
    """Counts of weights in linear and convolutional layers: all, those left, and the most different values in a layer and in
    one of its 16 · 4 sections; worst imbalance of these sections (:func:`lib.pruning.structure.imbalance`; 1 is perfect).
    """
    layers = by_layer(model)
    total, alive = (sum(layer[name] for layer in layers) for name in ("all_weights", "weights"))
    return {
        "all_weights": total,
        "weights": alive,
        "sparsity": 1 - alive / total,
        "imbalance": max((layer["imbalance"] for layer in layers if layer["weights"]), default=None),
        "unique": max(layer["unique"] for layer in layers),
        "unique_in_section": max(layer["unique_in_section"] for layer in layers),
    }


def by_layer(model: nn.Module) -> list[dict[str, Any]]:
    """For each layer: its name, weights, those left, sparsity, imbalance over 16 · 4 workers, and how many different values
    there are in the layer and, at most, in one section.
    """
    found = []
    for name, weight in prunable(model).items():
        mask = weight.detach() != 0
        alive = int(mask.sum())
        found.append(
            {
                "layer": name,
                "all_weights": mask.numel(),
                "weights": alive,
                "sparsity": 1 - alive / mask.numel(),
                "imbalance": imbalance(mask) if alive else None,
                "unique": unique(weight, (1, 1)),
                "unique_in_section": unique(weight, (16, 4)),
            }
        )
    return found


def unique(weight: Tensor, grid: tuple[int, int]) -> int:
    """Most different values that are not zero in one section of the grid."""
    values = weight.detach().cpu().numpy()
    there = values != 0
    if not there.any():
        return 0
    pairs = np.unique(np.stack([section_of(values.shape, grid)[there], values[there].view(np.int32)]), axis=1)
    return int(np.bincount(pairs[0]).max())


def spent(path: Path, model: nn.Module) -> dict[str, Any]:
    """Bytes of the file by part, after ``xz``, and of ``xz`` alone; what positions cost a weight, and could; and the ratios.

    ``claimed_ratio``  as papers count: weights over weights left, times 32 over the bits of a code, which the file tells
                       under ``bits`` in its ``about``
    ``weights_ratio``  4 bytes a weight over codes, positions and codebooks
    ``file_ratio``     4 bytes a weight over the whole file
    """
    sizes, layers = packed.sizes_of(path), by_layer(model)
    total, alive = (sum(layer[name] for layer in layers) for name in ("all_weights", "weights"))
    pairs = [(layer["weights"], layer["all_weights"]) for layer in layers]
    rows = [(layer["weights"], len(weight)) for layer, weight in zip(layers, prunable(model).values())]
    found = {f"bytes_{name}": value for name, value in asdict(sizes).items()} | {
        "bytes": sizes.total,
        "bytes_xz": packed.xz_bytes(path),
        "bytes_dense": 4 * total,
        "bytes_dense_xz": packed.dense_xz_bytes(model),
        "bytes_positions_entropy": entropy.layered_position_bits(pairs) / 8,
        "bytes_positions_csr": entropy.csr_bits(rows) / 8,
    }
    found |= {"code_bits": 8 * sizes.codes / alive if alive else None, "position_bits": 8 * sizes.positions / alive if alive else None}
    if alive:
        bits = int(packed.about(path).get("bits", 32))
        found |= {"claimed_ratio": entropy.claimed_ratio(total, alive, bits), "weights_ratio": 4 * total / sizes.weights}
    return found | {"file_ratio": 4 * total / sizes.total}
