"""A request: what it does to the session, and the faults that hit it.

A read's value is that of the load, which is somewhere between the request's begin and
the read's return; so the read is told as an operation of its own, from then to then,
also where it is the first half of a read-modify-write. A write is told before it is
made, and ends when the middleware begins the response. What ends in a 503, or in
SIGKILL, has an unknown outcome; what ends in `LockLost` must not have happened.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import redis
from doubles import FlakyProxy
from explorer.blob import BlobSessions
from redis.backoff import NoBackoff
from redis.retry import Retry

from smartredis_wsgi import LockLost, SessionMiddleware, SmartRedisError

from .history import Ended, Event, Ident, Invoked
from .model import Operation

COOKIE = "__Host-sid"
SECONDS = 20.0
LOSSES = ("lose load", "lose commit")
DEATHS = ("die unsent", "die sent", "die executed")
OVERSLEEP = "oversleep"
LOCK_EXPIRY = 0.5
App = Callable[..., Iterable[bytes]]


class Setting(NamedTuple):
    """What a round is played with.

    Args:
        store: ours, overwrite (ours, with that `conflict`) or blob.
        retries: The client sends once more what got no reply, as our own does.
    """

    store: str
    lock: str
    port: int
    lock_nodes: tuple[str, ...] = ()
    retries: bool = False


class Deed(NamedTuple):
    verb: str
    field: str
    argument: Any = None


class Request(NamedTuple):
    """Deeds on a field each, and a fault or none."""

    deeds: tuple[Deed, ...]
    fault: str = ""


class Address(NamedTuple):
    """Where a server is that another process runs."""

    port: int


class MortalConnection(redis.Connection):
    """A connection at which the process dies on demand, by SIGKILL."""

    moment = ""
    """unsent: before the next request is sent; sent: after it; executed: when its reply
    has arrived, but has not been read."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self.moment == "unsent":
            die()
        super().send_packed_command(command, check_health)
        if self.moment == "sent":
            die()

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        if self.moment == "executed" and self.can_read(timeout=SECONDS):
            die()
        return super().read_response(*arguments, **options)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Site:
    """The middleware of a setting, with a proxy of its own before the server."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.proxy = FlakyProxy(Address(setting.port))  # type: ignore[arg-type]
        times = int(setting.retries)
        client = redis.Redis.from_url(
            self.proxy.url,
            connection_class=MortalConnection,
            retry=Retry(NoBackoff(), times, (redis.ConnectionError,)),
            socket_timeout=SECONDS,
        )
        self._client = client
        self._app = validator(_middleware(setting, client))

    def close(self) -> None:
        self._client.close()
        self.proxy.close()

    def send(self, act: Callable[[Any], object], cookie: str = "") -> Answer:
        return send(self._app, act, cookie)

    def make_session(self) -> str:
        """A session with nothing in it that the models know; returns its cookie."""
        return self.send(lambda session: session.update(born=True)).cookie


def _middleware(setting: Setting, client: redis.Redis) -> App:
    if setting.store == "blob":
        return BlobSessions(app, client)
    conflict = "overwrite" if setting.store == "overwrite" else "merge"
    options: dict[str, Any] = {"client": client, "conflict": conflict}
    if setting.lock != "none":
        limits = {"lock_expiry": LOCK_EXPIRY, "lock_wait": SECONDS}
        options |= {"lock": setting.lock, **limits}
    if setting.lock_nodes:
        options["lock_nodes"] = setting.lock_nodes
    return SessionMiddleware(app, options)


class Answer(NamedTuple):
    status: str
    cookie: str
    began: int
    """When the response was begun."""


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    environ["histories.act"](environ["smartredis.session"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


def send(app: App, act: Callable[[Any], object], cookie: str = "") -> Answer:
    """One request, with all that a server does.

    What fails when the response has begun is not for the client to see.
    """
    environ: dict[str, Any] = {"histories.act": act, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    if cookie:
        environ["HTTP_COOKIE"] = cookie
    answers: list[Answer] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        began = time.monotonic_ns()
        cookies = [v.partition(";")[0] for n, v in headers if n == "Set-Cookie"]
        answers.append(Answer(status, (cookies or [cookie])[0], began))
        return lambda _: None

    try:
        body = app(environ, start_response)
        try:
            list(body)
        finally:
            body.close()  # type: ignore[attr-defined]
    except SmartRedisError:
        if not answers:
            raise
    return answers[-1]


class Visitor:
    """A process's requests."""

    def __init__(self, number: int, tell: Callable[[Event], object]) -> None:
        self._number, self._tell = number, tell
        self._count = itertools.count()

    def visit(self, site: Site, cookie: str, request: Request) -> str:
        """One request; returns its status, empty where the request failed."""
        visit = _Visit(self._new_ident, self._tell)
        if request.fault == "lose load":
            site.proxy.drop_next_reply()

        def act(session: Any) -> None:
            for deed in request.deeds:
                visit.do(session, deed)
            if request.fault == OVERSLEEP:
                time.sleep(1.2 * LOCK_EXPIRY)
            if request.fault == "lose commit":
                site.proxy.drop_next_reply()
            if request.fault in DEATHS:
                MortalConnection.moment = request.fault.removeprefix("die ")

        try:
            answer = site.send(act, cookie)
        except LockLost:
            visit.end(None)
            return ""
        except redis.RedisError:
            if site.setting.store != "blob":  # which has no 503
                raise
            return ""
        if request.fault in DEATHS:  # there was nothing to send
            die()
        if answer.status == "200 OK":
            visit.end(answer.began)
        return answer.status

    def _new_ident(self) -> Ident:
        return self._number, next(self._count)


class _Visit:
    def __init__(
        self, new_ident: Callable[[], Ident], tell: Callable[[Event], object]
    ) -> None:
        self._new_ident, self._tell = new_ident, tell
        self._began = time.monotonic_ns()
        self._pending: list[Ident] = []

    def do(self, session: Any, deed: Deed) -> None:
        DEEDS[deed.verb](self, session, deed)

    def end(self, returned: int | None) -> None:
        self._tell(Ended(tuple(self._pending), returned))

    def read(self, session: Any, deed: Deed) -> Any:
        value = READS[deed.field](session)
        operation = Operation("read", None, value, self._began, time.monotonic_ns())
        self._tell(Invoked(self._new_ident(), deed.field, operation))
        return value

    def write(self, deed: Deed, result: Any = None) -> Any:
        """Tell that a write begins; returns what is to be written."""
        verb, field, argument = deed
        ident = self._new_ident()
        operation = Operation(verb, argument, result, time.monotonic_ns())
        self._tell(Invoked(ident, field, operation))
        self._pending.append(ident)
        return argument


def _read_pair(session: Any) -> Any:
    left, right = session.get("left"), session.get("right")
    return left if left == right else (left, right)


READS: dict[str, Callable[[Any], Any]] = {
    "name": lambda session: session.get("name"),
    "count": lambda session: session.get("count", 0),
    "log": lambda session: tuple(session.get("log", ())),
    "nest": lambda session: frozenset(session.get("nest", {}).items()),
    "pair": _read_pair,
}


def _set(visit: _Visit, session: Any, deed: Deed) -> None:
    value = visit.write(deed)
    for name in ("left", "right") if deed.field == "pair" else (deed.field,):
        session[name] = value


def _delete(visit: _Visit, session: Any, deed: Deed) -> None:
    if visit.read(session, deed) is not None:
        visit.write(deed)
        del session[deed.field]


def _add(visit: _Visit, session: Any, deed: Deed) -> None:
    session.incr(deed.field, visit.write(deed))


def _bump(visit: _Visit, session: Any, deed: Deed) -> None:
    """Exact under a lock only."""
    before = visit.read(session, deed)
    session[deed.field] = before + visit.write(deed, before)


def _append(visit: _Visit, session: Any, deed: Deed) -> None:
    is_there = bool(visit.read(session, deed))
    item = visit.write(deed)
    if is_there:
        session[deed.field].append(item)
    else:
        session[deed.field] = [item]


def _put(visit: _Visit, session: Any, deed: Deed) -> None:
    visit.read(session, deed)
    key, value = visit.write(deed)
    if deed.field in session:
        session[deed.field][key] = value
    else:
        session[deed.field] = {key: value}


def _drop(visit: _Visit, session: Any, deed: Deed) -> None:
    if deed.argument in dict(visit.read(session, deed)):
        del session[deed.field][visit.write(deed)]


DEEDS: dict[str, Callable[[_Visit, Any, Deed], object]] = {
    "read": _Visit.read,
    "set": _set,
    "delete": _delete,
    "add": _add,
    "bump": _bump,
    "append": _append,
    "put": _put,
    "drop": _drop,
}
