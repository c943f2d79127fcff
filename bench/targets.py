"""What is aimed at, as limits to ratios, and whether it was met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import floors
from measure import Ratio, Seconds, ratio
from scenarios.locks import PACKAGE, POLLING, REDLOCK_5, SINGLE
from scenarios.requests import BARE, LOCKED


class Target(NamedTuple):
    """At most `limit` times the reference; both without the one that is named so."""

    scenario: str
    limit: float
    reference: str
    subject: str = "ours"
    less: str = ""
    reference_less: str = ""

    def ratio(self, results: Mapping[str, Seconds]) -> Ratio | None:
        """None where one of them was not measured."""
        seconds = results.get(self.scenario, {})
        names = [self.subject, self.reference, self.less, self.reference_less]
        if any(name and name not in seconds for name in names):
            return None
        subject, reference = seconds[self.subject], seconds[self.reference]
        return ratio(
            subject,
            reference,
            seconds.get(self.less),
            seconds.get(self.reference_less or self.less),
        )

    def __str__(self) -> str:
        subject = self.subject + (f" less {self.less}" if self.less else "")
        less = self.reference_less or self.less
        return f"{subject} / {self.reference}" + (f" less {less}" if less else "")


TARGETS = [
    Target("untouched", 0.4, "Beaker", less=BARE),
    Target("read", 0.6, floors.READ),
    Target("read", 2.2, floors.SOCKET),
    Target("read", 0.25, "Beaker"),
    Target("read", 0.2, "Flask-Session"),
    Target("read-and-write", 0.6, floors.READ_AND_WRITE),
    Target("incr", 0.75, floors.INCR),
    Target("in-process-read", 0.1, "Beaker"),
    Target("in-process-read-and-write", 0.2, "Beaker"),
    *(
        Target(f"small-{act}-beside", 1.2, "ours, alone", subject=f"ours, {size}")
        for act in ("write", "read")
        for size in ("beside 100 KB", "beside 1 MB")
    ),
    Target("read-and-write", 1.15, "ours", subject=LOCKED),
    Target("8-processes-total", 1.0, PACKAGE, subject=SINGLE),
    Target("8-processes-wait-p99", 1.0, PACKAGE, subject=SINGLE),
    Target("20-requests-total", 1.0, PACKAGE, subject=SINGLE),
    Target("20-requests-total", 0.06, POLLING, subject=SINGLE),
    Target("lock", 2.5, SINGLE, subject=REDLOCK_5),
]

NOTES = [
    Target("read", 0.25, "Beaker", less=BARE),
    Target("read", 0.2, "Flask-Session", less=BARE, reference_less="bare Flask"),
    Target("in-process-read", 0.1, "Beaker", less=BARE),
    Target("in-process-read-and-write", 0.2, "Beaker", less=BARE),
]
"""The same limits, where neither side is charged for what is not its session."""
