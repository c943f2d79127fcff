"""A dict that can say what changed since it was loaded. Pure: no Redis, no clock.

Values are decoded when they are first read. A field *changed* if its bytes did: a
nested change is noticed without a flag, an assignment of an equal value is none, and a
field that was never read, or whose value can't change inside, is never encoded again.

What a request does to a field is one of three: it sets it, deletes it, or adds to it.
An addition stays one (the server adds), until something is assigned over it.
"""

import math
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from .codec import Codec
from .errors import EncodeError
from .merge import ABSENT, merge, pour

Number = int | float
_MOST = 10**18  # Redis adds in 64 bits
_FIXED = frozenset(
    {str, int, float, bool, type(None), bytes, datetime, date, time, timedelta}
    | {Decimal, UUID}
)  # types of which no value changes inside
_TOLD_BY_BYTES = frozenset({int, bool, type(None)})  # each is written in one way only


@dataclass(slots=True)  # frozen, it would take three times as long to make
class Changes:
    """What a commit carries, for good; empty (false) if nothing changed.

    Of fields that are set or deleted, and that were read before: what they were read
    as, None if there was no such field. And the values of those that were assigned, by
    which it is seen what was assigned since.
    """

    sets: Mapping[str, bytes]
    deletions: frozenset[str]
    additions: Mapping[str, Number]
    read_as: Mapping[str, bytes | None] = field(default_factory=dict)
    assigned: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __bool__(self) -> bool:
        return bool(self.sets or self.deletions or self.additions)

    @property
    def count(self) -> int:
        """How many fields are changed."""
        return len(self.sets) + len(self.deletions) + len(self.additions)


NO_CHANGES = Changes({}, frozenset(), {})


class Fields(MutableMapping[str, Any]):
    """The fields of one session: the bytes as stored, and what was made of them.

    A name is in at most one of assigned, deleted and added, and in read only if none
    of them has it, or the last.
    """

    def __init__(
        self,
        codec: Codec,
        stored: Mapping[str, bytes] | None = None,
        left: Collection[str] = (),
    ) -> None:
        """What was loaded.

        Args:
            left: Names of fields whose bytes are not here yet, see `fill`.
        """
        self._codec = codec
        self._stored = dict(stored or {})
        self.left = set(left)
        self._read: dict[str, Any] = {}  # decoded; the application may change it inside
        self._assigned: dict[str, Any] = {}
        self._deleted: set[str] = set()
        self._added: dict[str, Number] = {}
        self._seen: set[str] = set()  # what the application knows to be there, or not

    def __getitem__(self, name: str) -> Any:
        """The value, decoded once.

        Raises:
            KeyError: There is no such field.
            ValueError: Its bytes are not of this codec.
        """
        read = self._read
        if name not in self._added:
            if name in read:
                return read[name]
            if name in self._assigned:
                return self._assigned[name]
            self._seen.add(name)
            if name in self._stored and name not in self._deleted:
                value = read[name] = self._codec.decode(self._stored[name])
                return value
            raise KeyError(name)
        self._seen.add(name)
        return _sum(name, self._countable(name), self._added[name])

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        self._assigned[name] = value
        self._read.pop(name, None)
        self._deleted.discard(name)
        self._added.pop(name, None)

    def __delitem__(self, name: str) -> None:
        if not self._has(name):
            raise KeyError(name)
        for values in (self._assigned, self._read, self._added):
            values.pop(name, None)
        if name in self._stored or name in self.left:
            self._deleted.add(name)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and name not in self._assigned:
            self._seen.add(name)
        return self._has(name)

    def _has(self, name: object) -> bool:
        if name in self._assigned or name in self._added:
            return True
        is_stored = name in self._stored or name in self.left
        return is_stored and name not in self._deleted

    def __iter__(self) -> Iterator[str]:
        known = [*self._stored, *self.left, *self._assigned, *self._added]
        names = dict.fromkeys(known)
        return iter([name for name in names if name not in self._deleted])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, name: str, by: Number) -> None:
        """Add to a number, which is 0 where there is none.

        Raises:
            EncodeError: What is added, or known to be there, is no finite number.
        """
        _check_name(name)
        _check_number(name, by)
        if name in self._assigned or name in self._deleted:
            self[name] = _sum(name, self._assigned.get(name, 0), by)
        else:
            added = by
            if name in self._added:
                added = _sum(name, self._added[name], by)
                _check_number(name, added)
            if name in self._stored:
                _sum(name, self._countable(name), added)
            self._added[name] = added

    def changes(self) -> Changes:
        """What has to be written for the store to hold what is here.

        Raises:
            EncodeError: A value that would not come back as it is; names the field.
        """
        sets: dict[str, bytes] = {}
        for name, value in self._read.items():
            if type(value) not in _FIXED:
                self._add_if_changed(sets, name, value)
        for name, value in self._assigned.items():
            self._add_if_changed(sets, name, value)
        if not (sets or self._deleted or self._added or self._assigned):
            return NO_CHANGES
        deleted, added = frozenset(self._deleted), dict(self._added)
        seen = [n for n in self._seen if n in sets or n in deleted]
        read_as = {n: self._stored.get(n) for n in seen if n not in self.left}
        return Changes(sets, deleted, added, read_as, dict(self._assigned))

    def revert(self) -> None:
        """Drop what was changed."""
        self._read, self._assigned, self._deleted, self._added = {}, {}, set(), {}
        self._seen = set()

    @property
    def asked(self) -> Collection[str]:
        """The names of fields whose values were read."""
        return self._read.keys()

    def lacks(self, name: str) -> bool:
        """Whether it is a field whose value can't be told without its bytes."""
        return name in self.left and not (
            name in self._assigned or name in self._deleted
        )

    def fill(self, found: Mapping[str, bytes | None]) -> None:
        """Have the bytes of fields that were left, or learn that they are no more."""
        self.left -= found.keys()
        self._stored |= {name: raw for name, raw in found.items() if raw is not None}

    def rebase(self, stored: dict[str, bytes], left: Collection[str] = ()) -> None:
        """Keep what was changed, on top of what is stored now: that is ours by now.

        What was changed after it had been seen keeps what it was seen as, too: whether
        another has changed it since is for the commit to find out. Whoever holds a
        list, dict or set that was read sees in it what is stored now.
        """
        if not (self._read or self._assigned or self._deleted or self._seen):
            self._stored, self.left = stored, set(left)
            return
        before = self._stored
        self._assign_changed_inside()
        self._stored, self.left = stored, set(left)
        for name in self._seen & (self._assigned.keys() | self._deleted):
            self.left.discard(name)
            self._stored.pop(name, None)
            if name in before:
                self._stored[name] = before[name]
        for name, held in list(self._read.items()):
            if self._stored.get(name) != before.get(name):
                value = self._value(self._stored.get(name))
                self._read[name] = pour(value, held)
                if value is ABSENT:
                    del self._read[name]
        self._deleted &= self._stored.keys() | self.left

    def lose(self) -> None:
        """Nothing is stored any more; what was changed, stays so."""
        self._assign_changed_inside()
        self._stored, self.left, self._read = {}, set(), {}
        self._deleted, self._seen = set(), set()

    def committed(self, changes: Changes, sums: Mapping[str, bytes | None]) -> None:
        """The changes are stored, and fields that were added to hold the sums now.

        What was changed since they were made is still a change. What others did is not
        seen before a load.
        """
        self._stored |= changes.sets
        self.left -= changes.sets.keys() | changes.deletions
        for name, value in changes.assigned.items():
            if self._assigned.get(name, ABSENT) is value:
                self._read[name] = self._assigned.pop(name)
            elif name not in self._assigned:
                self._deleted.add(name)
        for name in changes.deletions:
            self._stored.pop(name, None)
            self._deleted.discard(name)
        for name, by in changes.additions.items():
            since = self._added.pop(name, None)
            if since is None and name not in self._assigned:
                self._deleted.add(name)
            elif since is not None and since != by:
                self._added[name] = since - by
        for name, raw in sums.items():
            self._stored.pop(name, None)
            self._read.pop(name, None)
            if raw is not None:
                self._stored[name] = raw
        self._seen |= changes.sets.keys()

    def merge(self, proposed: Changes, theirs: Mapping[str, bytes | None]) -> None:
        """Merge what another has stored since into what was proposed here.

        However many others come in between, the same proposal meets the last of them.

        Args:
            proposed: The changes that met with the first conflict.
            theirs: Fields that are changed there, as they are stored now.
        """
        for name, raw in theirs.items():
            base = self._value(proposed.read_as[name])
            mine = self._value(proposed.sets.get(name))
            merged = merge(base, self._value(raw), mine, self._is_same)
            held = self.get(name)
            self._restore(name, raw)
            if merged is not ABSENT:
                self[name] = pour(merged, held)
            elif raw is not None:
                self._deleted.add(name)

    def _restore(self, name: str, raw: bytes | None) -> None:
        """Have a field as it is stored, unchanged."""
        for values in (self._assigned, self._read, self._stored):
            values.pop(name, None)
        self._deleted.discard(name)
        if raw is not None:
            self._stored[name] = raw

    def _value(self, raw: bytes | None) -> Any:
        try:
            return ABSENT if raw is None else self._codec.decode(raw)
        except ValueError:
            return ABSENT  # nothing to merge with

    def _is_same(self, one: Any, other: Any) -> bool:
        if one is ABSENT or other is ABSENT:
            return one is other
        return self._codec.encode(one) == self._codec.encode(other)

    def _decoded(self, name: str) -> Any:
        if name not in self._read:
            self._read[name] = self._codec.decode(self._stored[name])
        return self._read[name]

    def _countable(self, name: str) -> Number:
        before: Number = self._decoded(name) if name in self._stored else 0
        _check_number(name, before)
        return before

    def _assign_changed_inside(self) -> None:
        changed = [name for name in self._read if self._is_changed_inside(name)]
        self._assigned = {n: self._read.pop(n) for n in changed} | self._assigned

    def _is_changed_inside(self, name: str) -> bool:
        value, sets = self._read[name], dict[str, bytes]()
        if type(value) in _FIXED:
            return False
        try:
            self._add_if_changed(sets, name, value)
        except EncodeError:  # for the commit to raise
            return True
        return bool(sets)

    def _add_if_changed(self, sets: dict[str, bytes], name: str, value: Any) -> None:
        stored = self._stored.get(name)
        try:
            raw = self._codec.encode(value)
        except EncodeError as refused:
            if self._read.get(name) is value and self._is_as_planted(stored, value):
                return
            raise EncodeError(f"field {name!r}: {refused}") from None
        is_same = raw == stored or (
            stored is not None
            and type(value) not in _TOLD_BY_BYTES
            and raw == self._again(stored)
        )
        if not is_same:
            sets[name] = raw

    def _is_as_planted(self, stored: bytes | None, value: Any) -> bool:
        """Whether it is unchanged, of bytes that are read and were not written here."""
        if stored is None or self._again(stored) is not None:
            return False
        try:
            return bool(self._codec.decode(stored) == value)
        except (ValueError, RecursionError):
            return False

    def _again(self, stored: bytes) -> bytes | None:
        """Stored bytes as this codec would write them: what was 1.50 is no change."""
        try:
            return self._codec.encode(self._codec.decode(stored))
        except (ValueError, EncodeError):
            return None


def _sum(name: str, one: Any, other: Any) -> Number:
    """As the store adds: ints of at most 18 digits, and finite floats."""
    _check_number(name, one)
    _check_number(name, other)
    total: Number = one + other
    if not math.isfinite(total):
        raise EncodeError(f"field {name!r}: the sum is too large for a float")
    return total


def _check_number(name: str, value: Any) -> None:
    is_int = type(value) is int and abs(value) < _MOST
    if not is_int and not (type(value) is float and math.isfinite(value)):
        raise EncodeError(
            f"field {name!r} is counted in finite floats and in ints of at most 18 "
            f"digits, not {_type(value)}"
        )


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise EncodeError(f"a field's name is text, not {_type(name)}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise EncodeError(f"field {name!a}: its name is not valid Unicode") from None


def _type(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
