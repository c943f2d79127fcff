"""What was tried and what was acknowledged, against what is stored at the end. Pure.

Each request that writes leaves a receipt, a token that no other has: as an item of a
list, beside its other changes, or as a counter of that name, which a repetition would
raise twice. What a request wrote, it wrote in one commit; so the receipts tell what all
the rest has to be.

What was acknowledged is there once. What failed with an outcome that nobody knows, or
never ended, is there once or not at all. What was said to be dropped is not there. A
session that was destroyed is gone, and one that was regenerated has one id only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

BORN: dict[str, Any] = {"born": True, "log": [], "nest": {}, "count": 0, "bumps": 0}
BLIND = "blind "
WRITES = ("append", "blind", "create", "rotate")


class Attempt(NamedTuple):
    """Told before a request commits.

    Args:
        by: What it adds to the session's count.
        cookie: What the session has afterwards, where that is another.
        bumps: It raises a number that it has read under the lock.
    """

    token: str
    verb: str
    story: str
    by: int = 0
    cookie: str = ""
    bumps: bool = False


class Result(NamedTuple):
    """Told when it is known what became of an attempt.

    Args:
        cookie: Of the new session that it went to, if it made one.
    """

    token: str
    is_done: bool
    cookie: str = ""


class Visited(NamedTuple):
    """Told at the end of a request, with the faults that have hit it."""

    status: str
    faults: tuple[str, ...] = ()


class Wrong(NamedTuple):
    """Told by a process that saw what must not be: back, or stale."""

    kind: str


Event = Attempt | Result | Visited | Wrong
Record = Mapping[str, Any]


@dataclass
class Tally:
    """What came of it.

    Args:
        acked: Attempts that were acknowledged.
        unknown: Attempts whose end nobody knows; some of them are stored.
        lost: Acknowledged changes that are not there.
        twice: Changes that are there more than once.
        back: Sessions that live after their end, or under two ids.
        denied: Changes that are there though the request was told that they are not.
        torn: Commits of which some is there, and some not.
        stale: Requests that did not see what the same process had done before.
    """

    rounds: int = 0
    requests: int = 0
    faults: int = 0
    acked: int = 0
    unknown: int = 0
    stored: int = 0
    dropped: int = 0
    lost: int = 0
    twice: int = 0
    back: int = 0
    denied: int = 0
    torn: int = 0
    stale: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        for part in fields(Tally):
            mine, its = getattr(self, part.name), getattr(other, part.name)
            setattr(self, part.name, mine + its)

    @property
    def violations(self) -> int:
        wrong = (self.lost, self.twice, self.back, self.denied, self.torn, self.stale)
        return sum(wrong)


class Ledger:
    """What the processes told of one round, kept outside of the store."""

    def __init__(self, stories: Mapping[str, str]) -> None:
        """Begin with sessions: for each its name and its cookie."""
        self._first = dict(stories)
        self._attempts: dict[str, Attempt] = {}
        self._results: dict[str, Result] = {}
        self.tally = Tally(rounds=1)

    def tell(self, event: Event) -> None:
        if isinstance(event, Attempt):
            self._attempts[event.token] = event
        elif isinstance(event, Result):
            self._results[event.token] = event
        elif isinstance(event, Visited):
            self.tally.requests += 1
            self.tally.faults += len(event.faults)
            self.tally.kinds.update(event.faults)
        else:
            self._count(event.kind)

    def judge(self, look: Callable[[str], Record]) -> Tally:
        """Compare with what is stored; look gives the fields at a cookie, or none."""
        for story, attempts in self._by_story().items():
            self._judge_story(story, attempts, look)
        for result in self._results.values():
            if result.is_done and result.cookie:
                attempt = self._attempts[result.token]
                self._judge_receipts([attempt], look(result.cookie))
        return self.tally

    def _by_story(self) -> dict[str, list[Attempt]]:
        """Without those that went to a session of their own."""
        stories: dict[str, list[Attempt]] = {name: [] for name in self._first}
        for token, attempt in self._attempts.items():
            result = self._results.get(token)
            self.tally.acked += result is not None and result.is_done
            self.tally.unknown += result is None
            self.tally.dropped += result is not None and not result.is_done
            if not (result and result.cookie):
                stories.setdefault(attempt.story, []).append(attempt)
        return stories

    def _judge_story(
        self, story: str, attempts: list[Attempt], look: Callable[[str], Record]
    ) -> None:
        first = self._first.get(story)
        moves = [attempt for attempt in attempts if attempt.cookie]
        named = [first, *(move.cookie for move in moves)]
        cookies = dict.fromkeys(cookie for cookie in named if cookie)
        records = {cookie: look(cookie) for cookie in cookies}
        alive = [cookie for cookie, record in records.items() if record]
        ends = [a for a in attempts if a.verb == "destroy" and self._is_done(a)]
        if ends:
            self._count("back", len(alive))
            return
        moved = [move.cookie for move in moves if self._is_done(move)]
        may_live = list(cookies)[list(cookies).index(moved[-1]) :] if moved else cookies
        self._count("back", len([c for c in alive if c not in may_live]))
        self._count("back", max(0, len(alive) - 1))
        may_be_gone = any(a.verb == "destroy" for a in attempts) and not alive
        if not may_be_gone:
            self._judge_receipts(attempts, records[alive[-1]] if alive else {})

    def _judge_receipts(self, attempts: Iterable[Attempt], record: Record) -> None:
        """One record against all that was tried with it."""
        counts = receipts(record)
        expected: dict[str, int] = defaultdict(int)
        for attempt in attempts:
            if attempt.verb not in WRITES:
                continue
            count = counts[attempt.token]
            self._judge_receipt(attempt, count)
            expected["count"] += attempt.by * min(count, 1)
            expected["bumps"] += attempt.bumps and count > 0
            if attempt.verb != "blind":
                is_nested = attempt.token in record.get("nest", {})
                self._count("torn", is_nested != (count > 0))
        for name, value in expected.items():
            self._count("torn", record.get(name, 0) != value and bool(record))

    def _judge_receipt(self, attempt: Attempt, count: int) -> None:
        self._count("twice", count > 1)
        if self._is_done(attempt):
            self._count("lost", count == 0)
        elif attempt.token in self._results:
            self._count("denied", count > 0)
        else:
            self._count("stored", count > 0)

    def _is_done(self, attempt: Attempt) -> bool:
        result = self._results.get(attempt.token)
        return result is not None and result.is_done

    def _count(self, kind: str, times: int = 1) -> None:
        setattr(self.tally, kind, getattr(self.tally, kind) + times)


def receipts(record: Record) -> Counter[str]:
    """How often each token is in a record."""
    counts = Counter(record.get("log", ()))
    for name, value in record.items():
        if name.startswith(BLIND):
            counts[name.removeprefix(BLIND)] += value
    return counts
