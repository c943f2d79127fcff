"""WSGI sessions in Redis that lose no update and never come back after logout."""

import logging

from .errors import (
    ConfigError,
    EncodeError,
    LockLost,
    LockTimeout,
    SessionConflict,
    SessionFrozen,
    SessionGone,
    SessionTooLarge,
    SmartRedisError,
    StoreUnavailable,
    TooManySessions,
)
from .locks import Lease, LockStrategy, NoLock, Redlock, SingleNodeLock
from .middleware import SessionMiddleware
from .owners import OwnedSession
from .session import Session
from .session_store import SessionStore

__all__ = [
    "ConfigError",
    "EncodeError",
    "Lease",
    "LockLost",
    "LockStrategy",
    "LockTimeout",
    "NoLock",
    "OwnedSession",
    "Redlock",
    "Session",
    "SessionConflict",
    "SessionFrozen",
    "SessionGone",
    "SessionMiddleware",
    "SessionStore",
    "SessionTooLarge",
    "SingleNodeLock",
    "SmartRedisError",
    "StoreUnavailable",
    "TooManySessions",
]

logging.getLogger("smartredis_wsgi").addHandler(logging.NullHandler())
