"""The middleware, as a server and a client see it: when it commits, what it sends."""

from __future__ import annotations

import io
import logging
import re
import secrets
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
import redis as redis_py
from apps import (
    PLAIN,
    SESSION,
    SHAPES,
    Act,
    App,
    Environ,
    Shape,
    Start,
    a_file,
    a_late_generator,
    a_list,
    a_tuple,
    a_write,
    an_early_generator,
    an_empty_generator,
)
from conftest import Backend
from doubles import CountedRedis, DeadRedis, FlakyProxy, counting_client
from servers import Server, wait_until

from smartredis_wsgi import (
    ConfigError,
    EncodeError,
    LockLost,
    Session,
    SessionFrozen,
    SessionGone,
    SessionMiddleware,
    SessionStore,
    SessionTooLarge,
    SingleNodeLock,
    SmartRedisError,
    StoreUnavailable,
)

COOKIE = "__Host-sid"
LOCKED = {"lock": "single", "lock_wait": 0.2}
Headers = list[tuple[str, str]]

# -- a server, a client --------------------------------------------------------------


@dataclass
class Served:
    """One exchange, as a server after PEP 3333 sees it."""

    events: list[str] = field(default_factory=list)
    """In their order: "start", and "item" for each item of the body."""
    status: str = ""
    headers: Headers = field(default_factory=list)
    items: list[bytes] = field(default_factory=list)
    at_start: Callable[[], object] = lambda: None

    def start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        if exc_info and any(self.items):
            raise exc_info[1]
        assert exc_info or not self.status, "start_response was called twice"
        self.events.append("start")
        self.status, self.headers = status, headers
        self.at_start()
        return self.write

    def write(self, item: bytes) -> None:
        self.events.append("item")
        self.items.append(item)

    @property
    def body(self) -> bytes:
        return b"".join(self.items)

    def all(self, name: str) -> list[str]:
        """The values of all headers of this name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def new_cookie(self) -> str | None:
        """What the one Set-Cookie header sets; None if there is none."""
        headers = self.all("Set-Cookie")
        assert len(headers) <= 1, "more than one Set-Cookie header"
        return headers[0].partition(";")[0].partition("=")[2] if headers else None

    @property
    def expires_cookie(self) -> bool:
        return self.new_cookie == "" and "Max-Age=0" in self.all("Set-Cookie")[0]


def environ_for(
    cookie: str | None = None, method: str = "GET", **more: Any
) -> dict[str, Any]:
    """A request, from a client that has this id or, with a =, this Cookie header."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": "", **more}
    environ.setdefault("wsgi.file_wrapper", FileWrapper)
    environ["wsgi.errors"] = io.StringIO()
    if cookie is not None:
        environ["HTTP_COOKIE"] = cookie if "=" in cookie else f"{COOKIE}={cookie}"
    setup_testing_defaults(environ)
    return environ


def serve(
    app: App,
    cookie: str | None = None,
    method: str = "GET",
    served: Served | None = None,
    **more: Any,
) -> Served:
    """Serve one request to the end, as a server does; an exception comes out."""
    served = served or Served()
    environ = environ_for(cookie, method, **more)
    complaints = environ["wsgi.errors"]
    body = app(environ, served.start_response)
    try:
        for item in body:
            assert served.status, "an item came before the headers"
            served.write(item)
    finally:
        if hasattr(body, "close"):
            body.close()
    assert served.status, "the headers never came"
    assert complaints.getvalue() == ""
    return served


def checked(app: App, inside: bool = True, **options: Any) -> App:
    """The application in the middleware, with a validator on both sides of it.

    Args:
        inside: False where the application's own list is to reach the middleware: the
            validator makes an iterator of it.
    """
    wrapped: App = validator(
        SessionMiddleware(validator(app) if inside else app, **options)
    )
    return wrapped


def nothing(session: Session) -> None:
    """Does not touch the session."""


def read(session: Session) -> None:
    session.get("n")


def write(session: Session) -> None:
    session["n"] = 1


def count(session: Session) -> None:
    session.incr("n")


def read_and_count(session: Session) -> None:
    session["n"] = session.get("n", 0) + 1


def destroy(session: Session) -> None:
    session.destroy()


# -- the store, seen from aside ------------------------------------------------------


def a_session(client: redis_py.Redis, **fields: Any) -> str:
    """The id of a new session with these fields."""
    with SessionStore.from_config({"client": client}).open() as session:
        session.update(fields or {"n": 7})
        return session.id


def stored(client: redis_py.Redis, session_id: str) -> dict[str, Any]:
    with SessionStore.from_config({"client": client}).open(session_id) as session:
        return dict(session)


def locks(client: redis_py.Redis) -> list[Any]:
    return list(client.keys("lock:*"))


@pytest.fixture
def counted(server: Server) -> Iterator[CountedRedis]:
    client = counting_client(server.url)
    yield client
    client.close()


class CountedLock:
    """A strategy of a user's own that counts; there is one lock for all keys."""

    def __init__(self) -> None:
        self.acquired = self.released = 0
        self.deadline = float("inf")

    def acquire(self, _: str) -> CountedLock:
        assert not self.is_held
        self.acquired += 1
        return self

    def release(self) -> None:
        self.released += 1

    def extend(self) -> None:
        self.deadline = monotonic() + 60

    @property
    def is_held(self) -> bool:
        return self.acquired > self.released


# -- rule 9: headers -----------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cookie", [None, "known", "foo; bar=1"])
def test_a_response_passes_untouched_if_the_session_was_not(
    counted: CountedRedis, shape: Shape, inside: bool, cookie: str | None
) -> None:
    sid = a_session(counted)
    cookie = sid if cookie == "known" else cookie
    counted.trips.reset()
    plain = serve(shape(nothing), cookie, **{SESSION: None})
    served = serve(checked(shape(nothing), inside, client=counted), cookie)
    assert (served.status, served.headers) == (plain.status, plain.headers)
    assert served.items == plain.items
    assert counted.trips.count == 0


def test_the_headers_of_an_untouched_response_are_the_same_object(
    redis: redis_py.Redis,
) -> None:
    headers = [("Content-Type", "text/plain"), ("X-Odd", "a  b\t c")]

    def app(_: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", headers)
        return [b""]

    served = Served()
    SessionMiddleware(app, client=redis)(environ_for(), served.start_response)
    assert served.headers is headers
    assert headers == [("Content-Type", "text/plain"), ("X-Odd", "a  b\t c")]


def test_what_tells_nothing_of_the_stored_session_does_not_touch_it(
    counted: CountedRedis,
) -> None:
    def glance(session: Session) -> None:
        repr(session)
        assert session.modified is False
        assert session is not None

    sid = a_session(counted)
    counted.trips.reset()
    served = serve(checked(a_list(glance), client=counted), sid)
    assert served.headers == PLAIN
    assert counted.trips.count == 0


def test_a_session_that_is_only_read_is_named_in_vary_and_nowhere_else(
    redis: redis_py.Redis,
) -> None:
    app = checked(a_list(read), client=redis)
    for cookie in (a_session(redis), None):
        assert serve(app, cookie).headers == [*PLAIN, ("Vary", "Cookie")]


def test_what_bears_a_cookie_is_not_to_be_stored_whatever_else_is_said_of_it(
    redis: redis_py.Redis,
) -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        write(environ[SESSION])
        start_response("200 OK", [*PLAIN, ("Age", "1"), ("Pragma", "x")])
        return [b"ok"]

    assert serve(checked(app, client=redis)).all("Cache-Control") == ["no-store"]


def test_the_cookie_is_set_when_the_session_is_new(redis: redis_py.Redis) -> None:
    served = serve(checked(a_list(write), client=redis))
    (header,) = served.all("Set-Cookie")
    assert header.startswith(f"{COOKIE}={served.new_cookie};")
    attributes = {part.strip().lower() for part in header.split(";")[1:]}
    assert attributes == {"path=/", "secure", "httponly", "samesite=lax"}
    assert served.all("Vary") == ["Cookie"]
    assert served.all("Cache-Control") == ["no-store"]
    assert stored(redis, served.new_cookie or "") == {"n": 1}


@pytest.mark.parametrize("act", [read, write, count], ids=lambda act: act.__name__)
def test_the_cookie_is_not_set_again_for_a_client_that_has_it(
    redis: redis_py.Redis, act: Act
) -> None:
    served = serve(checked(a_list(act), client=redis), a_session(redis))
    assert served.headers == [*PLAIN, ("Vary", "Cookie")]


def test_an_empty_session_that_was_only_looked_at_gets_no_cookie(
    redis: redis_py.Redis,
) -> None:
    def look(session: Session) -> None:
        assert not session
        assert session.pop("n", None) is None
        assert session.is_new
        assert session.id

    served = serve(checked(a_list(look), client=redis))
    assert served.new_cookie is None
    assert redis.dbsize() == 0


def test_regenerating_sets_the_new_id_and_kills_the_old_one(
    redis: redis_py.Redis,
) -> None:
    app = checked(a_list(lambda session: session.regenerate_id()), client=redis)
    sid = a_session(redis)
    served = serve(app, sid)
    assert served.new_cookie not in (None, "", sid)
    assert stored(redis, served.new_cookie or "") == {"n": 7}
    assert stored(redis, sid) == {}


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Oops", "503 Busy"])
@pytest.mark.parametrize("shape", [a_list, a_late_generator, a_write])
def test_destroying_expires_the_cookie_whatever_the_status(
    redis: redis_py.Redis, shape: Shape, status: str
) -> None:
    sid = a_session(redis)
    served = serve(checked(shape(destroy, status), client=redis), sid)
    assert served.status == status
    assert served.expires_cookie
    assert "Path=/" in served.all("Set-Cookie")[0]
    assert "secure" in served.all("Set-Cookie")[0].lower()
    assert served.all("Vary") == ["Cookie"]
    assert served.all("Cache-Control") == ["no-store"]
    assert stored(redis, sid) == {}


@pytest.mark.parametrize("name", ["destroy", "invalidate", "delete"])
def test_a_session_written_after_its_end_has_a_new_id(
    redis: redis_py.Redis, name: str
) -> None:
    def log_out_and_go_on(session: Session) -> None:
        getattr(session, name)()
        session["flash"] = "goodbye"

    sid = a_session(redis)
    served = serve(checked(a_list(log_out_and_go_on), client=redis), sid)
    assert served.new_cookie not in (None, "", sid)
    assert stored(redis, served.new_cookie or "") == {"flash": "goodbye"}
    assert stored(redis, sid) == {}


def test_a_5xx_after_destroying_and_writing_expires_the_cookie(
    redis: redis_py.Redis,
) -> None:
    def log_out_and_go_on(session: Session) -> None:
        session.destroy()
        session["flash"] = "goodbye"

    app = checked(a_list(log_out_and_go_on, "500 Oops"), client=redis)
    assert serve(app, a_session(redis)).expires_cookie


def test_destroying_says_nothing_to_a_client_without_a_cookie(
    redis: redis_py.Redis,
) -> None:
    served = serve(checked(a_list(destroy), client=redis))
    assert served.new_cookie is None
    assert redis.dbsize() == 0


def test_only_the_request_that_destroyed_expires_the_cookie(
    redis: redis_py.Redis,
) -> None:
    sid = a_session(redis)

    def overtaken(session: Session) -> None:
        assert session["n"] == 7
        assert serve(checked(a_list(destroy), client=redis), sid).expires_cookie
        session["n"] = 8

    served = serve(checked(a_list(overtaken), client=redis), sid)
    assert served.status == "200 OK"
    assert served.new_cookie is None
    assert stored(redis, sid) == {}
    served = serve(checked(a_list(read), client=redis), sid)
    assert served.new_cookie is None


def test_the_application_s_own_cache_control_stays_alone(redis: redis_py.Redis) -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        write(environ[SESSION])
        start_response("200 OK", [*PLAIN, ("cache-control", "private, max-age=5")])
        return [b""]

    served = serve(checked(app, client=redis))
    assert served.new_cookie
    assert served.all("Cache-Control") == ["private, max-age=5"]


def test_the_application_s_own_vary_and_cookies_stay(redis: redis_py.Redis) -> None:
    own = [*PLAIN, ("Vary", "Accept"), ("Set-Cookie", "theme=dark")]

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        write(environ[SESSION])
        start_response("200 OK", list(own))
        return [b""]

    served = serve(checked(app, client=redis))
    assert "Accept" in ", ".join(served.all("Vary"))
    assert "Cookie" in ", ".join(served.all("Vary"))
    ours, theirs = sorted(served.all("Set-Cookie"))
    assert theirs == "theme=dark"
    assert ours.startswith(COOKIE)


def test_the_application_s_list_of_headers_is_left_as_it_was(
    redis: redis_py.Redis,
) -> None:
    headers = list(PLAIN)

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        write(environ[SESSION])
        start_response("200 OK", headers)
        return [b""]

    assert serve(checked(app, client=redis)).new_cookie
    assert headers == PLAIN


# -- rule 10: when it commits --------------------------------------------------------

WAYS = [("GET", True), ("GET", False), ("HEAD", False)]


@pytest.mark.parametrize(("method", "inside"), WAYS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", [{}, LOCKED], ids=["none", "single"])
def test_the_server_s_start_response_comes_after_the_commit(
    counted: CountedRedis,
    redis: redis_py.Redis,
    monkeypatch: pytest.MonkeyPatch,
    shape: Shape,
    method: str,
    inside: bool,
    options: dict[str, Any],
) -> None:
    sid = a_session(redis, n=1)
    served = Served()
    seen: list[Any] = []

    def act(session: Session) -> None:
        assert session["n"] == 1
        session["n"] = 2
        served.events.append("written")

    def look() -> None:
        seen.append((stored(redis, sid), locks(redis)))

    served.at_start = look
    monkeypatch.setattr(counted.trips, "add", lambda _: served.events.append("redis"))
    app = checked(shape(act), inside, client=counted, **options)
    serve(app, sid, method, served)
    assert seen == [({"n": 2}, [])]
    assert served.status[0] == "2"
    assert served.events.count("start") == 1
    at_write, at_start = served.events.index("written"), served.events.index("start")
    assert "redis" in served.events[:at_write], "control: the load is seen"
    assert set(served.events[at_write + 1 : at_start]) == {"redis"}
    assert set(served.events[at_start + 1 :]) <= {"item"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inside", [True, False])
def test_a_new_session_is_there_when_its_cookie_leaves(
    redis: redis_py.Redis, shape: Shape, inside: bool
) -> None:
    sizes: list[Any] = []
    served = Served(at_start=lambda: sizes.append(redis.dbsize()))
    serve(checked(shape(write), inside, client=redis), served=served)
    assert served.new_cookie
    assert sizes == [1]
    assert stored(redis, served.new_cookie) == {"n": 1}


def test_an_empty_first_item_commits(redis: redis_py.Redis) -> None:
    sid = a_session(redis)
    seen: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", list(PLAIN))
        environ[SESSION]["n"] = 8
        seen.append(stored(redis, sid))
        yield b""
        seen.append(stored(redis, sid))
        yield b"x"

    assert serve(checked(app, client=redis), sid).items == [b"", b"x"]
    assert seen == [{"n": 7}, {"n": 8}]


def test_the_first_write_commits(redis: redis_py.Redis) -> None:
    sid = a_session(redis)
    seen: list[Any] = []

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", list(PLAIN))
        environ[SESSION]["n"] = 8
        seen.append(stored(redis, sid))
        write(b"")
        seen.append(stored(redis, sid))
        write(b"x")
        return []

    assert serve(checked(app, client=redis), sid).items == [b"", b"x"]
    assert seen == [{"n": 7}, {"n": 8}]


def test_the_end_of_an_empty_generator_commits(redis: redis_py.Redis) -> None:
    served = Served()
    environ = environ_for()
    app = checked(an_empty_generator(write), client=redis)
    body = app(environ, served.start_response)
    assert redis.dbsize() == 0
    assert list(body) == []
    assert redis.dbsize() == 1
    assert served.new_cookie
    body.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{}, LOCKED], ids=["none", "single"])
def test_the_close_of_a_generator_that_was_never_iterated_commits(
    redis: redis_py.Redis, options: dict[str, Any]
) -> None:
    sid = a_session(redis)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", list(PLAIN))
        environ[SESSION]["n"] += 1
        return (item for item in (b"a", b"b"))

    served = Served()
    body = checked(app, client=redis, **options)(
        environ_for(sid), served.start_response
    )
    assert stored(redis, sid) == {"n": 7}
    assert len(locks(redis)) == len(options) // 2
    body.close()  # type: ignore[attr-defined]
    assert stored(redis, sid) == {"n": 8}
    assert locks(redis) == []
    assert served.events == []


def test_a_5xx_that_was_never_iterated_keeps_nothing(redis: redis_py.Redis) -> None:
    sid = a_session(redis)

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("500 Oops", list(PLAIN))
        environ[SESSION]["n"] = 8
        return (item for item in (b"a", b"b"))

    body = checked(app, client=redis)(environ_for(sid), Served().start_response)
    body.close()  # type: ignore[attr-defined]
    assert stored(redis, sid) == {"n": 7}


class ClosableList(list[bytes]):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def file_of(*_: Any) -> Any:
    """A ``wsgi.file_wrapper`` that is a function, as uWSGI's is."""
    return FunctionMade()


class FunctionMade:
    def __iter__(self) -> Iterator[bytes]:
        return iter([b"ab"])


@pytest.mark.parametrize(
    "make",
    [
        lambda _: [b"a", b"b"],
        lambda _: [],
        lambda _: (b"a",),
        lambda _: ClosableList([b"a"]),
        lambda environ: environ["wsgi.file_wrapper"](io.BytesIO(b"ab")),
    ],
    ids=["list", "empty list", "tuple", "subclass", "file_wrapper"],
)
@pytest.mark.parametrize("act", [nothing, write], ids=["untouched", "written"])
def test_lists_tuples_and_files_come_out_as_the_same_object(
    redis: redis_py.Redis, make: Callable[[Environ], Any], act: Act
) -> None:
    made: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Any:
        act(environ[SESSION])
        start_response("200 OK", list(PLAIN))
        made.append(make(environ))
        return made[0]

    served = Served()
    body = SessionMiddleware(app, client=redis)(environ_for(), served.start_response)
    assert body is made[0]
    assert served.events == ["start"]
    assert not getattr(body, "closed", 0), "closing is the server's"
    if hasattr(body, "close"):
        body.close()


def test_what_a_file_wrapper_that_is_a_function_made_comes_out_as_the_same_object(
    redis: redis_py.Redis,
) -> None:
    made: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Any:
        write(environ[SESSION])
        start_response("200 OK", list(PLAIN))
        made.append(environ["wsgi.file_wrapper"](io.BytesIO(b"ab")))
        return made[0]

    environ = environ_for(**{"wsgi.file_wrapper": file_of})
    body = SessionMiddleware(app, client=redis)(environ, Served().start_response)
    assert body is made[0]


def test_where_the_server_has_no_file_wrapper_the_application_finds_none(
    redis: redis_py.Redis,
) -> None:
    found: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Any:
        found.append(environ.get("wsgi.file_wrapper"))
        return a_list(write)(environ, start_response)

    environ = environ_for(**{"wsgi.file_wrapper": None})
    SessionMiddleware(app, client=redis)(environ, Served().start_response)
    assert found == [None]


class Body:
    """A body that writes down what happens to it."""

    def __init__(self, *items: bytes | BaseException, act: Any = None) -> None:
        self.events: list[str] = []
        self._items = iter(items)
        self._act = act

    def __iter__(self) -> Iterator[bytes]:
        self.events.append("iter")
        return self

    def __next__(self) -> bytes:
        item = next(self._items)
        self.events.append(f"made {item!r}")
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self.events.append("close")


def returning(body: Any, act: Act = nothing, status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Start) -> Any:
        act(environ[SESSION])
        start_response(status, list(PLAIN))
        return body

    return app


@pytest.mark.parametrize("act", [nothing, write], ids=["untouched", "written"])
def test_one_item_comes_out_for_each_that_goes_in(
    redis: redis_py.Redis, act: Act
) -> None:
    body = Body(b"a", b"", b"b")
    app = checked(returning(body, act), client=redis)
    out = app(environ_for(), Served().start_response)
    for item in out:
        body.events.append(f"got {item!r}")
    out.close()  # type: ignore[attr-defined]
    pairs = [f"{verb} {item!r}" for item in (b"a", b"", b"b") for verb in VERBS]
    assert body.events == ["iter", *pairs, "close"]


VERBS = ("made", "got")


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("read_on", [0, 1, 2, 3], ids="read {}".format)
def test_a_body_is_closed_once_however_much_of_it_was_read(
    redis: redis_py.Redis, inside: bool, read_on: int
) -> None:
    body = Body(b"a", b"b")
    app = checked(returning(body, write), inside, client=redis)
    out = app(environ_for(), Served().start_response)
    items = iter(out)
    for _ in range(read_on):
        next(items, None)
    assert "close" not in body.events
    out.close()  # type: ignore[attr-defined]
    assert body.events.count("close") == 1


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("before", [(), (b"a",)], ids=["at once", "after an item"])
def test_a_body_that_raises_is_closed_once(
    redis: redis_py.Redis, inside: bool, before: tuple[bytes, ...]
) -> None:
    body = Body(*before, ValueError("broken"))
    app = checked(returning(body, write), inside, client=redis)
    with pytest.raises(ValueError, match="broken"):
        serve(app)
    assert body.events.count("close") == 1
    assert redis.dbsize() == len(before)


LATE_WRITES: dict[str, Act] = {
    "set": lambda session: session.__setitem__("n", 2),
    "set new": lambda session: session.setdefault("m", 2),
    "update": lambda session: session.update(m=2),
    "del": lambda session: session.__delitem__("n"),
    "pop": lambda session: session.pop("n"),
    "popitem": lambda session: session.popitem(),
    "clear": lambda session: session.clear(),
    "incr": lambda session: session.incr("n"),
    "destroy": lambda session: session.destroy(),
    "invalidate": lambda session: session.invalidate(),
    "delete": lambda session: session.delete(),
    "regenerate_id": lambda session: session.regenerate_id(),
    "set_ttl": lambda session: session.set_ttl(60),
    "changed": lambda session: session.changed(),
    "save": lambda session: session.save(),
    "lock": lambda session: session.lock().__enter__(),
}


@pytest.mark.parametrize("act", [nothing, read, write], ids=lambda act: act.__name__)
@pytest.mark.parametrize("verb", LATE_WRITES)
def test_a_write_after_the_headers_left_raises_session_frozen(
    redis: redis_py.Redis, act: Act, verb: str
) -> None:
    sid = a_session(redis, n=1)

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        session = environ[SESSION]
        act(session)
        start_response("200 OK", list(PLAIN))
        yield b"a"
        with pytest.raises(SessionFrozen):
            LATE_WRITES[verb](session)
        yield b"b"

    assert serve(checked(app, client=redis, **LOCKED), sid).body == b"ab"
    assert stored(redis, sid) == {"n": 1}
    assert locks(redis) == []


@pytest.mark.parametrize("act", [nothing, read, count], ids=lambda act: act.__name__)
def test_the_session_can_be_read_after_the_headers_left(
    redis: redis_py.Redis, act: Act
) -> None:
    sid = a_session(redis, n=1)
    expected = {"n": 2} if act is count else {"n": 1}

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        session = environ[SESSION]
        act(session)
        start_response("200 OK", list(PLAIN))
        yield b"a"
        assert dict(session) == expected
        assert session["n"] == expected["n"]
        assert "m" not in session
        assert len(session) == 1
        assert session.id == sid
        assert not session.is_new
        session.reload()
        assert dict(session) == expected
        assert locks(redis) == []
        yield b"b"

    assert serve(checked(app, client=redis, **LOCKED), sid).body == b"ab"


def test_a_write_method_freezes_the_session_after_its_first_call(
    redis: redis_py.Redis,
) -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        send = start_response("200 OK", list(PLAIN))
        environ[SESSION]["n"] = 1
        send(b"a")
        with pytest.raises(SessionFrozen):
            environ[SESSION]["n"] = 2
        return []

    served = serve(checked(app, client=redis))
    assert stored(redis, served.new_cookie or "") == {"n": 1}


def test_a_session_that_is_first_touched_after_the_headers_can_only_be_read(
    redis: redis_py.Redis,
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", list(PLAIN))
        yield b"a"
        with pytest.raises(SessionFrozen):
            environ[SESSION]["n"] = 1
        assert environ[SESSION]["n"] == 7

    served = serve(checked(app, inside=False, client=redis), a_session(redis))
    assert served.body == b"a"


def test_a_session_that_is_first_touched_after_a_failure_can_only_be_read(
    redis: redis_py.Redis,
) -> None:
    kept: list[Session] = []

    def app(environ: Environ, _: Start) -> list[bytes]:
        kept.append(environ[SESSION])
        raise ValueError("sorry")

    with pytest.raises(ValueError, match="sorry"):
        serve(checked(app, inside=False, client=redis), a_session(redis))
    with pytest.raises(SessionFrozen):
        kept[0]["n"] = 1
    assert kept[0]["n"] == 7


# -- rule 11: what is dropped, what stays --------------------------------------------


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Busy"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_5xx_drops_the_changes(
    redis: redis_py.Redis, shape: Shape, status: str
) -> None:
    sid = a_session(redis)
    served = serve(checked(shape(count, status), inside=False, client=redis), sid)
    assert served.status == status
    assert served.headers == [*PLAIN, ("Vary", "Cookie")]
    assert stored(redis, sid) == {"n": 7}
    served = serve(checked(shape(count, status), inside=False, client=redis))
    assert served.new_cookie is None
    assert redis.dbsize() == 1


@pytest.mark.parametrize("status", ["201 Created", "303 See Other", "404 Not Found"])
def test_any_other_status_keeps_the_changes(redis: redis_py.Redis, status: str) -> None:
    sid = a_session(redis)
    assert serve(checked(a_list(count, status), client=redis), sid).status == status
    assert stored(redis, sid) == {"n": 8}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("shape", [a_list, a_late_generator, an_early_generator])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_drops_the_changes_and_stays_itself(
    redis: redis_py.Redis,
    shape: Shape,
    inside: bool,
    failure: type[BaseException],
) -> None:
    error = failure("the application's own")
    sid = a_session(redis)

    def fail_after_a_change(session: Session) -> None:
        session["n"] += 1
        raise error

    served = Served()
    app = checked(shape(fail_after_a_change), inside, client=redis, **LOCKED)
    with pytest.raises(failure) as caught:
        serve(app, sid, served=served)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[-1] == "fail_after_a_change"
    assert frames.count("fail_after_a_change") == 1
    assert served.events == []
    assert stored(redis, sid) == {"n": 7}
    assert locks(redis) == []


def test_an_exception_after_the_first_item_comes_after_the_commit(
    redis: redis_py.Redis,
) -> None:
    error = ValueError("too late")

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        count(environ[SESSION])
        start_response("200 OK", list(PLAIN))
        yield b"a"
        raise error

    sid = a_session(redis)
    served = Served()
    with pytest.raises(ValueError, match="too late") as caught:
        serve(checked(app, client=redis), sid, served=served)
    assert caught.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == "app"
    assert served.items == [b"a"]
    assert stored(redis, sid) == {"n": 8}


def test_exc_info_after_the_first_item_reaches_the_server(
    redis: redis_py.Redis,
) -> None:
    error = ValueError("too late")

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        count(environ[SESSION])
        start_response("200 OK", list(PLAIN))
        yield b"a"
        try:
            raise error
        except ValueError:
            start_response("500 Oops", list(PLAIN), sys.exc_info())
        yield b"never"

    sid = a_session(redis)
    served = Served()
    with pytest.raises(ValueError, match="too late") as caught:
        serve(checked(app, client=redis), sid, served=served)
    assert caught.value is error
    assert served.status == "200 OK"
    assert served.items == [b"a"]
    assert stored(redis, sid) == {"n": 8}


def test_an_error_page_that_becomes_a_5xx_drops_the_changes(
    redis: redis_py.Redis,
) -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        count(environ[SESSION])
        start_response("200 OK", list(PLAIN))
        try:
            raise ValueError
        except ValueError:
            start_response("500 Oops", list(PLAIN), sys.exc_info())
        return [b"sorry"]

    sid = a_session(redis)
    assert serve(checked(app, client=redis), sid).status == "500 Oops"
    assert stored(redis, sid) == {"n": 7}


def save(session: Session) -> None:
    session["n"] = 8
    session.save()
    session["n"] = 9


def lock(session: Session) -> None:
    with session.lock():
        session["n"] += 1
    session["n"] = 9


PROMISES: list[tuple[Act, dict[str, Any]]] = [
    (destroy, {}),
    (save, {"n": 8}),
    (lock, {"n": 8}),
]


@pytest.mark.parametrize(("act", "left"), PROMISES, ids=["destroy", "save", "lock"])
@pytest.mark.parametrize("lock_scope", ["none", "request", "commit", "manual"])
@pytest.mark.parametrize("end", ["500 Oops", "an exception"])
def test_destroy_save_and_lock_survive_a_failure(
    redis: redis_py.Redis, act: Act, left: dict[str, Any], lock_scope: str, end: str
) -> None:
    sid = a_session(redis)
    options = {} if lock_scope == "none" else {**LOCKED, "lock_scope": lock_scope}

    def fail_late(session: Session) -> None:
        act(session)
        if end == "an exception":
            raise ValueError("late")

    app = checked(a_list(fail_late, "500 Oops"), client=redis, **options)
    try:
        served = serve(app, sid)
    except ValueError:
        assert end == "an exception"
    else:
        assert served.status == end
        assert served.expires_cookie is (act is destroy)
    assert stored(redis, sid) == left
    assert locks(redis) == []


def test_a_session_saved_before_a_5xx_reaches_the_client(redis: redis_py.Redis) -> None:
    served = serve(checked(a_list(save, "500 Oops"), client=redis))
    assert served.status == "500 Oops"
    assert stored(redis, served.new_cookie or "") == {"n": 8}


def test_an_exception_within_the_lock_drops_the_block_alone(
    redis: redis_py.Redis,
) -> None:
    def act(session: Session) -> None:
        session["n"] = 8
        with suppress(ValueError), session.lock():
            session["n"] = 9
            raise ValueError

    sid = a_session(redis)
    app = checked(a_list(act), client=redis, lock_scope="manual", **LOCKED)
    serve(app, sid)
    assert stored(redis, sid) == {"n": 8}
    assert locks(redis) == []


# -- rule 12: the lease --------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("act", [read, count], ids=["read", "written"])
def test_the_lock_is_free_while_the_body_streams(
    redis: redis_py.Redis, inside: bool, act: Act
) -> None:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        act(environ[SESSION])
        assert len(locks(redis)) == 1, "control: it is held before"
        start_response("200 OK", list(PLAIN))
        yield b"a"
        assert locks(redis) == []
        assert environ[SESSION]["n"] in (7, 8)
        assert locks(redis) == []
        yield b"b"

    served = serve(checked(app, inside, client=redis, **LOCKED), a_session(redis))
    assert served.body == b"ab"


def test_another_request_gets_the_lock_while_the_body_streams(
    redis: redis_py.Redis,
) -> None:
    sid = a_session(redis)

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        environ[SESSION]["n"] += 1
        start_response("200 OK", list(PLAIN))
        yield b"a"
        other = checked(a_list(count), client=redis, **LOCKED)
        assert serve(other, sid).status == "200 OK"
        yield b"b"

    assert serve(checked(app, client=redis, **LOCKED), sid).body == b"ab"
    assert stored(redis, sid) == {"n": 9}


def raising(error: BaseException) -> Act:
    def act(session: Session) -> None:
        session["n"] += 1
        raise error

    return act


def unencodable(session: Session) -> None:
    session["n"] += 1
    session["thing"] = object()


def too_large(session: Session) -> None:
    session["n"] += 1
    session["thing"] = "x" * 2_000_000


def increase(session: Session) -> None:
    session["n"] += 1


ENDS: dict[str, tuple[Act, str, type[BaseException] | None]] = {
    "read": (read, "200 OK", None),
    "written": (increase, "200 OK", None),
    "destroyed": (lambda s: (read(s), destroy(s)), "200 OK", None),
    "regenerated": (lambda s: s.regenerate_id() or increase(s), "200 OK", None),
    "saved": (save, "200 OK", None),
    "locked": (lock, "200 OK", None),
    "5xx": (increase, "500 Oops", None),
    "exception": (raising(ValueError()), "200 OK", ValueError),
    "interrupt": (raising(KeyboardInterrupt()), "200 OK", KeyboardInterrupt),
    "EncodeError": (unencodable, "200 OK", EncodeError),
    "SessionTooLarge": (too_large, "200 OK", SessionTooLarge),
    "StoreUnavailable": (raising(StoreUnavailable()), "200 OK", None),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("end", ENDS)
def test_a_lease_is_released_once_on_every_path(
    redis: redis_py.Redis, shape: Shape, end: str
) -> None:
    strategy = CountedLock()
    act, status, expected = ENDS[end]

    def first(session: Session) -> None:
        assert session["n"] == 7
        assert strategy.is_held
        act(session)

    sid = a_session(redis)
    held: list[bool] = []
    served = Served(at_start=lambda: held.append(strategy.is_held))
    app = checked(shape(first, status), inside=False, client=redis, lock=strategy)
    if expected:
        with pytest.raises(expected):
            serve(app, sid, served=served)
    else:
        serve(app, sid, served=served)
    assert strategy.acquired == strategy.released >= 1
    assert strategy.acquired == 1
    assert held == [False] * (expected is None)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("lock_scope", ["request", "commit", "manual"])
def test_no_lock_of_a_single_node_is_left_on_any_path(
    redis: redis_py.Redis, end: str, lock_scope: str
) -> None:
    act, status, expected = ENDS[end]
    held: list[Any] = []

    def first(session: Session) -> None:
        assert session["n"] == 7
        assert len(locks(redis)) == (lock_scope == "request")
        act(session)

    sid = a_session(redis)
    options = {"client": redis, "lock_scope": lock_scope, **LOCKED}
    app = checked(a_list(first, status), **options)
    served = Served(at_start=lambda: held.extend(locks(redis)))
    if expected:
        with pytest.raises(expected):
            serve(app, sid, served=served)
    else:
        serve(app, sid, served=served)
    assert held == []
    assert locks(redis) == []


def test_no_lock_is_taken_where_no_session_is(redis: redis_py.Redis) -> None:
    def act(session: Session) -> None:
        read(session)
        write(session)
        assert locks(redis) == []

    sid = a_session(redis)
    redis.flushall()
    for cookie in (None, sid):
        assert serve(checked(a_list(act), client=redis, **LOCKED), cookie).new_cookie


# -- when Redis is down, or the lock taken -------------------------------------------

# The one reads, so that it fails at its touch; the other fails at its commit.
BOTH_ENDS = pytest.mark.parametrize("act", [read, write], ids=["touch", "commit"])


def assert_is_503(served: Served, method: str = "GET") -> None:
    assert served.status == "503 Service Unavailable"
    (retry_after,) = served.all("Retry-After")
    assert int(retry_after) >= 1
    assert served.all("Cache-Control") == ["no-store"]
    assert served.new_cookie is None
    assert served.events.count("start") == 1
    assert (served.body == b"") == (method == "HEAD")
    (length,) = served.all("Content-Length")
    assert int(length) == len(b"The session is not available; try again.\n")


@pytest.fixture
def down(server: Server) -> Iterator[tuple[DeadRedis, str]]:
    """A client of a server that is dead, and the id of a session that was there."""
    with server.client() as client:
        sid = a_session(client)
    client = DeadRedis()
    yield client, sid
    client.close()


@BOTH_ENDS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("method", "inside"), WAYS)
def test_a_dead_redis_is_a_503_with_retry_after(
    down: tuple[DeadRedis, str], shape: Shape, act: Act, method: str, inside: bool
) -> None:
    calls = 0

    def once(session: Session) -> None:
        nonlocal calls
        calls += 1
        act(session)

    client, sid = down
    served = serve(checked(shape(once), inside, client=client), sid, method)
    assert_is_503(served, method)
    assert calls == 1
    assert client.attempts >= 1


@BOTH_ENDS
@pytest.mark.parametrize("inside", [True, False])
def test_the_body_of_what_became_a_503_is_closed_once(
    down: tuple[DeadRedis, str], act: Act, inside: bool
) -> None:
    client, sid = down
    bodies: list[Body] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", list(PLAIN))
        bodies.append(Acting(environ[SESSION], act))
        return bodies[-1]

    assert_is_503(serve(checked(app, inside, client=client), sid))
    assert [body.events.count("close") for body in bodies] == [1]


class Acting(Body):
    """A body that uses the session at its first item."""

    def __init__(self, session: Session, act: Act) -> None:
        super().__init__(b"a", b"b")
        self._session, self._act = session, act

    def __next__(self) -> bytes:
        self._act(self._session)
        return super().__next__()


def test_a_list_or_file_that_became_a_503_is_closed_once(
    down: tuple[DeadRedis, str],
) -> None:
    client, sid = down
    body, file = ClosableList([b"a"]), io.BytesIO(b"ab")
    assert_is_503(serve(checked(returning(body, write), False, client=client), sid))
    assert body.closed == 1
    app = checked(returning(FileWrapper(file), write), False, client=client)
    assert_is_503(serve(app, sid))
    assert file.closed


def test_nothing_more_of_the_body_follows_a_503(down: tuple[DeadRedis, str]) -> None:
    client, sid = down
    body = Body(b"secret a", b"secret b")
    served = serve(checked(returning(body, write), client=client), sid)
    assert_is_503(served)
    assert b"secret" not in served.body


@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_that_does_not_touch_its_session_does_not_notice_a_dead_redis(
    down: tuple[DeadRedis, str], shape: Shape
) -> None:
    client, sid = down
    served = serve(checked(shape(nothing), client=client, **LOCKED), sid)
    assert served.status[0] == "2"
    assert client.attempts == 0


def test_an_application_may_do_without_its_session(down: tuple[DeadRedis, str]) -> None:
    def act(session: Session) -> None:
        with pytest.raises(StoreUnavailable):
            read(session)

    client, sid = down
    assert serve(checked(a_list(act), client=client), sid).status == "200 OK"


def test_a_write_that_could_not_be_stored_is_no_success_even_if_the_error_is_swallowed(
    down: tuple[DeadRedis, str],
) -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        send = start_response("200 OK", list(PLAIN))
        environ[SESSION]["n"] = 1
        with suppress(StoreUnavailable):
            send(b"a")
        return [b"b"]

    client, sid = down
    try:
        served = serve(checked(app, client=client), sid)
    except SmartRedisError:
        return
    assert served.status[0] == "5"


def test_an_application_may_answer_a_failed_commit_with_a_page_of_its_own(
    down: tuple[DeadRedis, str],
) -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        send = start_response("200 OK", list(PLAIN))
        environ[SESSION]["n"] = 1
        try:
            send(b"a")
        except StoreUnavailable:
            start_response("500 Sorry", list(PLAIN), sys.exc_info())
        return [b"sorry"]

    client, sid = down
    served = serve(checked(app, client=client), sid)
    assert served.status[0] == "5"
    assert served.new_cookie is None


@pytest.mark.parametrize("options", [{}, LOCKED], ids=["none", "single"])
@pytest.mark.parametrize("shape", [a_list, a_late_generator, a_write])
def test_a_redis_that_dies_between_touch_and_commit_is_a_503(
    server: Server, redis: redis_py.Redis, shape: Shape, options: dict[str, Any]
) -> None:
    def act(session: Session) -> None:
        session["n"] += 1
        server.kill()

    app = checked(shape(act), client=redis, **options)
    assert_is_503(serve(app, a_session(redis)))


def test_a_commit_whose_reply_was_lost_is_a_503(
    server: Server, redis: redis_py.Redis
) -> None:
    sid = a_session(redis)
    with FlakyProxy(server) as proxy, proxy.client() as client:

        def act(session: Session) -> None:
            session["n"] += 1
            proxy.drop_next_reply()

        assert_is_503(serve(checked(a_list(act), client=client), sid))
        assert proxy.dropped == 1


def test_a_save_whose_reply_was_lost_is_not_done_twice(
    server: Server, redis: redis_py.Redis
) -> None:
    sid = a_session(redis)
    with FlakyProxy(server) as proxy, proxy.client() as client:

        def act(session: Session) -> None:
            session.incr("n")
            proxy.drop_next_reply()
            with suppress(StoreUnavailable):
                session.save()

        served = serve(checked(a_list(act), client=client), sid)
        assert served.status == "200 OK"
        assert proxy.dropped == 1
    with SessionStore.from_config(client=redis).open(sid) as session:
        assert session["n"] == 8


def test_a_503_after_destroying_still_expires_the_cookie(
    server: Server, redis: redis_py.Redis
) -> None:
    def act(session: Session) -> None:
        session.destroy()
        session["flash"] = "goodbye"
        server.kill()

    served = serve(checked(a_list(act), client=redis), a_session(redis))
    assert served.status[:3] == "503"
    assert served.expires_cookie


@contextmanager
def held(client: redis_py.Redis, session_id: str) -> Iterator[None]:
    """Somebody else has the session's lock."""
    store = SessionStore.from_config({"client": client, **LOCKED})
    with store.open(session_id) as session:
        assert session
        assert locks(client)
        yield


BUSY = {"lock": "single", "lock_wait": 0.05, "retry_time": 0.01}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lock_scope", ["request", "commit"])
def test_a_lock_that_stays_taken_is_a_503(
    redis: redis_py.Redis, shape: Shape, lock_scope: str
) -> None:
    sid = a_session(redis)
    calls: list[str] = []

    def act(session: Session) -> None:
        calls.append("once")
        session["n"] = 8

    options = {**BUSY, "lock_scope": lock_scope}
    with held(redis, sid):
        assert_is_503(serve(checked(shape(act), client=redis, **options), sid))
        assert len(locks(redis)) == 1, "the other's lock stays"
    assert calls == ["once"]
    assert stored(redis, sid) == {"n": 7}


def test_retry_after_is_the_life_of_a_lock_or_the_timeout_in_whole_seconds(
    redis: redis_py.Redis,
) -> None:
    sid, options = a_session(redis), {"lock_expiry": 6.5, "timeout": 2.5}
    with held(redis, sid):
        app = checked(a_list(write), client=redis, **BUSY, **options)
        taken = serve(app, sid, "POST")
    down = serve(checked(a_list(write), client=DeadRedis(), **options), sid, "POST")
    assert (taken.all("Retry-After"), down.all("Retry-After")) == (["7"], ["3"])
    for served in (taken, down):
        assert_is_503(served, "POST")


def test_a_lock_block_that_waits_in_vain_is_a_503(redis: redis_py.Redis) -> None:
    sid = a_session(redis)
    app = checked(a_list(lock), client=redis, lock_scope="manual", **BUSY)
    with held(redis, sid):
        assert_is_503(serve(app, sid))
    assert stored(redis, sid) == {"n": 7}


def overslept(client: redis_py.Redis, session_id: str) -> Act:
    """The lock expires, and another request changes the session meanwhile."""

    def act(session: Session) -> None:
        session["n"] += 1
        client.delete(*locks(client))
        with SessionStore.from_config({"client": client}).open(session_id) as other:
            other["n"] = 100

    return act


@pytest.mark.parametrize("shape", SHAPES)
def test_a_lock_that_was_lost_is_an_error_and_nothing_is_overwritten(
    redis: redis_py.Redis, shape: Shape
) -> None:
    sid = a_session(redis)
    served = Served()
    app = checked(shape(overslept(redis, sid)), client=redis, **LOCKED)
    with pytest.raises(LockLost):
        serve(app, sid, served=served)
    assert served.events == []
    assert stored(redis, sid) == {"n": 100}


@pytest.mark.parametrize(
    ("act", "expected"),
    [(unencodable, EncodeError), (too_large, SessionTooLarge)],
    ids=["EncodeError", "SessionTooLarge"],
)
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_can_not_be_stored_is_an_error_before_the_headers(
    redis: redis_py.Redis,
    shape: Shape,
    inside: bool,
    act: Act,
    expected: type[Exception],
) -> None:
    sid = a_session(redis)
    served = Served()
    with pytest.raises(expected):
        serve(checked(shape(act), inside, client=redis), sid, served=served)
    assert served.events == []
    assert stored(redis, sid) == {"n": 7}


# -- cookies of clients --------------------------------------------------------------

NEIGHBOURS = [
    "{us}",
    '{{"json":1}}; {us}',
    '{us}; {{"json":1}}',
    "bad[name]=1; {us}",
    "foo; {us}",
    "{us}; foo",
    "b@d=1; {us}; b@d=2",
    'a="q;u,o\\"ted"; {us}',
    "x=1,{us}",
    "x=1, {us}",
    "{us},x=1",
    "{us}, x=1; y=2",
    ";;;{us};;;",
    "=; {us}",
    "=bad; {us}",
    "=__Host-sid=bad; {us}",
    "__Host-sid=bad; {us}",
    '__Host-sid="; {us}',
    "__Host-sid; {us}",
    "  {us}  ",
    "a=b;{us};c=d",
    "\xe9=\xff; {us}",
    "sid=1; x__Host-sid=2; {us}",
    "a=" + "b" * 5000 + "; {us}",
]


@pytest.mark.parametrize("header", NEIGHBOURS, ids=range(len(NEIGHBOURS)))
def test_odd_neighbours_hide_no_session(redis: redis_py.Redis, header: str) -> None:
    def act(session: Session) -> None:
        assert session["n"] == 7

    sid = a_session(redis)
    cookie = header.format(us=f"{COOKIE}={sid}")
    served = serve(checked(a_list(act), client=redis), cookie)
    assert served.new_cookie is None


MALFORMED = {
    "empty": lambda _: "",
    "short": lambda sid: sid[:-1],
    "long": lambda sid: sid + "A",
    "very long": lambda sid: sid * 1000,
    "alphabet +": lambda sid: sid[:-1] + "+",
    "alphabet /": lambda sid: sid[:-1] + "/",
    "alphabet %": lambda sid: sid[:-3] + "%41",
    "space inside": lambda sid: sid[:20] + " " + sid[21:],
    "quoted": lambda sid: f'"{sid}"',
    "half quoted": lambda sid: f'"{sid}',
    "padded": lambda sid: sid + "=",
    "dot": lambda sid: sid + ".",
    "unasked signature": lambda sid: sid + "." + "A" * 43,
    "NUL inside": lambda sid: sid[:-1] + "\0",
    "NUL behind": lambda sid: sid + "\0",
    "newline behind": lambda sid: sid + "\n",
    "latin-1": lambda sid: sid[:-1] + "\xe9",
    "UTF-8": lambda sid: sid[:-2] + "é".encode().decode("latin-1"),
    "not latin-1": lambda sid: sid[:-1] + "\u20ac",
    "wide digit": lambda sid: sid[:-1] + "\uff11",
    "lone surrogate": lambda sid: sid[:-1] + "\udce9",
    "list": lambda sid: f"[{sid}]",
}

UNLIKE = {
    "after =": "={us}",
    "prefixed": "x{us}",
    "prefixed -": "x-{us}",
    "within a value": "a={us}",
    "in words": "foo {us}",
    "spaced": "__Host-sid = {sid}",
    "other case": "__host-sid={sid}",
    "no name": "{sid}",
    "other name": "sid={sid}",
}


def assert_is_as_no_cookie(client: CountedRedis, header: str) -> None:
    def act(session: Session) -> None:
        assert dict(session) == {}
        assert session.is_new

    client.trips.reset()
    served = serve(checked(a_list(act), client=client, **LOCKED), f"{header}; end=")
    assert served.headers == [*PLAIN, ("Vary", "Cookie")]
    served = serve(checked(a_list(act), client=client, **LOCKED), header + ";=")
    assert served.headers == [*PLAIN, ("Vary", "Cookie")]
    assert client.trips.count == 0
    served = serve(checked(a_list(write), client=client), f"{header}; end=")
    assert served.status == "200 OK"
    assert served.new_cookie
    assert served.new_cookie not in header


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_id_is_as_no_cookie_and_costs_no_command(
    counted: CountedRedis, kind: str
) -> None:
    sid = a_session(counted)
    assert_is_as_no_cookie(counted, f"{COOKIE}={MALFORMED[kind](sid)}")


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_only_looks_like_our_cookie_is_ignored(
    counted: CountedRedis, kind: str
) -> None:
    sid = a_session(counted)
    header = UNLIKE[kind].format(us=f"{COOKIE}={sid}", sid=sid)
    assert_is_as_no_cookie(counted, header)


def signed_cookie(client: redis_py.Redis, secret: Any) -> str:
    """The cookie of a new session, as this secret signs it."""
    served = serve(checked(a_list(write), client=client, secret=secret))
    assert served.new_cookie
    return served.new_cookie


def test_a_signed_id_is_found_and_not_sent_again(redis: redis_py.Redis) -> None:
    cookie = signed_cookie(redis, "one")
    served = serve(checked(a_list(count), client=redis, secret="one"), cookie)
    assert served.new_cookie is None
    seen: list[int] = []
    app = checked(a_list(lambda s: seen.append(s["n"])), client=redis, secret="one")
    serve(app, cookie)
    assert seen == [2]


FORGED: dict[str, Callable[[str], str]] = {
    "no signature": lambda cookie: cookie.partition(".")[0],
    "empty signature": lambda cookie: cookie.partition(".")[0] + ".",
    "other id": lambda cookie: "A" * 20 + cookie[20:],
    "other signature": lambda cookie: cookie[:-9] + "A" * 9,
    "short signature": lambda cookie: cookie[:-1],
    "long signature": lambda cookie: cookie + "A",
    "two signatures": lambda cookie: cookie + "." + cookie.partition(".")[2],
    "latin-1": lambda cookie: cookie[:-1] + "\xe9",
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_signature_costs_no_command(counted: CountedRedis, kind: str) -> None:
    cookie = signed_cookie(counted, "one")
    counted.trips.reset()

    def act(session: Session) -> None:
        assert dict(session) == {}

    app = checked(a_list(act), client=counted, secret="one")
    serve(app, f"{COOKIE}={FORGED[kind](cookie)}")
    assert counted.trips.count == 0


def test_another_secret_s_signature_costs_no_command(counted: CountedRedis) -> None:
    cookie = signed_cookie(counted, "one")
    counted.trips.reset()
    served = serve(checked(a_list(read), client=counted, secret="two"), cookie)
    assert served.new_cookie is None
    assert counted.trips.count == 0


def test_old_secrets_verify_and_the_first_one_signs(redis: redis_py.Redis) -> None:
    old = signed_cookie(redis, "old")
    rotated = {"client": redis, "secret": ["new", "old"]}
    served = serve(checked(a_list(count), **rotated), old)
    assert served.new_cookie is None
    fresh = signed_cookie(redis, ["new", "old"])
    seen: list[int] = []

    def look(session: Session) -> None:
        seen.append(session.get("n", 0))

    serve(checked(a_list(look), **rotated), old)
    serve(checked(a_list(look), client=redis, secret="new"), old)
    serve(checked(a_list(look), client=redis, secret="new"), fresh)
    serve(checked(a_list(look), client=redis, secret="old"), fresh)
    assert seen == [2, 0, 1, 0]


def test_of_two_different_ids_the_first_is_used_and_a_log_line_says_so(
    redis: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = a_session(redis, n=1), a_session(redis, n=2)
    seen: list[int] = []
    app = checked(a_list(lambda session: seen.append(session["n"])), client=redis)
    with caplog.at_level(logging.DEBUG):
        serve(app, f"{COOKIE}={first}; {COOKIE}={first}")
        assert caplog.records == []
        serve(app, f"{COOKIE}={first}; {COOKIE}={second}")
        serve(app, f"{COOKIE}=bad; {COOKIE}={second}, {COOKIE}={first}")
    assert seen == [1, 1, 2]
    assert len(caplog.records) == 2
    assert first not in caplog.text
    assert second not in caplog.text


def test_an_unknown_id_that_is_only_read_makes_no_key(redis: redis_py.Redis) -> None:
    sid = a_session(redis)
    redis.flushall()

    def look(session: Session) -> None:
        assert dict(session) == {}
        assert session.is_new
        assert session.pop("n", None) is None
        assert session.id != sid

    for options in ({}, LOCKED):
        served = serve(checked(a_list(look), client=redis, **options), sid)
        assert served.new_cookie is None
        assert redis.dbsize() == 0


@pytest.mark.parametrize("options", [{}, LOCKED], ids=["none", "single"])
@pytest.mark.parametrize("before", [nothing, read], ids=["blind", "read before"])
@pytest.mark.parametrize("act", [write, count], ids=["write", "incr"])
def test_an_unknown_id_is_never_adopted(
    redis: redis_py.Redis, act: Act, before: Act, options: dict[str, Any]
) -> None:
    sid = a_session(redis)
    redis.flushall()
    app = checked(
        a_list(lambda session: (before(session), act(session))), client=redis, **options
    )
    served = serve(app, sid)
    assert served.new_cookie not in (None, "", sid)
    assert stored(redis, served.new_cookie or "") == {"n": 1}
    assert stored(redis, sid) == {}
    assert redis.dbsize() - len(redis.keys("lock-signal:*")) == 1


def log_in(session: Session) -> None:
    session.regenerate_id()
    session["n"] = 1


@pytest.mark.parametrize("act", [write, count, read_and_count, log_in])
@pytest.mark.parametrize("options", [{}, LOCKED], ids=["none", "single"])
def test_a_request_that_comes_after_the_logout_with_the_old_id_gets_a_new_one(
    redis: redis_py.Redis, act: Act, options: dict[str, Any]
) -> None:
    sid = a_session(redis)
    serve(checked(a_list(destroy), client=redis, **options), sid)
    served = serve(checked(a_list(act), client=redis, **options), sid)
    assert served.new_cookie not in (None, "", sid)
    assert stored(redis, served.new_cookie or "") == {"n": 1}
    assert stored(redis, sid) == {}


def log_in(session: Session) -> None:
    write(session)
    session.bind("ann")


@pytest.mark.parametrize("begin", [write, log_in], ids=lambda act: act.__name__)
@pytest.mark.parametrize("act", [read, write], ids=lambda act: act.__name__)
def test_a_rolling_cookie_is_sent_again_with_the_same_id(
    redis: redis_py.Redis, act: Act, begin: Act
) -> None:
    options = {"client": redis, "cookie_max_age": "1m"}
    created = serve(checked(a_list(begin), **options))
    assert "Max-Age=60" in created.all("Set-Cookie")[0]
    (key,) = (each for each in redis.keys("session:*") if b":owner:" not in each)
    redis.pexpire(key, 1_000_000)
    served = serve(checked(a_list(act), **options), created.new_cookie)
    assert redis.pttl(key) > 1_000_000, "control: it was prolonged"
    assert served.new_cookie == created.new_cookie
    assert "Max-Age=60" in served.all("Set-Cookie")[0]
    assert served.all("Cache-Control") == ["no-store"]
    served = serve(checked(a_list(nothing), **options), created.new_cookie)
    assert served.headers == PLAIN


def test_a_rolling_cookie_is_sent_again_also_by_who_waited_for_the_lock(
    server: Server, redis: redis_py.Redis
) -> None:
    sid = a_session(redis)
    (key,) = redis.keys("session:*")
    redis.pexpire(key, 1_000_000)
    patient = {"lock": "single", "lock_wait": 60}
    lock = SingleNodeLock(redis)
    lease = lock.acquire(SessionStore.from_config(client=redis).lock_name(sid))
    with server.client(socket_timeout=120) as client, ThreadPoolExecutor() as pool:
        app = checked(a_list(read), client=client, cookie_max_age="1m", **patient)
        future = pool.submit(serve, app, sid)
        wait_until(lambda: redis.pttl(key) > 1_000_000, 10, "a load that had to wait")
        lease.release()
        assert future.result(10).new_cookie == sid


def test_a_rolling_cookie_is_not_sent_for_an_unknown_id(redis: redis_py.Redis) -> None:
    sid = a_session(redis)
    redis.flushall()
    options = {"client": redis, "cookie_max_age": 60, "touch_every": 0}
    assert serve(checked(a_list(read), **options), sid).new_cookie is None


def test_the_cookie_that_counts_is_the_one_that_the_client_sent(
    redis: redis_py.Redis,
) -> None:
    mine, other = a_session(redis, n=1), a_session(redis, n=2)
    seen: list[int] = []

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        environ["HTTP_COOKIE"] = f"{COOKIE}={other}"
        seen.append(environ[SESSION]["n"])
        del environ["HTTP_COOKIE"]
        start_response("200 OK", list(PLAIN))
        return [b"a"]

    served = serve(SessionMiddleware(app, client=redis), mine)
    assert seen == [1]
    assert served.new_cookie is None


@pytest.mark.parametrize(
    ("status", "told"), [("500 Oops", "503"), ("503 Busy", "503"), ("404 No", "404")]
)
def test_an_error_page_of_our_own_error_is_a_503_if_it_was_a_500(
    status: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        try:
            dict(environ[SESSION])
        except StoreUnavailable as error:
            said.append(f"503: {error}")
            start_response(status, list(PLAIN), sys.exc_info())
        return [b"the page"]

    served = serve(checked(app, client=DeadRedis()), "a" * 59)
    assert served.status[:3] == told
    is_ours = status[:3] == "500"
    assert (served.body == b"the page") == (not is_ours)
    assert (said == caplog.messages) == is_ours


def test_an_answer_after_an_error_page_that_was_refused_is_a_503(
    redis: redis_py.Redis,
) -> None:
    def app(_: Environ, start_response: Start) -> list[bytes]:
        try:
            raise StoreUnavailable("of another store")
        except StoreUnavailable:
            with suppress(StoreUnavailable):
                start_response("500 Oops", list(PLAIN), sys.exc_info())
        start_response("200 OK", list(PLAIN))
        return [b"ok"]

    served = serve(checked(app, inside=False, client=redis))
    assert served.status[:3] == "503"


@pytest.mark.parametrize("name", ["Id", "_lives", "ids"])
def test_a_session_has_no_other_attributes(redis: redis_py.Redis, name: str) -> None:
    def act(session: Session) -> None:
        with pytest.raises(AttributeError, match=name):
            getattr(session, name)

    assert serve(checked(a_list(act), client=redis)).status == "200 OK"


# -- lock_methods --------------------------------------------------------------------

POST_LOCKS = {**LOCKED, "lock_methods": "POST"}


def lock_words(client: CountedRedis) -> list[Any]:
    words = (word for command in client.trips.commands for word in command[1:])
    return [word for word in words if word.startswith(b"lock")]


def test_a_method_that_does_not_lock_reads_without_a_lock_command(
    counted: CountedRedis,
) -> None:
    def look(session: Session) -> None:
        assert session["n"] == 7

    sid = a_session(counted)
    counted.trips.reset()
    app = checked(a_list(look), client=counted, **POST_LOCKS)
    serve(app, sid, "GET")
    assert counted.trips.count == 1
    assert lock_words(counted) == []
    serve(app, sid, "POST")
    assert lock_words(counted), "control: a method that locks is seen to"


def test_a_method_that_does_not_lock_reads_while_another_holds_the_lock(
    redis: redis_py.Redis,
) -> None:
    sid = a_session(redis)
    app = checked(a_list(read), client=redis, **{**BUSY, "lock_methods": "POST"})
    with held(redis, sid):
        assert serve(app, sid, "GET").status == "200 OK"
        assert serve(app, sid, "POST").status == "503 Service Unavailable"


@pytest.mark.parametrize("verb", LATE_WRITES)
def test_a_method_that_does_not_lock_may_not_write(
    redis: redis_py.Redis, verb: str
) -> None:
    sid = a_session(redis, n=1)
    app = checked(a_list(LATE_WRITES[verb]), client=redis, **POST_LOCKS)
    with pytest.raises(SessionFrozen):
        serve(app, sid, "GET")
    assert stored(redis, sid) == {"n": 1}


@pytest.mark.parametrize("act", [write, count, destroy], ids=lambda act: act.__name__)
def test_a_method_that_does_not_lock_may_not_create(
    redis: redis_py.Redis, act: Act
) -> None:
    with pytest.raises(SessionFrozen):
        serve(checked(a_list(act), client=redis, **POST_LOCKS))
    assert redis.dbsize() == 0


def test_a_nested_change_by_a_method_that_may_not_write_is_refused_at_the_commit(
    redis: redis_py.Redis,
) -> None:
    sid = a_session(redis, cart=["a"])
    app = checked(
        a_list(lambda session: session["cart"].append("b")), client=redis, **POST_LOCKS
    )
    served = Served()
    with pytest.raises(SessionFrozen):
        serve(app, sid, "GET", served)
    assert served.events == []
    assert stored(redis, sid) == {"cart": ["a"]}
    serve(app, sid, "POST")
    assert stored(redis, sid) == {"cart": ["a", "b"]}


# -- two middlewares, settings, silence ----------------------------------------------


@pytest.mark.parametrize("options", [{}, LOCKED], ids=["none", "single"])
def test_two_nested_middlewares_share_one_session_and_send_one_cookie(
    redis: redis_py.Redis, options: dict[str, Any]
) -> None:
    options = {"client": redis, **options}

    def inner_app(environ: Environ, start_response: Start) -> list[bytes]:
        count(environ["inner.session"])
        start_response("200 OK", list(PLAIN))
        return [b"%d" % environ["inner.session"]["n"]]

    inner = checked(inner_app, environ_key="inner.session", **options)

    def outer_app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        session = environ[SESSION]
        session["n"] = session.get("n", 0) + 1
        return inner(environ, start_response)

    app = checked(outer_app, **options)
    served = serve(app)
    assert served.body == b"2"
    assert len(served.all("Set-Cookie")) == 1
    assert served.all("Vary") == ["Cookie"]
    again = serve(app, served.new_cookie)
    assert again.body == b"4"
    assert again.all("Set-Cookie") == []
    assert stored(redis, served.new_cookie or "") == {"n": 4}
    assert locks(redis) == []


def test_an_inner_middleware_alone_commits_when_the_outer_is_not_touched(
    redis: redis_py.Redis,
) -> None:
    inner = checked(a_late_generator(write), client=redis, **LOCKED)
    served = serve(checked(inner, client=redis, **LOCKED))
    assert len(served.all("Set-Cookie")) == 1
    assert stored(redis, served.new_cookie or "") == {"n": 1}


def test_an_environ_that_is_served_twice_has_a_session_each_time(
    redis: redis_py.Redis,
) -> None:
    sid = a_session(redis)
    inner = checked(a_list(count), client=redis, **LOCKED)

    def twice(environ: Environ, start_response: Start) -> Iterable[bytes]:
        body = inner(environ, Served().start_response)
        assert list(body) == [b"a", b"b"]
        body.close()  # type: ignore[attr-defined]
        return inner(environ, start_response)

    assert serve(validator(twice), sid).status == "200 OK"
    assert stored(redis, sid) == {"n": 9}
    assert locks(redis) == []


def test_middlewares_of_different_cookies_have_a_session_each(
    redis: redis_py.Redis,
) -> None:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        environ["a.session"]["n"] = "a"
        environ["b.session"]["n"] = "b"
        start_response("200 OK", list(PLAIN))
        return [b""]

    one = checked(app, client=redis, environ_key="a.session", cookie_name="__Host-a")
    both = checked(one, client=redis, environ_key="b.session", cookie_name="__Host-b")
    served = serve(both)
    values = dict(
        header.partition(";")[0].split("=") for header in served.all("Set-Cookie")
    )
    assert stored(redis, values["__Host-a"]) == {"n": "a"}
    assert stored(redis, values["__Host-b"]) == {"n": "b"}


def test_settings_may_all_be_strings_as_from_an_ini_file(
    server: Server, redis: redis_py.Redis
) -> None:
    settings = {
        "session.url": server.url,
        "session.ttl": "30m",
        "session.prefix": "shop:",
        "session.secret": "one\ntwo",
        "session.lock": "single",
        "session.lock_methods": "POST, PUT",
        "session.lock_wait": "200ms",
        "session.cookie_secure": "false",
        "session.cookie_max_age": "1h",
        "session.cookie_name": "shop",
        "session.environ_key": "shop.session",
        "sqlalchemy.url": "sqlite://",
        "debug": "true",
    }

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        count(environ["shop.session"])
        start_response("200 OK", list(PLAIN))
        return [b"%d" % environ["shop.session"]["n"]]

    middleware = SessionMiddleware.from_settings(validator(app), settings)
    assert isinstance(middleware.store, SessionStore)
    served = serve(validator(middleware), method="POST")
    (header,) = served.all("Set-Cookie")
    assert re.match(r"shop=[\w-]+\.[\w-]{43};", header)
    assert "Max-Age=3600" in header
    assert "secure" not in header.lower()
    (key,) = redis.keys("shop:*")
    assert 1_790_000 < redis.pttl(key) <= 1_800_000
    cookie = f"shop={served.new_cookie}"
    assert serve(validator(middleware), cookie, "POST").body == b"2"
    with pytest.raises(SessionFrozen):
        serve(validator(middleware), cookie, "GET")


def test_settings_of_another_prefix_are_others(redis: redis_py.Redis) -> None:
    settings = {"my.client": redis, "my.ttl": "1m", "session.lok": "single"}
    app = SessionMiddleware.from_settings(validator(a_list(write)), settings, "my.")
    assert serve(validator(app)).new_cookie
    with pytest.raises(ConfigError, match=r"unknown option lok.*did you mean lock\?"):
        SessionMiddleware.from_settings(app, settings)


def test_keywords_override_the_dict(redis: redis_py.Redis) -> None:
    config = {"client": redis, "environ_key": "wrong", "cookie_name": "__Host-dict"}
    app = SessionMiddleware(validator(a_list(write)), config, environ_key=SESSION)
    served = serve(validator(app))
    assert served.all("Set-Cookie")[0].startswith("__Host-dict=")
    assert config["environ_key"] == "wrong"


def test_the_store_of_a_middleware_has_the_same_sessions(redis: redis_py.Redis) -> None:
    app = SessionMiddleware(validator(a_list(write)), client=redis)
    served = serve(validator(app))
    with app.store.open(served.new_cookie) as session:
        assert dict(session) == {"n": 1}
    assert app.store.destroy(served.new_cookie or "")
    assert stored(redis, served.new_cookie or "") == {}


class Private:
    """An object that no codec knows, and that shows its value."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<Private {self.value}>"


class Scene:
    """A session whose id, and a value that, no text may show."""

    def __init__(self, server: Server, client: redis_py.Redis) -> None:
        self.server, self.client = server, client
        self.value = secrets.token_hex()
        self.sid = a_session(client)

    def act(self, act: Act, **options: Any) -> None:
        def app_act(session: Session) -> None:
            session["field"] = self.value
            act(session)

        self.serve(a_list(app_act), **options)

    def serve(self, app: App, **options: Any) -> None:
        cookie = f"{COOKIE}={self.sid}; {COOKIE}={a_session(self.client)}"
        serve(
            checked(app, **{"client": self.client, "max_size": 5000, **options}), cookie
        )

    def encode(self) -> None:
        thing = {self.value: Private(self.value)}
        self.act(lambda session: session.__setitem__("thing", thing))

    def enlarge(self) -> None:
        self.act(lambda session: session.__setitem__("thing", self.value * 1000))

    def add_to_text(self) -> None:
        self.act(lambda session: session.save() or session.incr("field"))

    def be_late(self) -> None:
        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", list(PLAIN))
            yield b""
            environ[SESSION]["field"] = self.value

        self.serve(app)

    def oversleep(self) -> None:
        self.act(overslept(self.client, self.sid), **LOCKED)

    def wait_in_vain(self) -> None:
        with held(self.client, self.sid):
            self.act(read, **BUSY)

    def be_overtaken(self, **options: Any) -> None:
        def act(session: Session) -> None:
            read(session)
            serve(checked(a_list(destroy), client=self.client), self.sid)

        self.act(act, **options)

    def be_overtaken_aloud(self) -> None:
        self.be_overtaken(on_gone="raise")

    def lose_redis(self) -> None:
        self.act(lambda _: self.server.kill())

    def find_rubbish(self) -> None:
        (key,) = (key for key in self.client.keys("session:*"))
        self.client.delete(key)
        self.client.set(key, self.value, ex=60)
        self.act(read)

    def find_bad_bytes(self) -> None:
        (key,) = (key for key in self.client.keys("session:*"))
        self.client.hset(key, "n", b"\xff" + self.value.encode())
        self.act(read)


SCENES: dict[str, tuple[Callable[[Scene], None], type[Exception] | None]] = {
    "EncodeError": (Scene.encode, EncodeError),
    "SessionTooLarge": (Scene.enlarge, SessionTooLarge),
    "EncodeError of incr": (Scene.add_to_text, EncodeError),
    "SessionFrozen": (Scene.be_late, SessionFrozen),
    "LockLost": (Scene.oversleep, LockLost),
    "SessionGone": (Scene.be_overtaken_aloud, SessionGone),
    "LockTimeout": (Scene.wait_in_vain, None),
    "gone": (Scene.be_overtaken, None),
    "StoreUnavailable": (Scene.lose_redis, None),
    "foreign": (Scene.find_rubbish, None),
    "corrupt": (Scene.find_bad_bytes, None),
}


@pytest.mark.parametrize("name", SCENES)
def test_no_id_and_no_value_stands_in_an_exception_or_a_log_line(
    server: Server,
    redis: redis_py.Redis,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    scene = Scene(server, redis)
    play, expected = SCENES[name]
    texts: list[str] = []
    if expected:
        with pytest.raises(expected) as caught:
            play(scene)
        error = caught.value
        texts = [str(error), repr(error), *traceback.format_exception(error)]
    else:
        play(scene)
    logged = [record for record in caplog.records if "ids in cookie" not in record.msg]
    assert texts or logged, "control: there is something to look at"
    for text in [*texts, caplog.text, *(repr(vars(r)) for r in caplog.records)]:
        for secret in (scene.sid, scene.sid[-43:], scene.value):
            assert secret not in text


@pytest.mark.parametrize("options", [{}, LOCKED], ids=["none", "single"])
def test_the_repr_of_a_session_shows_no_id_and_no_value(
    redis: redis_py.Redis, options: dict[str, Any]
) -> None:
    value = secrets.token_hex()
    sid = a_session(redis, name=value)
    seen: list[str] = []

    def act(session: Session) -> None:
        seen.append(repr(session))
        assert session["name"] == value
        seen.extend((repr(session), str(session), f"{session}"))
        session.regenerate_id()
        seen.append(repr(session))
        seen.append(session.id)
        session.save()
        seen.append(repr(session))
        session.destroy()
        seen.append(repr(session))

    serve(checked(a_list(act), client=redis, **options), sid)
    new_id = seen.pop(5)
    assert len(seen) == 7
    for text in seen:
        assert "Session" in text
        for secret in (sid, new_id, sid[-43:], new_id[-43:], value):
            assert secret not in text


# -- every server --------------------------------------------------------------------

EVERY_LOCK = pytest.mark.parametrize("options", [{}, LOCKED], ids=["none", "single"])


@EVERY_LOCK
@pytest.mark.parametrize("shape", [a_list, a_late_generator, a_write, a_file, a_tuple])
def test_a_client_s_counter_counts(
    backend: Backend, shape: Shape, options: dict[str, Any]
) -> None:
    seen: list[int] = []

    def act(session: Session) -> None:
        session["n"] = session.get("n", 0) + 1
        seen.append(session["n"])

    app = checked(shape(act), **backend.options, **options)
    cookie = serve(app).new_cookie
    assert cookie
    assert serve(app, cookie).new_cookie is None
    assert serve(app, cookie).new_cookie is None
    assert seen == [1, 2, 3]
    assert stored(backend.client, cookie) == {"n": 3}


@EVERY_LOCK
def test_a_client_logs_in_works_and_logs_out(
    backend: Backend, options: dict[str, Any]
) -> None:
    def log_in(session: Session) -> None:
        session.regenerate_id()
        session["user"] = "anna"

    def seen(session: Session) -> None:
        session.incr("seen")

    options = {**backend.options, **options}
    anonymous = serve(checked(a_list(count), **options)).new_cookie
    user = serve(checked(a_list(log_in), **options), anonymous).new_cookie
    assert user not in (None, "", anonymous)
    serve(checked(a_late_generator(seen), **options), user)
    assert stored(backend.client, user or "") == {"n": 1, "user": "anna", "seen": 1}
    assert stored(backend.client, anonymous or "") == {}
    assert serve(checked(a_list(destroy), **options), user).expires_cookie
    assert stored(backend.client, user or "") == {}
    again = serve(checked(a_list(read_and_count), **options), user).new_cookie
    assert again not in (None, "", anonymous, user)


def test_late_writers_do_not_revive_what_was_destroyed(backend: Backend) -> None:
    sid = a_session(backend.client)

    def overtaken(session: Session) -> None:
        assert session["n"] == 7
        serve(checked(a_list(destroy), **backend.options), sid)
        session["n"] = 8

    served = serve(checked(a_write(overtaken), **backend.options), sid)
    assert served.status == "200 OK"
    assert stored(backend.client, sid) == {}
