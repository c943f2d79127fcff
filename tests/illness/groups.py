"""A Sentinel group and Clusters whose masters die, or whose slots move, under load.

The load is the soak's, by threads; what it tells goes into the soak's ledger. But Redis
may lose what it has acknowledged and not replicated. So of what is acknowledged before
a master dies only that counts as done of which its replica has told (``WAIT``).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from redis import Redis, RedisError
from redis.crc import key_slot
from servers import HOST, SLOTS, Cluster, Sentinel, Server, wait_for_link, wait_until
from soak.ledger import Attempt, Event, Ledger, Result, Tally, Wrong
from soak.run import Records
from soak.worker import VERBS, Place, Site, Stint, Worker

from smartredis_wsgi import SessionStore

SECONDS = 60.0
THREADS = 4
STORIES = 8
FAST = ("--repl-diskless-sync-delay", "0")
MARKER = next(
    f"marker {n}" for n in range(99) if key_slot(b"marker %d" % n) in SLOTS[0]
)
"""A key of the first node of a Cluster, the one that dies."""
BEFORE, DURING, AFTER = "before", "during", "after"


class SentinelGroup:
    """A master, its replica, and three Sentinels of which two decide."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self.master = self._open.enter_context(Server("valkey", *FAST))
        self.replica = self._open.enter_context(Server("valkey", *FAST))
        with self.replica.client() as admin:
            admin.replicaof(HOST, self.master.port)
        wait_for_link(self.replica)
        self.sentinels = [
            self._open.enter_context(Sentinel(self.master, quorum=2)) for _ in range(3)
        ]
        for sentinel in self.sentinels:
            wait_until(lambda s=sentinel: _knows_all(s), SECONDS, "a group")  # type: ignore[misc]

    def __enter__(self) -> SentinelGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/mymaster"

    def fail_over(self) -> None:
        """The master dies; returns when its replica has taken its place."""
        self.master.kill()
        wait_until(lambda: is_master(self.replica), SECONDS, "a new master")


def _knows_all(sentinel: Sentinel) -> bool:
    with sentinel.client(decode_responses=True) as admin:
        told: Any = admin.sentinel_master("mymaster")
        return (told["num-slaves"], told["num-other-sentinels"]) == (1, 2)


def is_master(server: Server) -> bool:
    """Whether it says so; while it becomes one it closes connections."""
    with server.client(decode_responses=True) as admin:
        try:
            return str(admin.info("replication")["role"]) == "master"
        except RedisError:
            return False


def fail_over(cluster: Cluster) -> None:
    """The first master dies; returns when its replica has taken its place."""
    cluster.nodes[0].kill()
    heir, others = cluster.replicas[0], cluster.nodes[1:]
    wait_until(lambda: is_master(heir), SECONDS, "a new master")
    for node in (heir, *others):
        with node.client(decode_responses=True) as admin:
            wait_until(lambda admin=admin: _is_well(admin), SECONDS, "the Cluster")  # type: ignore[misc]


def _is_well(admin: Redis) -> bool:
    told: Any = admin.execute_command("CLUSTER INFO")
    return str(told["cluster_state"]) == "ok"


def move_slots(cluster: Cluster) -> int:
    """Move all that lies on the first node to the second; returns how many slots."""
    source, target, other = cluster.nodes
    with (
        source.client(decode_responses=True) as from_,
        target.client(decode_responses=True) as to,
        other.client(decode_responses=True) as third,
    ):
        names = [admin.execute_command("CLUSTER MYID") for admin in (from_, to)]
        keys = from_.scan_iter(match="session:*", count=1000)
        slots = {from_.execute_command("CLUSTER KEYSLOT", key) for key in keys}
        for slot in slots:
            to.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
            from_.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
            while lying := from_.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
                for key in lying:
                    from_.migrate(HOST, target.port, key, 0, 5000)
            for admin in (to, from_, third):
                admin.execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])
    return len(slots)


def sessions_by_node(store: SessionStore, cluster: Cluster) -> dict[int, str]:
    """For each node's port a session of it: ``{"n": 1}``. The Cluster was empty."""
    found: dict[int, str] = {}
    while len(found) < len(cluster.nodes):
        with store.open() as session:
            session["n"] = 1
        for node in cluster.nodes:
            with node.client() as admin:
                if node.port not in found and admin.keys("session:*"):
                    found[node.port] = session.id
    return found


class Load:
    """Threads that send the soak's requests until they are told to end."""

    def __init__(self, url: str, lock: str, client: Any, victim: Server | None) -> None:
        """Make the sessions.

        Args:
            client: Leads to the records.
            victim: The master that is going to die, if its replica is to be asked.
        """
        self._place = Place("ours", lock, "url", url=url)
        self._records, self._victim = Records("ours", client), victim
        self._cookies = {f"{n}": self._records.make() for n in range(STORIES)}
        self._ledger = Ledger(self._cookies)
        self._eras: dict[str, str] = {}
        self._guard, self._over = threading.Lock(), threading.Event()
        self._failures: list[BaseException] = []
        self.era = BEFORE
        self.done = {BEFORE: 0, DURING: 0, AFTER: 0}

    @contextmanager
    def running(self) -> Iterator[Load]:
        threads = [
            threading.Thread(target=self._run, args=(n,)) for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def enter(self, era: str, wanted: int) -> None:
        """From now on it is another era; returns when so much of it is done."""
        self.era = era
        enough: Callable[[], bool] = lambda: (  # noqa: E731
            bool(self._failures) or self.done[era] >= wanted
        )
        wait_until(enough, SECONDS, f"{wanted} requests {era}")

    def look_by(self, client: Any) -> None:
        """The records are there now."""
        self._records = Records("ours", client)

    def judge(self) -> Tally:
        return self._ledger.judge(self._records.look)

    def _run(self, number: int) -> None:
        owned = frozenset(n for n in self._cookies if int(n) % THREADS == number)
        stint = Stint(self._place, self._cookies, owned, 0, 0.0, f"{number}")
        # Who rotated and lost that could not tell which id to destroy.
        verbs = {**VERBS, ("destroy" if number % 2 else "rotate"): 0}
        with_markers = (  # WAIT is for what went by the same connection
            self._victim.client(single_connection_client=True) if self._victim else None
        )
        worker = Worker(
            Site(self._place), stint, lambda e: self._hear(e, with_markers), verbs
        )
        try:
            for turn in itertools.count():
                if self._over.is_set():
                    return
                worker.visit(f"{number}.{turn}")
        except BaseException as failure:
            self._failures.append(failure)

    def _hear(self, event: Event, with_markers: Redis | None) -> None:
        if isinstance(event, Wrong):
            return  # what Redis has lost may seem so: the ledger knows better
        if isinstance(event, Attempt):
            self._eras[event.token] = self.era
        if isinstance(event, Result) and event.is_done:
            era = self._eras.get(event.token, DURING)
            if with_markers and not (era == AFTER or self._is_kept(with_markers)):
                return
            self.done[era] += 1
        with self._guard:
            self._ledger.tell(event)

    def _is_kept(self, admin: Redis) -> bool:
        """Whether all that was done before this is with the replica, too."""
        try:
            admin.set(MARKER, 1)
            return bool(admin.wait(1, 1000))
        except RedisError:
            return False
