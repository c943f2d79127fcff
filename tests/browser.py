"""A browser for an application in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import Any
from wsgiref.validate import validator

from servers import Monitor, Server
from webob import Request, Response


class Browser:
    """Keeps cookies; each request is checked by wsgiref.validate."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cookies: dict[str, str] = {}

    def ask(self, path: str = "/", method: str = "GET") -> Response:
        request = Request.blank(path, method=method, environ={"wsgi.errors": Sink()})
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if jar:
            request.environ["HTTP_COOKIE"] = jar
        response = request.get_response(validator(self.app))
        assert response.body is not None
        for line in response.headers.getall("Set-Cookie"):
            self._keep(SimpleCookie(line))
        return response

    def post(self, path: str) -> Response:
        return self.ask(path, "POST")

    def _keep(self, cookies: SimpleCookie) -> None:
        for name, cookie in cookies.items():
            if cookie["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = cookie.value


class Sink:
    """Where an application's complaints go."""

    def write(self, text: str) -> int:
        return len(text)

    def writelines(self, lines: Any) -> None:
        pass

    def flush(self) -> None:
        pass


@contextmanager
def commands(server: Server) -> Iterator[list[str]]:
    """What Redis is asked to do meanwhile."""
    asked: list[str] = []
    with Monitor(server) as monitor:
        yield asked
        asked += monitor.lines()
