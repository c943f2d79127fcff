"""Sessions without HTTP: for workers, tests and the command line."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from . import everywhere
from .config import Config
from .engine import Engine
from .ids import ID, Address
from .life import Life
from .owners import OwnedSession, digest_of
from .session import Session


class SessionStore:
    """The sessions of one configuration. Threads and forks may share it."""

    def __init__(self, config: Config) -> None:
        """No round trip, but that a Redlock asks its masters who they are."""
        self._engine = Engine.of(config)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | None = None, **options: Any
    ) -> "SessionStore":
        """The store that a middleware of the same options has.

        Raises:
            ConfigError: An unknown option, a wrong value or a contradiction.
        """
        return cls(Config.build(config, **options))

    @contextmanager
    def open(self, session_id: str | None = None) -> Iterator[Session]:
        """A session for the length of a block, committed at its end.

        An exception drops the changes. An id that is not known, or malformed, is not
        adopted: the session is empty then and gets a new id if it is written to.

        Args:
            session_id: As in `Session.id`; None makes a new session.
        """
        life = self._life_of(session_id)
        try:
            yield Session(life)
        except BaseException:
            life.end(keep=False)
            raise
        life.end(keep=True)

    def begin(
        self, find: Callable[[str], str | None], frozen: str = "", cookies: str = ""
    ) -> Life:
        """The life of a session; whoever calls this has to `end` it. No round trip.

        Args:
            find: Finds the id in the cookies, which are what a client sent.
            frozen: Why nothing may be written; empty if it may.
        """
        return Life(self._engine, find, frozen, cookies)

    def _life_of(self, session_id: str | None) -> Life:
        known = session_id if session_id and ID.fullmatch(session_id) else None
        return self.begin(lambda _: known)

    def destroy(self, session_id: str) -> bool:
        """Destroy a session at once. One round trip; none for a malformed id.

        Returns:
            Whether it is destroyed now; False where there was none.
        """
        return self._life_of(session_id).destroy()

    def sessions_of(self, owner: str) -> list[OwnedSession]:
        """The living sessions of an owner, the one used last first; handles, no ids.

        Two round trips, one more where sessions have ended, and more for hundreds.

        Args:
            owner: As in `Session.bind`.
        """
        return everywhere.sessions_of(self._engine, digest_of(owner))

    def destroy_owner(self, owner: str, keep: Session | None = None) -> int:
        """Log an owner out everywhere: no session that was bound before this survives.

        One whose bind is under way ends as well, or counts as bound after it. Three
        round trips, one more if `keep` was not read yet, more for hundreds of sessions.

        Args:
            keep: A session that stays, if it is one of them.

        Returns:
            How many were destroyed.

        Raises:
            StoreUnavailable: Some may live on, until use is to prolong them. Ask again:
                none is missed.
        """
        spared = keep._life.slot if keep is not None else ""
        return everywhere.destroy_owner(self._engine, digest_of(owner), spared)

    def lock_name(self, session_id: str) -> str:
        """What a `redis_lock.Lock` of a worker's own calls this session's lock."""
        return self._engine.lock_name(Address.of(session_id))
