"""The claim ledger: what a paper says, and whether our runs bear it out.

``data/claims.yml`` holds the claims, ``data/papers.yml`` the papers.  How a claim's values come out of results is declared there,
see :mod:`lib.claims.declared`; what must hold before they mean anything is a function in ``lib/studies/<subject>/needs.py``.
This module reads the values, asks for the needs and lets :mod:`lib.claims.verdict` decide: a verdict is computed from results, never typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lib.claims.entries import Claim, Studies, Values, find
from lib.claims.mix import MixedData, check_unmixed
from lib.claims.verdict import MARKS, ORDER, decide, in_unit, seeds_to_decide
from lib.data.titles import title
from lib.measure.statistics import UNITS, Estimate, NotTestable, exactly, items_alone, student, why
from lib.runs.results import Results

#: The fewest that give an interval worth the name.
SEEDS = 3

#: Instead of a verdict, for what holds by construction.
IDENTITY = "holds by construction"


@dataclass(frozen=True)
class Verdict:
    """What :func:`judge` found; ``text`` says why.

    ``parts``  verdicts by task, data set or family, where the claim is judged on several; ``estimate`` is then that of the part
               which decided
    ``seeds``  how many would decide what is undecided; None where no number that could be run would
    """

    claim: Claim
    verdict: str
    text: str
    estimate: Estimate | None = None
    parts: Mapping[str, Verdict] = field(default_factory=dict)
    seeds: int | None = None

    @property
    def decided(self) -> Estimate | None:
        """The estimate that the verdict rests on; None where nothing could be tested."""
        return None if self.verdict == "not testable" else self.estimate

    @property
    def n(self) -> int:
        return self.decided.n if self.decided else 0

    @property
    def mean(self) -> float | None:
        return self.decided.mean if self.decided else None

    @property
    def low(self) -> float | None:
        return self.decided.low if self.decided else None

    @property
    def high(self) -> float | None:
        return self.decided.high if self.decided else None

    @property
    def marked(self) -> str:
        return f"{MARKS.get(self.verdict, '≡')} {self.verdict}"

    @property
    def measured(self) -> str:
        """The mean with its interval and n in the claim's unit, by part where there are several; a dash when nothing was measured."""
        if self.parts:
            return "; ".join(f"{name} {part.measured}" for name, part in self.parts.items())
        return UNITS[self.claim.unit](self.estimate) if self.estimate else "–"

    @property
    def shown(self) -> str:
        """What stands beside the mark: the value, or why there is none that counts."""
        return self.text if self.verdict == "not testable" else self.measured


class Named(dict[str, Results]):
    """The studies that a claim names; looking up another raises a KeyError that says what to add."""

    def __init__(self, claim: Claim, studies: Studies):
        super().__init__(studies)
        self.claim = claim

    def __missing__(self, name: str) -> Results:
        raise KeyError(f"claim {self.claim.id} reads study {name!r}, by its values or its needs: add it to the claim's `study`")


def judge(claim_id: str | Claim, results_by_study: Studies) -> Verdict:
    """Compare one claim with results.

    results_by_study must hold every study the claim reads (KeyError otherwise); a study may be empty.  Results of two
    variants of one data set decide nothing.
    """
    claim = claim_id if isinstance(claim_id, Claim) else find(claim_id)
    studies = Named(claim, {name: results_by_study[name] for name in claim.study})
    if not any(len(results) for results in studies.values()):
        return Verdict(
            claim, "not testable", f"Nothing of it was run yet: no result of {' or '.join(claim.study)}{why(*studies.values())}."
        )
    if reason := mixed_data(studies):
        return Verdict(claim, "not testable", reason)
    try:
        check_unmixed(result for results in studies.values() for result in results)
        found = claim.function()(studies)
    except (NotTestable, MixedData) as reason:
        return Verdict(claim, "not testable", sentence(str(reason)))
    if isinstance(found, Mapping):
        verdict = together(
            claim, {str(name): of_values(claim, values, tested_items(claim, studies, str(name)), studies) for name, values in found.items()}
        )
    else:
        verdict = of_values(claim, found, tested_items(claim, studies), studies)
    try:
        for need in claim.needs:
            need.check(claim.subject, studies)
    except NotTestable as reason:
        seen = f" What was measured all the same: {verdict.measured}." if verdict.estimate else ""
        return Verdict(claim, "not testable", sentence(str(reason)) + seen, verdict.estimate, verdict.parts)
    return verdict


def mixed_data(studies: Studies) -> str | None:
    """Return why results cannot be compared that were made from two variants of one data set; None where there is one of each."""
    variants: dict[str, set[str]] = {}
    for results in studies.values():
        for result in results:
            if (data := result.provenance.get("data", {})).get("variant"):
                variants.setdefault(data["name"], set()).add(data["variant"])
    return next(
        (
            f"Results of two variants of {title(name)} cannot be compared: {'; '.join(sorted(found))}. Run the older ones again."
            for name, found in variants.items()
            if len(found) > 1
        ),
        None,
    )


def tested_items(claim: Claim, studies: Studies, part: str | None = None) -> int | None:
    """Return how many items the claim's accuracies are of, the fewest where studies differ; None where it is about no accuracies.

    ``part``  the task or data set that is judged: results of it alone count, where any bears its name
    """
    if not claim.items:
        return None
    data = [result.provenance.get("data", {}) for results in studies.values() for result in results]
    own = [one for one in data if part and part in (name := one.get("name", ""), title(name))]
    return min((one[claim.items] for one in own or data if isinstance(one.get(claim.items), int)), default=None)


def of_values(claim: Claim, values: Values | NotTestable, items: int | None, studies: Studies) -> Verdict:
    """Judge one list of values, or the interval that the claim's function made of them itself."""
    if isinstance(values, NotTestable):
        return Verdict(claim, "not testable", sentence(str(values)))
    if isinstance(values, Estimate):
        half = values.half_width if values.over_seeds is None else values.over_seeds
        seeds = values if half is None else replace(values, low=values.mean - half, high=values.mean + half)
        return told(claim, values, seeds_to_decide(seeds, claim.criterion, values.of_items))
    values = tuple(float(value) for value in values)
    if not values:
        return Verdict(claim, "not testable", f"No value of {claim.values}{why(*studies.values())}.")
    try:
        seeds = exactly(values) if claim.exact else student(values)
    except ValueError as error:
        raise ValueError(f"claim {claim.id}: {claim.values} returned something else than finite numbers: {error}") from error
    if claim.exact or claim.identity:
        return told(claim, seeds)
    if len(values) > 1 and len(set(values)) == 1:
        return Verdict(
            claim,
            "undecided",
            f"All {len(values)} runs gave the same value: without a spread there is no interval.",
            Estimate(seeds.mean, None, None, seeds.n),
        )
    estimate, least = items_alone(seeds, items)
    return told(claim, estimate, seeds_to_decide(seeds, claim.criterion, least), items if estimate != seeds else None)


def told(claim: Claim, estimate: Estimate, seeds: int | None = None, items: int | None = None) -> Verdict:
    """Return the verdict on this interval, with the sentence that says why.

    ``seeds``  how many would decide, None where no number would; ``items``: how many were tested, where they make it wider
    """
    asked = claim.criterion.spelled(claim.unit)
    verdict = decide(estimate, claim.criterion, claim.no_effect)
    if claim.identity:
        held = claim.criterion.met_by(estimate.mean)
        return Verdict(
            claim,
            IDENTITY if held else "not seen",
            f"{sentence(claim.identity)} {'It does' if held else 'It does not, which is a fault of the code'}.",
            estimate,
        )
    none = "" if claim.no_effect is None else in_unit(claim.no_effect, claim.unit)
    text = {
        "reproduced": f"The {'exact value' if claim.exact else 'whole interval'} is {asked}.",
        "weaker": f"The whole interval is on the claim's side of no effect ({none}), and none of it {asked}.",
        "not seen": f"None of the interval is {asked}{f', and it is not on the claim’s side of no effect ({none})' if none else ''}.",
        "undecided": f"The interval contains the criterion, {asked}.",
    }[verdict]
    if verdict == "undecided":
        if estimate.low is None:
            seeds = SEEDS
            text = f"One run gives no interval; three seeds are the least. It is {'' if claim.criterion.met_by(estimate.mean) else 'not '}{asked}."
        elif seeds:
            text += f" If mean and spread stayed as they are, {seeds} seeds would decide."
        else:
            text += " No number of seeds that could be run would decide, if mean and spread stayed as they are."
    if items:
        text += f" The {items:,} test items, which all seeds share, make the interval wider."
    if claim.goal:
        text += f" The book's own goal, {claim.goal.spelled(claim.unit)}, is {'' if claim.goal.met_by_all_of(estimate) else 'not '}met."
    return Verdict(claim, verdict, text, estimate, seeds=seeds if verdict == "undecided" else None)


def together(claim: Claim, parts: Mapping[str, Verdict]) -> Verdict:
    """Return the verdict on a claim that is judged part by part, and whether the parts agree.

    It is that of the least favourable part, or of the most favourable one where the claim is about one of several (``parts: any``).
    """
    tested = {name: part for name, part in parts.items() if part.verdict != "not testable"}
    texts = " ".join(f"{sentence(name).rstrip('.')}: {part.verdict}. {part.text}" for name, part in parts.items())
    if not tested:
        return Verdict(claim, "not testable", texts or f"No value of {claim.values}.", parts=parts)
    pick, which = (max, "most") if claim.parts == "any" else (min, "least")
    deciding = pick(tested.values(), key=lambda part: ORDER.index(part.verdict))
    agree = "" if len({part.verdict for part in tested.values()}) == 1 else f"The parts disagree, and the {which} favourable one decides. "
    return Verdict(claim, deciding.verdict, agree + texts, deciding.estimate, tested if len(parts) == 1 else parts, deciding.seeds)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
