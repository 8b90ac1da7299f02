"""What is compared in the attention chapter, as it is called in tables and figures."""

from __future__ import annotations

import pandas as pd

from lib.runs.results import Results

#: In the order in which they are drawn, so that each has one colour in all of the chapter's figures.
CALLED = {
    "standard": "standard",
    "tiled": "tiled, ours",
    "sdpa": "fused (SDPA)",
    "block-sparse": "block-sparse, ours",
    "linformer": "Linformer",
    "performer": "Performer",
    "flex": "FlexAttention",
    "flex, block-sparse": "FlexAttention, block-sparse",
    "triton": "Triton, ours",
}


def timings(results: Results) -> pd.DataFrame:
    """A row for each contender that ran: name, length, passes, precision, seed, ms, speed_up (None without a standard one), share."""
    rows = [
        {
            "name": name,
            "method": CALLED.get(name, name),
            "length": r.spec["length"],
            "passes": r.spec["passes"],
            "precision": r.spec["setting"]["precision"],
            "seed": r.spec["seed"],
            "ms": r.metrics[f"ms_{name}"],
            "speed_up": r.metrics.get(f"speed_up_{name}"),
            "share": r.metrics[f"share_{name}"],
        }
        for r in results
        for name in r.spec["names"]
        if f"ms_{name}" in r.metrics
    ]
    order = list(CALLED)
    return pd.DataFrame(sorted(rows, key=lambda row: order.index(row["name"]) if row["name"] in order else len(order)))


def absent(results: Results) -> dict[str, str]:
    """Why contenders did not run, by name."""
    return {name: r.metrics[f"absent_{name}"] for r in results for name in r.spec["names"] if f"absent_{name}" in r.metrics}


def memories(results: Results) -> pd.DataFrame:
    """A row for each contender and length: peak and kept bytes, FLOPs."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "method": CALLED[name],
                "length": length,
                "seed": r.spec["seed"],
                **{what: r.arrays[f"{what}_{name}"][place] for what in ("peak", "kept", "flops")},
            }
            for r in results
            for name in CALLED
            if f"peak_{name}" in r.arrays
            for place, length in enumerate(r.arrays["lengths"])
        ]
    )
