"""Pyramid: ``request.session``, configured by the ini file.

::

    config.include("smartredis_wsgi.integrations.pyramid")

with settings that begin with ``session.``, say ``session.url``. The router then runs
inside a `SessionMiddleware`: outside of all tweens, so that the commit comes after
theirs, after the response callbacks, and before the headers leave.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from pyramid.config import Configurator
from pyramid.events import ApplicationCreated
from pyramid.interfaces import ISession
from zope.interface import implementer

from smartredis_wsgi import Session, SessionMiddleware, SessionStore

from ..config import Config
from ..middleware import StartResponse

_PREFIX = "session."
_MISSING = (
    "there is no session in this request's environ; "
    'call config.include("smartredis_wsgi.integrations.pyramid"), '
    "or give a subrequest the session of its parent's environ"
)


@implementer(ISession)
class PyramidSession(Session):
    """The session with Pyramid's names: a complete `ISession`."""

    __slots__ = ()

    @property
    def new(self) -> bool:
        """Whether the client had no living session when this request came."""
        return self.is_new

    @property
    def created(self) -> int:
        """When it was created, in epoch seconds."""
        return int(super().created)

    def flash(self, msg: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Put a message at the end of a queue."""
        messages = self.setdefault(f"_f_{queue}", [])
        if allow_duplicate or msg not in messages:
            messages.append(msg)

    def pop_flash(self, queue: str = "") -> list[Any]:
        """The messages of a queue, which is empty from now on."""
        messages: list[Any] = self.pop(f"_f_{queue}", [])
        return messages

    def peek_flash(self, queue: str = "") -> list[Any]:
        """The messages of a queue, which keeps them."""
        messages: list[Any] = self.get(f"_f_{queue}", [])
        return messages

    def new_csrf_token(self) -> str:
        """Make and keep another token against cross-site request forgery."""
        token = self["_csrft_"] = secrets.token_hex(20)
        return token

    def get_csrf_token(self) -> str:
        """The token against cross-site request forgery; made where there is none."""
        token: str | None = self.get("_csrft_")
        return token or self.new_csrf_token()


def includeme(config: Configurator) -> None:
    """Give every request a session, from the settings that begin with ``session.``.

    Raises:
        ConfigError: An unknown option, a wrong value or a contradiction.
    """
    options = Config.section(config.registry.settings, _PREFIX)
    key = Config.build(options).environ_key

    def session_of(request: Any) -> PyramidSession:
        return _view(_session_around(request, key))

    def wrap(event: ApplicationCreated) -> None:
        event.app.execution_policy = _inside_a_session(event.app, options)

    def start_afresh(event: Any) -> None:
        session = session_of(event.request)
        if session._life.touched:
            session.reload()

    config.set_session_factory(session_of)
    config.add_subscriber(wrap, ApplicationCreated)
    with contextlib.suppress(ImportError):  # a request that is tried again
        from pyramid_retry import IBeforeRetry

        config.add_subscriber(start_afresh, IBeforeRetry)


def session_factory(**options: Any) -> Callable[[Any], PyramidSession]:
    """Pyramid's session factory for an application that has a middleware already.

    In a unit test, with a `DummyRequest`, it makes new sessions, which are stored by
    `save()` only.

    Args:
        options: See `Config`; those of the middleware, if there is one.
    """
    config = Config.build(options)
    store = SessionStore(config)

    def session_of(request: Any) -> PyramidSession:
        if "wsgi.version" in request.environ:
            return _view(_session_around(request, config.environ_key))
        return PyramidSession(store.begin(lambda _: None))

    return session_of


def _inside_a_session(
    router: Any, options: dict[str, Any]
) -> Callable[..., SessionMiddleware]:
    """The router's execution policy, as the application of a middleware."""
    policy = router.execution_policy

    def run(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        body: Iterable[bytes] = policy(environ, router)(environ, start_response)
        return body

    middleware = SessionMiddleware(run, options)
    return lambda environ, router: middleware  # noqa: ARG005  the router calls it


def _session_around(request: Any, key: str) -> Session:
    if key not in request.environ:
        raise RuntimeError(_MISSING)
    session: Session = request.environ[key]
    return session


def _view(session: Session) -> PyramidSession:
    return PyramidSession(session._life)
