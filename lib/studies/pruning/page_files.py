"""The pruning chapter's tables of codebooks and of files as they were written."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.data.images import find_data, load_images
from lib.measure.statistics import amount, percent, spelled
from lib.quantization import catalogue
from lib.quantization.entropy import position_bits, weights_ratio
from lib.runs.results import Result
from lib.studies.base.picked import column

#: What papers claim: name, fewer weights, bits of a code, entries of all codebooks as (a layer, a section), weights that share a place.
CLAIMED = (
    ("50×", 50, 32, (0, 0), 1),
    ("500×", 500, 32, (0, 0), 1),
    ("1000×", 1000, 32, (0, 0), 1),
    ("100×, kernels", 100, 32, (0, 0), 9),
    ("500×, kernels", 500, 32, (0, 0), 9),
    ("8000×: 4 bits, one codebook a layer", 1000, 4, (16, 0), 1),
    ("16000×: 2 bits, 64 codebooks a layer", 1000, 2, (0, 4), 1),
)


def codebooks(networks: dict[str, list[Result]]) -> pd.DataFrame:
    """Return a row per network with codebooks or torchao's integers, which are not trained."""
    rows = []
    for name, runs in networks.items():
        trained = runs[0].experiment == "pruning-quantized"
        told = {"before": "val_accuracy_before", "k-means": "val_accuracy_at_once", "trained": "val_accuracy"}
        rows.append(
            {
                "values": name,
                "weights": amount(runs[0].metrics["weights"]) if trained else "all",
                "entries": f"{runs[0].metrics['entries']:,}" if trained else "–",
                **{title: percent(column(runs, metric)) if trained else "–" for title, metric in told.items()},
                "test accuracy": percent(column(runs)),
            }
        )
    return pd.DataFrame(rows)


def least_sizes(layers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per claimed ratio with the least that must be stored of a network of these layers
    (:func:`lib.studies.pruning.page.vgg_layers`): codes, positions at their entropy, codebooks, and both ratios."""
    rows, weights, channels = [], int(layers.weights.sum()), int(layers.channels.sum())
    for name, ratio, bits, (a_layer, a_section), unit in CLAIMED:
        left, entries = round(weights / ratio), a_layer * len(layers) + a_section * int(layers.sections.sum())
        places = position_bits(round(left / unit), weights // unit)
        whole = 32 * weights / weights_ratio(weights, left, bits, entries, positions=places)
        rows.append(
            {
                "claimed": name,
                "codes, KiB": f"{left * bits / 8192:,.1f}",
                "positions, KiB": f"{places / 8192:,.1f}",
                "codebooks, KiB": f"{entries * 4 / 1024:,.1f}" if entries else "–",
                "weights only": f"{32 * weights / whole:,.0f}×",
                "with batch norm": f"{32 * weights / (whole + 64 * channels):,.0f}×",
            }
        )
    return pd.DataFrame(rows)


def smaller(runs: list[Result], by: str) -> str:
    """Return how many times smaller than the dense network's values in 32 bits, mean over seeds."""
    return f"{np.mean([r.metrics['bytes_dense'] / r.metrics[by] for r in runs]):,.1f}×"


def written(files: dict[str, list[Result]]) -> pd.DataFrame:
    """Return a row per file: its size, what would be claimed, and what holds."""
    return pd.DataFrame(
        [
            {
                "network": name,
                "kB": f"{np.mean(column(runs, 'bytes')) / 1e3:,.1f}",
                "claimed": f"{np.mean(column(runs, 'claimed_ratio')):,.1f}×",
                "weights only": f"{np.mean(column(runs, 'weights_ratio')):,.1f}×",
                "file": spelled(column(runs, "file_ratio"), digits=1, unit="×"),
                "file, xz": smaller(runs, "bytes_xz"),
                "dense form, xz": smaller(runs, "bytes_dense_xz"),
            }
            for name, runs in files.items()
        ]
    )


def robust(files: dict[str, list[Result]]) -> pd.DataFrame:
    """Return a row per file: accuracy with and without attacks, sparsity, imbalance, different values."""
    return pd.DataFrame(
        [
            {
                "network": name,
                "test accuracy": percent(column(runs)),
                "FGSM": percent(column(runs, "fgsm")),
                "PGD-7": percent(column(runs, "pgd")),
                "sparsity": f"{np.mean(column(runs, 'sparsity')):.2%}",
                "imbalance": f"{np.mean(column(runs, 'imbalance')):.1f}",
                "values in a layer": f"{max(column(runs, 'unique')):,}",
            }
            for name, runs in files.items()
        ]
    )


def evaluated() -> pd.DataFrame:
    """Return a row per file of ``data/models/``, evaluated now; those whose images we do not have are left out."""
    at_hand = {row["name"] for row in find_data() if row["found"]}  # nothing is downloaded for a table
    rows, known = [], {}
    for entry in catalogue.entries():
        dataset = entry.about["dataset"]
        if dataset not in at_hand:
            continue
        images = known.get(dataset) or known.setdefault(dataset, load_images(dataset))
        m = catalogue.evaluate(entry.path, images, images.test.first(500), attacked=50)
        rows.append(
            {
                "file": entry.name,
                "kB": f"{entry.bytes / 1e3:,.1f}",
                "file ratio": f"{m['file_ratio']:,.0f}×",
                "sparsity": f"{m['sparsity']:.2%}",
                "accuracy": f"{m['accuracy']:.1%}",
                "FGSM": f"{m['fgsm']:.0%}",
                "PGD-7": f"{m['pgd']:.0%}",
                "imbalance": f"{m['imbalance']:.1f}",
                "values": f"{m['unique']:,}",
                "in a section": f"{m['unique_in_section']:,}",
            }
        )
    return pd.DataFrame(rows)
