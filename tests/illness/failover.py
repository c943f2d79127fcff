"""Masters that die, and slots that move, under load: ``python -m illness.failover``.

Requests run before it, meanwhile and after it, by threads (`groups.py`). The control is
a master that dies with what its replica was kept from; that counts all the same. The
exit status is 1 if something was wrong, or the control lost nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from redis import RedisCluster
from servers import HOST, Cluster, Server, assert_sessions_expire, free_port
from soak.ledger import Tally

from .groups import (
    AFTER,
    BEFORE,
    DURING,
    FAST,
    Load,
    SentinelGroup,
    fail_over,
    move_slots,
)

COUNT = 1000
TIMES = 3


def by_sentinel(count: int) -> Tally:
    """The master of a Sentinel group dies."""
    with (
        SentinelGroup() as group,
        group.master.client() as before,
        group.replica.client() as after,
    ):
        load = Load(group.url, "none", before, group.master)
        with load.running():
            load.enter(BEFORE, count)
            load.enter(DURING, 0)
            group.fail_over()
            load.enter(AFTER, count)
        load.look_by(after)
        return _judged(load, group.replica)


def in_cluster(count: int) -> Tally:
    """A master of a Cluster dies."""
    options = (*FAST, "--cluster-node-timeout", "1000")
    with (
        Cluster("valkey", *options, has_replicas=True) as cluster,
        RedisCluster(host=HOST, port=cluster.nodes[1].port) as client,
    ):
        load = Load(cluster.url, "none", client, cluster.nodes[0])
        with load.running():
            load.enter(BEFORE, count)
            load.enter(DURING, 0)
            fail_over(cluster)
            load.enter(AFTER, count)
        return _judged(load, cluster.replicas[0], *cluster.nodes[1:])


def by_moving(lock: str, count: int) -> Tally:
    """All sessions of a Cluster's node move to another."""
    with (
        Cluster("valkey") as cluster,
        RedisCluster(host=HOST, port=cluster.nodes[1].port) as client,
    ):
        load = Load(cluster.url, lock, client, None)
        with load.running():
            load.enter(BEFORE, count)
            load.enter(DURING, 0)
            assert move_slots(cluster)
            load.enter(AFTER, count)
        return _judged(load, *cluster.nodes)


def without_replica(count: int) -> Tally:
    """The control: the master dies with what nobody else has."""
    with (
        SentinelGroup() as group,
        group.master.client() as before,
        group.replica.client() as after,
    ):
        load = Load(group.url, "none", before, None)
        with load.running():
            load.enter(BEFORE, count)
            after.replicaof(HOST, free_port())
            load.enter(DURING, count)
            group.fail_over()
            load.enter(AFTER, 1)
        load.look_by(after)
        return load.judge()


def _judged(load: Load, *servers: Server) -> Tally:
    tally = load.judge()
    for server in servers:
        with server.client() as admin:
            assert_sessions_expire(admin)
    return tally


SCENES: dict[str, Callable[[int], Tally]] = {
    "Sentinel": by_sentinel,
    "Cluster": in_cluster,
    "slots move": partial(by_moving, "none"),
    "slots move, lock": partial(by_moving, "single"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="failover", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="before, and after")
    parser.add_argument("--times", type=int, default=TIMES)
    options = parser.parse_args()
    print("                  times  requests    acked  unknown   lost  twice   back")
    totals = {}
    for name, scene in {**SCENES, "control": without_replica}.items():
        total = totals[name] = Tally()
        for _ in range(options.times):
            total.add(scene(options.count))
        line = "{:<17} {:>5} {:>9,} {:>8,} {:>8,} {:>6,} {:>6,} {:>6,}"
        seen = total.rounds, total.requests, total.acked, total.unknown
        wrong = total.lost, total.twice, total.back
        print(line.format(name, *seen, *wrong), flush=True)
    control = totals.pop("control")
    fine = control.lost and not any(total.violations for total in totals.values())
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
