"""What many write first: the session is one JSON text, loaded and saved as a whole.

It loses updates, and it brings back what was destroyed: it is here to be compared with.
A request costs one round trip, and another one if the text changed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any

import driver
from driver import App, site
from redis import Redis

PACKAGES: list[str] = []

COOKIE, TTL = "sid=", 1800


def sessions(address: Any) -> App:
    return _NaiveSessions(site("naive.session"), address)


def bare() -> App:
    return driver.bare


class _NaiveSessions:
    """A WSGI middleware with a dict in environ."""

    def __init__(self, app: App, url: str) -> None:
        self._app = app
        self._redis = Redis.from_url(url)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        known = environ.get("HTTP_COOKIE", "").removeprefix(COOKIE)
        session_id = known or secrets.token_urlsafe(32)
        before = (known and self._redis.getex(f"naive:{known}", ex=TTL)) or b"{}"
        session = environ["naive.session"] = json.loads(before)

        def start(status: str, headers: list[tuple[str, str]]) -> Any:
            after = json.dumps(session).encode()
            if after != before:
                self._redis.set(f"naive:{session_id}", after, ex=TTL)
            cookie = ("Set-Cookie", f"{COOKIE}{session_id}; HttpOnly")
            return start_response(status, headers if known else [*headers, cookie])

        return self._app(environ, start)
