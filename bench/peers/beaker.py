"""Beaker's session middleware on ext:redis.

It uses SETEX, for which redis-py 8 asks some microseconds more, as it deprecates it.
"""

from __future__ import annotations

from typing import Any

import driver
from beaker.middleware import SessionMiddleware
from driver import App, site

PACKAGES = ["Beaker"]


def sessions(address: Any) -> App:
    options = {
        "session.type": "ext:redis",
        "session.url": address,
        "session.timeout": 1800,
    }
    return SessionMiddleware(site("beaker.session", save="save"), options)


def bare() -> App:
    return driver.bare
