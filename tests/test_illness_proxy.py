"""The proxy that makes the faults: does each hit whom it says?"""

from __future__ import annotations

import pytest
import redis as redis_py
from doubles import Fault, FlakyProxy
from servers import Server


@pytest.mark.parametrize("greets_first", [True, False])
@pytest.mark.parametrize(
    ("fault", "count"),
    [(Fault.NO_REQUEST, 0), (Fault.NO_REPLY, 1), (Fault.HALF_REPLY, 1)],
)
def test_a_fault_costs_the_connection_once(
    server: Server, fault: Fault, count: int, greets_first: bool
) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client, server.client() as near:
        if greets_first:
            client.ping()
        proxy.arm(fault)
        with pytest.raises(redis_py.ConnectionError):
            client.incr("count")
        assert int(near.get("count") or 0) == count
        assert client.incr("count") == count + 1
        assert proxy.hits == {fault: 1}
        assert not proxy.disarm()


def test_half_a_reply_is_not_a_whole_one(server: Server) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        client.set("key", "SWORDFISH")
        proxy.arm(Fault.HALF_REPLY)
        with pytest.raises(redis_py.ConnectionError):
            client.get("key")


def test_a_late_reply_is_one_all_the_same(server: Server) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        proxy.arm(Fault.LATE_REPLY, late=0.05)
        assert client.incr("count") == 1
        assert proxy.hits == {Fault.LATE_REPLY: 1}


def test_a_reply_that_is_too_late_was_executed(server: Server) -> None:
    with (
        FlakyProxy(server) as proxy,
        proxy.client(socket_timeout=0.1) as client,
        server.client() as near,
    ):
        proxy.arm(Fault.LATE_REPLY, late=60)
        with pytest.raises(redis_py.TimeoutError):
            client.incr("count")
        assert near.get("count") == b"1"


def test_a_fault_that_was_disarmed_hits_nobody(server: Server) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        proxy.arm(Fault.NO_REPLY)
        assert proxy.disarm()
        assert client.ping()
        assert not proxy.hits


def test_who_is_cut_off_reaches_nobody_before_the_end(server: Server) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        client.incr("count")
        proxy.cut()
        for _ in range(2):
            with pytest.raises(redis_py.ConnectionError):
                client.incr("count")
        proxy.restore()
        assert client.incr("count") == 2


def test_each_command_is_refused_however_it_comes(server: Server) -> None:
    with (
        FlakyProxy(server) as proxy,
        proxy.client() as client,
        server.client() as near,
    ):
        proxy.refuse("READONLY no")
        with pytest.raises(redis_py.ReadOnlyError):
            client.set("key", "x" * 100_000)
        with client.pipeline(transaction=False) as pipe:
            told = pipe.incr("a").set("b", "x" * 100_000).execute(raise_on_error=False)
        assert [type(error) for error in told] == [redis_py.ReadOnlyError] * 2
        assert not near.dbsize()
        proxy.restore()
        assert client.set("key", "x")
