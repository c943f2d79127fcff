"""A record as it lies in Redis, and the one part of it that is no field."""

from __future__ import annotations

from typing import Any

META = b"\xff"
PARTS = ["incarnation", "version", "created", "owner", "size", "ttl"]
PARTS += ["since", "fresh", "nonces"]


def meta_of(client: Any, key: bytes | str) -> dict[str, bytes]:
    """What the scripts keep beside the fields, by name."""
    parts = client.hget(key, META).split(b" ")
    return dict(zip(PARTS, parts, strict=True))


def set_meta(client: Any, key: bytes | str, **changed: Any) -> None:
    """Change parts of it; None takes a part away."""
    parts = {**meta_of(client, key), **changed}
    kept = [part for part in parts.values() if part is not None]
    texts = [part if isinstance(part, bytes) else str(part).encode() for part in kept]
    client.hset(key, META, b" ".join(texts))


def fields_in(raw: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The session's own part of a hash."""
    return {name: value for name, value in raw.items() if name != META}
