"""The life of one session during one request, from the first touch to the last commit.

::

                           (untouched)
    a client with an id    /         \\    a client without
                          |           |
       UNREAD --load: nothing there, tombstone--> NEW --commit--> ALIVE
          | \\                                      ^
          |  load: a hash                          | destroy (from any state)
          |    \\                                   |
          |     ALIVE --commit: no more there--> GONE: later changes go nowhere
          |
          commit without a load stays UNREAD; onto nothing or a tombstone it makes a
          NEW one, but none beside a session that was rotated: that one is GONE

    FOUND, in another library's record, becomes ALIVE by the commit: see moving.arrival

A commit whose answer did not come is kept, and sent again as it was, before anything
else happens in Redis.

A record that was loaded and then rotated by another request is followed to its new key.

Changes are proposals until a commit. With a lock, `lock_scope` says when it is taken;
the commit after a load under the lock asks for the version that was loaded: whoever
lost the lock in between gets `LockLost`.
"""

import contextlib
import logging
import random
import time
from typing import Any, NamedTuple

from . import ids
from .belonging import Belonging, Doomed, stay
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
from .fields import NO_CHANGES, Changes, Fields
from .ids import Address
from .moving.arrival import Arrival
from .owners import wish
from .reading import Status
from .store import Committed, Destroyed, Kind, Loaded, Outcome, Tie, size_of
from .wire import Call

_log = logging.getLogger("smartredis_wsgi")
_MOST_CONFLICTS = 128  # each is another's success
_KNOWN_SECONDS = 45.0  # less than the minute for which a record knows its commits
_TOO_LATE = "the response has begun; write before that"
_NOWHERE = (Outcome.ABSENT, Outcome.DESTROYED)
_GONE = (*_NOWHERE, Outcome.MOVED, Outcome.GONE)


class _Sent(NamedTuple):
    """A commit on its way, with what it is to settle once it is answered."""

    call: Call[Committed]
    changes: Changes
    next_id: str | None
    ttl: float | None
    begun: float  # on time.monotonic's clock
    tie: Tie | None
    creates: bool = False
    exclusive: bool = False


class Life(Arrival):
    """One session, once: what it reads, and what it changes."""

    _sent: _Sent | None = None  # a commit whose answer did not come
    _next_id: str | None = None  # a rotation is asked for
    _ttl: float | None = None  # a ttl of its own is asked for
    _bond: Belonging | None = None  # once it has to do with an owner
    _forced = _forgotten = False
    _conflicts = 0
    _proposed: Changes | None = None  # what a commit was to write before any conflict
    destroyed = over = False

    # -- changes ---------------------------------------------------------------------

    def fields_to_write(self) -> Fields:
        """The fields; not loaded for a write unless it is the request that locks.

        Raises:
            SessionFrozen: Nothing may be written any more.
        """
        self.check_writable()
        if self._status is Status.UNREAD and self._locks_requests:
            self._load(locked=True)
        return self._fields

    def check_writable(self) -> None:
        if not self.touched:
            self._touch()
        if self._frozen:
            raise SessionFrozen(self._frozen)

    @property
    def id(self) -> str:
        """The id that the session has, or will have after the commit.

        Where another request's rotation has moved it, still the one that is no more.
        """
        self.fields_to_read()
        if self._old is not None:
            return self._next_id or self._fresh_id
        return self._next_id or self._own_id()

    @property
    def modified(self) -> bool:
        """Whether there is something that a commit would write."""
        return self.touched and self._due() is not None

    def rotate(self) -> None:
        self.fields_to_write()
        self._resend()
        if self._status is Status.NEW:
            self._rename("")
        elif not self._moved or self._has_fresh_id:
            self._next_id = ids.new_id(like=self._id)

    def force(self) -> None:
        """Commit even if no field changed."""
        self.fields_to_write()
        self._forced = True

    def limit(self, ttl: float) -> None:
        """Give the session, if it is stored, an idle timeout of its own, in seconds."""
        self.fields_to_write()
        self._ttl = ttl

    def bind(self, owner: str, note: str | None) -> None:
        """Have it belong to an owner, if it is stored; to the same one: only a note.

        One round trip if it was not read yet.
        """
        self.fields_to_write()
        asked = wish(owner, note)
        self.fields_to_read()
        if note is not None or asked.owner != self._loaded.owner:
            self._belonging.wish = asked

    def revert(self) -> None:
        """Drop all changes since the last commit."""
        if self.touched:
            self._fields.revert()
        if self._bond:
            self._bond.wish = None
        self._sent, self._next_id, self._ttl, self._forced = None, None, None, False

    def forget(self) -> None:
        """Keep nothing of this request, neither what was changed nor what will be."""
        self._forgotten = True
        self._resend_if_possible()
        self.revert()

    def reload(self) -> None:
        """Drop the changes and load again. One round trip."""
        if not self.touched:
            self._touch()
        self._resend_if_possible()
        self.revert()
        self._moves = 0
        if self._status in (Status.UNREAD, Status.ALIVE):
            self._load(locked=self._locks_requests and not self._hold.lease)

    def _follow(self, name: str) -> None:
        super()._follow(name)
        if self._old is None:
            self._next_id = None

    def _become_new(self) -> None:
        self._sent = self._next_id = None
        super()._become_new()

    def _become_gone(self, moved_to: str = "") -> None:
        super()._become_gone(moved_to)
        self._sent = None

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
        if self._sent:
            self._resend()
        self._proposed, self._conflicts, self._moves = None, 0, 0
        try:
            if self._bond:
                self._confirm()
            while (changes := self._due()) is not None and self._write(changes, last):
                pass
        except Doomed:
            if self._perish():
                self._drop_changes()
            else:
                self.commit(last)  # as the session of its owner now
        finally:
            if self._bond and not self._sent:
                self._bond.withdraw()

    def _write(self, changes: Changes, last: bool) -> bool:
        """Try to; whether it is to be tried again, on another basis."""
        if self._old is not None:
            self._arrive()
            if (again := self._due()) is None:
                return False
            changes = again
        if self._status is Status.GONE:
            self._drop_changes()
            return False
        if self._status is Status.NEW:
            return self._create(changes)
        if self._hold.lease or self._engine.lock_scope != "commit":
            return self._update(changes, last)
        self._hold.take(self._address, self._is_known)
        return self._update(changes, last=True)

    def _arrive(self) -> None:
        """Take over what is another library's; an id that was asked for is its id.

        Also where another request has given it the fresh one; but not where that one's
        application has asked for one.
        """
        fresh = self._settle_in()
        if fresh is not None:
            self._next_id = self._next_id or fresh
        elif not self._has_fresh_id:
            self._next_id = None

    def _due(self) -> Changes | None:
        """What a commit has to write; None if nothing is due."""
        is_arriving = self._old is not None and self._is_arriving
        if self._forgotten:
            return NO_CHANGES if is_arriving else None
        changes = self._fields.changes()
        if changes is not NO_CHANGES and changes:
            return changes
        is_renewed = (self._ttl or self._next_id) and self._status is not Status.NEW
        is_bound = self._bond is not None and self._bond.wish is not None
        is_due = is_arriving or self._forced or is_renewed or is_bound
        return changes if is_due else None

    def _create(self, changes: Changes) -> bool:
        codec, limit = self._engine.codec, self._engine.config.max_size
        added = {name: codec.encode(by) for name, by in changes.additions.items()}
        fields = {**changes.sets, **added}
        if size_of(fields) > limit:
            raise self._too_large()
        tie = self._tie()
        call = self._engine.records.create(
            self._address.record, ids.new_incarnation(), fields, self._ttl, tie
        )
        begun = time.monotonic()
        sent = _Sent(call, changes, None, self._ttl, begun, tie, creates=True)
        return self._send(sent, last=False)

    def _update(self, changes: Changes, last: bool) -> bool:
        try:
            basis = self._hold.basis(self._loaded)
        except LockLost:
            self._tell("lock_lost")
            raise
        name, ttl = self._address.record, self._ttl
        new_name = Address.of(self._next_id).record if self._next_id else None
        grace, trace = None, 0.0
        if self._old is not None:
            grace, trace = self._traces_for(self._next_id)
        tie = self._tie(new_name, is_shared=bool(grace))
        call = self._engine.records.update(
            name, changes, basis, ttl, new_name, grace, trace, tie
        )
        begun, exclusive = time.monotonic(), basis.version is not None
        sent = _Sent(call, changes, self._next_id, ttl, begun, tie, exclusive=exclusive)
        return self._send(sent, last)

    # -- the owner -------------------------------------------------------------------

    @property
    def _belonging(self) -> Belonging:
        if self._bond is None:
            self._bond = Belonging(self._engine, self._hold)
        return self._bond

    def _tie(self, new_name: str | None = None, is_shared: bool = False) -> Tie | None:
        """What the owner's index knows by now of what the commit is to store."""
        if self._bond or (new_name and self._loaded.owner):
            name, loaded, ttl = self._address.record, self._loaded, self._ttl
            return self._belonging.enter(name, loaded, ttl, new_name, is_shared)
        return None

    def _confirm(self) -> None:
        """See that a commit that bound or renamed may stay; else end the session."""
        try:
            self._belonging.confirm()
        except Doomed:
            if self._perish():
                self._drop_changes()

    def _stay(self, owner: str, due: float) -> None:
        """Prolong it in its owner's index, too; or let the next request do it."""
        with contextlib.suppress(StoreUnavailable):
            if not stay(self._engine, self._hold, self._address.record, owner, due):
                self._perish()

    def _perish(self) -> bool:
        """Its owner is logged out everywhere: so is it, unless it is another's now."""
        found = self._destroy_it(self._loaded.owner)
        if found.kind is Kind.ALIVE:
            self._loaded = self._loaded._replace(owner=found.owner)
            return False
        self._become_gone()
        return True

    # -- the answer ------------------------------------------------------------------

    def _resend(self) -> None:
        """Have the answer to a commit that got none: the script runs it only once.

        One that comes to anything but STORED has written nothing, and is forgotten.

        Raises:
            StoreUnavailable: It got none again, or it is too late to ask.
        """
        if not self._sent:
            return
        sent = self._sent
        if time.monotonic() - sent.begun > _KNOWN_SECONDS:
            raise StoreUnavailable("what became of an earlier commit is not known")
        self._hold.run(sent.call)
        self._sent = None
        outcome = sent.call.result.outcome
        if outcome is Outcome.STORED:
            self._settle(sent)
        elif outcome is Outcome.DESTROYED:  # it may have been stored before that
            self._become_gone()

    def _resend_if_possible(self) -> None:
        """Before changes are dropped: lest the client misses the id of a rotation."""
        with contextlib.suppress(StoreUnavailable, SessionGone):
            self._resend()

    def _send(self, sent: _Sent, last: bool) -> bool:
        self._sent = sent
        self._hold.run(sent.call, last)
        self._sent = None
        if sent.call.result.outcome is not Outcome.STORED:
            return self._refused(sent)
        self._settle(sent)
        return False

    def _refused(self, sent: _Sent) -> bool:
        """Nothing was written; whether to try again, as the outcome has it."""
        outcome, version, _, detail, owner, _ = sent.call.result
        in_grace = bool(version)
        if sent.creates and not sent.tie:
            raise StoreUnavailable("something else lies at the key of a new session")
        if outcome in _NOWHERE and not self._is_known:
            self._become_new()
        elif outcome is Outcome.MOVED and (self._is_known or in_grace):
            if sent.exclusive:  # moved by one who did not ask for the lock
                raise self._refusal(outcome)
            self._follow(detail[0])
        elif outcome is Outcome.CONFLICT:
            self._reconcile(dict(zip(detail[::2], detail[1::2], strict=True)))
        elif outcome is Outcome.NUMBER:
            self._explain(detail[0])
        elif outcome is Outcome.OWNED:  # it was bound since it was read, if it was
            own_ttl, created = int(detail[0]) / 1000 or None, int(detail[1]) / 1000
            known = self._loaded._replace(owner=owner, own_ttl=own_ttl, created=created)
            self._loaded = known
        elif outcome in _GONE:
            self._become_gone()
            self._drop_changes()
            return False
        else:
            raise self._refusal(outcome)
        return True

    def _reconcile(self, theirs: dict[str, bytes | None]) -> None:
        """Merge what others stored since it was read; pause, lest they do so again.

        Raises:
            SessionConflict: It is not to be merged, or too many came in between.
        """
        self._conflicts += 1
        may_merge = self._engine.config.conflict == "merge"
        is_lost = not may_merge or self._conflicts > _MOST_CONFLICTS
        self._tell("conflict" if is_lost else "merged", fields=len(theirs))
        if is_lost:
            names = ", ".join(sorted(repr(name) for name in theirs))
            raise SessionConflict(
                f"session {self._handle}: another request changed {names} since it was "
                f"read; nothing was written"
            )
        self._proposed = self._proposed or self._fields.changes()
        self._fields.merge(self._proposed, theirs)
        # Shorter each time: whoever pauses for longer than newcomers is always late.
        time.sleep(random.uniform(0, 0.001) / self._conflicts)

    def _explain(self, name: str) -> None:
        """Raise what is wrong with a field that can't be counted.

        Unless its bytes were corrupt: then the session is a new one now.
        """
        with contextlib.suppress(KeyError):
            self.value_of(name)
        if self._status is Status.ALIVE:
            raise EncodeError(f"field {name!r} and what is added can't be counted")

    def _settle(self, sent: _Sent) -> None:
        """What was sent is stored; what was asked for since is still to do."""
        _, version, incarnation, detail, owner, due = sent.call.result
        created = int(detail[0]) / 1000 if sent.creates else self._loaded.created
        own_ttl = sent.ttl or self._loaded.own_ttl
        owner = sent.tie.owner if sent.tie else owner
        is_alive = Kind.ALIVE, False, incarnation, version, created
        self._loaded = Loaded(*is_alive, own_ttl=own_ttl, owner=owner)
        self._fields.committed(sent.changes, self._sums(sent, detail))
        if sent.creates:
            self._status, self.is_new = Status.ALIVE, True
        if self._engine.events:
            name = "created" if sent.creates else "committed"
            self._tell(name, sent.begun, sent.changes.count)
        if sent.next_id:
            self._tell("rotated")
            self._rename(sent.next_id)
        self._next_id = None if self._next_id == sent.next_id else self._next_id
        self._ttl = None if self._ttl == sent.ttl else self._ttl
        self._forced, self.refreshed = False, True
        if sent.tie:
            self._belonging.stored()
            self._confirm()
        elif due:
            self._stay(owner, due)

    def _sums(self, sent: _Sent, detail: list[Any]) -> dict[str, bytes | None]:
        """What the fields that were added to hold now, where the others are known."""
        added = sent.changes.additions
        if not added:
            return {}
        if sent.creates:
            return {name: self._engine.codec.encode(by) for name, by in added.items()}
        if self._status is not Status.ALIVE:
            return {}
        return dict(zip(added, detail, strict=True))

    def _drop_changes(self) -> None:
        self._tell("dropped")
        self.revert()
        if self._engine.config.on_gone == "raise":
            raise SessionGone(f"session {self._handle} is gone; nothing was written")
        _log.warning("session %s is gone; a late change of it is dropped", self._handle)

    def _refusal(self, outcome: Outcome) -> SmartRedisError:
        if outcome is Outcome.LARGE:
            return self._too_large()
        self._tell("lock_lost")
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

        One more, where another request has moved the record, one more for an owner's,
        and two or three beside another library's cookie. What follows happens to a new
        session. Nothing stored: no round trip.

        Returns:
            Whether there is a tombstone now.
        """
        self.check_writable()
        found, begun = Destroyed(Kind.ABSENT, ""), time.monotonic()
        is_old = self._old is not None and self._end_old(is_logout=True)
        if self._loaded.moved_to:
            self._follow(self._loaded.moved_to)
            found = self._destroy_it()
        elif is_old or self._status in (Status.UNREAD, Status.ALIVE):
            found = self._destroy_it()
        if is_old and found.kind is Kind.ABSENT:
            found = Destroyed(Kind.DESTROYED, "")
        if found.kind is Kind.DESTROYED:
            self._tell("destroyed", begun)
            owner = found.owner or self._loaded.owner
            if owner:
                self._belonging.leave(owner, self._address.record)
        self._end_other()
        self.destroyed = self._is_sought = True
        self._fields = Fields(self._engine.codec)
        self.revert()
        self._become_new()
        return found.kind is Kind.DESTROYED

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
        frozen, self._frozen = self._frozen, self._frozen or _TOO_LATE
        self._locks_requests = False
        if not self.touched:
            return
        try:
            if not keep:
                self._resend_if_possible()
                self.revert()
            elif frozen and self.modified:
                raise SessionFrozen(frozen)
            else:
                self.commit(last=True)
                if self._loaded.prolonged:
                    self._recheck()
        finally:
            if self._hold.lease:
                self._hold.release()

    def _recheck(self) -> None:
        """See whether a session that was only read has moved meanwhile.

        Where a rolling cookie is due it would replace the new one. One round trip, at
        most every `touch_every`.
        """
        is_rolling = self._engine.config.cookie_max_age is not None
        if is_rolling and self._status is Status.ALIVE:
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
        if self._hold.lease or self._status in (Status.NEW, Status.GONE):
            return False
        self._load(locked=True)
        return not self._locks_requests

    def leave_lock(self, taken: bool, keep: bool) -> None:
        """Commit the block's changes or drop them, and give back what was taken."""
        try:
            if keep:
                self.commit(last=taken)
            else:
                self.revert()
        except BaseException:
            self.revert()  # what could not be committed is not tried once more
            raise
        finally:
            if taken:
                self._hold.release()
