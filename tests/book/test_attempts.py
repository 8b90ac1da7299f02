"""The log of what did not work: its values are the claims' own."""

import re

import pytest

from lib.book.attempts import VALUE, log, read_attempts
from lib.book.ledger import entries
from lib.runs.store import Store


def test_values_in_the_log_are_those_of_the_ledger():
    attempts = read_attempts()
    committed = entries("smoke", Store(Store.default().reference, Store.default().reference / "none"))
    text = log(attempts, committed)
    assert not VALUE.search(re.sub(r"\{[.#][^}]*\}", "", text))
    by_id = {entry.claim.id: entry for entry in committed}
    named = [name for attempt in attempts for name in VALUE.findall(attempt.found)]
    assert named
    for name in named:
        best = by_id[name].best
        assert f"[{best.measured if best and best.estimate else 'not measured yet'}](#claim-{name})" in text


@pytest.mark.parametrize(
    "text, told",
    [
        ("- {date: 2026-01-01, subject: moe, tried: a, found: 'b {switch-qualty}'}", "switch-quality"),
        ("- {date: 2026-01-01, subject: moo, tried: a, found: b}", "moe"),
        ("- {date: yesterday, subject: moe, tried: a, found: b}", "2026-11-22"),
        ("- {date: 2026-01-01, subject: moe, tried: a}", "found"),
    ],
)
def test_a_wrong_entry_says_what_to_mend(tmp_path, text, told):
    path = tmp_path / "attempts.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        read_attempts(path)
