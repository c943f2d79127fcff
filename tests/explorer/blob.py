"""The control: each session one JSON text, loaded and saved as a whole.

So do many stores. Requests lose each other's changes, and a session that was destroyed
comes back: the explorer has to find both.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from typing import Any

COOKIE, TTL = "__Host-sid=", 1800


class BlobSession(dict[str, Any]):
    """A dict, and the verbs that the catalogue needs."""

    def __init__(self, redis: Any, session_id: str) -> None:
        self._redis = redis
        self.id = self.sent_id = session_id
        raw = (session_id and redis.execute_command("GET", self.key)) or b"{}"
        super().__init__(json.loads(raw))
        self._loaded = json.dumps(self)
        self.is_destroyed = False

    @property
    def key(self) -> str:
        return f"session:{self.id}"

    def incr(self, name: str, by: int = 1) -> None:
        self[name] = self.get(name, 0) + by

    def destroy(self) -> None:
        self._redis.execute_command("DEL", self.key)
        self.clear()
        self.id, self._loaded, self.is_destroyed = "", "{}", True

    def regenerate_id(self) -> None:
        self._redis.execute_command("DEL", self.key)
        self.id, self._loaded = secrets.token_urlsafe(44), ""

    def save(self) -> None:
        text = json.dumps(self)
        if text != self._loaded:
            self.id = self.id or secrets.token_urlsafe(44)
            self._redis.execute_command("SET", self.key, text, "EX", TTL)
            self._loaded = text


class BlobSessions:
    """A WSGI middleware."""

    def __init__(self, app: Callable[..., Iterable[bytes]], redis: Any) -> None:
        self._app, self._redis = app, redis

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        sent_id = environ.get("HTTP_COOKIE", "").removeprefix(COOKIE)
        session = BlobSession(self._redis, sent_id)
        environ["smartredis.session"] = session

        def start(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            if not status.startswith("5"):
                session.save()
            return start_response(status, [*headers, *_cookies(session)])

        return self._app(environ, start)


def _cookies(session: BlobSession) -> list[tuple[str, str]]:
    if session.id and session.id != session.sent_id:
        return [("Set-Cookie", f"{COOKIE}{session.id}; path=/; secure")]
    if session.is_destroyed:
        return [("Set-Cookie", f"{COOKIE}; Max-Age=0; path=/; secure")]
    return []
