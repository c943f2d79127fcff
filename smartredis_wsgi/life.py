"""The life of one session during one request, from the first touch to the last commit.

::

    a client with an id                     a client without
          |                                        |
       UNREAD --load: nothing there, tombstone--> NEW --commit--> ALIVE
          | \\                                      ^
          |  load: a hash                          | destroy (from any state)
          |    \\                                   |
          |     ALIVE --commit: no more there--> GONE: later changes go nowhere
          |
          commit without a load stays UNREAD; onto nothing or a tombstone it makes a
          NEW one, but none beside a session that was rotated: that one is GONE

A record that was loaded and then rotated by another request is followed to its new key.

Changes are proposals until a commit. With a lock, `lock_scope` says when it is taken;
the commit after a load under the lock asks for the version that was loaded: whoever
lost the lock in between gets `LockLost`.
"""

import logging
import random
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

from . import ids
from .engine import Engine
from .errors import (
    EncodeError,
    LockLost,
    SessionConflict,
    SessionFrozen,
    SessionGone,
    SessionTooLarge,
    SmartRedisError,
    StoreUnavailable,
)
from .fields import Changes, Fields
from .hold import Hold
from .ids import Address
from .store import Destroyed, Kind, Loaded, Outcome, size_of

T = TypeVar("T")
_log = logging.getLogger("smartredis_wsgi")
_MOST_CONFLICTS = 64  # each is another's success
_NOTHING = (Outcome.ABSENT, Outcome.DESTROYED)
_GONE = (*_NOTHING, Outcome.MOVED, Outcome.GONE)


class Status(Enum):
    """What is known of the record."""

    UNREAD = auto()
    NEW = auto()
    ALIVE = auto()
    GONE = auto()


class Life:
    """One session, once. Not for several threads."""

    def __init__(self, engine: Engine, client_id: str | None, frozen: str = "") -> None:
        """Costs nothing yet.

        Args:
            client_id: The id that the client sent, well-formed and verified.
            frozen: Why nothing may be written; empty if it may.
        """
        self._engine = engine
        self._frozen = frozen
        self._id = client_id or ids.new_id()
        self._address = Address.of(self._id)
        self._status = Status.UNREAD if client_id else Status.NEW
        self._fields = Fields(engine.codec)
        self._loaded = Loaded(Kind.ABSENT)
        self._hold = Hold(engine)
        self._next_id: str | None = None  # a rotation is asked for
        self._moved = False  # by another: it has an id that only that one knows
        self._conflicts = 0
        self._ttl: float | None = None  # a ttl of its own is asked for
        self._forced = self._forgotten = False
        self.touched = self.destroyed = self.refreshed = self.over = False
        self.is_new = client_id is None

    # -- what the session reads and changes ------------------------------------------

    def fields_to_read(self) -> Fields:
        """The fields, loaded at the first time: one round trip."""
        self.touched = True
        if self._status is Status.UNREAD:
            self._load(locked=self._locks_requests())
        return self._fields

    def fields_to_write(self) -> Fields:
        """The fields; not loaded for a write unless it is the request that locks.

        Raises:
            SessionFrozen: Nothing may be written any more.
        """
        self.check_writable()
        if self._status is Status.UNREAD and self._locks_requests():
            self._load(locked=True)
        return self._fields

    def check_writable(self) -> None:
        self.touched = True
        if self._frozen:
            raise SessionFrozen(self._frozen)

    @property
    def id(self) -> str:
        """The id that the session has, or will have after the commit.

        Where another request's rotation has moved it, still the one that is no more.
        """
        self.fields_to_read()
        return self._next_id or self._id

    @property
    def created(self) -> float:
        self.fields_to_read()
        return self._loaded.created or time.time()

    @property
    def modified(self) -> bool:
        """Whether there is something that a commit would write."""
        return self._is_due(self._fields.changes())

    @property
    def stored_id(self) -> str | None:
        """The id that the client should have; None if nothing is stored."""
        is_stored = self._status in (Status.ALIVE, Status.UNREAD)
        return self._id if is_stored and not self._moved else None

    def rotate(self) -> None:
        self.fields_to_write()
        if self._status is Status.NEW:
            self._rename(ids.new_id())
        elif not self._moved:
            self._next_id = ids.new_id(like=self._id)

    def force(self) -> None:
        """Commit even if no field changed."""
        self.fields_to_write()
        self._forced = True

    def limit(self, ttl: float) -> None:
        """Give the session, if it is stored, an idle timeout of its own, in seconds."""
        self.fields_to_write()
        self._ttl = ttl

    def revert(self) -> None:
        """Drop all changes since the last commit."""
        self._fields.revert()
        self._next_id, self._ttl, self._forced = None, None, False

    def forget(self) -> None:
        """Keep nothing of this request, neither what was changed nor what will be."""
        self.revert()
        self._forgotten = True

    def decoding(self, act: Callable[[Fields], T]) -> T:
        """Do something that decodes a field.

        One that can't be decoded makes the whole session count as empty; the record is
        left as it is, and what was written so far goes to a new one.
        """
        try:
            return act(self._fields)
        except ValueError:
            _log.warning(
                "session %s can't be decoded; it counts as empty", self._handle
            )
            self._fields.rebase({})
            self._become_new()
            return act(self._fields)

    @property
    def description(self) -> str:
        """What it may be called in a log: no id, no value."""
        return f"{self._handle} {self._status.name.lower()}"

    # -- load ------------------------------------------------------------------------

    def reload(self) -> None:
        """Drop the changes and load again. One round trip."""
        self.touched = True
        self.revert()
        if self._status in (Status.UNREAD, Status.ALIVE):
            self._load(locked=self._locks_requests() and not self._hold)

    def _load(self, locked: bool) -> None:
        """Load the record; under the lock, if it is to be taken."""
        loaded = self._load_locked() if locked else self._peek()
        known = bool(self._loaded.incarnation)
        self.refreshed |= loaded.prolonged
        if loaded.moved_to and (known or loaded.in_grace):
            self._follow(loaded.moved_to)
            self._load(locked and not self._hold)
        elif loaded.kind is Kind.MOVED or (
            known and loaded.incarnation != self._loaded.incarnation
        ):
            self._become_gone(loaded.moved_to)
        elif loaded.kind is Kind.ALIVE:
            self._loaded, self._status = loaded, Status.ALIVE
            self._fields.rebase(loaded.fields)
        else:
            if loaded.kind is Kind.FOREIGN:
                _log.warning("no session of ours lies at the key of %s", self._handle)
            self._become_new()

    def _peek(self) -> Loaded:
        call = self._engine.records.load(self._address.record)
        self._engine.wire.run(call)
        return call.result

    def _load_locked(self) -> Loaded:
        """A load under the lock. An id that nobody knows makes no lock's key."""
        if self._status is Status.UNREAD and not self._engine.near_lock:
            found = self._peek()
            if found.kind is not Kind.ALIVE:
                return found
        call = self._engine.records.load(self._address.record)
        self._hold.take(self._address, call)
        return call.result

    def _become_new(self) -> None:
        self._hold.release()
        self._status, self._loaded = Status.NEW, Loaded(Kind.ABSENT)
        self._rename(ids.new_id())
        self._next_id, self._moved, self.is_new = None, False, True

    def _rename(self, session_id: str) -> None:
        self._id, self._address = session_id, Address.of(session_id)

    def _follow(self, name: str) -> None:
        """Go on with the record where another request's rotation has moved it.

        That one's response has the id: this one's says nothing of it.
        """
        self._address = self._address._replace(record=name)
        self._moved, self._next_id = True, None

    def _become_gone(self, moved_to: str = "") -> None:
        self._status = Status.GONE
        self._loaded = Loaded(Kind.ABSENT, moved_to=moved_to)
        self._fields.rebase({})

    # -- commit ----------------------------------------------------------------------

    def commit(self, last: bool = False) -> None:
        """Write what changed, if anything did. One round trip; none without a change.

        Args:
            last: Release the lease, in the same round trip where that is possible.

        Raises:
            EncodeError, SessionTooLarge, LockLost: Nothing was written.
            SessionGone: The same, where `on_gone` says so.
            StoreUnavailable: It is not known what was.
        """
        changes = self._fields.changes()
        if not self._is_due(changes):
            return
        if self._status is Status.GONE:
            self._drop_changes()
        elif self._status is Status.NEW:
            self._create(changes)
        elif self._hold or not self._engine.locks("commit"):
            self._update(changes, last)
        else:
            self._hold.take(self._address)
            self._update(changes, last=True)

    def _is_due(self, changes: Changes) -> bool:
        if self._forgotten:
            return False
        if self._status is Status.NEW:
            return bool(changes or self._forced)
        return bool(changes or self._forced or self._ttl or self._next_id)

    def _create(self, changes: Changes) -> None:
        codec, limit = self._engine.codec, self._engine.config.max_size
        added = {name: codec.encode(by) for name, by in changes.additions.items()}
        fields = {**changes.sets, **added}
        if size_of(fields) > limit:
            raise self._too_large()
        incarnation = ids.new_id()[:22].encode()
        name = self._address.record
        call = self._engine.records.create(name, incarnation, fields, self._ttl)
        self._engine.wire.run(call)
        outcome, version, _, detail = call.result
        if outcome is not Outcome.STORED:
            raise StoreUnavailable("something else lies at the key of a new session")
        self._loaded = Loaded(
            Kind.ALIVE, False, incarnation, version, int(detail[0]) / 1000
        )
        self._status, self.is_new = Status.ALIVE, True
        self._settle(changes, list(added.values()))

    def _update(self, changes: Changes, last: bool) -> None:
        basis = self._hold.basis(self._loaded)
        call = self._engine.records.update(
            self._address.record,
            changes,
            basis,
            self._ttl,
            Address.of(self._next_id).record if self._next_id else None,
        )
        self._hold.run(call, last)
        outcome, version, incarnation, detail = call.result
        known, in_grace = bool(self._loaded.incarnation), bool(version)
        if outcome is Outcome.STORED:
            self._loaded = self._loaded._replace(
                prolonged=False, version=version, incarnation=incarnation
            )
            if self._next_id:
                self._rename(self._next_id)
            self._settle(changes, detail)
        elif outcome in _NOTHING and not known:
            self._become_new()
            if self._is_due(changes):
                self._create(changes)
        elif outcome is Outcome.MOVED and (known or in_grace):
            if basis.version is not None:  # moved by one who did not ask for the lock
                raise self._refusal(outcome)
            self._follow(detail[0])
            self.commit(last)
        elif outcome is Outcome.CONFLICT:
            self._reconcile(dict(zip(detail[::2], detail[1::2], strict=True)))
            self.commit(last)
        elif outcome is Outcome.NUMBER:
            self._explain(detail[0])
            self.commit(last)
        elif outcome in _GONE:
            self._become_gone()
            self._drop_changes()
        else:
            raise self._refusal(outcome)

    def _reconcile(self, theirs: dict[str, bytes | None]) -> None:
        """Merge what others stored since it was read; pause, lest they do so again.

        Raises:
            SessionConflict: It is not to be merged, or too many came in between.
        """
        self._conflicts += 1
        may_merge = self._engine.config.conflict == "merge"
        if not may_merge or self._conflicts > _MOST_CONFLICTS:
            names = ", ".join(sorted(repr(name) for name in theirs))
            raise SessionConflict(
                f"session {self._handle}: another request changed {names} since it was "
                f"read; nothing was written"
            )
        self._fields.merge(theirs)
        time.sleep(random.uniform(0, 0.001) * self._conflicts)

    def _explain(self, name: str) -> None:
        """Raise what is wrong with a field that can't be counted.

        Unless its bytes were corrupt: then the session is a new one now.
        """
        fields = self.fields_to_read()
        self.decoding(lambda _: fields.get(name))
        if self._status is Status.ALIVE:
            raise EncodeError(f"field {name!r} and what is added can't be counted")

    def _settle(self, changes: Changes, sums: list[bytes | None]) -> None:
        known = changes.additions if self._status is Status.ALIVE else ()
        self._fields.committed(changes, dict(zip(known, sums, strict=False)))
        self._next_id, self._ttl, self._forced = None, None, False
        self.refreshed = True

    def _drop_changes(self) -> None:
        self.revert()
        if self._engine.config.on_gone == "raise":
            raise SessionGone(f"session {self._handle} is gone; nothing was written")
        _log.warning("session %s is gone; a late change of it is dropped", self._handle)

    def _refusal(self, outcome: Outcome) -> SmartRedisError:
        if outcome is Outcome.LARGE:
            return self._too_large()
        return LockLost(
            f"the lock of session {self._handle} was lost before the commit, "
            f"and another changed it; nothing was written"
        )

    def _too_large(self) -> SessionTooLarge:
        limit = self._engine.config.max_size
        return SessionTooLarge(
            f"session {self._handle} would be over {limit} bytes; store less, "
            f"or raise max_size"
        )

    # -- destroy and end -------------------------------------------------------------

    def destroy(self) -> bool:
        """Put a tombstone at once. One round trip, and no lock is waited for.

        One more, where another request has moved the record. What follows happens to a
        new session. Nothing stored: no round trip.

        Returns:
            Whether there is a tombstone now.
        """
        self.check_writable()
        found = Destroyed(Kind.ABSENT, self._loaded.moved_to)
        if self._status in (Status.UNREAD, Status.ALIVE):
            found = self._destroy()
        while found.moved_to:
            self._follow(found.moved_to)
            found = self._destroy()
        self.destroyed = True
        self._fields, self._ttl, self._forced = Fields(self._engine.codec), None, False
        self._become_new()
        return found.kind is Kind.DESTROYED

    def _destroy(self) -> Destroyed:
        call = self._engine.records.destroy(self._address.record)
        self._hold.run(call, last=True)
        return call.result

    def end(self, keep: bool) -> None:
        """The request is over: commit, if it is to be kept, and release the lease.

        The session can be read from now on, and no more be written. A second end does
        nothing.

        Raises:
            What `commit` raises; the lease is released all the same.
        """
        if self.over:
            return
        self.over = True
        try:
            if not keep:
                self.revert()
            elif self._frozen and self.modified:
                raise SessionFrozen(self._frozen)
            elif self.touched:
                self.commit(last=True)
                self._recheck()
        finally:
            self._frozen = self._frozen or "the response has begun; write before that"
            self._hold.release()

    def _recheck(self) -> None:
        """See whether a session that was only read has moved meanwhile.

        Where a rolling cookie is due it would replace the new one. One round trip, at
        most every `touch_every`.
        """
        is_rolling = self._engine.config.cookie_max_age is not None
        if is_rolling and self._loaded.prolonged and self._status is Status.ALIVE:
            self._load(locked=False)

    # -- leases ----------------------------------------------------------------------

    def enter_lock(self) -> bool:
        """Commit what is pending, take the lock and load afresh under it.

        Returns:
            Whether it is to be given back at the block's end: a lock that was held
            before, and one that the request takes at its first touch, is not.
        """
        self.check_writable()
        self.commit()
        if self._hold or self._status in (Status.NEW, Status.GONE):
            return False
        self._load(locked=True)
        return not self._locks_requests()

    def leave_lock(self, taken: bool, keep: bool) -> None:
        """Commit the block's changes or drop them, and give back what was taken."""
        try:
            if keep:
                self.commit(last=taken)
        finally:
            self.revert()  # also what could not be committed is not tried once more
            if taken:
                self._hold.release()

    def _locks_requests(self) -> bool:
        return self._engine.locks("request") and not self._frozen

    @property
    def _handle(self) -> str:
        return self._address.handle
