"""One field value <-> bytes.

What was encoded comes back equal and of the same types at each depth; what would not is
refused. Types that JSON and MessagePack lack are written as a dict of one key that
begins with ``$``, such as ``{"$date": "2024-02-29"}``.

Redis adds to numbers in place. So every codec leaves a number bare, as decimal text.
"""

import base64
import functools
import math
import pickle
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from .errors import ConfigError, EncodeError

MAX_DEPTH = 64  # decoding takes five frames a level, and Python grants 1000 in all

_SCALARS = frozenset({str, bool, type(None)})
_INT64 = range(-(2**63), 2**63)
_SHORT = range(1 - 10**18, 10**18)  # Redis adds in 64 bits: there is room for a sum
_OTHER = b"\xc1"  # begins no number, and MessagePack will never use it
_NUMBER = re.compile(rb"-?\d{1,19}|-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)")
_MOMENT = re.compile(r"([^\[\]]+)(?:\[([^\[\]=]+)\])?(\[_fold=1\])?")


class Codec(Protocol):
    """What ``codec`` may be."""

    def encode(self, value: Any) -> bytes:
        """Raises EncodeError for a value that would not come back as it was."""

    def decode(self, raw: bytes) -> Any:
        """Raises ValueError for bytes that encode does not write."""


def _refusal(kind: str) -> EncodeError:
    return EncodeError(
        f"values of type {kind} would not come back as they were; "
        "convert them to plain built-in types, or use a codec that knows them"
    )


def _guarded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return decode(raw)
    except Exception as failure:  # its message may hold the value
        reason = failure
    raise _foreign(reason)


def _foreign(reason: Exception) -> ValueError:
    kind = type(reason).__name__
    return ValueError(f"these bytes were not written by this codec ({kind})")


def _is_plain_number(value: Any, ints: range = _INT64) -> bool:
    if type(value) is int:
        return value in ints
    return type(value) is float and math.isfinite(value)


def _iso(value: datetime | time) -> str:
    """ISO 8601, and RFC 9557 suffixes for what that cannot say.

    Raises:
        EncodeError: A tzinfo other than ZoneInfo (of the system's zones) and timezone
            (without a name); for a time, other than the latter.
    """
    name, zone = "", value.tzinfo
    if type(zone) is ZoneInfo and type(value) is datetime and _is_installed(zone):
        name = f"[{zone.key}]"
    elif zone is not None and not _is_bare(zone):
        raise _refusal(f"{type(value).__name__} with such a {type(zone).__name__}")
    return value.isoformat() + name + "[_fold=1]" * value.fold


def _is_installed(zone: ZoneInfo) -> bool:
    try:
        ZoneInfo(zone.key)
    except Exception:  # made from a file: without a key, or with one of its own
        return False
    return True


def _is_bare(zone: tzinfo) -> bool:
    # Only the repr tells of a name; and Python 3.11 reads offsets below 1 s as UTC.
    if type(zone) is not timezone:
        return False
    back = time.fromisoformat(time(tzinfo=zone).isoformat())
    return repr(back.tzinfo) == repr(zone)


def _moment(kind: type[datetime] | type[time], text: str) -> datetime | time:
    """Wall time counts: the offset before a zone's name is for other readers."""
    match = _MOMENT.fullmatch(text)
    if not match or (match[2] and kind is time):
        raise ValueError
    moment = kind.fromisoformat(match[1]).replace(fold=1 if match[3] else 0)
    return moment.replace(tzinfo=ZoneInfo(match[2])) if match[2] else moment


_bytes = functools.partial(base64.b64decode, validate=True)


class _Kind(NamedTuple):
    """One type that the formats lack, as ``{tag: pack(value)}``."""

    tag: str
    form: object  # the payload's, checked first: build takes more than pack makes
    build: Callable[[Any], Any]
    pack: Callable[[Any], Any] = str


_ATOMS: dict[type, _Kind] = {
    int: _Kind("$int", str, int),
    float: _Kind("$float", Literal["nan", "inf", "-inf"], float),
    bytes: _Kind("$bytes", str, _bytes, lambda raw: base64.b64encode(raw).decode()),
    date: _Kind("$date", str, date.fromisoformat),
    time: _Kind("$time", str, functools.partial(_moment, time), _iso),
    datetime: _Kind("$datetime", str, functools.partial(_moment, datetime), _iso),
    timedelta: _Kind(
        "$timedelta",
        tuple[int, int, int],
        lambda parts: timedelta(*parts),
        lambda span: [span.days, span.seconds, span.microseconds],
    ),
    UUID: _Kind("$uuid", str, UUID),
    Decimal: _Kind("$decimal", str, Decimal),
}
_GROUPS: dict[type, _Kind] = {
    tuple: _Kind("$tuple", list, tuple),
    set: _Kind("$set", list, set),
    frozenset: _Kind("$frozenset", list, frozenset),
    dict: _Kind("$dict", list[tuple[Any, Any]], dict),
}
_BY_TAG = {kind.tag: kind for kind in [*_ATOMS.values(), *_GROUPS.values()]}


class _Tagging:
    """Exact types only: a subclass would come back as its parent."""

    _native = _SCALARS
    _dumps: Callable[[Any], bytes]
    _loads: Callable[[bytes], Any]

    def encode(self, value: Any) -> bytes:
        try:
            return self._dumps(self._tag(value, MAX_DEPTH))
        except UnicodeEncodeError:
            raise _refusal("str with a lone surrogate") from None
        except ValueError:
            raise _refusal("int with more digits than Python reads") from None
        except RecursionError:
            raise _refusal(f"{type(value).__qualname__} so deeply nested") from None

    def decode(self, raw: bytes) -> Any:
        try:
            return self._read(raw) if b"$" in raw else self._loads(raw)
        except Exception as failure:  # its message may hold the value
            reason = failure
        raise _foreign(reason)

    def _read(self, raw: bytes) -> Any:
        return _untag(self._loads(raw))

    def _tag(self, value: Any, room: int) -> Any:
        kind = type(value)
        if kind in self._native or _is_plain_number(value):
            return value
        if kind in _ATOMS:
            return {_ATOMS[kind].tag: _ATOMS[kind].pack(value)}
        if kind is not list and kind not in _GROUPS:
            raise _refusal(kind.__qualname__)
        if room == 0:
            raise _refusal(f"{kind.__qualname__} nested deeper than {MAX_DEPTH} levels")
        return self._tag_group(kind, value, room - 1)

    def _tag_group(self, kind: type, value: Any, room: int) -> Any:
        if kind is dict:
            return self._tag_dict(value, room)
        members = [self._tag(member, room) for member in value]
        if kind in (set, frozenset):
            members.sort(key=self._dumps)  # a set's order differs between processes
        return members if kind is list else {_GROUPS[kind].tag: members}

    def _tag_dict(self, value: dict[Any, Any], room: int) -> dict[str, Any]:
        if all(type(key) is str and key[:1] != "$" for key in value):
            return {key: self._tag(member, room) for key, member in value.items()}
        pairs = [[self._tag(part, room) for part in pair] for pair in value.items()]
        return {_GROUPS[dict].tag: pairs}


def _untag(value: Any) -> Any:
    """Raises whatever: the caller makes it a ValueError."""
    if isinstance(value, list | tuple):
        return [_untag(member) for member in value]
    if type(value) is not dict:
        return value
    if not any(key.startswith("$") for key in value):
        return {key: _untag(member) for key, member in value.items()}
    ((tag, payload),) = value.items()
    kind = _BY_TAG[tag]
    return kind.build(_untag(msgspec.convert(payload, kind.form)))


def _no_extension(*_: object) -> None:
    raise ValueError


class JsonCodec(_Tagging):
    """Text to read in redis-cli, and from other languages."""

    _dumps = staticmethod(msgspec.json.encode)
    _loads = staticmethod(msgspec.json.Decoder().decode)


class MsgpackCodec(_Tagging):
    """Smaller than JSON where there are many numbers or bytes."""

    _native = _SCALARS | {bytes}
    _dumps = staticmethod(msgspec.msgpack.encode)
    _loads = staticmethod(msgspec.msgpack.Decoder(ext_hook=_no_extension).decode)


class PickleCodec:
    """Almost any object. Whoever can write to this Redis can run code here."""

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=5)

    def decode(self, raw: bytes) -> Any:
        return pickle.loads(raw)


class Countable:
    """Any codec, numbers left to Redis: they are text, all else stands behind 0xC1.

    Turns whatever the codec raises into EncodeError and ValueError.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(self, value: Any) -> bytes:
        if _is_plain_number(value, _SHORT):
            return repr(value).encode()
        raw = self._encoded(value)
        if type(raw) is not bytes:
            raise EncodeError(f"the codec made {type(raw).__qualname__}, not bytes")
        return _OTHER + raw

    def decode(self, raw: bytes) -> Any:
        if raw.startswith(_OTHER):
            return _guarded(self._codec.decode, raw[1:])
        if not _NUMBER.fullmatch(raw):
            raise ValueError("neither a number nor written by this codec")
        return _guarded(msgspec.json.decode, raw)

    def _encoded(self, value: Any) -> object:
        try:
            return self._codec.encode(value)
        except EncodeError:
            raise
        except Exception:  # its message may hold the value
            raise _refusal(type(value).__qualname__) from None


_NAMED: dict[str, Codec] = {
    "json": JsonCodec(),
    "msgpack": Countable(MsgpackCodec()),
    "pickle": Countable(PickleCodec()),
}


def codec_for(choice: Any) -> Codec:
    """The codec of that name, or the user's own made countable.

    Raises:
        ConfigError: Another name, or no object with encode and decode.
    """
    if isinstance(choice, str) and choice in _NAMED:
        return _NAMED[choice]
    methods = (getattr(choice, name, None) for name in ("encode", "decode"))
    if isinstance(choice, type) or not all(callable(method) for method in methods):
        raise ConfigError(
            f"option codec: {choice!r} will not do; use {', '.join(_NAMED)} or an "
            "object with encode() and decode()"
        )
    return Countable(choice)
