"""The id of a session: made here, split here, and turned into a digest here.

An id is a *label*, 16 characters that may be known to everybody, and a *secret* of 256
bits. The label names the lock and the Cluster slot, so that both outlive a rotation,
which gives the session another secret. Whatever talks to Redis gets an `Address`, in
which there are digests only (CVE-2019-16782).

A session of another library has a *stand-in* until it gets an id of its own. That has a
label, too, and is no id: a character of it can't be in one, so no cookie holds it.
"""

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256, sha512
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
        digest = sha256(session_id[:_LABEL_SIZE].encode())
        slot = f"{{{digest.hexdigest()[:16]}}}"
        digest.update(session_id[_LABEL_SIZE:].encode())
        return cls(slot + digest.hexdigest(), slot)

    @property
    def handle(self) -> str:
        """What tells the session from others in a log."""
        return self.record[len(self.lock) :][:8]


def new_id(like: str | None = None) -> str:
    """An id that nobody can guess; like another one, it has the other one's label."""
    label = like[:_LABEL_SIZE] if like else secrets.token_urlsafe(12)
    return label + secrets.token_urlsafe(32)


def stand_in(foreign_id: str) -> str:
    """What leads to the record of a session that has another library's id."""
    digest = sha512(b"smartredis_wsgi.stand_in\0" + foreign_id.encode()).digest()
    label = urlsafe_b64encode(digest[:12]).decode()
    return f"{label}:{digest[12:44].hex()}"


def id_after(foreign_id: str, incarnation: bytes) -> str:
    """The id that such a session gets: known to who has both, and to nobody else."""
    secret = hmac.digest(foreign_id.encode(), incarnation, "sha256")
    tail = urlsafe_b64encode(secret).rstrip(b"=").decode()
    return stand_in(foreign_id)[:_LABEL_SIZE] + tail


def new_incarnation() -> bytes:
    """What tells a record from all others that lie, or ever lay, at its key."""
    return secrets.token_urlsafe(16).encode()
