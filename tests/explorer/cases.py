"""Which requests are let loose on each other, under which lock, with which event."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations_with_replacement as combinations
from itertools import product

from .catalogue import BODIES
from .model import Case

LOCKS = "none", "single", "redlock"
EVENTS = "expire", "replace", "forget", "unlock", "flush", "lost reply"

# fmt: off
# Those whose triples are walked: one of each kind.
TRIPLED = (
    "read", "set_own", "look_set_own", "nest", "append", "incr", "add_one",
    "delete_nest", "destroy_write", "look_destroy", "login", "regenerate", "create",
)
# Those whose pairs make the fast slice.
FAST = (
    "read", "set_own", "look_set_own", "nest", "append", "incr", "add_one",
    "look_destroy", "destroy_write", "login",
)
# Those that a whole-blob store gets wrong.
BLOB = "look_set_own", "nest", "append", "add_one", "look_destroy", "login"
# Redlock's steps are so many that events come to few pairs, and thirds to few.
REDLOCKED = "set_own", "nest", "add_one", "look_destroy", "login"
THIRDS = "destroy", "create"
# One client's requests, and what another one does meanwhile.
CHAINS = (
    "login > read", "login > add_one", "login > nest", "regenerate > add_one",
    "regenerate > look_set_own", "regenerate > look_destroy", "regenerate > login",
    "destroy > set_own", "destroy_write > read", "set_own > look_set_own",
)
MEANWHILE = (
    "read", "set_own", "look_set_own", "nest", "add_one", "incr", "look_destroy",
    "regenerate", "login",
)
# fmt: on


def is_sensible(case: Case) -> bool:
    """Whether the event can make a difference there."""
    bodies = [BODIES[name] for chain in case.requests for name in chain.values()]
    if case.event == "forget":
        return any(body.destroys or body.rotates for body in bodies)
    if case.event == "replace":
        return any(body.looks for body in bodies)
    if case.event == "unlock":
        return case.lock != "none"
    return True


def sensible(
    groups: Iterable[tuple[str, ...]], locks: Iterable[str], events: Iterable[str]
) -> list[Case]:
    locks, events = list(locks), list(events)
    made = [Case(group, lock, e) for group in groups for lock in locks for e in events]
    return [case for case in made if is_sensible(case)]


def fast() -> list[Case]:
    """Pairs of those that differ; of events and chains, a few."""
    few = [("nest", "nest"), ("login", "look_set_own"), ("destroy_write", "set_own")]
    chains = [("login > add_one", "add_one"), ("regenerate > add_one", "add_one")]
    return [
        *sensible(combinations(FAST, 2), ["none", "single"], [""]),
        *sensible(combinations(REDLOCKED, 2), ["redlock"], [""]),
        *sensible(few, ["none", "single"], EVENTS),
        *sensible(chains, LOCKS, [""]),
    ]


def full() -> list[Case]:
    """Every pair, also with each event; triples and chains of those that differ."""
    near = "none", "single"
    chains = list(product(CHAINS, MEANWHILE))
    few = [(*pair, third) for pair in combinations(REDLOCKED, 2) for third in THIRDS]
    return [
        *sensible(combinations(BODIES, 2), LOCKS, [""]),
        *sensible(combinations(BODIES, 2), near, EVENTS),
        *sensible(combinations(REDLOCKED, 2), ["redlock"], EVENTS),
        *sensible(combinations(TRIPLED, 3), near, [""]),
        *sensible(few, ["redlock"], [""]),
        *sensible(chains, LOCKS, [""]),
    ]


def control() -> list[Case]:
    """What a whole-blob store gets wrong."""
    return [Case(pair, "blob") for pair in combinations(BLOB, 2)]


SLICES = {"fast": fast, "full": full, "control": control}
