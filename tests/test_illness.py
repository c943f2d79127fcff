"""Each illness of Redis, at each kind of request, by each kind of client."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from conftest import Backend
from doubles import FlakyProxy
from histories.visitor import App
from illness.cells import ACTS, CLIENTS, Cell, Seen, site_in, site_of
from illness.states import (
    ACCIDENTS,
    HANGING,
    NOT_REPEATED,
    SECONDS,
    STATES,
    all_paused,
    reloading,
    slow_to_load,
    without_a_slot,
)
from illness.table import DOCUMENT, allows, promises
from illness.waits import ALONE, measure
from redis import Redis, RedisCluster
from servers import HOST, Cluster, Server, assert_sessions_expire, wait_until

PROMISES = promises(DOCUMENT.read_text("utf-8"))
PATIENT, HASTY = 5.0, 0.6


class Ward:
    """A cell for each kind of request and of client."""

    def __init__(self, make_site: Callable[[str, str], App]) -> None:
        self.cells: dict[tuple[str, str], Cell] = {}
        for name, kind in itertools.product(ACTS, CLIENTS):
            self.cells[name, kind] = Cell(name, make_site(kind, ACTS[name].lock))
            self.cells[name, kind].prepare()

    def fall_ill_together(self, illness: AbstractContextManager[object]) -> list[str]:
        """The answers, where the illness strikes all requests at once."""
        arrived, struck = threading.Semaphore(0), threading.Event()

        def strike() -> None:
            arrived.release()
            assert struck.wait(SECONDS)

        with ThreadPoolExecutor(len(self.cells)) as pool:
            answers = []
            for cell in self.cells.values():
                answers.append(pool.submit(cell.run, strike))
                assert arrived.acquire(timeout=SECONDS)
            with illness:
                struck.set()
                return [answer.result(3 * SECONDS) for answer in answers]


@pytest.fixture
def proxies() -> Iterator[list[FlakyProxy]]:
    """Those that a test opens: one for each cell, in the cells' order."""
    opened: list[FlakyProxy] = []
    yield opened
    for proxy in opened:
        proxy.close()


def ward_by(
    server: Server, proxies: list[FlakyProxy], timeout: float = PATIENT
) -> Ward:
    """A ward whose clients go by a proxy each."""

    def make_site(kind: str, lock: str) -> App:
        proxies.append(FlakyProxy(server))
        return site_of(kind, proxies[-1], lock, timeout)

    return Ward(make_site)


def discharge(
    ward: Ward, answers: Sequence[str], admin: Redis | RedisCluster
) -> dict[str, Seen]:
    """What is seen of each cell; each application ran once, and serves again."""
    seen = {}
    for (place, cell), answer in zip(ward.cells.items(), answers, strict=True):
        assert cell.runs == 1, f"{place}: the application ran {cell.runs} times"
        seen[", ".join(place)] = cell.look(answer, admin)
    for place, cell in ward.cells.items():
        wait_until(cell.serves, SECONDS, f"{place} recovers")
    return seen


def broken(
    row: str, seen: dict[str, Seen], kinds: Sequence[str] = CLIENTS
) -> list[str]:
    """Where the row of the table is not what was seen."""
    told = []
    for place, what in seen.items():
        request, _, kind = place.partition(", ")
        if kind in kinds and not allows(PROMISES[row][request], what):
            told.append(f"{place}: {what}, not {PROMISES[row][request]}")
    return told


@pytest.mark.parametrize("state", STATES)
def test_what_a_state_does_is_what_the_table_says(
    real: Backend, proxies: list[FlakyProxy], state: str
) -> None:
    assert real.server
    timeout = HASTY if state in HANGING else PATIENT
    sick = ward_by(real.server, proxies, timeout)
    answers = sick.fall_ill_together(STATES[state](real.server, proxies))
    assert not broken(state, discharge(sick, answers, real.client))


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_what_an_accident_does_is_what_the_table_says(
    real: Backend, proxies: list[FlakyProxy], accident: str
) -> None:
    assert real.server
    sick = ward_by(real.server, proxies, HASTY if accident in HANGING else PATIENT)

    def run(cell: Cell, proxy: FlakyProxy) -> str:
        return cell.run(lambda: ACCIDENTS[accident](proxy, real.client))

    with ThreadPoolExecutor(len(proxies)) as pool:
        answers = list(pool.map(run, sick.cells.values(), proxies))
    seen = discharge(sick, answers, real.client)
    alone = NOT_REPEATED.get(accident, ())
    assert not broken(accident, seen, [kind for kind in CLIENTS if kind not in alone])
    assert not broken(f"{accident}, not repeated", seen, alone)
    assert not any(proxy.disarm() for proxy in proxies)


def test_a_server_that_reads_its_dump_is_what_the_table_says(
    proxies: list[FlakyProxy],
) -> None:
    with slow_to_load() as server, server.client() as admin:
        sick = ward_by(server, proxies)
        answers = sick.fall_ill_together(reloading(server, proxies))
        assert not broken("`LOADING`", discharge(sick, answers, admin))
        assert_sessions_expire(admin)


def test_a_cluster_that_is_paused_is_what_the_table_says(cluster: Cluster) -> None:
    sick = Ward(lambda kind, lock: site_in(cluster, kind, lock))
    answers = sick.fall_ill_together(all_paused(cluster))
    with RedisCluster(host=HOST, port=cluster.nodes[0].port) as admin:
        assert not broken("paused", discharge(sick, answers, admin))


def test_a_cluster_that_is_down_is_what_the_table_says(cluster: Cluster) -> None:
    sick = Ward(lambda kind, lock: site_in(cluster, kind, lock))
    answers = sick.fall_ill_together(without_a_slot(cluster))
    with RedisCluster(host=HOST, port=cluster.nodes[0].port) as admin:
        assert not broken("`CLUSTERDOWN`", discharge(sick, answers, admin))


# -- the table, and whether it can be believed -----------------------------------------


def test_the_table_has_each_illness_and_each_request() -> None:
    alone = {f"{accident}, not repeated" for accident in NOT_REPEATED}
    assert PROMISES.keys() == {*STATES, *ACCIDENTS, *alone, "`CLUSTERDOWN`"}
    assert all(row.keys() == ACTS.keys() for row in PROMISES.values())


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
