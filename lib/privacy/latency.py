"""How long two parties wait for an answer: a model of computing, sending and waiting, with measured numbers in it.

A protocol computes, sends bytes, and waits for messages that depend on one another.  On a link of bandwidth b and round trip r

    seconds = compute + bytes / b + rounds · r

which is the cost model of the protocols' own papers (compare Rathee et al. 2020, arXiv 2010.06457, section 7).  It leaves out
that parts could overlap, and what the comparison's cryptography computes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """What connects two parties: ``bandwidth`` in bytes per second, ``round_trip`` in seconds."""

    name: str
    bandwidth: float
    round_trip: float

    def seconds(self, compute: float, sent: float, rounds: float) -> float:
        """Return the latency of a query that computes for ``compute`` seconds and sends ``sent`` bytes in ``rounds`` rounds."""
        return compute + sent / self.bandwidth + rounds * self.round_trip


#: One machine room, and two machines far apart.  Round numbers of ours, of the order that the protocols' papers use.
LINKS = (Link("one machine room (3 Gbit/s, 0.3 ms)", 375e6, 0.3e-3), Link("far apart (300 Mbit/s, 80 ms)", 37.5e6, 80e-3))
