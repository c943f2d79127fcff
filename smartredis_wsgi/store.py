"""The record in Redis: load, create, update, destroy. One script, one round trip each.

A key holds a hash (alive), a string (a tombstone) or nothing::

    nothing --create--> hash --destroy--> 'destroyed' --delete_expiry--> nothing
                        | |
                        | +--rotation--> 'moved', and the hash at the new key
                        +--ttl, max_lifetime, eviction--> nothing

Beside the session's fields the hash holds what the scripts need, in names that begin
with one "@" (a field's own "@" is doubled): @incarnation, @version, @created (ms),
@size (bytes of names and values), @ttl (ms, from `set_ttl`) and @commits, the nonces of
the last 16 commits, by which a commit that is sent again is recognised.

The verbs here return a `Call`; a `Wire` runs it, alone or with a lock's.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from .config import Config
from .fields import Changes, Number
from .wire import Call, Script

_LOAD = Script.named("record", "load")
_CREATE = Script.named("record", "create")
_UPDATE = Script.named("record", "update")
_DESTROY = Script.named("record", "destroy")


class Kind(Enum):
    """What lies at a key."""

    ALIVE = "alive"
    ABSENT = "absent"
    DESTROYED = "destroyed"
    MOVED = "moved"
    FOREIGN = "foreign"


class Outcome(Enum):
    """What a commit came to. Unless STORED, nothing was written."""

    STORED = "stored"
    ABSENT = "absent"
    DESTROYED = "destroyed"
    MOVED = "moved"
    GONE = "gone"
    STALE = "stale"
    HELD = "held"
    LARGE = "large"
    NUMBER = "number"


class Loaded(NamedTuple):
    """A record as it was read. Unless ALIVE, the rest is empty."""

    kind: Kind
    prolonged: bool = False
    incarnation: bytes = b""
    version: int = 0
    created: float = 0.0
    fields: Mapping[str, bytes] = {}


class Committed(NamedTuple):
    """A commit's outcome, and the record's state after it.

    Its detail: of a creation the time of it in ms, or the field that is no number.
    """

    outcome: Outcome
    version: int
    incarnation: bytes
    detail: bytes


class Basis(NamedTuple):
    """What a commit requires of the record; what is empty is not asked for."""

    incarnation: bytes = b""
    version: int | None = None
    lock: str = ""
    token: bytes = b""


class Records:
    """The records of one prefix."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ttl_ms = _ms(config.ttl)
        self._max_lifetime_ms = _ms(config.max_lifetime) if config.max_lifetime else 0
        self._tombstone_ms = _ms(config.delete_expiry)

    def key(self, name: str) -> str:
        return f"{self._config.prefix}{name}"

    def load(self, name: str) -> Call[Loaded]:
        """Read a record and prolong it, at most every `touch_every`.

        Not there, or not ours, is a `Kind`, not an error.
        """
        touch_ms = round(self._config.touch_every * 1000)
        arguments = (self._ttl_ms, touch_ms, self._max_lifetime_ms)
        return Call(_LOAD, [self.key(name)], arguments, _loaded)

    def create(
        self,
        name: str,
        incarnation: bytes,
        fields: Mapping[str, bytes],
        ttl: float | None,
    ) -> Call[Committed]:
        """Make a record where there is nothing. The caller has checked its size."""
        own_ms = "" if ttl is None else _ms(ttl)
        arguments = (incarnation, self._ttl_ms, own_ms, self._max_lifetime_ms)
        pairs = _pairs(fields)
        size = sum(map(len, pairs))
        return Call(_CREATE, [self.key(name)], (*arguments, size, *pairs), _committed)

    def update(
        self,
        name: str,
        changes: Changes,
        basis: Basis,
        ttl: float | None = None,
        new_name: str | None = None,
    ) -> Call[Committed]:
        """Write changes to a record that is there, if the basis holds; prolong it.

        Args:
            ttl: The session's own idle timeout from now on, in seconds.
            new_name: The name that it has from now on; the old one gets a tombstone.
        """
        key = self.key(name)
        sets, additions = _pairs(changes.sets), _additions(changes.additions)
        deletions = [_stored_name(field) for field in changes.deletions]
        return Call(
            _UPDATE,
            [key, self.key(new_name) if new_name else key, basis.lock or key],
            (
                basis.incarnation,
                "" if basis.version is None else basis.version,
                basis.token,
                self._ttl_ms,
                "" if ttl is None else _ms(ttl),
                self._max_lifetime_ms,
                self._config.max_size,
                self._tombstone_ms,
                len(changes.sets),
                len(deletions),
                len(changes.additions),
                *sets,
                *deletions,
                *additions,
            ),
            _committed,
        )

    def destroy(self, name: str) -> Call[Kind]:
        """Replace a record by a tombstone; where there is none, do nothing."""
        return Call(
            _DESTROY,
            [self.key(name)],
            (self._tombstone_ms,),
            lambda answer: Kind(answer[0].decode()),
        )


def size_of(fields: Mapping[str, bytes]) -> int:
    """Bytes of names and values, which is what `max_size` limits."""
    return sum(map(len, _pairs(fields)))


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _stored_name(field: str) -> bytes:
    name = field.encode()
    return b"@" + name if name.startswith(b"@") else name


def _field_name(stored: bytes) -> str:
    return stored.removeprefix(b"@").decode()


def _pairs(fields: Mapping[str, bytes]) -> list[bytes]:
    return [part for name, raw in fields.items() for part in (_stored_name(name), raw)]


def _additions(additions: Mapping[str, Number]) -> list[bytes]:
    return _pairs({name: repr(by).encode() for name, by in additions.items()})


def _loaded(answer: list[Any]) -> Loaded:
    kind, prolonged, *flat = answer
    if kind != b"alive":
        return Loaded(Kind(kind.decode()))
    record = dict(zip(flat[::2], flat[1::2], strict=True))
    is_field = {n: not n.startswith(b"@") or n.startswith(b"@@") for n in record}
    try:
        fields = {_field_name(n): raw for n, raw in record.items() if is_field[n]}
        meta = record[b"@incarnation"], int(record[b"@version"])
        created = int(record[b"@created"]) / 1000
    except (ValueError, KeyError):
        return Loaded(Kind.FOREIGN)
    return Loaded(Kind.ALIVE, bool(prolonged), *meta, created, fields)


def _committed(answer: list[Any]) -> Committed:
    outcome, version, incarnation, detail = [*answer, b""][:4]
    return Committed(Outcome(outcome.decode()), int(version), incarnation, detail)
