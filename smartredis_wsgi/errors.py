"""Every exception, and what to do about it.

::

    SmartRedisError
     +-- ConfigError      (ValueError)    an option is wrong; raised at construction
     +-- StoreUnavailable (RuntimeError)  Redis did not answer as it should; 503
     +-- LockTimeout      (TimeoutError)  others hold the lock for too long; 503
     +-- LockLost         (RuntimeError)  the lock was lost before the commit
     +-- SessionConflict  (RuntimeError)  another request changed the same fields
     +-- SessionGone      (LookupError)   destroyed, expired or moved in between
     +-- SessionFrozen    (RuntimeError)  too late, or the wrong method, for a write
     +-- EncodeError      (TypeError)     a value that the codec cannot bring back
     +-- SessionTooLarge  (ValueError)    more than max_size; nothing written
     +-- TooManySessions  (RuntimeError)  the owner has max_per_owner of them already

No message holds a session id or a value; fields are named, sessions have a handle (the
first characters of the digest that is in the Redis key).
"""


class SmartRedisError(Exception):
    """What every exception of this package is."""


class ConfigError(SmartRedisError, ValueError):
    """An unknown option, a wrong value or a contradiction: names all three."""


class StoreUnavailable(SmartRedisError, RuntimeError):
    """Redis is down, slow, full, read-only or still loading. Try again later.

    Raised at the commit it also means: what became of the changes is not known.
    """


class LockTimeout(SmartRedisError, TimeoutError):
    """The lock stayed taken for ``lock_wait``, or too many wait for it already."""


class LockLost(SmartRedisError, RuntimeError):
    """The lock expired, or passed to another, in between. Nothing was written."""


class SessionConflict(SmartRedisError, RuntimeError):
    """Another request changed the same fields. Nothing was written."""


class SessionGone(SmartRedisError, LookupError):
    """The session was destroyed, expired or moved. Nothing was written."""


class SessionFrozen(SmartRedisError, RuntimeError):
    """A write after the response began, or by a method that ``lock_methods`` omits."""


class EncodeError(SmartRedisError, TypeError):
    """A field's value is of a type that would not come back as it was."""


class SessionTooLarge(SmartRedisError, ValueError):
    """The session's encoded size would exceed ``max_size``. Nothing was written."""


class TooManySessions(SmartRedisError, RuntimeError):
    """The owner has ``max_per_owner`` sessions already. Nothing was written."""
