"""What an edition consists of: ``data/editions/<date>-<device>.json``, one file per reference scale, written by ``make edition``.

A manifest names every committed result of its scale by experiment and key, says how many the chapters ask for, and has the
devices, versions, data variants and commits that the results come from.  Its date is that of the newest result.
``python -m lib results --scale gpu`` lists what is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lib.claims.origin import short
from lib.runs.results import Result
from lib.runs.scales import REFERENCE_SCALES
from lib.runs.spec import Spec
from lib.runs.store import Store
from lib.studies import Chapter
from lib.system.whole_file import write_text

#: What of the provenance tells editions apart, in the manifest's words.
VERSIONS = ("python", "torch", "cuda", "platform")


def write_manifests(folder: Path, chapters: Sequence[Chapter], store: Store) -> list[Path]:
    """One manifest per reference scale that has results, in place of the scale's older ones; returns their paths."""
    written = []
    for scale in REFERENCE_SCALES:
        made = manifest(scale, chapters, store)
        if made is None:
            continue
        path = folder / f"{made['date']}-{made['name']}.json"
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        write_text(text, path)
        for older in folder.glob("*.json"):
            if older != path and json.loads(older.read_text(encoding="utf-8"))["scale"] == scale:
                older.unlink()
        written.append(path)
    return written


def manifest(scale: str, chapters: Sequence[Chapter], store: Store) -> dict[str, Any] | None:
    """The manifest of a scale; None where no result of it is committed.

    A few Specs, of exact calculations, are the same at all scales: without any result from a GPU there is no edition ``gpu``.
    """
    parts, found = [], []
    for chapter in chapters:
        if chapter.summarises:
            continue
        specs = specs_of(chapter, scale)
        there = [result for spec in specs if (result := store.get_reference(spec))]
        found += there
        parts.append(
            {"chapter": chapter.number, "subject": chapter.subject, "wanted": len(specs), "stored": len(there), "results": keys(there)}
        )
    if not found or scale == "gpu" and all(result.provenance["device_type"] == "cpu" for result in found):
        return None
    devices = sorted({short(result.provenance["device"]) for result in found})
    return {
        "scale": scale,
        "name": device_name(devices[0]) if scale == "gpu" else scale,
        "date": max(result.provenance["started"] for result in found)[:10],
        "devices": devices,
        "versions": {name: sorted({str(result.provenance.get(name)) for result in found}) for name in VERSIONS},
        "data": data_of(found),
        "commits": sorted({str(result.provenance.get("commit")) for result in found}),
        "uncommitted_changes": sum(bool(result.provenance.get("dirty")) for result in found),
        "chapters": parts,
    }


def specs_of(chapter: Chapter, scale: str) -> list[Spec]:
    """Every Spec behind the chapter at ``scale``, each once."""
    studies = chapter.module.studies(chapter.module.Parameters(scale=scale))
    return list(dict.fromkeys(spec for specs in studies.values() for spec in specs))


def keys(runs: Iterable[Result]) -> dict[str, list[str]]:
    """Their keys by experiment: the names of their files."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.experiment, []).append(run.key)
    return {experiment: sorted(names) for experiment, names in sorted(found.items())}


def data_of(results: Iterable[Result]) -> list[dict[str, str]]:
    """The data sets by name, variant and fingerprint, each once."""
    seen = {
        tuple(data.get(part) for part in ("name", "variant", "fingerprint"))
        for result in results
        if (data := result.provenance.get("data"))
    }
    return [dict(zip(("name", "variant", "fingerprint"), one)) for one in sorted(seen, key=str)]


def device_name(device: str) -> str:
    """``h200`` for "NVIDIA H200": what an edition's file is called by."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower().replace("nvidia", "")).strip("-")
