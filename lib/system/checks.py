"""Refusing a wrong value with a message that says what is right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def require(holds: object, message: str) -> None:
    """Raise ValueError with ``message`` unless ``holds``."""
    if not holds:
        raise ValueError(message)


def one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raise ValueError, listing what is allowed, unless ``value`` is."""
    allowed = list(allowed)
    require(value in allowed, f"{name} is {value!r}: use one of {', '.join(map(repr, allowed))}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'laptop'?"`` for a misspelt name; empty when no known one is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
