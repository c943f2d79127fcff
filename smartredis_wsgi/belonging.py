"""What one session's commits do in its owner's index: see owners.py for the order."""

import contextlib
import logging
from collections.abc import Iterator
from typing import NamedTuple

from .engine import Engine
from .errors import StoreUnavailable, TooManySessions
from .everywhere import destroy_doomed, ended_of
from .hold import Hold
from .owners import Entered, Entry, Wish
from .store import Loaded, Tie

_log = logging.getLogger("smartredis_wsgi")


class Doomed(Exception):
    """The owner is logged out everywhere: the session has to be destroyed."""


class _Place(NamedTuple):
    """Where in an index a session stands, or is to stand."""

    tie: Tie
    name: str
    old_name: str  # that it has no more, once the commit is stored
    old_owner: str
    is_new: bool  # a name that nothing else has


def stay(engine: Engine, hold: Hold, name: str, owner: str, seconds: float) -> bool:
    """Prolong a session that has an owner: the entry, then the record.

    Two round trips. A server that takes no writes prolongs nothing.

    Returns:
        Whether it may live on.
    """
    call = engine.owners.stay(owner, _slot_of(name), seconds)
    hold.ask(call)
    if call.result.word == "entered":
        hold.ask(engine.records.prolong(name, owner, call.result.until_ms))
    return call.result.word != "gone"


def _slot_of(name: str) -> str:
    return name.partition("}")[0] + "}"


class Belonging:
    """One session and its owner, during one request."""

    wish: Wish | None = None
    _entered: _Place | None = None  # before a commit whose outcome is not known
    _unsure: _Place | None = None  # stored, and not yet confirmed

    def __init__(self, engine: Engine, hold: Hold) -> None:
        self._engine = engine
        self._hold = hold

    def enter(
        self,
        name: str,
        loaded: Loaded,
        ttl: float | None,
        new_name: str | None,
        is_shared: bool,
    ) -> Tie | None:
        """Have the index know what a commit is about to store. One round trip.

        None where the commit neither binds nor renames.

        Args:
            ttl: The session's own, that is asked for.
            is_shared: Another request may give it the same new name.

        Raises:
            Doomed: The index does not have the session, or not for long.
            TooManySessions: There is no place beside the others.
        """
        owner = self.wish.owner if self.wish else loaded.owner if new_name else ""
        before = self._entered
        if before and (before.tie.owner, before.name) == (owner, new_name or name):
            return before.tie
        self.withdraw()
        if not owner:
            return None
        entered = self._enter(owner, new_name or name, loaded, ttl)
        tie = Tie(owner, entered.until_ms, binds=self.wish is not None)
        old_name = name if new_name else ""
        is_new = not is_shared if new_name else not loaded.incarnation
        self._entered = _Place(tie, new_name or name, old_name, loaded.owner, is_new)
        return tie

    def _enter(
        self, owner: str, name: str, loaded: Loaded, ttl: float | None
    ) -> Entered:
        config = self._engine.config
        seconds, most = ttl or loaded.own_ttl or config.ttl, config.max_lifetime
        ends = loaded.created + most if most and loaded.created else 0.0
        if most and not ends:
            seconds = min(seconds, most)
        created, joins = loaded.created or None, loaded.owner != owner
        ended: list[Entry] = []
        for is_last in (False, True):
            call = self._engine.owners.enter(
                owner, name, seconds, ends, created, self.wish, joins, ended
            )
            self._hold.ask(call)
            if call.result.word == "entered":
                return call.result
            if call.result.word == "gone":
                raise Doomed
            if not is_last:  # some of the others may be no more
                told = self._engine.owners.tell(owner)
                self._hold.ask(told)
                ended = ended_of(self._engine, owner, told.result, self._hold.ask)
        raise TooManySessions(
            f"the owner has {config.max_per_owner} sessions already; nothing was "
            f"written; max_per_owner"
        )

    def stored(self) -> None:
        """What was entered is stored; it is to be confirmed."""
        self._unsure, self._entered = self._entered, None
        if self._unsure and self._unsure.tie.binds:
            self.wish = None

    def confirm(self) -> None:
        """See that what is stored may live. One round trip; none if nothing is unsure.

        More where the session may have to take another one's place, or had another
        owner.

        Raises:
            Doomed: It may not.
        """
        place = self._unsure
        if place is None:
            return
        owner, binds = place.tie.owner, place.tie.binds
        confirm, ask = self._engine.owners.confirm, self._hold.ask
        call = confirm(owner, place.name, place.old_name, binds)
        ask(call)
        if call.result.word == "crowded":
            ended = ended_of(self._engine, owner, call.result.entries, ask)
            call = confirm(owner, place.name, place.old_name, binds, ended)
            ask(call)
        self._unsure = None
        if call.result.word == "gone":
            raise Doomed
        with self._at_leisure("the oldest sessions of an owner"):
            if call.result.entries:
                destroy_doomed(self._engine, owner, call.result.entries, ask)
        if place.old_owner not in ("", owner):
            self._leave_old(place.old_owner, place.name)

    def leave(self, owner: str, name: str) -> None:
        """The session, which was that owner's, is no more. One round trip."""
        with self._at_leisure("an entry of a session that is no more"):
            self._hold.ask(self._engine.owners.forget(owner, [_slot_of(name)]))

    def _leave_old(self, owner: str, name: str) -> None:
        """It has another owner now; unless another request has just given it back."""
        with self._at_leisure("an entry of a session that is another owner's"):
            self._hold.ask(self._engine.owners.prune(owner, [_slot_of(name)]))

    def withdraw(self) -> None:
        """What was entered is not stored; a name that others may have stays.

        That takes no place from now on, unless the session is the owner's.
        """
        place, self._entered = self._entered, None
        if place is None:
            return
        owners, owner = self._engine.owners, place.tie.owner
        with self._at_leisure("an entry of a session that was not stored"):
            if place.is_new:
                self._hold.ask(owners.withdraw(owner, place.name))
            elif place.old_owner != owner:
                self._hold.ask(owners.confirm(owner, place.name, "", is_new=False))

    @contextlib.contextmanager
    def _at_leisure(self, what: str) -> Iterator[None]:
        """What can be left undone: it ends by itself."""
        try:
            yield
        except StoreUnavailable as error:
            _log.warning("%s could not be taken out: %s", what, error)
