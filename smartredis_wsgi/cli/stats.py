"""Sums over all sessions, in little memory."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from ..store import Kind
from .group import common
from .rendering import LongWork, plain, tell
from .sight import Glance, Sight

_BIGGEST = 10
_AGES = {"1 minute": 60, "1 hour": 3600, "1 day": 86400, "1 week": 604800}
_FOUR_TIMES = [4**power for power in range(3, 16)]
_SHOWN = Kind.ALIVE, Kind.DESTROYED, Kind.MOVED, Kind.FOREIGN


@dataclass
class Sums:
    """What can be said of any number of sessions in little memory."""

    states: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    ages: Counter[str] = field(default_factory=Counter)
    biggest: list[tuple[int, str, str]] = field(default_factory=list)
    bytes: int = 0
    largest: int = 0
    fields: int = 0
    without_expiry: int = 0

    def add(self, seen: Glance) -> None:
        self.states[seen.kind.value] += 1
        self.without_expiry += seen.left is None
        if seen.kind is not Kind.ALIVE:
            return
        self.bytes += seen.size
        self.fields += seen.field_count
        self.largest = max(self.largest, seen.size)
        self.sizes[next((s for s in _FOUR_TIMES if seen.size <= s), seen.size)] += 1
        age = seen.now - seen.created
        self.ages[next((word for word, s in _AGES.items() if age <= s), "older")] += 1
        for name, size in seen.fields.items():
            self._add_field(size, name, seen.handle)

    def _add_field(self, size: int, name: str, handle: str) -> None:
        entry = (size, name, handle)
        if len(self.biggest) < _BIGGEST:
            heapq.heappush(self.biggest, entry)
        elif entry > self.biggest[0] and entry not in self.biggest:
            heapq.heapreplace(self.biggest, entry)

    def told(self, is_complete: bool) -> dict[str, Any]:
        alive = self.states["alive"]
        return {
            "complete": is_complete,
            "sessions": {kind.value: self.states[kind.value] for kind in _SHOWN},
            "without_expiry": self.without_expiry,
            "bytes": self.bytes,
            "mean_size": round(self.bytes / alive) if alive else 0,
            "largest": self.largest,
            "mean_fields": round(self.fields / alive, 1) if alive else 0,
            "sizes_up_to": {str(size): self.sizes[size] for size in sorted(self.sizes)},
            "ages_up_to": {age: self.ages[age] for age in [*_AGES, "older"]},
            "biggest_fields": [
                {"size": size, "field": name, "handle": handle}
                for size, name, handle in sorted(self.biggest, reverse=True)
            ],
        }


@click.command()
@common
@click.pass_obj
def stats(given: dict[str, Any]) -> None:
    """Count the sessions; tell their sizes, ages and biggest fields."""
    sight, sums, work = Sight.told_by(given), Sums(), LongWork("sessions")
    with work:
        total = sight.client.dbsize()
        for seen in work.over(sight.glances(sight.keys(), "sizes"), total):
            sums.add(seen)
    told = sums.told(is_complete=not work.is_stopped)

    def text() -> Iterator[str]:
        for title, value in told.items():
            title = title.replace("_", " ") + ":"
            if isinstance(value, dict):
                value = ", ".join(f"{name} {n}" for name, n in value.items())
            if not isinstance(value, list):
                yield f"{title:17}{value}"
        for big in told["biggest_fields"]:
            yield f"{big['size']:>9} bytes  {big['handle']}  {plain(big['field'])}"

    tell("json" in given, told, text)
    work.end()
