"""What is measured: each scenario lets contenders do the same thing.

Contenders are known by name before anything is started; each is made when it is
measured, of a `World`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from measure import Run, Seconds, Traffic, in_rounds, pinned, timed, traffic
from redis import Redis
from world import World

Maker = Callable[[World], Run]

SIZES = {
    "alone": 0,
    "beside 1 KB": 1_000,
    "beside 10 KB": 10_000,
    "beside 100 KB": 100_000,
    "beside 1 MB": 1_000_000,
}
"""Bytes of a big value that a session has beside its small ones."""


class Plan(NamedTuple):
    """How thoroughly to measure."""

    rounds: int
    crowd_rounds: int
    """Of those scenarios in which many wait for each other."""
    core: int | None
    """The one that client and server share; None: all."""
    turn: int
    """So many requests of a contender follow each other, before others have theirs."""


class Measured(NamedTuple):
    """What came of a scenario, or of one side of it."""

    name: str
    about: str
    seconds: Seconds
    traffic: Mapping[str, Traffic] = {}
    absent: Mapping[str, str] = {}
    """Who was not measured, and why."""

    @property
    def medians(self) -> dict[str, float]:
        return {name: statistics.median(each) for name, each in self.seconds.items()}

    @property
    def unit(self) -> tuple[str, float]:
        """What its times read well in, and how many of these a second has."""
        return ("ms", 1e3) if min(self.medians.values()) > 0.01 else ("µs", 1e6)

    @property
    def is_by_size(self) -> bool:
        """Whether each contender is there once for each of `SIZES`."""
        return self.name.endswith("-beside")

    @property
    def participants(self) -> list[str]:
        """Who is there once for each size."""
        return list(dict.fromkeys(name.rpartition(", ")[0] for name in self.seconds))


class Scenario(Protocol):
    """One or several tables."""

    @property
    def name(self) -> str: ...

    def measure(self, world: World, plan: Plan) -> list[Measured]: ...


class Alone(NamedTuple):
    """One client does one thing after the other; contenders take turns.

    Args:
        times: Run so often for one figure, if not as often as the plan's turns say.
        requests: How many requests one run has.
        share: Of the plan's rounds, where one takes long.
        is_counted: The server says what a request costs it.
    """

    name: str
    about: str
    contenders: Mapping[str, Maker]
    absent: Mapping[str, str] = {}
    times: int | None = None
    requests: int = 1
    share: float = 1.0
    is_counted: bool = True

    def measure(self, world: World, plan: Plan) -> list[Measured]:
        runs = {name: make(world) for name, make in self.contenders.items()}
        rounds = max(1, round(plan.rounds * self.share))
        servers = world.servers
        with pinned(plan.core, *(each.info()["process_id"] for each in servers)):
            times = self.times or plan.turn
            measured = {n: timed(r, times, self.requests) for n, r in runs.items()}
            seconds = in_rounds(measured, rounds, warm_up=max(2, rounds // 20))
        counted = self._traffic(servers, runs, rounds) if self.is_counted else {}
        return [Measured(self.name, self.about, seconds, counted, self.absent)]

    def _traffic(
        self, servers: Sequence[Redis], runs: Mapping[str, Run], rounds: int
    ) -> dict[str, Traffic]:
        return {
            name: traffic(servers, run, self.requests, times=min(rounds, 50))
            for name, run in runs.items()
        }
