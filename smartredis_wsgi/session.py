"""The session as the application sees it: a dict that is stored, and some verbs."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from .config import seconds
from .fields import Number
from .life import Life


class Session(MutableMapping[str, Any]):
    """A lazy dict of one client's values.

    Nothing happens in Redis before the first touch. Reading loads once: one round trip.
    Large fields of a large session are fetched when they are read: one more, so they
    may be newer than the rest. Writing and `incr` load nothing. What changed, also
    inside a value, is committed when the response begins: one round trip, or none if
    nothing did. An exception or a 5xx response drops it.

    Values are what the codec brings back as it was, see `codec`; names are text.

    Raises:
        StoreUnavailable: At a touch or the commit, if Redis can't be had.
        LockTimeout: At the first touch, if the session stays locked.
        SessionFrozen: At a write after the response began.
    """

    __slots__ = ("_life",)

    def __init__(self, life: Life) -> None:
        self._life = life

    def __getitem__(self, name: str) -> Any:
        return self._life.value_of(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._life.fields_to_write()[name] = value

    def __delitem__(self, name: str) -> None:
        self._life.check_writable()
        del self._life.fields_to_read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._life.names())

    def __len__(self) -> int:
        return len(self._life.fields_to_read())

    def __contains__(self, name: object) -> bool:
        return name in self._life.fields_to_read()

    def clear(self) -> None:
        """Delete all fields; the session and its id stay."""
        for name in list(self):
            del self[name]

    def __repr__(self) -> str:
        return f"<Session {self._life.description}>"

    @property
    def id(self) -> str:
        """The secret in the cookie. Made on first need for a new session."""
        return self._life.id

    @property
    def is_new(self) -> bool:
        """Whether the client had no living session when this request came."""
        self._life.fields_to_read()
        return self._life.is_new

    @property
    def created(self) -> float:
        """When it was created, in epoch seconds on the server's clock."""
        return self._life.created

    @property
    def modified(self) -> bool:
        """Whether there are changes that no commit has written yet. No round trip."""
        return self._life.modified

    def incr(self, name: str, by: Number = 1) -> None:
        """Add to a number in the store itself, so that no addition is lost.

        A field that is not there counts as 0. No round trip of its own.

        Args:
            by: An int of at most 18 digits, or a finite float; may be negative.

        Raises:
            EncodeError: What is added, or what is there, can't be counted. If it was
                not read before, this comes at the commit.
        """
        self._life.fields_to_write()
        self._life.decoding(lambda fields: fields.add(name, by))

    def destroy(self) -> None:
        """Log out: delete it now, not at the commit. One round trip.

        Whatever other requests still do, it does not come back. The object goes on as
        an empty session, which gets a new id if it is written to.
        """
        self._life.destroy()

    invalidate = destroy  # Pyramid's and Beaker's name
    delete = destroy  # Beaker's name

    def regenerate_id(self) -> None:
        """Keep the fields under a new id from the commit on, as after a login.

        The old id is dead in the step that makes the new one alive, or reads on for
        `rotate_grace`. The changes of requests that are under way are carried over; of
        two that do this at once one wins.
        """
        self._life.rotate()

    def bind(self, owner: str, note: str | None = None) -> None:
        """Have the session belong to an owner from the commit on: "log out everywhere".

        See `SessionStore.destroy_owner` and `sessions_of`. Another owner than before
        replaces that one; the same one is nothing new, unless there is a note. The
        commit takes two round trips more; later on so does what prolongs the session,
        at most every `touch_every`, and a rotation. One round trip if it was not read.

        Args:
            owner: Such as a user's id. Redis gets its SHA-256 only.
            note: What the owner may see, such as "Firefox on Linux"; at most 200
                characters of it are kept.

        Raises:
            ValueError: The owner is no text, or empty; or the note is no text.
            TooManySessions: At the commit, where `owner_overflow` says so.
        """
        self._life.bind(owner, note)

    def forget(self) -> None:
        """Keep nothing of this request's changes: neither those made nor later ones."""
        self._life.forget()

    def save(self) -> None:
        """Commit now and go on. One round trip, none if nothing changed."""
        self._life.check_writable()
        self._life.commit()

    def reload(self) -> None:
        """Drop the changes and load again. One round trip."""
        self._life.reload()

    def changed(self) -> None:
        """Commit even if nothing changed. Nested changes are seen without this."""
        self._life.force()

    def set_ttl(self, ttl: float | str) -> None:
        """Give this session an idle timeout of its own, from the commit on.

        Args:
            ttl: Seconds, or text with a unit ("30m").

        Raises:
            ValueError: It is not a duration over 0.
        """
        self._life.limit(seconds(ttl))

    @contextmanager
    def lock(self) -> Iterator["Session"]:
        """Have the session alone: exclusive, fresh, and committed at the block's end.

        What is pending is committed first. An exception drops the block's changes.
        Where the request has the lock already, it is used. Without a lock strategy the
        commit notices whoever came in between. Two round trips, beside the lock's own.

        Raises:
            LockTimeout: Others hold the lock for too long.
            LockLost: The session changed in between; nothing of the block was written.
        """
        taken = self._life.enter_lock()
        try:
            yield self
        except BaseException:
            self._life.leave_lock(taken, keep=False)
            raise
        self._life.leave_lock(taken, keep=True)
