"""smartredis_wsgi."""

from __future__ import annotations

from typing import Any

import driver
from driver import App, site

from smartredis_wsgi import SessionMiddleware

PACKAGES = ["smartredis_wsgi", "msgspec"]


def sessions(address: Any, **options: Any) -> App:
    """As everybody else it is patient here, and takes a value of 1 MB."""
    where = {"url" if isinstance(address, str) else "client": address}
    app = site("smartredis.session")
    return SessionMiddleware(app, where, timeout=10, max_size="4m", **options)


def bare() -> App:
    return driver.bare
