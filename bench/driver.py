"""What benchmarks share: a client without a network, acts, a session's content."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults

Session = MutableMapping[str, Any]
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

PLAIN = [("Content-Type", "text/plain")]
CONTENT: dict[str, Any] = {
    "user": "ada",
    "name": "Ada Lovelace",
    "csrf": "7d3f9e0c52b84f0aa1c6d7e3b9f0442e",
    "language": "en-GB",
    "theme": "dark",
    "visits": 0,
    "seen": 0,
    "zone": "Europe/London",
    "is_admin": False,
    "last_page": "/orders/4711",
}
"""Ten small fields."""

_numbers = itertools.count(1)


class Act(NamedTuple):
    """What one request does with its session."""

    run: Callable[[Session], object]
    writes: bool = False
    """Some kinds of session have to be told to save."""


def _read(session: Session) -> None:
    assert session["user"]


def _write(session: Session) -> None:
    session["seen"] = next(_numbers)


def _read_and_write(session: Session) -> None:
    assert session["user"]
    session["seen"] = next(_numbers)


def _incr(session: Any) -> None:
    """Read, modify, write where the session can do no better."""
    if hasattr(session, "incr"):
        session.incr("visits")
    else:
        session["visits"] += 1


READ = Act(_read)
WRITE = Act(_write, writes=True)
READ_AND_WRITE = Act(_read_and_write, writes=True)
INCR = Act(_incr, writes=True)
FILL = Act(lambda session: session.update(CONTENT), writes=True)


def fill_beside(size: int) -> Act:
    """The ten small fields and, unless size is 0, one value of so many bytes."""
    big = {"big": ("0123456789abcdef" * (size // 16 + 1))[:size]} if size else {}
    return Act(lambda session: session.update({**CONTENT, **big}), writes=True)


def bare(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The application without any session."""
    start_response("200 OK", list(PLAIN))
    return [b"ok"]


def site(key: str, save: str = "") -> App:
    """An application that lets its session do the request's act.

    Args:
        key: The session's place in environ.
        save: The method that a session wants called after it was changed.
    """

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        act = environ["bench.act"]
        if act is not None:
            session = environ[key]
            act.run(session)
            if save and act.writes:
                getattr(session, save)()
        start_response("200 OK", list(PLAIN))
        return [b"ok"]

    return app


class Browser:
    """One client of a WSGI application. It keeps the cookie that it is given."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._template: dict[str, Any] = {"wsgi.input": io.BytesIO()}
        setup_testing_defaults(self._template)
        self.cookie = ""

    def request(self, act: Act | None) -> None:
        """One request and its answer, which has to be 200 OK."""
        environ = {**self._template, "bench.act": act}
        if self.cookie:
            environ["HTTP_COOKIE"] = self.cookie
        body = self._app(environ, self._start_response)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], *_: object
    ) -> None:
        if status != "200 OK":
            raise RuntimeError(f"the answer is {status}")
        for name, value in headers:
            if name.lower() == "set-cookie":
                self.cookie = value.partition(";")[0]
