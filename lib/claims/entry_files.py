"""Files that people type: YAML lists of entries.  A slip is named by file and entry, in one line."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lib.system.checks import did_you_mean, require

#: Characters of something that is not an entry, in a message.
SHOWN = 40


class WrongEntry(ValueError):
    """A file of typed entries is not as it must be; the message names the file, the entry and what is wrong."""


def records(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a YAML list.  Raises :class:`WrongEntry` for anything else, with the line that YAML stumbles over.

    YAML's own reader keeps the last of two fields of one name, so an entry that lacks its ``-`` would replace the one before it.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        found = loader.construct_document(root) if root else None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else "somewhere"
        raise WrongEntry(f"{path.name}: {line}: {error.problem}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise WrongEntry(f"{path.name}: {' '.join(str(error).split())}") from error
    _refuse_twins(root, path.name)
    if not isinstance(found, list):
        raise WrongEntry(f"{path.name} is not a list of entries")
    for number, entry in enumerate(found, start=1):
        if not isinstance(entry, dict):
            raise WrongEntry(f"{path.name}: entry {number} has no fields: {entry!r:.{SHOWN}}")
    return found


def _refuse_twins(root: yaml.Node | None, file: str) -> None:
    """Raise :class:`WrongEntry` for the first entry of the list ``root`` in which a mapping, at any depth, has one key twice."""
    for number, entry in enumerate(root.value if isinstance(root, yaml.SequenceNode) else [], start=1):
        waiting, seen = [entry], set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen or not isinstance(node, yaml.CollectionNode):
                continue
            seen.add(id(node))  # an alias may lead back
            if isinstance(node, yaml.SequenceNode):
                waiting += node.value
                continue
            keys = set()
            for key, value in node.value:
                waiting.append(value)
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in keys:
                    raise WrongEntry(f"{file}: entry {number} has {key.value!r} twice, again in line {key.start_mark.line + 1}")
                keys.add(key.value)


def read_entries(path: Path, make: Callable[[Any], Any], key: str) -> dict[str, Any]:
    """Return what ``make`` makes of each entry of a YAML list, by the entry's ``key``.  Raises :class:`WrongEntry`."""
    found: dict[str, Any] = {}
    for number, entry in enumerate(records(path), start=1):
        name = entry.get(key)
        if not isinstance(name, str):
            raise WrongEntry(f"{path.name}: entry {number} has no {key!r}, which is a text")
        if name in found:
            raise WrongEntry(f"{path.name}: {name!r} is there twice")
        try:
            found[name] = make(entry)
        except KeyError as error:
            raise WrongEntry(f"{path.name}: {name!r}: it lacks {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise WrongEntry(f"{path.name}: {name!r}: {error}") from error
    return found


def fields_of(cls: type, entry: Any, name: str) -> Mapping[str, Any]:
    """Return ``entry`` if all its names are fields of the dataclass ``cls``.  Raises ValueError with the nearest field."""
    known = [field.name for field in dataclasses.fields(cls)]
    require(isinstance(entry, Mapping), f"{name} is {entry!r:.{SHOWN}}, and has the fields {', '.join(known)}")
    for given in map(str, entry):
        require(given in known, f"{name} has no field {given!r}.{did_you_mean(given, known)}")
    return entry


def function_of(subject: str, file: str, name: str) -> Callable[..., Any]:
    """Return the function of that name in ``lib/studies/<subject>/<file>.py``.  Raises :class:`WrongEntry` where there is none."""
    module = importlib.import_module(f"lib.studies.{subject}.{file}")
    if not hasattr(module, name):
        raise WrongEntry(f"claims.yml: lib/studies/{subject}/{file}.py has no function {name!r}.{did_you_mean(name, vars(module))}")
    return getattr(module, name)
