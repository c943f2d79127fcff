"""An application that writes and redirects, with each kind of body; ``ours``, ``late``.

``ours`` is the middleware as a server has it: nothing between the two, so that each
server treats lists, files and ``write()`` in its own way. ``late`` is the control.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.util import FileWrapper

import apps
from apps import PLAIN, SESSION, SHAPES, App, Environ, Start
from explorer.blob import BlobSession
from redis import Redis
from werkzeug.wsgi import ClosingIterator

from smartredis_wsgi import SessionMiddleware

RECORDS = os.environ["RECORDS"]
SID = "sid="
FAR_SECONDS = 0.005
"""How far away the control's Redis is, lest a late commit win each race by chance."""


def a_file_on_disk(act: Callable[[Any], object], status: str) -> App:
    """A server may send it with sendfile()."""

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        act(environ[SESSION])
        start_response(status, list(PLAIN))
        body: Iterable[bytes] = environ["wsgi.file_wrapper"](open(__file__, "rb"))  # noqa: SIM115 - the wrapper closes it
        return body

    return app


BODIES = {shape.__name__: shape for shape in [*SHAPES, a_file_on_disk]}


def site(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """/show tells the number; /BODY?NUMBER stores it, and redirects there."""
    environ.setdefault("wsgi.file_wrapper", FileWrapper)  # cheroot has none
    body = environ["PATH_INFO"].removeprefix("/")
    if body == "show":
        number = environ[SESSION].get("number", -1)
        start_response("200 OK", list(PLAIN))
        return [b"%d" % number]
    number = int(environ["QUERY_STRING"])

    def write(session: Any) -> None:
        session["number"] = number

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, ("Location", "/show")], *rest)

    status = "204 No Content" if body == apps.a_204.__name__ else "303 See Other"
    return BODIES[body](write, status)(environ, start)


class LateSessions:
    """The control: a middleware that stores a session when the body is closed."""

    def __init__(self, app: App, redis: Redis) -> None:
        self._app, self._redis = app, redis

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        known = environ.get("HTTP_COOKIE", "").removeprefix(SID)
        session = BlobSession(self._redis, known or secrets.token_urlsafe(44))
        environ[SESSION] = session

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            new = [] if known else [("Set-Cookie", f"{SID}{session.id}; Path=/")]
            return start_response(status, [*headers, *new], *rest)

        def save() -> None:
            time.sleep(FAR_SECONDS)
            session.save()

        return ClosingIterator(self._app(environ, start), save)


ours = SessionMiddleware(site, url=RECORDS, cookie_secure=False)
late = LateSessions(site, Redis.from_url(RECORDS))
