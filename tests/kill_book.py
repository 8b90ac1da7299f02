"""A whole book that is killed at random moments ends as one that was left alone: ``python tests/kill_book.py FOLDER``.

Everything happens in FOLDER: a clone of this checkout's last commit, and two folders of results.

1. The book is built undisturbed.
2. The same book is built with results of its own and killed (``kill -9``) ten times, at moments drawn over the whole of it, now the
   program alone, now all that it started; then it is let finish.
3. What was stored must agree in everything that is not a time, and nothing of it may be damaged or left over.
4. The book is built once more from what the killed one stored: pages and notebooks must be the same, byte for byte, but for the
   lines in which a chapter prints what it has just timed.

Exit status 0 and a summary, or 1 and what differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Numbers that a clock or the machine's memory gave, by the names that the book's results use for them.
MEASURED = re.compile(
    r"second|time|_ms|\bms|milli|latency|throughput|per_s\b|speed|flops_rate|gbps|bandwidth|memory|clock|faster|slower"
    r"|^(elastic-sampler-cost|moe-layer-cost|moe-step-cost|pruning-coarsen|pruning-speed|attention-\w+|benchmark-\w+|compressed|language-\w+)"
    r" \w+ metrics (\w+_)?ratio(_p\d+)?$|^elastic-search \w+ arrays budgets|^benchmark-scaling \w+ (arrays rows (share|grown|limit)|metrics unrest)|^attention-step .* share_"
)


#: What a chapter prints of a time that it takes on the spot, and never twice alike.
TIMED = re.compile(rb"[\d.]+ of the (?:whole network's )?time")


class Book:
    """The clone, and builds of it whose results go to one folder."""

    def __init__(self, folder: Path, scale: str, words: list[str]) -> None:
        self.root, self.scale, self.words = folder / "book", scale, words
        self.folder = folder

    def start(self, runs: str) -> subprocess.Popen:
        environment = os.environ | {
            "BOOK_RUNS": str(self.folder / runs),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.root), os.environ.get("PYTHONPATH")])),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "lib", "book", "--scale", self.scale, *self.words],
            cwd=self.root,
            env=environment,
            stdout=open(self.folder / "log", "ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def whole(self, runs: str) -> float:
        """Build it and let it end; returns the seconds.  Raises CalledProcessError."""
        begin, process = time.monotonic(), self.start(runs)
        if status := process.wait():
            raise subprocess.CalledProcessError(status, f"the book into {runs}, see {self.folder / 'log'}")
        return time.monotonic() - begin

    def clean(self) -> None:
        for name in ("_build", "_book"):
            shutil.rmtree(self.root / name, ignore_errors=True)

    def pages(self) -> dict[str, bytes]:
        """Every file of the rendered book and every executed notebook, by path."""
        places = [self.root / "_book", self.root / "_build" / self.scale / "chapters"]
        return {
            path.relative_to(self.root).as_posix(): TIMED.sub(b"", path.read_bytes())
            for place in places
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }

    def stored(self, runs: str) -> int:
        return sum(1 for _ in (self.folder / runs / "results").glob("*/*.json"))

    def results(self, runs: str) -> dict[str, dict]:
        found = {}
        for path in sorted((self.folder / runs / "results").rglob("*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            found[f"{content['experiment']} {content['key']}"] = {name: content[name] for name in ("spec", "metrics", "curves", "arrays")}
        return found


def killed(book: Book, runs: str, results: int, seconds: float, together: bool) -> bool:
    """Start the book and kill it so many new results and seconds later, with all that it started if ``together``; False where it ended first."""
    enough, process = book.stored(runs) + results, book.start(runs)
    until = None
    while process.poll() is None:
        if until is None and book.stored(runs) >= enough:
            until = time.monotonic() + seconds
        if until is not None and time.monotonic() > until:
            (os.killpg if together else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.05)
    return False


def differences(one: object, other: object, path: str = "") -> Iterator[str]:
    """Where two pieces of JSON data differ; numbers that a clock gave are passed over."""
    if MEASURED.search(path):
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from differences(one.get(name), other.get(name), f"{path} {name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for left, right in zip(one, other):
            yield from differences(left, right, path)
    elif one != other:
        yield f"{path}: {one!r:.40} and {other!r:.40}"


def left_over(folder: Path) -> list[str]:
    """Files that only a fault leaves behind: damaged ones, parts, training state of what is finished."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if ".damaged" in path.name or path.name.startswith(".") and path.is_file() or path.name == "state"
    ]


def compare(folder: Path, scale: str, kills: int, seed: int, words: list[str], finish: bool) -> list[str]:
    """Do all of it; returns what is wrong.  What was done in FOLDER by an earlier call is not done again.

    ``finish``  False: stop after the kills, to go on later
    """
    if not (folder / "book").exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "book")], check=True)
    book, moments, listed = Book(folder, scale, words), random.Random(seed), folder / "undisturbed.json"
    if not listed.exists():
        took = book.whole("undisturbed")
        listed.write_text(json.dumps({"results": book.stored("undisturbed"), "files": sorted(book.pages()), "seconds": round(took)}))
        book.clean()
    undisturbed = json.loads(listed.read_text())
    print(f"undisturbed: {undisturbed['results']} results, {len(undisturbed['files'])} files", flush=True)

    # Each kill falls a random number of new results later, so that together they fall all over the book, and behind its last result.
    for kill in range(kills):
        wait, seconds, together = moments.randint(0, 2 * undisturbed["results"] // max(1, kills)), moments.uniform(0, 5), kill % 2 == 0
        hit = killed(book, "killed", wait, seconds, together)
        print(
            f"kill {kill + 1}: {'after' if hit else 'it ended before'} {wait} new results and {seconds:.1f} s, "
            f"{'all processes' if together else 'the program alone'}; {book.stored('killed')} results are stored",
            flush=True,
        )
    if not finish:
        return []
    print(f"let finish: {book.whole('killed'):.0f} s", flush=True)
    killed_pages = book.pages()

    one, other = book.results("undisturbed"), book.results("killed")
    wrong = [f"results differ: {text}" for name in sorted(one.keys() & other.keys()) for text in differences(one[name], other[name], name)]
    wrong += [f"result is missing: {name}" for name in sorted(one.keys() - other.keys())]
    wrong += [f"left over: {name}" for name in left_over(folder / "killed")]
    if sorted(killed_pages) != undisturbed["files"]:
        wrong.append(f"other files: {sorted(set(killed_pages) ^ set(undisturbed['files']))[:10]}")
    book.clean()
    book.whole("killed")
    again = book.pages()
    wrong += [f"page differs: {name}" for name in sorted(again.keys() | killed_pages.keys()) if again.get(name) != killed_pages.get(name)]
    print(f"compared: {len(other)} results, {len(again)} files", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-kill", action="store_true", help="stop after the kills; another call goes on")
    parser.add_argument("words", nargs="*", help="further words for `python -m lib book`, behind --")
    given = parser.parse_intermixed_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    wrong = compare(given.folder.resolve(), given.scale, given.kills, given.seed, given.words, not given.only_kill)
    for kind in dict.fromkeys(text.partition(":")[0] for text in wrong):
        told = [text for text in wrong if text.startswith(f"{kind}:")]
        print(f"{len(told)} × {kind}", *told[:20], sep="\n  ")
    print("" if wrong else "killed" if given.only_kill else "the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
