"""Masters that die and slots that move while requests run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from illness.groups import (
    AFTER,
    BEFORE,
    DURING,
    FAST,
    Load,
    SentinelGroup,
    fail_over,
    move_slots,
)
from redis import RedisCluster
from servers import HOST, Cluster, Server, assert_sessions_expire, free_port

from smartredis_wsgi import SessionStore, StoreUnavailable

LOCKS = ["none", "single"]
ENOUGH = 60


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    with SentinelGroup() as group:
        yield group


@pytest.fixture
def cluster_with_replicas() -> Iterator[Cluster]:
    options = (*FAST, "--cluster-node-timeout", "1000")
    with Cluster("valkey", *options, has_replicas=True) as cluster:
        yield cluster


def assert_nothing_is_wrong(load: Load, *servers: Server) -> None:
    tally = load.judge()
    for server in servers:
        with server.client() as admin:
            assert_sessions_expire(admin)
    assert tally.acked >= 2 * ENOUGH
    assert not tally.violations, tally


def test_what_a_replica_has_survives_its_master(group: SentinelGroup) -> None:
    with group.master.client() as before, group.replica.client() as after:
        load = Load(group.url, "none", before, group.master)
        with load.running():
            load.enter(BEFORE, ENOUGH)
            load.enter(DURING, 0)
            group.fail_over()
            load.enter(AFTER, ENOUGH)
        load.look_by(after)
        assert_nothing_is_wrong(load, group.replica)


def test_what_no_replica_has_is_lost_and_the_ledger_sees_it(
    group: SentinelGroup,
) -> None:
    with group.master.client() as before, group.replica.client() as after:
        load = Load(group.url, "none", before, None)
        with load.running():
            load.enter(BEFORE, ENOUGH)
            after.replicaof(HOST, free_port())
            load.enter(DURING, ENOUGH)
            group.fail_over()
            load.enter(AFTER, 1)
        load.look_by(after)
        assert load.judge().lost


def test_what_a_replica_has_survives_a_clusters_master(
    cluster_with_replicas: Cluster,
) -> None:
    cluster = cluster_with_replicas
    with RedisCluster(host=HOST, port=cluster.nodes[1].port) as client:
        load = Load(cluster.url, "none", client, cluster.nodes[0])
        with load.running():
            load.enter(BEFORE, ENOUGH)
            load.enter(DURING, 0)
            fail_over(cluster)
            load.enter(AFTER, ENOUGH)
        assert_nothing_is_wrong(load, cluster.replicas[0], *cluster.nodes[1:])


@pytest.mark.parametrize("lock", LOCKS)
def test_slots_may_move_under_load(lock: str) -> None:
    with (
        Cluster("valkey") as cluster,
        RedisCluster(host=HOST, port=cluster.nodes[1].port) as client,
    ):
        load = Load(cluster.url, lock, client, None)
        with load.running():
            load.enter(BEFORE, ENOUGH)
            load.enter(DURING, 0)
            assert move_slots(cluster)
            load.enter(AFTER, ENOUGH)
        assert_nothing_is_wrong(load, *cluster.nodes)


def test_a_logout_that_a_failover_undoes_is_told_where_replicas_are_waited_for(
    group: SentinelGroup,
) -> None:
    careless = SessionStore.from_config(url=group.url)
    careful = SessionStore.from_config(url=group.url, wait_replicas=1)
    kept, undone, told, moved = (new_session(careless) for _ in range(4))
    assert careful.destroy(kept)  # so that the others are with the replica, too
    with group.replica.client() as admin:
        admin.replicaof(HOST, free_port())
    assert careless.destroy(undone)
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        careful.destroy(told)
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        rotate(careful, moved)
    group.fail_over()
    after = SessionStore.from_config(url=group.replica.url)
    assert [is_there(after, session_id) for session_id in (kept, undone)] == [0, 1]
    assert all(is_there(after, session_id) for session_id in (told, moved))


def new_session(store: SessionStore) -> str:
    with store.open() as session:
        session["n"] = 1
    return session.id


def rotate(store: SessionStore, session_id: str) -> None:
    with store.open(session_id) as session:
        session.regenerate_id()


def is_there(store: SessionStore, session_id: str) -> bool:
    with store.open(session_id) as session:
        return bool(session)
