"""Whether a history is linearizable: as if each operation took effect at one moment.

That is, there is an order that begins as the model does, gives each operation the
result that it had, and keeps the order of any two of which one returned before the
other was invoked (Herlihy and Wing, "Linearizability: a correctness condition for
concurrent objects", 1990). By their theorem 1 a history is linearizable if, and only
if, what it holds of each object is. So one field at a time is exact, as long as each
operation is on one field.

The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993): any
operation that was invoked before the first return of those that are left may be the
next. It remembers where it was, as Lowe's does ("Testing for linearizability", 2017):
the set of operations that took effect and the state they made. Jepsen's Knossos and
porcupine do the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from .model import ILLEGAL, UNKNOWN, Model, Operation

MOST = 2_000_000


class Undecided(Exception):
    """The search is too long; the history is neither accepted nor refused."""


class Verdict(NamedTuple):
    """What is linearizable is not stuck.

    Otherwise: how many operations the longest attempt had put in order, the state that
    they made, and those of which none could be the next.
    """

    is_linearizable: bool
    placed: int = 0
    state: Hashable = None
    stuck: Sequence[Operation] = ()


def check(operations: Iterable[Operation], model: Model, most: int = MOST) -> Verdict:
    """Look for an order.

    Operations of unknown outcome need not be in it.

    Raises:
        Undecided: After so many places.
    """
    history = sorted(operations, key=lambda operation: operation.invoked)
    known = sum(1 << i for i, o in enumerate(history) if o.returned < UNKNOWN)
    start = (0, model.initial)
    seen, stack, furthest = {start}, [start], start
    while stack:
        placed, state = place = stack.pop()
        if placed & known == known:
            return Verdict(True)
        furthest = max(furthest, place, key=lambda p: (p[0] & known).bit_count())
        if len(seen) > most:
            raise Undecided(f"{len(history)} operations, {most} places")
        new = [p for p in _next_places(history, model, placed, state) if p not in seen]
        seen.update(new)
        stack += new
    placed, state = furthest
    stuck = [history[i] for i in _candidates(history, placed)]
    return Verdict(False, placed.bit_count(), state, stuck)


def _next_places(
    history: Sequence[Operation], model: Model, placed: int, state: Hashable
) -> Iterator[tuple[int, Hashable]]:
    """Where one operation more may lead, the likeliest last.

    A read that may be the next is it: it takes nothing from those that follow.
    """
    after = [(i, model.step(state, history[i])) for i in _candidates(history, placed)]
    legal = [(i, made) for i, made in after if made is not ILLEGAL]
    reads = [(i, made) for i, made in legal if history[i].verb == "read"]
    for i, made in reads[:1] or sorted(legal, key=lambda p: -history[p[0]].returned):
        yield placed | 1 << i, made


def _candidates(history: Sequence[Operation], placed: int) -> Iterator[int]:
    """Those left that were invoked before any of those left had returned."""
    first_return = UNKNOWN
    for i, operation in enumerate(history):
        if placed >> i & 1:
            continue
        if operation.invoked > first_return:
            return
        first_return = min(first_return, operation.returned)
        yield i
