"""Destroying and rotating are acknowledged when so many replicas have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from wsgiref.validate import validator

import pytest
import redis as redis_py
import valkey
from conftest import REAL, _require
from doubles import CustomRedis, counting_client
from histories.visitor import app, send
from illness.groups import sessions_by_node
from illness.prices import prices
from redis import RedisCluster
from servers import HOST, Cluster, Monitor, Server, wait_for_link, wait_until

from smartredis_wsgi import SessionMiddleware, SessionStore, StoreUnavailable

SECONDS = 10.0
HASTY = 0.6
FAST = ("--repl-diskless-sync-delay", "0")


class Pair(NamedTuple):
    master: Server
    replica: Server


@pytest.fixture(scope="module", params=REAL)
def running_pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    _require(request.param)
    with Server(request.param, *FAST) as master, Server(request.param) as replica:
        with replica.client() as admin:
            admin.replicaof(HOST, master.port)
        yield Pair(master, replica)


@pytest.fixture
def pair(running_pair: Pair) -> Iterator[Pair]:
    wait_for_link(running_pair.replica)
    with running_pair.master.client() as admin:  # the first ACK comes a little later
        admin.set("probe", 1, px=1)
        wait_until(lambda: admin.wait(1, 100) == 1, 10, "the replica's first word")
    yield running_pair
    running_pair.replica.resume()


def by_url(server: Server) -> dict[str, Any]:
    return {"url": server.url}


def asked_at_once(server: Server) -> dict[str, Any]:
    client = CustomRedis.from_url(server.url, socket_timeout=HASTY, retry=None)
    return {"client": client}


def asked_on_a_thread(server: Server) -> dict[str, Any]:
    return {"client": valkey.Valkey.from_url(server.url)}


WAYS = [by_url, asked_at_once, asked_on_a_thread]


def new_session(store: SessionStore) -> str:
    with store.open() as session:
        session["n"] = 1
    return session.id


def stored(store: SessionStore, session_id: str) -> dict[str, Any]:
    with store.open(session_id) as session:
        return dict(session)


def rotate(store: SessionStore, session_id: str) -> None:
    with store.open(session_id) as session:
        session.regenerate_id()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lock", ["none", "single"])
def test_what_a_replica_has_is_acknowledged(
    pair: Pair, way: Callable[[Server], dict[str, Any]], lock: str
) -> None:
    store = SessionStore.from_config(wait_replicas=1, lock=lock, **way(pair.master))
    with Monitor(pair.master) as monitor:
        rotate(store, new_session(store))
        assert store.destroy(new_session(store))
        lines = monitor.lines()
    assert sum('"WAIT" "1"' in line for line in lines) == 2


def test_what_it_does_not_have_is_an_error_and_done_here(pair: Pair) -> None:
    store = SessionStore.from_config(
        url=pair.master.url, wait_replicas=1, timeout=HASTY
    )
    first, second = new_session(store), new_session(store)
    pair.replica.pause()
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        rotate(store, second)
    for _ in range(2):  # asking again, on another connection, is no way around it
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            store.destroy(first)
        store._engine.wire.close()
    assert stored(store, first) == stored(store, second) == {}
    pair.replica.resume()
    assert store.destroy(first)


@pytest.mark.parametrize("running_pair", ["valkey"], indirect=True)
@pytest.mark.parametrize("way", WAYS[1:])
def test_whatever_client_is_handed_in_waits_for_them(
    pair: Pair, way: Callable[[Server], dict[str, Any]]
) -> None:
    store = SessionStore.from_config(wait_replicas=1, timeout=HASTY, **way(pair.master))
    session_id = new_session(store)
    pair.replica.pause()
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        store.destroy(session_id)


def test_a_rotation_that_is_sent_again_waits_again(pair: Pair) -> None:
    store = SessionStore.from_config(url=pair.master.url, wait_replicas=1, timeout=1)
    session_id = new_session(store)
    with pytest.raises(StoreUnavailable), store.open(session_id) as session:  # noqa: PT012
        session.regenerate_id()
        new_id = session.id
        pair.replica.pause()
        with pytest.raises(StoreUnavailable, match="0 of 1"):
            session.save()
        store._engine.wire.close()
    pair.replica.resume()
    assert stored(store, new_id) == {"n": 1}


def test_who_is_logged_out_everywhere_is_so_once_they_have_it(pair: Pair) -> None:
    store = SessionStore.from_config(
        url=pair.master.url, wait_replicas=1, timeout=HASTY
    )
    with store.open() as session:
        session.bind("ann")
    pair.replica.pause()
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        store.destroy_owner("ann")
    assert len(store.sessions_of("ann")) == 1  # who only looks does not wait
    pair.replica.resume()
    assert store.destroy_owner("ann") == 1


def test_it_costs_no_round_trip_and_others_do_not_wait(pair: Pair) -> None:
    with counting_client(pair.master.url) as client:
        store = SessionStore.from_config(client=client, wait_replicas=1)
        first = new_session(store)
        stored(store, first)
        store.destroy(new_session(store))
        assert client.trips.names.count("WAIT") == 1
        client.trips.reset()
        store.destroy(first)
        assert (client.trips.count, client.trips.names) == (1, ["EVALSHA", "WAIT"])


def test_nobody_waits_who_did_not_ask_for_it(pair: Pair) -> None:
    with counting_client(pair.master.url) as client:
        store = SessionStore.from_config(client=client)
        store.destroy(new_session(store))
        rotate(store, new_session(store))
        assert "WAIT" not in client.trips.names


def test_a_server_that_forgot_the_script_is_waited_for(pair: Pair) -> None:
    store = SessionStore.from_config(
        url=pair.master.url, wait_replicas=1, timeout=HASTY
    )
    store.destroy(new_session(store))
    session_id = new_session(store)
    with pair.master.client() as admin:
        admin.script_flush()
    assert store.destroy(session_id)


def test_a_logout_is_503_until_they_have_it(pair: Pair) -> None:
    options = {"wait_replicas": 1, "timeout": HASTY, "lock": "single"}
    site = validator(SessionMiddleware(app, options, url=pair.master.url))
    cookie = send(site, lambda session: session.update(n=1)).cookie
    pair.replica.pause()
    late = send(site, lambda session: session.destroy(), cookie)
    assert late.status.startswith("503")
    pair.replica.resume()
    assert send(site, lambda session: session.destroy(), cookie).status == "200 OK"


def test_a_server_that_does_not_know_it_is_an_error(pair: Pair) -> None:
    with pair.master.client() as admin:
        admin.acl_setuser(
            "ann", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-wait"]
        )
        client = redis_py.Redis(port=pair.master.port, username="ann", password="x")
        store = SessionStore.from_config(client=client, wait_replicas=1)
        session_id = new_session(store)
        with pytest.raises(StoreUnavailable, match="NoPermission"):
            store.destroy(session_id)
        admin.acl_deluser("ann")


# -- in a Cluster ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def replicated() -> Iterator[Cluster]:
    _require("valkey")
    with Cluster("valkey", *FAST, has_replicas=True) as cluster:
        yield cluster


def test_what_it_costs_is_measured() -> None:
    found = dict(prices(2))
    assert list(found) == [
        "a question handed over: read",
        "wait_replicas=1: destroy",
        "wait_replicas=1: rotate",
    ]
    for each in found.values():
        assert len(each.without) == len(each.with_it) == 2
        assert min(*each.without, *each.with_it) > 0


IN_CLUSTER: list[Callable[[Cluster], dict[str, Any]]] = [
    lambda cluster: {"url": cluster.url},
    lambda cluster: {"client": RedisCluster(host=HOST, port=cluster.nodes[0].port)},
    lambda cluster: {
        "client": valkey.ValkeyCluster(host=HOST, port=cluster.nodes[0].port)
    },
]


@pytest.mark.parametrize("way", IN_CLUSTER, ids=["url", "redis-py", "valkey-py"])
def test_in_a_cluster_the_nodes_own_replica_is_waited_for(
    replicated: Cluster, way: Callable[[Cluster], dict[str, Any]]
) -> None:
    store = SessionStore.from_config(url=replicated.url)
    ids = sessions_by_node(store, replicated.fresh())
    first, sick = ids.pop(replicated.nodes[0].port), replicated.replicas[0]
    careful = SessionStore.from_config(
        wait_replicas=1, timeout=HASTY, **way(replicated)
    )
    assert careful.destroy(new_session(store))  # the first thing that it is asked
    sick.pause()
    with pytest.raises(StoreUnavailable, match="0 of 1"):
        careful.destroy(first)
    assert all(careful.destroy(session_id) for session_id in ids.values())
    assert not stored(store, first)
    sick.resume()
    wait_for_link(sick)
    assert careful.destroy(first)
