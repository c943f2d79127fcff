"""Whose a session is: bind, list, log out everywhere, and what lies in Redis for it."""

# ruff: noqa: PT012 - a block is what commits, so it is a block that raises

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

import pytest
import redis as redis_py
from conftest import Backend
from doubles import FlakyProxy, counting_client
from records import meta_of, set_meta
from redis.cluster import RedisCluster
from servers import Cluster, Monitor, Server

from smartredis_wsgi import (
    OwnedSession,
    SessionGone,
    SessionStore,
    SessionTooLarge,
    SmartRedisError,
    StoreUnavailable,
    TooManySessions,
)
from smartredis_wsgi.belonging import Belonging
from smartredis_wsgi.events import Event
from smartredis_wsgi.ids import Address
from smartredis_wsgi.owners import Owners, Wish, digest_of
from smartredis_wsgi.store import Records


def sessions(client: Any, **options: Any) -> SessionStore:
    return SessionStore.from_config(client=client, **options)


def bound(store: SessionStore, owner: str = "ann", note: str | None = None) -> str:
    """The id of a new session of the owner."""
    with store.open() as session:
        session["of"] = "us"
        session.bind(owner, note)
    return session.id


def rotated(store: SessionStore, session_id: str) -> str:
    with store.open(session_id) as session:
        session.regenerate_id()
    return session.id


def is_alive(store: SessionStore, session_id: str) -> bool:
    with store.open(session_id) as session:
        return "of" in session


def handle_of(session_id: str) -> str:
    return Address.of(session_id).record[-64:][:12]


def key_of(session_id: str) -> str:
    return f"session:{Address.of(session_id).record}"


def index_of(owner: str = "ann") -> str:
    return f"session:owner:{digest_of(owner)}"


def handles(store: SessionStore, owner: str = "ann") -> set[str]:
    return {session.handle for session in store.sessions_of(owner)}


def once_before(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Any
) -> None:
    """Let something happen before the next call of a method."""
    real = getattr(owner, name)

    def late(*args: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        act()
        return real(*args, **named)

    monkeypatch.setattr(owner, name, late)


def bind_to(store: SessionStore, session_id: str, owner: str) -> None:
    with store.open(session_id) as session:
        session.bind(owner)


def test_the_sessions_of_an_owner_are_told(backend: Backend) -> None:
    store = sessions(**backend.options)
    first, second = bound(store, note="Firefox on Linux"), bound(store)
    bound(store, "bob")
    told = {session.handle: session for session in store.sessions_of("ann")}
    assert told.keys() == {handle_of(first), handle_of(second)}
    one = told[handle_of(first)]
    assert isinstance(one, OwnedSession)
    assert (one.note, told[handle_of(second)].note) == ("Firefox on Linux", "")
    seconds, _ = backend.client.time()
    assert seconds - 60 < one.created <= one.last_used < seconds + 2
    assert store.sessions_of("carl") == []


def test_the_session_that_was_used_last_is_told_first(redis: redis_py.Redis) -> None:
    store = sessions(redis, touch_every=0)
    ids = [bound(store) for _ in range(5)]
    assert is_alive(store, ids[2])
    used = [session.last_used for session in store.sessions_of("ann")]
    assert used == sorted(used, reverse=True)
    assert used[0] > used[-1]


def test_a_listener_hears_of_each_session_that_was_destroyed(
    redis: redis_py.Redis,
) -> None:
    told: list[Event] = []
    store = sessions(redis, on_event=told.append)
    ids = [bound(store) for _ in range(2)]
    told.clear()
    assert store.destroy_owner("ann") == 2
    assert {event.name for event in told} == {"destroyed"}
    assert sorted(event.handle for event in told) == sorted(
        handle_of(i)[:8] for i in ids
    )


def test_all_sessions_of_an_owner_are_destroyed(backend: Backend) -> None:
    store = sessions(**backend.options)
    mine = [bound(store) for _ in range(3)]
    mine[0] = rotated(store, mine[0])
    other = bound(store, "bob")
    assert store.destroy_owner("ann") == 3
    assert [is_alive(store, i) for i in [*mine, other]] == [False] * 3 + [True]
    assert store.sessions_of("ann") == []
    assert not backend.client.exists(index_of())
    assert store.destroy_owner("ann") == 0


def test_one_session_can_be_kept(backend: Backend) -> None:
    store = sessions(**backend.options)
    kept, other = bound(store), bound(store)
    with store.open(kept) as session:
        assert store.destroy_owner("ann", keep=session) == 1
        session["still"] = "here"
    assert is_alive(store, kept)
    assert not is_alive(store, other)
    assert handles(store) == {handle_of(kept)}


def test_what_bears_no_more_than_the_label_of_another_id_keeps_nothing(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    stolen = bound(store)
    with store.open(stolen[:16] + "x" * 43) as forged:
        assert store.destroy_owner("ann", keep=forged) == 1
    assert not is_alive(store, stolen)


@pytest.mark.parametrize("rotator", ["itself", "another"])
def test_the_kept_one_may_be_rotated_meanwhile(
    redis: redis_py.Redis, rotator: str
) -> None:
    store = sessions(redis)
    kept = bound(store)
    with store.open(kept) as session:
        assert session["of"] == "us"
        if rotator == "itself":
            session.regenerate_id()
        else:
            new = rotated(store, kept)
        assert store.destroy_owner("ann", keep=session) == 0
    assert is_alive(store, session.id if rotator == "itself" else new)


def test_a_login_may_log_out_all_others_before_its_own_commit(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    before = bound(store)
    with store.open() as session:
        session["of"] = "ann"
        session.bind("ann")
        assert store.destroy_owner("ann", keep=session) == 1
    assert is_alive(store, session.id)
    assert not is_alive(store, before)
    assert handles(store) == {handle_of(session.id)}


def test_a_session_that_is_empty_can_be_bound(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    with store.open() as session:
        session.bind("ann")
    assert handles(store) == {handle_of(session.id)}


def test_binding_is_a_change_like_others(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    with store.open() as session:
        session.bind("ann")
        assert session.modified
        session.forget()
    with pytest.raises(ZeroDivisionError), store.open() as session:
        session.bind("ann")
        raise ZeroDivisionError
    assert redis.keys("*") == []
    with store.open() as session:
        session.bind("ann")
        session.save()
        assert not session.modified


def test_an_owner_is_a_text(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    with store.open() as session:
        for wrong in ("", 7, b"ann", None):
            with pytest.raises(ValueError, match="an owner is a text"):
                session.bind(wrong)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="an owner is a text"):
                store.destroy_owner(wrong)  # type: ignore[arg-type]
    for odd in ("a b\n", "\udcff", "é" * 5000):
        session_id = bound(store, odd)
        assert handles(store, odd) == {handle_of(session_id)}


def test_of_a_note_200_characters_are_kept(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    for note in ("é" * 300, "two\nlines and  spaces ", "\udcff", "nul\0nul"):
        bound(store, note=note)
        (told,) = store.sessions_of("ann")
        assert told.note == note[:200].encode("utf-8", "replace").decode()
        store.destroy_owner("ann")


@pytest.mark.parametrize("wrong", [7, b"Firefox", ["x"]])
def test_a_note_is_a_text_or_none(redis: redis_py.Redis, wrong: Any) -> None:
    with sessions(redis).open() as session:
        with pytest.raises(ValueError, match="a note is a text"):
            session.bind("ann", wrong)
        assert not session.modified


def test_the_note_can_be_changed(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    session_id = bound(store, note="old")
    created = store.sessions_of("ann")[0].created
    for note, told in [(None, "old"), ("new", "new")]:
        with store.open(session_id) as session:
            session.bind("ann", note)
        (one,) = store.sessions_of("ann")
        assert (one.note, one.created) == (told, created)


@pytest.mark.parametrize(("first", "then"), [("ann", "bob"), ("bob", "ann")])
def test_another_owner_replaces_the_first(
    backend: Backend, first: str, then: str
) -> None:
    store = sessions(**backend.options)
    session_id = bound(store, first)
    with store.open(session_id) as session:
        session.bind(then)
    assert (handles(store, first), handles(store, then)) == (
        set(),
        {handle_of(session_id)},
    )
    assert store.destroy_owner(first) == 0
    assert is_alive(store, session_id)
    assert store.destroy_owner(then) == 1


def test_an_index_that_missed_the_new_owner_takes_no_session_of_his(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    session_id = bound(store)
    before = redis.dump(index_of())
    with store.open(session_id) as session:
        session.bind("bob")
    redis.restore(index_of(), 60_000, before, replace=True)
    assert store.destroy_owner("ann") == 0
    assert is_alive(store, session_id)


# -- what lies in Redis ----------------------------------------------------------------


def test_no_text_of_an_owner_is_in_redis_or_in_a_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Monitor(server) as monitor:
        store = SessionStore.from_config(url=server.url, max_per_owner=1)
        session_id = bound(store, "ann@example.org")
        bound(store, "ann@example.org")
        assert not is_alive(store, session_id)
        store.sessions_of("ann@example.org")
        store.destroy_owner("ann@example.org")
    lines = "\n".join(monitor.lines())
    assert digest_of("ann@example.org") in lines
    assert "example.org" not in lines + caplog.text


def test_an_index_ends_with_the_last_of_its_sessions(backend: Backend) -> None:
    store = sessions(ttl=1000, **backend.options)
    ids = [bound(store) for _ in range(2)]
    with store.open(ids[0]) as session:
        session.set_ttl(5000)
    left = backend.client.pttl(index_of())
    assert abs(left - backend.client.pttl(key_of(ids[0]))) < 1000
    store.destroy(ids[0])
    left = backend.client.pttl(index_of())
    assert abs(left - backend.client.pttl(key_of(ids[1]))) < 1000
    store.destroy(ids[1])
    assert not backend.client.exists(index_of())


def test_what_is_used_lives_on_with_its_index(backend: Backend) -> None:
    store = sessions(ttl=1000, touch_every=100, **backend.options)
    session_id = bound(store)
    keys = key_of(session_id), index_of()
    for left, prolonged in [(950, False), (850, True), (500, True)]:
        for act in (dict, lambda session: session.update(of="us")):
            for key in keys:
                backend.client.pexpire(key, left * 1000)
            with store.open(session_id) as session:
                act(session)
            ends = [backend.client.pttl(key) for key in keys]
            is_longer = [end > left * 1000 for end in ends]
            assert is_longer == [prolonged, prolonged]
            assert ends[0] <= ends[1] + 1000


@pytest.mark.parametrize(
    ("owner", "known", "left"),
    [("ann", 700, 700), ("ann", 2000, 1000), ("ann", 400, 500), ("bob", 700, 500)],
)
def test_a_record_is_prolonged_for_its_owner_as_far_as_the_index_knows_it(
    redis: redis_py.Redis, owner: str, known: int, left: int
) -> None:
    store = sessions(redis, ttl=1000)
    session_id = bound(store)
    redis.pexpire(key_of(session_id), 500_000)
    prolong(store, session_id, owner, known)
    assert left - 60 < redis.pttl(key_of(session_id)) / 1000 <= left


def prolong(store: SessionStore, session_id: str, owner: str, seconds: int) -> None:
    """Do to the record what follows when the index has prolonged its entry."""
    now, _ = store._engine.config.client.time()
    until_ms, name = (now + seconds) * 1000, Address.of(session_id).record
    engine = store._engine
    engine.wire.run(engine.records.prolong(name, digest_of(owner), until_ms))


def test_a_server_that_takes_no_writes_any_more_prolongs_no_record(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, ttl=1000)
    session_id = bound(store)
    redis.pexpire(key_of(session_id), 500_000)
    redis.config_set("min-replicas-to-write", 1)
    try:
        prolong(store, session_id, "ann", 700)
    finally:
        redis.config_set("min-replicas-to-write", 0)
    assert redis.pttl(key_of(session_id)) <= 500_000


def test_no_time_that_an_index_has_promised_is_taken_back(backend: Backend) -> None:
    store = sessions(**backend.options)
    session_id = bound(store)
    owners, untils = store._engine.owners, []
    for seconds in (2000, 10, 3000, 20):
        call = owners.stay(digest_of("ann"), Address.of(session_id).lock, seconds)
        store._engine.wire.run(call)
        untils.append(call.result.until_ms)
    assert untils[0] == untils[1] < untils[2] == untils[3]
    assert backend.client.pttl(index_of()) > 2_900_000


def test_the_absolute_limit_holds_for_the_index_too(redis: redis_py.Redis) -> None:
    store = sessions(redis, ttl=1000, touch_every=0, max_lifetime=2000)
    session_id = bound(store)
    created = int(meta_of(redis, key_of(session_id))["created"])
    set_meta(redis, key_of(session_id), created=created - 1_500_000)
    assert is_alive(store, session_id)
    assert redis.pttl(key_of(session_id)) <= 500_000
    bind_to(store, session_id, "bob")
    assert redis.pttl(index_of("bob")) <= 500_000
    (told,) = store.sessions_of("bob")
    assert told.created == (created - 1_500_000) / 1000
    with store.open() as session:
        session.set_ttl(5000)
        session.bind("carl")
    assert 1_900_000 < redis.pttl(index_of("carl")) <= 2_000_000


def test_an_index_knows_a_session_for_as_long_as_its_own_ttl(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, ttl=1000)
    with store.open() as session:
        session.set_ttl(5000)
        session.bind("ann")
    bind_to(store, session.id, "bob")
    for owner in ("ann", "bob"):
        assert 4_900_000 < redis.pttl(index_of(owner)) <= 5_000_000


def test_a_session_that_expired_or_was_evicted_is_told_no_more(
    backend: Backend,
) -> None:
    store = sessions(**backend.options)
    gone, there = bound(store), bound(store)
    backend.client.delete(key_of(gone))
    assert handles(store) == {handle_of(there)}
    backend.client.delete(key_of(there))
    assert store.sessions_of("ann") == []


def test_who_looks_takes_out_what_has_ended_but_not_what_may_be_on_its_way(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    old, fresh = bound(store), bound(store)
    age(redis, old)
    redis.delete(key_of(old), key_of(fresh))
    assert store.sessions_of("ann") == []
    assert redis.hkeys(index_of()) == [Address.of(fresh).lock.encode()]


def age(client: redis_py.Redis, session_id: str) -> None:
    """Make it ann's for so long that no commit of it can be on its way."""
    slot = Address.of(session_id).lock
    *before, used, rest = client.hget(index_of(), slot).split(b" ", 5)
    words = [*before, b"%d" % (int(used) - 61_000), rest]
    client.hset(index_of(), slot, b" ".join(words))


@pytest.mark.parametrize("overflow", ["oldest", "refuse"])
def test_who_comes_where_many_are_takes_out_what_has_ended(
    redis: redis_py.Redis, overflow: str
) -> None:
    store = sessions(redis, max_per_owner=1, owner_overflow=overflow)
    old = bound(store)
    age(redis, old)
    redis.delete(key_of(old))
    new = bound(store)
    assert redis.hkeys(index_of()) == [Address.of(new).lock.encode()]


def test_an_entry_that_is_damaged_is_left_out(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    session_id = bound(store)
    (entry,) = redis.hvals(index_of())
    redis.hset(index_of(), "{0123456789abcdef}", "\x00damaged")
    redis.hset(index_of(), "{0123456789abcdee}", entry + b"\xff")
    redis.hset(index_of(), b"\xff", entry)
    assert handles(store) == {handle_of(session_id)}
    assert store.destroy_owner("ann") == 1


def test_a_session_whose_index_is_lost_ends_when_it_is_to_be_prolonged(
    backend: Backend,
) -> None:
    store = sessions(ttl=1000, touch_every=100, **backend.options)
    session_id = bound(store)
    backend.client.delete(index_of())
    assert is_alive(store, session_id)
    backend.client.pexpire(key_of(session_id), 800_000)
    assert not is_alive(store, session_id)
    assert backend.client.get(key_of(session_id)) == b"destroyed"


def test_a_server_without_memory_lets_owners_read_and_log_out(server: Server) -> None:
    with counting_client(server.url) as client:
        store = sessions(client, touch_every=0)
        session_id, other = bound(store), bound(store)
        client.config_set("maxmemory", 1)
        try:
            client.trips.reset()
            assert is_alive(store, session_id)
            assert client.trips.count == 2  # the index is not told, nor the record
            with pytest.raises(StoreUnavailable):
                bound(store)
            store.destroy(other)
        finally:
            client.config_set("maxmemory", 0)
        assert handles(store) == {handle_of(session_id)}


# -- destroy_owner that fails half-way -------------------------------------------------


def test_a_destruction_that_failed_half_way_can_be_asked_for_again(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sessions(redis, touch_every=0)
    ids = [bound(store) for _ in range(3)]

    def fail(*_: Any) -> None:
        raise StoreUnavailable("after the index, before the records")

    records = store._engine.records
    with monkeypatch.context() as broken, pytest.raises(StoreUnavailable):
        broken.setattr(type(records), "destroy", fail)
        store.destroy_owner("ann")
    assert handles(store) == {handle_of(i) for i in ids}  # they live, so they are told
    assert not is_alive(store, ids[0])  # its use was to prolong it
    assert store.destroy_owner("ann") == 3
    assert not any(is_alive(store, i) for i in ids)


def test_a_session_that_is_doomed_ends_when_it_is_to_be_prolonged(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, touch_every=0)
    session_id = bound(store)
    store._engine.wire.run(
        store._engine.owners.tell(digest_of("ann"), dooms=True)
    )  # as by one that died after this
    assert not is_alive(store, session_id)
    assert redis.get(key_of(session_id)) == b"destroyed"


# -- max_per_owner ---------------------------------------------------------------------


def test_the_session_that_was_bound_first_has_to_go(backend: Backend) -> None:
    store = sessions(max_per_owner=2, **backend.options)
    ids = [bound(store) for _ in range(3)]
    assert [is_alive(store, i) for i in ids] == [False, True, True]
    with store.open(ids[1]) as session:
        session.bind("ann", "not one more")
    ids[1] = rotated(store, ids[1])
    assert all(is_alive(store, i) for i in ids[1:])
    assert len(store.sessions_of("ann")) == 2


def test_the_oldest_ends_later_if_it_can_not_be_destroyed_at_once(
    redis: redis_py.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = sessions(redis, max_per_owner=1, touch_every=0)
    first = bound(store)

    def fail(*_: Any) -> None:
        raise StoreUnavailable("just now")

    with monkeypatch.context() as broken:
        broken.setattr("smartredis_wsgi.belonging.destroy_doomed", fail)
        second = bound(store)
    assert "could not be taken out" in caplog.text
    assert redis.type(key_of(first)) == b"hash"
    assert not is_alive(store, first)
    assert is_alive(store, second)


def test_one_session_too_many_is_refused(backend: Backend) -> None:
    store = sessions(max_per_owner=2, owner_overflow="refuse", **backend.options)
    ids = [bound(store) for _ in range(2)]
    before = len(backend.client.keys("*"))
    with pytest.raises(TooManySessions, match="max_per_owner") as refusal:
        bound(store)
    assert isinstance(refusal.value, SmartRedisError)
    assert len(backend.client.keys("*")) == before
    rotated(store, ids[0])
    store.destroy(ids[1])
    assert is_alive(store, bound(store))


@pytest.mark.parametrize("overflow", ["oldest", "refuse"])
def test_who_is_there_may_stay_where_the_limit_was_lowered(
    redis: redis_py.Redis, overflow: str
) -> None:
    before = sessions(redis)
    ids = [bound(before) for _ in range(3)]
    store = sessions(redis, max_per_owner=1, owner_overflow=overflow)
    ids[0] = rotated(store, ids[0])
    assert all(is_alive(store, i) for i in ids)
    if overflow == "refuse":
        with store.open(ids[1]) as session:
            session.bind("ann", "another note")
        assert all(is_alive(store, i) for i in ids)
    assert len(store.sessions_of("ann")) == 3


def test_a_session_that_is_no_more_takes_no_place(redis: redis_py.Redis) -> None:
    store = sessions(redis, max_per_owner=1, owner_overflow="refuse")
    redis.delete(key_of(bound(store)))
    assert is_alive(store, bound(store))
    with pytest.raises(TooManySessions):
        bound(store)


def test_a_session_that_is_no_more_sends_no_one_away(backend: Backend) -> None:
    store = sessions(max_per_owner=2, **backend.options)
    first, second = bound(store), bound(store)
    backend.client.delete(key_of(second))
    third = bound(store)
    assert [is_alive(store, i) for i in (first, third)] == [True, True]
    fourth = bound(store)
    assert [is_alive(store, i) for i in (first, third, fourth)] == [False, True, True]


@pytest.mark.parametrize("overflow", ["oldest", "refuse"])
@pytest.mark.parametrize("before", [None, "bob", "emil"])  # one digest on either side
def test_a_bind_that_failed_takes_no_place_and_gets_none_for_nothing(
    redis: redis_py.Redis, overflow: str, before: str | None
) -> None:
    store = sessions(redis, max_per_owner=1, owner_overflow=overflow, max_size=100)
    with store.open() as free:
        free["of"] = "us"
        if before:
            free.bind(before)
    with pytest.raises(SessionTooLarge), store.open(free.id) as session:
        session["much"] = "x" * 1000
        session.bind("ann")
    second = bound(store)
    assert is_alive(store, free.id)
    assert is_alive(store, second)
    refused: Any = (
        nullcontext() if overflow == "oldest" else pytest.raises(SmartRedisError)
    )
    with refused:
        bind_to(store, free.id, "ann")
    assert is_alive(store, second) is (overflow == "refuse")
    assert len(store.sessions_of("ann")) == 1


def test_a_bind_that_failed_sends_no_one_away(redis: redis_py.Redis) -> None:
    store = sessions(redis, max_per_owner=1, max_size=100)
    first, other = bound(store), bound(store, "bob")
    with pytest.raises(SessionTooLarge), store.open(other) as session:
        session["much"] = "x" * 1000
        session.bind("ann")
    assert is_alive(store, first)
    assert is_alive(store, other)
    assert handles(store) == {handle_of(first)}


def test_a_bind_that_failed_takes_nothing_from_one_that_did_not(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sessions(redis, max_size=100)
    with store.open() as free:
        free["of"] = "us"
    with pytest.raises(SessionTooLarge), store.open(free.id) as session:
        session["much"] = "x" * 1000
        session.bind("ann")
        once_before(
            monkeypatch, Records, "update", lambda: bind_to(store, free.id, "ann")
        )
    assert handles(store) == {handle_of(free.id)}
    assert store.destroy_owner("ann") == 1


def test_who_is_being_bound_has_a_place_already(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sessions(redis, max_per_owner=1, owner_overflow="refuse")
    refused: list[Any] = []

    def come_second() -> None:
        with pytest.raises(TooManySessions) as refusal:
            bound(store)
        refused.append(refusal)

    once_before(monkeypatch, Records, "create", come_second)
    assert is_alive(store, bound(store))
    assert len(refused) == 1


def test_a_login_can_be_refused_where_the_application_asks(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, max_per_owner=1, owner_overflow="refuse")
    bound(store)
    with store.open() as session:
        session["of"] = "ann"
        session.bind("ann")
        with pytest.raises(TooManySessions):
            session.save()
        session.forget()
    assert len(store.sessions_of("ann")) == 1


def test_what_was_not_stored_leaves_no_entry(redis: redis_py.Redis) -> None:
    store = sessions(redis, max_size=100)
    with store.open() as session:
        session["of"] = "ann"
    with pytest.raises(SmartRedisError), store.open(session.id) as same:
        same["much"] = "x" * 1000
        same.regenerate_id()
        same.bind("ann")
    with pytest.raises(SessionTooLarge), store.open() as new:
        new["much"] = "x" * 1000
        new.bind("ann")
    assert redis.keys("session:owner:*") == []
    assert is_alive(store, session.id)


def test_a_session_that_was_stored_without_an_answer_is_its_owners(
    server: Server, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        once_before(monkeypatch, Records, "create", proxy.drop_next_reply)
        with pytest.raises(StoreUnavailable), sessions(client).open() as session:
            session["of"] = "us"
            session.bind("ann")
    store = sessions(redis)
    assert is_alive(store, session.id)
    assert handles(store) == {handle_of(session.id)}
    assert store.destroy_owner("ann") == 1


@pytest.mark.parametrize(("most", "hours"), [(None, 1000), ("900h", 900)])
def test_who_rotates_without_a_look_shortens_and_lengthens_no_life(
    redis: redis_py.Redis, most: str | None, hours: int
) -> None:
    store = sessions(redis, ttl=60, max_lifetime=most)
    with store.open() as session:
        session["of"] = "us"
        session.bind("ann")
        session.set_ttl("1000h")
    ((slot, entry),) = redis.hgetall(index_of()).items()
    state, till, rest = entry.split(b" ", 2)
    long_ago = b"%b %d %b" % (state, int(till) - 800 * 3_600_000, rest)
    redis.hset(index_of(), slot, long_ago)
    redis.expire(index_of(), 100 * 3_600)
    with store.open(session.id) as same:
        same.regenerate_id()
    lives = [redis.pttl(key) for key in redis.keys("*") if redis.type(key) == b"hash"]
    assert len(lives) == 2  # the record's and the index's
    assert all((hours - 0.1) * 3_600_000 < life <= hours * 3_600_000 for life in lives)


def test_who_is_bound_after_a_save_lives_as_long_as_the_session_asked_for(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, ttl=60)
    with store.open() as session:
        session["of"] = "us"
        session.set_ttl("1h")
        session.save()
        session.bind("ann")
    lives = [redis.pttl(key) for key in redis.keys("*")]
    assert len(lives) == 2  # the record's and the index's
    assert all(3_500_000 < life <= 3_600_000 for life in lives)


# -- the index alone -------------------------------------------------------------------


class Index:
    """Ann's, which is asked directly; her sessions are numbers here."""

    def __init__(self, client: redis_py.Redis, **options: Any) -> None:
        self._engine = sessions(client, **options)._engine
        self._client = client

    def ask(self, verb: str, *words: Any, **named: Any) -> Any:
        call = getattr(self._engine.owners, verb)(digest_of("ann"), *words, **named)
        self._engine.wire.run(call)
        return call.result

    def enter(self, number: int, digest: str, **named: Any) -> Any:
        bound = Wish(digest_of("ann"), "")
        name = slot(number) + digest
        return self.ask("enter", name, 60.0, **{"bound": bound, **named})

    def put(self, number: int, **changed: Any) -> None:
        """An entry as it may lie there: bound at once, and used long ago."""
        now = int(self._client.time()[0]) * 1000
        parts = {"state": 0, "till": now + 60_000, "bound": now, "created": now}
        parts |= {"used": now - 600_000, "names": A, "note": "", **changed}
        text = " ".join(map(str, parts.values()))
        self._client.hset(index_of(), slot(number), text)
        self._client.expire(index_of(), 60)

    def names(self, number: int) -> str | None:
        """The digests under which a session may lie."""
        text = self._client.hget(index_of(), slot(number))
        return text and text.decode().split(" ")[5]


A, B = "a" * 64, "b" * 64


def slot(number: int) -> str:
    return f"{{{number:016x}}}"


@pytest.fixture
def index(redis: redis_py.Redis) -> Index:
    return Index(redis, max_per_owner=2)


def test_a_session_may_be_older_than_its_entry(index: Index) -> None:
    index.enter(1, A, created=1000.0)
    (entry,) = index.ask("tell")
    assert (entry.created, entry.names) == (1000.0, (slot(1) + A,))


def test_use_gives_a_session_no_name(index: Index) -> None:
    index.put(1)
    assert index.ask("stay", slot(1), 60.0).word == "entered"
    assert index.names(1) == A


def test_the_use_of_one_ends_no_other_one_earlier(
    index: Index, redis: redis_py.Redis
) -> None:
    index.put(1)
    redis.expire(index_of(), 3000)
    index.ask("stay", slot(1), 60.0)
    assert redis.pttl(index_of()) > 2_900_000


def test_a_server_without_memory_may_leave_out_what_only_prolongs(
    index: Index, redis: redis_py.Redis
) -> None:
    index.put(1)
    redis.config_set("maxmemory", 1)
    try:
        assert index.ask("stay", slot(1), 60.0).word == "left"
        with pytest.raises(StoreUnavailable):
            index.enter(1, B, bound=None)
        assert index.names(1) == A
        redis.delete(index_of())
        with pytest.raises(StoreUnavailable):
            index.enter(1, B)
    finally:
        redis.config_set("maxmemory", 0)


def test_whoever_looks_drops_the_entries_whose_time_is_over(
    index: Index, redis: redis_py.Redis
) -> None:
    index.put(1, till=1_000_000)
    index.put(2)
    redis.config_set("min-replicas-to-write", 1)  # so many as there are not
    try:
        assert [entry.slot for entry in index.ask("tell")] == [slot(2)]
    finally:
        redis.config_set("min-replicas-to-write", 0)
    assert redis.hlen(index_of()) == 2
    assert [entry.slot for entry in index.ask("tell")] == [slot(2)]
    assert redis.hkeys(index_of()) == [slot(2).encode()]


def test_a_name_that_is_entered_twice_is_one(index: Index) -> None:
    for digest in (A, B, A, B):
        index.enter(1, digest)
    assert index.names(1) == f"{A},{B}"


def test_it_tells_how_many_it_has_forgotten(index: Index) -> None:
    assert index.ask("forget", [slot(1)]) == 0
    for number in range(4):
        index.put(number)
    assert index.ask("forget", [slot(1), slot(2), slot(7)]) == 2
    assert [index.names(number) for number in range(4)] == [A, None, None, A]


def test_a_session_is_taken_out_with_the_last_of_its_names(index: Index) -> None:
    index.put(1, names=f"{A},{B}")
    assert index.ask("withdraw", slot(1) + A) == 0
    assert index.names(1) == B
    assert index.ask("withdraw", slot(1) + B) == 1
    assert index.ask("withdraw", slot(1) + B) == 0


def test_a_name_that_is_dead_is_taken_out_when_the_next_is_confirmed(
    index: Index,
) -> None:
    index.put(1, names=f"{A},{B}")
    index.ask("confirm", slot(1) + B, "", is_new=False)
    assert index.names(1) == f"{A},{B}"
    index.ask("confirm", slot(1) + B, slot(1) + A, is_new=False)
    assert index.names(1) == B


def test_who_comes_is_told_also_of_those_that_were_doomed_before(index: Index) -> None:
    index.put(1, state=1)
    index.put(2)
    told = index.ask("confirm", slot(2) + A, "", is_new=True)
    assert [entry.slot for entry in told.entries] == [slot(1)]


def doomed_beside(index: Index, number: int) -> list[str]:
    told = index.ask("confirm", slot(number) + A, "", is_new=True, ended=())
    assert told.word == "lives"
    return sorted(entry.slot for entry in told.entries)


def test_those_that_are_no_more_take_no_place(index: Index) -> None:
    for number in range(4):
        index.put(number)
    ended = [entry for entry in index.ask("tell") if entry.slot in (slot(1), slot(2))]
    told = index.ask("confirm", slot(0) + A, "", is_new=True, ended=ended)
    assert told == ("lives", [])


def test_of_many_the_one_that_was_bound_last_stays(index: Index) -> None:
    for number in range(40):
        index.put(number, bound=1_000_000 - number)
    assert doomed_beside(index, 0) == [slot(number) for number in range(2, 40)]


def test_of_many_that_were_bound_at_once_the_last_by_name_stays(index: Index) -> None:
    for number in range(40):
        index.put(number, bound=1_000_000)
    assert doomed_beside(index, 0) == [slot(number) for number in range(1, 39)]


# -- Cluster ---------------------------------------------------------------------------


def test_owners_and_their_sessions_may_lie_on_different_nodes(
    cluster: Cluster,
) -> None:
    client = RedisCluster.from_url(f"redis://127.0.0.1:{cluster.nodes[0].port}")
    store = sessions(client, max_per_owner=6, touch_every=0)
    owners = ["ann", "bob", "carl"]
    ids = {owner: [bound(store, owner) for _ in range(6)] for owner in owners}
    assert any(
        client.get_node_from_key(index_of(owner))
        is not client.get_node_from_key(key_of(session_id))
        for owner in owners
        for session_id in ids[owner]
    )
    ids["ann"][0] = rotated(store, ids["ann"][0])
    assert all(is_alive(store, i) for i in ids["ann"])
    assert handles(store) == {handle_of(i) for i in ids["ann"]}
    with store.open(ids["ann"][1]) as session:
        assert store.destroy_owner("ann", keep=session) == 5
    bound(store)
    assert len(store.sessions_of("ann")) == 2
    assert all(is_alive(store, i) for i in ids["bob"])
    bound(store, "bob")
    assert [is_alive(store, i) for i in ids["bob"]] == [False] + [True] * 5
    client.close()


@pytest.mark.parametrize("lock", ["none", "single"])
def test_sessions_of_owners_live_under_locks_as_well(
    redis: redis_py.Redis, lock: str
) -> None:
    store = sessions(redis, lock=lock, touch_every=0)
    session_id = rotated(store, bound(store))
    with store.open(session_id) as session:
        session["more"] = session["of"]
    assert handles(store) == {handle_of(session_id)}
    assert store.destroy_owner("ann") == 1
    assert not redis.keys("lock:*")


# -- two requests at once, where one is late -------------------------------------------


def test_who_leaves_an_owner_late_takes_no_one_out_who_has_come_back(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sessions(redis)
    session_id = bound(store)
    once_before(
        monkeypatch, Belonging, "_leave_old", lambda: bind_to(store, session_id, "ann")
    )
    bind_to(store, session_id, "bob")
    assert handles(store) == {handle_of(session_id)}
    assert store.destroy_owner("bob") == 0
    assert store.destroy_owner("ann") == 1
    assert not is_alive(store, session_id)


@pytest.mark.parametrize("lock", ["none", "single"])
def test_who_knows_the_owner_before_ends_no_session_of_the_owner_now(
    redis: redis_py.Redis, lock: str
) -> None:
    store = sessions(redis, lock=lock, lock_scope="commit")
    session_id = bound(store)
    with store.open(session_id) as session:
        assert session["of"] == "us"
        bind_to(store, session_id, "bob")
        redis.delete(index_of())
        session.regenerate_id()
        session["late"] = True
    assert session.id != session_id
    with store.open(session.id) as same:
        assert dict(same) == {"of": "us", "late": True}
    assert handles(store, "bob") == {handle_of(session.id)}
    assert store.destroy_owner("bob") == 1


@pytest.mark.parametrize("act", [dict, lambda session: session.update(late=True)])
def test_who_is_to_prolong_what_has_become_anothers_does_not_end_it(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    store = sessions(redis, touch_every=0, lock="single", lock_scope="commit")
    session_id = bound(store)

    def rebind() -> None:
        bind_to(store, session_id, "bob")
        redis.delete(index_of())

    once_before(monkeypatch, Owners, "stay", rebind)
    with store.open(session_id) as session:
        act(session)
        assert redis.keys("lock:*") == []
    assert is_alive(store, session_id)
    assert handles(store, "bob") == {handle_of(session_id)}


def test_a_bind_that_is_tried_again_has_been_entered_already(server: Server) -> None:
    with counting_client(server.url) as client:
        store = sessions(client)
        with store.open() as session:
            session["of"] = "us"
        with store.open(session.id) as session:
            session["of"] += "!"
            session.bind("ann")
            with store.open(session.id) as other:
                other["of"] = "them"
            client.trips.reset()
        assert client.trips.count == 4  # enter, commit, commit, confirm
        assert handles(store) == {handle_of(session.id)}


def test_a_bind_that_meets_a_rotation_is_entered_under_the_new_name(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    for _ in range(8):  # whichever digest is the greater one
        with store.open() as session:
            session["of"] = "us"
        with store.open(session.id) as session:
            assert session["of"] == "us"
            session.bind("ann")
            new = rotated(store, session.id)
        assert handles(store) == {handle_of(new)}
        assert store.destroy_owner("ann") == 1
        assert not is_alive(store, new)


def test_a_bind_after_a_rotation_whose_reply_was_lost_is_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        store = sessions(client)
        session_id = bound(store)
        with store.open(session_id) as session:
            assert session["of"] == "us"
            session.regenerate_id()
            once_before(monkeypatch, Records, "update", proxy.drop_next_reply)
            with pytest.raises(StoreUnavailable):
                session.save()
            session.bind("bob")
        assert proxy.dropped == 1
        assert handles(store, "bob") == {handle_of(session.id)}
        assert store.destroy_owner("ann") == 0
        assert is_alive(store, session.id)


def test_a_bind_that_could_not_be_confirmed_is_confirmed_by_the_next_commit(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sessions(redis, max_per_owner=1)
    first = bound(store)

    def fail(*_: Any) -> None:
        raise StoreUnavailable("just now")

    with store.open() as session:
        session["of"] = "us"
        session.bind("ann")
        with monkeypatch.context() as broken:
            broken.setattr(Belonging, "confirm", fail)
            with pytest.raises(StoreUnavailable):
                session.save()
        assert is_alive(store, first)
        session.save()
        assert not is_alive(store, first)
        assert is_alive(store, session.id)


@pytest.mark.parametrize("moment", ["enter", "confirm"])
@pytest.mark.parametrize("on_gone", ["drop", "raise"])
def test_who_is_logged_out_during_a_commit_hears_of_it(
    redis: redis_py.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    moment: str,
    on_gone: str,
) -> None:
    store = sessions(redis, on_gone=on_gone)
    session_id = bound(store)
    hears: Any = pytest.raises(SessionGone) if on_gone == "raise" else nullcontext()
    with hears, store.open(session_id) as session:
        session["late"] = 1
        session.regenerate_id()
        once_before(monkeypatch, Owners, moment, lambda: store.destroy_owner("ann"))
    assert ("is gone" in caplog.text) is (on_gone == "drop")
    assert not is_alive(store, session.id)
