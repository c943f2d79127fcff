"""A process: requests by chance, and the faults that hit them."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple
from wsgiref.validate import validator

from doubles import Fault, FlakyProxy
from explorer.blob import BlobSessions
from histories.visitor import COOKIE, SECONDS, Address, Answer, App, app, die, send
from redis import Redis, RedisCluster, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from servers import HOST

from smartredis_wsgi import (
    LockLost,
    SessionConflict,
    SessionGone,
    SessionMiddleware,
)

from .ledger import BLIND, BORN, Attempt, Event, Result, Visited, Wrong

TIMEOUT = 0.15
LATE = 0.2
PAUSE = 0.005
"""After a request that was not served, in seconds: as a client would not hurry."""
DROPPED = (LockLost, SessionConflict, SessionGone)
FAULTS = {
    **{fault.value: 4 for fault in Fault},
    Fault.LATE_REPLY.value: 1,
    "connections cut": 4,
    "black hole": 1,
    "process killed": 1,
}
VERBS = {"read": 25, "append": 40, "blind": 20, "create": 5, "rotate": 6, "destroy": 4}
MAKING = ("create", "append", "blind")
"""What makes a session where there is none."""
OWNERS = ("rotate", "destroy")
"""What only one process does with a session: another would not know its cookie."""


class Place(NamedTuple):
    """What a round is played with.

    Args:
        store: ours or blob.
        client: held, retries or gives up.
        ports: Of the server, or of a Cluster's nodes.
        url: Instead of a client; there are no proxies then.
    """

    store: str
    lock: str
    client: str
    ports: tuple[int, ...] = ()
    url: str = ""


class Stint(NamedTuple):
    """A process's part of a round.

    Args:
        cookies: Of each session, by its name.
        owned: Sessions that this process may rotate and destroy.
        risk: How many of all requests are hit.
    """

    place: Place
    cookies: dict[str, str]
    owned: frozenset[str]
    requests: int
    risk: float
    seed: str


class Site:
    """The middleware of a place, with a proxy before each server."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.proxies = [
            FlakyProxy(Address(port))  # type: ignore[arg-type]
            for port in place.ports
        ]
        self.app = validator(self._middleware())

    def close(self) -> None:
        for proxy in self.proxies:
            proxy.close()

    def _client(self) -> Any:
        limits: dict[str, Any] = {"socket_timeout": TIMEOUT}
        if self.place.client == "held":
            limits["socket_connect_timeout"] = TIMEOUT
        else:
            times = int(self.place.client == "retries")
            kinds = (RedisConnectionError, RedisTimeoutError)
            limits["retry"] = Retry(NoBackoff(), times, kinds)
        if len(self.proxies) == 1:
            if self.place.client == "held":
                return Redis(host=HOST, port=self.proxies[0].port, **limits)
            return self.proxies[0].client(**limits)
        return self._cluster(limits)

    def _cluster(self, limits: dict[str, Any]) -> RedisCluster:
        """A client that goes by the proxies; tries until the Cluster is well."""
        ports = {p.target[1]: p.port for p in self.proxies}
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                return RedisCluster(
                    host=HOST,
                    port=self.proxies[0].port,
                    address_remap=lambda a: (HOST, ports.get(a[1], a[1])),
                    **{"retry": Retry(NoBackoff(), 1), **limits},
                )
            except (RedisError, RedisClusterException):
                if time.monotonic() > deadline:
                    raise

    def _middleware(self) -> App:
        if self.place.store == "blob":
            return BlobSessions(app, self._client())
        options: dict[str, Any] = {"lock": self.place.lock, "timeout": TIMEOUT}
        limits = {"lock_expiry": 0.5, "lock_wait": 1, "delete_expiry": 120}
        address = (
            {"url": self.place.url} if self.place.url else {"client": self._client()}
        )
        return SessionMiddleware(app, options, on_gone="raise", **limits, **address)

    # -- faults ------------------------------------------------------------------------

    def strike(self, fault: str) -> None:
        for proxy in self.proxies:
            if fault == "connections cut":
                proxy.cut()
                proxy.restore()
            elif fault == "black hole":
                proxy.black_hole()
            else:
                proxy.arm(Fault(fault), LATE)

    def recover(self, before: int) -> int:
        """End what is left of the faults; returns how many have hit."""
        for proxy in self.proxies:
            proxy.restore()
            proxy.disarm()
        return self.hits - before

    @property
    def hits(self) -> int:
        return sum(proxy.hits.total() for proxy in self.proxies)


def work(number: int, pipe: Connection) -> None:
    """A process: its stints, until the pipe ends or a fault kills it."""
    sites: dict[Place, Site] = {}
    tokens = itertools.count()
    while True:
        try:
            stint = pipe.recv()
        except EOFError:
            return
        if stint.place not in sites:
            sites[stint.place] = Site(stint.place)
        worker = Worker(sites[stint.place], stint, pipe.send)
        for _ in range(stint.requests):
            worker.visit(f"{number}.{next(tokens)}")
        pipe.send(None)


class Worker:
    """One stint."""

    def __init__(
        self,
        site: Site,
        stint: Stint,
        tell: Callable[[Event], object],
        verbs: dict[str, int] = VERBS,
    ) -> None:
        self._site, self._stint, self._tell, self._verbs = site, stint, tell, verbs
        self._dice = random.Random(stint.seed)
        self._cookies = dict(stint.cookies)
        self._ended: set[str] = set()
        self._mine: dict[str, set[str]] = {name: set() for name in self._cookies}

    def visit(self, token: str) -> None:
        """One request by chance."""
        verb = self._choose(self._verbs)
        story = self._choose(dict.fromkeys(self._cookies, 1))
        if verb in OWNERS and (story not in self._stint.owned or story in self._ended):
            verb = "append"
        is_hit = self._dice.random() < self._stint.risk
        fault = self._choose(FAULTS) if is_hit else ""
        if fault == "process killed" and self._dice.random() < 0.8:
            fault = Fault.NO_REPLY.value  # to hire another takes its time
        self._send(token, verb, story, fault, strikes_late=self._dice.random() < 0.6)

    def _choose(self, weights: dict[str, int]) -> str:
        return self._dice.choices(list(weights), list(weights.values()))[0]

    def _send(
        self, token: str, verb: str, story: str, fault: str, strikes_late: bool
    ) -> None:
        """One request, and what it is to tell."""
        before, lasting = self._site.hits, fault in ("connections cut", "black hole")

        def strike(is_late: bool) -> None:
            if not fault or is_late != strikes_late:
                return
            if fault == "process killed":
                self._tell(Visited("", (fault,)))
                die()
            self._site.strike(fault)

        def act(session: Any) -> None:
            getattr(self, f"_{verb}")(session, token, story)
            strike(is_late=True)

        status = ""
        try:
            strike(is_late=False)
            cookie = "" if verb == "create" else self._cookies[story]
            answer = send(self._site.app, act, cookie)
            status = answer.status
        except DROPPED:
            self._tell(Result(token, False))
        except RedisError:
            if self._site.place.store != "blob":  # which has no 503
                raise
        hits = self._site.recover(before) + lasting
        if status == "200 OK":
            self._acknowledge(token, verb, story, answer, cookie)
        else:
            time.sleep(PAUSE)
        self._tell(Visited(status, (fault,) * hits))

    def _acknowledge(
        self, token: str, verb: str, story: str, answer: Answer, cookie: str
    ) -> None:
        if verb == "read":
            return
        is_other = verb in MAKING and answer.cookie != cookie
        self._tell(Result(token, True, answer.cookie if is_other else ""))
        if verb == "append" and not is_other:
            self._mine[story].add(token)
        if verb == "rotate" and answer.cookie != cookie:
            self._cookies[story] = answer.cookie
        if verb == "destroy":
            self._ended.add(story)
            self._look_back(cookie)

    def _look_back(self, cookie: str) -> None:
        """Does a session live after its end?"""
        found: list[bool] = []
        try:
            send(self._site.app, lambda s: found.append("born" in s), cookie)
        except RedisError:
            return
        if any(found):
            self._tell(Wrong("back"))

    # -- verbs -------------------------------------------------------------------------

    def _read(self, session: Any, _: str, story: str) -> None:
        log = set(session.get("log", ()))
        if log and not self._mine[story] <= log:
            self._tell(Wrong("stale"))

    def _append(self, session: Any, token: str, story: str) -> None:
        self._fill(session)
        by, bumps = self._dice.randint(1, 9), self._site.place.lock != "none"
        self._tell(Attempt(token, "append", story, by, bumps=bumps))
        self._leave(session, token)
        session.incr("count", by)
        if bumps:
            session["bumps"] = session["bumps"] + 1

    def _blind(self, session: Any, token: str, story: str) -> None:
        by = self._dice.randint(1, 9)
        self._tell(Attempt(token, "blind", story, by))
        session.incr(f"{BLIND}{token}")
        session.incr("count", by)

    def _create(self, session: Any, token: str, _: str) -> None:
        self._fill(session)
        cookie = f"{COOKIE}={session.id}" if session.id else ""
        self._tell(Attempt(token, "create", f"created {token}", cookie=cookie))
        self._leave(session, token)

    def _rotate(self, session: Any, token: str, story: str) -> None:
        if "born" not in session:  # it has ended, or moved as nobody has told us
            return
        session.regenerate_id()
        cookie = f"{COOKIE}={session.id}"
        self._tell(Attempt(token, "rotate", story, cookie=cookie))
        self._leave(session, token)

    def _destroy(self, session: Any, token: str, story: str) -> None:
        self._tell(Attempt(token, "destroy", story))
        session.destroy()

    def _fill(self, session: Any) -> None:
        if "born" not in session:
            session.update({**BORN, "log": [], "nest": {}})

    def _leave(self, session: Any, token: str) -> None:
        """The receipt, and what has to be there beside it."""
        session["log"].append(token)
        session["nest"][token] = {"by": token}
