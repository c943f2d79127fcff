"""What one request knows of its session's record: where it lies, and what it holds.

A record that another request has rotated is followed to its new key, if it was known
before. One that is not there is NEW, with another id; one that was, and is no more, is
GONE.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, TypeVar

from . import ids
from .belonging import stay
from .engine import Engine
from .errors import StoreUnavailable
from .fields import Fields
from .hold import Hold
from .ids import Address
from .store import Destroyed, Kind, Loaded

T = TypeVar("T")
_log = logging.getLogger("smartredis_wsgi")
_MOST_MOVES = 16  # records are not moved in circles, but strings can be planted
NOTHING = Loaded(Kind.ABSENT)


class Status(Enum):
    """What is known of the record, once the session was touched."""

    UNREAD = auto()
    FOUND = auto()  # in another library's record, see moving.arrival
    NEW = auto()
    ALIVE = auto()
    GONE = auto()


# Looked up often: an attribute of an Enum's class takes longer.
_UNREAD, _ALIVE = Status.UNREAD, Status.ALIVE


class Reading:
    """One session in one request, as far as it reads. Not for several threads.

    Args:
        find: Finds the id in what the client sent, if it is well-formed and verified.
        frozen: Why nothing may be written; empty if it may.
        cookies: Its Cookie header; another library's id may be in it, too.
    """

    touched = False
    _status = _UNREAD
    _sent: object = None  # a commit whose answer did not come, see life
    _id = ""  # of a new session: made on first need
    _place: Address | None = None
    _moved = False  # by another: it has an id that only that one knows
    _moves = 0
    _loaded = NOTHING
    _locks_requests = False  # the first touch takes the lock
    _old: str | None = None  # its other library's id, as long as it has none of ours
    _is_sought = False  # it was looked for that
    is_new = refreshed = False
    client_id: str | None = None
    """What the client sent, if that is an id."""

    def __init__(
        self,
        engine: Engine,
        find: Callable[[str], str | None],
        frozen: str = "",
        cookies: str = "",
    ) -> None:
        self._engine = engine
        self._find = find
        self._frozen = frozen
        self._cookies = cookies

    def _touch(self) -> None:
        self.client_id = client_id = self._find(self._cookies)
        if client_id:
            self._id = client_id
        else:
            self._status, self.is_new = Status.NEW, True
        engine = self._engine
        self._locks_requests = engine.lock_scope == "request" and not self._frozen
        self._fields = Fields(engine.codec)
        self._hold = Hold(engine)
        self.touched = True
        if client_id is None and engine.old:
            self._look_back()

    def _look_back(self) -> None:
        """Where nothing of ours is found, there may be a session of another library."""

    def fields_to_read(self) -> Fields:
        """The fields, loaded at the first time: one round trip."""
        if not self.touched:
            self._touch()
        if self._status is _UNREAD:
            self._load(self._locks_requests)
        return self._fields

    def value_of(self, name: str) -> Any:
        """A field's value; a large one is fetched now: one round trip.

        Raises:
            KeyError: There is no such field.
        """
        fields = self._fields if self._status is _ALIVE else self.fields_to_read()
        if fields.left and fields.lacks(name):
            self._fetch([name])
        try:
            return self._fields[name]
        except ValueError:
            self._lose()
            return self._fields[name]

    def names(self) -> list[str]:
        """The names of all fields, whose values are here and can be decoded.

        Large ones are fetched now: one round trip for all.
        """
        fields = self.fields_to_read()
        lacking = list(filter(fields.lacks, fields.left))
        if lacking:
            self._fetch(lacking)
        for name in list(self._fields):
            with contextlib.suppress(KeyError):
                self.value_of(name)
        return list(self._fields)

    def decoding(self, act: Callable[[Fields], T]) -> T:
        """Do something that decodes a field; one that can't be: see `_lose`."""
        try:
            return act(self._fields)
        except ValueError:
            self._lose()
            return act(self._fields)

    def _lose(self) -> None:
        """A field can't be decoded: the whole session counts as empty.

        The record is left as it is, and what was written so far goes to a new one.
        """
        _log.warning("session %s can't be decoded; it counts as empty", self._handle)
        self._fields.lose()
        self._become_new()

    @property
    def created(self) -> float:
        self.fields_to_read()
        return self._loaded.created or time.time()

    @property
    def stored_id(self) -> str | None:
        """The id that the client should have; None if nothing is stored."""
        if self._old is not None:
            return self._stored_fresh_id
        is_stored = self._status is _ALIVE or self._status is _UNREAD
        return self._id or None if is_stored and not self._moved else None

    @property
    def _stored_fresh_id(self) -> str | None:
        """The same as long as it has another library's."""
        raise NotImplementedError

    @property
    def slot(self) -> str:
        """What all its names begin with. It is read first: an id can be forged."""
        self.fields_to_read()
        return self._address.lock

    @property
    def description(self) -> str:
        """What it may be called in a log: no id, no value."""
        if not self.touched:
            return "untouched"
        return f"{self._handle} {self._status.name.lower()}"

    def _resend(self) -> None:
        """Have the answer to what was sent, before anything else."""

    def _load(self, locked: bool) -> None:
        """Load the record; under the lock, if it is to be taken."""
        if self._sent:
            self._resend()
        if self._status is Status.GONE:
            return
        begun = time.monotonic()
        try:
            loaded = self._load_once(locked)
            if loaded.due:
                loaded = self._prolonged(loaded)
        except BaseException:
            if locked:  # a lock without its load would pass for a fresh one
                self._hold.release()
            raise
        if self._is_there(loaded):
            self._loaded, self._status = loaded, _ALIVE
            if self._engine.events:
                self._tell("loaded", begun, len(loaded.fields) + len(loaded.left))
            self._fields.rebase(loaded.fields, loaded.left)
        elif self._status in (_UNREAD, _ALIVE):
            self._load(locked and not self._hold.lease)

    def _load_once(self, locked: bool) -> Loaded:
        records, name = self._engine.records, self._address.record
        look, asked = None, self._fields.asked
        if self._engine.near_lock or not locked:
            look = records.look(name, asked)
        call = look or records.load(name, asked)
        if locked:
            self._hold.take(self._address, self._is_known, call)
        else:
            self._hold.run(call)
        if call.result:
            return call.result
        load = records.load(name, asked)
        self._hold.run(load)
        return load.result

    def _prolonged(self, loaded: Loaded) -> Loaded:
        """What was loaded is prolonged in its owner's index first: two round trips.

        Where that knows it no more, it is destroyed; or loaded again, if it has become
        another owner's meanwhile.
        """
        name = self._address.record
        if stay(self._engine, self._hold, name, loaded.owner, loaded.due):
            return loaded._replace(prolonged=True)
        if self._destroy_it(loaded.owner).kind is not Kind.ALIVE:
            return Loaded(Kind.DESTROYED)
        again = self._load_once(locked=False)
        return self._prolonged(again) if again.due else again

    def _destroy_it(self, owner: str = "") -> Destroyed:
        """Put a tombstone, wherever the record has moved. One round trip each time.

        Args:
            owner: It has to be this one's; else it stays, and so does its lock.
        """
        found = self._destroy(owner)
        while found.moved_to:
            self._follow(found.moved_to)
            found = self._destroy(owner)
        return found

    def _destroy(self, owner: str) -> Destroyed:
        call = self._engine.records.destroy(self._address.record, owner)
        self._hold.run(call, last=not owner)
        return call.result

    def _fetch(self, names: list[str]) -> None:
        call = self._engine.records.fetch(self._address.record, names)
        self._hold.run(call)
        if self._is_there(call.result):
            self._fields.fill({name: call.result.fields.get(name) for name in names})
        elif self._status is _ALIVE:
            self._fetch(names)

    def _is_there(self, loaded: Loaded) -> bool:
        """Whether it was loaded. If not, it is GONE or NEW now, or to be loaded again.

        The last where it has been moved to another key, which is its address now.
        """
        known = self._loaded.incarnation
        if loaded.prolonged:
            self.refreshed = True
        if loaded.kind is Kind.ALIVE and (not known or known == loaded.incarnation):
            return True
        if loaded.moved_to and (known or loaded.in_grace):
            self._follow(loaded.moved_to)
        elif known or loaded.kind is Kind.MOVED:
            self._become_gone(loaded.moved_to)
        else:
            if loaded.kind is Kind.FOREIGN:
                _log.warning("no session of ours lies at the key of %s", self._handle)
            if self._old is None:
                self._tell("missing")
            self._become_new()
        return False

    def _follow(self, name: str) -> None:
        """Go on with the record where another request's rotation has moved it.

        That one's response has the id: this one's says nothing of it.
        """
        self._moves += 1
        if self._moves > _MOST_MOVES:
            raise StoreUnavailable(f"session {self._handle} was moved too often")
        self._place = self._address._replace(record=name)
        self._moved = True

    def _become_new(self) -> None:
        self._hold.release()
        self._status, self._loaded = Status.NEW, NOTHING
        self._rename("")
        self.is_new = True
        if self._engine.old:
            self._look_back()

    def _become_gone(self, moved_to: str = "") -> None:
        self._tell("gone")
        self._status = Status.GONE
        self._loaded = Loaded(Kind.ABSENT, moved_to=moved_to)
        self._fields.lose()

    def _tell(
        self, name: str, since: float | None = None, fields: int | None = None
    ) -> None:
        if self._engine.events:
            self._engine.events.tell(name, self._handle, since, fields)

    def _rename(self, session_id: str) -> None:
        self._id, self._place, self._old, self._moved = session_id, None, None, False

    def _own_id(self) -> str:
        self._id = self._id or ids.new_id()
        return self._id

    @property
    def _address(self) -> Address:
        if self._place is None:
            self._place = Address.of(self._id or self._own_id())
        return self._place

    @property
    def _is_known(self) -> bool:
        """Whether there was such a record, as far as this request has seen."""
        return bool(self._loaded.incarnation)

    @property
    def _handle(self) -> str:
        return self._address.handle
