"""The private-inference chapter's sentences on which networks were run here, and which of the papers' were not."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lib.runs.results import Result
from lib.studies.privacy.names import method

#: The papers' budgets, in thousands of ResNet-18's 557 thousand ReLUs, and the share of all that each is.
THOUSANDS = {0.18: "100", 0.045: "25", 0.023: "12.9", 0.011: "6"}

#: Rows of the table of budgets besides those with trained coefficients and learnt masks: the end of their names, and what they are.
ARMS = {
    ", fixed": "Fixed coefficients follow the running statistics and are not trained.",
    "as released": "DaPa as released begins at the coefficients of the authors' code.",
}

#: What a network without any ReLU is.
NONE_LEFT = "At 0 % there is no ReLU left: a network of straight lines is then one linear map."

#: Controls of learnt masks.
MASKS = {
    "random": "*random* masks have them at random positions of the whole network from the first step on",
    "shuffled": "*shuffled* ones have as many in each layer as were learnt, at random positions of it",
}


def listed(words: Collection[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def per_cent(shares: Iterable[float]) -> str:
    """Return shares as ``18 and 4.5 per cent``."""
    return f"{listed([f'{100 * share:g}' for share in shares])} per cent"


def budgets_told(shares: Collection[float]) -> str:
    """Return which shares of the ReLUs stay, which of the papers' budgets those are, and which of these were not run; "" for none."""
    if not shares:
        return ""
    papers, others = [share for share in THOUSANDS if share in shares], [share for share in THOUSANDS if share not in shares]
    thousands, missing = ([THOUSANDS[share] for share in some] for some in (papers, others))
    told = f"Budgets are {per_cent(shares)} of the ReLUs."
    if papers:
        told += f" The papers' {listed(thousands)} thousand of ResNet-18's 557 thousand are {per_cent(papers)}."
    if others:
        told += f" Their budgets of {listed(missing)} thousand, {per_cent(others)}, were not run here."
    return told


def arms_told(polynomials: Iterable[Result], without: Collection[Result]) -> str:
    """Return what the table's rows and its column without ReLUs are, and which of them were not run."""
    names = {method(run) for run in polynomials}
    there = {end: any(name.endswith(end) for name in names) for end in ARMS}
    told = [ARMS[end] for end in ARMS if there[end]] + [NONE_LEFT] * bool(without)
    kinds = {", fixed": "fixed coefficients", "as released": "the released code's coefficients"}
    lacking = [kinds[end] for end in ARMS if not there[end]] + ([] if without else ["networks without any ReLU"])
    return " ".join([*told, *([f"Not run here: {listed(lacking)}."] if lacking else [])])


def masks_told(masks: Iterable[Result]) -> str:
    """Return which controls the learnt masks have, and which of them were not run."""
    there = {run.spec["masks"] for run in masks}
    told, lacking = [MASKS[name] for name in MASKS if name in there], [MASKS[name] for name in MASKS if name not in there]
    parts = [("The controls: ", told), ("Not run here: ", lacking)]
    return " ".join(f"{begun}{'; '.join(some)}." for begun, some in parts if some)
