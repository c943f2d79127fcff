"""The client's first request after the move: its session is found and taken over.

A client whose own id leads to nothing may have the other library's cookie. Then its
session lies at the stand-in (see `records`), if another request or the command line has
been there before; or else still in the other library's record, FOUND, which so far is
only read. The commit takes it over, also where the request has changed nothing, and
gives it a fresh id. An exception or a 5xx leaves it where it was.

The fresh id is made of the old one and the record's incarnation, which is in Redis
alone. So those of one page's requests that come later, for a minute, are told the same
id: it does not matter which response reaches the client. A new id that the application
asks for is not told to them.
"""

import logging

from .. import ids
from ..ids import Address
from ..reading import Reading, Status
from ..store import Kind, Loaded, Outcome
from .pickles import Unreadable
from .records import GRACE, Found, OldRecords

_log = logging.getLogger("smartredis_wsgi")


class Arrival(Reading):
    """What a session does as long as `_old` is set: it has no fresh id yet."""

    _found: Found | None = None
    _takes_over = False  # the request may write, so it will

    def _look_back(self) -> None:
        """Go on with the session of the client's old cookie, if there is one.

        Once in a request. No old cookie, or a forged one: no round trip. Otherwise two;
        one where it lies at the stand-in.
        """
        old = self._engine.old
        if old is None or self._is_sought:
            return
        self._is_sought = True
        its_id = old.cookie.find(self._cookies)
        if its_id is None:
            return
        self._takes_over = not self._frozen
        self._old = its_id
        self._id, self._place = ids.stand_in(its_id), None
        self._status, self.is_new = Status.UNREAD, False
        self._load(self._locks_requests)
        if self._status is Status.NEW:
            self._look_into(its_id)
        elif self._status is Status.GONE:
            self._old = None

    def _look_into(self, its_id: str) -> None:
        (found,) = self._old_records.look([its_id], self._hold.patience)
        if isinstance(found, Unreadable):
            handle = Address.of(ids.stand_in(its_id)).handle
            name = self._engine.config.import_from
            _log.warning("%s: session %s can't be taken over: %s", name, handle, found)
        if not isinstance(found, Found):
            return
        self._old, self._found = its_id, found
        self._id, self._place = ids.stand_in(its_id), None
        self._status, self.is_new = Status.FOUND, False
        self._fields.rebase(dict(found.fields))

    @property
    def _is_arriving(self) -> bool:
        """Whether a commit is due, as the session is to be taken over."""
        return self._takes_over and self._old is not None and not self._moved

    def _settle_in(self) -> str | None:
        """Have the record at its stand-in, and the old one ended.

        Returns:
            The fresh id that it is to get; None if another request gave it one.
        """
        if self._status is Status.FOUND:
            self._store_found()
        elif self._status is Status.ALIVE and not self._moved:
            self._end_old(is_logout=False)
        if self._status is Status.GONE:
            self._old = None
        if self._status is not Status.ALIVE or self._moved or self._old is None:
            return None
        return self._fresh_id

    def _store_found(self) -> None:
        assert self._found
        (made,) = self._old_records.settle([self._found], self._hold.patience)
        if made is None:
            self._become_gone()
        elif made.outcome is Outcome.STORED:
            created = int(made.detail[0]) / 1000
            self._loaded = Loaded(
                Kind.ALIVE, False, made.incarnation, made.version, created
            )
            self._status = Status.ALIVE
            self._tell("imported", fields=len(self._found.fields))
        else:
            self._join()

    def _join(self) -> None:
        """Go on with what a faster request has stored, wherever it lies by now."""
        call = self._engine.records.load(self._address.record)
        self._hold.run(call)
        if call.result.moved_to:
            self._follow(call.result.moved_to)
        self._status = Status.UNREAD
        self._load(locked=False)
        if self._status is Status.NEW:
            self._become_gone()

    def _end_old(self, is_logout: bool) -> bool:
        """End the old record, before what lies at the stand-in is destroyed or moved.

        Returns:
            Whether it was all that there was.
        """
        assert self._old
        self._old_records.end([self._old], self._hold.patience, is_logout)
        return self._status is Status.FOUND

    def _end_other(self) -> None:
        """End the session of an old cookie that lies beside our own, if there is one.

        Otherwise the client would be in that one next.
        """
        old = self._engine.old
        its_id = old.cookie.find(self._cookies) if old and not self._is_sought else None
        if its_id is not None:
            self._old_records.log_out(its_id, self._hold.patience)

    @property
    def _old_records(self) -> OldRecords:
        assert self._engine.old
        return self._engine.old.records

    def _traces_for(self, new_id: str | None) -> tuple[float, float]:
        """For how long the stand-in still leads to the session, and stays at least.

        Not for less than the mark: a slow request would take that for leave to store
        the session once more.
        """
        return (GRACE if new_id == self._fresh_id else 0.0), GRACE

    @property
    def _fresh_id(self) -> str:
        """The id that it is to get, or has got if no other was asked for."""
        assert self._old
        found = self._found.incarnation if self._found else b""
        return ids.id_after(self._old, self._loaded.incarnation or found)

    @property
    def _stored_fresh_id(self) -> str | None:
        return self._fresh_id if self._has_fresh_id else None

    @property
    def _has_fresh_id(self) -> bool:
        """Whether another request has given it that one, and no other one since."""
        if self._old is None or self._status is not Status.ALIVE:
            return False
        return Address.of(self._fresh_id).record == self._address.record
