"""Requests that are hit in the middle, and what is seen of each.

A cell is one request of one kind, by one kind of client. Its session lies in the store
before; its application says when the illness is to strike.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from wsgiref.validate import validator

import valkey
from doubles import FlakyProxy
from histories.visitor import app, send
from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisCluster
from redis import TimeoutError as RedisTimeoutError
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HOST, Cluster, Server

from smartredis_wsgi import Session, SessionMiddleware, SessionStore

RETRIED = (RedisConnectionError, RedisTimeoutError)
CLIENTS = ("url", "retries", "gives up", "never gives up")
"""The product's own holds connections; the last one, valkey-py's, has no deadline."""
STUBBORN = ("never gives up",)
"""Those that a Cluster which is down can't make give up, either."""
BEFORE = {"n": 0}
LOCK_EXPIRY = 60.0
LOOK_SECONDS = 10.0
Strike = Callable[[], object]


def load(session: Session, strike: Strike) -> None:
    strike()
    dict(session)


def commit(session: Session, strike: Strike) -> None:
    dict(session)
    session.incr("n")
    session["seen"] = True
    strike()


def create(session: Session, strike: Strike) -> None:
    session["n"] = 1
    strike()


def rotate(session: Session, strike: Strike) -> None:
    dict(session)
    session.incr("n")
    session.regenerate_id()
    strike()


def unlock(session: Session, strike: Strike) -> None:
    dict(session)
    strike()


def destroy(session: Session, strike: Strike) -> None:
    strike()
    session.destroy()


class Act(NamedTuple):
    """What a request does, under which lock, and what is stored if it is carried out.

    None is a session that is no more.
    """

    do: Callable[[Session, Strike], None]
    lock: str
    after: dict[str, Any] | None


ACTS = {
    "read": Act(load, "none", BEFORE),
    "create": Act(create, "none", {"n": 1}),
    "commit": Act(commit, "none", {"n": 1, "seen": True}),
    "regenerate": Act(rotate, "none", {"n": 1}),
    "log out": Act(destroy, "none", None),
    "lock and read": Act(load, "single", BEFORE),
    "unlock": Act(unlock, "single", BEFORE),
    "commit and unlock": Act(commit, "single", {"n": 1, "seen": True}),
}
LASTING = ("read", "lock and read", "unlock")
"""Those that change nothing."""
RENAMING = ("create", "regenerate")


class Seen(NamedTuple):
    """What came of a cell.

    Args:
        stored: Whether the change is in the store; None if there was none to make.
    """

    status: str
    stored: bool | None
    is_locked: bool

    def __str__(self) -> str:
        word = {None: "", True: " done", False: " kept"}[self.stored]
        return self.status + word + " lock" * self.is_locked


class Cell:
    """One request to a site of its own, by a client of its own."""

    def __init__(self, name: str, site: SessionMiddleware) -> None:
        self.name = name
        self.runs = 0
        """How often the application was run for the request."""
        self._act, self._site = ACTS[name], validator(site)
        self._transport = site.store._engine.wire._transport
        self._next_id = ""

    def prepare(self) -> None:
        """Make the session; a connection is there from now on."""
        self._cookie = send(self._site, lambda session: session.update(BEFORE)).cookie
        self._first_id = self._cookie.partition("=")[2]

    def run(self, strike: Strike) -> str:
        """The request; returns its status."""

        def act(session: Session) -> None:
            self.runs += 1
            if self.name in RENAMING:
                self._next_id = session.id
            self._act.do(session, strike)
            if self.name in RENAMING:
                self._next_id = session.id

        cookie = "" if self.name == "create" else self._cookie
        return send(self._site, act, cookie).status.partition(" ")[0]

    def is_quiet(self) -> bool:
        """Whether nothing is under way of what its requests have given up."""
        crew = getattr(self._transport, "_crew", None)
        return not crew or all(job.is_over for job in crew._left)

    def serves(self) -> bool:
        """Whether the site answers another request."""
        return send(self._site, dict, self._cookie).status == "200 OK"

    def look(
        self,
        status: str,
        admin: Redis | RedisCluster,
        masters: Sequence[Redis | RedisCluster] = (),
    ) -> Seen:
        """What is seen by a client that goes another way; a lock's expiry is made up.

        Args:
            masters: Where the locks are, if not there.

        Raises:
            AssertionError: What is stored is neither what was nor what should be, or
                a lock would stay.
        """
        store = SessionStore.from_config(client=admin, timeout=LOOK_SECONDS)
        lock, is_locked = f"lock:{store.lock_name(self._first_id)}", False
        for place in masters or [admin]:
            assert place.ttl(lock) in {-2, *range(round(LOCK_EXPIRY) + 1)}
            is_locked |= bool(place.delete(lock))
        ids = [self._first_id] * (self.name != "create") + [self._next_id]
        found = [fields for name in ids if name and (fields := _fields(store, name))]
        return Seen(status, self._judge(found), is_locked)

    def _judge(self, found: list[dict[str, Any]]) -> bool | None:
        assert len(found) < 2, f"{found}: the session lives under both ids"
        now = found[0] if found else None
        if self.name in LASTING:
            assert now in (None, BEFORE), now
            return None
        if now == self._act.after:
            return True
        assert now in (None, BEFORE), now
        return False


def _fields(store: SessionStore, session_id: str) -> dict[str, Any]:
    with store.open(session_id) as session:
        return dict(session)


class Haste(NamedTuple):
    """How long a request may wait for Redis, and a client that repeats for a reply."""

    timeout: float
    reply: float


PATIENT, HASTY = Haste(5.0, 2.5), Haste(1.0, 0.5)
REPEATING = Haste(5.0, 1.0)
"""For a client that is to have an answer to what it repeats after a timeout."""


def site_of(kind: str, proxy: FlakyProxy, lock: str, haste: Haste) -> SessionMiddleware:
    """A middleware whose client, of that kind, goes by the proxy."""
    options = _options(lock, haste)
    if kind == "url":
        return SessionMiddleware(app, options, url=proxy.url)
    return SessionMiddleware(app, options, client=_client_of(kind, proxy, haste))


def _options(lock: str, haste: Haste) -> dict[str, Any]:
    return {"lock": lock, "timeout": haste.timeout, "lock_expiry": LOCK_EXPIRY}


def _client_of(kind: str, proxy: FlakyProxy, haste: Haste) -> Any:
    if kind == "never gives up":
        return valkey.Valkey.from_url(proxy.url)
    if kind == "gives up":
        return proxy.client(socket_timeout=haste.timeout)
    retry = Retry(NoBackoff(), 1, RETRIED)
    return proxy.client(socket_timeout=haste.reply, retry=retry)


def site_by(
    masters: Sequence[FlakyProxy], records: Server, lock_wait: float
) -> SessionMiddleware:
    """One that goes to its records as it should, and to its lock's masters by these."""
    options = _options("redlock", PATIENT) | {"lock_wait": lock_wait}
    nodes = [proxy.url for proxy in masters]
    return SessionMiddleware(app, options, url=records.url, lock_nodes=nodes)


def site_in(cluster: Cluster, kind: str, lock: str, haste: Haste) -> SessionMiddleware:
    """The same, where the records live in a Cluster."""
    options = _options(lock, haste)
    if kind == "url":
        return SessionMiddleware(app, options, url=cluster.url)
    port = cluster.nodes[0].port
    if kind == "never gives up":
        endless: Any = {"cluster_error_retry_attempts": sys.maxsize}
        client: Any = valkey.ValkeyCluster(host=HOST, port=port, **endless)
    else:
        retry = Retry(NoBackoff(), int(kind == "retries"))
        client = RedisCluster(host=HOST, port=port, retry=retry)
    return SessionMiddleware(app, options, client=client)
