"""Keep results of two variants of one data set apart: what is shown or judged together was made from the same data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lib.data.images import DATA_NAMES
from lib.data.titles import title
from lib.runs.results import Result


class MixedData(RuntimeError):
    """Results that were made from different variants of one data set stand together; the message names them."""


def check_unmixed(results: Iterable[Result]) -> None:
    """Raise :class:`MixedData` when two of ``results`` were made from different data that has the same name.

    Different data sets may be compared.  Results that record no data pass.
    """
    first: dict[tuple[str, ...], tuple[str, Result]] = {}
    for result in results:
        for of, value in marks(result.provenance.get("data") or {}):
            known, other = first.setdefault(of, (value, result))
            if known != value:
                raise MixedData(
                    f"results of two variants of {title(of[0])} stand together: {told(other)} and {told(result)}. Run those of the "
                    "one variant again on the other (`-p recompute True` runs all of a chapter again on the data at hand)"
                )


def marks(data: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield pairs (of what, value): where two results speak of the same thing, the values must be equal."""
    if not data:
        return
    name, settings = data["name"], {key: value for key, value in data.items() if key not in ("name", "variant", "fingerprint")}
    if name in DATA_NAMES:  # the fingerprint is that of all images, however many of them a run uses
        yield (name,), data.get("fingerprint", "")
        return
    # A fingerprint of text changes with the vocabulary and with how much of the text is used; the variant does not.
    # Its translations (", in Pig Latin") are compared with it on purpose.
    variant = data.get("variant", "")
    yield (name,), variant.partition(", in ")[0]
    yield (name, variant, *sorted(settings.items())), data.get("fingerprint", "")


def told(result: Result) -> str:
    """Return what names one result and its data."""
    data = result.provenance["data"]
    return f"{result.experiment}/{result.key} ({data.get('variant')}, {data.get('fingerprint')})"
