"""A reader of pickles that executes nothing: plain data comes out, or `Unreadable`.

What a pickle may name is looked up in a table, of which each entry is wrapped anew for
each pickle: no class or function of this process ever lies on the pickle's stack, so
there is nothing that it could call beside, or change. Its instructions are read before
any is followed: those for objects, and what would only cost memory, are refused. So are
too many of those that can make keys of one hash, each of which is compared with all
others, or a tower of tuples, whose hash takes as much stack as it is high.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

_DEPTH = 64
_MOST_ODD = 5000  # a tower of so many tuples takes less than 512 KB of stack
_MOST_DIGITS = 1000  # of a Decimal, which takes quadratic time
_HASHED_AS_OTHERS = 2**61 - 1  # numbers from here on have the hash of smaller ones
_PLAIN = frozenset(
    {str, bytes, int, float, bool, type(None)}
    | {datetime, date, time, timedelta, Decimal}
)
_REFUSED = frozenset(
    {"PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
    | {"BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"}
)
_ODD = frozenset(
    {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"}
    | {"REDUCE", "NEWOBJ", "GLOBAL", "STACK_GLOBAL"}
)
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_AROUND = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "STOP"})
_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("datetime", "datetime"): datetime,
    ("datetime", "date"): date,
    ("datetime", "time"): time,
    ("datetime", "timedelta"): timedelta,
    ("datetime", "timezone"): timezone,
}
_COLLECTIONS = {"set": set, "frozenset": frozenset}


class Unreadable(ValueError):
    """This is no session that can be taken over; the text says why, and no value."""


def read(raw: bytes, limit: int) -> Any:
    """What was pickled, if it is plain data.

    That is dict, list, tuple, set, frozenset, str, bytes, int, float, bool, None,
    datetime, date, time, timedelta, Decimal and UUID. A UUID of protocol 0 or 1 is not.

    Args:
        limit: The largest size, in bytes, also of what is written out once and meant
            many times.

    Raises:
        Unreadable: Anything else, whatever it is.
    """
    if len(raw) > limit:
        raise Unreadable("too large")
    try:
        _check(raw)
        return _Copy(limit).of(_Reader(raw, limit).load())
    except Unreadable:
        raise
    except Exception:  # its message may hold a value
        raise Unreadable("no pickle of plain data") from None


def text_within(raw: bytes) -> str:
    """What was pickled, if it is one text alone. Nothing is unpickled for it.

    Raises:
        Unreadable: It is anything else.
    """
    try:
        found = [(op.name, argument) for op, argument, _ in pickletools.genops(raw)]
    except Exception:
        found = []
    texts = [text for name, text in found if name in _TEXTS]
    if len(texts) != 1 or not {name for name, _ in found} <= _TEXTS | _AROUND:
        raise Unreadable("no pickle of one text")
    return str(texts[0])


def _check(raw: bytes) -> None:
    odd = 0
    for op, argument, _ in pickletools.genops(raw):
        is_large = type(argument) is int and abs(argument) >= _HASHED_AS_OTHERS
        odd += is_large or op.name in _ODD
        if odd > _MOST_ODD:
            raise Unreadable("a pickle of too many tuples and the like")
        if op.name in _REFUSED:
            raise Unreadable("a pickle of objects")
        if op.name in _PUTS and int(argument or 0) > len(raw):
            raise Unreadable("a pickle that asks for too much memory")


class _Reader(pickle.Unpickler):
    """Knows the names of plain data only."""

    _zones = "ZoneInfo"  # stands for the class, of which one method is named

    def __init__(self, raw: bytes, limit: int) -> None:
        super().__init__(io.BytesIO(raw))
        self._room = limit  # one argument may be used many times

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("uuid", "UUID"):
            return type("UUID", (UUID,), {})
        if (module, name) == ("zoneinfo", "ZoneInfo"):
            return self._zones
        if (module, name) in (("builtins", "getattr"), ("__builtin__", "getattr")):
            return lambda *given: _zone_maker(given == (self._zones, "_unpickle"))
        make = self._maker(module, name)
        if make is None:
            raise Unreadable("a pickle of objects")
        return lambda *given: make(*given)

    def _maker(self, module: str, name: str) -> Callable[..., Any] | None:
        if (module, name) == ("decimal", "Decimal"):
            return self._decimal
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _: self._sized(text, str).encode("latin-1")
        if module not in ("builtins", "__builtin__"):
            return _MAKERS.get((module, name))
        if name == "bytes":
            return lambda: b""  # others come as text, by _codecs.encode
        kind = _COLLECTIONS.get(name)
        return kind and (lambda members: kind(self._sized(members, list)))

    def _decimal(self, digits: Any) -> Decimal:
        if len(self._sized(digits, str)) > _MOST_DIGITS:
            raise Unreadable("too large")
        return Decimal(digits)

    def _sized(self, argument: Any, kind: type) -> Any:
        """An argument of this kind, if there is room for what is made of it."""
        self._room -= len(argument)
        if self._room < 0:
            raise Unreadable("too large")
        if type(argument) is not kind:
            raise Unreadable("a pickle of objects")
        return argument


def _zone_maker(is_meant: bool) -> Any:
    if not is_meant:
        raise Unreadable("a pickle of objects")
    return lambda key, _: ZoneInfo(key)


class _Copy:
    """A copy of plain data, which ends where it would become too large."""

    def __init__(self, limit: int) -> None:
        self._room = limit

    def of(self, value: Any, depth: int = _DEPTH) -> Any:
        kind = type(value)
        self._room -= 1 + (len(value) if kind in (str, bytes) else 0)
        if self._room < 0 or depth == 0:
            raise Unreadable("too large")
        if kind in _PLAIN:
            return value
        if kind is dict:
            pairs = self._all(value.items(), depth)
            return dict(pairs)
        if kind in (list, tuple, set, frozenset):
            return kind(self._all(value, depth))
        if isinstance(value, UUID):
            return UUID(int=value.int)
        raise Unreadable("a pickle of objects")

    def _all(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.of(value, depth - 1) for value in values]
