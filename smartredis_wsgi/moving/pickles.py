"""A reader of pickles that executes nothing: plain data comes out, or `Unreadable`.

What a pickle may name is looked up in a table, of which each entry is wrapped anew for
each pickle: no class or function of this process ever lies on the pickle's stack, so
there is nothing that it could call beside, or change. Its instructions are read before
any is followed: those for objects, and what would only cost memory, are refused.
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
_PLAIN = frozenset(
    {str, bytes, int, float, bool, type(None)}
    | {datetime, date, time, timedelta, Decimal}
)
_REFUSED = frozenset(
    {"PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
    | {"BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"}
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
    ("decimal", "Decimal"): Decimal,
    ("_codecs", "encode"): lambda text, _: text.encode("latin-1"),
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, bytes)
    },
}


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
        return _Copy(limit).of(_Reader(io.BytesIO(raw)).load())
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
    for op, argument, _ in pickletools.genops(raw):
        if op.name in _REFUSED:
            raise Unreadable("a pickle of objects")
        if op.name in _PUTS and int(argument or 0) > len(raw):
            raise Unreadable("a pickle that asks for too much memory")


class _Reader(pickle.Unpickler):
    """Knows the names of plain data only."""

    _zones = "ZoneInfo"  # stands for the class, of which one method is named

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("uuid", "UUID"):
            return type("UUID", (UUID,), {})
        if (module, name) == ("zoneinfo", "ZoneInfo"):
            return self._zones
        if (module, name) in (("builtins", "getattr"), ("__builtin__", "getattr")):
            return lambda *given: _zone_maker(given == (self._zones, "_unpickle"))
        make = _MAKERS.get((module, name))
        if make is None:
            raise Unreadable("a pickle of objects")
        return lambda *given: make(*given)


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
