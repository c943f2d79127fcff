"""Twenty threads that begin together change one session: is nothing lost?

Each round has a fresh session. It is exact if afterwards it holds what all of them did.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from wsgiref.validate import validator

from .visitor import SECONDS, App, app, send

THREADS = 20


class Kind(NamedTuple):
    """What all threads do at once, and what has to come of it."""

    first: dict[str, Any]
    act: Callable[[Any, int], object]
    outcome: Callable[[Any], object]
    expected: object


def _append(session: Any, number: int) -> None:
    session["log"].append(number)


def _put(session: Any, number: int) -> None:
    session["nest"][f"key {number}"] = number


def _incr(session: Any, number: int) -> None:
    session.incr("count", number + 1)


KINDS = {
    "append to one list": Kind(
        {"log": []},
        _append,
        lambda session: sorted(session["log"]),
        list(range(THREADS)),
    ),
    "set a key in one dict": Kind(
        {"nest": {}},
        _put,
        lambda session: session["nest"],
        {f"key {number}": number for number in range(THREADS)},
    ),
    "incr one number": Kind(
        {"count": 0},
        _incr,
        lambda session: session["count"],
        sum(range(1, THREADS + 1)),
    ),
}


def play(kind: Kind, wrap: Callable[[App], App], rounds: int) -> Iterator[bool]:
    """Whether each round was exact.

    Args:
        wrap: Makes an application one with sessions.

    Raises:
        RuntimeError: An answer was not 200.
    """
    site = validator(wrap(app))
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(rounds):
            yield _play_once(kind, site, pool)


def _play_once(kind: Kind, site: App, pool: ThreadPoolExecutor) -> bool:
    cookie = send(site, lambda session: session.update(kind.first)).cookie
    begin = threading.Barrier(THREADS)

    def visit(number: int) -> str:
        begin.wait(SECONDS)
        return send(site, lambda session: kind.act(session, number), cookie).status

    statuses = set(pool.map(visit, range(THREADS)))
    if statuses != {"200 OK"}:
        raise RuntimeError(f"answers: {statuses}")
    outcomes: list[object] = []
    send(site, lambda session: outcomes.append(kind.outcome(session)), cookie)
    return outcomes == [kind.expected]
