"""A session gets another id while requests with the old one are under way.

The slow one loads under the old id and is paused inside the application; another
request is served from its first to its last byte; the slow one goes on.
"""

# ruff: noqa: PT012, SIM117 - a block is what commits, so it is a block that raises

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py
from apps import Shape, a_late_generator, a_list, a_write
from conftest import Backend
from doubles import CountedRedis, counting_client
from redis.cluster import RedisCluster
from servers import Cluster, Server
from test_middleware import Served, checked, serve

from smartredis_wsgi import (
    LockLost,
    LockTimeout,
    Session,
    SessionGone,
    SessionStore,
)

Act = Callable[[Session], object]


def sessions(client: Any, **options: Any) -> SessionStore:
    return SessionStore.from_config(client=client, **options)


def stored(store: SessionStore, **fields: Any) -> str:
    """The id of a new session that holds the fields."""
    with store.open() as session:
        session.update(fields)
    return session.id


def fields_of(store: SessionStore, session_id: str) -> dict[str, Any]:
    with store.open(session_id) as session:
        return dict(session)


def rotated(store: SessionStore, session_id: str, **fields: Any) -> str:
    """The session's new id; the fields are set in the same commit."""
    with store.open(session_id) as session:
        session.update(fields)
        session.regenerate_id()
    return session.id


def living(client: Any) -> list[bytes]:
    """The keys of all records that are alive."""
    return [key for key in client.keys("session:*") if client.type(key) == b"hash"]


def tombstones(client: Any) -> dict[bytes, bytes]:
    keys = client.keys("session:*")
    return {key: client.get(key) for key in keys if client.type(key) == b"string"}


def end_grace(client: Any) -> None:
    """Let the grace of all rotations be over: their till was a moment ago."""
    seconds, micro = client.time()
    now_ms = seconds * 1000 + micro // 1000
    for key, mark in tombstones(client).items():
        word, till, to = mark.split(b" ", 2)
        assert now_ms < int(till)
        client.set(key, b"%b %d %b" % (word, now_ms - 1, to), keepttl=True)


class Site:
    """An application of several requests, and the answers to them, by their order."""

    def __init__(self, client: Any, shape: Shape = a_list, **options: Any) -> None:
        self.client, self.shape = client, shape
        self.options = {"client": client, **options}
        self.store = SessionStore.from_config(self.options)

    def visit(self, session_id: str | None, act: Act) -> Served:
        """Serve one request that does so."""
        return serve(checked(self.shape(act), **self.options), session_id)

    def log_in(self, session_id: str) -> str:
        """Serve a request that logs in; the new id."""

        def act(session: Session) -> None:
            session["user"] = "ann"
            session.regenerate_id()

        new_id = self.visit(session_id, act).new_cookie
        assert new_id
        assert new_id != session_id
        return new_id


def looks(session: Session) -> None:
    dict(session)


def sets(session: Session) -> None:
    session["seen"] = 1


def appends(session: Session) -> None:
    session["cart"].append("tea")


def adds(session: Session) -> None:
    session.incr("n", 5)


def deletes(session: Session) -> None:
    del session["junk"]


def prolongs(session: Session) -> None:
    session.set_ttl(5000)


def rotates(session: Session) -> None:
    session.regenerate_id()
    session["seen"] = 1


def saves(session: Session) -> None:
    session["seen"] = 0
    session.save()
    session["seen"] = 1


START: dict[str, Any] = {"cart": ["cup"], "n": 1, "junk": 0}
SLOW: dict[str, tuple[Act, dict[str, Any]]] = {  # and what it makes of the start
    "looks": (looks, START),
    "sets": (sets, {**START, "seen": 1}),
    "appends": (appends, {**START, "cart": ["cup", "tea"]}),
    "adds": (adds, {**START, "n": 6}),
    "deletes": (deletes, {"cart": ["cup"], "n": 1}),
    "prolongs": (prolongs, START),
    "rotates": (rotates, {**START, "seen": 1}),
    "saves": (saves, {**START, "seen": 1}),
}


# -- a slow writer -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [a_list, a_late_generator, a_write])
@pytest.mark.parametrize("name", SLOW)
def test_a_slow_request_and_a_login_leave_one_session_with_both_changes(
    redis: redis_py.Redis, shape: Shape, name: str
) -> None:
    site = Site(redis, shape)
    old_id = stored(site.store, **START)
    new_ids: list[str] = []
    act, made = SLOW[name]

    def slow(session: Session) -> None:
        assert dict(session) == START
        new_ids.append(site.log_in(old_id))
        act(session)

    served = site.visit(old_id, slow)
    assert served.status == "200 OK"
    assert served.all("Set-Cookie") == []
    assert len(living(redis)) == 1
    assert fields_of(site.store, new_ids[0]) == {**made, "user": "ann"}
    assert fields_of(site.store, old_id) == {}
    assert redis.dbsize() == 2


def test_a_slow_request_s_changes_are_carried_over_on_every_server(
    backend: Backend,
) -> None:
    site = Site(backend.client)
    old_id = stored(site.store, n=1, cart=["cup"])
    new_ids: list[str] = []

    def slow(session: Session) -> None:
        assert session["n"] == 1
        new_ids.append(site.log_in(old_id))
        session["seen"] = 1
        session.incr("n")

    assert site.visit(old_id, slow).all("Set-Cookie") == []
    after = {"n": 2, "cart": ["cup"], "seen": 1, "user": "ann"}
    assert fields_of(site.store, new_ids[0]) == after
    assert len(living(backend.client)) == 1


def test_what_both_changed_is_merged_over_the_rotation(redis: redis_py.Redis) -> None:
    site = Site(redis)
    old_id = stored(site.store, cart=["cup"], menu={"a": 1})
    new_ids: list[str] = []

    def fast(session: Session) -> None:
        session["cart"].append("milk")
        session["menu"]["b"] = 2
        session.regenerate_id()

    def slow(session: Session) -> None:
        session["cart"].append("tea")
        session["menu"]["c"] = 3
        new_ids.append(site.visit(old_id, fast).new_cookie or "")

    assert site.visit(old_id, slow).all("Set-Cookie") == []
    after = {"cart": ["cup", "milk", "tea"], "menu": {"a": 1, "b": 2, "c": 3}}
    assert fields_of(site.store, new_ids[0]) == after


@pytest.mark.parametrize("name", SLOW)
def test_a_rolling_cookie_of_a_slow_request_is_not_sent(
    redis: redis_py.Redis, name: str
) -> None:
    site = Site(redis, cookie_max_age=3600)
    old_id = stored(site.store, **START)
    (key,) = living(redis)
    act, _ = SLOW[name]
    redis.pexpire(key, 60_000)
    assert site.visit(old_id, looks).new_cookie == old_id, "it does not roll"
    redis.pexpire(key, 60_000)

    def slow(session: Session) -> None:
        dict(session)
        site.log_in(old_id)
        act(session)

    assert site.visit(old_id, slow).all("Set-Cookie") == []


def test_a_slow_reader_sets_no_cookie_of_its_own(redis: redis_py.Redis) -> None:
    site = Site(redis)
    old_id = stored(site.store, **START)

    def slow(session: Session) -> None:
        dict(session)
        site.log_in(old_id)
        session.reload()
        assert session["user"] == "ann"

    assert site.visit(old_id, slow).all("Set-Cookie") == []


def test_a_slow_request_is_carried_over_at_the_cost_of_one_round_trip(
    server: Server,
) -> None:
    with counting_client(server.url) as client:
        assert isinstance(client, CountedRedis)
        store = sessions(client)
        old_id = stored(store, **START)
        with store.open(old_id) as slow:
            assert slow["n"] == 1
            rotated(store, old_id)
            slow["seen"] = 1
            client.trips.reset()
        assert client.trips.count == 2


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_slow_request_is_carried_over_along_several_rotations(
    redis: redis_py.Redis, times: int
) -> None:
    site = Site(redis)
    old_id = stored(site.store, **START)
    ids = [old_id]

    def slow(session: Session) -> None:
        session["cart"].append("tea")
        for _ in range(times):
            ids.append(site.log_in(ids[-1]))
        session.incr("n")

    assert site.visit(old_id, slow).all("Set-Cookie") == []
    after = {**START, "cart": ["cup", "tea"], "n": 2, "user": "ann"}
    assert fields_of(site.store, ids[-1]) == after
    assert [fields_of(site.store, dead) for dead in ids[:-1]] == [{}] * times
    assert len(living(redis)) == 1


def test_a_slow_request_is_carried_over_again_after_its_save(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    old_id = stored(store, **START)
    with store.open(old_id) as slow:
        assert slow["n"] == 1
        second = rotated(store, old_id)
        slow["a"] = 1
        slow.save()
        third = rotated(store, second)
        slow["b"] = 2
        slow.regenerate_id()
        slow.save()
        slow["c"] = 3
    assert fields_of(store, third) == {**START, "a": 1, "b": 2, "c": 3}
    assert slow._life.stored_id is None
    assert fields_of(store, old_id) == fields_of(store, second) == {}
    assert len(living(redis)) == 1


def test_what_was_saved_blindly_is_known_enough_to_be_carried_over(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    old_id = stored(store, **START)
    with store.open(old_id) as slow:
        slow["a"] = 1
        slow.save()
        new_id = rotated(store, old_id)
        slow.incr("n")
    assert fields_of(store, new_id) == {**START, "a": 1, "n": 2}


def test_a_slow_request_that_fails_carries_nothing_over(redis: redis_py.Redis) -> None:
    site = Site(redis)
    old_id = stored(site.store, **START)
    new_ids: list[str] = []

    def slow(session: Session) -> None:
        session["cart"].append("tea")
        new_ids.append(site.log_in(old_id))

    app = checked(a_list(slow, "500 Internal Server Error"), client=redis)
    assert serve(app, old_id).all("Set-Cookie") == []
    assert fields_of(site.store, new_ids[0]) == {**START, "user": "ann"}


def test_of_two_loaded_rotations_the_second_is_dropped_and_its_changes_are_kept(
    redis: redis_py.Redis,
) -> None:
    site = Site(redis)
    old_id = stored(site.store, **START)
    new_ids: list[str] = []
    unused: list[str] = []

    def slow(session: Session) -> None:
        session["cart"].append("tea")
        session.regenerate_id()
        unused.append(session.id)
        new_ids.append(site.log_in(old_id))

    assert site.visit(old_id, slow).all("Set-Cookie") == []
    after = {**START, "cart": ["cup", "tea"], "user": "ann"}
    assert fields_of(site.store, new_ids[0]) == after
    assert fields_of(site.store, unused[0]) == fields_of(site.store, old_id) == {}
    assert len(living(redis)) == 1


# -- destroy -------------------------------------------------------------------------


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_destroy_by_a_slow_request_destroys_the_rotated_session(
    backend: Backend, is_loaded: bool
) -> None:
    client = backend.client
    site = Site(client)
    old_id = stored(site.store, **START)
    new_ids: list[str] = []

    def slow(session: Session) -> None:
        if is_loaded:
            assert dict(session) == START
        new_ids.append(site.log_in(old_id))
        new_ids.append(site.log_in(new_ids[0]))
        session.destroy()

    assert site.visit(old_id, slow).expires_cookie
    assert living(client) == []
    assert [fields_of(site.store, known) for known in (old_id, *new_ids)] == [{}] * 3
    assert sorted(tombstones(client).values())[0] == b"destroyed"


def test_the_store_destroys_by_an_old_id_too(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    old_id = stored(store, **START)
    new_id = rotated(store, rotated(store, old_id))
    assert store.destroy(old_id) is True
    assert living(redis) == []
    assert fields_of(store, new_id) == {}


def test_what_a_slow_request_writes_after_its_destroy_is_a_new_session(
    redis: redis_py.Redis,
) -> None:
    site = Site(redis)
    old_id = stored(site.store, **START)
    new_ids: list[str] = []

    def slow(session: Session) -> None:
        assert session["n"] == 1
        new_ids.append(site.log_in(old_id))
        session.destroy()
        session["fresh"] = 1

    cookie = site.visit(old_id, slow).new_cookie
    assert cookie not in (None, "", old_id, *new_ids)
    assert fields_of(site.store, cookie or "") == {"fresh": 1}
    assert fields_of(site.store, new_ids[0]) == {}


def test_a_rotated_session_that_was_destroyed_is_not_brought_back(
    redis: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for act, _ in SLOW.values():
        redis.flushall()
        caplog.clear()
        store = sessions(redis)
        old_id = stored(store, **START)
        with store.open(old_id) as slow:
            assert slow["n"] == 1
            assert store.destroy(rotated(store, old_id))
            before = tombstones(redis)
            act(slow)
        assert tombstones(redis) == before
        assert living(redis) == []
        assert ("is gone" in caplog.text) is (act is not looks)


# -- the old id ----------------------------------------------------------------------


def test_the_old_id_is_dead_for_new_requests(redis: redis_py.Redis) -> None:
    site = Site(redis)
    old_id = stored(site.store, **START)
    new_id = site.log_in(old_id)
    seen: list[dict[str, Any]] = []

    def look(session: Session) -> None:
        seen.append(dict(session))

    def look_and_write(session: Session) -> None:
        look(session)
        session["b"] = 2

    for act in (look, look_and_write, sets, adds, rotates, prolongs):
        assert site.visit(old_id, act).all("Set-Cookie") == [], act
    assert seen == [{}, {}]
    assert fields_of(site.store, new_id) == {**START, "user": "ann"}
    assert redis.dbsize() == 2


@pytest.mark.parametrize("act", [sets, adds, rotates, prolongs])
@pytest.mark.parametrize("is_blind", [True, False])
def test_a_new_request_with_the_old_id_raises_at_its_commit_where_asked(
    redis: redis_py.Redis, act: Act, is_blind: bool
) -> None:
    store = sessions(redis, on_gone="raise")
    old_id = stored(store, **START)
    new_id = rotated(store, old_id)
    with pytest.raises(SessionGone):
        with store.open(old_id) as session:
            if not is_blind:
                assert dict(session) == {}
            act(session)
    assert fields_of(store, new_id) == START
    assert redis.dbsize() == 2


# -- the grace -----------------------------------------------------------------------


def test_the_old_id_reads_and_writes_through_in_the_grace_and_gets_no_cookie(
    backend: Backend,
) -> None:
    client = backend.client
    site = Site(client, rotate_grace=60, cookie_max_age=3600)
    old_id = stored(site.store, **START)
    new_id = site.log_in(old_id)
    client.pexpire(living(client)[0], 60_000)
    seen: list[dict[str, Any]] = []

    def work(session: Session) -> None:
        seen.append(dict(session))
        session["late"] = len(seen)
        session.incr("n")

    for _ in range(2):
        served = site.visit(old_id, work)
        assert served.status == "200 OK"
        assert served.all("Set-Cookie") == []
    first = {**START, "user": "ann"}
    assert seen == [first, {**first, "late": 1, "n": 2}]
    assert fields_of(site.store, new_id) == {**first, "late": 2, "n": 3}
    end_grace(client)
    assert site.visit(old_id, work).all("Set-Cookie") == []
    assert seen[2] == {}
    assert fields_of(site.store, new_id) == {**first, "late": 2, "n": 3}
    assert len(living(client)) == 1


@pytest.mark.parametrize("act", [sets, adds, prolongs])
def test_a_blind_write_goes_through_in_the_grace(
    redis: redis_py.Redis, act: Act
) -> None:
    site = Site(redis, rotate_grace=60)
    old_id = stored(site.store, n=1)
    new_id = site.log_in(old_id)
    assert site.visit(old_id, act).all("Set-Cookie") == []
    after = {sets: {"seen": 1}, adds: {"n": 6}, prolongs: {}}[act]
    assert fields_of(site.store, new_id) == {"n": 1, "user": "ann", **after}


@pytest.mark.parametrize("act", [sets, adds, prolongs])
def test_a_blind_write_after_the_grace_is_dropped(
    redis: redis_py.Redis, act: Act
) -> None:
    site = Site(redis, rotate_grace=60)
    old_id = stored(site.store, n=1)
    new_id = site.log_in(old_id)
    end_grace(redis)
    assert site.visit(old_id, act).all("Set-Cookie") == []
    assert fields_of(site.store, new_id) == {"n": 1, "user": "ann"}
    assert max(map(redis.pttl, living(redis))) <= 1_800_000


def test_a_request_that_loaded_in_the_grace_is_carried_over_after_it(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, rotate_grace=60)
    old_id = stored(store, **START)
    second = rotated(store, old_id)
    with store.open(old_id) as slow:
        assert slow["n"] == 1
        end_grace(redis)
        third = rotated(store, second)
        slow["seen"] = 1
    assert fields_of(store, third) == {**START, "seen": 1}


def test_a_grace_reaches_along_several_rotations_until_one_of_them_ends(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, rotate_grace=60)
    first = stored(store, **START)
    second = rotated(store, first)
    third = rotated(store, second)
    assert fields_of(store, first) == fields_of(store, second) == START
    end_grace(redis)
    assert fields_of(store, first) == fields_of(store, second) == {}
    assert fields_of(store, third) == START


def test_a_rotation_asked_for_in_the_grace_is_not_made(redis: redis_py.Redis) -> None:
    site = Site(redis, rotate_grace=60)
    old_id = stored(site.store, **START)
    new_id = site.log_in(old_id)

    def act(session: Session) -> None:
        assert session["user"] == "ann"
        rotates(session)

    assert site.visit(old_id, act).all("Set-Cookie") == []
    assert fields_of(site.store, new_id) == {**START, "user": "ann", "seen": 1}
    assert redis.dbsize() == 2


@pytest.mark.parametrize("end", ["destroyed", "expired"])
def test_a_session_that_ended_in_the_grace_is_not_read_by_its_old_id(
    redis: redis_py.Redis, end: str
) -> None:
    store = sessions(redis, rotate_grace=60)
    old_id = stored(store, **START)
    new_id = rotated(store, old_id)
    if end == "destroyed":
        assert store.destroy(new_id)
    else:
        redis.delete(*living(redis))
    with store.open(old_id) as session:
        assert dict(session) == {}
        session["fresh"] = 1
    assert session.id not in (old_id, new_id)
    assert fields_of(store, session.id) == {"fresh": 1}
    assert fields_of(store, new_id) == fields_of(store, old_id) == {}


@pytest.mark.parametrize(("grace", "end"), [(0, 5), (3, 5), (90, 90)])
def test_a_rotation_s_tombstone_lives_for_the_grace_and_for_those_on_the_way(
    redis: redis_py.Redis, grace: float, end: float
) -> None:
    store = sessions(redis, rotate_grace=grace)
    rotated(store, stored(store, **START))
    (key,) = tombstones(redis)
    assert (end - 2) * 1000 < redis.pttl(key) <= end * 1000


def test_a_rotation_s_tombstone_lives_no_longer_than_is_asked_for(
    server: Server,
) -> None:
    with counting_client(server.url) as client:
        store = sessions(client, delete_expiry="500ms")
        session_id = stored(store, **START)
        client.trips.reset()
        rotated(store, session_id)
    words = [word for command in client.trips.commands for word in command]
    assert b"500" in words


# -- cluster -------------------------------------------------------------------------


def test_rotation_in_a_cluster_carries_over_destroys_and_has_its_grace(
    cluster: Cluster,
) -> None:
    with RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as client:
        store = sessions(client)
        kind = sessions(client, rotate_grace=60)
        for number in range(8):
            old_id = stored(store, number=number, cart=[])
            with store.open(old_id) as slow:
                slow["cart"].append("slow")
                second = rotated(store, old_id, fast=1)
                third = rotated(store, second)
            after = {"number": number, "cart": ["slow"], "fast": 1}
            assert fields_of(store, third) == after
            assert fields_of(store, old_id) == fields_of(store, second) == {}
            fourth = rotated(kind, third)
            with store.open(third) as late:
                assert dict(late) == after
                late["cart"].append("late")
            assert fields_of(store, fourth) == {**after, "cart": ["slow", "late"]}
            assert store.destroy(old_id)
            assert fields_of(store, fourth) == fields_of(store, third) == {}


# -- locks ---------------------------------------------------------------------------


def test_a_session_s_lock_is_the_same_before_and_after_a_rotation(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, lock="single", lock_wait="20ms")
    old_id = stored(store, **START)
    with store.open(old_id) as session:
        assert session["n"] == 1
        session.regenerate_id()
        session["a"] = 1
        session.save()
        new_id = session.id
        assert store.lock_name(old_id) == store.lock_name(new_id)
        assert redis.keys("lock:*") == [f"lock:{store.lock_name(old_id)}".encode()]
        with pytest.raises(LockTimeout):
            with store.open(new_id) as other:
                other.get("n")
        session["b"] = 2
    assert redis.keys("lock:*") == []
    assert fields_of(store, new_id) == {**START, "a": 1, "b": 2}


def test_who_waits_with_the_old_id_is_excluded_and_then_finds_it_dead(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, lock="single", lock_wait="20ms")
    old_id = stored(store, **START)
    with store.open(old_id) as session:
        session["n"] = 2
        session.regenerate_id()
        with pytest.raises(LockTimeout):
            with store.open(old_id) as other:
                other.get("n")
    assert fields_of(store, old_id) == {}
    assert fields_of(store, session.id) == {**START, "n": 2}
    assert redis.keys("lock:*") == []


def test_a_rotation_by_one_without_the_lock_is_noticed_by_who_has_it(
    redis: redis_py.Redis,
) -> None:
    locked, free = sessions(redis, lock="single"), sessions(redis)
    old_id = stored(free, **START)
    with pytest.raises(LockLost), locked.open(old_id) as slow:
        slow["cart"].append("tea")
        new_id = rotated(free, old_id, fast=1)
    assert fields_of(free, new_id) == {"fast": 1, **START}
    assert redis.keys("lock:*") == []


@pytest.mark.parametrize("scope", ["commit", "manual"])
def test_a_rotation_by_another_carries_over_who_has_no_lock(
    redis: redis_py.Redis, scope: str
) -> None:
    locked = sessions(redis, lock="single", lock_scope=scope)
    free = sessions(redis)
    old_id = stored(free, **START)
    with locked.open(old_id) as slow:
        slow["cart"].append("tea")
        new_id = rotated(free, old_id, fast=1)
        slow.incr("n")
    assert fields_of(free, new_id) == {
        "fast": 1,
        **START,
        "cart": ["cup", "tea"],
        "n": 2,
    }
    assert redis.keys("lock:*") == []


def test_a_reader_who_looks_again_for_its_rolling_cookie_waits_for_no_lock(
    redis: redis_py.Redis,
) -> None:
    options = {"lock_scope": "manual", "lock_wait": "20ms", "touch_every": 0}
    store = sessions(redis, lock="single", cookie_max_age=3600, **options)
    session_id = stored(store, **START)
    with store.open(session_id) as holder, holder.lock():
        redis.pexpire(living(redis)[0], 60_000)
        assert fields_of(store, session_id) == START


class Strict:
    """A strategy of a user's own: whoever acquires what is held, has made a mistake."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.acquired = 0

    def acquire(self, key: str) -> StrictLease:
        if key in self.held:
            raise LockTimeout("this waits for itself")
        self.acquired += 1
        self.held.add(key)
        return StrictLease(self, key)


class StrictLease:
    def __init__(self, lock: Strict, key: str) -> None:
        self._lock, self._key = lock, key
        self.deadline = time.monotonic() + 60

    def release(self) -> None:
        self._lock.held.remove(self._key)

    def extend(self) -> None:
        self.deadline = time.monotonic() + 60


@pytest.fixture(params=["none", "single", "redlock", "strict"])
def locking(request: pytest.FixtureRequest, redis: redis_py.Redis) -> SessionStore:
    """A store whose sessions are locked by ``session.lock()``, in each way."""
    options: dict[str, Any] = {"lock": request.param}
    if request.param == "strict":
        options["lock"] = Strict()
    elif request.param == "redlock":
        masters: list[Server] = request.getfixturevalue("masters")
        options["lock_nodes"] = [master.url for master in masters[:3]]
    return sessions(redis, lock_scope="manual", lock_wait=0.2, **options)


@pytest.mark.parametrize("times", [1, 3])
def test_a_lock_block_after_anothers_rotation_has_the_rotated_session(
    locking: SessionStore, redis: redis_py.Redis, times: int
) -> None:
    old_id = new_id = stored(locking, **START)
    with locking.open(old_id) as slow:
        slow["cart"].append("tea")
        for _ in range(times):
            new_id = rotated(locking, new_id, user="ann")
        with slow.lock():
            assert dict(slow) == {**START, "cart": ["cup", "tea"], "user": "ann"}
            slow["n"] += 1
        slow["after"] = 1
    after = {"cart": ["cup", "tea"], "n": 2, "junk": 0, "user": "ann", "after": 1}
    assert fields_of(locking, new_id) == after
    assert slow._life.stored_id is None
    assert redis.keys("lock:*") == []


def test_a_lock_block_with_nothing_pending_follows_a_rotation(
    locking: SessionStore, redis: redis_py.Redis
) -> None:
    old_id = stored(locking, **START)
    with locking.open(old_id) as slow:
        assert slow["n"] == 1
        new_id = rotated(locking, old_id, n=5)
        with slow.lock():
            assert slow["n"] == 5
            slow["n"] += 1
    assert fields_of(locking, new_id) == {**START, "n": 6}
    assert redis.keys("lock:*") == []


def test_a_lock_block_is_free_again_after_it_followed_a_rotation(
    locking: SessionStore,
) -> None:
    old_id = stored(locking, **START)
    with locking.open(old_id) as slow:
        assert slow["n"] == 1
        new_id = rotated(locking, old_id)
        with slow.lock():
            slow["n"] += 1
        with locking.open(new_id) as other, other.lock():
            other["n"] += 1
    assert fields_of(locking, new_id) == {**START, "n": 3}
