"""What benchmarks share: a site, a client without a network, a session's content."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any
from wsgiref.util import setup_testing_defaults

Act = Callable[[Any], object]  # a Session, or a dict

SMALL, ROWS = 12, 10
CONTENT: dict[str, Any] = {
    "user": {"id": 4711, "name": "Ada Lovelace", "roles": ["editor", "admin"]},
    "csrf": "7d3f9e0c52b84f0aa1c6d7e3b9f0442e",
    "visits": 0,
    "seen": 0,
    "cart": [{"sku": f"A-{n:05}", "count": n, "price": 9.95} for n in range(ROWS)],
    **{f"setting-{n}": f"the value of setting {n}" for n in range(SMALL)},
}
"""A session of some 1.3 kB in 17 fields."""


def site(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Does with the session what the request asks for."""
    environ["bench.act"](environ["smartredis.session"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


def fill(session: MutableMapping[str, Any]) -> None:
    session.update(CONTENT)


class Browser:
    """One client of a WSGI application. It keeps the cookie that it is given."""

    def __init__(self, app: Callable[..., Iterable[bytes]], cookie: str = "") -> None:
        self._app = app
        self._template: dict[str, Any] = {"wsgi.input": io.BytesIO()}
        setup_testing_defaults(self._template)
        self.cookie = cookie

    def request(self, act: Act) -> None:
        """One request and its answer, which has to be 200 OK."""
        environ = {**self._template, "bench.act": act}
        if self.cookie:
            environ["HTTP_COOKIE"] = self.cookie
        for _ in self._app(environ, self._start_response):
            pass

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], *_: object
    ) -> None:
        if status != "200 OK":
            raise RuntimeError(f"the answer is {status}")
        for name, value in headers:
            if name == "Set-Cookie":
                self.cookie = value.partition(";")[0]
