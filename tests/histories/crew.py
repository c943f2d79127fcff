"""Processes that send requests to one session at once, some of which are killed.

They are forked off a clean server process (multiprocessing's forkserver), so that one
that was killed is replaced at once. What they tell goes through a pipe of their own,
written before they go on: a death takes nothing of it away.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

from .visitor import (
    DEATHS,
    LOSSES,
    OVERSLEEP,
    SECONDS,
    Deed,
    Request,
    Setting,
    Site,
    Visitor,
)

KEYS = "abcd"


class Job(NamedTuple):
    """A process's part of a round."""

    setting: Setting
    cookie: str
    requests: tuple[Request, ...]


class Sites(dict[Setting, Site]):
    """The sites that a process has used."""

    def __missing__(self, setting: Setting) -> Site:
        return self.setdefault(setting, Site(setting))

    def close(self) -> None:
        for site in self.values():
            site.close()


def work(number: int, pipe: Connection) -> None:
    """A process: its jobs, until the pipe ends or a request kills it."""
    visitor, sites = Visitor(number, pipe.send), Sites()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        for request in job.requests:
            visitor.visit(sites[job.setting], job.cookie, request)
        pipe.send(None)


class Listener(Protocol):
    """Hears what the processes tell."""

    def tell(self, event: Any) -> None: ...


class Crew:
    """So many processes."""

    def __init__(
        self, size: int, work: Callable[[int, Connection], None] = work
    ) -> None:
        """Hire them.

        Args:
            work: What each does with its number and its pipe, until that ends; it tells
                None at the end of each job.
        """
        self._fork = multiprocessing.get_context("forkserver")
        self._fork.set_forkserver_preload(["smartredis_wsgi", "histories.visitor"])
        self._work = work
        self._hired = 0
        self._crew = [self._hire() for _ in range(size)]
        self.killed = 0
        self.sites = Sites()
        """Those of this process."""

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for process, pipe in self._crew:
            pipe.close()
            process.join(SECONDS)
        self.sites.close()

    def play(self, jobs: Sequence[Any], history: Listener) -> None:
        """Have each process do its job, all at once.

        Raises:
            RuntimeError: A process ended, and not by SIGKILL.
            TimeoutError: Nobody says anything any more.
        """
        for (_, pipe), job in zip(self._crew, jobs, strict=True):
            pipe.send(job)
        busy = {pipe: place for place, (_, pipe) in enumerate(self._crew)}
        while busy:
            ready = wait(list(busy), 3 * SECONDS)
            if not ready:
                raise TimeoutError("a process neither works nor ends")
            for pipe in ready:
                if not self._hear(pipe, history, busy[pipe]):
                    del busy[pipe]

    def _hear(self, pipe: Any, history: Listener, place: int) -> bool:
        """Take an event; returns whether more are to come."""
        try:
            event = pipe.recv()
        except (EOFError, ConnectionResetError):
            self._replace(place)
            return False
        if event is None:
            return False
        history.tell(event)
        return True

    def _replace(self, place: int) -> None:
        process, pipe = self._crew[place]
        pipe.close()
        process.join(SECONDS)
        if process.exitcode != -signal.SIGKILL:
            raise RuntimeError(f"a process ended with {process.exitcode}")
        self.killed += 1
        self._crew[place] = self._hire()

    def _hire(self) -> tuple[Any, Connection]:
        self._hired += 1
        ours, theirs = self._fork.Pipe()
        process = self._fork.Process(
            target=self._work, args=(self._hired, theirs), daemon=True
        )
        process.start()
        theirs.close()
        return process, ours


# -- what they do --------------------------------------------------------------------


def job_list(
    setting: Setting, cookie: str, size: int, length: int, dice: random.Random
) -> list[Job]:
    """A round's requests by chance: for each process so many, some with a fault.

    One process dies at its last request but one, and makes no more; under a lock
    another one may sleep until its lock is over.
    """
    jobs = []
    for number in range(size):
        requests = [
            _request(setting, f"{number}.{turn}", dice) for turn in range(length)
        ]
        if number == 0:
            requests[-2] = _request(setting, "0.last", dice, dice.choice(DEATHS))
        if number == 1 and setting.lock != "none" and dice.random() < 0.5:
            requests[0] = _request(setting, "1.first", dice, OVERSLEEP)
        jobs.append(Job(setting, cookie, tuple(requests)))
    return jobs


def _request(
    setting: Setting, mark: str, dice: random.Random, fault: str = ""
) -> Request:
    fields = dice.sample(list(_VERBS), dice.choice((1, 1, 2, 3)))
    deeds = [_deed(setting, field, mark, dice) for field in fields]
    if not fault and dice.random() < 0.1:
        fault = dice.choice(LOSSES)
    return Request(tuple(deeds), fault)


_VERBS = {
    "name": ("read", "set", "set", "delete"),
    "count": ("read", "add", "add", "bump"),
    "log": ("read", "append", "append"),
    "nest": ("read", "put", "put", "drop"),
    "pair": ("read", "set"),
}


def _deed(setting: Setting, field: str, mark: str, dice: random.Random) -> Deed:
    verb = dice.choice(_VERBS[field])
    if verb == "bump" and setting.lock == "none":
        verb = "add"
    key = dice.choice(KEYS)
    arguments = {
        "set": mark,
        "append": mark,
        "add": dice.randint(1, 9999),
        "bump": dice.randint(1, 9999),
        "put": (key, mark),
        "drop": key,
    }
    return Deed(verb, field, arguments.get(verb))
