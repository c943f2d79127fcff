"""A record that a process knows is read with plain commands, and never read wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
import redis as redis_py
from doubles import CountedRedis, counting_client
from records import META, set_meta
from servers import Cluster, Monitor, Server

from smartredis_wsgi import SessionStore, StoreUnavailable
from smartredis_wsgi import familiar as familiar_module
from smartredis_wsgi.familiar import Familiar, Familiars

PLAIN = ["ECHO", "HGETALL", "PTTL"]
LARGE = "x" * 20_000


class Here:
    """This process: a session that it knows, and the commands of each look at it."""

    def __init__(self, client: CountedRedis, **options: Any) -> None:
        self.client = client
        self.store = SessionStore.from_config(client=client, **options)
        with self.store.open() as session:
            session["user"], session["n"] = "ann", 1
        self.id = session.id
        assert self.read("user") == "ann"

    def read(self, name: str) -> Any:
        """A field as a request finds it; `names` tells of its commands."""
        self.client.trips.reset()
        with self.store.open(self.id) as session:
            found = session.get(name)
        self.names = self.client.trips.names
        self.trips = self.client.trips.count
        return found

    def is_known(self) -> bool:
        """Whether a read is plain: it is repeated for that."""
        self.read("user")
        return self.names == PLAIN


@pytest.fixture
def here(server: Server) -> Any:
    with counting_client(server.url) as client:
        yield Here(client, ttl=1000, touch_every=100)


@pytest.fixture
def elsewhere(server: Server) -> SessionStore:
    """Another process, with the same options."""
    return SessionStore.from_config(url=server.url, ttl=1000, touch_every=100)


@pytest.fixture
def key(here: Here, redis: redis_py.Redis) -> bytes:  # noqa: ARG001
    (key,) = redis.scan_iter(match="session:*")
    return bytes(key)


def test_each_read_after_the_first_is_plain_and_one_round_trip(here: Here) -> None:
    for _ in range(3):
        assert here.read("user") == "ann"
        assert here.names == PLAIN
        assert here.trips == 1


def test_after_a_small_write_of_its_own_it_is_read_plainly_at_once(here: Here) -> None:
    with here.store.open(here.id) as session:
        session["more"] = "x" * 100
    assert here.read("more") == "x" * 100
    assert here.names == PLAIN


def test_it_reads_what_another_process_has_written(
    here: Here, elsewhere: SessionStore
) -> None:
    with elsewhere.open(here.id) as session:
        session["user"], session["more"] = "bob", [1]
    assert here.read("user") == "bob"
    assert here.names == PLAIN
    assert here.read("more") == [1]


def test_what_was_read_so_conflicts_as_ever(
    here: Here, elsewhere: SessionStore
) -> None:
    with here.store.open(here.id) as mine:
        mine["list"] = []
    with here.store.open(here.id) as mine:
        mine["list"].append("mine")
        with elsewhere.open(here.id) as theirs:
            theirs["list"].append("theirs")
    assert here.read("list") == ["theirs", "mine"]


@pytest.mark.parametrize(("left", "is_due"), [(905, False), (895, True), (1, True)])
def test_it_is_prolonged_when_that_is_due(
    here: Here, redis: redis_py.Redis, key: bytes, left: int, is_due: bool
) -> None:
    redis.pexpire(key, left * 1000)
    assert here.read("user") == "ann"
    assert (redis.pttl(key) > 990_000) is is_due
    assert here.trips == 1 + is_due  # once more, by the script
    assert here.is_known()


def test_it_is_not_plain_once_it_must_be_due(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = familiar_module.time.monotonic()
    monkeypatch.setattr(familiar_module.time, "monotonic", lambda: now + 101)
    assert here.read("user") == "ann"
    assert here.names == ["EVALSHA"]


@pytest.mark.parametrize(("before", "ttl"), [(None, 100_000), (200_000, 1_000_000)])
def test_a_ttl_that_another_process_has_set_is_heeded(
    here: Here,
    elsewhere: SessionStore,
    redis: redis_py.Redis,
    key: bytes,
    before: int | None,
    ttl: int,
) -> None:
    if before:
        with here.store.open(here.id) as session:
            session.set_ttl(before)
        here.read("user")
        assert here.is_known()
    with elsewhere.open(here.id) as session:
        session.set_ttl(ttl)
    redis.pexpire(key, ttl * 800)
    assert here.read("user") == "ann"
    assert redis.pttl(key) > ttl * 990


def test_one_that_was_destroyed_expired_or_replaced_is_none(
    here: Here, elsewhere: SessionStore, redis: redis_py.Redis, key: bytes
) -> None:
    elsewhere.destroy(here.id)
    assert here.read("user") is None
    redis.delete(key)
    assert here.read("user") is None
    redis.hset(key, "user", '"mallory"')
    redis.pexpire(key, 1000_000)
    assert here.read("user") is None
    assert redis.hgetall(key) == {b"user": b'"mallory"'}


def test_one_that_was_moved_is_found_only_by_who_has_its_id(
    here: Here, elsewhere: SessionStore
) -> None:
    with elsewhere.open(here.id) as session:
        session.regenerate_id()
    assert here.read("user") is None
    here.id = session.id
    assert here.read("user") == "ann"


@pytest.mark.parametrize("damage", [{"version": b"x"}, {"size": b"-"}])
def test_a_damaged_one_counts_as_empty(
    here: Here, redis: redis_py.Redis, key: bytes, damage: dict[str, bytes]
) -> None:
    set_meta(redis, key, **damage)
    assert here.read("user") is None
    assert redis.hget(key, META) is not None


def test_a_large_field_of_another_process_travels_once_and_no_more(
    here: Here, elsewhere: SessionStore, redis: redis_py.Redis
) -> None:
    with elsewhere.open(here.id) as session:
        session["large"] = LARGE
    sent = []
    for _ in range(3):
        before = redis.info("stats")["total_net_output_bytes"]
        assert here.read("user") == "ann"
        sent.append(redis.info("stats")["total_net_output_bytes"] - before)
    assert sent[0] > len(LARGE)
    assert max(sent[1:]) < len(LARGE) / 2


def test_a_large_field_of_its_own_never_travels(
    here: Here, redis: redis_py.Redis
) -> None:
    with here.store.open(here.id) as session:
        session["large"] = LARGE
    before = redis.info("stats")["total_net_output_bytes"]
    assert here.read("user") == "ann"
    sent = redis.info("stats")["total_net_output_bytes"] - before
    assert sent < len(LARGE) / 2
    assert not here.is_known()


LARGE_PLAIN = ["ECHO", "HMGET", "PTTL"]


@pytest.fixture
def beside_large(here: Here) -> Here:
    """The same, beside a large field, and known."""
    with here.store.open(here.id) as session:
        session["large"] = LARGE
    for _ in range(2):
        assert here.read("user") == "ann"
        assert here.names == ["EVALSHA"]
    return here


def test_a_large_one_that_was_found_unchanged_is_read_plainly(
    beside_large: Here, redis: redis_py.Redis
) -> None:
    for _ in range(2):
        before = redis.info("stats")["total_net_output_bytes"]
        assert beside_large.read("user") == "ann"
        assert redis.info("stats")["total_net_output_bytes"] - before < len(LARGE) / 2
        assert beside_large.names == LARGE_PLAIN
        assert beside_large.trips == 1


def test_what_is_asked_for_is_asked_once(beside_large: Here, server: Server) -> None:
    with Monitor(server) as monitor:
        assert beside_large.read("user") == "ann"
    (asked,) = [line for line in monitor.lines() if '"HMGET"' in line]
    names = asked.split('"HMGET"')[1].split()[1:]
    assert sorted(names) == ['"\\xff"', '"n"', '"user"']


def test_one_that_has_large_fields_only_is_left_where_it_is(
    beside_large: Here, redis: redis_py.Redis
) -> None:
    with beside_large.store.open(beside_large.id) as session:
        del session["user"], session["n"]
    for _ in range(3):
        before = redis.info("stats")["total_net_output_bytes"]
        assert beside_large.read("user") is None
        assert redis.info("stats")["total_net_output_bytes"] - before < len(LARGE) / 2
    assert beside_large.names == LARGE_PLAIN


def test_its_large_fields_are_fetched_as_ever(beside_large: Here) -> None:
    assert beside_large.read("large") == LARGE
    assert beside_large.names == [*LARGE_PLAIN, "EVALSHA"]
    with beside_large.store.open(beside_large.id) as session:
        assert {*session} == {"user", "n", "large"}
        assert session.pop("large") == LARGE
    assert beside_large.read("large") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.update(more=1),
        lambda session: session.pop("n"),
        lambda session: session.update(n="x" * 10_000),
        lambda session: session.update(large="small"),
        lambda session: (session.pop("large"), session.update(other=LARGE)),
    ],
    ids=["adds", "deletes", "grows", "shrinks", "swaps"],
)
def test_what_another_process_has_done_to_a_large_one_is_seen(
    beside_large: Here, elsewhere: SessionStore, change: Any
) -> None:
    with elsewhere.open(beside_large.id) as session:
        change(session)
        after = dict(session)
    with beside_large.store.open(beside_large.id) as session:
        assert dict(session) == after
    with beside_large.store.open(beside_large.id) as session:
        assert dict(session) == after


def test_after_a_write_of_its_own_the_script_is_asked_at_once(
    beside_large: Here,
) -> None:
    with beside_large.store.open(beside_large.id) as session:
        session["more"] = 1
    assert beside_large.read("more") == 1
    assert beside_large.names == ["EVALSHA"]


def test_a_large_one_that_has_ended_is_none(
    beside_large: Here, redis: redis_py.Redis, key: bytes
) -> None:
    redis.delete(key)
    assert beside_large.read("user") is None
    assert beside_large.trips == 2


def test_with_a_lock_the_plain_read_travels_with_it(server: Server) -> None:
    with counting_client(server.url) as client:
        here = Here(client, lock="single")
        assert here.read("user") == "ann"
        assert here.names[:4] == ["EVALSHA", *PLAIN]
        assert here.trips == 2


@pytest.mark.parametrize("lock", ["none", "single"])
def test_an_answer_that_is_anothers_is_refused(server: Server, lock: str) -> None:
    class Deaf(redis_py.Connection):
        is_deaf = False

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            reply = super().read_response(*arguments, **options)
            is_echo = isinstance(reply, bytes)
            return b"another." if is_echo and self.is_deaf else reply

    pool = redis_py.ConnectionPool.from_url(server.url, connection_class=Deaf)
    store = SessionStore.from_config(
        client=redis_py.Redis(connection_pool=pool), lock=lock
    )
    with store.open() as session:
        session["n"] = 1
    for _ in range(2):
        with store.open(session.id) as same:
            assert same["n"] == 1
    Deaf.is_deaf = True
    with pytest.raises(StoreUnavailable), store.open(session.id) as same:
        same["n"]


@pytest.mark.parametrize("forbidden", ["echo", "hgetall", "pttl"])
def test_where_they_are_forbidden_the_script_serves(
    server: Server, redis: redis_py.Redis, forbidden: str
) -> None:
    commands = ["+@all", f"-{forbidden}"]
    redis.acl_setuser("ann", enabled=True, nopass=True, keys=["*"], commands=commands)
    try:
        with counting_client(server.url, username="ann", password="any") as client:
            if forbidden == "echo":  # what is forbidden is so in scripts, too
                here = Here(client)
                assert here.read("user") == "ann"
                assert here.read("user") == "ann"
                assert here.names == ["EVALSHA"]
            else:
                with pytest.raises(StoreUnavailable):
                    Here(client)
    finally:
        redis.acl_deluser("ann")


def test_a_cluster_is_asked_by_the_script_alone(cluster: Cluster) -> None:
    store = SessionStore.from_config(url=cluster.url)
    assert not store._engine.wire.is_plain
    with store.open() as session:
        session["n"] = 1
    for _ in range(2):
        with store.open(session.id) as same:
            assert same["n"] == 1


def test_it_remembers_so_many_and_the_oldest_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(familiar_module, "_MOST", 500)
    familiars = Familiars()
    known = Familiar(b"-", 900_000, math.inf)
    for n in range(1500):
        familiars.note(str(n), known)
        assert familiars.find(str(n)) == known
        assert min(n + 1, 400) <= len(familiars._known) <= 500
    kept = [familiars.find(str(n)) is not None for n in range(1500)]
    assert kept == sorted(kept)  # what went is older than what stayed


def test_of_large_ones_it_remembers_so_many_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(familiar_module, "_MOST", 500)
    familiars = Familiars()
    for n in range(1500):
        for _ in range(2):  # unchanged since it was met
            met = Familiar(b"-", 900_000, math.inf, 1000 + n, (b"a",))
            familiars.note(str(n), met)
        assert familiars.find(str(n)) == met
        assert len(familiars._known) <= 500
        assert len(familiars._met) <= 500
