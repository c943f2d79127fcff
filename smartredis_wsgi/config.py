"""Every option once: its name, default, unit, meaning and check.

A `Config` is built from a dict, keywords or an ini section and is valid from then on:
whoever holds one trusts it. What is wrong is a `ConfigError` that names the option, the
value and the remedy.
"""

import dataclasses
import difflib
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError
from .moving.libraries import LIBRARIES

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d|)")
_UNIT = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 100 * 365 * 86400.0
_SIZE = re.compile(r"(\d{1,13})\s*([km]?)(?:i?b)?", re.IGNORECASE)
_COUNT = re.compile(r"\s*\d{1,13}\s*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, token
_ATTRIBUTES = "path|domain|expires|max-age|secure|httponly|samesite|partitioned|comment"
_COOKIE = re.compile(rf"(?!\$|(?i:{_ATTRIBUTES}|version)$){_TOKEN.pattern}")
_URL_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+=:@%/]*")  # RFC 3986, less , and ;
_DOMAIN = re.compile(r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


# -- parsers: raise ValueError with the remedy ---------------------------------------


def seconds(value: Any) -> float:
    """A duration in seconds, given as a number or as text with a unit (``30m``)."""
    number = _in_seconds(value)
    if number is None or not 0.001 <= number <= _LONGEST:
        raise ValueError('a duration over 0, in seconds (1800) or with a unit ("30m")')
    return float(number)


def seconds_or_zero(value: Any) -> float:
    if _in_seconds(value) == 0:
        return 0.0
    try:
        return seconds(value)
    except ValueError as wrong:
        raise ValueError(f"{wrong}; or 0") from None


def _in_seconds(value: Any) -> int | float | None:
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found:
        return float(found[1]) * _UNIT[found[2]]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else None


def _boolean(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    word = str(value).strip().lower()
    if not isinstance(value, (bool, str)) or word not in words:
        raise ValueError("true or false")
    return words[word]


def _size(value: Any) -> int:
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found:
        value = int(found[1]) << {"": 0, "k": 10, "m": 20}[found[2].lower()]
    try:
        return _count(value)
    except ValueError:
        remedy = 'bytes, a whole number over 0 (65536) or with a unit ("64k", "1M")'
        raise ValueError(remedy) from None


def _count(value: Any) -> int:
    if isinstance(value, str) and _COUNT.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**40:
        raise ValueError("a whole number over 0")
    return value


def _count_or_zero(value: Any) -> int:
    if str(value).strip() == "0" and not isinstance(value, bool):
        return 0
    try:
        return _count(value)
    except ValueError:
        raise ValueError("a whole number, 0 or more") from None


def _matching(pattern: re.Pattern[str], remedy: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(remedy)
        return value

    return parse


def _choice(*words: str, method: str = "") -> Callable[[Any], Any]:
    """One of the words, in their own spelling, or an object that has the method."""
    remedy = ", ".join(words[:-1]) + f" or {words[-1]}"

    def parse(value: Any) -> Any:
        if isinstance(value, str):
            for word in words:
                if word.lower() == value.strip().lower():
                    return word
        elif method and callable(getattr(value, method, None)):
            return value
        raise ValueError(remedy + (f", or an object with {method}()" if method else ""))

    return parse


def _optional(parse: Callable[[Any], Any], word: str = "none") -> Callable[[Any], Any]:
    def parse_unless_none(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value.strip().lower() == word):
            return None
        return parse(value)

    return parse_unless_none


def _several(value: Any, split: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in re.split(split, value)]
    elif not isinstance(value, Iterable):
        value = [value]
    return tuple(part for part in value if part != "")


def _secrets(value: Any) -> tuple[bytes, ...]:
    if value is None:
        return ()
    parts = _several([value] if isinstance(value, bytes) else value, r"[\r\n]+")
    if not parts or not all(isinstance(part, (str, bytes)) and part for part in parts):
        raise ValueError("a text, or several: the first signs, all verify")
    try:
        return tuple(part.encode() if isinstance(part, str) else part for part in parts)
    except UnicodeEncodeError:  # whose text quotes a part of it
        raise ValueError("valid Unicode, or bytes") from None


def _methods(value: Any) -> frozenset[str]:
    parts = _several(value, r"[,\s]+")
    if not parts or not all(isinstance(p, str) and _TOKEN.fullmatch(p) for p in parts):
        raise ValueError('HTTP methods, as in "POST, PUT"')
    return frozenset(part.upper() for part in parts)


def _nodes(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    parts = _several(value, r"[,\s]+")
    usable = all(isinstance(p, str) or hasattr(p, "connection_pool") for p in parts)
    if not usable or len(parts) < 3 or len(parts) % 2 == 0:
        raise ValueError(
            "an odd number, 3 or more, of independent masters (URL, client)"
        )
    if any(part in parts[:place] for place, part in enumerate(parts)):
        raise ValueError("masters that are independent: this names one of them twice")
    return parts


def _client(value: Any) -> Any:
    if not callable(getattr(value, "execute_command", None)):
        raise ValueError("a redis-py compatible client; for an address, the option url")
    return value


def _function(value: Any) -> Any:
    """A function, or where to import it from."""
    remedy = 'a function of one argument, or where one is, as in "package.module:name"'
    if isinstance(value, str):
        module, _, name = value.strip().partition(":")
        try:
            value = getattr(importlib.import_module(module), name)
        except Exception as failure:  # whatever it is that a module raises
            raise ValueError(f"{remedy} ({type(failure).__name__})") from None
    if not callable(value):
        raise ValueError(remedy)
    return value


# -- the options ---------------------------------------------------------------------


_SECRET = (  # may hold a password: never shown
    "url",
    "client",
    "secret",
    "lock_nodes",
    "import_url",
    "import_secret",
)


def _option(
    default: Any, parse: Callable[[Any], Any], meaning: str, more: str = ""
) -> Any:
    """A field of the config.

    Args:
        meaning: What it is, in a line.
        more: What else its user has to know, in Markdown: docs/options.md shows it.
    """
    meta = {"parse": parse, "help": meaning, "more": " ".join(more.split())}
    return dataclasses.field(default=default, metadata=meta)


_TEXT = _matching(re.compile(r"[^\x00-\x1f\x7f]+"), "a text")
_PREFIX = _matching(
    re.compile(r"[^\x00-\x20\x7f{}\ud800-\udfff]*"), "a text with no space or brace"
)
_NAME = _matching(_COOKIE, "a cookie name: letters, digits and !#$%&'*+-.^_`|~")
_PATH = _matching(_URL_PATH, "a path such as /")
_HOST = _matching(_DOMAIN, "a domain such as example.com")


@dataclass(frozen=True, kw_only=True, repr=False)
class Config:
    """All options. Durations are seconds, as a number or as text with a unit."""

    url: str | None = _option(
        None,
        _optional(_TEXT),
        "where the records live",
        """`redis://`, `rediss://` and `unix://` as redis-py has them;
        `redis+sentinel://host:port,host:port/service/db` and
        `redis+cluster://host:port,host:port`, and both with `rediss` for TLS;
        `embedded://` starts a server that ends with the process
        (`smartredis_wsgi[embedded]`); `memory://` is fakeredis, in the process
        (`smartredis_wsgi[memory]`). Either this or `client` is needed, not both. No
        command is sent at start, but those of `embedded://`.""",
    )
    client: Any = _option(
        None,
        _optional(_client),
        "a redis-py client, instead of url",
        """Of a plain `redis.Redis`, Sentinel's too, only address, credentials and
        TLS are taken: connections are made beside its pool, and `timeout` is their
        deadline. A client of another class is used as it is, on a thread where it might
        wait for longer than `timeout`. Refused are clients of asyncio, and
        `single_connection_client=True`. Not for ini files.""",
    )
    prefix: str = _option(
        "session:",
        _PREFIX,
        "of every key",
        """Two applications on one Redis take two prefixes. Keys of locks begin with
        `lock:`, `lock-signal:` or `lock-waiters:`, and the prefix follows.""",
    )
    ttl: float = _option(
        1800.0,
        seconds,
        "idle timeout, prolonged by use, reads too",
        """`session.set_ttl()` gives one session another one. A server that takes no
        writes prolongs nothing.""",
    )
    touch_every: float = _option(
        None,
        seconds_or_zero,
        "a read prolongs at most this often; default ttl / 10",
        """So a session that is only read may end this much before its `ttl` is over.
        At most `ttl`; 0 prolongs with each read. Prolonging travels with the load: no
        round trip. A commit always prolongs.""",
    )
    max_lifetime: float | None = _option(
        None,
        _optional(seconds),
        "absolute age limit, on the server's clock",
        """Counted from the creation; use does not prolong it, nor does
        `regenerate_id()`.""",
    )
    delete_expiry: float = _option(
        5.0,
        seconds,
        "life of a tombstone",
        """What is left after `destroy()` and after `regenerate_id()`. While it lasts
        the log can tell that a session was destroyed, and who has the old id can
        destroy a session that has moved. No session comes back after its end either, so
        a longer life is not needed for safety.""",
    )
    secret: tuple[bytes, ...] = _option(
        (),
        _secrets,
        "one or several; signs ids (the first signs, all verify)",
        """With it a forged id costs no Redis command. Ids are unguessable without it,
        too. To change it, put the new one in front, and take the old one away when no
        cookie of it is left; a cookie is signed anew only when it is sent anew. In an
        ini file one a line. Whoever turns it on or off logs everybody out.""",
    )
    codec: Any = _option(
        "json",
        _choice("json", "msgpack", "pickle", method="encode"),
        "json, msgpack, pickle or an object with encode and decode",
        """`json` and `msgpack` bring back str, int, float, bool, None, list, dict,
        tuple, set, frozenset, bytes, datetime, date, time, timedelta, UUID and Decimal
        as they were, and refuse the rest (`EncodeError`). `pickle` runs what the bytes
        say: only where nobody else can write to that Redis. A field that the codec
        can't decode makes the session count as empty, so a change of the codec logs
        everybody out.""",
    )
    conflict: str = _option(
        "merge",
        _choice("merge", "raise", "overwrite"),
        "a field that another changed since it was read: merge, raise or overwrite",
        """`merge`: dicts by key at any depth, lists to which both appended, sets; of
        anything else that both changed the later commit's value is taken. `raise`:
        `SessionConflict`, and nothing is written. `overwrite`: nothing is compared, the
        later commit wins field by field.""",
    )
    on_gone: str = _option(
        "drop",
        _choice("drop", "raise"),
        "a commit onto a session that is gone: drop it with a log line, or raise",
        """Gone means destroyed, expired or evicted since this request read it. Nothing
        is written in either case; `raise` raises `SessionGone`.""",
    )
    rotate_grace: float = _option(
        0.0,
        seconds_or_zero,
        "the id before a regeneration still reads for so long",
        """For pages whose parallel requests still bear the old id while a login is
        answered. For so long who knows the old id is let in: keep it at a few
        seconds.""",
    )
    wait_replicas: int = _option(
        0,
        _count_or_zero,
        "replicas that are to have a destroy or a rotation in time; else an error",
        """A failover can lose what no replica has: a logged-out session would be back.
        With this, `WAIT` travels behind the script. The error, `StoreUnavailable`, says
        that it is done but not acknowledged; asking once more is safe. `session.bind()`
        waits in the same way, for what tells whose the session is. What a request
        waits belongs to `timeout`.""",
    )
    max_per_owner: int | None = _option(
        None,
        _optional(_count),
        "sessions that one owner may have, see session.bind()",
        """Counted at `session.bind()`. What happens to one more: `owner_overflow`.""",
    )
    owner_overflow: str = _option(
        "oldest",
        _choice("oldest", "refuse"),
        "one session too many: the oldest goes, or it is refused",
        """`oldest`: those that were bound first are destroyed. `refuse`: the commit
        that binds raises `TooManySessions`, and writes nothing.""",
    )
    lock: Any = _option(
        "none",
        _choice("none", "single", "redlock", method="acquire"),
        "none, single, redlock or a LockStrategy",
        """No update of different fields is lost without a lock either. See
        [locks.md](locks.md). In an ini file one of the three words.""",
    )
    lock_scope: str = _option(
        "request",
        _choice("request", "commit", "manual"),
        "first touch to commit; around the save only; or where session.lock() says",
        """`request`, `commit` and `manual`, in this order. Only `request`, and the
        block of `session.lock()`, make read-modify-write exact.""",
    )
    lock_methods: frozenset[str] | None = _option(
        None,
        _optional(_methods, "all"),
        "HTTP methods that lock, default all; others may not write",
        """Requests of other methods read without waiting; a write in them, `destroy()`
        too, is a `SessionFrozen`. Given only together with a lock.""",
    )
    lock_expiry: float = _option(
        5.0,
        seconds,
        "life of a lock",
        """Longer than the slowest request that holds one, or with `lock_renew`. After
        the death of a holder others wait for what is left of it. What outlives it
        without a lock gets `LockLost` if anybody has changed the session since.""",
    )
    lock_renew: bool = _option(
        False,
        _boolean,
        "prolong it while the request runs",
        """In a thread, after each third of what is left. A request that hangs holds
        its lock for as long as it hangs.""",
    )
    lock_wait: float = _option(
        10.0,
        seconds_or_zero,
        "give up with LockTimeout after this long",
        """The client gets 503 then. 0: try once. Waiting for others does not count for
        `timeout`.""",
    )
    lock_max_waiters: int | None = _option(
        None,
        _optional(_count),
        "give up at once where so many wait already",
        """Keeps one impatient client from occupying all workers. Given only together
        with `lock=single`.""",
    )
    retry_time: float = _option(
        0.1,
        seconds,
        "longest pause between tries where no signal wakes; jittered",
        """With `single` a waiter is woken by the release; this is for holders that
        died. With `redlock` it is the longest pause between tries.""",
    )
    lock_nodes: tuple[Any, ...] = _option(
        (),
        _nodes,
        "Redlock's masters: URLs or clients, an odd number, 3 or more",
        """Independent of each other: no replicas, no Cluster; two that are one server
        are refused: those that answer are asked who they are (INFO), once at start. In
        an ini file separated by commas or white space. Given with `lock=redlock`, and
        only there.""",
    )
    timeout: float = _option(
        1.0,
        seconds,
        "all that one request may wait for Redis, lock waits aside",
        """Over it there is a `StoreUnavailable`, and the client gets 503. Keep it below
        the timeout of the server and of the proxy in front. It holds whatever client is
        handed in; one that tries on by itself is left to it on a thread.""",
    )
    max_size: int = _option(
        1 << 20,
        _size,
        "encoded size of a session, in bytes",
        """Of names and values together, as they lie in Redis. A commit that would make
        the session larger than this is `SessionTooLarge`, and nothing is written; one
        that makes it smaller is let through.""",
    )
    cookie_name: str = _option(
        None,
        _NAME,
        "default __Host-sid; sid where cookie_secure is off",
        """`__Host-` has browsers refuse the cookie where it comes without https, for a
        domain, or for another path than `/`: no neighbouring host can plant one.""",
    )
    cookie_secure: bool = _option(
        True,
        _boolean,
        "only over https",
        """On plain http a browser sends no such cookie back: turn it off for
        development there, and nowhere else.""",
    )
    cookie_httponly: bool = _option(
        True,
        _boolean,
        "not for scripts",
        """Keeps a script that was smuggled into a page from reading the id.""",
    )
    cookie_samesite: str | None = _option(
        "Lax",
        _optional(_choice("Lax", "Strict", "None"), ""),
        "Lax, Strict or None",
        """`None` is the attribute of that name, for pages that are embedded in others;
        it wants `cookie_secure`. An empty text leaves the attribute out. `Lax` is no
        protection against forged requests of the same site.""",
    )
    cookie_path: str = _option(
        "/",
        _PATH,
        "the path below which it is sent",
        """`/` with a `__Host-` name. It keeps two applications of one host apart by
        accident only: scripts of the one can still ask the other.""",
    )
    cookie_domain: str | None = _option(
        None,
        _optional(_HOST),
        "its domain",
        """None: the host that answered, and no other. A domain's cookie is sent to all
        of its hosts; it can't have a `__Host-` name.""",
    )
    cookie_max_age: float | None = _option(
        None,
        _optional(seconds),
        "a rolling age; default: until the browser closes",
        """The cookie is sent again when the session is prolonged. In whole seconds. The
        record lives for `ttl`, whatever the cookie says.""",
    )
    cookie_partitioned: bool = _option(
        False,
        _boolean,
        "one jar per top-level site",
        """For pages that are embedded in others (CHIPS); wants `cookie_secure`.""",
    )
    import_from: str | None = _option(
        None,
        _optional(_choice(*LIBRARIES)),
        "another library, whose sessions are taken over",
        """A client that has no session here, but one of that library's, goes on with
        it, under a new id, from its next request on. See [moving.md](moving.md). A
        request that does not touch its session looks for nothing.""",
    )
    import_cookie: str | None = _option(
        None,
        _optional(_NAME),
        "that library's cookie; default: the name it gives",
        """`connect.sid`, `connect.sid`, `session`, `session` and `beaker.session.id`,
        in the order of `import_from`. It may be that of `cookie_name`.""",
    )
    import_secret: tuple[bytes, ...] = _option(
        (),
        _secrets,
        "what that library signed its cookie with; one or several",
        """Flask-Session signs with `SECRET_KEY`, where `SESSION_USE_SIGNER` is on; the
        connect stores with the secret of express-session. Flask-Session's and Beaker's
        cookie is not signed where this is none. A forged cookie costs no Redis
        command.""",
    )
    import_prefix: str | None = _option(
        None,
        _optional(_PREFIX, "default"),
        "of that library's keys; default: the one it gives",
        """`sess:`, `session:`, `session:`, none and `beaker_cache:`, in the order of
        `import_from`.""",
    )
    import_url: str | None = _option(
        None,
        _optional(_TEXT),
        "where that library's sessions lie; default: where ours do",
        """Another server, or another database of the same one. As with `url`.""",
    )
    import_pickle: bool = _option(
        False,
        _boolean,
        "read sessions that are pickled",
        """By a reader that knows plain data only and executes nothing; what holds
        anything else is left where it is, with a log line. Beaker and
        pyramid_session_redis pickle unless told otherwise, Flask-Session before
        version 0.7.""",
    )
    on_event: Any = _option(
        None,
        _optional(_function),
        "called with an Event for what happens to sessions",
        """For metrics and traces, see [events.md](events.md). It is called in the
        request's own thread, so it has to be quick. What it raises is logged.""",
    )
    environ_key: str = _option(
        "smartredis.session",
        _TEXT,
        "the session's place",
        """In the WSGI environ. Two middlewares around one application, with different
        cookies, want different places.""",
    )

    @classmethod
    def build(cls, config: Mapping[str, Any] | None = None, **options: Any) -> "Config":
        """Check options, given as a dict, as keywords or as both (keywords win).

        Raises:
            ConfigError: An unknown option, a wrong value or a contradiction.
        """
        if config is not None and not isinstance(config, Mapping):
            raise ConfigError(f"config is {type(config).__name__}; give it as a dict")
        table = {field.name: field for field in dataclasses.fields(cls)}
        parsed = {}
        for name, value in {**(config or {}), **options}.items():
            if name not in table:
                raise ConfigError(f"unknown option {name}" + _suggestion(name, table))
            if value is not None or table[name].default is not None:
                parsed[name] = _parsed(name, value, table[name].metadata["parse"])
        parsed.setdefault("touch_every", parsed.get("ttl", cls.ttl) / 10)
        secure = parsed.get("cookie_secure", cls.cookie_secure)
        parsed.setdefault("cookie_name", "__Host-sid" if secure else "sid")
        return cls(**parsed)

    @staticmethod
    def section(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Those of a framework's settings whose names begin with the prefix."""
        size = len(prefix)
        return {
            name[size:]: v for name, v in settings.items() if name.startswith(prefix)
        }

    def __post_init__(self) -> None:
        for wrong, name, remedy in self._contradictions():
            if wrong:
                raise _refusal(name, getattr(self, name), remedy)

    def _contradictions(self) -> Iterable[tuple[bool, str, str]]:
        """Whether it is wrong, the option's name, and what would be right."""
        given = (self.url is not None) + (self.client is not None)
        yield given == 0, "url", "url or client; one of them is needed"
        yield given == 2, "url", "either url or client, not both"
        yield self.touch_every > self.ttl, "touch_every", f"at most ttl ({self.ttl:g})"
        yield from self._import_contradictions()
        yield from self._lock_contradictions()
        yield from self._cookie_contradictions()

    def _import_contradictions(self) -> Iterable[tuple[bool, str, str]]:
        for name in ("cookie", "secret", "prefix", "url", "pickle"):
            option = f"import_{name}"
            is_given = bool(getattr(self, option)) and not self.import_from
            yield is_given, option, "given only together with import_from"

    def _lock_contradictions(self) -> Iterable[tuple[bool, str, str]]:
        nodes = "three or more masters where lock is redlock, and none elsewhere"
        methods, most = self.lock_methods is not None, self.lock_max_waiters is not None
        only = "given only together with"
        yield (self.lock == "redlock") != bool(self.lock_nodes), "lock_nodes", nodes
        yield methods and self.lock == "none", "lock_methods", f"{only} a lock"
        yield most and self.lock != "single", "lock_max_waiters", f"{only} lock=single"

    def _cookie_contradictions(self) -> Iterable[tuple[bool, str, str]]:
        name, open_ = self.cookie_name.lower(), not self.cookie_secure
        is_host, because = (
            name.startswith("__host-"),
            f"as the name is {self.cookie_name}",
        )
        is_secure = is_host or name.startswith("__secure-")
        refused = "where cookie_secure is off, as browsers refuse it there"
        has_domain, samesite = self.cookie_domain is not None, self.cookie_samesite
        yield is_host and has_domain, "cookie_domain", f"none, {because}"
        yield is_host and self.cookie_path != "/", "cookie_path", f"/, {because}"
        yield is_secure and open_, "cookie_secure", f"on, {because}"
        yield (
            samesite == "None" and open_,
            "cookie_samesite",
            f"Lax or Strict {refused}",
        )
        yield self.cookie_partitioned and open_, "cookie_partitioned", f"off {refused}"


def _parsed(name: str, value: Any, parse: Callable[[Any], Any]) -> Any:
    try:
        return parse(value)
    except ValueError as wrong:
        raise _refusal(name, value, str(wrong)) from None


def _refusal(name: str, value: Any, remedy: str) -> ConfigError:
    shown = "the value given" if name in _SECRET and value else _shown(value)
    return ConfigError(f"option {name}: {shown} will not do; use {remedy}")


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # of an int of 5,000 digits, or of an object of somebody's own
        return f"a value of type {type(value).__name__}"


def _suggestion(name: Any, table: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(name), table, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(table)}"
