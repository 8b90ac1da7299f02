"""Chapters as files: where they lie, what makes two of them the same, how they are written to git."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode

from lib import ROOT, __version__
from lib.book.filters import EXECUTED, repository_address, without_overwritten
from lib.studies import CHAPTERS, Chapter
from lib.system.whole_file import replacing

LABEL = re.compile(r"\{#([a-z]+-[\w-]+)[^}]*\}|^#\|\s*label:\s*[\"']?([a-z]+-[\w-]+)", flags=re.MULTILINE)

#: Tags of the cells that papermill adds: overriding parameters, and marks where an execution stopped.
ADDED = {"injected-parameters", "papermill-error-cell-tag"}


@dataclass(frozen=True)
class Project:
    """A book: its folder and its chapters."""

    root: Path = ROOT
    chapters: tuple[Chapter, ...] = CHAPTERS

    def source(self, chapter: Chapter) -> Path:
        """The committed notebook of a chapter."""
        return self.root / "chapters" / f"{chapter.slug}.ipynb"

    def build(self, name: str) -> Path:
        """Folder for what is made of the book; ``name`` is a scale, or "edition"."""
        return self.root / "_build" / name

    @property
    def book(self) -> Path:
        """Folder of the rendered book."""
        return self.root / "_book"


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def write(notebook: NotebookNode, path: Path) -> None:
    with replacing(path, movable=None) as part:
        nbformat.write(notebook, part)


def code_hash(notebook: NotebookNode) -> str:
    """16 hex digits over the code that made the outputs.

    Lines of cell options (``#| fig-cap: …``) and injected parameters do not count: captions may be
    improved without executing a chapter again.
    """
    code = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and not ADDED & tags(cell):
            code.append("\n".join(line for line in cell.source.splitlines() if not line.startswith("#|")))
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]


def page_hash(chapter: Chapter) -> str | None:
    """Return 16 hex digits over the library's files that make the chapter's tables and sentences; None where there are none.

    They are ``page.py``, ``page_….py`` and the folder ``page`` beside the chapter's studies: code that could stand in its cells.
    """
    folder = ROOT / "lib" / "studies" / chapter.subject
    files = sorted([*folder.glob("page*.py"), *folder.glob("page/*.py")])
    texts = [(path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")) for path in files]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16] if texts else None


def is_stale(stamp: dict[str, Any], notebook: NotebookNode, chapter: Chapter) -> bool:
    """Return whether a stamp is of other code than the notebook's cells and the chapter's page files hold now."""
    return stamp.get("code") != code_hash(notebook) or stamp.get("page") != page_hash(chapter)


def finished(notebook: NotebookNode, chapter: Chapter, parameters: dict[str, Any], root: Path) -> NotebookNode:
    """An executed notebook as it is stored: clean, and stamped with what it was made from.

    What differs between two equal runs goes (times, random cell ids, paths of this machine, progress bars).
    The cell that papermill injected goes too, or later runs of the chapter would inherit its values;
    the stamp keeps them, and an output of the parameters cell tells them to those who open the notebook.
    """
    cells = [cell for cell in notebook.cells if not ADDED & tags(cell)]
    know_address(cells, repository_address(root / "_variables.yml"))
    count = 0
    for cell in cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if not tags(cell):
            cell.metadata.pop("tags", None)
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = [clean_output(output, count, root) for output in joined_streams(cell)]
        if "parameters" in tags(cell):
            cell.outputs = [executed_with(parameters), *(output for output in cell.outputs if EXECUTED not in output.get("metadata", {}))]
    name_cells(cells)
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "book": {
            "chapter": chapter.slug,
            "code": code_hash(notebook),
            "lib": __version__,
            "parameters": parameters,
            "scale": parameters["scale"],
        },
    }
    if page := page_hash(chapter):
        metadata["book"]["page"] = page
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def executed_with(parameters: dict[str, Any]) -> NotebookNode:
    """The output of the parameters cell that says what the outputs below it were made with; running the cell replaces it."""
    told = ", ".join([f"scale {parameters['scale']}", *(f"{name} {value!r}" for name, value in parameters.items() if name != "scale")])
    return nbformat.v4.new_output("display_data", {"text/plain": f"Executed at {told}."}, metadata={EXECUTED: True})


def with_injected(cells: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The cells as papermill counts them: behind the parameters comes the cell with those it was given."""
    names = [tags(cell) for cell in cells]
    if any("injected-parameters" in found for found in names):
        return list(cells)
    where = next((index + 1 for index, found in enumerate(names) if "parameters" in found), 0)
    injected = nbformat.v4.new_code_cell(metadata={"tags": ["injected-parameters"]})
    return [*cells[:where], injected, *cells[where:]]


def know_address(cells: Iterable[NotebookNode], repository: str) -> None:
    """Put the repository's address into the cell tagged ``colab``, which fetches the book when Colab runs it."""
    for cell in cells:
        if "colab" in tags(cell):
            cell.source = re.sub(r'^_repository = ".*?"', f'_repository = "{repository}"', cell.source, flags=re.MULTILINE)


def joined_streams(cell: NotebookNode) -> list[NotebookNode]:
    """The cell's outputs, printed text in one piece wherever the kernel happened to send it in several."""
    return CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)[0].outputs


def clean_output(output: NotebookNode, count: int, root: Path) -> NotebookNode:
    if output.output_type == "execute_result":
        output.execution_count = count
    if output.output_type == "stream":
        output.text = without_overwritten(output.text)
    return nbformat.from_dict(without_paths(output, root))


def without_paths(value: Any, root: Path) -> Any:
    """``value`` with the folder of this checkout taken out of each string, and the home folder shortened."""
    if isinstance(value, str):
        return value.replace(f"{root}/", "").replace(str(root), ".").replace(f"{Path.home()}/", "~/")
    if isinstance(value, dict):
        return {key: without_paths(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item, root) for item in value]
    return value


def name_cells(cells: Iterable[NotebookNode]) -> None:
    """Keep the ids cells have; a missing or repeated one is replaced by a hash of the cell's source."""
    seen: set[str] = set()
    for cell in cells:
        name = cell.get("id") or hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        base, copies = name, 1
        while name in seen:
            copies += 1
            name = f"{base}-{copies}"
        seen.add(name)
        cell["id"] = name


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def labels(notebook: NotebookNode) -> list[str]:
    """Labels the chapter defines: ``{#sec-moe}``, ``#| label: fig-moe-load``."""
    return [label for cell in notebook.cells for label in labels_of(cell)]


def labels_of(cell: NotebookNode) -> list[str]:
    """Labels that one cell defines, in order."""
    return [a or b for a, b in LABEL.findall(cell.source)]


def repeated_labels(notebooks: dict[str, NotebookNode]) -> list[str]:
    """Labels that more than one place defines.  Quarto would silently refer to the last of them."""
    places: dict[str, list[str]] = {}
    for name, notebook in notebooks.items():
        for label in labels(notebook):
            places.setdefault(label, []).append(name)
    return [
        f"label {label} is defined {len(where)} times ({', '.join(sorted(set(where)))})"
        for label, where in places.items()
        if len(where) > 1
    ]
