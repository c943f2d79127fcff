"""Whose a session is: for each owner an index of the sessions, beside their records.

Of an owner Redis has a digest only. In a Cluster the index lies in another slot than
the records, so no script sees both. What makes them agree all the same is an order::

    bind, rotation        enter -> commit -> confirm
    use that prolongs     enter -> prolong
    destroy_owner         doom all -> destroy their records -> forget them

The index always hears of it first: it knows each name before a record lies there, and
for at least as long. Whoever finds the entry of its session doomed, or gone, destroys
the session itself. So whoever dooms all entries has doomed all sessions: what was
stored before is found by its name, and what is stored later by who stores it.

An entry has the time at which the session ends at the latest; the index lives as long
as the last of its entries.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from .config import Config
from .wire import Call, Script, in_ms

_ENTER = Script.named("record", "owner", "owner_enter")
_CONFIRM = Script.named("record", "owner", "owner_confirm")
_TELL = Script.named("record", "owner", "owner_tell")
_FORGET = Script.named("record", "owner", "owner_forget")
_DIGEST_SIZE = 64  # of SHA-256 in hex: the end of a record's name, behind its slot
_LONGEST_NOTE = 200
_LATEST = 60.0  # seconds from an entry to its commit, at most


class OwnedSession(NamedTuple):
    """One of an owner's sessions. Times are epoch seconds on the server's clock."""

    handle: str
    """What the command line calls it, and logs by its first 8 characters."""
    created: float
    last_used: float
    """To the grain of `touch_every`, at which use prolongs."""
    note: str
    """What `bind` was given."""


class Entry(NamedTuple):
    """What an index says of one session: the names under which it may lie."""

    slot: str
    names: tuple[str, ...]
    created: float
    used: float
    note: str
    raw: bytes


class Wish(NamedTuple):
    """A session is to become an owner's."""

    owner: str
    note: str


class Entered(NamedTuple):
    """Until when the index knows the session; or why it does not."""

    word: str
    until_ms: int = 0


class Confirmed(NamedTuple):
    """Whether the session lives, and who has to go for it; or may, as it is crowded."""

    word: str
    entries: list[Entry]


def digest_of(owner: str) -> str:
    """What Redis has of an owner.

    Raises:
        ValueError: It is no text, or empty.
    """
    if not isinstance(owner, str) or not owner:
        raise ValueError("an owner is a text, such as a user's id, and not empty")
    return sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()


def wish(owner: str, note: str | None) -> Wish:
    """That a session be an owner's; of a note, the first 200 characters.

    Raises:
        ValueError: The owner is no text, or empty; the note is no text.
    """
    if not isinstance(note, str | None):
        raise ValueError("a note is a text, or None")
    return Wish(digest_of(owner), (note or "")[:_LONGEST_NOTE])


class Owners:
    """The indexes of one prefix. Owners are digests here."""

    def __init__(self, config: Config) -> None:
        self._prefix = config.prefix
        self._replicas = config.wait_replicas
        most, refuses = config.max_per_owner or 0, config.owner_overflow == "refuse"
        self._most_beside, self._most = (most, 0) if refuses else (0, most)

    def key(self, owner: str) -> str:
        return f"{self._prefix}owner:{owner}"

    def enter(
        self,
        owner: str,
        name: str,
        seconds: float,
        ends: float = 0.0,
        created: float | None = None,
        bound: Wish | None = None,
        joins: bool = False,
        ended: Iterable[Entry] = (),
    ) -> Call[Entered]:
        """Have the index know a session from now on, under one more name or for longer.

        Args:
            seconds: For how long, but not beyond its end, in epoch seconds, if any.
            bound: It need not be there yet; else it must.
            joins: It is not the owner's yet, so there has to be a place.
            ended: Of sessions that take none, unless they have been bound since.
        """
        arguments = (
            *_parts(name),
            in_ms(seconds),
            in_ms(ends),
            "1" if bound else "",
            "" if created is None else in_ms(created),
            bound.note.encode("utf-8", "replace") if bound else "",
            f"{self._most_beside}",
            "1" if joins else "",
            *(word for entry in ended for word in (entry.slot, entry.raw)),
        )

        def read(answer: list[Any]) -> Entered:
            word, *until_ms = answer
            return Entered(word.decode(), *map(int, until_ms))

        keys, replicas = [self.key(owner)], self._replicas
        return Call(_ENTER, keys, arguments, read, replicas=replicas)

    def stay(self, owner: str, slot: str, seconds: float) -> Call[Entered]:
        """Have the index know a session that it knows for so much longer."""
        return self.enter(owner, slot, seconds)

    def confirm(
        self,
        owner: str,
        name: str,
        dead_name: str,
        is_new: bool,
        ended: Iterable[Entry] | None = None,
    ) -> Call[Confirmed]:
        """See that a session that is stored by now may live.

        Args:
            dead_name: One that it has no more, or nothing.
            is_new: Too many sessions beside it may have to go.
            ended: Of those that are no more; None if nobody has looked.
        """
        slot, _ = _parts(name)
        arguments = (
            slot,
            dead_name[-_DIGEST_SIZE:],
            f"{self._most if is_new else 0}",
            "" if ended is None else "1",
            *(word for entry in ended or () for word in (entry.slot, entry.raw)),
        )

        def read(answer: list[Any]) -> Confirmed:
            return Confirmed(answer[0].decode(), entries_in(answer[1]))

        return Call(_CONFIRM, [self.key(owner)], arguments, read)

    def tell(
        self, owner: str, dooms: bool = False, spared: str = ""
    ) -> Call[list[Entry]]:
        """All entries; where it dooms, but the one of a slot that is spared."""
        arguments = "1" if dooms else "", spared
        replicas = self._replicas if dooms else 0
        keys = [self.key(owner)]
        return Call(_TELL, keys, arguments, _first_entries, replicas=replicas)

    def forget(self, owner: str, slots: Iterable[str], after: float = 0.0) -> Call[int]:
        """Take sessions out.

        Args:
            after: Not those that were used in the last so many seconds.
        """
        words = [word for slot in slots for word in (slot, "")]
        arguments = in_ms(after), *words
        return Call(_FORGET, [self.key(owner)], arguments, _first)

    def prune(self, owner: str, slots: Iterable[str]) -> Call[int]:
        """Take those out whose records are no more, unless they may be yet to come."""
        return self.forget(owner, slots, after=_LATEST)

    def withdraw(self, owner: str, name: str) -> Call[int]:
        """Take one name out, with its session where that has no other."""
        return Call(_FORGET, [self.key(owner)], ("0", *_parts(name)), _first)


def entries_in(flat: list[bytes]) -> list[Entry]:
    """What an index holds, field and value by turns; what is damaged is left out."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [entry for name, raw in pairs if (entry := _entry(name, raw))]


def _entry(name: bytes, raw: bytes) -> Entry | None:
    try:
        slot = name.decode()
        _, _, _, created, used, names, note = raw.decode().split(" ", 6)
        all_names = tuple(slot + digest for digest in names.split(",") if digest)
        moments = int(created) / 1000, int(used) / 1000
        return Entry(slot, all_names, *moments, note, raw)
    except ValueError:
        return None


def _first_entries(answer: list[Any]) -> list[Entry]:
    return entries_in(answer[0])


def _first(answer: list[Any]) -> int:
    return int(answer[0])


def _parts(name: str) -> tuple[str, str]:
    """A record's slot and digest; of a slot alone, no digest."""
    slot, brace, digest = name.partition("}")
    return slot + brace, digest
