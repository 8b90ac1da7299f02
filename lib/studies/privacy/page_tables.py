"""The private-inference chapter's tables: errors, accuracies, messages and waiting times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from lib.measure.statistics import number, percent, points
from lib.privacy.cost import PROTOCOLS, Protocol, comparison_bytes
from lib.privacy.latency import LINKS, Link
from lib.privacy.polynomial import dapa, expected_error, released
from lib.runs.results import Result, Results
from lib.studies.base.picked import column, gains, grouped
from lib.studies.privacy.names import POLYNOMIALS, method
from lib.studies.privacy.page import at
from lib.studies.privacy.studies import RESNET18_RELUS

#: Means and deviations of the normal inputs whose errors are told.
CASES = ((0.0, 1.0), (0.0, 0.5), (0.0, 2.0), (-1.0, 1.0), (1.0, 1.0))

#: Coefficients of each replacement for normal inputs of a mean and a deviation.
BUILDERS = {
    "identity": lambda mean, std: torch.tensor([0.0, 1.0, 0.0], dtype=mean.dtype),
    "linear": lambda mean, std: dapa(mean, std, 1),
    "quadratic": dapa,
    "released": released,
}

#: ReLUs of the papers' network for one image.
PAPERS = (
    ("ResNet-18, all", RESNET18_RELUS),
    ("ResNet-18, 100 thousand", 100_000),
    ("ResNet-18, 12.9 thousand", 12_900),
    ("ResNet-18, 6 thousand", 6_000),
)


def errors() -> pd.DataFrame:
    """Return a row per replacement: its expected squared error as a share of the ReLU's own mean square."""
    rows = []
    for kind, build in BUILDERS.items():
        row = {"in place of the ReLU": POLYNOMIALS[kind]}
        for case in CASES:
            mean, std = (torch.tensor(value, dtype=torch.float64) for value in case)
            whole = expected_error(torch.zeros(3, dtype=torch.float64), mean, std)
            row[f"N({mean:g}, {std:g}²)"] = f"{(expected_error(build(mean, std), mean, std) / whole).item():.1%}"
        rows.append(row)
    return pd.DataFrame(rows)


def by_hysteresis(runs: Iterable[Result]) -> pd.DataFrame:
    """Return a row per threshold: changes and returns per ReLU, test accuracy."""
    return pd.DataFrame(
        [
            {
                "threshold, in steps": f"{width:g}",
                "changes": number(column(own, "flips_per_relu")),
                "returns": number(column(own, "returns_per_relu")),
                "test accuracy": percent(column(own)),
            }
            for width, own in grouped(runs, lambda r: r.spec["hysteresis"]).items()
        ]
    )


def by_budget(everything: Sequence[Result], budgets: Sequence[float], baselines: Results) -> pd.DataFrame:
    """Return a row per replacement with its test accuracy at each budget, beside the network with all ReLUs."""
    rows = []
    if len(baselines):
        told = {f"{share:.1%}": "–" for share in budgets} | {"100%": percent(column(baselines))}
        rows.append({"in place of the ReLU": "a ReLU (all stay)"} | told)
    for name in dict.fromkeys(method(r) for r in everything):
        found = {f"{share:.1%}": column(at(everything, share, name)) for share in budgets}
        told = {title: percent(values) if values else "–" for title, values in found.items()}
        rows.append({"in place of the ReLU": name} | told | {"100%": "–"})
    return pd.DataFrame(rows)


def mask_controls(learnt: Iterable[Result], masks: Results, budget: float) -> pd.DataFrame:
    """Return a row per replacement and origin of the masks, and how much better learnt ones are, paired by seed."""
    learnt, rows = list(learnt), []
    for name in ("DaPa", "identity (SNL)"):
        own = at(learnt, budget, name)
        for which in ("learnt", "random", "shuffled"):
            runs = own if which == "learnt" else at(masks, budget, f"{name}, {which} masks")
            if runs:
                better = gains(own, runs) if which != "learnt" else []
                rows.append(
                    {
                        "in place of the ReLU": name,
                        "masks": which,
                        "test accuracy": percent(column(runs)),
                        "learnt is better by": points(better) if better else "–",
                    }
                )
    return pd.DataFrame(rows)


def bytes_told(count: float | None) -> str:
    """Return bytes in kB or MB; a dash for none."""
    return "–" if not count else f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


@dataclass(frozen=True)
class AllRelus:
    """The network with all ReLUs, counted from one that was run: bytes online of its ``comparisons`` and of the ``rest``."""

    relus: int
    comparisons: int
    rest: int

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> AllRelus:
        """Return it for a network of which some ReLUs are parabolas."""
        relus = metrics["relus"] + metrics["polynomials"]
        rest = metrics["online_bytes"] - metrics.get("online_bytes_comparison", 0) - metrics.get("online_bytes_square", 0)
        return cls(relus, relus * comparison_bytes(64), rest)

    @property
    def online(self) -> int:
        """Return the bytes that are sent online."""
        return self.comparisons + self.rest


def called(metrics: Mapping[str, Any]) -> str:
    """Return a network by its ReLUs and parabolas."""
    return f"{metrics['relus']:,} ReLUs, {metrics['polynomials']:,} parabolas"


def messages(shared: Results) -> pd.DataFrame:
    """Return a row per network: bytes by operation, and rounds; the last has all ReLUs and is counted."""
    rows = []
    for r in shared:
        m = r.metrics
        rest = sum(m.get(f"online_bytes_{name}", 0) for name in ("input", "linear", "output"))
        rows.append(
            {
                "network": called(m),
                "comparisons": bytes_told(m.get("online_bytes_comparison")),
                "squares": bytes_told(m.get("online_bytes_square")),
                "convolutions": bytes_told(m.get("online_bytes_convolution")),
                "rest": bytes_told(rest),
                "online": bytes_told(m["online_bytes"]),
                "offline": bytes_told(m["offline_bytes"]),
                "setup": bytes_told(m["setup_bytes"]),
                "rounds": m["online_rounds"],
            }
        )
    m = shared[0].metrics
    whole = AllRelus.of(m)
    counted = {
        "network": f"all {whole.relus:,} ReLUs, counted",
        "comparisons": bytes_told(whole.comparisons),
        "squares": "–",
        "convolutions": bytes_told(m["online_bytes_convolution"]),
        "rest": bytes_told(whole.rest - m["online_bytes_convolution"]),
        "online": bytes_told(whole.online),
        "offline": "–",
        "setup": bytes_told(m["setup_bytes"]),
        "rounds": "–",
    }
    return pd.DataFrame([*rows, counted])


def span(protocol: Protocol, relus: int) -> str:
    """Return the time of so many ReLUs, from the least to the most that is published."""
    low, high = protocol.low * relus / 1e3, protocol.high * relus / 1e3
    return f"{low:,.3g} to {high:,.3g} ms" if high < 1000 else f"{low / 1e3:,.3g} to {high / 1e3:,.3g} s"


def published_times(runs: Results, budgets: Sequence[float]) -> pd.DataFrame:
    """Return a row per network, the papers' and ours: time of its ReLUs by each protocol, and bytes."""
    rows = list(PAPERS)
    if len(runs):
        rows.append(("ours, all", runs[0].metrics["all_relus"]))
        rows += [(f"ours, {share:.1%}", at(runs, share)[0].metrics["relus"]) for share in budgets]
    return pd.DataFrame(
        [
            {
                "network": name,
                "ReLUs": f"{relus:,}",
                **{protocol.name: span(protocol, relus) for protocol in PROTOCOLS.values()},
                "bytes": bytes_told(relus * comparison_bytes(64)),
            }
            for name, relus in rows
        ]
    )


def most_relus(shared: Results) -> Mapping[str, Any]:
    """Return the metrics of the network with most ReLUs, whose rounds are those of the network with all of them."""
    return max(shared, key=lambda r: r.metrics["relus"]).metrics


def latencies(shared: Results) -> pd.DataFrame:
    """Return a row per network, that with all ReLUs first: compute, bytes, rounds, and seconds over each link."""
    most = most_relus(shared)
    whole = AllRelus.of(most)
    found = [(f"all {whole.relus:,} ReLUs, counted", most, whole.online)]
    found += [(called(r.metrics), r.metrics, r.metrics["online_bytes"]) for r in sorted(shared, key=lambda r: -r.metrics["relus"])]
    return pd.DataFrame(
        [
            {
                "network": name,
                "compute": f"{m['compute_seconds']:.2f} s",
                "online": bytes_told(sent),
                "rounds": m["online_rounds"],
                **{link.name: f"{link.seconds(m['compute_seconds'], sent, m['online_rounds']):.2f} s" for link in LINKS},
            }
            for name, m, sent in found
        ]
    )


def times_faster(link: Link, few: Mapping[str, Any], most: Mapping[str, Any]) -> float:
    """Return how many times as fast a query is over this link with ``few`` ReLUs as with all of them."""
    before = link.seconds(most["compute_seconds"], AllRelus.of(most).online, most["online_rounds"])
    return before / link.seconds(few["compute_seconds"], few["online_bytes"], few["online_rounds"])
