"""What not to do: the whole session is read first and written back last."""

import json
import secrets
from collections.abc import Iterable
from typing import Any

from webob import Request

from ..middleware import Application, StartResponse
from .acts import sent

COOKIE = "naive"
_SHOWN = len("blob:1234")
_TTL = 1800  # seconds, as ours


def key_of(session_id: str) -> str:
    return f"blob:{session_id}"


def without_id(record: dict[str, Any]) -> dict[str, Any]:
    """What lies at a key, to be shown: this store has whole ids in its keys."""
    return {**record, "key": record["key"][:_SHOWN] + "\u2026"}


class BlobSessions:
    """Middleware that keeps a session as one JSON text, as many do.

    Args:
        client: Of the server where they are kept.
    """

    def __init__(self, app: Application, client: Any) -> None:
        self._app = app
        self._redis = client

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        session = Blob(Request(environ).cookies.get(COOKIE) or secrets.token_urlsafe())
        session.update(json.loads(self._redis.get(session.key) or "{}"))
        environ["smartredis.session"] = session
        response = Request(environ).get_response(self._app)
        response.set_cookie(COOKIE, session.id, httponly=True, samesite="Lax")
        if session.destroyed:
            self._redis.delete(session.key)
        else:
            self._redis.set(session.key, json.dumps(session), ex=_TTL)
        return sent(response, environ, start_response)


class Blob(dict[str, Any]):
    """A session of it."""

    destroyed = False

    def __init__(self, session_id: str) -> None:
        self.id, self.key = session_id, key_of(session_id)

    def incr(self, name: str, by: int = 1) -> None:
        self[name] = self.get(name, 0) + by

    def regenerate_id(self) -> None:
        """It has none but the one."""

    def destroy(self) -> None:
        self.destroyed = True
        self.clear()
