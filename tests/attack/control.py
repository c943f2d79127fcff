"""The control: sessions as many have them. `SimpleCookie` reads the request's header,
each session is one JSON text, and whatever id the client sends is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http.cookies import SimpleCookie
from typing import Any

from explorer.blob import BlobSession

NAME = "__Host-sid"


class Trusting:
    """A WSGI middleware."""

    def __init__(self, app: Callable[..., Iterable[bytes]], redis: Any) -> None:
        self._app, self._redis = app, redis

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        morsel = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(NAME)
        session = BlobSession(self._redis, morsel.value if morsel else "")
        environ["smartredis.session"] = session
        body = self._app(environ, start_response)
        session.save()
        return body
