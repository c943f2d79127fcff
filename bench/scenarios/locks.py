"""Locks: taken and given back by one client alone, and wanted by many at once."""

from __future__ import annotations

import importlib.util
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from measure import Run, in_rounds
from peers import locks
from peers.locks import Take
from world import World

from . import Alone, Maker, Measured, Plan

SINGLE = "ours: SingleNodeLock"
PACKAGE = "python-redis-lock"
POLLING = "redis-py Lock, polls every 100 ms"
REDLOCK_3, REDLOCK_5 = "ours: Redlock, 3 masters", "ours: Redlock, 5 masters"
OTHER_REDLOCKS = {"redlock-py": "redlock", "pottery": "pottery"}  # by their modules

HOLD = 0.001
PROCESSES, TURNS, THREADS = 8, 50, 20

_MAKERS = {
    SINGLE: locks.single,
    PACKAGE: locks.python_redis_lock,
    POLLING: locks.redis_py,
}


# -- one client alone ----------------------------------------------------------------


def on_one_server(make: Callable[[list[str]], Take]) -> Maker:
    return lambda world: _cycle(make([world.url]))


def on_masters(make: Callable[[list[str]], Take], count: int) -> Maker:
    return lambda world: _cycle(make(world.masters[:count]))


def _cycle(take: Take) -> Run:
    def run() -> None:
        take("cycle")()

    return run


def _cycles() -> dict[str, Maker]:
    makers = {name: on_one_server(make) for name, make in _MAKERS.items()}
    makers["SET NX PX and a script"] = on_one_server(locks.raw)
    makers[REDLOCK_3] = on_masters(locks.redlock, 3)
    makers[REDLOCK_5] = on_masters(locks.redlock, 5)
    for name, make in {
        "redlock-py": locks.redlock_py,
        "pottery": locks.pottery,
    }.items():
        if name not in ABSENT:
            makers[f"{name}, 3 masters"] = on_masters(make, 3)
            makers[f"{name}, 5 masters"] = on_masters(make, 5)
    return makers


ABSENT = {
    name: f"{module} is not installed"
    for name, module in OTHER_REDLOCKS.items()
    if importlib.util.find_spec(module) is None
}


# -- many at once --------------------------------------------------------------------


class Turns(NamedTuple):
    """What one of the crowd has seen. A process' clock is the same as another's."""

    begun: float
    ended: float
    waits: list[float]


def take_turns(take: Take, barrier: Any, turns: int) -> Turns:
    """Wait for the others, then hold the lock so often."""
    barrier.wait()
    waits: list[float] = []
    begun = time.perf_counter()
    for _ in range(turns):
        asked = time.perf_counter()
        release = take("crowd")
        waits.append(time.perf_counter() - asked)
        time.sleep(HOLD)
        release()
    return Turns(begun, time.perf_counter(), waits)


class _Member:
    """What a process of the pool keeps from task to task."""

    barrier: Any
    takes: Mapping[str, Take]


def _join(url: str, barrier: Any) -> None:
    _Member.barrier = barrier
    _Member.takes = {name: make([url]) for name, make in _MAKERS.items()}


def _turns_of_process(name: str, turns: int) -> Turns:
    return take_turns(_Member.takes[name], _Member.barrier, turns)


Members = Callable[[str], Iterable[Turns]]


class _Processes(AbstractContextManager[Members]):
    def __init__(self, world: World, turns: int) -> None:
        context = multiprocessing.get_context("spawn")
        joining = world.url, context.Barrier(PROCESSES)
        self._turns = turns
        self._pool: Executor = ProcessPoolExecutor(PROCESSES, context, _join, joining)

    def __enter__(self) -> Members:
        """As each task waits for all others, each process has got one of them."""
        task = partial(_turns_of_process, turns=self._turns)
        return lambda name: self._pool.map(task, [name] * PROCESSES)

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


class _Threads(AbstractContextManager[Members]):
    def __init__(self, world: World, turns: int) -> None:
        self._takes = {name: make([world.url]) for name, make in _MAKERS.items()}
        self._barrier, self._turns = threading.Barrier(THREADS), turns
        self._pool = ThreadPoolExecutor(THREADS)

    def __enter__(self) -> Members:
        return self._members

    def _members(self, name: str) -> Iterable[Turns]:
        task = partial(take_turns, barrier=self._barrier, turns=self._turns)
        return self._pool.map(task, [self._takes[name]] * THREADS)

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


class Crowd(NamedTuple):
    """Many want one lock, all from the same moment on. They are not pinned."""

    name: str
    about: str
    members: Callable[[World, int], AbstractContextManager[Members]]
    turns: int

    def measure(self, world: World, plan: Plan) -> list[Measured]:
        with self.members(world, self.turns) as members:
            runs = {name: partial(_outcome, members, name) for name in _MAKERS}
            rounds = in_rounds(runs, plan.crowd_rounds, min(1, plan.crowd_rounds - 1))
        sides = {
            "total": f"{self.about} Until all are done.",
            "wait-p99": f"{self.about} The 99th percentile of the waits.",
            "wait-median": f"{self.about} The median of the waits.",
        }
        return [
            Measured(
                f"{self.name}-{side}",
                about,
                {name: [each[side] for each in rounds[name]] for name in rounds},
            )
            for side, about in sides.items()
        ]


def _outcome(members: Members, name: str) -> dict[str, float]:
    all_turns = list(members(name))
    waits = [wait for turns in all_turns for wait in turns.waits]
    begun = min(turns.begun for turns in all_turns)
    return {
        "total": max(turns.ended for turns in all_turns) - begun,
        "wait-p99": statistics.quantiles(waits, n=100, method="inclusive")[98],
        "wait-median": statistics.median(waits),
    }


SCENARIOS: list[Alone | Crowd] = [
    Alone(
        "lock",
        "A lock that nobody else wants is taken and given back.",
        _cycles(),
        ABSENT,
        share=0.5,
    ),
    Crowd(
        "8-processes",
        f"{PROCESSES} processes, {TURNS} turns each, {HOLD * 1000:g} ms hold.",
        _Processes,
        TURNS,
    ),
    Crowd(
        "20-requests",
        f"{THREADS} threads at once, one turn each, {HOLD * 1000:g} ms hold.",
        _Threads,
        1,
    ),
]
