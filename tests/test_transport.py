"""How commands travel: one suite of promises over both ways, then each alone."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_py
import valkey
from doubles import (
    CountedRedis,
    CustomRedis,
    FlakyProxy,
    counting_client,
    slow_connection,
)
from illness.groups import sessions_by_node
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry
from servers import HOST, Cluster, Monitor, Server, wait_until

from smartredis_wsgi import SessionStore, StoreUnavailable
from smartredis_wsgi.transport import (
    HeldConnections,
    Transport,
    Unasked,
    is_refusal,
    is_timeout,
    transport_for,
)
from smartredis_wsgi.transport.idle import Idle
from smartredis_wsgi.transport.link import Link, SocketLink, link_of
from smartredis_wsgi.transport.protocol import wait_for

SOON = 10.0


def held(server: Server, timeout: float = 5.0) -> Transport:
    return transport_for(redis_py.Redis.from_url(server.url), timeout)


def custom(server: Server, timeout: float = 5.0) -> Transport:
    client = CustomRedis.from_url(server.url, socket_timeout=timeout)
    return transport_for(client, timeout)


def of_valkey(server: Server, timeout: float = 5.0) -> Transport:
    client = valkey.Valkey.from_url(server.url, socket_timeout=timeout)
    return transport_for(client, timeout)


def slowly(server: Server, timeout: float = 5.0) -> Transport:
    """By way of the connection's own methods, as without hiredis."""

    class Own(redis_py.Connection):
        def send_packed_command(self, *arguments: Any, **options: Any) -> None:
            super().send_packed_command(*arguments, **options)

    pool = redis_py.ConnectionPool.from_url(server.url, connection_class=Own)
    return transport_for(redis_py.Redis(connection_pool=pool), timeout)


def decoding(server: Server, timeout: float = 5.0) -> Transport:
    client = redis_py.Redis.from_url(server.url, decode_responses=True)
    return transport_for(client, timeout)


def say(word: Any) -> tuple[Any, ...]:
    """A command whose reply is the word; clients have views of their own of most."""
    return "EVAL", "return ARGV[1]", 0, word


def connected(client: redis_py.Redis) -> list[str]:
    """The ids of all connections but the client's own."""
    mine = client.client_id()
    return [c["id"] for c in client.client_list() if int(c["id"]) != mine]


# -- the contract ----------------------------------------------------------------------


@pytest.fixture(params=[held, slowly, custom, of_valkey, decoding])
def make(request: pytest.FixtureRequest) -> Callable[..., Transport]:
    made: Callable[..., Transport] = request.param
    return made


@pytest.fixture
def way(make: Callable[..., Transport], server: Server) -> Iterator[Transport]:
    transport = make(server)
    yield transport
    transport.drop()


def test_replies_come_in_the_commands_order_and_are_bytes(way: Transport) -> None:
    assert way.exchange([("INCRBY", "a", 1)]) == [1]
    assert way.exchange([say("x"), ("INCRBY", b"a", 2), say(b"\xff")]) == [
        b"x",
        3,
        b"\xff",
    ]


def test_a_refusal_is_a_reply_and_spoils_no_other(way: Transport) -> None:
    (refusal,) = way.exchange([("HGET", "a")])
    assert is_refusal(refusal)
    first, refusal, last = way.exchange([say("x"), ("NONSENSE",), say("y")])
    assert (first, last) == (b"x", b"y")
    assert is_refusal(refusal)
    assert not is_refusal(first)


def test_a_script_that_is_not_known_is_such_a_refusal(way: Transport) -> None:
    for commands in ([("EVALSHA", "0" * 40, 0)], [("EVALSHA", "0" * 40, 0)] * 2):
        for reply in way.exchange(commands):
            assert is_refusal(reply)
            assert type(reply).__name__ == "NoScriptError"


def test_a_wait_ends_when_the_signal_comes(
    way: Transport, redis: redis_py.Redis
) -> None:
    with ThreadPoolExecutor() as pool:
        future = pool.submit(way.wait, "signal", 2.0)
        wait_until(lambda: redis.info("clients")["blocked_clients"] == 1, SOON, "it")
        redis.rpush("signal", "now")
        assert future.result(SOON) is None
    assert not redis.exists("signal")


def test_a_wait_that_is_refused_is_an_exception(
    way: Transport, redis: redis_py.Redis
) -> None:
    redis.set("signal", "no list", px=60_000)
    with pytest.raises(Exception, match="WRONGTYPE"):
        way.wait("signal", 0.01)


def test_a_wait_ends_without_a_signal(way: Transport) -> None:
    assert way.wait("signal", 0.01) is None


def test_a_wait_is_never_longer_than_a_reply_may_take(
    make: Callable[..., Transport], server: Server
) -> None:
    transport = make(server, 0.2)
    with ThreadPoolExecutor() as pool:
        failure = pool.submit(transport.wait, "signal", 3600).exception(SOON)
    assert failure is None or is_timeout(failure)
    transport.drop()


@pytest.mark.parametrize("kind", [redis_py.Redis, CustomRedis])
def test_a_wait_leaves_its_answer_time_to_come(
    server: Server, kind: type[redis_py.Redis]
) -> None:
    """Else the server would count as silent whenever nobody signals."""
    client = kind.from_url(server.url, socket_timeout=0.2)
    transport = transport_for(client, 0.2)
    with Monitor(server) as monitor:
        for seconds in (3600, 0.01):
            transport.wait("signal", seconds)
        lines = monitor.lines()
    pauses = [float(line.split('"')[-2]) for line in lines if '"BLPOP"' in line]
    assert 0.05 <= pauses[0] <= 0.15
    assert pauses[1] == 0.01
    transport.drop()


def test_threads_share_it(way: Transport) -> None:
    def turn(number: int) -> list[Any]:
        return way.exchange([say(number), say(-number)])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(turn, range(200)))
    assert answers == [[b"%d" % n, b"%d" % -n] for n in range(200)]


def test_a_drop_closes_connections_and_others_are_made(
    way: Transport, redis: redis_py.Redis
) -> None:
    (before,) = way.exchange([("CLIENT", "ID")])
    way.drop()
    wait_until(lambda: str(before) not in connected(redis), SOON, "its end")
    (after,) = way.exchange([("CLIENT", "ID")])
    assert after != before


def test_a_drop_leaves_alone_what_is_under_way(
    way: Transport, redis: redis_py.Redis
) -> None:
    with ThreadPoolExecutor() as pool:
        future = pool.submit(way.exchange, [("BLPOP", "signal", 4)])
        wait_until(lambda: redis.info("clients")["blocked_clients"] == 1, SOON, "it")
        blocked = connected(redis)
        way.drop()
        redis.rpush("signal", "now")
        assert future.exception(SOON) is None
    assert connected(redis) == blocked


def test_what_is_told_is_done(way: Transport, redis: redis_py.Redis) -> None:
    way.tell(("SET", "told", "1", "PX", 60_000))
    wait_until(lambda: redis.get("told") == b"1", SOON, "what it was told")


def test_a_batch_is_no_transaction(way: Transport, server: Server) -> None:
    way.exchange([("PING",)])
    with Monitor(server) as monitor:
        way.exchange([("ECHO", "x"), ("ECHO", "y")])
        lines = monitor.lines()
    assert not [line for line in lines if '"MULTI"' in line]


def test_less_time_than_the_server_may_take_makes_it_not_silent(
    way: Transport,
) -> None:
    way.exchange([say("x")])
    with ThreadPoolExecutor() as pool:
        late = pool.submit(way.exchange, [("BLPOP", "never", 4)], 0.01)
        assert is_timeout(late.exception(SOON))
    assert way.exchange([say("y")]) == [b"y"]


def test_a_server_that_is_gone_is_an_exception(
    make: Callable[..., Transport], server: Server
) -> None:
    transport = make(server)
    transport.exchange([("PING",)])
    server.kill()
    for commands in ([("PING",)], [("PING",), ("PING",)]):
        with pytest.raises(Exception, match="onnect"):
            transport.exchange(commands)


@pytest.mark.parametrize("seconds", [0.0, 0.0001, 0.5, 4.0])
def test_replicas_are_waited_for_so_that_the_answer_is_in_time(seconds: float) -> None:
    command, replicas, pause_ms = wait_for(2, seconds)
    assert (command, replicas) == ("WAIT", "2")
    assert seconds / 2 <= int(pause_ms) / 1000 <= max(0.001, 0.9 * seconds)
    assert int(pause_ms), "0 has no end"


# -- connections that are held ---------------------------------------------------------


def test_one_connection_serves_one_thread(
    server: Server, redis: redis_py.Redis
) -> None:
    transport = held(server)
    ids = {transport.exchange([("CLIENT", "ID")])[0] for _ in range(5)}
    assert len(ids) == len(connected(redis)) == 1
    transport.drop()


def test_a_batch_is_one_round_trip(server: Server) -> None:
    with counting_client(server.url) as client:
        transport = transport_for(client, 5.0)
        transport.exchange([("ECHO", "x")] * 10)
        assert client.trips.count == 1
        transport.drop()


def test_a_held_connection_that_the_server_has_closed_is_made_anew(
    server: Server, redis: redis_py.Redis
) -> None:
    transport = held(server)
    for _ in range(3):
        transport.exchange([("SET", "a", "1")])
        redis.client_kill_filter(_type="normal", skipme=True)
        assert transport.exchange([("GET", "a"), ("GET", "a")]) == [b"1", b"1"]
    transport.drop()


def test_it_tries_no_second_time_where_the_first_connection_fails(
    server: Server,
) -> None:
    with FlakyProxy(server) as proxy:
        transport = transport_for(redis_py.Redis.from_url(proxy.url), 5.0)
        proxy.drop_next_reply()
        with pytest.raises(redis_py.ConnectionError):
            transport.exchange([("PING",)])


def test_it_tries_no_second_time_after_a_timeout(server: Server) -> None:
    transport = held(server, timeout=0.1)
    transport.exchange([("SET", "n", 0)])
    server.pause()
    with pytest.raises(redis_py.TimeoutError):
        transport.exchange([("INCR", "n")])
    server.resume()
    with server.client() as client:
        wait_until(lambda: client.get("n") == b"1", SOON, "what was sent")
        assert transport.exchange([("GET", "n")]) == [b"1"]
    transport.drop()


def test_the_deadline_is_ours_and_not_the_clients(server: Server) -> None:
    patient = redis_py.Redis.from_url(
        server.url,
        socket_timeout=3600,
        socket_connect_timeout=3600,
        retry=Retry(ConstantBackoff(3600), 10),
    )
    store = SessionStore.from_config(client=patient, timeout=0.1)
    server.pause()
    with pytest.raises(StoreUnavailable):
        store.destroy("a" * 59)
    server.resume()


class Out(BaseException):
    """Something that comes out of the blue, such as a greenlet's timeout."""


def test_an_exchange_that_is_abandoned_leaves_no_answer_behind(
    server: Server, redis: redis_py.Redis
) -> None:
    def interrupt(*_: Any) -> None:
        raise Out

    transport = held(server)
    transport.exchange([("PING",)])
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for turn in range(5):
            timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGALRM))
            timer.start()
            with pytest.raises(Out):
                transport.exchange([("BLPOP", f"never{turn}", 4)])
            timer.join()
            assert transport.exchange([("ECHO", turn)]) == [b"%d" % turn]
    finally:
        signal.signal(signal.SIGALRM, before)
    wait_until(lambda: len(connected(redis)) == 1, SOON, "the others' end")
    transport.drop()


def test_connections_that_nobody_needed_for_long_are_closed(
    server: Server, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = held(server)
    barrier = threading.Barrier(4)

    def turn(_: int) -> None:
        barrier.wait(SOON)
        transport.exchange([("BLPOP", "never", 0.05)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(turn, range(4)))
    burst = len(connected(redis))
    assert burst > 1
    monkeypatch.setattr("smartredis_wsgi.transport.idle._IDLE_SECONDS", -1.0)
    for _ in range(burst):
        transport.exchange([("PING",)])
    wait_until(lambda: len(connected(redis)) <= 1, SOON, "their end")
    transport.drop()


def test_connections_that_were_idle_for_long_are_not_used_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = held(server)
    (before,) = transport.exchange([("CLIENT", "ID")])
    monkeypatch.setattr("smartredis_wsgi.transport.idle._IDLE_SECONDS", -1.0)
    (after,) = transport.exchange([("CLIENT", "ID")])
    assert before != after
    transport.drop()


@dataclass
class Spare:
    """A connection that nobody uses now."""

    is_closed: bool = False

    def close(self) -> None:
        self.is_closed = True


def given(idle: Idle, *times: float) -> list[Any]:
    links = [Spare() for _ in times]
    for link, since in zip(links, times, strict=True):
        idle.give(link, since)  # type: ignore[arg-type]
    return links


def test_who_comes_back_closes_one_that_is_idle_for_a_minute() -> None:
    idle = Idle()
    links = given(idle, 1000.0, 1001.0, 1002.0, 1055.0)
    assert not any(link.is_closed for link in links)
    last = given(idle, 1061.5)
    assert [link.is_closed for link in (*links, *last)] == [True] + [False] * 4
    assert idle.take(1062.0) is last[0]
    assert idle.take(1062.0) is links[3]


def test_one_that_is_idle_for_a_minute_is_closed_though_the_next_is_not() -> None:
    idle = Idle()
    links = given(idle, 1000.0, 1030.0, 1061.0)
    assert [link.is_closed for link in links] == [True, False, False]


def test_where_the_last_is_idle_for_a_minute_all_are_closed() -> None:
    idle = Idle()
    links = given(idle, 1000.0, 1001.0)
    assert idle.take(1055.0) is links[1]
    idle.give(links[1], 1055.0)
    assert idle.take(1116.0) is None
    assert all(link.is_closed for link in links)
    assert idle.take(1116.0) is None


class Robbed(deque[Any]):
    """Whatever seems to be in it, another thread has just taken."""

    seems = iter([True, False])

    def append(self, _: Any) -> None:
        pass

    def __bool__(self) -> bool:
        return next(self.seems)


def test_another_thread_may_take_or_close_a_connection_first() -> None:
    idle = Idle()
    idle._stack = Robbed()
    given(idle, 1000.0)
    idle.close()
    assert idle.take(1000.0) is None


def test_connections_end_with_their_transport(
    server: Server, redis: redis_py.Redis
) -> None:
    transport = held(server)
    transport.exchange([("PING",)])
    del transport
    gc.collect()
    wait_until(lambda: not connected(redis), SOON, "its end")


def test_they_are_made_as_the_clients_are(server: Server) -> None:
    with server.client() as admin:
        admin.acl_setuser(
            "ann", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"]
        )
        try:
            client = redis_py.Redis(
                port=server.port,
                username="ann",
                password="secret",
                db=3,
                client_name="mine",
                protocol=3,
            )
            transport = transport_for(client, 5.0)
            (told,) = transport.exchange([("CLIENT", "INFO")])
            transport.drop()
        finally:
            admin.acl_deluser("ann")
    for part in (b"user=ann", b"db=3", b"name=mine", b"resp=2"):
        assert part in told


# -- a server that is silent -----------------------------------------------------------


@pytest.fixture
def counted(server: Server) -> Iterator[CountedRedis]:
    with counting_client(server.url) as client:
        yield client


def fall_silent(transport: Transport, server: Server) -> None:
    tries = transport._silence._tries  # type: ignore[attr-defined]
    transport.exchange([say("x")])
    transport._silence._tries = tries  # type: ignore[attr-defined]
    server.pause()
    with pytest.raises(redis_py.TimeoutError):
        transport.exchange([say("late")])


def test_a_silent_server_is_not_asked_again(
    server: Server, counted: CountedRedis
) -> None:
    transport = transport_for(counted, 0.1)
    fall_silent(transport, server)
    asked = counted.trips.count
    for _ in range(3):
        with pytest.raises(redis_py.TimeoutError):
            transport.exchange([say("y")])
    assert counted.trips.count == asked
    server.resume()


@pytest.mark.parametrize("make", [held, slowly])
def test_a_silent_server_is_asked_again_as_soon_as_it_speaks(
    server: Server, make: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartredis_wsgi.transport.silence._MOST_TRIES", 3600)
    transport = make(server, 0.1)
    transport._silence._tries = 3600  # type: ignore[attr-defined]
    fall_silent(transport, server)
    server.resume()

    def is_back() -> bool:
        try:
            return transport.exchange([say("y")]) == [b"y"]
        except redis_py.TimeoutError:
            return False

    wait_until(is_back, SOON, "its voice")
    assert [transport.exchange([say(n)])[0] for n in range(3)] == [b"0", b"1", b"2"]
    transport.drop()


@pytest.mark.parametrize("is_over", [True, False])
def test_a_silent_server_is_asked_again_after_some_time(
    server: Server, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    monkeypatch.setattr(
        "smartredis_wsgi.transport.silence._MOST_TRIES", 0 if is_over else 3600
    )
    with FlakyProxy(server) as proxy:
        transport = transport_for(redis_py.Redis.from_url(proxy.url), 0.1)
        transport.exchange([say("x")])
        transport._silence._tries = 3600  # type: ignore[attr-defined]
        proxy.black_hole()
        with pytest.raises(redis_py.TimeoutError):
            transport.exchange([say("late")])
        (lost,) = [link for link in proxy._links if link.has_lost]
        lost.has_lost = False  # so that it stays open, and says nothing for ever
        proxy.restore()
        if is_over:
            assert transport.exchange([say("y")]) == [b"y"]
        else:
            with pytest.raises(redis_py.TimeoutError):
                transport.exchange([say("y")])
        transport.drop()


def test_a_silence_that_is_only_one_connections_own_is_none(server: Server) -> None:
    transport = held(server, 0.3)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(transport.exchange, [("BLPOP", "never", 4)])
        while not slow.done():
            assert transport.exchange([say("y")]) == [b"y"]
    assert is_timeout(slow.exception())
    assert transport.exchange([say("y")]) == [b"y"]
    transport.drop()


def test_a_silence_is_listened_to_also_by_those_who_have_to_connect(
    server: Server,
) -> None:
    transport = held(server, 0.2)
    transport.exchange([say("x")])
    with ThreadPoolExecutor() as pool:
        server.pause()
        both = [pool.submit(transport.exchange, [say(n)]) for n in range(2)]
        for future in both:
            with pytest.raises(redis_py.TimeoutError):
                future.result(SOON)
    transport._silence._tries = 3600  # type: ignore[attr-defined]
    server.resume()

    def is_back() -> bool:
        with contextlib.suppress(redis_py.TimeoutError):
            return transport.exchange([say("y")]) == [b"y"]
        return False

    wait_until(is_back, SOON, "its voice")
    transport.drop()


def test_what_is_told_to_a_silent_server_is_done_when_it_speaks(
    server: Server, redis: redis_py.Redis
) -> None:
    transport = held(server, 0.1)
    fall_silent(transport, server)
    transport.tell(("SET", "told", "1", "PX", 60_000))
    server.resume()
    wait_until(lambda: redis.get("told") == b"1", SOON, "what it was told")
    transport.drop()


def test_who_comes_to_a_silent_server_listens_for_no_time_worth_telling(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, listened = held(server, 0.1), []
    fall_silent(transport, server)

    def hears(_: SocketLink, seconds: float) -> bool:
        listened.append(seconds)
        return False

    monkeypatch.setattr(SocketLink, "hears", hears)
    with pytest.raises(Unasked):
        transport.exchange([say("y")])
    assert listened == [0.004]
    server.resume()


def test_what_is_told_goes_elsewhere_where_the_late_connection_is_closed(
    server: Server, redis: redis_py.Redis
) -> None:
    transport = held(server, 0.1)
    fall_silent(transport, server)
    transport._silence.late.link.close()  # type: ignore[attr-defined]
    server.resume()
    transport.tell(("SET", "told", "1", "PX", 60_000))
    assert redis.get("told") == b"1"
    transport.drop()


def test_who_tells_a_silent_server_waits_for_nobody_who_is_telling(
    server: Server,
) -> None:
    transport = held(server, 0.1)
    fall_silent(transport, server)
    telling = transport._telling  # type: ignore[attr-defined]
    with ThreadPoolExecutor() as pool, telling:
        told = pool.submit(transport.tell, ("PING",))
        assert told.exception(SOON) is None
    server.resume()


def test_a_server_on_which_no_connection_is_made_in_time_is_silent(
    server: Server,
) -> None:
    with FlakyProxy(server) as proxy:
        transport = transport_for(redis_py.Redis.from_url(proxy.url), 0.1)
        proxy.black_hole()
        for _ in range(2):  # there was less time than it may take
            with pytest.raises(redis_py.TimeoutError) as caught:
                transport.exchange([say("x")], 0.01)
            assert not isinstance(caught.value, Unasked)
        with pytest.raises(redis_py.TimeoutError):
            transport.exchange([say("x")])
        with pytest.raises(Unasked):
            transport.exchange([say("x")])


def test_a_silent_server_that_is_known_to_be_gone_is_silent_no_more(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartredis_wsgi.transport.silence._MOST_TRIES", 0)
    with FlakyProxy(server) as proxy:
        transport = transport_for(redis_py.Redis.from_url(proxy.url), 0.1)
        proxy.black_hole()
        with pytest.raises(redis_py.TimeoutError):
            transport.exchange([say("x")])
    for _ in range(2):
        with pytest.raises(redis_py.ConnectionError):
            transport.exchange([say("x")])


def test_a_connection_that_is_refused_is_tried_once_and_greets_with_no_ping(
    server: Server,
) -> None:
    tried = []

    class Noting(redis_py.Connection):
        def _connect(self) -> Any:
            tried.append(self)
            return super()._connect()  # type: ignore[misc]

    pool = redis_py.ConnectionPool.from_url(
        server.url,
        connection_class=Noting,
        health_check_interval=1,
        client_name="ann",
        db=1,
    )
    transport = transport_for(redis_py.Redis(connection_pool=pool), 5.0)
    with Monitor(server) as monitor:
        transport.exchange([say("x")])
        lines = monitor.lines()
    assert not [line for line in lines if '"PING"' in line]
    server.stop()
    tried.clear()
    with pytest.raises(redis_py.ConnectionError):
        transport.exchange([say("y")])
    assert len(tried) == 1


def test_a_server_that_is_gone_after_a_silence_is_found_when_it_is_back(
    server: Server,
) -> None:
    transport = held(server, 0.1)
    fall_silent(transport, server)
    server.kill()
    with pytest.raises(redis_py.ConnectionError):
        transport.exchange([say("y")])
    server.start()
    assert transport.exchange([say("y")]) == [b"y"]
    transport.drop()


def test_a_request_waits_no_longer_than_its_time_though_the_client_would(
    server: Server,
) -> None:
    asked: list[Any] = []

    class Noting(CustomRedis):
        def execute_command(self, *words: Any, **options: Any) -> Any:
            asked.append(words[0])
            return super().execute_command(*words, **options)

    with Noting.from_url(server.url, socket_timeout=0.2, retry=None) as client:
        store = SessionStore.from_config(client=client, timeout=0.2)
        with store.open() as session:
            session["n"] = 1
        asked.clear()
        server.pause()
        with pytest.raises(StoreUnavailable), store.open(session.id) as late:  # noqa: PT012
            for _ in range(3):
                with contextlib.suppress(StoreUnavailable):
                    late.get("n")
            late["n"] = 2
        assert len(asked) == 1
        server.resume()


# -- clients that are asked themselves -------------------------------------------------


class Asking:
    """A client that is handed in, and what it was asked."""

    def __init__(self, client: Any) -> None:
        self.asked: list[Any] = []
        send = client.execute_command

        def noting(*words: Any, **options: Any) -> Any:
            self.asked.append(words[0])
            return send(*words, **options)

        client.execute_command = noting
        self.client = client


def hasty(server: Server) -> Any:
    return CustomRedis.from_url(server.url, socket_timeout=0.2, retry=None)


def stubborn(server: Server) -> Any:
    again = Retry(ConstantBackoff(0.1), 5)
    return CustomRedis.from_url(server.url, socket_timeout=0.15, retry=again)


def of_a_crowd(server: Server) -> Any:
    pool = redis_py.BlockingConnectionPool.from_url(server.url, socket_timeout=None)
    return redis_py.Redis(connection_pool=pool)


def endless(server: Server) -> Any:
    return valkey.Valkey.from_url(server.url)


@pytest.fixture(params=[hasty, stubborn, of_a_crowd, endless])
def theirs(request: pytest.FixtureRequest, server: Server) -> Iterator[Asking]:
    theirs = Asking(request.param(server))
    yield theirs
    theirs.client.connection_pool.disconnect()


def exchanged(transport: Transport, *commands: Any) -> Any:
    """The replies, or the timeout; a test that hangs has failed."""
    with ThreadPoolExecutor() as pool:
        future = pool.submit(transport.exchange, commands)
        failure = future.exception(SOON)
    if failure and not is_timeout(failure):
        raise failure
    return None if failure else future.result()


def test_nobody_waits_for_a_silent_server_but_the_first(
    theirs: Asking, server: Server
) -> None:
    transport = transport_for(theirs.client, 0.2)
    assert exchanged(transport, say("x")) == [b"x"]
    server.pause()
    assert exchanged(transport, say("late")) is None
    asked = len(theirs.asked)
    with ThreadPoolExecutor() as pool:
        for _ in range(3):
            assert exchanged(transport, say("y")) is None
            waiting = pool.submit(transport.wait, "signal", 3600)
            assert is_timeout(waiting.exception(SOON))
    assert len(theirs.asked) == asked
    server.resume()


def test_what_comes_late_is_nobodys(theirs: Asking, server: Server) -> None:
    transport = transport_for(theirs.client, 0.2)
    assert exchanged(transport, say("x")) == [b"x"]
    server.pause()
    assert exchanged(transport, say("late")) is None
    server.resume()
    wait_until(lambda: exchanged(transport, say("y")) == [b"y"], SOON, "its voice")
    for turn in range(20):
        assert exchanged(transport, say(turn)) == [b"%d" % turn]


@pytest.mark.parametrize("theirs", [of_a_crowd, endless], indirect=True)
def test_the_late_answer_tells_that_a_server_is_back(
    theirs: Asking, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartredis_wsgi.transport.silence._MOST_TRIES", 3600)
    transport = transport_for(theirs.client, 0.1)
    assert exchanged(transport, say("x")) == [b"x"]
    transport._silences[""]._tries = 3600  # type: ignore[attr-defined]
    server.pause()
    assert exchanged(transport, say("late")) is None
    assert exchanged(transport, say("y")) is None
    server.resume()
    wait_until(lambda: exchanged(transport, say("y")) == [b"y"], SOON, "its voice")


def test_what_they_are_told_nobody_waits_for(
    theirs: Asking, server: Server, redis: redis_py.Redis
) -> None:
    transport = transport_for(theirs.client, 0.2)
    assert exchanged(transport, say("x")) == [b"x"]
    server.pause()
    assert exchanged(transport, say("late")) is None
    for _ in range(3):
        transport.tell(("INCR", "told"))
    server.resume()
    wait_until(lambda: redis.get("told") == b"3", SOON, "what it was told")


def test_one_that_is_quick_enough_is_asked_in_the_thread_that_asks(
    server: Server,
) -> None:
    seen = []

    class Noting(redis_py.Redis):
        def execute_command(self, *words: Any, **options: Any) -> Any:
            seen.append(threading.current_thread())
            return super().execute_command(*words, **options)

    with Noting.from_url(server.url, socket_timeout=0.5, retry=None) as client:
        transport = transport_for(client, 1.0)
        assert transport.exchange([say("x")]) == [b"x"]
        assert set(seen) == {threading.current_thread()}
        assert transport.exchange([say("x")], 0.4) == [b"x"]  # there is less time
        assert set(seen) != {threading.current_thread()}


def named(name: str) -> Any:
    """A pool of another class than the client's own, which is to have that name."""
    return type(name, (redis_py.ConnectionPool,), {})


IN_TIME = {"socket_timeout": 0.5, "socket_connect_timeout": None, "retry": None}


@pytest.mark.parametrize(
    ("options", "is_left"),
    [
        ({}, False),
        ({"retry": Retry(NoBackoff(), 0)}, False),
        ({"socket_connect_timeout": 0.6}, False),
        ({"socket_connect_timeout": 0.7}, True),
        ({"socket_timeout": 0.7}, True),
        ({"socket_timeout": None}, True),
        ({"retry": Retry(NoBackoff(), 1)}, True),
        ({"retry_on_timeout": True}, True),
        ({"retry_on_error": [redis_py.TimeoutError]}, True),
        ({"pool": named("Another")}, True),
        ({"pool": named("SomebodysOwn")}, True),
    ],
)
def test_one_that_might_wait_for_longer_is_asked_on_a_thread(
    server: Server, options: dict[str, Any], is_left: bool
) -> None:
    kind = options.pop("pool", redis_py.ConnectionPool)
    asked, noting = [], CustomRedis()
    pool = kind(port=server.port, **{**IN_TIME, **options})
    noting.connection_pool = pool

    def send(*_: Any, **__: Any) -> bytes:
        asked.append(threading.current_thread())
        return b"x"

    noting.execute_command = send  # type: ignore[method-assign]
    assert transport_for(noting, 0.6).exchange([say("x")]) == [b"x"]
    assert (asked != [threading.current_thread()]) is is_left


@pytest.mark.parametrize("kind", [redis_py.RedisCluster, valkey.ValkeyCluster, None])
def test_a_node_of_a_cluster_is_silent_alone(cluster: Cluster, kind: Any) -> None:
    """Silent long before the Cluster says that it failed, and others are asked."""
    client = kind(host=HOST, port=cluster.nodes[0].port) if kind else cluster.url
    store = SessionStore.from_config(
        timeout=0.2, **{"client" if kind else "url": client}
    )
    patient = SessionStore.from_config(url=cluster.url)
    ids, sick = sessions_by_node(patient, cluster), cluster.nodes[1]
    wait_until(lambda: all(reads(store, i) for i in ids.values()), SOON, "its nodes")
    sick.pause()
    others = [session_id for port, session_id in ids.items() if port != sick.port]
    assert not reads(store, ids[sick.port])
    # Older clients of a Cluster look at all nodes again first, the silent one too.
    wait_until(lambda: all(reads(store, i) for i in others), SOON, "the others")
    assert not reads(store, ids[sick.port])
    sick.resume()
    wait_until(lambda: reads(store, ids[sick.port]), SOON, "the node's voice")


def reads(store: SessionStore, session_id: str) -> bool:
    try:
        with store.open(session_id) as session:
            return dict(session) == {"n": 1}
    except StoreUnavailable:
        return False


def test_a_class_of_ones_own_is_asked_itself(server: Server) -> None:
    seen: list[Any] = []

    class Noting(redis_py.Redis):
        def execute_command(self, *words: Any, **options: Any) -> Any:
            seen.append(words[0])
            return super().execute_command(*words, **options)

    with Noting.from_url(server.url) as client:
        store = SessionStore.from_config(client=client)
        with store.open() as session:
            session["a"] = 1
    assert seen == ["EVAL"]


@pytest.mark.parametrize("name", ["execute_command", "pipeline"])
@pytest.mark.parametrize("place", ["class", "client", "redis-py"])
def test_who_takes_one_way_of_asking_into_his_hands_is_asked_both_ways(
    server: Server, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    theirs, seen = getattr(redis_py.Redis, name), []

    def own(*words: Any, **options: Any) -> Any:
        seen.append(name)
        return theirs(*words, **options)

    kind = type("Own", (redis_py.Redis,), {name: own} if place == "class" else {})
    client = kind(port=server.port)
    if place == "client":
        setattr(client, name, functools.partial(own, client))
    elif place == "redis-py":
        monkeypatch.setattr(redis_py.Redis, name, own)
    transport = transport_for(client, 5.0)
    assert transport.exchange([say("x")]) == [b"x"]
    assert transport.exchange([say("x"), say("y")]) == [b"x", b"y"]
    assert seen == [name]
    client.close()


def test_a_class_that_takes_nothing_into_its_hands_has_connections_held() -> None:
    kind = type("Own", (redis_py.Redis,), {})
    assert isinstance(transport_for(kind(), 5.0), HeldConnections)


def test_a_client_whose_pool_is_of_another_class_is_asked_itself(
    server: Server,
) -> None:
    pool = redis_py.BlockingConnectionPool.from_url(server.url, max_connections=2)
    transport = transport_for(redis_py.Redis(connection_pool=pool), 5.0)
    with ThreadPoolExecutor(8) as threads, server.client() as client:
        before = {*connected(client)}
        list(threads.map(lambda n: transport.exchange([say(n)]), range(50)))
        assert len({*connected(client)} - before) <= 2
    pool.disconnect()


def test_a_client_that_was_instrumented_is_asked_itself(server: Server) -> None:
    client = redis_py.Redis.from_url(server.url)
    asked: list[Any] = []
    send = client.execute_command

    def noting(*words: Any, **options: Any) -> Any:
        asked.append(words[0])
        return send(*words, **options)

    client.execute_command = noting  # type: ignore[method-assign]
    transport_for(client, 5.0).exchange([say("x")])
    assert asked == ["EVAL"]
    client.close()


def test_a_valkey_client_that_fails_is_unavailability(server: Server) -> None:
    store = SessionStore.from_config(client=valkey.Valkey.from_url(server.url))
    with store.open() as session:
        session["n"] = 1
    with server.client() as client:
        client.script_flush()
    with store.open(session.id) as same:
        same.incr("n")
        same["b"] = 2
    with store.open(session.id) as same:
        assert dict(same) == {"n": 2, "b": 2}
    server.kill()
    with pytest.raises(StoreUnavailable), store.open(session.id) as same:
        same.incr("n")


def test_who_traces_all_of_redis_py_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, asked = redis_py.Redis.execute_command, []

    @functools.wraps(send)
    def traced(self: Any, *words: Any, **options: Any) -> Any:
        asked.append(words[0])
        return send(self, *words, **options)

    monkeypatch.setattr(redis_py.Redis, "execute_command", traced)
    with redis_py.Redis.from_url(server.url) as client:
        transport_for(client, 5.0).exchange([say("x")])
    assert asked == ["EVAL"]


def test_who_counts_what_all_connections_send_counts_ours(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = redis_py.connection.AbstractConnection
    send, sent = kind.send_packed_command, []

    def counted(self: Any, *arguments: Any, **options: Any) -> None:
        sent.append(arguments)
        send(self, *arguments, **options)

    transport = held(server)
    monkeypatch.setattr(kind, "send_packed_command", counted)
    transport.exchange([say("x")])
    sent.clear()
    transport.exchange([say("y"), say("z")])
    assert len(sent) == 1
    transport.drop()


# -- a link ----------------------------------------------------------------------------


@pytest.fixture
def link(server: Server) -> Iterator[Link]:
    connection = redis_py.Connection(port=server.port, socket_timeout=5.0, protocol=2)
    connection.connect()
    link = link_of(connection)
    assert isinstance(link, SocketLink)
    yield link
    link.close()


def test_what_is_heard_is_received_whoever_else_could_read(
    link: SocketLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py 6 and 7 look for a reply by reading it, with a parser of their own."""
    monkeypatch.setattr(redis_py.Connection, "can_read", None)
    assert not link.hears(0)
    link.send(link.pack([say("x"), say("y")]))
    assert link.hears(SOON)
    assert link.receive(2) == [b"x", b"y"]
    assert not link.hears(0.001)


@pytest.mark.parametrize("can_poll", [True, False])
def test_what_has_come_is_heard_without_a_wait(
    link: SocketLink, monkeypatch: pytest.MonkeyPatch, can_poll: bool
) -> None:
    monkeypatch.setattr("smartredis_wsgi.transport.link._can_poll", can_poll)
    assert not link.hears(0)
    link.send(link.pack([say("x")]))
    wait_until(lambda: link.hears(0), SOON, "the reply")
    assert link.receive() == [b"x"]
    assert not link.hears(0)


def test_a_link_that_the_server_has_closed_says_so(
    link: SocketLink, redis: redis_py.Redis
) -> None:
    redis.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(redis_py.ConnectionError):
        link.hears(SOON)


@pytest.mark.parametrize("can_poll", [True, False])
def test_a_link_by_tls_hears_nothing_where_nothing_has_come(
    monkeypatch: pytest.MonkeyPatch, can_poll: bool
) -> None:
    monkeypatch.setattr("smartredis_wsgi.transport.link._can_poll", can_poll)
    ours, theirs = by_tls()
    ours.settimeout(5.0)
    link = SocketLink(SimpleNamespace(_sock=ours))
    assert not link.hears(0)
    with socket.socket(fileno=os.dup(theirs.fileno())) as raw:
        raw.sendall(b"\x17\x03\x03\x00\x40")  # no more than a record's beginning
        assert not link.hears(0)
    for end in (ours, theirs):
        end.close()


def by_tls() -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """The two ends of a connection, without a certificate."""

    def wrapped(end: socket.socket, protocol: int) -> ssl.SSLSocket:
        context = ssl.SSLContext(protocol)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH:@SECLEVEL=0")
        is_server = protocol == ssl.PROTOCOL_TLS_SERVER
        return context.wrap_socket(end, server_side=is_server)

    ends = socket.socketpair()
    with ThreadPoolExecutor() as pool:
        sides = ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER
        ours, theirs = pool.map(wrapped, ends, sides)
    return ours, theirs


def test_a_link_by_its_connections_methods_has_one_deadline_for_all_replies(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = slow_connection(monkeypatch, 2.0)
    connection = kind(port=server.port, socket_timeout=5.0, protocol=2)
    connection.connect()
    link = link_of(connection)
    assert link.ask([say(n) for n in range(3)]) == [b"0", b"1", b"2"]
    with pytest.raises(redis_py.TimeoutError):
        link.ask([say(n) for n in range(4)])
    link.close()


def test_what_a_connection_does_in_a_way_of_its_own_it_is_asked_to_do(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its class may send or read otherwise, or a tracer has taken redis-py's place."""
    kind = redis_py.connection.AbstractConnection
    names = ["send_packed_command", "read_response"]

    def otherwise(name: str) -> Any:
        theirs = getattr(kind, name)

        def method(*arguments: Any, **options: Any) -> Any:
            asked.append(name)
            return theirs(*arguments, **options)

        return method

    asked: list[str] = []
    for name in names:
        own = type("Own", (redis_py.Connection,), {name: otherwise(name)})
        with monkeypatch.context() as patch:
            for kind_asked in (own, redis_py.Connection):
                connection = kind_asked(port=server.port, protocol=2)
                connection.connect()
                asked.clear()
                assert link_of(connection).ask([say("x")]) == [b"x"]
                assert asked == [name]
                connection.disconnect()
                patch.setattr(kind, name, otherwise(name))


def test_where_hiredis_is_missing_a_connection_is_asked_by_its_methods(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("smartredis_wsgi.transport.link")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "hiredis", None)
        spec.loader.exec_module(module)
    connection = redis_py.Connection(port=server.port, protocol=2)
    connection.connect()
    link = module.link_of(connection)
    assert type(link) is module.Link
    assert link.ask([say("x"), say("y")]) == [b"x", b"y"]
    link.send(link.pack([say("z")]))
    assert link.receive() == [b"z"]
    link.close()


@pytest.mark.parametrize("pace", [1.0, 2.0])
def test_replies_that_come_bit_by_bit_have_one_deadline(
    link: SocketLink, pace: float
) -> None:
    class Dripping:
        """A socket of which each piece comes in time, and the whole never does."""

        waited = 0.0

        def settimeout(self, seconds: float) -> None:
            self.longest = seconds

        def recv(self, _: int) -> bytes:
            self.waited += pace
            return b"+"

    drops = Dripping()
    clock = pytest.MonkeyPatch()
    clock.setattr("smartredis_wsgi.transport.link.time.monotonic", lambda: drops.waited)
    link._socket = drops  # type: ignore[assignment]
    try:
        with pytest.raises(redis_py.TimeoutError):
            link.receive(1)
        assert 5.0 <= drops.waited < 5.0 + pace
        assert drops.longest == 5.0
    finally:
        clock.undo()


def test_a_connection_is_made_in_one_deadline(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each step of its handshake is in time, and the whole is not.
    kind = slow_connection(monkeypatch, 0.4)
    pool = redis_py.ConnectionPool(
        port=server.port, db=1, client_name="ann", connection_class=kind
    )
    transport = transport_for(redis_py.Redis(connection_pool=pool), 1.0)
    with pytest.raises(redis_py.TimeoutError):
        transport.exchange([say("x")])
    assert 1.0 <= time.monotonic() < 1.4


def test_a_connection_that_dies_at_the_deadline_is_made_anew_in_no_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def dies(*_: Any) -> None:
        nonlocal now
        now += 2.0
        raise redis_py.ConnectionError

    class Noting(redis_py.Connection):
        def __init__(self, **options: Any) -> None:
            given.append(options["socket_connect_timeout"])
            super().__init__(**options)

    given: list[float] = []
    pool = redis_py.ConnectionPool.from_url(server.url, connection_class=Noting)
    monkeypatch.setattr("smartredis_wsgi.transport.held.time.monotonic", lambda: now)
    transport = transport_for(redis_py.Redis(connection_pool=pool), 1.0)
    transport.exchange([say("x")])
    monkeypatch.setattr(SocketLink, "ask", dies)
    with contextlib.suppress(redis_py.TimeoutError):  # it depends on the machine
        assert transport.exchange([say("y")]) == [b"y"]
    assert now == 2.0
    assert given == [1.0, 0.001]


def test_a_command_that_can_t_be_sent_whole_makes_the_server_silent(
    server: Server,
) -> None:
    transport = held(server, 0.1)
    transport.exchange([say("x")])
    server.pause()
    with pytest.raises(redis_py.TimeoutError):
        transport.exchange([say(b"x" * (16 << 20))])
    with pytest.raises(Unasked):
        transport.exchange([say("y")])
    server.resume()


def test_what_comes_from_elsewhere_is_not_called_the_servers_failure(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TimeIsUp(Exception):
        """As a task queue's signal raises it in the middle of anything."""

    def interrupted(*_: Any) -> None:
        raise TimeIsUp

    store = SessionStore.from_config(url=server.url)
    monkeypatch.setattr(SocketLink, "receive", interrupted)
    with pytest.raises(TimeIsUp), store.open("a" * 59) as session:
        session.get("n")
