"""All sessions of an owner: look at them, or log out everywhere."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from .engine import Engine
from .owners import Entry, OwnedSession
from .store import Kind

Run = Callable[..., None]  # calls, in one round trip

T = TypeVar("T")
HANDLE_SIZE = 12  # of 64: eight, as in logs, are not enough for a million
_PAGE = 100  # sessions in one round trip


def sessions_of(engine: Engine, owner: str) -> list[OwnedSession]:
    """Those that live, the one used last first. Two round trips; more for many.

    Those that live no more are taken out of the index: then it is one more.
    """
    call = engine.owners.tell(owner)
    engine.wire.run(call)
    living = living_of(engine, owner, call.result)
    told = [
        OwnedSession(handle_of(name), entry.created, entry.used, entry.note)
        for entry, name in living
    ]
    return sorted(told, key=lambda session: session.last_used, reverse=True)


def handle_of(name: str) -> str:
    """What a session is called, to whoever may destroy it."""
    return name[-64:][:HANDLE_SIZE]


def destroy_owner(engine: Engine, owner: str, spared: str = "") -> int:
    """Destroy all sessions that are the owner's now. Three round trips; more for many.

    Where it fails it can be asked again: who was doomed is found again.

    Args:
        spared: The slot of a session that stays.

    Returns:
        How many were destroyed.
    """
    call = engine.owners.tell(owner, dooms=True, spared=spared)
    engine.wire.run(call)
    return destroy_doomed(engine, owner, call.result)


def destroy_doomed(
    engine: Engine, owner: str, entries: Sequence[Entry], run: Run | None = None
) -> int:
    """Destroy the sessions of doomed entries, wherever they have moved; forget them."""
    run = run or engine.wire.run
    destroyed: set[str] = set()
    for page in _pages(entries):
        names = {name: entry.slot for entry in page for name in entry.names}
        while names:
            calls = {n: engine.records.destroy(n, owner) for n in names}
            run(*calls.values())
            ended = {n for n, c in calls.items() if c.result.kind is Kind.DESTROYED}
            _tell_of(engine, ended)
            destroyed |= {names[name] for name in ended}
            moves = {c.result.moved_to: names[n] for n, c in calls.items()}
            names = {name: slot for name, slot in moves.items() if name}
        slots = [entry.slot for entry in page]
        run(engine.owners.forget(owner, slots))
    return len(destroyed)


def living_of(
    engine: Engine, owner: str, entries: Sequence[Entry], run: Run | None = None
) -> list[tuple[Entry, str]]:
    """The entries whose sessions live, with their names; the others are forgotten."""
    run = run or engine.wire.run
    living: list[tuple[Entry, str]] = []
    for page in _pages(entries):
        calls = [(e, n, engine.records.owner_of(n)) for e in page for n in e.names]
        if calls:
            run(*(call for _, _, call in calls))
        found = {e.slot: (e, n) for e, n, c in calls if c.result == (Kind.ALIVE, owner)}
        moving = {e.slot for e, _, c in calls if c.result[0] is Kind.MOVED}
        dead = [e.slot for e in page if e.slot not in found.keys() | moving]
        if dead:
            run(engine.owners.prune(owner, dead))
        living += found.values()
    return living


def _tell_of(engine: Engine, names: set[str]) -> None:
    if engine.events:
        for name in names:
            engine.events.tell("destroyed", name[-64:][:8])


def _pages(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while page := list(islice(rest, _PAGE)):
        yield page
