"""The properties, each of an input that somebody else chooses.

A property raises where it does not hold. What is drawn by hypothesis is drawn so for
atheris, too, of its bytes (``fuzz_one_input``).
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import WSGIWarning, validator

import redis
from hypothesis import strategies as st
from records import META

from smartredis_wsgi import (
    ConfigError,
    EncodeError,
    SessionFrozen,
    SessionMiddleware,
    SessionStore,
    StoreUnavailable,
)
from smartredis_wsgi.codec import codec_for
from smartredis_wsgi.config import Config
from smartredis_wsgi.connect import client_for
from smartredis_wsgi.cookie import Cookie
from smartredis_wsgi.ids import Address

Draw = Callable[..., Any]


class Target(NamedTuple):
    """A property, and what its inputs are; without a strategy they are bytes.

    Args:
        check: Takes an input, and a client of an empty server if it needs one.
    """

    check: Callable[..., None]
    strategy: st.SearchStrategy[Any] | None = None
    needs_server: bool = False


def ensure(holds: object, *seen: object) -> None:
    """As assert, in an except clause too."""
    if not holds:
        raise AssertionError(*seen)


# -- the Cookie header ---------------------------------------------------------------

ID = "0123456789_-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU"
_NAME = "__Host-sid"
_URLSAFE = re.compile(r"[A-Za-z0-9_-]{59}")
_PLAIN = Cookie(Config.build(url="redis://nowhere"))
_SIGNED = Cookie(Config.build(url="redis://nowhere", secret=["new", "old"]))


def split_ids(header: str) -> list[str]:
    """The ids in a header, found in the slow and simple way."""
    parts = [part.strip(" \t") for part in re.split("[;,]", header)]
    values = [part[len(_NAME) + 1 :] for part in parts if part.startswith(f"{_NAME}=")]
    return [value for value in values if _URLSAFE.fullmatch(value)]


def cookie(raw: bytes) -> None:
    """The first well-formed id is found, whatever is around it; no forged one is."""
    header = raw.decode("latin-1")
    ids = split_ids(header)
    assert _PLAIN.find(header) == (ids[0] if ids else None)
    assert _PLAIN.find(f"{header};{_NAME}={ID}") == (ids[0] if ids else ID)
    assert _SIGNED.find(header) is None
    signed = _SIGNED.header(ID)[1].partition(";")[0]
    assert _SIGNED.find(f"{header};{signed}") == ID


# -- values --------------------------------------------------------------------------


def decodes(name: str) -> Callable[[bytes], None]:
    """Bytes are refused with ValueError, or a value that encodes to an equal one.

    Or one that is nested so deeply that no session of ours has it.
    """
    codec = codec_for(name)

    def check(raw: bytes) -> None:
        with suppress(ValueError):
            value = codec.decode(raw)
            try:
                again = codec.encode(value)
            except EncodeError as failure:
                ensure("nested deeper than" in str(failure), failure, value)
                return
            back = codec.decode(again)
            assert type(back) is type(value), (value, back)
            assert codec.encode(back) == again, (value, back)
            is_equal = repr(back) == repr(value) or back == value  # or NaN, in it
            assert is_equal, (value, back)

    return check


# -- options -------------------------------------------------------------------------

NAMES = list(Config.__dataclass_fields__)
_WORDS = [
    "",
    "0",
    "1",
    "-1",
    "none",
    "all",
    "on",
    "1.5h",
    "10 m",
    "64k",
    "merge",
    "nan",
]
_WORDS += ["single", "redlock", "pickle", "Lax", "GET, POST", "a\r\nSet-Cookie: b=c"]
_WORDS += ["/", "/a;b", ".example.com", "__Host-x", "a\nb", "math:floor", ".x:y", ":"]
_WORDS += [
    "redis://h/0",
    "redis://h1/0, redis://h2/0 redis://h3/0",
    "9" * 5000,
    "\ud800",
]
_ATOMS = st.one_of(
    st.sampled_from(_WORDS),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_characters=":"), max_size=20),  # imports nothing
    st.binary(max_size=20),
    st.sampled_from([10**5000, -(10**5000), object(), complex(1, 1), dict, math]),
)
_VALUES = (
    _ATOMS | st.lists(_ATOMS, max_size=4) | st.sets(st.text(max_size=3)) | st.just({})
)
_OPTIONS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), _VALUES)
_ATTRIBUTES = {"domain", "httponly", "max-age", "expires", "partitioned", "path"}
_ATTRIBUTES |= {"samesite", "secure"}


def config(options: dict[str, Any]) -> None:
    """Options are a `Config` or a ConfigError; the cookie is one, on one line."""
    try:
        made = Config.build({"url": "redis://nowhere", **options})
    except ConfigError as refused:
        ensure(str(refused), options)
        return
    made.prefix.encode()
    whole = Cookie(made)
    for name, text in (whole.header(ID), whole.expiring_header()):
        assert name == "Set-Cookie"
        assert not re.search(r"[^\x20-\x7e]|,(?! \d\d-)", text), text
        pair, *attributes = text.split("; ")
        assert pair.startswith(f"{made.cookie_name}="), text
        assert ";" not in "".join([pair, *attributes]), text
        names = [attribute.partition("=")[0].lower() for attribute in attributes]
        assert set(names) <= _ATTRIBUTES, text
        assert len(set(names)) == len(names), text
    assert whole.find(whole.header(ID)[1].partition(";")[0]) == ID


_SCHEMES = ["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "memory", "x"]
_PIECES = [
    ":",
    "@",
    "/",
    "?",
    "&",
    "=",
    "#",
    ",",
    "[",
    "]",
    "%",
    "h",
    "0",
    "6379",
    "-1",
]
_PIECES += ["h:1", "db=x", "protocol=2", "decode_responses=1", "max_connections=x"]
_PIECES += ["connection_class=x", "retry=1", "credential_provider=x", "ssl_ca_certs=x"]
_PIECES += [
    "health_check_interval=x",
    "encoding=x",
    "cache=1",
    "socket_type=1",
    "retry",
]
_PIECES += [
    "cache_config=1",
    "single_connection_client=1",
    "retry_on_error=1",
    "ü",
    " ",
]
_URLS = st.tuples(
    st.sampled_from(_SCHEMES),
    st.sampled_from(["://", "://h", "://:hunter2@h:1/", "://h/0?", "://h:1,h:2/", ":"]),
    st.lists(st.sampled_from(_PIECES) | st.text(max_size=5), max_size=6).map("".join),
).map("".join)


def url(address: str) -> None:
    """An address is a client, or a ConfigError that does not tell the password."""
    try:
        client_for(Config.build(url=address).url, 1.0)
    except ConfigError as refused:
        ensure("hunter2" not in str(refused), refused)


# -- what lies in Redis --------------------------------------------------------------

_FIELD = st.sampled_from([b"n", b"bad", b"list"]) | st.binary(max_size=6)
_WORD = st.sampled_from(
    [b"0", b"1", b"-", b"-1", b"1.5", b"9" * 15, b"9" * 16, b"\xff"]
)
_META = st.one_of(
    st.binary(max_size=40),
    st.lists(_WORD | st.binary(max_size=4), min_size=9, max_size=9).map(b" ".join),
    st.tuples(
        st.just(b"incarnation"),
        *[_WORD] * 2,
        st.sampled_from([b"-", b"owner"]),
        _WORD,
        st.sampled_from([b"-", b"60000"]),
        *[_WORD] * 2,
        st.binary(max_size=24),
    ).map(b" ".join),
)
_ODD = [b"1", b"1.5", b"[1]", b'{"a":1}', b"9" * 18, b"1e400", b'{"$set":[1]}']
_ODD += [b"[" * 65 + b"]" * 65, b"\xc1\x91\x01", b"\xc1" + b"\x91" * 70 + b"\0"]
_ODD += [b'"' + b"x" * 5000 + b'"', b"cos\nsystem\n(S'true'\ntR.", b'{"$int":"7"}']
_RAW = st.binary(max_size=30) | st.sampled_from(_ODD)
_HASH = st.dictionaries(_FIELD, _RAW, min_size=1, max_size=4)
_LIFE = st.sampled_from(
    [b"moved 0 ", b"moved 9999999999999 ", b"moved x ", b"moved 1e9 "]
)
_STRING = st.one_of(
    st.binary(max_size=40),
    st.just(b"destroyed"),
    st.tuples(_LIFE, st.binary(max_size=20) | st.just(b"KEY")).map(b"".join),
)


def _nest(session: Any) -> None:
    held = session.setdefault("list", [])
    if isinstance(held, list):
        held.append(1)


_ACTS: dict[str, Callable[[Any], object]] = {
    "dict": dict,
    "get": lambda session: session.get("n"),
    "len": len,
    "set": lambda session: session.__setitem__("n", [1]),
    "nest": _nest,
    "incr": lambda session: session.incr("n"),
    "pop": lambda session: session.pop("bad", None),
    "login": lambda session: session.regenerate_id(),
    "destroy": lambda session: session.destroy(),
    "save": lambda session: session.save(),
    "ttl": lambda session: session.set_ttl(60),
    "clear": lambda session: session.clear(),
}
_SESSION_ID = "planted" + "x" * 52
_KEY = "session:" + Address.of(_SESSION_ID).record
_PLANT = st.one_of(
    st.tuples(st.just("string"), _STRING),
    st.tuples(st.just("hash"), _HASH),
    st.tuples(st.just("ours"), st.tuples(_META, _HASH)),
    st.tuples(st.just("sound"), _HASH),
    st.tuples(
        st.sampled_from(["list", "set", "zset", "stream"]), st.binary(max_size=4)
    ),
)
_RECORDS = st.tuples(
    _PLANT,
    st.lists(st.sampled_from(sorted(_ACTS)), min_size=1, max_size=3),
    st.sampled_from(["json", "msgpack"]),
    st.sampled_from(["none", "single"]),
)
_SOUND = b"incarnation 1 1700000000000 - 10 - 1700000000 1 ABCDEFGH"


_BRIEF = re.compile(rb"\S+ \S+ \S+ \S+ \S+ 0*[1-9]\d{0,3} ")  # expires meanwhile


def assert_keys_expire(client: redis.Redis) -> None:
    lasting = [key for key in client.keys("*") if client.pttl(key) == -1]
    assert not lasting, lasting


def _plant(client: redis.Redis, kind: str, what: Any) -> None:
    if kind == "string":
        client.set(_KEY, what.replace(b"KEY", _KEY.encode()))
    elif kind == "hash":
        client.hset(_KEY, mapping=what)
    elif kind == "ours":
        client.hset(_KEY, mapping={**what[1], META: what[0]})
    elif kind == "sound":
        client.hset(_KEY, mapping={**what, META: _SOUND})
    elif kind == "list":
        client.rpush(_KEY, what)
    elif kind == "set":
        client.sadd(_KEY, what)
    elif kind == "zset":
        client.zadd(_KEY, {what: 1})
    else:
        client.xadd(_KEY, {"field": what})
    client.pexpire(_KEY, 60_000)


def record(planted: tuple[Any, list[str], str, str], client: redis.Redis) -> None:
    """Whatever lies at a key: a session, or an empty one; and it stays if it is bad.

    Errors are the documented ones: a chain of moves that does not end, a value that
    can't be counted.
    """
    (kind, what), acts, codec, lock = planted
    client.flushall()
    _plant(client, kind, what)
    before = client.dump(_KEY)
    store = SessionStore.from_config(client=client, codec=codec, lock=lock, lock_wait=0)
    session = None
    try:
        with store.open(_SESSION_ID) as session:
            for act in acts:
                _ACTS[act](session)
    except StoreUnavailable as failure:
        ensure("moved too often" in str(failure), failure)
    except EncodeError as failure:
        ensure("incr" in acts and "count" in str(failure), failure)
    finally:
        store._engine.wire.close()
    is_empty = session is not None and session._life.is_new and "destroy" not in acts
    is_brief = kind == "ours" and _BRIEF.match(what[0])
    if kind not in ("ours", "sound"):
        assert client.dump(_KEY) == before
    elif is_empty and not is_brief:
        assert client.exists(_KEY)
        assert client.dump(_KEY) == before or "save" in acts
    assert_keys_expire(client)


# -- HTTP ----------------------------------------------------------------------------

_METHODS = st.sampled_from(
    ["GET", "HEAD", "POST", "OPTIONS", "BREW", "M-SEARCH", "get"]
)
_STATUSES = ["200 OK", "204 No Content", "304 Not Modified", "302 Found", "404 -"]
_STATUSES += ["299 \xe9", "500 Oh", "503 Service Unavailable", "599 x"]
_OWN = [("Vary", "Accept"), ("Cache-Control", "public"), ("X-A", ""), ("X-A", "b")]
_OWN += [("Set-Cookie", "a=b"), ("vary", "cookie"), ("X-L", "\xe9" * 9)]
_HEADERS = st.lists(st.sampled_from(_OWN), max_size=4)
_WAYS = ["list", "tuple", "generator", "early", "write", "file", "error page"]
_SESSION_ACTS = ["read", "write", "incr", "destroy", "login", "save", "forget", "lock"]
_SITES = st.fixed_dictionaries(
    {
        "method": _METHODS,
        "cookie": st.sampled_from(["", "known", "__Host-sid=" + "z" * 59, ";;=\xff,"]),
        "status": st.sampled_from(_STATUSES),
        "headers": _HEADERS,
        "way": st.sampled_from(_WAYS),
        "body": st.lists(st.binary(max_size=3), max_size=4),
        "before": st.lists(st.sampled_from(_SESSION_ACTS), max_size=3),
        "within": st.lists(st.sampled_from(["read", "write"]), max_size=1),
        "raises": st.sampled_from(["", "", "", "before", "within"]),
        "items": st.sampled_from([0, 1, 99]),
        "lock": st.sampled_from(["none", "single"]),
        "secret": st.sampled_from([None, "s"]),
    }
)


class Deliberate(Exception):
    """The application's own."""


class _Nothing:
    """A session for an application that is served without the middleware."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield


def _act(session: Any, names: list[str]) -> None:
    for name in names:
        if name == "read":
            session.get("n")
        elif name == "write":
            session.update(n=[1])
        elif name == "incr":
            session.incr("m")
        elif name == "login":
            session.regenerate_id()
        elif name == "lock":
            with session.lock():
                session.incr("m")
        else:
            getattr(session, name)()


def _site(plan: dict[str, Any]) -> Callable[..., Any]:
    """The application that a plan describes."""
    bodiless = plan["status"][:3] in ("204", "304")
    headers = [] if bodiless else [("Content-Type", "text/plain")]
    headers += plan["headers"]
    body = [] if bodiless or plan["method"] == "HEAD" else plan["body"]

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        session = environ.get("smartredis.session", _Nothing())

        def items() -> Iterator[bytes]:
            if plan["way"] == "generator":
                begin()
            for item in body:
                yield item
                with suppress(SessionFrozen):
                    _act(session, plan["within"])
            if plan["raises"] == "within":
                raise Deliberate

        def begin() -> Any:
            _act(session, plan["before"])
            if plan["raises"] == "before":
                raise Deliberate
            if plan["way"] == "error page":
                start_response("200 OK", [("Content-Type", "text/plain")])
                try:
                    raise Deliberate
                except Deliberate as failure:
                    told = (Deliberate, failure, None)
                    return start_response(plan["status"], list(headers), told)
            return start_response(plan["status"], list(headers))

        way = plan["way"]
        if way == "generator":
            return items()
        write = begin()
        if way in ("early", "error page"):
            return items()
        if way == "write":
            for item in body:
                write(item)
            return []
        if way == "file":
            return environ["wsgi.file_wrapper"](io.BytesIO(b"".join(body)), 2)
        return tuple(body) if way == "tuple" else list(body)

    return app


class Seen(NamedTuple):
    """What a server got of an application."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    failure: str


def _serve(app: Callable[..., Any], plan: dict[str, Any], cookie: str) -> Seen:
    """As a server does that may go away after some items; the validator looks on."""
    environ: dict[str, Any] = {"REQUEST_METHOD": plan["method"], "HTTP_COOKIE": cookie}
    environ |= {"QUERY_STRING": "", "wsgi.file_wrapper": FileWrapper}
    environ["wsgi.errors"] = errors = io.StringIO()
    setup_testing_defaults(environ)
    status, headers, items, failure = "", [], [], ""

    def start(text: str, given: Any, exc_info: Any = None) -> Any:
        nonlocal status, headers
        if exc_info and items:
            raise exc_info[1]
        assert exc_info or not status
        status, headers = text, given
        return items.append

    body: Any = ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WSGIWarning)  # of methods that it knows not
            body = validator(app)(environ, start)
        for place, item in enumerate(body):
            if place >= plan["items"]:
                break
            items.append(item)
    except Deliberate:
        failure = "Deliberate"
    finally:
        if hasattr(body, "close"):
            body.close()
    assert not errors.getvalue(), errors.getvalue()
    return Seen(status, headers, b"".join(items), failure)


_OURS = re.compile(r"__Host-sid=([\w.-]{59}(?:\.[\w-]{43})?)?; ")


def http(plan: dict[str, Any], client: redis.Redis) -> None:
    """A response is the application's, and to it come the session's headers, if any.

    The validator of the standard library is content inside and outside.
    """
    client.flushall()
    options = {"client": client, "lock": plan["lock"], "lock_wait": 0}
    given, app = plan["cookie"], _site(plan)
    middleware = SessionMiddleware(validator(app), options, secret=plan["secret"])
    if given == "known":
        with middleware.store.open() as session:
            session["n"] = 1
        given = middleware.cookie.header(session.id)[1].partition(";")[0]
    bare = _serve(app, plan, given)
    seen = _serve(middleware, plan, given)
    middleware.store._engine.wire.close()
    if bare.status and seen.status:
        assert seen[:1] + seen[2:] == bare[:1] + bare[2:], (seen, bare)
        assert seen.headers[: len(bare.headers)] == bare.headers
        added = seen.headers[len(bare.headers) :]
        names = [name for name, _ in added]
        assert names in ([], ["Vary"], ["Vary", "Set-Cookie"], [*_ALL]), names
        if "Set-Cookie" in names:
            assert _OURS.match(added[1][1]), added
            assert len(names) == 3 or _has(bare.headers, "cache-control")
    else:
        assert seen.failure == bare.failure, (seen, bare)
    assert_keys_expire(client)
    assert not client.keys("lock:*")


_ALL = "Vary", "Set-Cookie", "Cache-Control"


def _has(headers: list[tuple[str, str]], name: str) -> bool:
    return any(given.lower() == name for given, _ in headers)


TARGETS: dict[str, Target] = {
    "cookie": Target(cookie),
    "json": Target(decodes("json")),
    "msgpack": Target(decodes("msgpack")),
    "config": Target(config, _OPTIONS),
    "url": Target(url, _URLS),
    "record": Target(record, _RECORDS, needs_server=True),
    "http": Target(http, _SITES, needs_server=True),
}
