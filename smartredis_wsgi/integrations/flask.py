"""Flask: ``flask.session`` and ``flash``, kept in Redis.

::

    app = Flask(__name__)
    SmartRedisSessions(app, url="redis://localhost:6379/0")

Options may also stand in ``app.config``, as ``SMARTREDIS_URL`` and so on. The cookie is
as ``SESSION_COOKIE_*`` say. A permanent session's cookie and record both live for
``PERMANENT_SESSION_LIFETIME`` after the last use; another's cookie until the browser
closes, and its record for ``ttl``.

The application runs inside a `SessionMiddleware`: an error page drops the changes, and
a streamed response may change the session until its first item.
"""

import dataclasses
from typing import Any

from flask import Flask, Request, Response
from flask.sessions import SessionInterface, SessionMixin

from smartredis_wsgi import LockTimeout, Session, SessionMiddleware, StoreUnavailable

from ..config import Config
from ..cookie import Cookie
from ..life import Life
from ..middleware import Application, Headers

_ATTRIBUTES = ("name", "domain", "path", "httponly", "secure", "samesite")
_PERMANENT = "_permanent"


class SmartRedisSessions:
    """The extension: of one application, or by `init_app` of several.

    Args:
        options: See `Config`; they override ``app.config``.
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Keep the application's sessions, as its configuration says by now.

        Raises:
            ConfigError: An unknown option, a wrong value or a contradiction.
        """
        around = _Middleware(app.wsgi_app, {**_options_in(app), **self._options})
        around.refreshes = app.config["SESSION_REFRESH_EACH_REQUEST"]
        app.wsgi_app = around  # type: ignore[method-assign]
        app.session_interface = _Interface(around)
        for error in (StoreUnavailable, LockTimeout):
            app.register_error_handler(error, _telling(app.response_class))


class FlaskSession(Session, SessionMixin):
    """The session with Flask's names. Nested changes are noticed without `modified`."""

    def __init__(self, life: Life, config: Config) -> None:
        super().__init__(life)
        self._config = config

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether the client had no living session when this request came."""
        return self.is_new

    @property
    def modified(self) -> bool:
        """Whether there are changes that no commit has written yet."""
        return super().modified

    @modified.setter
    def modified(self, value: bool) -> None:
        if value:
            self.changed()

    @property
    def permanent(self) -> bool:
        """Whether it outlives the browser. Written only if it changes."""
        return bool(self.get(_PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if value != self.permanent:
            self[_PERMANENT] = bool(value)
            lifetime = self._config.cookie_max_age if value else self._config.ttl
            self.set_ttl(lifetime or self._config.ttl)


class _Middleware(SessionMiddleware):
    """Knows of permanent sessions: the others' cookies have no Max-Age."""

    refreshes = True

    def __init__(self, app: Application, config: dict[str, Any]) -> None:
        super().__init__(app, config)
        self._passing = Cookie(dataclasses.replace(self.config, cookie_max_age=None))

    def session_headers(self, life: Life) -> Headers:
        vary, *cookies = super().session_headers(life)
        if not (cookies and life.stored_id):
            return [vary, *cookies]
        is_due = life.stored_id != life.client_id
        if not FlaskSession(life, self.config).permanent:
            cookies = [self._passing.header(life.stored_id)]
        elif self.refreshes:
            return [vary, *cookies]
        return [vary, *cookies] if is_due else [vary]


class _Interface(SessionInterface):
    """Hands on the middleware's session."""

    def __init__(self, around: _Middleware) -> None:
        self._around = around

    def open_session(self, app: Flask, request: Request) -> FlaskSession:  # noqa: ARG002
        """The session of the request; of its own where no middleware runs.

        That is in a `test_request_context` and a `session_transaction`.
        """
        config = self._around.config
        session = request.environ.get(config.environ_key)
        if session is not None:
            return FlaskSession(session._life, config)
        known = self._around.cookie.find(request.environ.get("HTTP_COOKIE", ""))
        return _Lone(self._around.store.begin(lambda _: known), config)

    def save_session(
        self,
        app: Flask,  # noqa: ARG002
        session: SessionMixin,
        response: Response,
    ) -> None:
        """Nothing: the middleware commits. One that has none is committed here."""
        if isinstance(session, _Lone):
            session.end(self._around, response)


class _Lone(FlaskSession):
    """A session that no middleware looks after."""

    def end(self, around: _Middleware, response: Response) -> None:
        self._life.end(keep=response.status_code < 500)
        response.headers.extend(around.session_headers(self._life))


def _options_in(app: Flask) -> dict[str, Any]:
    """The options that an application's configuration holds."""
    says: Any = SessionInterface()
    attributes = {
        f"cookie_{n}": getattr(says, f"get_cookie_{n}")(app) for n in _ATTRIBUTES
    }
    partitioned = app.config.get("SESSION_COOKIE_PARTITIONED", False)
    ours = Config.section(app.config, "SMARTREDIS_")
    return {
        **attributes,
        "cookie_partitioned": partitioned,
        "cookie_max_age": app.permanent_session_lifetime.total_seconds(),
        **{name.lower(): value for name, value in ours.items()},
    }


def _telling(response_class: type[Response]) -> Any:
    """Flask makes a 500 page of our errors: tell the middleware what it is about."""

    class Failure(response_class):  # type: ignore[misc,valid-type]
        def __init__(self, error: Exception) -> None:
            super().__init__(status=503)
            self._error = error

        def __call__(self, environ: Any, start_response: Any) -> Any:  # noqa: ARG002
            raise self._error

    return Failure
