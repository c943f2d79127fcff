"""Where the time inside one read goes, between the seams of the package.

Each seam is stamped as it is passed, which itself takes some tenths of a microsecond.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, NamedTuple
from unittest.mock import patch

from driver import READ
from measure import Seconds, in_rounds, pinned
from peers import OURS
from world import World

from smartredis_wsgi.fields import Fields
from smartredis_wsgi.life import Life
from smartredis_wsgi.store import Records
from smartredis_wsgi.transport import HeldConnections
from smartredis_wsgi.transport.link import SocketLink

from . import Measured, Plan
from .requests import request

WHOLE = "ours, the whole request, with the stamps"


class Seam(NamedTuple):
    """A method; and what was done since the seam before, at its call or its return."""

    kind: type
    name: str
    until_call: str
    until_return: str


SEAMS = [
    Seam(Life, "_touch", "middleware, until the session is touched", "cookie, objects"),
    Seam(Records, "look", "names of the record", "what to ask"),
    Seam(HeldConnections, "exchange", "way to the transport", "replies parsed"),
    Seam(SocketLink, "send", "commands packed", "kernel and server: send"),
    Seam(SocketLink, "_read", "way to recv", "kernel: recv"),
    Seam(Records, "_looked", "replies handed on", "record parsed"),
    Seam(Fields, "__getitem__", "session updated", "field decoded"),
    Seam(Life, "end", "application, until the response begins", "nothing to commit"),
]


class Inside(NamedTuple):
    """One table: parts of a request, in the order of their medians."""

    name: str
    about: str

    def measure(self, world: World, plan: Plan) -> list[Measured]:
        run = request(OURS, READ)(world)
        with pinned(plan.core, *(s.info()["process_id"] for s in world.servers)):
            rounds = plan.rounds * plan.turn
            with stamping() as stamps:

                def once() -> list[tuple[str, float]]:
                    stamps[:] = [("", time.perf_counter())]
                    run()
                    return [*stamps, ("response", time.perf_counter())]

                passed = in_rounds({WHOLE: once}, rounds, warm_up=20)[WHOLE]
        seconds: Seconds = {}
        for moments in passed:
            for (_, begun), (part, ended) in pairwise(moments):
                seconds.setdefault(part, []).append(ended - begun)
            whole = moments[-1][1] - moments[0][1]
            seconds.setdefault(WHOLE, []).append(whole)
        return [Measured(self.name, self.about, seconds)]


@contextmanager
def stamping() -> Iterator[list[tuple[str, float]]]:
    """What is passed, and when, on time.perf_counter's clock."""
    stamps: list[tuple[str, float]] = []
    with ExitStack() as stack:
        for seam in SEAMS:
            stamped = _stamped(seam, stamps)
            stack.enter_context(patch.object(seam.kind, seam.name, stamped))
        yield stamps


def _stamped(seam: Seam, stamps: list[tuple[str, float]]) -> Any:
    method = getattr(seam.kind, seam.name)

    @functools.wraps(method)
    def passing(*arguments: Any, **options: Any) -> Any:
        stamps.append((seam.until_call, time.perf_counter()))
        result = method(*arguments, **options)
        stamps.append((seam.until_return, time.perf_counter()))
        return result

    return passing


SCENARIOS = [Inside("inside-a-read", "The parts of one read, one after the other.")]
