"""The record in Redis: load, create, update, destroy. One script, one round trip each.

A key holds a hash (alive), a string (a tombstone) or nothing::

    nothing --create--> hash --destroy--> 'destroyed' --delete_expiry--> nothing
                        | |
                        | +--rotation--> 'moved ...', and the hash at the new key
                        +--ttl, max_lifetime, eviction--> nothing

Beside the session's fields the hash holds what the scripts need, in one field that no
session can have, as its name is not UTF-8: incarnation, version, created (ms), owner
(see owners.py), size (bytes of names and values), ttl (ms, from `set_ttl`) and the
nonces of the commits of the last minute at least, by which a commit that is sent again
is recognised.

The large fields of a large record stay where they are until they are asked for.

The verbs here return a `Call`; a `Wire` runs it, alone or with a lock's.
"""

import functools
import hashlib
import itertools
import time
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from .config import Config
from .familiar import Familiar, Familiars
from .fields import Changes
from .transport import Command, Word
from .wire import Call, Query, Script, in_ms, is_forbidden

_LOAD = Script.named("record", "load")
_CREATE = Script.named("record", "create")
_UPDATE = Script.named("record", "update")
_DESTROY = Script.named("record", "destroy")
_PROLONG = Script.named("record", "prolong")
_GLANCE = Script.named("record", "glance")
_DIGEST_SIZE = 40  # of SHA-1 in hex
META = b"\xff"  # the field that is none
_WHOLE = 16384  # bytes of a record that comes whole
_LARGE = 4096  # bytes of a large field, which stays where it is, in another


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
    CONFLICT = "conflict"
    HELD = "held"
    LARGE = "large"
    OWNED = "owned"
    NUMBER = "number"


_KINDS = {kind.value.encode(): kind for kind in Kind}
_OUTCOMES = {outcome.value.encode(): outcome for outcome in Outcome}


class Loaded(NamedTuple):
    """A record as it was read. Unless ALIVE, the rest is empty.

    Left are the names of large fields that did not come. Of what is MOVED its name now
    is here, and whether everybody may follow it. Due, of what has an owner: for how
    many seconds it is to be prolonged, or 0.
    """

    kind: Kind
    prolonged: bool = False
    incarnation: bytes = b""
    version: int = 0
    created: float = 0.0
    fields: dict[str, bytes] = {}  # noqa: RUF012 (whoever gets an own one keeps it)
    left: Collection[str] = ()
    moved_to: str = ""
    in_grace: bool = False
    own_ttl: float | None = None
    owner: str = ""
    due: float = 0.0


class Tie(NamedTuple):
    """What a commit writes of the owner in whose index the session stands by then."""

    owner: str
    until_ms: int
    """When it stands there no more, in ms since the epoch; nor lives the record."""
    binds: bool
    """The session becomes that owner's."""


class Committed(NamedTuple):
    """A commit's outcome, and the record's state after it.

    Its detail: of a creation its time in ms; of another STORED commit the fields that
    were added to, as they are now; of what is MOVED its name now; the field that is no
    NUMBER; in a CONFLICT fields and values as stored, by turns; of what is OWNED its
    own ttl, or 0, and its creation, both in ms. Due is as in `Loaded`.
    """

    outcome: Outcome
    version: int
    incarnation: bytes
    detail: list[Any]
    owner: str = ""
    due: float = 0.0


class Destroyed(NamedTuple):
    """What lies at a key now; what is MOVED is not destroyed, and has another name.

    The owner is of what was destroyed now, or of what is alive, as it is another's.
    """

    kind: Kind
    moved_to: str
    owner: str = ""


class Basis(NamedTuple):
    """What a commit requires of the record; what is empty is not asked for."""

    incarnation: bytes = b""
    version: int | None = None
    lock: str = ""
    token: bytes = b""


class Records:
    """The records of one prefix."""

    def __init__(
        self, config: Config, digests: bool = True, queries: bool = False
    ) -> None:
        """The records as configured.

        Args:
            digests: The server's scripts have redis.sha1hex.
            queries: A plain command may take a script's place.
        """
        self._config = config
        self._digests = digests
        self._ttl_ms = _ms(config.ttl)
        self._max_lifetime_ms = _ms(config.max_lifetime) if config.max_lifetime else "0"
        self._max_size = f"{config.max_size}"
        self._tombstone_ms = _ms(config.delete_expiry)
        self._grace_ms = in_ms(config.rotate_grace)
        self._touch_ms = in_ms(config.touch_every)
        self._load_limits = self._ttl_ms, self._touch_ms, self._max_lifetime_ms
        self._sizes = f"{_WHOLE}", f"{_LARGE}"
        self._familiars, self._queries = Familiars(), queries

    def key(self, name: str) -> str:
        return f"{self._config.prefix}{name}"

    def look(
        self, name: str, asked: Collection[str] = ()
    ) -> Call[Loaded | None] | None:
        """Read a record as `load` does, with less work for the server, if that will do.

        That is for a record that this process has read, and that is not yet to be
        prolonged. The result is None where it is not as it was: then `load` it.
        """
        known = self._familiars.find(name) if self._queries else None
        if not known or (known.names and asked):
            return None
        key = f"{self._config.prefix}{name}"
        read = functools.partial(self._looked, name, known)
        fields: Command = ("HGETALL", key)
        if known.names:
            fields = ("HMGET", key, *known.names)
        return Query([fields, ("PTTL", key)], read)

    def _looked(self, name: str, known: Familiar, answers: list[Any]) -> Loaded | None:
        flat, left_ms = answers
        if not flat:
            return Loaded(Kind.ABSENT)
        try:
            if known.names:
                pairs = zip(known.names, flat, strict=True)
                flat = itertools.chain.from_iterable(pairs)
            loaded, ttl, size = _alive(flat, known.left)
        except (TypeError, ValueError, LookupError, AttributeError):  # a tombstone, say
            self._queries = not is_forbidden(flat)
            return None
        if size > _WHOLE and not known.names:
            self._familiars.forget(name)
        is_same = ttl == known.ttl and known.version in (0, loaded.version)
        return loaded if is_same and left_ms >= known.least_ms else None

    def load(self, name: str, asked: Collection[str] = ()) -> Call[Loaded]:
        """Read a record and prolong it, at most every `touch_every`.

        Not there, or not ours, is a `Kind`, not an error.

        Args:
            asked: Fields that are to come also if they are large.
        """
        arguments: list[Word] = [*self._load_limits, *self._sizes]
        if asked:
            arguments += [field.encode() for field in asked]
        prolonged = False

        def read(answer: list[Any]) -> Loaded:  # once for each turn of a waiter
            nonlocal prolonged
            loaded = self._loaded(answer, "" if asked else name)
            prolonged = prolonged or loaded.prolonged
            return loaded._replace(prolonged=True) if prolonged else loaded

        return Call(_LOAD, [self.key(name)], arguments, read)

    def fetch(self, name: str, fields: Collection[str]) -> Call[Loaded]:
        """Read some fields of a record, in the same way."""
        names = [field.encode() for field in fields]
        arguments: list[Word] = [*self._load_limits, "", "", *names]
        return Call(_LOAD, [self.key(name)], arguments, self._loaded)

    def create(
        self,
        name: str,
        incarnation: bytes,
        fields: Mapping[str, bytes],
        ttl: float | None,
        tie: Tie | None = None,
    ) -> Call[Committed]:
        """Make a record where there is nothing. The caller has checked its size."""
        own_ms = "" if ttl is None else _ms(ttl)
        limits = (self._ttl_ms, own_ms, self._max_lifetime_ms)
        size, owner = f"{size_of(fields)}", _index_of(tie)
        arguments: list[Word] = [incarnation, *limits, size, *owner, *_pairs(fields)]
        return Call(_CREATE, [self.key(name)], arguments, self._committed)

    def update(
        self,
        name: str,
        changes: Changes,
        basis: Basis,
        ttl: float | None = None,
        new_name: str | None = None,
        grace: float | None = None,
        trace: float = 0.0,
        tie: Tie | None = None,
    ) -> Call[Committed]:
        """Write changes to a record that is there, if the basis holds; prolong it.

        If a field that was read before was changed by another since, nothing is
        written: that is a CONFLICT. A basis with a version needs no such check.

        Args:
            ttl: The session's own idle timeout from now on, in seconds.
            new_name: The name that it has from now on; the old one gets a tombstone.
            grace: For how long everybody may follow it there, if not `rotate_grace`.
            trace: For how long that tombstone stays at least.
            tie: In whose index it stands, under that name.
        """
        key, config = self.key(name), self._config
        longest = max(map(len, changes.sets.values()), default=0)
        self._familiars.changed(name, longest > _LARGE)
        is_sure = basis.version is not None or config.conflict == "overwrite"
        bases = {} if is_sure else changes.read_as
        words: list[Word] = []
        for field, value in changes.sets.items():
            words += field.encode(), value, self._base(field, bases)
        for field in changes.deletions:
            words += field.encode(), self._base(field, bases)
        for field, number in changes.additions.items():
            words += field.encode(), repr(number)
        arguments = (
            basis.incarnation,
            "" if basis.version is None else f"{basis.version}",
            basis.token,
            self._ttl_ms,
            "" if ttl is None else _ms(ttl),
            self._max_lifetime_ms,
            self._max_size,
            _ms(max(config.delete_expiry, trace)) if trace else self._tombstone_ms,
            self._grace_ms if grace is None else in_ms(grace),
            f"{len(changes.sets)}",
            f"{len(changes.deletions)}",
            f"{len(changes.additions)}",
            *_index_of(tie),
            "1" if tie and tie.binds else "",
            self._touch_ms,
            *words,
        )
        target = self.key(new_name) if new_name else key
        keys = [key, target, basis.lock or key]
        replicas = config.wait_replicas if new_name else 0
        return Call(_UPDATE, keys, arguments, self._updated, replicas=replicas)

    def prolong(self, name: str, owner: str, until_ms: int) -> Call[None]:
        """Let a record live as long as its owner's index knows it, if it is there."""
        arguments = owner, f"{until_ms}", self._ttl_ms, self._max_lifetime_ms
        return Call(_PROLONG, [self.key(name)], arguments, lambda _: None)

    def owner_of(self, name: str) -> Call[tuple[Kind, str]]:
        """What lies there, and whose it is; looking changes nothing."""

        def read(answer: list[Any]) -> tuple[Kind, str]:
            kind = _KINDS[answer[0]]
            return kind, answer[-1].decode() if kind is Kind.ALIVE else ""

        return Call(_GLANCE, [self.key(name)], ("",), read)

    def destroy(self, name: str, owner: str = "") -> Call[Destroyed]:
        """Replace a record by a tombstone; where there is none, do nothing.

        Args:
            owner: It has to be this one's; else nothing is done either.
        """
        keys, arguments = [self.key(name)], (self._tombstone_ms, owner)
        replicas = self._config.wait_replicas
        return Call(_DESTROY, keys, arguments, self._destroyed, replicas=replicas)

    def _base(self, name: str, bases: Mapping[str, bytes | None]) -> bytes:
        if name not in bases:
            return b""
        stored = bases[name]
        if stored is None:
            return b"-"
        if len(stored) <= _DIGEST_SIZE or not self._digests:
            return b"=" + stored
        return b"#" + hashlib.sha1(stored, usedforsecurity=False).hexdigest().encode()

    def _name(self, key: bytes) -> str:
        return key.decode(errors="replace").removeprefix(self._config.prefix)

    def _loaded(self, answer: list[Any], name: str = "") -> Loaded:
        kind, flag, *rest = answer
        if kind == b"alive":
            flat, staying, left_ms, least_ms = rest
            loaded, ttl, _ = _alive(flat, staying, flag)
            if name and left_ms > least_ms:
                until = time.monotonic() + (left_ms - least_ms) / 1000
                part = loaded.version, tuple(flat[::2]), tuple(staying)
                known = Familiar(ttl, least_ms, until, *(part if staying else ()))
                self._familiars.note(name, known)
            return loaded
        to = self._name(rest[0]) if rest else ""
        return Loaded(_KINDS[kind], moved_to=to, in_grace=bool(flag))

    def _committed(self, answer: list[Any]) -> Committed:
        word, version, incarnation, *detail = answer
        return Committed(_OUTCOMES[word], int(version), incarnation, detail)

    def _updated(self, answer: list[Any]) -> Committed:
        word, version, incarnation, *detail = answer
        outcome, owner, due_ms = _OUTCOMES[word], b"", 0
        if outcome is Outcome.STORED:
            due_ms, owner, *detail = detail
        elif outcome is Outcome.OWNED:
            owner, *detail = detail
        elif outcome is Outcome.MOVED:
            detail = [self._name(detail[0])]
        elif outcome in (Outcome.CONFLICT, Outcome.NUMBER):
            detail[::2] = [name.decode() for name in detail[::2]]
        about = int(version), incarnation, detail, owner.decode(), due_ms / 1000
        return Committed(outcome, *about)

    def _destroyed(self, answer: list[Any]) -> Destroyed:
        kind, key, owner = answer
        return Destroyed(_KINDS[kind], self._name(key), owner.decode())


def size_of(fields: Mapping[str, bytes]) -> int:
    """Bytes of names and values, which is what `max_size` limits."""
    return sum(map(len, _pairs(fields)))


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}"


def _index_of(tie: Tie | None) -> tuple[str, str]:
    return (tie.owner, f"{tie.until_ms}") if tie else ("", "")


def _pairs(fields: Mapping[str, bytes]) -> list[bytes]:
    return [part for name, raw in fields.items() for part in (name.encode(), raw)]


class _Texts(dict[bytes, str]):
    """Names as text: an application has few, and each request has them all."""

    def __missing__(self, raw: bytes) -> str:
        text = raw.decode()
        if len(self) < _MOST_TEXTS:
            self[raw] = text
        return text


_MOST_TEXTS = 1000
_META_TEXT = META.decode(errors="surrogateescape")  # no field's name either
_text_of = _Texts({META: _META_TEXT}).__getitem__


def _alive(
    flat: Iterable[bytes], left: Collection[bytes] = (), prolonged: int = 0
) -> tuple[Loaded, bytes, int]:
    """A record, its own ttl as META has it, and its size.

    Args:
        flat: Field and value by turns.

    Raises:
        ValueError, TypeError, LookupError: It is none of ours.
    """
    words = iter(flat)
    try:
        fields = dict(zip(map(_text_of, words), words, strict=True))
        names = [*map(_text_of, left)] if left else ()
    except UnicodeDecodeError:
        return Loaded(Kind.FOREIGN), b"", 0
    meta = fields.pop(_META_TEXT)
    incarnation, version, created, owner, size, ttl, _ = meta.split(b" ", 6)
    since, is_sure = int(created) / 1000, prolonged == 1
    loaded = Loaded(
        Kind.ALIVE, is_sure, incarnation, int(version), since, fields, names
    )
    if owner == ttl == b"-":
        return loaded, ttl, int(size)
    loaded = loaded._replace(
        own_ttl=None if ttl == b"-" else int(ttl) / 1000,
        owner="" if owner == b"-" else owner.decode(),
        due=max(0, -prolonged) / 1000,
    )
    return loaded, ttl, int(size)
