"""The real thing, made to stop: middleware, scripts and servers, one order at a time.

A stage has one server of its own, and three more for Redlock. The client that the
middleware is given parks the calling actor before each exchange. Each order begins with
the same record, put back as it was dumped once.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib import resources
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import redis
from records import fields_in
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from servers import Server

from smartredis_wsgi import LockTimeout, Redlock, SessionMiddleware
from smartredis_wsgi.ids import Address

from . import schedule
from .blob import BlobSessions
from .catalogue import BODIES, FIXTURE, Body, Me
from .model import Case, Picture, Response, Sight, Trial
from .schedule import Choice, Play

COOKIE = "__Host-sid"
EXPIRY = 600.0  # of a lock: time ends none here, events do
TTL_MS = 1_800_000

# Returns for each key {key, type, 1 if it never expires, content}.
OBSERVE = """
local found = {}
for i, key in ipairs(redis.call('KEYS', '*')) do
  local kind, content = redis.call('TYPE', key).ok, ''
  if kind == 'hash' then content = redis.call('HGETALL', key) end
  if kind == 'string' then content = redis.call('GET', key) end
  if kind == 'list' then content = redis.call('LLEN', key) end
  if kind == 'zset' then content = redis.call('ZCARD', key) end
  found[i] = {key, kind, redis.call('PTTL', key) == -1 and 1 or 0, content}
end
return found
"""


class SteppingRedis(redis.Redis):
    """A client that parks before each exchange, and knows the scripts that it sent."""

    scripts: dict[str, tuple[bytes, str]]

    def execute_command(self, *words: Any, **options: Any) -> Any:
        send = super().execute_command
        return schedule.exchange(self.label(words), lambda: send(*words, **options))

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Pipeline:
        made = _SteppingPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        made.label = self.label
        return made

    def blpop(self, keys: Any, timeout: Any = 0) -> Any:  # noqa: ARG002
        """Its time may be over whenever something has changed, or its signal come."""
        take = functools.partial(super().execute_command, "LPOP", keys[0])
        return schedule.wait("wait for the lock", take)

    def label(self, words: tuple[Any, ...]) -> str:
        """A command, as it is called in an order; the source of a script is kept."""
        if words[0] == "EVAL":
            digest = hashlib.sha1(words[1], usedforsecurity=False).hexdigest()
            self.scripts.setdefault(digest, (words[1], _script_name(words[1])))
            return f"{self.scripts[digest][1]}, as source"
        if words[0] == "EVALSHA":
            return self.scripts[words[1]][1]
        return str(words[0])


class _SteppingPipeline(Pipeline):
    label: Callable[[tuple[Any, ...]], str]

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, send = list(self.command_stack), super().execute

        def act() -> list[Any]:
            self.command_stack = list(stack)
            return send(raise_on_error)

        what = " + ".join(self.label(command[0]) for command in stack)
        return schedule.exchange(what, act)


@functools.cache
def _script_sources() -> dict[str, bytes]:
    folder = resources.files("smartredis_wsgi") / "scripts"
    common = "record.lua", "owner.lua"
    files = [file for file in folder.iterdir() if file.name not in common]
    return {file.name.removesuffix(".lua"): file.read_bytes() for file in files}


def _script_name(source: bytes) -> str:
    names = [name for name, text in _script_sources().items() if text in source]
    return names[0] if names else "release"


class SteppedRedlock:
    """Redlock on three servers; an attempt is one step, and so is a release."""

    def __init__(self, servers: list[Server]) -> None:
        self.changes = 0
        self._redlock = Redlock([s.url for s in servers], expiry=EXPIRY, wait=0)

    def acquire(self, key: str) -> SteppedLease:
        lease = schedule.step("acquire", lambda: self._attempt(key))
        while lease is None:
            lease = schedule.wait("acquire once more", lambda: self._attempt(key))
        return lease

    def _attempt(self, key: str) -> SteppedLease | None:
        try:
            lease = self._redlock.acquire(key)
        except LockTimeout:
            return None
        self.changes += 1
        return SteppedLease(self, lease)


class SteppedLease:
    def __init__(self, strategy: SteppedRedlock, lease: Any) -> None:
        self._strategy, self._lease = strategy, lease

    @property
    def deadline(self) -> float:
        return float(self._lease.deadline)

    def release(self) -> None:
        schedule.step("release", self._release)

    def extend(self) -> None:
        schedule.step("extend", self._lease.extend)

    def _release(self) -> None:
        self._lease.release()
        self._strategy.changes += 1


class Stage:
    """Servers, a middleware, and a session that each order begins with."""

    def __init__(self, lock: str) -> None:
        """Start the servers.

        Args:
            lock: none, single or redlock; blob for the control.
        """
        self._open = ExitStack()
        self._server = self._open.enter_context(Server("valkey"))
        nodes = 3 if lock == "redlock" else 0
        self._nodes = [self._open.enter_context(Server()) for _ in range(nodes)]
        self._admin = self._open.enter_context(self._server.client())
        self._node_clients = [self._open.enter_context(n.client()) for n in self._nodes]
        self._client = SteppingRedis.from_url(  # one that is asked in the thread itself
            self._server.url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=schedule.SECONDS,
        )
        self._client.scripts = {}
        self._open.callback(self._client.close)
        self._redlock = SteppedRedlock(self._nodes) if nodes else None
        self._is_blob = lock == "blob"
        self._play: Play | None = None
        self._is_flushed = False
        self._pictures: dict[str, Picture] = {}
        self._app = validator(self._middleware(lock))
        self._other = self._make({"other": 1})[1][0][1]
        self._original, self._dumps = self._make(FIXTURE)

    def close(self) -> None:
        self._open.close()

    def play(self, case: Case, choose: Callable[[Iterable[Choice]], Choice]) -> Trial:
        """One order of a case, from a fresh state."""
        self._reset()
        requests = case.requests
        bodies = {n: BODIES[body] for chain in requests for n, body in chain.items()}
        responses = {name: Response() for name in bodies}
        acts = {
            next(iter(chain)): functools.partial(self._visit, chain, responses)
            for chain in requests
        }
        happen = self._events.get(case.event)
        events = {case.event: happen} if happen else {}
        losses = int(case.event == "lost reply")
        self._play = Play(acts, events, self._observe, losses)
        steps = self._play.run(choose)
        return Trial(
            case=case,
            bodies=bodies,
            steps=steps,
            responses=responses,
            is_stuck=self._play.is_stuck,
            locks_left=self._locks_left(),
        )

    # -- requests --------------------------------------------------------------------

    def _middleware(self, lock: str) -> Any:
        if lock == "blob":
            return BlobSessions(_application, self._client)
        return SessionMiddleware(
            _application,
            client=self._client,
            lock=self._redlock or lock,
            lock_wait=EXPIRY,
            lock_expiry=EXPIRY,
            timeout=EXPIRY,  # while it is stopped, a request seems to wait for Redis
        )

    def _visit(self, chain: dict[str, str], responses: dict[str, Response]) -> None:
        """One request after the other, of a client that keeps its cookie."""
        jar: str | None = self._original
        for name, body in chain.items():
            schedule.go_on_as(name)
            sent = jar if BODIES[body].has_cookie else None
            self._request(name, BODIES[body], sent, responses[name])
            if responses[name].cookie is not None:
                jar = responses[name].cookie

    def _request(
        self, name: str, known: Body, sent: str | None, response: Response
    ) -> None:
        environ: dict[str, Any] = {"QUERY_STRING": ""}
        setup_testing_defaults(environ)
        me = environ["explorer.me"] = _Witness(name, self, response)
        environ["explorer.body"] = known
        if sent:
            environ["HTTP_COOKIE"] = f"{COOKIE}={sent}"
            response.sent = self.name_of(sent)
        try:
            items = self._app(environ, me.start_response)
            try:
                list(items)
            finally:
                items.close()
        except Exception as error:
            response.error = type(error).__name__
            response.detail = repr(error)

    def _make(self, fields: dict[str, Any]) -> tuple[str, list[tuple[bytes, bytes]]]:
        """A new session: its id, and all keys as they are dumped."""
        self._admin.flushdb()
        response = Response()
        fill = Body("fill", lambda session, _: session.update(fields), has_cookie=False)
        self._request("fixture", fill, None, response)
        if not response.cookie:
            raise RuntimeError(f"no session could be made: {response}")
        keys = self._admin.keys("*")
        return response.cookie, [(key, self._admin.dump(key)) for key in keys]

    def clock(self) -> int:
        return self._play.begun if self._play else 0

    def name_of(self, session_id: str) -> str:
        """What a record is called in a picture."""
        if self._is_blob:
            return session_id
        return Address.of(session_id).record[-64:]

    # -- Redis -----------------------------------------------------------------------

    def _reset(self) -> None:
        pipe = self._admin.pipeline(transaction=False)
        pipe.flushdb()
        for key, dump in self._dumps:
            pipe.restore(key, TTL_MS, dump)
        if self._is_flushed:
            for source, _ in self._client.scripts.values():
                pipe.execute_command("SCRIPT", "LOAD", source)
        pipe.execute()
        self._is_flushed = False
        for node in self._node_clients:
            node.flushdb()

    def _observe(self) -> Picture:
        found = sorted(self._admin.execute_command("EVAL", OBSERVE, 0))
        token = repr(found)
        if token not in self._pictures:
            if len(self._pictures) > 10_000:
                self._pictures.clear()
            self._pictures[token] = _picture(found)
        picture = self._pictures[token]
        if self._redlock:
            picture = picture._replace(nodes=self._redlock.changes)
        return picture

    def _locks_left(self) -> list[str]:
        clients = [self._admin, *self._node_clients]
        return [key.decode() for c in clients for key in c.keys("lock:*")]

    @property
    def _events(self) -> dict[str, Callable[[], None]]:
        return {
            "expire": self._expire,
            "replace": self._replace,
            "forget": self._forget,
            "unlock": self._unlock,
            "flush": self._flush,
        }

    def _expire(self) -> None:
        """The record expires, or is evicted, under whichever key it lies now."""
        for name, fields in self._observe().records.items():
            if "seed" in fields:
                self._delete(f"session:*{name}")

    def _replace(self) -> None:
        """Another session lies under the same id, as after an old backup came back."""
        if self.name_of(self._original) in self._observe().records:
            key, _ = self._dumps[0]
            self._admin.restore(key, TTL_MS, self._other, replace=True)

    def _forget(self) -> None:
        """The tombstones expire, or are evicted."""
        living = self._observe().records
        for key in self._admin.keys("session:*"):
            if _name_in(key) not in living:
                self._admin.delete(key)

    def _unlock(self) -> None:
        self._delete("lock:*")
        for node in self._node_clients:
            node.flushdb()
        if self._redlock:
            self._redlock.changes += 1

    def _flush(self) -> None:
        self._admin.script_flush()
        self._is_flushed = True

    def _delete(self, pattern: str) -> None:
        for key in self._admin.keys(pattern.replace("{", "\\{")):
            self._admin.delete(key)


class _Witness(Me):
    """A request's own, noting into its response what happens to it, and when."""

    def __init__(self, name: str, stage: Stage, response: Response) -> None:
        super().__init__(name)
        self._stage, self._response = stage, response

    def noted(self, sight: dict[str, Any]) -> None:
        self._response.sights.append(Sight(self._stage.clock(), sight))

    def destroyed(self) -> None:
        self._response.destroyed_at = self._stage.clock()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], _: Any = None
    ) -> Callable[[bytes], object]:
        self._response.status = status
        self._response.at = self._stage.clock()
        for name, value in headers:
            if name == "Set-Cookie":
                self._take(value.partition("=")[2].partition(";")[0])
        return lambda _: None

    def _take(self, cookie: str) -> None:
        self._response.cookie = cookie
        self._response.record = cookie and self._stage.name_of(cookie)


def _application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application that is explored: what it does is the request's body."""
    known: Body = environ["explorer.body"]
    known.act(environ["smartredis.session"], environ["explorer.me"])
    start_response(known.status, [("Content-Type", "text/plain")])
    return [b"done"]


def _name_in(key: bytes) -> str:
    return key.decode().removeprefix("session:").rpartition("}")[2]


def _picture(found: list[list[Any]]) -> Picture:
    records, locks, rest = {}, [], []
    for key, kind, _, content in found:
        if (
            key.startswith(b"session:")
            and (fields := _fields(kind, content)) is not None
        ):
            records[_name_in(key)] = fields
        elif key.startswith(b"lock:"):
            locks.append(f"{key!r} {content!r}")
        else:
            rest.append(f"{key!r} {kind!r} {content!r}")
    immortal = tuple(key.decode() for key, _, never, _ in found if never)
    return Picture(records, immortal, tuple(locks), tuple(rest))


def _fields(kind: bytes, content: Any) -> dict[str, Any] | None:
    """The fields of a living record, ours or the control's; None for what is none."""
    if kind == b"string":
        return json.loads(content) if content.startswith(b"{") else None
    if kind != b"hash":
        return None
    pairs = dict(zip(content[::2], content[1::2], strict=True))
    return {n.decode(): _value(raw) for n, raw in fields_in(pairs).items()}


def _value(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw
