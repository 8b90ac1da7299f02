"""``python -m lib doctor``: one screen about this machine, to look at first when something does not work."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import lib
from lib import ROOT
from lib.data.images import find_data
from lib.data.sentences import find_sentences
from lib.data.sst2 import find_reviews
from lib.data.text import find_text
from lib.models.pretrained_files import find_pretrained
from lib.runs.store import Store
from lib.system import device as devices
from lib.system.precision import bf16_units

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def report() -> None:
    console = Console()
    for title, lines in (("This machine", machine()), ("Tools", tools()), ("Data sets", data_sets()), ("Stored results", stores())):
        table = Table.grid(padding=(0, 2))
        for name, found in lines:
            table.add_row(f"  {escape(name)}", escape(found))
        console.print(f"[bold]{title}[/bold]")
        console.print(table)


def machine() -> list[tuple[str, str]]:
    best = devices.describe(devices.pick())
    memory = f", {best['memory_bytes'] / 2**30:.0f} GiB" if best["memory_bytes"] else ""
    gpus = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return [
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()} ({sys.executable})"),
        ("lib", f"{lib.__version__} in {ROOT}"),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        ("bfloat16", bfloat16()),
        ("CUDA", gpus or "no GPU: the gpu scale is replayed, not run"),
        ("MPS", "yes" if torch.backends.mps.is_available() else "no"),
        ("chosen device", f"{best['type']}: {best['name']}{memory}"),
        ("free disk", f"{shutil.disk_usage(ROOT).free / 2**30:.0f} GiB"),
    ]


def bfloat16() -> str:
    """Say what this processor computes bfloat16 with, and what that means for the hours of an edition."""
    units = bf16_units(torch.device("cpu"))
    if units is None:
        return "no units: scale cpu computes in fp32, 3 to 6 times as long"
    return f"{units}: scale cpu computes in it"


def tools() -> list[tuple[str, str]]:
    try:
        from lib.book.render import find_quarto  # needs the packages that render

        quarto, problem = find_quarto()
    except ImportError as error:
        quarto, problem = None, f"not looked for ({error}; pip install -e '.[book]')"
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    return [
        ("Quarto", quarto or f"{problem}: without it the book is a plain preview"),
        ("Chromium", browser or "not found: the tests of the rendered pages are skipped"),
        ("git", "found" if shutil.which("git") else "not found: results are stored without their commit"),
    ]


def data_sets() -> list[tuple[str, str]]:
    folder = os.environ.get("BOOK_DATA")
    rows = [("BOOK_DATA", folder or "not set")]
    for entry in find_data() + find_text() + find_reviews() + find_sentences() + find_pretrained():
        notes = ", ".join(str(v) for k, v in entry.items() if k not in ("name", "found", "where") and v)
        place = f"in {entry['where']}" if entry["where"] else ""
        rows.append((entry["name"], "  ".join(filter(None, [place, notes])) if entry["found"] else f"missing  {notes}"))
    return rows


def stores() -> list[tuple[str, str]]:
    store = Store.default()
    try:
        store.check_writable()
        state = ""
    except PermissionError as error:
        state = f"; {error}"
    return [
        ("reference edition", f"{count(store.reference)} in {store.reference}"),
        ("your own runs", f"{count(store.own / 'results')} in {store.own}{state}"),
    ]


def count(folder: Path) -> int:
    return len(list(folder.glob("*/*.json")))
