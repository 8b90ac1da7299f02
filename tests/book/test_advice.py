"""Advice stands only where its claim's verdict holds it up; the box names the value and leads to the ledger."""

import json
import re

import pytest

from conftest import ROOT
from lib.book.advice import Advice, box
from lib.book.page import chip
from lib.claims.entries import claims, find
from lib.claims.judge import Verdict
from lib.measure.statistics import Estimate

CLAIM = "switch-quality"


def judged(verdict, estimate=Estimate(0.02, 0.01, 0.03, 3)):
    return lambda claim_id: Verdict(find(claim_id), verdict, "Why.", estimate)


def test_advice_is_shown_with_its_value_while_the_verdict_holds_it_up():
    piece = Advice("Use it: it gains {}.", CLAIM)
    for verdict in ("reproduced", "weaker"):
        text = box([piece], judged(verdict), chip)
        assert "Use it: it gains +2.00 ± 1.00 points (n=3)." in text and f"#claim-{CLAIM}" in text and text.startswith("<div")
    assert "gains 2.00 ± 1.00" in box([Advice("Use it: it gains {abs}.", CLAIM)], judged("reproduced"), chip), (
        "the words have the direction"
    )
    for verdict in ("not seen", "undecided", "not testable"):
        assert box([piece], judged(verdict), chip) == ""
    assert box([piece], judged("reproduced", None), chip) == "", "without a value nothing is advised"
    assert box([Advice("Leave it.", CLAIM, ("not seen",))], judged("not seen"), chip).count("**In practice.** Leave it.") == 1


def test_what_could_not_be_tested_holds_nothing_up():
    with pytest.raises(ValueError, match="holds no advice up"):
        Advice("Use it.", CLAIM, ("not testable",))
    with pytest.raises(ValueError, match="no verdict proven"):
        Advice("Use it.", CLAIM, ("proven",))


def test_chapters_advise_by_claims_of_their_own():
    found = 0
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        code = "".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code")
        for claim_id in re.findall(r'Advice\([^)]*?"([a-z0-9-]+)"(?:, \(|\))', code, flags=re.DOTALL):
            assert claim_id in claims(), claim_id
            found += 1
    assert found >= 15


#: Where the first is advised, what the second found stands in the same box: alone the first says more than was found.
TOGETHER = {"llamapro-keeps": "llamapro-old-loss", "autorep-hysteresis": "autorep-hysteresis-accuracy"}


def test_advice_that_would_say_too_much_stands_beside_what_limits_it():
    boxes = [
        re.findall(r'Advice\([^)]*?"([a-z0-9-]+)"(?:, \(|\))', "".join(cell["source"]), flags=re.DOTALL)
        for path in sorted((ROOT / "chapters").glob("*.ipynb"))
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    for first, second in TOGETHER.items():
        assert any(first in found for found in boxes) and all(second in found for found in boxes if first in found), first


def test_of_several_tasks_those_that_count_are_named():
    claim = find(CLAIM)
    decided, other = Verdict(claim, "reproduced", "Why.", Estimate(0.02, 0.01, 0.03, 3)), Verdict(claim, "not testable", "Why not.")
    whole = Verdict(claim, "reproduced", "Why.", decided.estimate, {"reviews": decided, "questions": other})
    told = box([Advice("It gains {}, or {abs}.", CLAIM)], lambda claim_id: whole, chip)
    assert "It gains +2.00 ± 1.00 points (n=3) (reviews), or 2.00 ± 1.00 points (n=3) (reviews)." in told
    both = Verdict(claim, "reproduced", "Why.", decided.estimate, {"reviews": decided, "questions": decided})
    assert "(reviews) and +2.00" in box([Advice("It gains {}.", CLAIM)], lambda claim_id: both, chip)
