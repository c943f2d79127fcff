"""A slice of the soak, its control, and whether the ledger can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from explorer.mutants import MUTANTS
from soak import run
from soak.chaos import OFTEN
from soak.ledger import Attempt, Ledger, Result, Tally, Visited, Wrong
from soak.worker import FAULTS

SIZE = run.Size()
SECONDS = {"server": 8.0, "cluster": 4.0}


@pytest.fixture(params=SECONDS)
def ground(request: pytest.FixtureRequest) -> Iterator[run.Ground]:
    with run.Ground(request.param) as ground:
        yield ground


# -- real processes ------------------------------------------------------------------


def test_nothing_acknowledged_is_lost_and_nothing_is_twice(ground: run.Ground) -> None:
    total = run.soak(ground, "ours", SECONDS[ground.kind], SIZE)
    assert not total.violations, total
    assert total.faults > total.requests / 10
    assert total.acked  # on a machine that is busy much is late, and so is unknown
    assert total.kinds.keys() <= {*FAULTS, *OFTEN}


def test_a_whole_blob_store_is_found_out() -> None:
    with run.Ground("server") as ground:
        total = run.soak(ground, "blob", 0.0, SIZE)
    assert total.violations


def test_a_mutant_that_repeats_commits_is_found_out() -> None:
    name = "a commit that is sent again is not recognised"
    assert run.MUTANT_SHOWS[name] == "twice"

    def is_found_out() -> bool:
        total = run.soak_mutant(name, 2.0, SIZE)
        return bool(total.twice or total.denied)

    assert any(is_found_out() for _ in range(6))


def test_what_must_be_zero_has_mutants_that_are_not() -> None:
    assert {mutant.name for mutant in MUTANTS} >= run.MUTANT_SHOWS.keys()
    assert {"lost", "twice", "back"} == {*run.MUTANT_SHOWS.values()}


def test_every_session_has_one_owner() -> None:
    names = dict.fromkeys(map(str, range(run.STORIES)), "")
    place = run.Place("ours", "none", "held", (1,))
    jobs = run.stints(place, names, SIZE, run.random.Random(0))
    assert sorted(name for job in jobs for name in job.owned) == sorted(names)


# -- the ledger ----------------------------------------------------------------------

OLD, NEW = "sid=old", "sid=new"
APPEND = Attempt("t", "append", "s", by=3)
BLIND = Attempt("b", "blind", "s", by=4)
ROTATE = Attempt("r", "rotate", "s", cookie=NEW)
DESTROY = Attempt("d", "destroy", "s")
CREATE = Attempt("c", "create", "created c", cookie=NEW)
Stored = Mapping[str, Mapping[str, Any]]


def record(*tokens: str, blind: Mapping[str, int] = {}, **more: Any) -> dict[str, Any]:
    """A session as it should be, of which some may be something else."""
    count = 3 * ("t" in tokens) + 4 * bool(blind)
    made = {"born": True, "log": list(tokens), "nest": {t: {} for t in tokens}}
    return {
        **made,
        "count": count,
        "bumps": 0,
        **{f"blind {name}": n for name, n in blind.items()},
        **more,
    }


def wrongs(stored: Stored, *told: Any) -> dict[str, int]:
    ledger = Ledger({"s": OLD})
    for event in told:
        ledger.tell(event)
    tally = ledger.judge(lambda cookie: stored.get(cookie, {}))
    return {name: n for name in run.WRONG if (n := getattr(tally, name))}


FINE: dict[str, tuple[Stored, list[Any]]] = {
    "nothing": ({OLD: record()}, []),
    "done": ({OLD: record("t")}, [APPEND, Result("t", True)]),
    "done blindly": (
        {OLD: record(blind={"b": 1})},
        [BLIND, Result("b", True)],
    ),
    "unknown and there": ({OLD: record("t")}, [APPEND]),
    "unknown and not there": ({OLD: record()}, [APPEND]),
    "dropped": ({OLD: record()}, [APPEND, Result("t", False)]),
    "destroyed": ({}, [APPEND, Result("t", True), DESTROY, Result("d", True)]),
    "perhaps destroyed, and dead": ({}, [APPEND, Result("t", True), DESTROY]),
    "perhaps destroyed, and alive": ({OLD: record()}, [DESTROY]),
    "rotated": ({NEW: record("r")}, [ROTATE, Result("r", True)]),
    "perhaps rotated": ({NEW: record("r")}, [ROTATE]),
    "perhaps not": ({OLD: record()}, [ROTATE]),
    "created": ({OLD: record(), NEW: record("c")}, [CREATE, Result("c", True, NEW)]),
    "perhaps created": ({OLD: record()}, [CREATE]),
    "in a session of its own": (
        {NEW: record("t")},
        [DESTROY, Result("d", True), APPEND, Result("t", True, NEW)],
    ),
}

BAD: dict[str, tuple[dict[str, int], Stored, list[Any]]] = {
    "lost": ({"lost": 1}, {OLD: record()}, [APPEND, Result("t", True)]),
    "the session, too": ({"lost": 1}, {}, [APPEND, Result("t", True)]),
    "twice": (
        {"twice": 1},
        {OLD: record("t", "t")},
        [APPEND, Result("t", True)],
    ),
    "unknown and twice": ({"twice": 1}, {OLD: record("t", "t")}, [APPEND]),
    "counted twice": (
        {"twice": 1},
        {OLD: record(blind={"b": 2})},
        [BLIND, Result("b", True)],
    ),
    "dropped and there": (
        {"denied": 1},
        {OLD: record("t")},
        [APPEND, Result("t", False)],
    ),
    "back after its end": (
        {"back": 1},
        {OLD: record()},
        [DESTROY, Result("d", True)],
    ),
    "back under a new id": (
        {"back": 1},
        {NEW: record("r")},
        [ROTATE, Result("r", True), DESTROY, Result("d", True)],
    ),
    "under two ids": ({"back": 1}, {OLD: record(), NEW: record("r")}, [ROTATE]),
    "back under the old id": (
        {"back": 1, "lost": 1},
        {OLD: record()},
        [ROTATE, Result("r", True)],
    ),
    "a creation lost": (
        {"lost": 1},
        {OLD: record()},
        [CREATE, Result("c", True, NEW)],
    ),
    "its count is not there": (
        {"torn": 1},
        {OLD: record("t", count=0)},
        [APPEND, Result("t", True)],
    ),
    "its key is not there": (
        {"torn": 1},
        {OLD: record("t", nest={})},
        [APPEND, Result("t", True)],
    ),
    "only its key is there": (
        {"torn": 1},
        {OLD: record(nest={"t": {}})},
        [APPEND],
    ),
    "seen by a process": ({"stale": 1}, {OLD: record()}, [Wrong("stale")]),
}


@pytest.mark.parametrize("name", FINE)
def test_what_may_be_is_not_held_against_it(name: str) -> None:
    stored, told = FINE[name]
    assert wrongs(stored, *told) == {}


@pytest.mark.parametrize("name", BAD)
def test_what_must_not_be_is_counted(name: str) -> None:
    expected, stored, told = BAD[name]
    assert wrongs(stored, *told) == expected
    assert Tally(**expected).violations == sum(expected.values())


def test_requests_and_their_faults_are_counted() -> None:
    ledger = Ledger({"s": OLD})
    ledger.tell(Visited("200 OK", ("reply lost", "reply lost")))
    ledger.tell(Visited("503 Service Unavailable"))
    total = Tally()
    for _ in range(2):
        total.add(ledger.tally)
    assert (total.rounds, total.requests, total.faults) == (2, 4, 4)
    assert total.kinds == {"reply lost": 4}
