"""All sessions of an owner: look at them, or log out everywhere."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from .events import Events
from .owners import Entry, OwnedSession, Owners
from .store import Kind, Records
from .wire import Wire

Run = Callable[..., None]  # of calls, in one round trip

T = TypeVar("T")
HANDLE_SIZE = 12  # of 64: eight, as in logs, are not enough for a million
_PAGE = 100  # sessions in one round trip


class Place(Protocol):
    """Where sessions and indexes lie: an engine, say."""

    @property
    def wire(self) -> Wire: ...
    @property
    def records(self) -> Records: ...
    @property
    def owners(self) -> Owners: ...
    @property
    def events(self) -> Events | None: ...


def sessions_of(place: Place, owner: str) -> list[OwnedSession]:
    """Those that live, the one used last first. Two round trips; more for many.

    Those that live no more are taken out of the index: then it is one more.
    """
    call = place.owners.tell(owner)
    place.wire.run(call)
    told = [
        OwnedSession(handle_of(name), entry.created, entry.used, entry.note)
        for entry, name in living_of(place, {owner: call.result})[owner]
    ]
    return sorted(told, key=lambda session: session.last_used, reverse=True)


def handle_of(name: str) -> str:
    """What a session is called, to whoever may destroy it."""
    return name[-64:][:HANDLE_SIZE]


def destroy_owner(place: Place, owner: str, spared: str = "") -> int:
    """Destroy all sessions that are the owner's now. Three round trips; more for many.

    Where it fails it can be asked again: who was doomed is found again.

    Args:
        spared: The slot of a session that stays.

    Returns:
        How many were destroyed.
    """
    call = place.owners.tell(owner, dooms=True, spared=spared)
    place.wire.run(call)
    return destroy_doomed(place, owner, call.result)


def destroy_doomed(
    place: Place, owner: str, entries: Sequence[Entry], run: Run | None = None
) -> int:
    """Destroy the sessions of doomed entries, and forget them.

    A session that is being rotated has two names here, the old one first: it is met
    under one of them, or is destroyed by who rotates it.
    """
    run = run or place.wire.run
    destroyed: set[str] = set()
    for page in _pages(entries):
        names = [(entry.slot, name) for entry in page for name in entry.names]
        calls = [place.records.destroy(name, owner) for _, name in names]
        if calls:
            run(*calls)
        for (slot, name), call in zip(names, calls, strict=True):
            if call.result.kind is Kind.DESTROYED:
                destroyed.add(slot)
                if place.events:
                    place.events.tell("destroyed", name[-64:][:8])
        run(place.owners.forget(owner, [entry.slot for entry in page]))
    return len(destroyed)


def living_of(
    place: Place, told: Mapping[str, Sequence[Entry]], run: Run | None = None
) -> dict[str, list[tuple[Entry, str]]]:
    """Of each owner's entries those whose sessions live, with their names.

    The others are taken out of the index. Two round trips, or one; more for hundreds.
    """
    run = run or place.wire.run
    living: dict[str, list[tuple[Entry, str]]] = {owner: [] for owner in told}
    every = [(owner, entry) for owner, entries in told.items() for entry in entries]
    for page in _pages(every):
        seen = _seen(place, page, run)
        dead: dict[str, list[str]] = defaultdict(list)
        for (owner, entry), (name, is_moving) in zip(page, seen, strict=True):
            if name:
                living[owner].append((entry, name))
            elif not is_moving:
                dead[owner].append(entry.slot)
        if dead:
            run(*(place.owners.prune(owner, slots) for owner, slots in dead.items()))
    return living


def ended_of(
    place: Place, owner: str, entries: Sequence[Entry], run: Run
) -> list[Entry]:
    """The entries whose sessions live no more. One round trip, more for many.

    They are taken out of the index, in one more, unless they may be yet to come.
    """
    ended = [
        entry
        for page in _pages([(owner, entry) for entry in entries])
        for (_, entry), (name, is_moving) in zip(
            page, _seen(place, page, run), strict=True
        )
        if not name and not is_moving
    ]
    if ended:
        run(place.owners.prune(owner, [entry.slot for entry in ended]))
    return ended


def _seen(
    place: Place, page: list[tuple[str, Entry]], run: Run
) -> Iterator[tuple[str, bool]]:
    """Of each entry the name under which its session lives, or whether it is moving."""
    calls = [
        [(name, place.records.owner_of(name)) for name in entry.names]
        for _, entry in page
    ]
    every = [call for of_one in calls for _, call in of_one]
    if every:
        run(*every)
    for (owner, _), of_one in zip(page, calls, strict=True):
        names = [name for name, c in of_one if c.result == (Kind.ALIVE, owner)]
        is_moving = any(call.result[0] is Kind.MOVED for _, call in of_one)
        yield names[0] if names else "", is_moving


def _pages(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while page := list(islice(rest, _PAGE)):
        yield page
