"""Our values beside the table of the pruned VGG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lib.claims.project_base import Studies, value
from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base.seeds import each_seed
from lib.studies.pruning.names import OURS, method
from lib.studies.pruning.pairs import TEST, difference


def own_recipe(run: Result, structure: str) -> bool:
    return method(run).startswith(OURS) and run.spec["plan"]["structure"] == structure


def near(density: float, ratio: float) -> bool:
    return abs(density * ratio - 1) < 0.02


def pruned(studies: Studies, ratio: float, structure: str = "unstructured") -> dict[int, float]:
    """Test accuracies of our recipe at this ratio, by seed."""
    own = (run for run in studies["ratios"] if own_recipe(run, structure) and near(run.spec["plan"]["density"], ratio))
    return each_seed(own, lambda run: run.metrics[TEST], f"{OURS} at {ratio:g}×")


def there(found: dict[int, float], what: str, runs: Results) -> list[float]:
    if not found:
        raise NotTestable(f"no {what} at this scale{why(runs)}")
    return list(found.values())


@value
def pruned_to(studies: Studies, ratio: float, structure: str = "unstructured") -> list[float]:
    return there(pruned(studies, ratio, structure), f"network was pruned to {ratio:g}×", studies["ratios"])


@value
def lost_between(studies: Studies, first: float, second: float) -> list[float]:
    return difference(pruned(studies, second), pruned(studies, first), studies["ratios"])


def is_coded(spec: Mapping[str, Any], bits: int, sections: int) -> bool:
    """A network of our recipe that got codes after pruning."""
    return (
        spec.get("bits") == bits
        and "grid" in spec
        and spec["grid"][0] * spec["grid"][1] == sections
        and spec["density"] is None
        and bool(spec["parent"].get("rest"))
    )


def coded(runs: Iterable[Result], bits: int, sections: int, ratio: float | None = None) -> list[Result]:
    """Quantized networks at this ratio, or at the highest that was coded."""
    found = [run for run in runs if is_coded(run.spec, bits, sections)]
    return at_ratio(found, lambda run: run.spec["parent"], ratio)


def coded_files(runs: Iterable[Result], bits: int, sections: int, ratio: float | None = None) -> list[Result]:
    """The same for the files of such networks, with norms as they are."""
    found = [run for run in runs if run.spec["norm_bits"] is None and is_coded(run.spec["parent"], bits, sections)]
    return at_ratio(found, lambda run: run.spec["parent"]["parent"], ratio)


def at_ratio(runs: list[Result], pruned_by: Callable[[Result], Mapping[str, Any]], ratio: float | None) -> list[Result]:
    least = min((pruned_by(run)["plan"]["density"] for run in runs), default=None)
    return [
        run for run in runs if (near(pruned_by(run)["plan"]["density"], ratio) if ratio else pruned_by(run)["plan"]["density"] == least)
    ]


@value
def coded_at(studies: Studies, ratio: float, bits: int, sections: int) -> list[float]:
    found = each_seed(coded(studies["quantize"], bits, sections, ratio), lambda run: run.metrics[TEST], f"{bits} bits")
    return there(found, f"network pruned to {ratio:g}× got codes of {bits} bits", studies["quantize"])


@value
def lost_by_codes(studies: Studies, bits: int, sections: int) -> list[float]:
    found = coded(studies["quantize"], bits, sections)
    with_codes = each_seed(found, lambda run: run.metrics[TEST], f"{bits} bits")
    before = pruned(studies, 1 / found[0].spec["parent"]["plan"]["density"]) if found else {}
    return difference(with_codes, before, studies["quantize"], studies["ratios"])


@value
def size_of_pruned(studies: Studies, ratio: float, structure: str = "unstructured") -> list[float]:
    runs = studies["files"]
    meant = (
        run
        for run in runs
        if run.spec["parent"].get("rest")
        and run.spec["parent"]["plan"]["structure"] == structure
        and near(run.spec["parent"]["plan"]["density"], ratio)
    )
    found = each_seed(meant, lambda run: run.metrics["weights_ratio"], f"file of {ratio:g}×")
    return there(found, f"file was written of a network pruned to {ratio:g}×", runs)


@value
def size_of_coded(studies: Studies, ratio: float, bits: int, sections: int) -> list[float]:
    found = each_seed(
        coded_files(studies["files"], bits, sections, ratio), lambda run: run.metrics["weights_ratio"], f"file of {bits} bits"
    )
    return there(found, f"file was written of a network pruned to {ratio:g}× with codes of {bits} bits", studies["files"])


@value
def real_share(studies: Studies, bits: int, sections: int) -> list[float]:
    coded_runs = coded_files(studies["files"], bits, sections)
    found = each_seed(coded_runs, lambda run: run.metrics["weights_ratio"] / run.metrics["claimed_ratio"], f"file of {bits} bits")
    return there(found, f"file was written with codes of {bits} bits", studies["files"])
