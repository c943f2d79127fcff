"""PasteDeploy: a filter whose options stand in the ini file.

::

    [filter:sessions]
    use = egg:smartredis_wsgi
    url = redis://localhost:6379/0
    lock = single

    [pipeline:main]
    pipeline = sessions site

`site` finds its session in ``environ["smartredis.session"]``, or where `environ_key`
says.
"""

from collections.abc import Callable, Mapping
from typing import Any

from smartredis_wsgi import SessionMiddleware

from ..config import Config
from ..middleware import Application


def filter_factory(
    global_conf: Mapping[str, Any],  # noqa: ARG001  [DEFAULT] is for everybody
    **options: Any,
) -> Callable[[Application], SessionMiddleware]:
    """Make what wraps an application (paste.filter_factory).

    Raises:
        ConfigError: An unknown option, a wrong value or a contradiction.
    """
    Config.build(options)
    return lambda app: SessionMiddleware(app, options)


def filter_app_factory(
    app: Application,
    global_conf: Mapping[str, Any],  # noqa: ARG001
    **options: Any,
) -> SessionMiddleware:
    """Wrap an application (paste.filter_app_factory)."""
    return SessionMiddleware(app, options)
