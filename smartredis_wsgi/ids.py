"""The id of a session: made here, split here, and turned into a digest here.

An id is a *label*, 16 characters that may be known to everybody, and a *secret* of 256
bits. The label names the lock and the Cluster slot, so that both outlive a rotation,
which gives the session another secret. Whatever talks to Redis gets an `Address`, in
which there are digests only (CVE-2019-16782).
"""

import re
import secrets
from hashlib import sha256
from typing import NamedTuple

_LABEL_SIZE, _SECRET_SIZE = 16, 43
ID = re.compile(rf"[A-Za-z0-9_-]{{{_LABEL_SIZE + _SECRET_SIZE}}}")


class Address(NamedTuple):
    """Where a session lies: its name and its lock's name."""

    record: str
    lock: str

    @classmethod
    def of(cls, session_id: str) -> "Address":
        # A hash tag: what is in braces picks the Cluster slot.
        label = sha256(session_id[:_LABEL_SIZE].encode()).hexdigest()
        slot = f"{{{label[:16]}}}"
        return cls(slot + sha256(session_id.encode()).hexdigest(), slot)

    @property
    def handle(self) -> str:
        """What tells the session from others in a log."""
        return self.record[len(self.lock) :][:8]


def new_id(like: str | None = None) -> str:
    """An id that nobody can guess; like another one, it has the other one's label."""
    label = like[:_LABEL_SIZE] if like else secrets.token_urlsafe(12)
    return label + secrets.token_urlsafe(32)


def new_incarnation() -> bytes:
    """What tells a record from all others that lie, or ever lay, at its key."""
    return secrets.token_urlsafe(16).encode()
