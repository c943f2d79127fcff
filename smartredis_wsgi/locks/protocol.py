"""python-redis-lock's protocol: key names, token, and the release that wakes a waiter.

A lock ``name`` is the string ``lock:name``, holding its owner's token. Its release
pushes to the list ``lock-signal:name``, on which waiters block. The script is the
package's own, word for word: its users and ours exclude and wake each other.
"""

import secrets

from redis_lock import UNLOCK_SCRIPT

SIGNAL_MS = "1000"  # what a signal lives for, as in the package


def new_token() -> bytes:
    return secrets.token_urlsafe(18).encode()


def lock_key(name: str) -> str:
    return f"lock:{name}"


def signal_key(name: str) -> str:
    return f"lock-signal:{name}"


def waiters_key(name: str) -> str:
    """Ours alone: a sorted set of those who wait; others wait behind them.

    They are scored by the ms at which they no longer count, unless they come back.
    """
    return f"lock-waiters:{name}"


# KEYS 1 lock; 2 signal. ARGV 1 token; 2 life of the signal in ms. Returns 0 if done.
RELEASE_SOURCE = bytes(UNLOCK_SCRIPT)
