"""Where results come from, in words: the line below each figure."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib import ROOT
from lib.claims.mix import check_unmixed
from lib.data.titles import title
from lib.runs.results import Result
from lib.runs.spec import Spec

#: Results that a figure names; `python -m lib results` has them all.
NAMED = 48


def provenance_line(results: Iterable[Result]) -> str:
    """One line: how many results of what, seeds, devices, data, commit, torch.

    Raises :class:`lib.claims.mix.MixedData` when they were made from two variants of one data set.
    """
    results = list(results)
    check_unmixed(results)
    if not results:
        return "calculated, nothing measured"
    seen = {
        name: sorted({str(value) for value in values if value is not None})
        for name, values in {
            "experiment": [r.experiment for r in results],
            "device": [short(r.provenance["device"]) for r in results],
            "data": [data_name(r.provenance.get("data") or {}) for r in results],
            "commit": [commit_name(r.provenance) for r in results],
            "torch": [r.provenance.get("torch") for r in results],
        }.items()
    }
    count = f"{len(results)} result{'s' * (len(results) > 1)} of {', '.join(seen['experiment'])}"
    parts = [
        count,
        seeds(results),
        ", ".join(seen["device"]),
        ", ".join(seen["data"]),
        f"commit {', '.join(seen['commit'])}" if seen["commit"] else "no commit",
        f"torch {', '.join(seen['torch'])}",
    ]
    return " · ".join(part for part in parts if part)


def walk(results: Iterable[Result], commands: Mapping[str, Sequence[str]] = {}) -> dict[str, Any]:
    """The way back from a figure to what was run, as plain data for its page.

    ``commands``  by a result's name, those that run a study it is in

    Returns ``{"code": files of the functions that ran the results, "commands": few that run them all, "names": {experiment:
    names of results}, "more": how many results are not named}``.
    """
    results = list(results)
    found = sorted({(result.experiment, result.key) for result in results})
    code = {path for experiment in {experiment for experiment, _ in found} for path in files_of(experiment)}
    names: dict[str, list[str]] = {}
    for experiment, key in found[:NAMED]:
        names.setdefault(experiment, []).append(key)
    run = covering({result.key: commands.get(result.key, ()) for result in results})
    return {"code": sorted(code), "commands": run, "names": names, "more": max(0, len(found) - NAMED)}


def covering(commands: Mapping[str, Sequence[str]]) -> list[str]:
    """A few commands that together run every result that one of them runs: always the one next that runs most of the rest."""
    left, chosen = {key: set(own) for key, own in commands.items() if own}, []
    while left:
        counts = Counter(command for own in left.values() for command in sorted(own))
        chosen.append(counts.most_common(1)[0][0])
        left = {key: own for key, own in left.items() if chosen[-1] not in own}
    return sorted(chosen)


def files_of(experiment: str) -> set[str]:
    """Files, relative to the checkout, whose ``run`` makes results of an experiment; none where its code is not loaded."""
    found: set[str] = set()
    waiting: list[type[Spec]] = [Spec]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if getattr(cls, "experiment", None) == experiment:
            found.add(inspect.getfile(inspect.unwrap(cls.run)))
    root = f"{ROOT}/"
    return {path.removeprefix(root) for path in found if path.startswith(root)}


def seeds(results: Iterable[Result]) -> str:
    """Seeds of the runs; of what they were made from, where that is another run and more of its seeds are there."""
    drawn = [result.spec for result in results if "seed" in result.spec]
    own, parents = {spec["seed"] for spec in drawn}, {(spec.get("parent") or spec)["seed"] for spec in drawn}
    found = sorted(max(parents, own, key=len))
    if not found:
        return ""
    run = len(found) > 2 and found == list(range(found[0], found[-1] + 1))
    return f"seed{'s' * (len(found) > 1)} " + (f"{found[0]}–{found[-1]}" if run else ", ".join(map(str, found)))


def data_name(data: Mapping[str, Any]) -> str | None:
    """Return the title of a result's data set, and its variant in brackets; None for no data."""
    if not data:
        return None
    variant = data.get("variant")
    return f"{title(data['name'])} ({variant})" if variant and variant != data["name"] else title(data["name"])


def commit_name(provenance: Mapping[str, Any]) -> str | None:
    commit = provenance.get("commit")
    return commit and commit[:7] + (" with uncommitted changes" if provenance.get("dirty") else "")


def short(name: str) -> str:
    """A processor's name without trademark signs and clock rate."""
    return re.sub(r"\s+", " ", re.sub(r"\((R|TM)\)|\bCPU\b|@.*", " ", name)).strip()
