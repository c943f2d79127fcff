"""What a request costs: the table of the design, counted on a real server."""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
import redis as redis_py
from doubles import CountedRedis, counting_client
from servers import Monitor, Server

import smartredis_wsgi
from smartredis_wsgi import Session, SessionMiddleware, SessionStore

Act = Callable[[Session], object]
UNTOUCHED_BLOCKS = 4


class Site:
    """An application behind the middleware, and one browser with its cookie."""

    def __init__(self, client: Any, **options: Any) -> None:
        self.cookie = ""
        self._act: Act = nothing
        inner = validator(self._application)
        self._app = validator(SessionMiddleware(inner, client=client, **options))

    def visit(self, act: Act) -> str:
        """One request in which the application does ``act``; the status."""
        environ: dict[str, Any] = {"QUERY_STRING": ""}
        setup_testing_defaults(environ)
        if self.cookie:
            environ["HTTP_COOKIE"] = self.cookie
        self._act = act
        answers: list[str] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            if exc_info:
                raise exc_info[1]
            answers.append(status)
            self._keep_cookie(headers)
            return answers.append  # type: ignore[return-value]

        body = self._app(environ, start_response)
        try:
            list(body)
        finally:
            body.close()  # type: ignore[attr-defined]
        return answers[0]

    def _application(
        self, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:
        self._act(environ["smartredis.session"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def _keep_cookie(self, headers: list[tuple[str, str]]) -> None:
        for name, value in headers:
            if name == "Set-Cookie":
                pair = value.partition(";")[0]
                self.cookie = "" if "Max-Age=0" in value else pair


def nothing(_: Session) -> None:
    return


def create(session: Session) -> None:
    session["user"], session["seen"] = "ann", 0


def read(session: Session) -> None:
    assert session["user"] == "ann"


def read_and_write(session: Session) -> None:
    session["seen"] = session["seen"] + 1


def read_much_and_write_much(session: Session) -> None:
    assert dict(session)
    session["seen"], session["cart"] = 7, [1, 2]
    del session["user"]
    session.incr("hits")


def write(session: Session) -> None:
    session["seen"] = 5


def incr(session: Session) -> None:
    session.incr("seen")


def destroy(session: Session) -> None:
    session.destroy()


def regenerate(session: Session) -> None:
    session.regenerate_id()


def read_and_regenerate(session: Session) -> None:
    read(session)
    session.regenerate_id()


def set_ttl(session: Session) -> None:
    session.set_ttl(60)


def assign_the_same(session: Session) -> None:
    session["user"] = session["user"]


def lock_and_write(session: Session) -> None:
    with session.lock():
        session["seen"] = session["seen"] + 1


def lock_and_destroy(session: Session) -> None:
    with session.lock():
        session.destroy()


def lock_and_read(session: Session) -> None:
    with session.lock():
        read(session)


class Row(NamedTuple):
    """A request, and the round trips that it may cost without a lock and with one."""

    act: Act
    none: set[int]
    single: set[int]


TABLE = {
    "not touched": Row(nothing, {0}, {0}),
    "read": Row(read, {1}, {2}),
    "read and write": Row(read_and_write, {2}, {2}),
    "read and write much": Row(read_much_and_write_much, {2}, {2}),
    "write without reading": Row(write, {1}, {2}),
    "incr": Row(incr, {1}, {2}),
    "create": Row(create, {1}, {1}),
    "destroy": Row(destroy, {1}, {1, 2}),
    "regenerate": Row(regenerate, {1, 2}, {1, 2}),
    "read and regenerate": Row(read_and_regenerate, {2}, {2}),
    "read, then assign the same": Row(assign_the_same, {1}, {2}),
}


@pytest.fixture
def client(server: Server) -> Iterator[CountedRedis]:
    with counting_client(server.url) as client:
        yield client


def cost_when_warm(client: CountedRedis, act: Act, **options: Any) -> int:
    """Round trips of a request whose scripts the client has sent before."""
    site = Site(client, **options)
    for _ in range(2):
        site.cookie = ""
        if act is not create:
            site.visit(create)
        client.trips.reset()
        assert site.visit(act) == "200 OK"
    return client.trips.count


def cost_when_cold(client: CountedRedis, act: Act, **options: Any) -> int:
    """Round trips of a client's first request, to a server that knows no script."""
    before = Site(client, **options)
    if act is not create:
        before.visit(create)
    client.script_flush()
    site = Site(client, **options)
    site.cookie = before.cookie
    client.trips.reset()
    assert site.visit(act) == "200 OK"
    return client.trips.count


COSTS = {"warm": cost_when_warm, "cold": cost_when_cold}


@pytest.mark.parametrize("lock", ["none", "single"])
@pytest.mark.parametrize("state", COSTS)
@pytest.mark.parametrize("row", TABLE)
def test_a_request_costs_what_the_table_says(
    client: CountedRedis, row: str, state: str, lock: str
) -> None:
    allowed = getattr(TABLE[row], lock)
    assert COSTS[state](client, TABLE[row].act, lock=lock) in allowed


@pytest.mark.parametrize("lock", ["none", "single"])
@pytest.mark.parametrize("act", [nothing, read, destroy])
@pytest.mark.parametrize(
    "cookie",
    [
        "__Host-sid=short",
        "__Host-sid=",
        "__Host-sid=" + "a" * 58,
        "__Host-sid=" + "a" * 60,
        "__Host-sid=" + "a" * 58 + "!",
        '__Host-sid="' + "a" * 59 + '"',
        "=__Host-sid=" + "a" * 59,
        "sid=" + "a" * 59,
    ],
)
def test_a_malformed_cookie_costs_nothing(
    client: CountedRedis, cookie: str, act: Act, lock: str
) -> None:
    site = Site(client, lock=lock)
    site.cookie = cookie
    assert site.visit(dict if act is read else act) == "200 OK"
    assert client.trips.count == 0


def test_a_wrongly_signed_cookie_costs_nothing(client: CountedRedis) -> None:
    theirs, ours = Site(client, secret="theirs"), Site(client, secret="ours")
    theirs.visit(create)
    ours.cookie = theirs.cookie
    client.trips.reset()
    ours.visit(dict)
    assert client.trips.count == 0
    theirs.visit(read)
    assert client.trips.count == 1


@pytest.mark.parametrize("lock", ["none", "single"])
def test_an_unknown_id_costs_one_trip_and_no_lock(
    client: CountedRedis, redis: redis_py.Redis, lock: str
) -> None:
    site = Site(client, lock=lock)
    site.cookie = "__Host-sid=" + "a" * 59
    site.visit(dict)
    assert client.trips.count == 1
    assert redis.dbsize() == 0


BY_SCOPE = {
    "commit": [
        (nothing, 0),
        (read, 1),
        (assign_the_same, 1),
        (write, 2),
        (incr, 2),
        (read_and_write, 3),
        (create, 1),
        (destroy, 1),
    ],
    "manual": [
        (nothing, 0),
        (read, 1),
        (write, 1),
        (incr, 1),
        (read_and_write, 2),
        (create, 1),
        (destroy, 1),
        (lock_and_write, 2),
        (lock_and_read, 2),
        (lock_and_destroy, 2),
    ],
}
SCOPED = [(scope, act, cost) for scope in BY_SCOPE for act, cost in BY_SCOPE[scope]]


@pytest.mark.parametrize("state", COSTS)
@pytest.mark.parametrize(("scope", "act", "cost"), SCOPED)
def test_a_lock_scope_has_its_own_price(
    client: CountedRedis, scope: str, act: Act, cost: int, state: str
) -> None:
    options = {"lock": "single", "lock_scope": scope}
    assert COSTS[state](client, act, **options) == cost


@pytest.mark.parametrize("scope", ["request", "commit", "manual"])
@pytest.mark.parametrize("row", TABLE)
def test_no_lock_is_left_behind(
    client: CountedRedis, redis: redis_py.Redis, row: str, scope: str
) -> None:
    cost_when_warm(client, TABLE[row].act, lock="single", lock_scope=scope)
    assert not list(redis.scan_iter(match="lock:*"))


@pytest.mark.parametrize("act", [set_ttl, regenerate, write, incr])
def test_what_a_request_writes_goes_out_as_one_command(
    client: CountedRedis, act: Act
) -> None:
    site = Site(client)
    site.visit(create)
    client.trips.reset()
    site.visit(act)
    assert len(client.trips.commands) == 1


def log_in(session: Session) -> None:
    create(session)
    session.bind("ann")


def read_and_bind(session: Session) -> None:
    read(session)
    session.bind("ann", "anew")


def read_bind_and_regenerate(session: Session) -> None:
    read_and_bind(session)
    session.regenerate_id()


OWNED = [  # a request of a session that has an owner, and where it is to be prolonged
    (log_in, 3, 3),
    (read, 1, 3),
    (read_and_write, 2, 4),
    (write, 1, 3),
    (read_and_bind, 4, 6),
    (read_and_regenerate, 4, 6),
    (read_bind_and_regenerate, 4, 6),
    (regenerate, 4, 4),
    (destroy, 2, 2),
]


@pytest.mark.parametrize("is_due", [False, True])
@pytest.mark.parametrize(("act", "cost", "cost_if_due"), OWNED)
def test_a_session_with_an_owner_costs_more_where_its_index_has_to_know(
    client: CountedRedis,
    redis: redis_py.Redis,
    act: Act,
    cost: int,
    cost_if_due: int,
    is_due: bool,
) -> None:
    site = Site(client)
    for _ in range(2):  # the second time the scripts are known
        redis.flushdb()
        site.cookie = ""
        if act is not log_in:
            site.visit(log_in)
        if is_due:
            for key in redis.keys("*"):
                redis.pexpire(key, 600_000)
        client.trips.reset()
        site.visit(act)
    assert client.trips.count == (cost_if_due if is_due else cost)


def executed(monitor: Monitor, by_script: bool = True) -> list[tuple[str, str]]:
    """Name and full line of each command that scripts, or clients, had executed."""
    found = []
    for line in monitor.lines():
        match = re.match(r'[\d.]+ \[\d+ (\S+)\] "(\w+)"', line)
        assert match, line
        if (match[1] == "lua") == by_script:
            found.append((match[2].upper(), line))
    return found


FIELDS = [f"field{number}" for number in range(10)]


def ten_fields(session: Session) -> None:
    for name in FIELDS:
        session[name] = f"<{name}>" + "x" * 1024


def change_one_field(session: Session) -> None:
    assert len(session["field4"]) > 1024
    session["field3"] = "<new>" + "y" * 1024


def replace_one_field(session: Session) -> None:
    session["field3"] = "<new>" + "y" * 1024


@pytest.mark.parametrize("lock", ["none", "single"])
@pytest.mark.parametrize("act", [change_one_field, replace_one_field])
def test_only_the_changed_field_is_sent(
    client: CountedRedis, server: Server, act: Act, lock: str
) -> None:
    site = Site(client, lock=lock)
    site.visit(ten_fields)
    site.visit(act)
    site.visit(lambda session: session.update(field3="old"))
    client.trips.reset()
    with Monitor(server) as monitor:
        site.visit(act)
    sent = b"".join(
        word for command in client.trips.commands for word in map(_bytes, command)
    )
    assert sent.count(b"<new>") == 1
    assert not [name for name in FIELDS if f"<{name}>".encode() in sent]
    assert client.trips.bytes_sent < 3 * 1024  # the one value, and four commands
    written = [line for name, line in executed(monitor) if name == "HSET"]
    assert len([line for line in written if '"field' in line]) == 1
    assert len([line for line in monitor.lines() if "<new>" in line]) == 2


def test_creating_sends_every_field(client: CountedRedis) -> None:
    Site(client).visit(ten_fields)
    assert client.trips.bytes_sent > 10 * 1024


def _bytes(word: str | bytes) -> bytes:
    return word.encode() if isinstance(word, str) else word


def test_a_read_field_is_not_sent_though_it_was_changed_and_changed_back(
    client: CountedRedis,
) -> None:
    site = Site(client)
    site.visit(ten_fields)
    client.trips.reset()

    def change_and_undo(session: Session) -> None:
        before = session["field1"]
        session["field1"] = "other"
        session["field1"] = before

    site.visit(change_and_undo)
    assert client.trips.count == 1


READS = {"HGET", "PTTL", "HGETALL"}


def test_a_reader_writes_nothing(client: CountedRedis, server: Server) -> None:
    site = Site(client)
    site.visit(ten_fields)
    with Monitor(server) as monitor:
        for _ in range(5):
            site.visit(dict)
        site.visit(lambda session: session.get("nothing"))
    assert {name for name, _ in executed(monitor)} == READS
    plain = {name for name, _ in executed(monitor, by_script=False)}
    assert plain <= {"EVAL", "EVALSHA", "ECHO", "HGETALL", "PTTL"}


def test_a_reader_prolongs_at_most_every_touch_every(
    client: CountedRedis, server: Server, redis: redis_py.Redis
) -> None:
    site = Site(client, ttl=1000, touch_every=100)
    site.visit(create)
    (key,) = redis.scan_iter(match="session:*")
    for left, prolonged in [(950, 0), (910, 0), (890, 1), (1, 1)]:
        redis.pexpire(key, left * 1000)
        with Monitor(server) as monitor:
            for _ in range(5):
                site.visit(read)
        commands = [name for name, _ in executed(monitor)]
        assert commands.count("PEXPIRE") == prolonged
        assert set(commands) - {"PEXPIRE"} <= READS


def test_a_locked_reader_writes_nothing_but_its_lock(
    client: CountedRedis, server: Server
) -> None:
    site = Site(client, lock="single")
    site.visit(create)
    with Monitor(server) as monitor:
        site.visit(read)
    about_the_record = [name for name, line in executed(monitor) if '"session:' in line]
    assert set(about_the_record) == READS | {"TYPE"}
    assert "SET" in [name for name, _ in executed(monitor)]


# -- what is allocated -----------------------------------------------------------------


def blocks_held(act: Act, client: Any) -> int:
    """How many blocks of memory the package holds once the application has acted."""
    package = str(Path(smartredis_wsgi.__file__).parent / "*")
    counts: list[int] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        act(environ["smartredis.session"])
        found = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, package)]
        )
        counts.append(sum(line.count for line in found.statistics("filename")))
        start_response("200 OK", [])
        return []

    app = SessionMiddleware(application, client=client)
    for _ in range(9):  # some fill what is kept for later ones: the least counts
        tracemalloc.start()
        try:
            app({"REQUEST_METHOD": "GET"}, lambda *_: None)
        finally:
            tracemalloc.stop()
    return min(counts)


def test_an_untouched_request_allocates_no_more_than_its_objects(
    client: CountedRedis,
) -> None:
    assert blocks_held(nothing, client) <= UNTOUCHED_BLOCKS
    assert blocks_held(lambda session: session.get("x"), client) > UNTOUCHED_BLOCKS
    assert client.trips.count == 0


# -- what is called --------------------------------------------------------------------

CALLS = {nothing: 6, read: 54, read_and_write: 95}


def calls_of(act: Act, url: str) -> int:
    """How many Python functions of the package a request calls."""
    package, calls = str(Path(smartredis_wsgi.__file__).parent), 0

    def note(frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(package)

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        act(environ["smartredis.session"])
        start_response("200 OK", [])
        return [b"done"]

    store = SessionStore.from_config(url=url, cookie_secure=False)
    with store.open() as session:
        create(session)
    cookie = f"sid={session.id}"
    app = SessionMiddleware(application, url=url, cookie_secure=False)
    for _ in range(3):  # the last one finds scripts, connection and session known
        environ, calls = {"REQUEST_METHOD": "GET", "HTTP_COOKIE": cookie}, 0
        sys.setprofile(note)
        try:
            app(environ, lambda *_: None)
        finally:
            sys.setprofile(None)
    return calls


@pytest.mark.parametrize("act", CALLS, ids=lambda act: act.__name__)
def test_a_request_calls_no_more_functions_than_it_did(
    act: Act, server: Server
) -> None:
    """More of them take more time, which no test can tell: docs/benchmarks.md."""
    assert calls_of(act, server.url) <= CALLS[act]
