"""What each library's cookie and record look like. Pure: no Redis, no clock.

What a library keeps beside the application's values, such as when the session began, is
left behind; but what our integrations read by the same name, such as flash messages, is
kept.
"""

import base64
import hmac
import importlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from webob.cookies import SignedSerializer

from . import pickles
from .pickles import Unreadable

Secrets = Sequence[bytes]
Unpickle = Callable[[bytes], Any]

_UNSIGNED = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SIGNED = re.compile(r"[!-~]{1,256}")
_NO_DICT = "no session of this library"


class Content(NamedTuple):
    """What a record holds."""

    values: dict[str, Any]
    ends: float | None = None
    """When, in epoch seconds, whatever its key's expiry says."""


@dataclass(frozen=True)
class Library:
    """A library, with its defaults."""

    cookie: str
    prefix: str
    find: Callable[[str, Secrets], str | None]
    """The id in a cookie's value; None if it is malformed or wrongly signed."""
    decode: Callable[[bytes, Unpickle, int], Content]
    """Raises whatever for what is no session of this library.

    A compressed one must not have more bytes than the last says.
    """
    suffix: str = ""
    is_signed: bool = False
    is_prefix_in_id: bool = False
    spare: float = 0.0
    """For so many seconds a key outlives its session."""

    def key(self, prefix: str, its_id: str) -> str:
        return its_id if self.is_prefix_in_id else prefix + its_id + self.suffix

    def id(self, prefix: str, key: str) -> str | None:
        """Of the session that lies at a key; None if none can."""
        if not key.startswith(prefix) or not key.endswith(self.suffix):
            return None
        bare = key.removeprefix(prefix).removesuffix(self.suffix)
        return key if self.is_prefix_in_id else bare


# -- ids -----------------------------------------------------------------------------


def _of_express(value: str, secrets: Secrets) -> str | None:
    """The package cookie-signature's: s:<id>.<base64 of an HMAC-SHA-256>."""
    text = unquote(value)
    its_id, _, mac = text.removeprefix("s:").rpartition(".")
    if not text.startswith("s:"):
        return None
    made = (hmac.digest(key, its_id.encode(), "sha256") for key in secrets)
    macs = [base64.b64encode(digest).rstrip(b"=").decode() for digest in made]
    return its_id if _is_one_of(mac, macs) else None


def _of_flask(value: str, secrets: Secrets) -> str | None:
    """Bare, or signed by itsdangerous."""
    if not secrets:
        return value if _UNSIGNED.fullmatch(value) else None
    signer = importlib.import_module("itsdangerous").Signer
    options = {"salt": "flask-session", "key_derivation": "hmac"}
    signers = (signer(key, **options) for key in secrets)
    fits = [signer.validate(value) for signer in signers]
    return value.rpartition(".")[0] if any(fits) else None


def _of_pyramid(value: str, secrets: Secrets) -> str | None:
    """Signed by WebOb's SignedSerializer, the text as it is."""
    for key in secrets:
        signer = SignedSerializer(key, "pyramid_session_redis.", "sha512", _Bare())
        try:
            return str(signer.loads(value.encode()))
        except ValueError:
            continue
    return None


def _of_beaker(value: str, secrets: Secrets) -> str | None:
    """Bare, or behind a HMAC-SHA-1 of it in hex."""
    if not secrets:
        return value if _UNSIGNED.fullmatch(value) else None
    mac, its_id = value[:40], value[40:]
    macs = [hmac.digest(key, its_id.encode(), "sha1").hex() for key in secrets]
    return its_id if _is_one_of(mac, macs) else None


class _Bare:
    def dumps(self, text: str) -> bytes:
        return text.encode()

    def loads(self, raw: bytes) -> str:
        return raw.decode()


def _is_one_of(mac: str, macs: Iterable[str]) -> bool:
    fits = [hmac.compare_digest(made.encode(), mac.encode()) for made in macs]
    return any(fits)


# -- records -------------------------------------------------------------------------


def _read_express(raw: bytes, *_: object) -> Content:
    """JSON; beside the values there is what express-session says of its cookie."""
    values = _named(json.loads(raw))
    cookie = values.pop("cookie", None)
    expires = cookie.get("expires") if isinstance(cookie, dict) else None
    if not isinstance(expires, str):
        return Content(values)
    return Content(values, datetime.fromisoformat(expires).timestamp())


def _read_flask(raw: bytes, unpickle: Unpickle, _: int) -> Content:
    """MessagePack or JSON, whichever it is; before version 0.7 a pickle."""
    for decode in (msgspec.msgpack.decode, msgspec.json.decode):
        try:
            return Content(_named(decode(raw)))
        except (msgspec.DecodeError, Unreadable):
            continue
    return Content(_named(unpickle(raw)))


def _read_pyramid(raw: bytes, unpickle: Unpickle, _: int) -> Content:
    """A pickle, or JSON, of a dict in which m holds the values."""
    record = _named(json.loads(raw) if raw[:1] == b"{" else unpickle(raw))
    if record["v"] < 1:
        raise Unreadable(_NO_DICT)
    ends = record.get("x")
    return Content(_named(record["m"]), float(ends) if ends else None)


def _read_beaker(raw: bytes, unpickle: Unpickle, limit: int) -> Content:
    """A pickle of a text, which is base 64 of another pickle or of compressed JSON."""
    inner = base64.b64decode(pickles.text_within(raw), validate=True)
    if inner[:1] == b"x":
        inner = zlib.decompressobj().decompress(inner, limit + 1)
        if len(inner) > limit:
            raise Unreadable("too large")
        values = _named(json.loads(inner))
    else:
        values = _named(unpickle(inner))
    for own in ("_creation_time", "_domain", "_path"):
        values.pop(own, None)
    return Content(values)


def _named(value: Any) -> dict[str, Any]:
    if type(value) is not dict or not all(type(name) is str for name in value):
        raise Unreadable(_NO_DICT)
    return value


LIBRARIES = {
    "connect-redis": Library(
        "connect.sid", "sess:", _of_express, _read_express, is_signed=True
    ),
    "connect-smart-redis": Library(
        "connect.sid", "session:", _of_express, _read_express, is_signed=True
    ),
    "flask-session": Library("session", "session:", _of_flask, _read_flask),
    "pyramid_session_redis": Library(
        "session", "", _of_pyramid, _read_pyramid, is_signed=True, is_prefix_in_id=True
    ),
    "beaker": Library(
        "beaker.session.id",
        "beaker_cache:",
        _of_beaker,
        _read_beaker,
        suffix=":session",
        spare=120.0,
    ),
}


def id_in(library: Library, value: str, secrets: Secrets) -> str | None:
    """The id in a cookie's value, if it is one that such a library makes."""
    its_id = library.find(value, secrets)
    return its_id if its_id and _SIGNED.fullmatch(its_id) else None


def content_of(library: Library, raw: bytes, unpickle: Unpickle, limit: int) -> Content:
    """What a record holds.

    Args:
        limit: The largest size, in bytes, that it may have once it is unpacked.

    Raises:
        Unreadable: It is none of this library, or too large.
    """
    try:
        return library.decode(raw, unpickle, limit)
    except Unreadable:
        raise
    except Exception:  # its message may hold a value
        raise Unreadable(_NO_DICT) from None
