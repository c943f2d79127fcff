"""Every option once: its name, default, unit, meaning and check.

A `Config` is built from a dict, keywords or an ini section and is valid from then on:
whoever holds one trusts it. What is wrong is a `ConfigError` that names the option, the
value and the remedy.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d|)")
_UNIT = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 100 * 365 * 86400.0
_SIZE = re.compile(r"(\d+)\s*([km]?)(?:i?b)?", re.IGNORECASE)
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
    return 0.0 if _in_seconds(value) == 0 else seconds(value)


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
    return _count(value)


def _count(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**40:
        raise ValueError("a whole number over 0")
    return value


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
    elif isinstance(value, bytes) or not isinstance(value, Iterable):
        value = [value]
    return tuple(part for part in value if part != "")


def _secrets(value: Any) -> tuple[bytes, ...]:
    if value is None:
        return ()
    parts = _several([value] if isinstance(value, bytes) else value, r"[\r\n]+")
    if not parts or not all(isinstance(part, (str, bytes)) and part for part in parts):
        raise ValueError("a text, or several: the first signs, all verify")
    return tuple(part.encode() if isinstance(part, str) else part for part in parts)


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


# -- the options ---------------------------------------------------------------------


_SECRET = ("url", "client", "secret", "lock_nodes")  # may hold a password: never shown


def _option(default: Any, parse: Callable[[Any], Any], meaning: str) -> Any:
    meta = {"parse": parse, "help": meaning}
    return dataclasses.field(default=default, metadata=meta)


_TEXT = _matching(re.compile(r"[^\x00-\x1f\x7f]+"), "a text")
_PREFIX = _matching(re.compile(r"[^\x00-\x20\x7f{}]*"), "a text with no space or brace")
_NAME = _matching(_COOKIE, "a cookie name: letters, digits and !#$%&'*+-.^_`|~")
_PATH = _matching(_URL_PATH, "a path such as /")
_HOST = _matching(_DOMAIN, "a domain such as example.com")


@dataclass(frozen=True, kw_only=True, repr=False)
class Config:
    """All options. Durations are seconds, as a number or as text with a unit."""

    url: str | None = _option(None, _optional(_TEXT), "where the records live")
    client: Any = _option(None, _optional(_client), "a redis-py client, instead of url")
    prefix: str = _option("session:", _PREFIX, "of every key")
    ttl: float = _option(1800.0, seconds, "idle timeout, prolonged by use, reads too")
    touch_every: float = _option(
        None, seconds_or_zero, "a read prolongs at most this often; default ttl / 10"
    )
    max_lifetime: float | None = _option(
        None, _optional(seconds), "absolute age limit, on the server's clock"
    )
    delete_expiry: float = _option(5.0, seconds, "life of a tombstone")
    secret: tuple[bytes, ...] = _option(
        (), _secrets, "one or several; signs ids (the first signs, all verify)"
    )
    codec: Any = _option(
        "json",
        _choice("json", "msgpack", "pickle", method="encode"),
        "json, msgpack, pickle or an object with encode and decode",
    )
    conflict: str = _option(
        "merge",
        _choice("merge", "raise", "overwrite"),
        "a field that another changed since it was read: merge, raise or overwrite",
    )
    on_gone: str = _option(
        "drop",
        _choice("drop", "raise"),
        "a commit onto a session that is gone: drop it with a log line, or raise",
    )
    rotate_grace: float = _option(
        0.0, seconds_or_zero, "the id before a regeneration still reads for so long"
    )
    lock: Any = _option(
        "none",
        _choice("none", "single", "redlock", method="acquire"),
        "none, single, redlock or a LockStrategy",
    )
    lock_scope: str = _option(
        "request",
        _choice("request", "commit", "manual"),
        "first touch to commit; around the save only; or where session.lock() says",
    )
    lock_methods: frozenset[str] | None = _option(
        None,
        _optional(_methods, "all"),
        "HTTP methods that lock, default all; others may not write",
    )
    lock_expiry: float = _option(5.0, seconds, "life of a lock")
    lock_renew: bool = _option(False, _boolean, "prolong it while the request runs")
    lock_wait: float = _option(
        10.0, seconds_or_zero, "give up with LockTimeout after this long"
    )
    lock_max_waiters: int | None = _option(
        None, _optional(_count), "give up at once where so many wait already"
    )
    retry_time: float = _option(
        0.1, seconds, "longest pause between tries where no signal wakes; jittered"
    )
    lock_nodes: tuple[Any, ...] = _option(
        (), _nodes, "Redlock's masters: URLs or clients, an odd number, 3 or more"
    )
    timeout: float = _option(
        1.0, seconds, "all that one request may wait for Redis, lock waits aside"
    )
    max_size: int = _option(1 << 20, _size, "encoded size of a session, in bytes")
    cookie_name: str = _option(
        None, _NAME, "default __Host-sid; sid where cookie_secure is off"
    )
    cookie_secure: bool = _option(True, _boolean, "only over https")
    cookie_httponly: bool = _option(True, _boolean, "not for scripts")
    cookie_samesite: str | None = _option(
        "Lax", _optional(_choice("Lax", "Strict", "None"), ""), "Lax, Strict or None"
    )
    cookie_path: str = _option("/", _PATH, "the path below which it is sent")
    cookie_domain: str | None = _option(None, _optional(_HOST), "its domain")
    cookie_max_age: float | None = _option(
        None, _optional(seconds), "a rolling age; default: until the browser closes"
    )
    cookie_partitioned: bool = _option(False, _boolean, "one jar per top-level site")
    environ_key: str = _option("smartredis.session", _TEXT, "the session's place")

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
        yield from self._lock_contradictions()
        yield from self._cookie_contradictions()

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
    shown = "the value given" if name in _SECRET and value else repr(value)
    return ConfigError(f"option {name}: {shown} will not do; use {remedy}")


def _suggestion(name: Any, table: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(name), table, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(table)}"
