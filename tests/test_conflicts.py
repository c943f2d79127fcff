"""Two requests change the same field: what is merged, what is told, what it costs."""

# ruff: noqa: PT012, SIM117 - a block is what commits, so it is a block that raises

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis as redis_py
from conftest import Backend
from doubles import CountedRedis, counting_client
from servers import Server

from smartredis_wsgi import (
    EncodeError,
    Session,
    SessionConflict,
    SessionStore,
    SessionTooLarge,
)

Act = Callable[[Session], object]
CODECS = ["json", "msgpack", "pickle"]


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


def record(client: Any) -> dict[bytes, bytes]:
    """The only record that there is, as it lies there."""
    (key,) = client.keys("*")
    return dict(client.hgetall(key))


@contextmanager
def loaded(store: SessionStore, session_id: str) -> Iterator[Session]:
    """A session of which all is read."""
    with store.open(session_id) as session:
        dict(session)
        yield session


def both(store: SessionStore, session_id: str, first: Act, second: Act) -> None:
    """Two that read all of the session at once; the second commits later."""
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            first(theirs)
        second(mine)


@pytest.fixture
def counted(server: Server) -> Iterator[CountedRedis]:
    with counting_client(server.url) as client:
        yield client


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which are noted and not made."""
    made: list[float] = []
    monkeypatch.setattr(random, "uniform", lambda _, most: most)
    monkeypatch.setattr(time, "sleep", made.append)
    return made


# -- merge ---------------------------------------------------------------------------


def put(*path: str, value: Any = 1) -> Act:
    """Sets what lies at the path, the last of which is a key of a dict."""

    def act(session: Session) -> None:
        *way, last = path
        tree: Any = session
        for key in way:
            tree = tree[key]
        tree[last] = value

    return act


def drop(*path: str) -> Act:
    def act(session: Session) -> None:
        *way, last = path
        tree: Any = session
        for key in way:
            tree = tree[key]
        del tree[last]

    return act


def append(name: str, value: Any) -> Act:
    return lambda session: session[name].append(value)


CASES: dict[str, tuple[dict[str, Any], Act, Act, dict[str, Any]]] = {
    "nested keys": (
        {"a": {}},
        put("a", "x"),
        put("a", "y", value=2),
        {"a": {"x": 1, "y": 2}},
    ),
    "deeply nested keys": (
        {"a": {"b": {"c": {"old": 0}}}},
        put("a", "b", "c", "x"),
        put("a", "b", "c", "y"),
        {"a": {"b": {"c": {"old": 0, "x": 1, "y": 1}}}},
    ),
    "appended items": (
        {"a": [1]},
        append("a", "theirs"),
        append("a", "mine"),
        {"a": [1, "theirs", "mine"]},
    ),
    "nested lists": (
        {"a": {"b": []}},
        lambda session: session["a"]["b"].append(1),
        lambda session: session["a"]["b"].append(2),
        {"a": {"b": [1, 2]}},
    ),
    "members of a set": (
        {"a": {1, 2}},
        lambda session: session["a"].add(3),
        lambda session: (session["a"].add(4), session["a"].discard(1)),
        {"a": {2, 3, 4}},
    ),
    "a deletion and a set": (
        {"a": {"x": 1, "y": 2}},
        drop("a", "x"),
        put("a", "y", value=3),
        {"a": {"y": 3}},
    ),
    "a set and a deletion": (
        {"a": {"x": 1, "y": 2}},
        put("a", "y", value=3),
        drop("a", "x"),
        {"a": {"y": 3}},
    ),
    "a leaf": (
        {"a": 1},
        put("a", value="first"),
        put("a", value="later"),
        {"a": "later"},
    ),
    "a nested leaf": (
        {"a": {"x": 0, "y": 0}},
        lambda session: session["a"].update(x="first", y="first"),
        put("a", "x", value="later"),
        {"a": {"x": "later", "y": "first"}},
    ),
    "a change, then a deletion": ({"a": 1}, put("a", value=2), drop("a"), {}),
    "a deletion, then a change": ({"a": 1}, drop("a"), put("a", value=2), {"a": 2}),
    "two deletions": ({"a": 1, "b": 1}, drop("a"), drop("a"), {"b": 1}),
    "a new dict": (
        {},
        lambda session: session.setdefault("a", {}).update(x=1),
        lambda session: session.setdefault("a", {}).update(y=2),
        {"a": {"x": 1, "y": 2}},
    ),
    "a new list": (
        {},
        lambda session: session.setdefault("a", []).append(1),
        lambda session: session.setdefault("a", []).append(2),
        {"a": [1, 2]},
    ),
    "the same value": ({"a": 1}, put("a", value=5), put("a", value=5), {"a": 5}),
    "several fields": (
        {"a": [], "b": {}, "c": 1},
        lambda session: session.update(a=[1], b={"x": 1}, c=2),
        lambda session: session.update(a=[2], b={"y": 1}, d=3),
        {"a": [1, 2], "b": {"x": 1, "y": 1}, "c": 2, "d": 3},
    ),
}


def test_what_two_requests_made_of_a_field_is_merged(backend: Backend) -> None:
    for codec in CODECS:
        store = sessions(backend.client, codec=codec)
        for case, (before, first, second, after) in CASES.items():
            try:
                session_id = stored(store, always="there", **before)
                both(store, session_id, first, second)
                found = fields_of(store, session_id)
                assert found == {"always": "there", **after}
                assert repr(found.get("a")) == repr(after.get("a")) or codec == "pickle"
            except BaseException as error:
                error.add_note(f"in the case {case!r} with {codec}")
                raise


def test_the_second_sees_after_its_commit_what_both_made(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    session_id = stored(store, a=[1])
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            theirs["a"].append(2)
        mine["a"].append(3)
        mine.save()
        assert mine["a"] == [1, 2, 3]
        assert not mine.modified


def test_a_conflict_after_a_save_is_one_with_what_was_saved(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    session_id = stored(store, a=[1], b=1)
    with loaded(store, session_id) as mine:
        mine["a"].append(2)
        assert mine.pop("b") == 1
        mine.save()
        with loaded(store, session_id) as theirs:
            theirs["a"].append(3)
            theirs["b"] = {"x": 1}
        mine["a"].append(4)
        mine["b"] = {"y": 1}
        mine.save()
        mine["a"].append(5)
    after = {"a": [1, 2, 3, 4, 5], "b": {"x": 1, "y": 1}}
    assert fields_of(store, session_id) == after


def test_a_value_that_was_read_before_a_conflict_can_be_changed_after_it(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    session_id = stored(store, cart=["tea"], user={"name": "ann"})
    with store.open(session_id) as mine:
        cart, user = mine["cart"], mine["user"]
        with loaded(store, session_id) as theirs:
            theirs["cart"].append("milk")
            theirs["user"]["age"] = 30
        cart.append("cup")
        user["seen"] = True
        mine.save()
        cart.append("spoon")
        user["left"] = True
    assert fields_of(store, session_id) == {
        "cart": ["tea", "milk", "cup", "spoon"],
        "user": {"name": "ann", "age": 30, "seen": True, "left": True},
    }


def test_a_counter_that_was_deleted_can_be_set_again(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    session_id = stored(store, n=5)
    with loaded(store, session_id) as session:
        session.incr("n")
        session.save()
        del session["n"]
        session.save()
        session["n"] = 1
    assert fields_of(store, session_id) == {"n": 1}


def test_one_who_is_overtaken_again_and_again_merges_each_time(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sessions(redis)
    session_id = stored(store, a=[])
    left = [5, 4, 3, 2, 1]

    def overtake(_: float) -> None:
        if left:
            with store.open(session_id) as other:
                other["a"].append(left.pop())

    monkeypatch.setattr(time, "sleep", overtake)
    with loaded(store, session_id) as mine:
        overtake(0)
        mine["a"].append("mine")
    assert fields_of(store, session_id) == {"a": [1, 2, 3, 4, 5, "mine"]}


def test_everything_else_of_a_merged_commit_is_done_once(redis: redis_py.Redis) -> None:
    store = sessions(redis)
    session_id = stored(store, a=[], n=1, d=1)
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            theirs["a"].append(1)
            theirs.incr("n", 10)
        mine["a"].append(2)
        mine["b"] = 5
        mine.incr("n", 100)
        del mine["d"]
        mine.set_ttl(50)
        mine.regenerate_id()
    assert fields_of(store, mine.id) == {"a": [1, 2], "b": 5, "n": 111}
    assert fields_of(store, session_id) == {}
    assert max(map(redis.pttl, redis.keys("*"))) <= 50_000


@pytest.mark.parametrize("raw", [b"\xff{", b"", b"nope"])
def test_corrupt_bytes_of_theirs_are_replaced_by_mine(
    redis: redis_py.Redis, raw: bytes
) -> None:
    store = sessions(redis)
    session_id = stored(store, a=[1], d=1, b=2)
    with loaded(store, session_id) as mine:
        mine["a"].append(2)
        assert mine.pop("d") == 1
        (key,) = redis.keys("*")
        redis.hset(key, mapping={"a": raw, "d": raw})
    assert fields_of(store, session_id) == {"a": [1, 2], "b": 2}


# -- what is not compared ------------------------------------------------------------


def test_a_field_that_was_only_assigned_is_not_compared(redis: redis_py.Redis) -> None:
    for conflict in ("merge", "raise"):
        store = sessions(redis, conflict=conflict)
        session_id = stored(store, a=[0], b=1)
        with store.open(session_id) as mine:
            assert mine["b"] == 1
            with loaded(store, session_id) as theirs:
                theirs["a"].append(1)
            mine["a"] = ["mine"]
        assert fields_of(store, session_id) == {"a": ["mine"], "b": 1}


def test_blind_writes_are_not_compared(redis: redis_py.Redis) -> None:
    for conflict in ("merge", "raise"):
        store = sessions(redis, conflict=conflict)
        session_id = stored(store, a=[0])
        with store.open(session_id) as mine:
            mine["a"] = ["mine"]
            with loaded(store, session_id) as theirs:
                theirs["a"].append(1)
        assert fields_of(store, session_id) == {"a": ["mine"]}


@pytest.mark.parametrize("conflict", ["merge", "raise", "overwrite"])
@pytest.mark.parametrize("by", [1, -3, 0.5])
def test_an_addition_conflicts_with_nothing(
    counted: CountedRedis, conflict: str, by: float
) -> None:
    store = sessions(counted, conflict=conflict)
    session_id = stored(store, n=10)
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            theirs["n"] = 20
        mine.incr("n", by)
        counted.trips.reset()
    assert counted.trips.count == 1
    assert fields_of(store, session_id) == {"n": 20 + by}


def test_a_decimal_sum_that_was_saved_is_no_conflict_with_oneself(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, conflict="raise")
    session_id = stored(store, n=1.0, a=1)
    with loaded(store, session_id) as session:
        session.incr("n", 0.1)
        session.save()
        assert session.pop("n") == 1.1
    assert fields_of(store, session_id) == {"a": 1}


def comparisons(commands: list[Any]) -> list[bytes]:
    """Arguments of script calls that are a comparison: a value, a digest, nothing."""
    parts = [part for _, _, *operands in commands for part in operands]
    return [part for part in parts if part == b"-" or part[:1] in (b"=", b"#")]


@pytest.mark.parametrize("lock", ["none", "single"])
def test_under_a_lock_held_since_the_load_nothing_is_compared(
    counted: CountedRedis, lock: str
) -> None:
    store = sessions(counted, lock=lock)
    long = "long" * 100
    session_id = stored(store, a=[1], b=1, n=1, long=long)
    with loaded(store, session_id) as session:
        session["a"].append(2)
        session["long"] += "er"
        assert session.pop("b") == 1
        assert session.get("new") is None
        session["new"] = 5
        counted.trips.reset()
    assert len(comparisons(counted.trips.commands)) == (4 if lock == "none" else 0)
    sent = [part for _, _, *operands in counted.trips.commands for part in operands]
    assert sum(long.encode() in part for part in sent) == 1, "the digest is enough"
    after = {"a": [1, 2], "n": 1, "new": 5, "long": long + "er"}
    assert fields_of(store, session_id) == after


# -- what it costs -------------------------------------------------------------------


def test_a_commit_without_a_conflict_is_one_round_trip(counted: CountedRedis) -> None:
    store = sessions(counted)
    session_id = stored(store, a=[1], b=1)
    both(store, session_id, put("c"), put("d"))
    with loaded(store, session_id) as session:
        session["a"].append(2)
        assert session.pop("b") == 1
        session["c"] = 5
        counted.trips.reset()
    assert counted.trips.count == 1


def test_a_conflict_is_one_round_trip_more(
    counted: CountedRedis, pauses: list[float]
) -> None:
    store = sessions(counted)
    session_id = stored(store, a=[], b={}, c=1)
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            theirs.update(a=[1], b={"x": 1}, c=2)
        mine.update(a=[2], b={"y": 1}, c=3)
        counted.trips.reset()
    assert counted.trips.count == 2
    assert len(pauses) == 1
    after = {"a": [1, 2], "b": {"x": 1, "y": 1}, "c": 3}
    assert fields_of(store, session_id) == after


@pytest.mark.parametrize("act", [put("a", value=5), drop("a")])
def test_a_conflict_about_what_both_did_is_not_sent_again(
    counted: CountedRedis, act: Act
) -> None:
    store = sessions(counted)
    session_id = stored(store, a=1, b=1)
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            act(theirs)
        act(mine)
        counted.trips.reset()
    assert counted.trips.count == 1
    assert not mine.modified


# -- raise and overwrite -------------------------------------------------------------


def test_a_conflict_that_is_to_be_raised_names_the_fields_and_writes_nothing(
    backend: Backend,
) -> None:
    store = sessions(backend.client, conflict="raise")
    session_id = stored(store, alpha="secret-0", beta="secret-1", gamma=1, n=1)
    with pytest.raises(SessionConflict) as caught:
        with loaded(store, session_id) as mine:
            with loaded(store, session_id) as theirs:
                theirs.update(alpha="secret-2", beta="secret-3", theirs=1)
            before = record(backend.client)
            mine.update(alpha="secret-4", gamma="secret-5", mine=1)
            del mine["beta"]
            mine.incr("n")
            mine.regenerate_id()
            mine.set_ttl(60)
    text = str(caught.value)
    assert "'alpha'" in text
    assert "'beta'" in text
    assert "gamma" not in text
    assert "theirs" not in text
    assert "secret" not in text
    assert session_id not in text
    assert record(backend.client) == before
    assert fields_of(store, session_id)["alpha"] == "secret-2"


def test_after_a_raised_conflict_one_may_reload_and_try_again(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis, conflict="raise")
    session_id = stored(store, a=[1])
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            theirs["a"].append(2)
        mine["a"].append(3)
        for _ in range(2):
            with pytest.raises(SessionConflict):
                mine.save()
        mine.reload()
        mine["a"].append(3)
    assert fields_of(store, session_id) == {"a": [1, 2, 3]}


def test_a_raised_conflict_frees_the_lock(redis: redis_py.Redis) -> None:
    store = sessions(redis, conflict="raise", lock="single", lock_scope="commit")
    session_id = stored(store, a=1)
    with pytest.raises(SessionConflict):
        both(store, session_id, put("a", value=2), put("a", value=3))
    assert redis.keys("lock:*") == []
    assert fields_of(store, session_id) == {"a": 2}


def test_without_a_conflict_nothing_is_raised(redis: redis_py.Redis) -> None:
    store = sessions(redis, conflict="raise")
    session_id = stored(store, a=[1], b=1, n=1)
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            theirs["b"] = 2
            theirs.incr("n")
        mine["a"].append(2)
        mine.save()
        mine["a"].append(3)
        mine["new"] = 1
        mine.save()
        mine["new"] = 2
    assert fields_of(store, session_id) == {"a": [1, 2, 3], "b": 2, "n": 2, "new": 2}


@pytest.mark.parametrize("conflict", ["merge", "raise"])
def test_what_another_added_is_not_lost_after_ones_own_addition(
    redis: redis_py.Redis, conflict: str
) -> None:
    store = sessions(redis, conflict=conflict)
    session_id = stored(store, n=5)
    with loaded(store, session_id) as mine:
        with store.open(session_id) as theirs:
            theirs.incr("n", 10)
        mine.incr("n")
        mine.save()
        mine["n"] = mine["n"] + 1
    assert fields_of(store, session_id) == {"n": 17}


def test_the_later_one_overwrites_where_that_is_asked_for(
    counted: CountedRedis,
) -> None:
    store = sessions(counted, conflict="overwrite")
    session_id = stored(store, a=[1], b={}, c=1, d=1)
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            theirs.update(a=[1, 2], b={"x": 1}, c=2, d=2, e=2)
        mine["a"].append(3)
        mine["b"]["y"] = 1
        del mine["c"]
        counted.trips.reset()
    assert counted.trips.count == 1
    assert comparisons(counted.trips.commands) == []
    after = {"a": [1, 3], "b": {"y": 1}, "d": 2, "e": 2}
    assert fields_of(store, session_id) == after


# -- many ----------------------------------------------------------------------------

MANY, ROUNDS = 20, 10


def at_once(
    store: SessionStore, session_id: str, act: Callable[[Any, int], Any]
) -> None:
    """Many threads, each with the session read before the first of them commits."""
    ready = threading.Barrier(MANY)
    failures: list[BaseException] = []

    def request(number: int) -> None:
        try:
            with loaded(store, session_id) as session:
                ready.wait(30)
                act(session, number)
        except BaseException as failure:
            failures.append(failure)
            ready.abort()

    threads = [threading.Thread(target=request, args=(n,)) for n in range(MANY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_of_many_at_once_that_append_to_one_list_each_has_its_item(
    server: Server,
) -> None:
    with server.client(max_connections=MANY) as client:
        store = sessions(client)
        for _ in range(ROUNDS):
            session_id = stored(store, a=["first"])
            at_once(store, session_id, lambda session, n: session["a"].append(n))
            first, *items = fields_of(store, session_id)["a"]
            assert first == "first"
            assert sorted(items) == [*range(MANY)]


def test_of_many_at_once_that_set_a_key_in_one_dict_each_has_its_key(
    server: Server,
) -> None:
    def act(session: Session, number: int) -> None:
        session["a"]["deep"][str(number)] = number

    with server.client(max_connections=MANY) as client:
        store = sessions(client)
        for _ in range(ROUNDS):
            session_id = stored(store, a={"deep": {"first": -1}})
            at_once(store, session_id, act)
            expected = {"first": -1, **{str(n): n for n in range(MANY)}}
            assert fields_of(store, session_id)["a"]["deep"] == expected


def test_of_many_at_once_that_append_the_same_item_each_has_its_item(
    server: Server,
) -> None:
    with server.client(max_connections=MANY) as client:
        store = sessions(client)
        session_id = stored(store, a=[])
        at_once(store, session_id, lambda session, _: session["a"].append("seen"))
        assert fields_of(store, session_id) == {"a": ["seen"] * MANY}


# -- bounds --------------------------------------------------------------------------


def test_one_who_is_always_overtaken_gives_up_and_writes_nothing(
    counted: CountedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sessions(counted)
    session_id = stored(store, a=["secret"], n=1)
    tries = 0

    def overtake(*_: float) -> None:
        nonlocal tries
        tries += 1
        with store.open(session_id) as other:
            other["a"].append(tries)

    monkeypatch.setattr(time, "sleep", overtake)
    with pytest.raises(SessionConflict) as caught:
        with loaded(store, session_id) as mine:
            overtake()
            mine["a"].append("mine")
            mine["b"] = 1
            mine.incr("n")
    assert "'a'" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert session_id not in str(caught.value)
    assert 20 < tries < 1000
    after = {"a": ["secret", *range(1, tries + 1)], "n": 1}
    assert fields_of(store, session_id) == after


def test_the_pauses_are_short_and_shrink_so_that_nobody_is_always_late(
    redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    store = sessions(redis)
    session_id = stored(store, a=[])

    def overtake(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) < 5:
            with store.open(session_id) as other:
                other["a"].append(len(pauses))

    monkeypatch.setattr(time, "sleep", overtake)
    with loaded(store, session_id) as mine:
        with loaded(store, session_id) as theirs:
            theirs["a"].append(0)
        mine["a"].append("mine")
    assert len(pauses) == 5
    assert pauses == sorted(set(pauses), reverse=True)
    assert 0 < pauses[-1] < pauses[0] < 0.01


def test_a_merge_that_is_too_large_is_refused_and_nothing_is_written(
    backend: Backend,
) -> None:
    store = sessions(backend.client, max_size=200)
    session_id = stored(store, a=[], b=1)
    with pytest.raises(SessionTooLarge) as caught:
        with loaded(store, session_id) as mine:
            with loaded(store, session_id) as theirs:
                theirs["a"].append("t" * 120)
            before = record(backend.client)
            mine["a"].append("m" * 120)
            mine["b"] = 2
    assert "mmm" not in str(caught.value)
    assert "ttt" not in str(caught.value)
    assert record(backend.client) == before


def test_what_cannot_be_encoded_is_refused_before_a_conflict_is_seen(
    counted: CountedRedis,
) -> None:
    store = sessions(counted)
    session_id = stored(store, a=[1])
    with pytest.raises(EncodeError, match="'a'"):
        with loaded(store, session_id) as mine:
            with loaded(store, session_id) as theirs:
                theirs["a"].append(2)
            before = record(counted)
            mine["a"].append(object())
            counted.trips.reset()
    assert counted.trips.count == 0
    assert record(counted) == before


def test_a_counter_that_became_text_is_refused_after_the_merge_too(
    redis: redis_py.Redis,
) -> None:
    store = sessions(redis)
    session_id = stored(store, a=[1], n=1)
    with pytest.raises(EncodeError, match="'n'"):
        with loaded(store, session_id) as mine:
            with loaded(store, session_id) as theirs:
                theirs["a"].append(2)
                theirs["n"] = "text"
            before = record(redis)
            mine["a"].append(3)
            mine.incr("n")
    assert record(redis) == before


@pytest.mark.parametrize("name", ["n", "@n", "@@n", "@"])
def test_a_field_is_named_as_the_application_calls_it(
    redis: redis_py.Redis, name: str
) -> None:
    store = sessions(redis, conflict="raise")
    session_id = stored(store, **{name: "text"})
    with pytest.raises(EncodeError, match=f"field '{name}' "):
        with store.open(session_id) as blind:
            blind.incr(name)
    with pytest.raises(SessionConflict, match=f"changed '{name}' since"):
        both(store, session_id, put(name, value=1), put(name, value=2))
    assert fields_of(store, session_id) == {name: 1}


@pytest.mark.parametrize("scope", ["commit", "manual"])
def test_a_conflict_is_merged_under_a_lock_that_was_taken_after_the_load(
    redis: redis_py.Redis, scope: str
) -> None:
    store = sessions(redis, lock="single", lock_scope=scope)
    session_id = stored(store, a=[1])
    both(store, session_id, append("a", 2), append("a", 3))
    assert fields_of(store, session_id) == {"a": [1, 2, 3]}
    assert redis.keys("lock:*") == []


def test_what_was_pending_before_a_lock_block_is_merged(redis: redis_py.Redis) -> None:
    store = sessions(redis, lock="single", lock_scope="manual")
    session_id = stored(store, a=[1])
    with loaded(store, session_id) as mine:
        mine["a"].append(2)
        with loaded(store, session_id) as theirs:
            theirs["a"].append(3)
        with mine.lock():
            assert mine["a"] == [1, 3, 2]
            mine["a"].append(4)
    assert fields_of(store, session_id) == {"a": [1, 3, 2, 4]}
