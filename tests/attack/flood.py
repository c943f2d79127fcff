"""Ids that nobody gave out, by the thousand."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any, NamedTuple

from doubles import CountedRedis

from smartredis_wsgi import SessionMiddleware
from smartredis_wsgi.ids import Address, new_id

from .control import NAME, Trusting

WARM = 500
"""Requests before the memory is looked at."""


class Flooded(NamedTuple):
    """What is left of so many requests."""

    requests: int
    commands: int
    keys: int
    adopted: int  # ids under which there is a session now
    kib: int  # that the process has grown


def reads(session: Any) -> None:
    session.get("n")


def writes(session: Any) -> None:
    session["n"] = 1


def flood(
    app: Any, client: CountedRedis, count: int, value: Callable[[str], str]
) -> Flooded:
    """Send so many well-formed ids, each once; the value is what the cookie has."""
    ids = [new_id() for _ in range(count + WARM)]
    for session_id in ids[:WARM]:
        _ask(app, value(session_id))
    client.flushall()
    client.trips.reset()
    before = _kib()
    for session_id in ids[WARM:]:
        _ask(app, value(session_id))
    grown, commands = _kib() - before, len(client.trips.commands)
    keys = {key.decode() for key in client.keys("*")}
    names = [{f"session:{i}", "session:" + Address.of(i).record} for i in ids[WARM:]]
    adopted = sum(bool(name & keys) for name in names)
    return Flooded(count, commands, len(keys), adopted, grown)


def _ask(app: Any, value: str) -> None:
    environ = {"REQUEST_METHOD": "GET", "HTTP_COOKIE": f"{NAME}={value}"}
    app(environ, lambda *_: lambda _: None)


def _kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _site(act: Callable[[Any], None]) -> Callable[..., list[bytes]]:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        act(environ["smartredis.session"])
        start_response("200 OK", [])
        return [b""]

    return app


def attack(
    client: CountedRedis,
    count: int,
    act: Callable[[Any], None] = reads,
    secret: str | None = None,
    lock: str = "none",
) -> Flooded:
    """With a secret each id has a signature that does not fit."""
    app = SessionMiddleware(_site(act), client=client, secret=secret, lock=lock)
    mac = f".{'m' * 43}" if secret else ""
    return flood(app, client, count, lambda session_id: session_id + mac)


def attack_control(
    client: CountedRedis, count: int, act: Callable[[Any], None]
) -> Flooded:
    return flood(Trusting(_site(act), client), client, count, lambda value: value)
