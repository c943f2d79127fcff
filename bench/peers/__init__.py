"""Who is measured: one module for each kind of session, and `locks` for locks.

Each module of a kind of session has

    PACKAGES            what it needs, by the names that pip knows
    sessions(address)   a site that keeps sessions there: a URL or a redis-py client
    bare()              the same site on the same framework, without sessions

Options are each package's defaults: what differs is said in the module.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any, NamedTuple

from driver import App


class Peer(NamedTuple):
    """One kind of session."""

    name: str
    module: str
    needs: str = "redis"
    """A module that is there if the package is installed."""
    framework: str = ""
    """What `bare` runs on, if it is more than a function."""

    @property
    def missing(self) -> str:
        """Why it cannot be measured here; empty where it can. Nothing is imported."""
        is_there = importlib.util.find_spec(self.needs) is not None
        return "" if is_there else f"{self.needs} is not installed"

    def sessions(self, address: Any, **options: Any) -> App:
        return self._adapter().sessions(address, **options)

    def bare(self) -> App:
        return self._adapter().bare()

    def versions(self) -> list[str]:
        return [
            f"{n} {importlib.metadata.version(n)}" for n in self._adapter().PACKAGES
        ]

    def _adapter(self) -> Any:
        return importlib.import_module(f"peers.{self.module}")


OURS = Peer("ours", "ours")
OTHERS = [
    Peer("Beaker", "beaker", "beaker"),
    Peer("Flask-Session", "flask_session", "flask_session", "Flask"),
    Peer("pyramid_session_redis", "pyramid", "pyramid_session_redis", "Pyramid"),
    Peer("Django, django-redis", "django", "django_redis", "Django"),
    Peer("naive JSON text", "naive"),
]
