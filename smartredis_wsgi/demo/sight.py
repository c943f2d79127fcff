"""What lies at a key, for people to look at: never the id of a session."""

from collections.abc import Iterator
from typing import Any

from redis import Redis

from ..store import META

_PARTS = "incarnation", "version", "created", "owner", "size"


def lies_at(redis: Redis, *keys: str | None) -> list[dict[str, Any]]:
    """What lies at each of the keys; a key that is None is left out.

    Reading prolongs nothing. One round trip a key.
    """
    return [_record(redis, key) for key in dict.fromkeys(filter(None, keys))]


def _record(redis: Redis, key: str) -> dict[str, Any]:
    with redis.pipeline() as together:
        together.type(key)
        together.pttl(key)
        together.hgetall(key)
        together.get(key)
        # One of the last two fails, which is no harm.
        kind, left_ms, fields, text = together.execute(raise_on_error=False)
    record = {"key": key, "kind": kind.decode(), "left": max(0, left_ms) / 1000}
    if kind == b"hash" and META not in fields:
        record["kind"] = "foreign"
    elif kind == b"hash":
        record["meta"] = _meta(fields.pop(META))
        record["fields"] = list(_fields(fields))
    elif kind == b"string":
        record["text"] = text.decode("utf-8", "replace")
    return record


def _meta(raw: bytes) -> dict[str, Any]:
    parts = dict(zip(_PARTS, raw.decode().split(" "), strict=False))
    return {**parts, "incarnation": parts["incarnation"][:6] + "\u2026"}


def _fields(raw: dict[bytes, bytes]) -> Iterator[dict[str, Any]]:
    for name, value in sorted(raw.items()):
        text = value.decode("utf-8", "replace")
        shown = name.decode("utf-8", "replace")
        yield {"name": shown, "value": text, "bytes": len(value)}
