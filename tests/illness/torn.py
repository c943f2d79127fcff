"""Requests that are torn out of their waits: ``python -m illness.torn HOW PLACE PORT``.

A greenlet's timeout, or a signal, raises at any moment in who waits for Redis; the next
one is let alone. What is asked has an answer that is nobody else's: whose session, or
whose key, it is. It is asked in three ways: by a URL of ours, by a client of redis-py's
that is handed to us, and of that client itself, which is the control. Prints a line of
JSON for each.
"""

# gevent has to come before whatever makes sockets

import sys

if __name__ == "__main__" and "timeout" in sys.argv:
    import gevent.monkey

    gevent.monkey.patch_all()

import faulthandler
import itertools
import json
import random
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import redis
from doubles import CustomRedis
from servers import HOST

from smartredis_wsgi import SessionStore, StoreUnavailable

OWNERS, GREENLETS, PROBES = 20, 20, 50
SECONDS = 240.0
Ask = Callable[[int], int]


class Torn(BaseException):
    """Comes out of the blue."""


@dataclass
class Found:
    """Of so many that were torn out of their waits, what became of all answers.

    Args:
        foreign: Somebody got another's.
        noticed: Somebody would have, but it was thrown away, and he was told so.
    """

    way: str
    torn: int = 0
    own: int = 0
    foreign: int = 0
    noticed: int = 0
    failed: int = 0

    def take(self, ask: Ask, owner: int) -> None:
        try:
            is_own = ask(owner) == owner
        except Torn:
            self.torn += 1
        except (StoreUnavailable, redis.RedisError, ValueError, AttributeError):
            self.failed += 1
        else:
            self.own += is_own
            self.foreign += not is_own


# -- who is asked ----------------------------------------------------------------------


def url_of(place: str, port: int) -> str:
    scheme = "redis" if place == "plain" else f"redis+{place}"
    return f"{scheme}://{HOST}:{port}{'/mymaster' * (place == 'sentinel')}"


def client_of(place: str, port: int) -> Any:
    if place == "plain":
        return CustomRedis(host=HOST, port=port)
    if place == "cluster":
        return redis.RedisCluster(host=HOST, port=port)
    group = redis.Sentinel([(HOST, port)])
    return group.master_for("mymaster", redis_class=CustomRedis)


def asking_us(found: Found, **address: Any) -> Ask:
    def notice(event: Any) -> None:
        found.noticed += event.name == "foreign_reply"

    store = SessionStore.from_config(timeout=20, on_event=notice, **address)
    ids = []
    for owner in range(OWNERS):
        with store.open() as session:
            session["owner"] = owner
        ids.append(session.id)

    def ask(owner: int) -> int:
        with store.open(ids[owner]) as session:
            found: int = session["owner"]
            session["seen"] = time.monotonic()
        return found

    return ask


def asking_it(client: Any) -> Ask:
    for owner in range(OWNERS):
        client.set(f"owner {owner}", owner, px=600_000)
    return lambda owner: int(client.get(f"owner {owner}"))


# -- how they are torn -----------------------------------------------------------------


def by_signal(found: Found, ask: Ask, count: int) -> None:
    def tear(*_: Any) -> None:
        raise Torn

    def ask_in_time(owner: int) -> int:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, longest))
            return ask(owner)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    longest = 2 * _usual_seconds(ask)
    signal.signal(signal.SIGALRM, tear)
    for turn in itertools.count():
        found.take(ask_in_time, turn % OWNERS)
        found.take(ask, (turn + 1) % OWNERS)
        if found.torn >= count:
            return


def by_timeout(found: Found, ask: Ask, count: int) -> None:
    from gevent import Timeout
    from gevent.pool import Pool

    def ask_in_time(owner: int) -> int:
        with Timeout(random.uniform(0, longest), Torn):
            return ask(owner)

    def take_both(turn: int) -> None:
        found.take(ask_in_time, turn % OWNERS)
        found.take(ask, (turn + 1) % OWNERS)

    longest = GREENLETS * _usual_seconds(ask)
    while found.torn < count:
        Pool(GREENLETS).map(take_both, range(5 * GREENLETS))


HOWS = {"signal": by_signal, "timeout": by_timeout}


def _usual_seconds(ask: Ask) -> float:
    """How long one takes whom nobody disturbs."""
    took = []
    for turn in range(PROBES):
        begun = time.monotonic()
        assert ask(turn % OWNERS) == turn % OWNERS
        took.append(time.monotonic() - begun)
    return statistics.median(took)


def main(how: str, place: str, port: int, count: int) -> None:
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    url, client = Found("url"), Found("client")
    control = Found("control")
    ways = [
        (url, asking_us(url, url=url_of(place, port))),
        (client, asking_us(client, client=client_of(place, port))),
        (control, asking_it(client_of(place, port))),
    ]
    for found, ask in ways:
        HOWS[how](found, ask, count)
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
