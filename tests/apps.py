"""One application for each way in which WSGI lets a response come.

Each shape is called ``shape(act, status)`` and gives an application that lets ``act``
do something with the session before its first byte, then answers with ``status``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from smartredis_wsgi import Session

SESSION = "smartredis.session"
PLAIN = [("Content-Type", "text/plain")]

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, Start], Iterable[bytes]]
Act = Callable[[Session], object]
Shape = Callable[..., App]


def a_list(act: Act, status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        act(environ[SESSION])
        start_response(status, list(PLAIN))
        return [b"a", b"b"]

    return app


def a_tuple(act: Act, status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Start) -> tuple[bytes, ...]:
        start_response(status, list(PLAIN))
        act(environ[SESSION])
        return b"a", b"b"

    return app


def a_file(act: Act, status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        act(environ[SESSION])
        start_response(status, list(PLAIN))
        body: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"ab"), 1)
        return body

    return app


def a_late_generator(act: Act, status: str = "200 OK") -> App:
    """Everything happens at the first item, start_response too."""

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        act(environ[SESSION])
        start_response(status, list(PLAIN))
        yield b"a"
        yield b"b"

    return app


def an_early_generator(act: Act, status: str = "200 OK") -> App:
    """start_response is called before the iteration, the session used within it."""

    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response(status, list(PLAIN))
        return items(environ)

    def items(environ: Environ) -> Iterator[bytes]:
        act(environ[SESSION])
        yield b"a"
        yield b"b"

    return app


def an_empty_first_item(act: Act, status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response(status, list(PLAIN))
        act(environ[SESSION])
        yield b""
        yield b"ab"

    return app


def a_write(act: Act, status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        write = start_response(status, list(PLAIN))
        act(environ[SESSION])
        write(b"a")
        return [b"b"]

    return app


def an_empty_list(act: Act, status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        act(environ[SESSION])
        start_response(status, list(PLAIN))
        return []

    return app


def an_empty_generator(act: Act, status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
        act(environ[SESSION])
        start_response(status, list(PLAIN))
        yield from ()

    return app


def an_error_page(act: Act, status: str = "200 OK") -> App:
    """The first start_response is taken back by a second one, with exc_info."""

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        act(environ[SESSION])
        start_response("206 Partial Content", list(PLAIN))
        try:
            raise ValueError("the application's own")
        except ValueError:
            start_response(status, list(PLAIN), sys.exc_info())
        return [b"ab"]

    return app


def a_204(act: Act, status: str = "204 No Content") -> App:
    def app(environ: Environ, start_response: Start) -> list[bytes]:
        act(environ[SESSION])
        start_response(status, [] if status.startswith("204") else list(PLAIN))
        return []

    return app


SHAPES: list[Shape] = [
    a_list,
    a_tuple,
    a_file,
    a_late_generator,
    an_early_generator,
    an_empty_first_item,
    a_write,
    an_empty_list,
    an_empty_generator,
    an_error_page,
    a_204,
]
