"""The servers, fixtures and doubles that the other tests rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_py
from conftest import Backend
from doubles import DeadRedis, FlakyProxy, counting_client
from redis.cluster import RedisCluster
from servers import Cluster, Monitor, Server, assert_sessions_expire, wait_until


def test_a_server_starts_stops_and_keeps_its_port(real: Backend) -> None:
    with Server(real.name) as server:
        port = server.port
        with server.client() as client:
            client.set("key", "value")
        server.stop()
        server.stop()
        assert not server.running
        with server.client() as client, pytest.raises(redis_py.ConnectionError):
            client.ping()
        server.start()
        assert server.port == port
        with server.client() as client:
            assert client.get("key") is None
            assert client.config_get("save")["save"] == ""
        assert server.version[0].isdigit()


def test_a_paused_server_answers_when_it_is_resumed(real: Backend) -> None:
    with Server(real.name) as server, server.client(socket_timeout=0.2) as client:
        client.set("key", "value")
        server.pause()
        with pytest.raises(redis_py.TimeoutError):
            client.get("key")
        server.resume()
        assert client.get("key") == b"value"
        server.pause()
        server.stop()
        assert not server.running


@pytest.mark.usefixtures("server")
def test_options_reach_the_server() -> None:
    with Server("valkey", "--maxmemory", "5mb") as server, server.client() as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(5 << 20)}


@pytest.mark.usefixtures("server")
def test_a_server_that_cannot_start_shows_its_log() -> None:
    server = Server("valkey", "--no-such-option", "1")
    with pytest.raises(RuntimeError, match="no-such-option"):
        server.start()
    server.close()


def test_a_taken_port_is_replaced(server: Server) -> None:
    with server.client() as client:
        client.set("key", "of the first server")
    second = Server("valkey")
    second.port = server.port
    with second, second.client() as client:
        assert second.port != server.port
        assert client.get("key") is None


ORPHAN = """
import os, sys
from servers import Server
server = Server("valkey").start()
print(server._child.pid, flush=True)
"""
ENDS = ["sys.exit()"]
if sys.platform == "linux":
    ENDS.append("os.kill(os.getpid(), 9)")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("end", ENDS)
def test_a_server_does_not_outlive_the_interpreter(end: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHAN + end]
    here = Path(__file__).parent
    own = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, cwd=here, env=own, capture_output=True, text=True)
    pid = int(ended.stdout)
    wait_until(lambda: not _is_alive(pid), 5, "the server's end")


def _is_alive(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().split()[2] == "Z")


def test_a_monitor_sees_all_up_to_the_call(server: Server) -> None:
    with server.client() as client, Monitor(server) as monitor:
        client.set("first", "1")
        assert '"SET" "first" "1"' in monitor.lines()[-1]
        client.eval("return redis.call('GET', KEYS[1])", 1, "first")
    assert "lua]" in monitor.lines()[-1]
    assert len([line for line in monitor.lines() if '"first"' in line]) == 3


def test_a_pipeline_is_one_trip(server: Server) -> None:
    with counting_client(server.url) as client:
        client.set("a", "1")
        assert client.trips.count == 1
        assert client.trips.commands == [("SET", b"a", b"1")]
        client.trips.reset()
        with client.pipeline(transaction=True) as pipe:
            pipe.get("a").set("b", b"x" * 20_000).get("b").execute()
        assert client.trips.count == 1
        assert client.trips.names == ["MULTI", "GET", "SET", "GET", "EXEC"]
        assert client.trips.bytes_sent > 20_000


def test_a_handshake_is_no_trip(server: Server) -> None:
    url = server.url.replace("/0", "/3")
    with counting_client(url, client_name="tests") as client:
        client.ping()
        client.connection_pool.disconnect()
        client.ping()
        assert client.trips.names == ["PING", "PING"]
        assert client.trips.count == 2
        assert client.client_getname() in ("tests", b"tests")


@pytest.mark.parametrize("greets_first", [True, False])
def test_a_lost_reply_was_executed(server: Server, greets_first: bool) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        if greets_first:
            client.ping()
        proxy.drop_next_reply()
        with pytest.raises(redis_py.ConnectionError):
            client.incr("count")
        assert proxy.dropped == 1
        assert client.get("count") == b"1"


def test_a_large_pipeline_passes_the_proxy(server: Server) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        value = b"x" * 100_000
        with client.pipeline(transaction=False) as pipe:
            for number in range(50):
                pipe.set(f"{number}", value).get(f"{number}")
            assert pipe.execute() == [True, value] * 50


def test_a_black_hole_swallows_for_good(server: Server) -> None:
    with (
        FlakyProxy(server) as proxy,
        proxy.client(socket_timeout=0.2) as client,
        proxy.client(socket_timeout=0.2) as newcomer,
    ):
        client.incr("count")
        proxy.black_hole()
        for caller in (client, newcomer):
            with pytest.raises(redis_py.TimeoutError):
                caller.incr("count")
        proxy.restore()
        assert client.get("count") == b"1"
        assert newcomer.get("count") == b"1"


def test_the_proxy_of_a_stopped_server_closes(server: Server) -> None:
    server.stop()
    with (
        FlakyProxy(server) as proxy,
        proxy.client() as client,
        pytest.raises(redis_py.ConnectionError),
    ):
        client.ping()


def test_a_dead_client_always_raises() -> None:
    with DeadRedis() as client:
        with pytest.raises(redis_py.ConnectionError):
            client.get("key")
        with client.pipeline() as pipe, pytest.raises(redis_py.ConnectionError):
            pipe.get("key").execute()
        with client.pipeline() as pipe, pytest.raises(redis_py.ConnectionError):
            pipe.execute()
        with client.pipeline() as pipe, pytest.raises(redis_py.ConnectionError):
            pipe.watch("key")
        with client.pubsub() as pubsub, pytest.raises(redis_py.ConnectionError):
            pubsub.subscribe("channel")
        assert client.attempts == 4


def test_a_cluster_answers(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    with RedisCluster(host="127.0.0.1", port=first.port) as client:
        for number in range(20):
            client.set(f"key:{number}", number, ex=60)
        assert [int(client.get(f"key:{n}") or -1) for n in range(20)] == [*range(20)]
    for node in cluster.nodes:
        with node.client() as own:
            assert own.dbsize() > 0
        assert f"127.0.0.1:{node.port}" in cluster.url


@pytest.mark.parametrize("real", ["redis-6.2"], indirect=True)
def test_an_old_cluster_answers(real: Backend) -> None:
    with Cluster(real.name) as old:
        first = old.nodes[0]
        with RedisCluster(host="127.0.0.1", port=first.port) as client:
            assert client.set("key", "value")


@pytest.mark.parametrize("change", ["stop", "pause", "none"])
def test_cluster_nodes_may_be_lost(cluster: Cluster, change: str) -> None:
    for node in cluster.nodes:
        with node.client() as client:
            assert client.dbsize() == 0
    if change != "none":
        getattr(cluster.nodes[1], change)()


@pytest.mark.parametrize("change", ["stop", "pause", "kill", "resume"])
def test_masters_may_be_lost(masters: list[Server], change: str) -> None:
    assert len({master.port for master in masters}) == 5
    for master in masters:
        assert master.running
        assert not master.paused
        with master.client() as client:
            assert client.dbsize() == 0
            client.set("key", change)
    getattr(masters[0], change)()


def test_every_backend_is_empty_and_runs_lua(backend: Backend) -> None:
    assert backend.client.dbsize() == 0
    assert backend.client.eval("return {1, ARGV[1]}", 0, "x") == [1, b"x"]
    assert backend.options["client"] is backend.client
    backend.client.set("session:1", "x", px=60_000)


def test_a_session_that_stays_for_ever_is_found(redis: redis_py.Redis) -> None:
    redis.set("app:session:1", "x", ex=60)
    assert_sessions_expire(redis)
    redis.rpush("app:session:2", "x")
    with pytest.raises(AssertionError, match="list"):
        assert_sessions_expire(redis)
    redis.flushall()
