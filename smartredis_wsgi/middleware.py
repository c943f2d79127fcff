"""One session per request: into environ, commit, cookie (WSGI, PEP 3333).

::

    from smartredis_wsgi import SessionMiddleware

    def app(environ, start_response):
        session = environ["smartredis.session"]
        session.incr("visits")
        ...

    app = SessionMiddleware(app, {"url": "redis://localhost:6379/0", "ttl": 1800})

The server hears nothing before the session is stored: the application's start_response
is kept, and handed on with the cookie, once the commit is done. That is when the
application returns a list, a tuple or a ``wsgi.file_wrapper``, or else at the first
item of its body, at its first ``write()``, at the body's end, or in ``close()``. From
there on the session can only be read, and its lock is free.

An exception and a 5xx status drop the changes. A `StoreUnavailable` or `LockTimeout`
that arrives here before the headers becomes a 503 with Retry-After; the application is
not run again. Any other exception is the server's.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .config import Config
from .cookie import Cookie
from .errors import LockTimeout, StoreUnavailable
from .life import Life
from .session import Session
from .session_store import SessionStore

_log = logging.getLogger("smartredis_wsgi")

_TRY_AGAIN = StoreUnavailable, LockTimeout

Headers = list[tuple[str, str]]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class SessionMiddleware:
    """Wraps a WSGI application: ``environ["smartredis.session"]`` is its `Session`.

    Args:
        app: The application.
        config: Options as a dict, see `Config`; keywords override it.

    Raises:
        ConfigError: An unknown option, a wrong value or a contradiction.
    """

    def __init__(
        self, app: Application, config: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self.app = app
        self.config = Config.build(config, **options)
        self.store = SessionStore(self.config)
        self.cookie = Cookie(self.config)
        # Where an inner middleware of the same cookie finds this one's session.
        self._place = f"smartredis_wsgi.{self.config.cookie_name}"

    @classmethod
    def from_settings(
        cls, app: Application, settings: Mapping[str, Any], prefix: str = "session."
    ) -> "SessionMiddleware":
        """As the constructor, from a framework's settings; all may be strings."""
        return cls(app, Config.section(settings, prefix))

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """Run the application with a session. One that is not touched costs nothing."""
        key, place = self.config.environ_key, self._place
        outer = environ.get(place)
        if outer is not None and not outer.over:
            environ[key] = _LazySession(outer)
            return self.app(environ, start_response)
        exchange = _Exchange(self, environ, start_response)
        environ[place] = exchange
        environ[key] = _LazySession(exchange)
        return exchange.run(self.app, environ)

    def why_frozen(self, method: str) -> str:
        """Why a request of this method may not write; empty if it may."""
        methods = self.config.lock_methods
        if methods is None or method.upper() in methods:
            return ""
        return f"{method} may only read the session; lock_methods has others"

    def session_headers(self, life: Life) -> Headers:
        """What the response says about a session that was touched.

        The cookie is set if the client should have another id, or should keep its own
        for longer; it is expired only by the request that destroyed.
        """
        headers, stored_id = [("Vary", "Cookie")], life.stored_id
        rolling = life.refreshed and self.config.cookie_max_age is not None
        if stored_id and (stored_id != life.client_id or rolling):
            headers.append(self.cookie.header(stored_id))
        elif life.destroyed and life.client_id:
            headers.append(self.cookie.expiring_header())
        return headers


class _Exchange:
    """One request and its response."""

    _life: Life | None = None  # of a session that was touched
    _response: tuple[str, Headers] | None = None  # the application's
    _server_write: Callable[[bytes], object] | None = None
    _failure: BaseException | None = None
    _file: Iterable[bytes] | None = None  # what wsgi.file_wrapper made
    _is_over = False

    def __init__(
        self,
        middleware: SessionMiddleware,
        environ: dict[str, Any],
        start_response: StartResponse,
    ) -> None:
        self._middleware = middleware
        self._method = environ["REQUEST_METHOD"]
        self._cookies = environ.get("HTTP_COOKIE", "")  # as the client sent it
        self._server_start = start_response

    @property
    def life(self) -> Life:
        """The session's, which begins when this is asked for."""
        if self._life is None:
            middleware = self._middleware
            find, frozen = middleware.cookie.find, middleware.why_frozen(self._method)
            self._life = middleware.store.begin(find, frozen, self._cookies)
            if self._is_over:
                self._life.end(keep=False)
        return self._life

    @property
    def over(self) -> bool:
        """Whether the session can only be read by now."""
        life = self._life
        return self._is_over if life is None else life.over

    def _end(self, keep: bool) -> None:
        if self._life is None:
            self._is_over = True
        else:
            self._life.end(keep)

    def run(self, app: Application, environ: dict[str, Any]) -> Iterable[bytes]:
        wrapper = environ.get("wsgi.file_wrapper")
        whole = (list, tuple, wrapper) if isinstance(wrapper, type) else (list, tuple)
        if wrapper and not isinstance(wrapper, type):  # what it makes has to be noted
            environ["wsgi.file_wrapper"] = self._noting(wrapper)
        try:
            body = app(environ, self._start_response)
        except BaseException as error:
            return [self.fail(error)]
        if not isinstance(body, whole) and body is not self._file:
            return _Body(self, body)
        try:
            self.begin()
        except BaseException as error:
            _close(body)
            return [self.fail(error)]
        return body

    def begin(self) -> None:
        """Commit, then start the server's response. A second time: nothing."""
        if self._server_write is not None:
            return
        if self._response is None:
            raise AssertionError("the application did not call start_response")
        status, headers = self._response
        if self._life is None and not self._failure:
            self._is_over = True
            self._server_write = self._server_start(status, headers)
            return
        keep = not status.startswith("5")
        if keep and self._failure:
            raise self._failure
        try:
            self._end(keep)
        except BaseException as failure:
            self._failure = failure  # that the application may have caught
            raise
        self._start_server(status, headers)

    def fail(self, error: BaseException) -> bytes:
        """Drop the changes. What the client may try again is a 503, whose body returns.

        Raises:
            The error, if it is another, or the headers have left.
        """
        self._end(keep=False)
        if self._server_write or not isinstance(error, _TRY_AGAIN):
            raise error
        _log.error("503: %s", error)
        config = self._middleware.config
        busy = isinstance(error, LockTimeout)
        seconds = math.ceil(config.lock_expiry if busy else config.timeout)
        text = b"The session is not available; try again.\n"
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(text))),
            ("Retry-After", str(seconds)),
            ("Cache-Control", "no-store"),
        ]
        self._start_server("503 Service Unavailable", headers)
        return b"" if self._method == "HEAD" else text

    def close(self) -> None:
        """The server is done with the body, read or not."""
        status = self._response[0] if self._response else "500"
        self._end(keep=not status.startswith("5"))

    def _start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        if self._server_write is not None and exc_info:
            return self._server_start(status, headers, exc_info)
        if self._response is not None and not exc_info:
            raise AssertionError("start_response is called again, without exc_info")
        if exc_info and isinstance(exc_info[1], _TRY_AGAIN) and status[:3] == "500":
            self._failure = exc_info[1]
            raise self._failure  # a framework's page about our error: a 503 says more
        self._response = status, headers
        return self._write

    def _noting(self, wrapper: Callable[..., Any]) -> Callable[..., Any]:
        def wrap(*arguments: Any) -> Any:
            self._file = wrapper(*arguments)
            return self._file

        return wrap

    def _write(self, item: bytes) -> None:
        self.begin()
        assert self._server_write
        self._server_write(item)

    def _start_server(self, status: str, headers: Headers) -> None:
        life = self._life
        if life is not None and life.touched:
            ours = self._middleware.session_headers(life)
            if len(ours) > 1 and not _has(headers, "cache-control"):
                ours.append(("Cache-Control", "no-store"))
            headers = [*headers, *ours]
        self._server_write = self._server_start(status, headers)


class _LazySession(Session):
    """A session whose life begins when it is first used."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        if name != "_life":
            raise AttributeError(f"a Session has no attribute {name!r}")
        self._life = self._exchange.life
        return self._life


class _Body:
    """A body that arrives bit by bit: the first item commits."""

    def __init__(self, exchange: _Exchange, items: Iterable[bytes]) -> None:
        self._exchange = exchange
        self._items = items
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._items)
            item = next(self._iterator, None)
            self._exchange.begin()
        except BaseException as error:
            item = self._exchange.fail(error)
            self._iterator = iter(())
        if item is None:
            raise StopIteration
        return item

    def close(self) -> None:
        try:
            _close(self._items)
        finally:
            self._exchange.close()


def _has(headers: Headers, name: str) -> bool:
    return any(given.lower() == name for given, _ in headers)


def _close(body: Iterable[bytes]) -> None:
    if hasattr(body, "close"):
        body.close()
