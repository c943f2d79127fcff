"""Bottle: a plugin that gives a callback the session, if it has such an argument.

::

    site = Bottle()
    site.install(SmartRedisPlugin(url="redis://localhost:6379/0"))

    @site.get("/")
    def home(session):
        ...

The plugin wraps the whole application in a `SessionMiddleware`, so error pages and
streamed responses are as there. Options may also stand in ``app.config``, under
``smartredis.``.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from bottle import Bottle, PluginError, Route, request

from smartredis_wsgi import SessionMiddleware

from ..config import Config

Callback = Callable[..., Any]


class SmartRedisPlugin:
    """Bottle's plugin interface, version 2. To be installed in one application.

    Args:
        keyword: The argument by which a callback asks for the session.
        options: See `Config`.
    """

    name = "smartredis"
    api = 2

    def __init__(self, keyword: str = "session", **options: Any) -> None:
        self._keyword = keyword
        self._options = options

    def setup(self, app: Bottle) -> None:
        """Wrap the application.

        Raises:
            PluginError: It has such a plugin already.
            ConfigError: An unknown option, a wrong value or a contradiction.
        """
        if any(isinstance(other, SmartRedisPlugin) for other in app.plugins):
            raise PluginError("a SmartRedisPlugin is installed already")
        options = Config.section(app.config, "smartredis.") | self._options
        middleware = SessionMiddleware(app.wsgi, options)
        self._environ_key = middleware.config.environ_key
        app.wsgi = middleware

    def apply(self, callback: Callback, route: Route) -> Callback:
        """The callback as it is, or given the session."""
        if self._keyword not in inspect.signature(route.callback).parameters:
            return callback

        @functools.wraps(callback)
        def with_session(*arguments: Any, **named: Any) -> Any:
            named[self._keyword] = request.environ[self._environ_key]
            return callback(*arguments, **named)

        return with_session
