"""Each illness of Redis, at each kind of request, by each kind of client."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import pytest
from conftest import Backend
from doubles import FlakyProxy
from illness.cells import (
    ACTS,
    CLIENTS,
    HASTY,
    PATIENT,
    REPEATING,
    STUBBORN,
    Cell,
    Haste,
    Seen,
    Strike,
    site_by,
    site_in,
    site_of,
)
from illness.states import (
    ACCIDENTS,
    HANGING,
    NOT_REPEATED,
    SECONDS,
    STATES,
    all_paused,
    reloading,
    slow_to_load,
    some_ill,
    without_a_slot,
)
from illness.table import DOCUMENT, MASTERS_HEAD, allows, promises
from illness.waits import ALONE, measure
from redis import Redis, RedisCluster
from servers import HOST, Cluster, Server, assert_sessions_expire, wait_until

from smartredis_wsgi import SessionMiddleware

PROMISES = promises(DOCUMENT.read_text("utf-8"))
OF_MASTERS = promises(DOCUMENT.read_text("utf-8"), MASTERS_HEAD)
LOCKING = [name for name, act in ACTS.items() if act.lock == "single"]
MASTERS = {
    f"{count} {state}": (n, state)
    for n, count in enumerate(("one", "two"), 1)
    for state in ("down", "paused", "black hole")
}


class Ward:
    """A cell for each kind of request and of client."""

    def __init__(
        self,
        make_site: Callable[[str, str], SessionMiddleware],
        names: Iterable[str] = ACTS,
        kinds: Sequence[str] = CLIENTS,
    ) -> None:
        self.cells: dict[tuple[str, str], Cell] = {}
        for name, kind in itertools.product(names, kinds):
            self.cells[name, kind] = Cell(name, make_site(kind, ACTS[name].lock))
            self.cells[name, kind].prepare()

    def fall_ill_together(self, illness: AbstractContextManager[object]) -> list[str]:
        """The answers, where the illness strikes all requests at once."""
        struck = threading.Event()

        def await_it() -> None:
            assert struck.wait(SECONDS)

        with ThreadPoolExecutor(len(self.cells)) as pool:
            answers = self._begin(pool, [await_it] * len(self.cells))
            with illness:
                struck.set()
                return [answer.result(3 * SECONDS) for answer in answers]

    def fall_ill_alone(self, strikes: Sequence[Strike]) -> list[str]:
        """The answers, where each request has an accident of its own."""
        with ThreadPoolExecutor(len(self.cells)) as pool:
            answers = self._begin(pool, strikes)
            return [answer.result(3 * SECONDS) for answer in answers]

    def wait_for_what_was_given_up(self) -> None:
        """Until no client is at work on what was told to have failed."""
        for place, cell in self.cells.items():
            wait_until(cell.is_quiet, 3 * SECONDS, f"{place} is quiet")

    def _begin(
        self, pool: ThreadPoolExecutor, strikes: Sequence[Strike]
    ) -> list[Future[str]]:
        """The requests; one after the other they come to where they are struck.

        So what each does before takes no time that matters.
        """
        arrived, answers = threading.Semaphore(0), []
        for cell, strike in zip(self.cells.values(), strikes, strict=True):

            def struck(strike: Strike = strike) -> None:
                arrived.release()
                strike()

            answers.append(pool.submit(cell.run, struck))
            assert arrived.acquire(timeout=SECONDS)
        return answers


@pytest.fixture
def proxies() -> Iterator[list[FlakyProxy]]:
    """Those that a test opens: one for each cell, in the cells' order."""
    opened: list[FlakyProxy] = []
    yield opened
    for proxy in opened:
        proxy.close()


def ward_by(
    server: Server, proxies: list[FlakyProxy], haste_of: Callable[[str], Haste]
) -> Ward:
    """A ward whose clients go by a proxy each; how long each kind may wait."""

    def make_site(kind: str, lock: str) -> SessionMiddleware:
        proxies.append(FlakyProxy(server))
        return site_of(kind, proxies[-1], lock, haste_of(kind))

    return Ward(make_site)


def discharge(
    ward: Ward,
    answers: Sequence[str],
    admin: Redis | RedisCluster,
    masters: Sequence[Redis] = (),
) -> dict[str, Seen]:
    """What is seen of each cell; each application ran once, and serves again."""
    seen = {}
    for (place, cell), answer in zip(ward.cells.items(), answers, strict=True):
        assert cell.runs == 1, f"{place}: the application ran {cell.runs} times"
        seen[", ".join(place)] = cell.look(answer, admin, masters)
    for place, cell in ward.cells.items():
        wait_until(cell.serves, SECONDS, f"{place} recovers")
    return seen


def broken(
    row: str,
    seen: dict[str, Seen],
    kinds: Sequence[str] = CLIENTS,
    table: Mapping[str, Mapping[str, str]] = PROMISES,
) -> list[str]:
    """Where the row of the table is not what was seen."""
    told = []
    for place, what in seen.items():
        request, _, kind = place.partition(", ")
        if kind in kinds and not allows(table[row][request], what):
            told.append(f"{place}: {what}, not {table[row][request]}")
    return told


@pytest.mark.parametrize("state", STATES)
def test_what_a_state_does_is_what_the_table_says(
    real: Backend, proxies: list[FlakyProxy], state: str
) -> None:
    assert real.server
    haste = HASTY if state in HANGING else PATIENT
    sick = ward_by(real.server, proxies, lambda _: haste)
    answers = sick.fall_ill_together(STATES[state](real.server, proxies))
    assert not broken(state, discharge(sick, answers, real.client))


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_what_an_accident_does_is_what_the_table_says(
    real: Backend, proxies: list[FlakyProxy], accident: str
) -> None:
    assert real.server
    alone = NOT_REPEATED.get(accident, ())

    def haste_of(kind: str) -> Haste:
        if accident not in HANGING:
            return PATIENT
        return HASTY if kind in alone else REPEATING

    sick = ward_by(real.server, proxies, haste_of)
    strikes = [partial(ACCIDENTS[accident], proxy, real.client) for proxy in proxies]
    seen = discharge(sick, sick.fall_ill_alone(strikes), real.client)
    assert not broken(accident, seen, [kind for kind in CLIENTS if kind not in alone])
    assert not broken(f"{accident}, not repeated", seen, alone)
    assert not any(proxy.disarm() for proxy in proxies)


def test_a_server_that_reads_its_dump_is_what_the_table_says(
    proxies: list[FlakyProxy],
) -> None:
    with slow_to_load() as server, server.client() as admin:
        sick = ward_by(server, proxies, lambda _: PATIENT)
        answers = sick.fall_ill_together(reloading(server, proxies))
        assert not broken("`LOADING`", discharge(sick, answers, admin))
        assert_sessions_expire(admin)


def test_a_cluster_that_is_paused_is_what_the_table_says(cluster: Cluster) -> None:
    sick = Ward(lambda kind, lock: site_in(cluster, kind, lock, HASTY))
    answers = sick.fall_ill_together(all_paused(cluster))
    sick.wait_for_what_was_given_up()
    with RedisCluster(host=HOST, port=cluster.nodes[0].port) as admin:
        assert not broken("paused", discharge(sick, answers, admin))


def test_a_cluster_that_is_down_is_what_the_table_says(cluster: Cluster) -> None:
    def haste_of(kind: str) -> Haste:
        return HASTY if kind in STUBBORN else PATIENT

    sick = Ward(lambda kind, lock: site_in(cluster, kind, lock, haste_of(kind)))
    answers = sick.fall_ill_together(without_a_slot(cluster))
    sick.wait_for_what_was_given_up()
    with RedisCluster(host=HOST, port=cluster.nodes[0].port) as admin:
        seen = discharge(sick, answers, admin)
    others = [kind for kind in CLIENTS if kind not in STUBBORN]
    assert not broken("`CLUSTERDOWN`", seen, others)
    assert not broken("`CLUSTERDOWN`, tried on", seen, STUBBORN)


# -- a lock's masters, while the records are well --------------------------------------


@pytest.mark.parametrize("illness", MASTERS)
def test_what_ill_masters_do_is_what_the_table_says(
    server: Server, masters: list[Server], proxies: list[FlakyProxy], illness: str
) -> None:
    count, state = MASTERS[illness]
    proxies += [FlakyProxy(master) for master in masters[:3]]
    lock_wait = HASTY.timeout if count > 1 else SECONDS
    sick = Ward(lambda *_: site_by(proxies, server, lock_wait), LOCKING, ["url"])
    answers = sick.fall_ill_together(some_ill(state, masters[:count], proxies[:count]))
    with ExitStack() as open_:
        admin = open_.enter_context(server.client())
        admins = [open_.enter_context(master.client()) for master in masters[:3]]
        if "lock" not in OF_MASTERS[illness]["unlock"]:  # a slow one is told, too
            wait_until(lambda: not any(map(locks_at, admins)), SECONDS, "their end")
        seen = discharge(sick, answers, admin, admins)
    assert not broken(illness, seen, table=OF_MASTERS)


def locks_at(admin: Redis) -> Any:
    return admin.keys("lock:*")


# -- the table, and whether it can be believed -----------------------------------------


def test_the_table_has_each_illness_and_each_request() -> None:
    alone = {f"{accident}, not repeated" for accident in NOT_REPEATED}
    in_cluster = {"`CLUSTERDOWN`", "`CLUSTERDOWN`, tried on"}
    assert PROMISES.keys() == {*STATES, *ACCIDENTS, *alone, *in_cluster}
    assert all(row.keys() == ACTS.keys() for row in PROMISES.values())
    assert OF_MASTERS.keys() == MASTERS.keys()
    assert all([*row] == LOCKING for row in OF_MASTERS.values())


@pytest.mark.parametrize(
    ("promise", "seen", "is_allowed"),
    [
        ("200", Seen("200", None, False), True),
        ("200", Seen("503", None, False), False),
        ("200", Seen("200", None, True), False),
        ("200 lock", Seen("200", None, True), True),
        ("200 lock", Seen("200", None, False), True),
        ("503 kept", Seen("503", False, False), True),
        ("503 kept", Seen("503", True, False), False),
        ("503 done", Seen("503", False, False), False),
        ("503 open", Seen("503", True, False), True),
        ("503 open lock", Seen("503", False, True), True),
        ("503 open", Seen("200", True, False), False),
    ],
)
def test_a_promise_allows_what_it_says(
    promise: str, seen: Seen, is_allowed: bool
) -> None:
    assert allows(promise, seen) == is_allowed


@pytest.mark.parametrize("kind", ALONE)
def test_waits_are_measured(server: Server, kind: str) -> None:
    waits = measure([server], ALONE[kind](server, 0.1), "single", 0.1, 3)
    assert len(waits.later) == 3
    assert not server.paused
