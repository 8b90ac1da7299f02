"""The latency model: each of its parts by itself, and which part decides where."""

import pytest

from lib.privacy.latency import LINKS, Link


def test_each_part_is_charged_once():
    link = Link("a link", bandwidth=1e6, round_trip=0.05)
    assert link.seconds(compute=2.0, sent=0, rounds=0) == pytest.approx(2.0)
    assert link.seconds(compute=0.0, sent=3_000_000, rounds=0) == pytest.approx(3.0)
    assert link.seconds(compute=0.0, sent=0, rounds=10) == pytest.approx(0.5)
    assert link.seconds(2.0, 3_000_000, 10) == pytest.approx(5.5)


def test_far_apart_waiting_costs_more_than_sending_a_small_query():
    near, far = LINKS
    waiting = far.seconds(0, 0, 80) / near.seconds(0, 0, 80)
    sending = far.seconds(0, 1e6, 0) / near.seconds(0, 1e6, 0)
    assert waiting > sending > 1
