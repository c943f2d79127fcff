"""What many do to one session at once is exact: nothing is counted twice or lost.

Twenty threads of one process, and five threads in each of four processes, make five
hundred changes to one session. A control without a lock shows that they do collide.
So does one that keeps a session as one blob, beside crowds that begin together.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from explorer.blob import BlobSessions
from histories import crowd
from servers import Cluster, Server

from smartredis_wsgi import LockLost, Session, SessionMiddleware, SessionStore

TOTAL, THREADS, PROCESSES = 500, 20, 4
SECONDS = 120.0
Options = dict[str, Any]
Act = Callable[[Session], None]


def add_one(session: Session) -> None:
    session["n"] = session["n"] + 1


def add_one_in_a_block(session: Session) -> None:
    with session.lock():
        session["n"] = session["n"] + 1


def incr(session: Session) -> None:
    session.incr("n")


def incr_a_tenth(session: Session) -> None:
    session.incr("n", 0.1)


def insist(session: Session) -> None:
    """Adds one, again and again until nobody came in between."""
    while True:
        try:
            add_one_in_a_block(session)
        except LockLost:
            session.reload()
        else:
            return


def in_threads(
    options: Options, session_id: str, act: Act, total: int, threads: int
) -> None:
    """Does it so often, each time in a request of its own."""
    store = SessionStore.from_config(options)

    def visit(_: int) -> None:
        with store.open(session_id) as session:
            act(session)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(visit, range(total)))


def _in_a_process(begin: Barrier, *work: Any) -> None:
    begin.wait(SECONDS)
    in_threads(*work)


def in_processes(
    options: Options, session_id: str, act: Act, total: int, threads: int
) -> None:
    """As `in_threads`, divided among processes that begin together."""
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(PROCESSES)
    share = (options, session_id, act, total // PROCESSES, threads // PROCESSES)
    crowd = [
        spawn.Process(target=_in_a_process, args=(begin, *share), daemon=True)
        for _ in range(PROCESSES)
    ]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(SECONDS)
    assert [process.exitcode for process in crowd] == [0] * PROCESSES


CROWDS = pytest.mark.parametrize("crowd", [in_threads, in_processes])


@pytest.fixture
def none(server: Server) -> Options:
    return {"url": server.url}


@pytest.fixture
def single(server: Server) -> Options:
    return {"url": server.url, "lock": "single", "lock_wait": 60, "lock_expiry": 30}


@pytest.fixture
def redlock(server: Server, masters: list[Server]) -> Options:
    return {
        "url": server.url,
        "lock": "redlock",
        "lock_nodes": [master.url for master in masters[:3]],
        "lock_wait": 60,
        "lock_expiry": 30,
        "retry_time": 0.05,
    }


@pytest.fixture(params=["none", "single", "redlock"])
def options(request: pytest.FixtureRequest) -> Iterator[Options]:
    """Each strategy in turn."""
    return request.getfixturevalue(request.param)


def _create(options: Options, **fields: Any) -> str:
    with SessionStore.from_config(options).open() as session:
        session.update(fields)
        return session.id


def _read(options: Options, session_id: str) -> dict[str, Any]:
    with SessionStore.from_config(options).open(session_id) as session:
        return dict(session)


OTHERS = {"name": "Ada", "cart": [{"sku": 1}, {"sku": 2}], "nested": {"a": {"b": 1}}}


@CROWDS
def test_read_modify_write_is_exact_under_single(
    single: Options, crowd: Callable[..., None]
) -> None:
    session_id = _create(single, n=0, **OTHERS)
    crowd(single, session_id, add_one, TOTAL, THREADS)
    assert _read(single, session_id) == {"n": TOTAL, **OTHERS}


@CROWDS
def test_read_modify_write_is_exact_under_redlock(
    redlock: Options, crowd: Callable[..., None]
) -> None:
    session_id = _create(redlock, n=0, **OTHERS)
    crowd(redlock, session_id, add_one, TOTAL, THREADS)
    assert _read(redlock, session_id) == {"n": TOTAL, **OTHERS}


def test_read_modify_write_in_a_lock_block_is_exact(single: Options) -> None:
    session_id = _create(single, n=0)
    options = {**single, "lock_scope": "manual"}
    in_threads(options, session_id, add_one_in_a_block, TOTAL, THREADS)
    assert _read(single, session_id) == {"n": TOTAL}


def test_read_modify_write_is_exact_on_a_cluster(cluster: Cluster) -> None:
    options = {"url": cluster.url, "lock": "single", "lock_wait": 60}
    session_id = _create(options, n=0)
    in_threads(options, session_id, add_one, 100, 10)
    assert _read(options, session_id) == {"n": 100}


def test_read_modify_write_without_a_lock_is_exact_for_who_insists(
    none: Options,
) -> None:
    session_id = _create(none, n=0)
    in_threads(none, session_id, insist, 60, 6)
    assert _read(none, session_id) == {"n": 60}


@CROWDS
def test_without_a_lock_the_last_writer_of_a_field_wins_and_the_rest_is_intact(
    none: Options, crowd: Callable[..., None]
) -> None:
    session_id = _create(none, n=0, **OTHERS)
    crowd(none, session_id, add_one, TOTAL, THREADS)
    stored = _read(none, session_id)
    n = stored.pop("n")
    assert type(n) is int
    assert 1 <= n <= TOTAL
    assert stored == OTHERS
    with SessionStore.from_config(none).open(session_id) as session:
        session["n"] = 0  # the record can still be written to
    assert _read(none, session_id) == {"n": 0, **OTHERS}


def test_without_a_lock_one_of_two_that_read_the_same_is_lost(none: Options) -> None:
    """The control: what the locks prevent does happen without them."""
    session_id = _create(none, n=0)
    store = SessionStore.from_config(none)
    with store.open(session_id) as first:
        add_one(first)
        with store.open(session_id) as second:
            add_one(second)
    assert _read(none, session_id) == {"n": 1}


@CROWDS
def test_incr_is_exact_without_a_lock(
    none: Options, crowd: Callable[..., None]
) -> None:
    session_id = _create(none, **OTHERS)
    crowd(none, session_id, incr, TOTAL, THREADS)
    assert _read(none, session_id) == {"n": TOTAL, **OTHERS}


def test_incr_is_exact_for_floats(none: Options) -> None:
    session_id = _create(none, n=0)
    in_threads(none, session_id, incr_a_tenth, TOTAL, THREADS)
    one_after_the_other = 0.0
    for tenth in repeat(0.1, TOTAL):
        one_after_the_other += tenth
    stored = _read(none, session_id)
    assert stored == {"n": one_after_the_other}
    assert math.isclose(stored["n"], TOTAL / 10)


def test_incr_is_exact_beside_a_session_that_is_read_and_changed(
    none: Options,
) -> None:
    session_id = _create(none, n=0, seen=None)

    def look_and_count(session: Session) -> None:
        session["seen"] = session["n"]
        session.incr("n", 3)
        session.incr("n", -2)

    in_threads(none, session_id, look_and_count, 200, THREADS)
    assert _read(none, session_id)["n"] == 200


def test_incr_is_exact_under_every_strategy(options: Options) -> None:
    session_id = _create(options, n=0)
    in_threads(options, session_id, incr, 60, 6)
    assert _read(options, session_id) == {"n": 60}


def test_writers_of_different_fields_all_win(options: Options) -> None:
    session_id = _create(options, **OTHERS)
    store = SessionStore.from_config(options)

    def write(number: int) -> None:
        for turn in range(5):
            with store.open(session_id) as session:
                assert session.get(f"field {number}", -1) == turn - 1
                session[f"field {number}"] = turn

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    expected = {f"field {number}": 4 for number in range(8)}
    assert _read(options, session_id) == {**expected, **OTHERS}


@pytest.mark.parametrize("scope", ["commit", "manual"])
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_writers_of_different_fields_both_win_however_they_interleave(
    options: Options, scope: str, first_to_end: int
) -> None:
    session_id = _create(options, x=0, y=0, z=0)
    store = SessionStore.from_config({**options, "lock_scope": scope})
    visits = [ExitStack(), ExitStack()]
    sessions = [visit.enter_context(store.open(session_id)) for visit in visits]
    for session, name in zip(sessions, "xy", strict=True):
        assert dict(session) == {"x": 0, "y": 0, "z": 0}
        session[name] = 1
    visits[first_to_end].close()
    visits[1 - first_to_end].close()
    assert _read(options, session_id) == {"x": 1, "y": 1, "z": 0}


def test_one_deletes_a_field_while_another_writes_one(none: Options) -> None:
    session_id = _create(none, x=0, y=0)
    store = SessionStore.from_config(none)
    with store.open(session_id) as first:
        del first["x"]
        with store.open(session_id) as second:
            second["y"] = second["x"] + 1
    assert _read(none, session_id) == {"y": 1}


# -- twenty requests through the middleware, begun together --------------------------

KINDS = pytest.mark.parametrize("name", crowd.KINDS)


@KINDS
def test_twenty_at_once_lose_nothing_without_a_lock(none: Options, name: str) -> None:
    exact = crowd.play(crowd.KINDS[name], lambda app: SessionMiddleware(app, none), 20)
    assert list(exact) == [True] * 20


@KINDS
def test_twenty_at_once_do_lose_in_a_whole_blob(server: Server, name: str) -> None:
    with server.client() as client:
        kind = crowd.KINDS[name]
        exact = list(crowd.play(kind, lambda app: BlobSessions(app, client), 3))
    assert False in exact
