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
          commit without a load stays UNREAD; onto nothing it makes a NEW one

Changes are proposals until a commit. With a lock, `lock_scope` says when the lease is
taken; a load under a lease is *exclusive*, and the commit that follows it asks for the
version that was loaded: whoever lost the lock in between gets `LockLost`.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any, TypeVar

from . import ids
from .codec import Codec
from .config import Config
from .errors import (
    EncodeError,
    LockLost,
    SessionFrozen,
    SessionGone,
    SessionTooLarge,
    SmartRedisError,
    StoreUnavailable,
)
from .fields import Changes, Fields
from .ids import Address
from .locks import Lease, LockStrategy, NoLock, SingleNodeLock
from .locks.single import SingleNodeLease
from .locks.strategy import Renewal
from .store import Basis, Committed, Kind, Loaded, Outcome, Records, size_of
from .wire import Call, Wire

T = TypeVar("T")
_log = logging.getLogger("smartredis_wsgi")
_GONE = (Outcome.ABSENT, Outcome.DESTROYED, Outcome.MOVED, Outcome.GONE)


@dataclass(frozen=True)
class Engine:
    """What all sessions of one configuration share."""

    config: Config
    wire: Wire
    records: Records
    codec: Codec
    lock: LockStrategy

    @cached_property
    def near_lock(self) -> SingleNodeLock | None:
        """The lock, if it is on the records' own Redis: then they share round trips."""
        if isinstance(self.lock, SingleNodeLock):
            return self.lock if self.lock.wire.address == self.wire.address else None
        return None

    @cached_property
    def locks_nobody(self) -> bool:
        return isinstance(self.lock, NoLock)

    def lock_name(self, address: Address) -> str:
        return self.records.key(address.lock)


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
        self._client_id = client_id
        self._id = client_id or ids.new_id()
        self._status = Status.UNREAD if client_id else Status.NEW
        self._fields = Fields(engine.codec)
        self._loaded = Loaded(Kind.ABSENT)
        self._lease: Lease | None = None
        self._renewal: Renewal | None = None
        self._exclusive = False  # loaded under the lease
        self._next_id: str | None = None  # a rotation is asked for
        self._ttl: float | None = None  # a ttl of its own is asked for
        self._forced = self._forgotten = False
        self.touched = self.destroyed = self.refreshed = False
        self.is_new = client_id is None

    # -- what the session reads and changes ------------------------------------------

    def fields_to_read(self) -> Fields:
        """The fields, loaded at the first time: one round trip."""
        self.touched = True
        if self._status is Status.UNREAD:
            self._load()
        return self._fields

    def fields_to_write(self) -> Fields:
        """The fields; not loaded for a write unless it is the request that locks.

        Raises:
            SessionFrozen: Nothing may be written any more.
        """
        self.check_writable()
        if self._status is Status.UNREAD and self._locks_requests():
            self._load()
        return self._fields

    def check_writable(self) -> None:
        self.touched = True
        if self._frozen:
            raise SessionFrozen(self._frozen)

    @property
    def id(self) -> str:
        """The id that the session has, or will have after the commit."""
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
        return self._id if self._status in (Status.ALIVE, Status.UNREAD) else None

    def rotate(self) -> None:
        self.check_writable()
        if self._status is Status.NEW:
            self._id = ids.new_id()
        else:
            self._next_id = ids.new_id(like=self._id)

    def force(self) -> None:
        """Commit even if no field changed."""
        self.check_writable()
        self._forced = True

    def limit(self, ttl: float) -> None:
        """Give the session, if it is stored, an idle timeout of its own, in seconds."""
        self.check_writable()
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
        if self._status is Status.ALIVE:
            call = self._engine.records.load(self._address.record)
            self._engine.wire.run(call)
            self._adopt(call.result, known=True)
        elif self._status is Status.UNREAD:
            self._load()

    def _load(self) -> None:
        if self._locks_requests():
            self._adopt(self._load_locked())
        else:
            call = self._engine.records.load(self._address.record)
            self._engine.wire.run(call)
            self._adopt(call.result)

    def _load_locked(self) -> Loaded:
        """A load under a lease. Where there is nothing, no lock is taken.

        A lock of the records' own Redis costs no round trip of its own.
        """
        load = self._engine.records.load(self._address.record)
        if self._engine.near_lock:
            self._take(load)
        else:
            self._engine.wire.run(load)
            if load.result.kind is Kind.ALIVE:
                self._take()
                load = self._engine.records.load(self._address.record)
                self._engine.wire.run(load)
        self._exclusive = self._lease is not None
        return load.result

    def _adopt(self, loaded: Loaded, known: bool = False) -> None:
        """Take what was loaded; known: it was alive before."""
        self.refreshed |= loaded.prolonged
        if known and loaded.incarnation != self._loaded.incarnation:
            self._become_gone()
        elif loaded.kind is Kind.ALIVE:
            self._loaded, self._status = loaded, Status.ALIVE
            self._fields.rebase(loaded.fields)
        elif loaded.kind is Kind.MOVED:
            self._become_gone()
        else:
            if loaded.kind is Kind.FOREIGN:
                _log.warning("no session of ours lies at the key of %s", self._handle)
            self._become_new()

    def _become_new(self) -> None:
        self._release()
        self._status, self._loaded = Status.NEW, Loaded(Kind.ABSENT)
        self._id, self._next_id, self.is_new = ids.new_id(), None, True

    def _become_gone(self) -> None:
        self._status, self._loaded = Status.GONE, Loaded(Kind.ABSENT)
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
        if self._forgotten or not self._is_due(changes):
            return
        if self._status is Status.GONE:
            self._drop_changes()
        elif self._status is Status.NEW:
            self._create(changes)
        elif self._lease or not self._locks_commits():
            self._update(changes, last)
        else:
            self._take()
            self._update(changes, last=True)

    def _is_due(self, changes: Changes) -> bool:
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
        outcome, version, detail = call.result
        if outcome is not Outcome.STORED:
            raise StoreUnavailable("something else lies at the key of a new session")
        self._loaded = Loaded(
            Kind.ALIVE, True, incarnation, version, int(detail[0]) / 1000
        )
        self._status, self.is_new = Status.ALIVE, True
        self._settle(changes, added)

    def _update(self, changes: Changes, last: bool) -> None:
        call = self._engine.records.update(
            self._address.record,
            changes,
            self._basis(),
            self._ttl,
            Address.of(self._next_id).record if self._next_id else None,
        )
        self._run(call, last)
        outcome, version, detail = call.result
        if outcome is Outcome.STORED:
            self._loaded = self._loaded._replace(version=version)
            self._id = self._next_id or self._id
            self._settle(changes, dict(zip(changes.additions, detail, strict=True)))
        elif outcome is Outcome.ABSENT and self._status is Status.UNREAD:
            self._become_new()
            self._create(changes)
        elif outcome in _GONE:
            self._become_gone()
            self._drop_changes()
        else:
            raise self._refusal(call.result)

    def _basis(self) -> Basis:
        """What the commit asks of the record: its incarnation, under a lease its version.

        And that nobody else holds the lock now, where the script can see it.
        """
        incarnation = self._loaded.incarnation
        if not self._lease:
            return Basis(incarnation)
        version = self._loaded.version if self._exclusive else None
        if isinstance(self._lease, SingleNodeLease) and self._engine.near_lock:
            return Basis(incarnation, version, self._lease.lock_key, self._lease.token)
        if self._lease.deadline < time.monotonic():
            raise LockLost("the lock expired before the commit; nothing was written")
        return Basis(incarnation, version)

    def _run(self, call: Call[Any], last: bool) -> None:
        """Run the call, and with the last one release the lease."""
        lease = self._lease
        if last and self._engine.near_lock and isinstance(lease, SingleNodeLease):
            self._let_go()
            lease.release(call)
        else:
            self._engine.wire.run(call)
            if last:
                self._release()

    def _settle(self, changes: Changes, sums: Mapping[str, bytes]) -> None:
        self._fields.committed(changes, sums)
        self._next_id, self._ttl, self._forced = None, None, False
        self.refreshed = True

    def _drop_changes(self) -> None:
        self.revert()
        if self._engine.config.on_gone == "raise":
            raise SessionGone(f"session {self._handle} is gone; nothing was written")
        _log.warning("session %s is gone; a late change of it is dropped", self._handle)

    def _refusal(self, committed: Committed) -> SmartRedisError:
        if committed.outcome is Outcome.LARGE:
            return self._too_large()
        if committed.outcome is Outcome.NUMBER:
            name = committed.detail[0].decode()
            return EncodeError(f"field {name!r} and what is added can't be counted")
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

    def destroy(self) -> None:
        """Put a tombstone at once. One round trip, and no lock is waited for.

        What follows happens to a new session. Nothing stored: no round trip.
        """
        self.check_writable()
        if self._status in (Status.UNREAD, Status.ALIVE):
            self._run(self._engine.records.destroy(self._address.record), last=True)
        self.destroyed = True
        self._fields, self._ttl, self._forced = Fields(self._engine.codec), None, False
        self._become_new()

    def end(self, keep: bool) -> None:
        """The request is over: commit, if it is to be kept, and release the lease.

        The session can be read from now on, and no more be written.

        Raises:
            What `commit` raises; the lease is released all the same.
        """
        try:
            if keep and self.touched and self._frozen and self.modified:
                raise SessionFrozen(self._frozen)
            if keep and self.touched:
                self.commit(last=True)
        finally:
            self._frozen = (
                self._frozen or "the response has begun; write before it does"
            )
            self._release()

    # -- leases ----------------------------------------------------------------------

    def enter_lock(self) -> bool:
        """Commit what is pending, take the lock and load afresh under it.

        Returns:
            Whether it is to be given back at the block's end: a lock that was held
            before, and one that the request takes at its first touch, is not.
        """
        self.check_writable()
        self.commit()
        if self._lease or self._status in (Status.NEW, Status.GONE):
            return False
        self._adopt(self._load_locked(), known=self._status is Status.ALIVE)
        return not self._locks_requests()

    def leave_lock(self, taken: bool, keep: bool) -> None:
        """Commit the block's changes or drop them, and give back what was taken."""
        try:
            if keep:
                self.commit(last=taken)
            else:
                self.revert()
        finally:
            if taken:
                self._release()

    def _locks_requests(self) -> bool:
        scope = self._engine.config.lock_scope
        return scope == "request" and not (self._frozen or self._engine.locks_nobody)

    def _locks_commits(self) -> bool:
        scope = self._engine.config.lock_scope
        return scope == "commit" and not self._engine.locks_nobody

    def _take(self, *riders: Call[Any]) -> None:
        """Take the lock; the riders go with one of the records' own Redis."""
        engine, name = self._engine, self._engine.lock_name(self._address)
        if engine.near_lock:
            record = engine.records.key(self._address.record)
            self._lease = engine.near_lock.acquire_with(name, *riders, record=record)
        else:
            self._lease = engine.lock.acquire(name)
        if self._lease and engine.config.lock_renew:
            self._renewal = Renewal(self._lease, engine.config.lock_expiry / 3)

    def _release(self) -> None:
        """Release the lease, if one is held; one that can't be, expires."""
        lease = self._lease
        self._let_go()
        if lease:
            try:
                lease.release()
            except StoreUnavailable:
                _log.warning("the lock of session %s is left to expire", self._handle)

    def _let_go(self) -> None:
        if self._renewal:
            self._renewal.stop()
        self._lease, self._renewal, self._exclusive = None, None, False

    @property
    def _address(self) -> Address:
        return Address.of(self._id)

    @property
    def _handle(self) -> str:
        return self._address.handle
