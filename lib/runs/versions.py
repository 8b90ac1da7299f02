"""Which versions a number was made with: those of ``requirements.lock``, or others."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import metadata

from lib import ROOT

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


@functools.cache
def lock() -> str | None:
    """Return a short sha256 of ``requirements.lock`` where every package here that it pins has that version, else None.

    A local part of a version ("+cpu") counts for nothing; packages that are not installed were not used.
    """
    path = ROOT / "requirements.lock"
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    here = {plain(package.metadata["Name"]): package.version for package in metadata.distributions() if package.metadata["Name"]}
    pinned: dict[str, set[str]] = {}  # a package may be pinned once per platform
    for name, version in PINNED.findall(text):
        pinned.setdefault(plain(name), set()).add(version.partition("+")[0])
    if any(here[name].partition("+")[0] not in versions for name, versions in pinned.items() if name in here):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(name: str) -> str:
    """One spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
