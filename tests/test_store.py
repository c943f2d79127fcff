"""The record in Redis, verb by verb, on every kind of server."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import pickle
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pytest
import redis as redis_py
from conftest import Backend
from records import META, PARTS, fields_in, meta_of, set_meta
from redis.cluster import RedisCluster
from servers import Cluster, Monitor, Server, assert_sessions_expire

from smartredis_wsgi import (
    EncodeError,
    SessionGone,
    SessionStore,
    SessionTooLarge,
    StoreUnavailable,
)
from smartredis_wsgi import store as store_module
from smartredis_wsgi.config import Config
from smartredis_wsgi.fields import Changes, Number
from smartredis_wsgi.store import (
    Basis,
    Committed,
    Destroyed,
    Kind,
    Loaded,
    Outcome,
    Records,
    Tie,
    size_of,
)
from smartredis_wsgi.wire import Call, Wire

NAME, OTHER = "{slot}name", "{slot}other"
MINE, THEIRS = b"incarnation-of-mine---", b"incarnation-of-theirs-"


DESTROYED = Destroyed(Kind.DESTROYED, "")


def stored(version: int, *sums: bytes | None) -> Committed:
    """What a commit to my record comes to, and what it has added to holds then."""
    return Committed(Outcome.STORED, version, MINE, [*sums])


class Verbs:
    """The verbs of the store: each makes a call, which ``run`` sends.

    What these tests know of the inside of the package is here.
    """

    def __init__(self, client: Any, **options: Any) -> None:
        config = Config.build(client=client, **options)
        self.client = client
        self._wire = Wire(client, config.timeout)
        self._records = Records(config, self._wire.digests)

    def run(self, call: Call[Any]) -> Any:
        """The call's result; one that is run again bears the same nonce."""
        self._wire.run(call)
        return call.result

    def bear(self, call: Call[Any], nonce: bytes) -> Call[Any]:
        """The call with that nonce, as if by chance."""
        call.nonce, call._operands = nonce, (*call._operands[:-1], nonce)
        call.commands = call.whole_commands
        return call

    def key(self, name: str = NAME) -> str:
        return self._records.key(name)

    def load(self, name: str = NAME, asked: Collection[str] = ()) -> Call[Any]:
        return self._records.load(name, asked)

    def fetch(self, fields: Collection[str]) -> Call[Any]:
        return self._records.fetch(NAME, fields)

    def create(
        self,
        fields: Mapping[str, bytes],
        name: str = NAME,
        incarnation: bytes = MINE,
        ttl: float | None = None,
        tie: Tie | None = None,
    ) -> Call[Any]:
        return self._records.create(name, incarnation, fields, ttl, tie)

    def update(
        self,
        sets: Mapping[str, bytes] | None = None,
        deletions: set[str] | None = None,
        additions: Mapping[str, Number] | None = None,
        *,
        name: str = NAME,
        incarnation: bytes = MINE,
        version: int | None = None,
        lock: str = "",
        token: bytes = b"",
        ttl: float | None = None,
        new_name: str | None = None,
        read_as: Mapping[str, bytes | None] | None = None,
        grace: float | None = None,
        trace: float = 0.0,
        tie: Tie | None = None,
    ) -> Call[Any]:
        changes = Changes(
            sets or {}, frozenset(deletions or ()), additions or {}, read_as or {}
        )
        basis = Basis(incarnation, version, lock, token)
        return self._records.update(
            name, changes, basis, ttl, new_name, grace, trace, tie
        )

    def owner_of(self, name: str = NAME) -> Call[Any]:
        return self._records.owner_of(name)

    def destroy(self, name: str = NAME, owner: str = "") -> Call[Any]:
        return self._records.destroy(name, owner)

    def made(self, fields: Mapping[str, bytes], **options: Any) -> Verbs:
        """The same verbs, the record being there now."""
        assert self.run(self.create(fields, **options)).outcome is Outcome.STORED
        return self

    def fields(self, name: str = NAME) -> dict[str, bytes]:
        left = self.run(self.load(name)).left
        return dict(self.run(self._records.load(name, left)).fields)

    def raw(self, name: str = NAME) -> dict[bytes, bytes]:
        stored: dict[bytes, bytes] = self.client.hgetall(self.key(name))
        return stored

    def ttl_ms(self, name: str = NAME) -> int:
        left: int = self.client.pttl(self.key(name))
        return left


def snapshot(client: Any) -> dict[bytes, Any]:
    """All keys and what they hold; not when they expire."""
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter()}


def moved(verbs: Verbs, name: str = OTHER, till: int = 0) -> bytes:
    """The tombstone of a rotation to the name."""
    return f"moved {till} {verbs.key(name)}".encode()


@contextlib.contextmanager
def one_case(client: Any, case: object) -> Iterator[None]:
    """One of the cases that a test goes through, on an empty server of its own.

    Cases that differ only in a value share a test: a test per value and per server
    costs more than what it tests.
    """
    client.flushall()
    try:
        yield
        assert_sessions_expire(client)
    except BaseException as error:
        error.add_note(f"in the case {case!r}")
        raise


@pytest.fixture
def verbs(backend: Backend) -> Iterator[Verbs]:
    yield Verbs(backend.client)
    assert_sessions_expire(backend.client)


@pytest.fixture
def store(backend: Backend) -> Iterator[SessionStore]:
    yield SessionStore.from_config(client=backend.client)
    assert_sessions_expire(backend.client)


def new_session(store: SessionStore, **fields: Any) -> str:
    """A stored session's id."""
    with store.open() as session:
        session.update(fields)
    return session.id


def key_of(client: Any) -> bytes:
    """The only key of a session that there is."""
    (key,) = client.scan_iter(match="session:*")
    return bytes(key)


# -- what a key holds ------------------------------------------------------------------


def test_a_key_holds_a_hash_then_a_tombstone_then_nothing(verbs: Verbs) -> None:
    client, key = verbs.client, verbs.key()
    assert client.type(key) == b"none"
    verbs.made({"a": b"1"})
    assert client.type(key) == b"hash"
    assert verbs.run(verbs.destroy()) == DESTROYED
    assert client.type(key) == b"string"
    client.delete(key)
    assert verbs.run(verbs.load()).kind is Kind.ABSENT


def test_of_what_is_not_told_nothing_is_known() -> None:
    nothing = (False, b"", 0, 0.0, {}, (), "", False, None, "", 0.0)
    assert Loaded(Kind.ABSENT) == (Kind.ABSENT, *nothing)
    assert Committed(Outcome.GONE, 0, b"", [])[-2:] == ("", 0.0)


@pytest.mark.parametrize("end", ["destroy", "rotate"])
def test_redis_itself_refuses_a_field_on_a_tombstone(verbs: Verbs, end: str) -> None:
    verbs.made({"a": b"1"})
    verbs.run(verbs.destroy() if end == "destroy" else verbs.update(new_name=OTHER))
    with pytest.raises(redis_py.ResponseError, match="WRONGTYPE"):
        verbs.client.hset(verbs.key(), "a", "2")


def test_a_record_comes_back_as_it_was_created(verbs: Verbs) -> None:
    fields = {"a": b"1", "raw": bytes(range(256)), "empty": b""}
    created = verbs.run(verbs.create(fields))
    loaded = verbs.run(verbs.load())
    assert created == stored(1)._replace(detail=created.detail)
    assert (loaded.kind, loaded.incarnation, loaded.version) == (Kind.ALIVE, MINE, 1)
    assert loaded.fields == fields
    seconds, _ = verbs.client.time()
    assert seconds - 60 < loaded.created <= seconds + 1
    (created_ms,) = created.detail
    assert int(created_ms) == round(loaded.created * 1000)


def test_a_record_may_have_thousands_of_fields(redis: redis_py.Redis) -> None:
    fields = {f"{number}": b"1" for number in range(1200)}
    verbs = Verbs(redis).made(fields)
    assert verbs.fields() == fields
    assert verbs.run(verbs.update(dict.fromkeys(fields, b"2"))) == stored(2)
    changed = dict.fromkeys(fields, b"2")
    assert verbs.fields() == verbs.run(verbs.fetch(fields)).fields == changed
    assert verbs.run(verbs.update({}, set(fields))) == stored(3)
    assert verbs.fields() == {}


def test_a_large_field_that_is_asked_for_comes_and_is_not_left(
    redis: redis_py.Redis,
) -> None:
    big = b"x" * 500_000
    verbs = Verbs(redis).made({"asked": big, "other": big, "small": b"1"})
    loaded = verbs.run(verbs.load(asked=["asked"]))
    assert loaded.fields == {"asked": big, "small": b"1"}
    assert list(loaded.left) == ["other"]


def test_a_server_that_takes_no_writes_tells_what_lives(redis: redis_py.Redis) -> None:
    verbs = Verbs(redis, touch_every=0).made({"a": b"1"})
    verbs.client.pexpire(verbs.key(), 60_000)
    make_old(verbs, 100)
    strict = Verbs(redis, max_lifetime=60)
    redis.config_set("min-replicas-to-write", 1)
    try:
        loaded = verbs.run(verbs.load())
        assert (loaded.fields, loaded.prolonged) == ({"a": b"1"}, False)
        assert strict.run(strict.load()).kind is Kind.ABSENT
    finally:
        redis.config_set("min-replicas-to-write", 0)


def test_a_create_takes_no_key_that_is_in_use(verbs: Verbs) -> None:
    for left in ("hash", "destroyed", "moved", "list"):
        with one_case(verbs.client, left):
            if left == "list":
                verbs.client.rpush(verbs.key(), "x")
                verbs.client.expire(verbs.key(), 60)
            else:
                verbs.made({"a": b"1"}, incarnation=THEIRS)
            if left == "destroyed":
                verbs.run(verbs.destroy())
            elif left == "moved":
                verbs.run(verbs.update(new_name=OTHER, incarnation=THEIRS))
            before = snapshot(verbs.client)
            created = verbs.run(verbs.create({"b": b"2"}))
            assert created == Committed(Outcome.GONE, 0, b"", [])
            assert snapshot(verbs.client) == before


def test_a_commit_sets_deletes_and_adds_at_once(verbs: Verbs) -> None:
    verbs.made({"keep": b"k", "set": b"old", "del": b"d", "add": b"5"})
    committed = verbs.run(
        verbs.update({"set": b"new", "more": b"m"}, {"del"}, {"add": 2, "fresh": -1})
    )
    assert committed == stored(2, b"7", b"-1")
    assert verbs.fields() == {
        "keep": b"k",
        "set": b"new",
        "more": b"m",
        "add": b"7",
        "fresh": b"-1",
    }


def test_the_version_counts_the_commits(verbs: Verbs) -> None:
    verbs.made({})
    for version in range(2, 40):
        assert verbs.run(verbs.update({"a": b"%d" % version})).version == version
        assert verbs.run(verbs.load()).version == version


def test_a_session_may_have_no_field(verbs: Verbs) -> None:
    verbs.made({})
    assert verbs.fields() == {}
    assert verbs.run(verbs.update({"a": b"1"})).outcome is Outcome.STORED
    assert verbs.run(verbs.update({}, {"a"})).outcome is Outcome.STORED
    assert verbs.run(verbs.load()).kind is Kind.ALIVE


# -- an update never creates -----------------------------------------------------------


def expire(client: Any, key: bytes) -> None:
    client.pexpireat(key, 1)


def evict(client: Any, key: bytes) -> None:
    client.delete(key)


def test_an_update_of_nothing_makes_nothing(verbs: Verbs) -> None:
    for lose, new_name in itertools.product((expire, evict), (None, OTHER)):
        with one_case(verbs.client, (lose.__name__, new_name)):
            verbs.made({"a": b"1"})
            lose(verbs.client, verbs.key().encode())
            for incarnation in (MINE, b""):
                call = verbs.update(
                    {"a": b"2"},
                    {"b"},
                    {"n": 1},
                    incarnation=incarnation,
                    new_name=new_name,
                    ttl=9,
                )
                assert verbs.run(call).outcome is Outcome.ABSENT
            assert verbs.client.dbsize() == 0


@pytest.mark.parametrize("lock", ["none", "single"])
@pytest.mark.parametrize("lose", [expire, evict])
def test_a_session_lost_between_load_and_commit_is_gone(
    backend: Backend,
    caplog: pytest.LogCaptureFixture,
    lose: Callable[[Any, bytes], None],
    lock: str,
) -> None:
    store = SessionStore.from_config(client=backend.client, lock=lock)
    session_id = new_session(store, a=1)
    with store.open(session_id) as session:
        assert session["a"] == 1
        session["b"], session["a"] = 2, 3
        session.incr("n")
        lose(backend.client, key_of(backend.client))
    assert not list(backend.client.scan_iter(match="session:*"))
    assert "is gone" in caplog.text
    assert session_id not in caplog.text
    with store.open(session_id) as session:
        assert dict(session) == {}


@pytest.mark.parametrize("lose", [expire, evict])
def test_a_commit_onto_a_lost_session_raises_where_asked(
    backend: Backend, lose: Callable[[Any, bytes], None]
) -> None:
    store = SessionStore.from_config(client=backend.client, on_gone="raise")
    session_id = new_session(store, a=1)
    with pytest.raises(SessionGone) as caught, store.open(session_id) as session:  # noqa: PT012
        session["a"] += 1
        lose(backend.client, key_of(backend.client))
    assert session_id not in str(caught.value)
    assert backend.client.dbsize() == 0


def test_every_key_has_an_expiry_at_each_step(verbs: Verbs) -> None:
    steps = [
        verbs.create({"a": b"1"}),
        verbs.load(),
        verbs.update({"b": b"2"}, ttl=60),
        verbs.update({"b": b"3"}, new_name=OTHER),
        verbs.update({}, {"b"}, name=OTHER),
        verbs.destroy(OTHER),
        verbs.destroy(),
    ]
    for step in steps:
        verbs.run(step)
        for key in verbs.client.scan_iter():
            assert verbs.client.pttl(key) > 0


# -- all checks come before the first write --------------------------------------------


Refusal = tuple[Outcome, dict[str, Any]]
REFUSALS: dict[str, Refusal] = {
    "another incarnation": (Outcome.GONE, {"incarnation": THEIRS}),
    "another version": (Outcome.STALE, {"version": 7}),
    "the target is a session": (Outcome.GONE, {"new_name": "{slot}session"}),
    "the target is a tombstone": (Outcome.GONE, {"new_name": "{slot}tombstone"}),
    "the target is foreign": (Outcome.GONE, {"new_name": "{slot}list"}),
    "another holds the lock": (
        Outcome.HELD,
        {"lock": "lock:session:{slot}", "token": b"mine"},
    ),
    "too large": (Outcome.LARGE, {"sets": {"a": b"x" * 2000}}),
    "no number is stored": (Outcome.NUMBER, {"additions": {"n": 1, "text": 1}}),
    "no number is added": (Outcome.NUMBER, {"additions": {"n": 10**18}}),
    "the sum is infinite": (Outcome.NUMBER, {"additions": {"huge": 1.7e308}}),
    "destroyed": (Outcome.DESTROYED, {"name": "{slot}tombstone"}),
    "moved": (Outcome.MOVED, {"name": "{slot}moved"}),
    "nothing": (Outcome.ABSENT, {"name": "{slot}nothing"}),
    "a list": (Outcome.ABSENT, {"name": "{slot}list"}),
    "a foreign string": (Outcome.ABSENT, {"name": "{slot}string"}),
    "a foreign hash": (Outcome.ABSENT, {"name": "{slot}hash"}),
}


def plant(verbs: Verbs) -> None:
    """Records of every sort, and a lock that another holds; short of life."""
    client = verbs.client
    verbs.made({"a": b"1", "n": b"5", "text": b'"x"', "huge": b"1.7e308", "d": b"0"})
    for name in ("session", "tombstone", "moved"):
        verbs.made({"a": b"1"}, name="{slot}" + name)
    verbs.run(verbs.destroy("{slot}tombstone"))
    verbs.run(verbs.update(name="{slot}moved", new_name="{slot}elsewhere"))
    client.rpush(verbs.key("{slot}list"), "x")
    client.set(verbs.key("{slot}string"), "x")
    client.hset(verbs.key("{slot}hash"), "a", "1")
    client.set("lock:session:{slot}", "theirs")
    for key in client.scan_iter():
        client.pexpire(key, 60_000)


def test_a_refused_commit_leaves_everything_as_it_was(backend: Backend) -> None:
    verbs = Verbs(backend.client, max_size=1000)
    everything = {
        "sets": {"a": b"2", "new": b"x"},
        "deletions": {"d"},
        "additions": {"n": 1},
        "ttl": 900,
        "new_name": OTHER,
    }
    for case, (outcome, options) in REFUSALS.items():
        with one_case(verbs.client, case):
            plant(verbs)
            before = snapshot(verbs.client)
            call = verbs.update(**{**everything, **options})
            for _ in range(2):
                assert verbs.run(call).outcome is outcome
            assert snapshot(verbs.client) == before
            assert all(0 < verbs.client.pttl(key) <= 60_000 for key in before)


def test_what_is_refused_in_one_case_is_stored_without_it(backend: Backend) -> None:
    verbs = Verbs(backend.client, max_size=1000)
    plant(verbs)
    call = verbs.update(
        {"a": b"2", "new": b"x"}, {"d"}, {"n": 1}, ttl=900, new_name=OTHER, version=1
    )
    assert verbs.run(call) == stored(2, b"6")
    assert verbs.client.get(verbs.key()) == moved(verbs)
    fields = verbs.fields(OTHER)
    assert (fields["a"], fields["new"], fields["n"]) == (b"2", b"x", b"6")
    assert "d" not in fields


def test_a_conflict_gives_back_what_is_stored_of_each_field_with_another_base(
    verbs: Verbs,
) -> None:
    for at in ("", "@", "@@"):
        with one_case(verbs.client, at):
            first, second, third = f"{at}a", f"{at}b", f"{at}c"
            verbs.made({first: b"1", second: b"2", "same": b"3", "blind": b"4"})
            before = snapshot(verbs.client)
            call = verbs.update(
                {first: b"9", third: b"9", "same": b"9", "blind": b"9", "new": b"9"},
                {second, "nothing"},
                {"n": 1},
                new_name=OTHER,
                ttl=60,
                read_as={
                    first: b"0" * 100,
                    second: None,
                    third: b"2",
                    "same": b"3",
                    "new": None,
                    "nothing": None,
                },
            )
            for _ in range(2):
                outcome, version, incarnation, detail = verbs.run(call)[:4]
                assert (outcome, version, incarnation) == (Outcome.CONFLICT, 1, MINE)
                theirs = dict(zip(detail[::2], detail[1::2], strict=True))
                assert theirs == {first: b"1", second: b"2", third: None}
                assert snapshot(verbs.client) == before


def test_a_base_of_any_length_is_told_from_another(verbs: Verbs) -> None:
    for size in (0, 1, 39, 40, 41, 100_000):
        with one_case(verbs.client, size):
            raw = b"x" * size
            verbs.made({"a": raw})
            for other in (raw + b"x", raw[1:], raw[1:] + b"y", b"-", b"=" + raw, b"#"):
                if other != raw:
                    call = verbs.update({"a": b"mine"}, read_as={"a": other})
                    assert verbs.run(call)[:1] == (Outcome.CONFLICT,), other
                    assert verbs.run(call).detail == ["a", raw]
            assert verbs.fields() == {"a": raw}
            call = verbs.update({"a": b"mine"}, read_as={"a": raw})
            assert verbs.run(call) == stored(2)


def test_a_server_without_digests_is_given_bases_whole(redis: redis_py.Redis) -> None:
    raw = b"x" * 100
    verbs = Verbs(redis).made({"a": raw})
    verbs._records = Records(Config.build(client=redis), digests=False)
    call = verbs.update({"a": b"mine"}, read_as={"a": raw})
    assert b"=" + raw in call._operands
    assert verbs.run(call) == stored(2)


def test_a_basis_with_a_version_is_compared_to_nothing_else(verbs: Verbs) -> None:
    verbs.made({"a": b"1"})
    call = verbs.update({"a": b"2"}, version=1, read_as={"a": b"another"})
    assert verbs.run(call) == stored(2)


def test_a_moved_record_tells_its_name_and_whether_the_grace_lasts(
    backend: Backend,
) -> None:
    verbs = Verbs(backend.client, rotate_grace=60).made({"a": b"1"})
    verbs.run(verbs.update(new_name=OTHER))
    assert verbs.run(verbs.load()) == Loaded(Kind.MOVED, moved_to=OTHER, in_grace=True)
    assert 50_000 < verbs.ttl_ms() <= 60_000
    word, till, key = verbs.client.get(verbs.key()).split()
    assert (word, key.decode()) == (b"moved", verbs.key(OTHER))
    seconds, micro = verbs.client.time()
    left_ms = int(till) - seconds * 1000 - micro // 1000
    assert 0 < left_ms <= 60_000
    late = verbs.update({"b": b"2"})
    assert verbs.run(late) == Committed(Outcome.MOVED, 1, b"", [OTHER])
    verbs.client.set(verbs.key(), moved(verbs, till=int(till) - 60_000), ex=60)
    assert verbs.run(verbs.load()) == Loaded(Kind.MOVED, moved_to=OTHER)
    assert verbs.run(late) == Committed(Outcome.MOVED, 0, b"", [OTHER])


@pytest.mark.parametrize("holder", ["mine", None])
def test_a_lock_that_is_mine_or_free_refuses_nothing(
    verbs: Verbs, holder: str | None
) -> None:
    verbs.made({"a": b"1"})
    if holder:
        verbs.client.set("lock:session:{slot}", holder, ex=60)
    call = verbs.update({"a": b"2"}, lock="lock:session:{slot}", token=b"mine")
    assert verbs.run(call).outcome is Outcome.STORED


# -- each script may be run twice ------------------------------------------------------


def test_a_load_run_twice_changes_nothing(verbs: Verbs) -> None:
    verbs.made({"a": b"1"})
    call = verbs.load()
    first, before = verbs.run(call), snapshot(verbs.client)
    assert verbs.run(call)._replace(prolonged=first.prolonged) == first
    assert snapshot(verbs.client) == before


def test_a_load_run_twice_tells_what_the_first_did(redis: redis_py.Redis) -> None:
    verbs = Verbs(redis, ttl=1000).made({})
    redis.pexpire(verbs.key(), 5_000)
    call = verbs.load()
    assert [verbs.run(call).prolonged for _ in range(2)] == [True, True]


def test_a_create_run_twice_makes_one_record(verbs: Verbs) -> None:
    call = verbs.create({"a": b"1"}, ttl=60)
    first, before = verbs.run(call), snapshot(verbs.client)
    assert verbs.run(call) == first
    assert snapshot(verbs.client) == before


def test_an_update_run_twice_is_applied_once(verbs: Verbs) -> None:
    verbs.made({"a": b"1", "d": b"2", "n": b"5", "f": b"0.1"})
    call = verbs.update({"a": b"9"}, {"d"}, {"n": 3, "f": 0.2, "new": -4}, ttl=77)
    first, before = verbs.run(call), snapshot(verbs.client)
    assert first == stored(2, b"8", b"0.30000000000000004", b"-4")
    assert verbs.run(call) == first
    assert snapshot(verbs.client) == before
    sums = {"n": b"8", "f": b"0.30000000000000004", "new": b"-4"}
    assert verbs.fields() == {"a": b"9", **sums}


@pytest.mark.parametrize("basis", [{"version": 1}, {"incarnation": b""}])
def test_an_update_run_twice_still_fits_its_basis(
    verbs: Verbs, basis: dict[str, Any]
) -> None:
    verbs.made({"n": b"5"})
    call = verbs.update({}, None, {"n": 3}, **basis)
    assert verbs.run(call) == verbs.run(call) == stored(2, b"8")
    assert verbs.fields() == {"n": b"8"}


def test_an_update_run_twice_is_stored_though_the_lock_is_anothers_now(
    verbs: Verbs,
) -> None:
    verbs.made({"n": b"5"})
    verbs.client.set("lock:session:{slot}", "mine", ex=60)
    call = verbs.update(
        {}, None, {"n": 3}, version=1, lock="lock:session:{slot}", token=b"mine"
    )
    first = verbs.run(call)
    verbs.client.set("lock:session:{slot}", "theirs", ex=60)
    assert verbs.run(call) == first
    assert verbs.fields() == {"n": b"8"}


def test_a_rotation_run_twice_moves_once(verbs: Verbs) -> None:
    verbs.made({"a": b"1", "n": b"5"})
    call = verbs.update({"a": b"2"}, None, {"n": 1}, new_name=OTHER)
    first, before = verbs.run(call), snapshot(verbs.client)
    assert verbs.run(call) == first == stored(2, b"6")
    assert snapshot(verbs.client) == before
    assert verbs.fields(OTHER) == {"a": b"2", "n": b"6"}


def test_a_rotation_run_twice_is_known_when_its_tombstone_has_ended(
    verbs: Verbs,
) -> None:
    verbs.made({"n": b"5"})
    call = verbs.update({}, None, {"n": 1}, new_name=OTHER)
    first = verbs.run(call)
    verbs.client.delete(verbs.key())
    assert verbs.run(call) == first
    assert verbs.fields(OTHER) == {"n": b"6"}


@pytest.mark.parametrize("new_name", [OTHER, None], ids=["rotation", "update"])
def test_what_has_moved_and_ended_has_ended_for_who_sends_again(
    verbs: Verbs, new_name: str | None
) -> None:
    verbs.made({"a": b"1"})
    call = verbs.update({"a": b"2"}, new_name=new_name, version=1)
    blind = verbs.update({"a": b"2"}, new_name=new_name, incarnation=b"")
    verbs.run(call)
    if new_name is None:
        verbs.run(verbs.update(new_name=OTHER))
    verbs.run(verbs.destroy(OTHER))
    assert verbs.run(call).outcome is Outcome.DESTROYED
    assert verbs.run(blind).outcome is Outcome.MOVED
    verbs.client.delete(verbs.key(OTHER))
    assert verbs.run(call).outcome is Outcome.ABSENT


def test_a_destroy_run_twice_says_the_same(verbs: Verbs) -> None:
    verbs.made({"a": b"1"})
    call = verbs.destroy()
    assert verbs.run(call) == DESTROYED
    before = snapshot(verbs.client)
    assert verbs.run(call) == DESTROYED
    assert snapshot(verbs.client) == before


LATER = (0, 1, 7, 15)


def test_a_commit_is_known_behind_later_ones(verbs: Verbs) -> None:
    for later in LATER:
        with one_case(verbs.client, later):
            verbs.made({"n": b"5"})
            call = verbs.update({"a": b"mine"}, None, {"n": 3}, version=1)
            first = verbs.run(call)
            assert first == stored(2, b"8")
            for number in range(later):
                verbs.run(verbs.update({"a": b"theirs", "b": b"%d" % number}))
            before = snapshot(verbs.client)
            assert verbs.run(call) == first
            assert snapshot(verbs.client) == before
            assert verbs.fields()["n"] == b"8"


def test_a_create_is_known_behind_later_commits(verbs: Verbs) -> None:
    for later in LATER:
        with one_case(verbs.client, later):
            call = verbs.create({"a": b"mine"})
            first = verbs.run(call)
            for number in range(later):
                verbs.run(verbs.update({"a": b"%d" % number}))
            before = snapshot(verbs.client)
            assert verbs.run(call) == first
            assert snapshot(verbs.client) == before


def test_a_commit_is_known_behind_a_later_rotation_of_the_same_target(
    verbs: Verbs,
) -> None:
    verbs.made({"n": b"5"})
    call = verbs.update({}, None, {"n": 3}, new_name=OTHER)
    first = verbs.run(call)
    verbs.run(verbs.update({"a": b"later"}, name=OTHER))
    before = snapshot(verbs.client)
    assert verbs.run(call) == first == stored(2, b"8")
    assert snapshot(verbs.client) == before
    assert verbs.fields(OTHER) == {"a": b"later", "n": b"8"}


def test_a_second_run_reports_what_the_first_did(verbs: Verbs) -> None:
    later: dict[str, tuple[Call[Any], dict[str, bytes]]] = {
        "add": (verbs.update({}, None, {"n": 100}), {"n": b"108"}),
        "set": (verbs.update({"n": b'"text"'}), {"n": b'"text"'}),
        "delete": (verbs.update({}, {"n"}), {}),
    }
    for change, (other, fields) in later.items():
        with one_case(verbs.client, change):
            verbs.made({"n": b"5"})
            call = verbs.update({}, None, {"n": 3})
            assert verbs.run(call) == stored(2, b"8")
            assert verbs.fields() == {"n": b"8"}
            assert verbs.run(other)[:2] == (Outcome.STORED, 3)
            before = snapshot(verbs.client)
            assert verbs.run(call) == stored(2, fields.get("n"))  # as it is now
            assert snapshot(verbs.client) == before
            assert verbs.fields() == fields


def test_a_commit_is_known_where_the_record_was_rotated_to_since(verbs: Verbs) -> None:
    names = [NAME, OTHER, "{slot}third", "{slot}fourth"]
    for target, last in itertools.product((None, OTHER), range(2, 5)):
        with one_case(verbs.client, (target, last)):
            verbs.made({"n": b"5"})
            call = verbs.update({}, None, {"n": 3}, version=1, new_name=target)
            assert verbs.run(call) == stored(2, b"8")
            at = names.index(target or NAME)
            rotations = [*itertools.pairwise(names[at:last])]
            for before, after in rotations:
                verbs.run(verbs.update(name=before, new_name=after))
            stay = snapshot(verbs.client)
            assert verbs.run(call) == stored(2, b"8")
            assert snapshot(verbs.client) == stay
            loaded = verbs.run(verbs.load(names[last - 1]))
            assert loaded.fields == {"n": b"8"}
            assert loaded.version == 2 + len(rotations)


def test_a_merged_commit_run_twice_is_applied_once(verbs: Verbs) -> None:
    verbs.made({"a": b"1"})
    call = verbs.update({"a": b"2"}, read_as={"a": b"1"})
    assert verbs.run(call) == verbs.run(call) == stored(2)
    assert verbs.fields() == {"a": b"2"}


def test_different_commits_are_all_applied(verbs: Verbs) -> None:
    verbs.made({"n": b"0"})
    for _ in range(40):
        assert verbs.run(verbs.update({}, None, {"n": 1})).outcome is Outcome.STORED
    assert verbs.fields() == {"n": b"40"}


def test_what_is_run_twice_writes_twice(server: Server, redis: redis_py.Redis) -> None:
    """On no replica may be what the first run wrote: a WAIT is to be for something."""
    verbs = Verbs(redis).made({"a": b"1"})
    for call in (verbs.update({"a": b"2"}), verbs.destroy()):
        first = verbs.run(call)
        with Monitor(server) as monitor:
            assert verbs.run(call) == first
        assert '"PEXPIRE"' in "".join(monitor.lines())


# -- destroy, and who comes late -------------------------------------------------------


def test_a_tombstone_lives_as_long_as_configured(backend: Backend) -> None:
    verbs = Verbs(backend.client, delete_expiry=40).made({"a": b"1"})
    verbs.run(verbs.destroy())
    assert 30_000 < verbs.ttl_ms() <= 40_000
    verbs.made({"a": b"1"}, name=OTHER)
    verbs.run(verbs.update(name=OTHER, new_name="{slot}third"))
    assert 30_000 < verbs.ttl_ms(OTHER) <= 40_000


def test_a_rotation_leaves_its_traces_for_as_long_as_asked(
    redis: redis_py.Redis,
) -> None:
    verbs = Verbs(redis, delete_expiry=40_000, rotate_grace=60_000)
    for grace, trace, left in [
        (None, 0, 60_000),
        (0, 30_000, 40_000),
        (0, 50_000, 50_000),
        (70_000, 0, 70_000),
    ]:
        with one_case(redis, (grace, trace)):
            call = verbs.made({}).update(new_name=OTHER, grace=grace, trace=trace)
            assert verbs.run(call).outcome is Outcome.STORED
            assert left - 10 < verbs.ttl_ms() / 1000 <= left
            loaded = verbs.run(verbs.load())
            assert loaded.in_grace is (grace != 0)


def test_a_rotation_and_a_destroy_wait_for_replicas_and_nothing_else(
    redis: redis_py.Redis,
) -> None:
    verbs = Verbs(redis, wait_replicas=2)
    waiting = verbs.update(new_name=OTHER), verbs.destroy()
    assert [call.replicas for call in waiting] == [2, 2]
    others = verbs.load(), verbs.create({}), verbs.update({"a": b"1"})
    assert not any(call.replicas for call in others)


def test_the_owner_is_told_of_what_is_alive(redis: redis_py.Redis) -> None:
    verbs = Verbs(redis)
    assert verbs.run(verbs.owner_of()) == (Kind.ABSENT, "")
    now, _ = redis.time()
    verbs.made({}, tie=Tie("ann", (now + 800) * 1000, binds=True))
    verbs.made({}, name=OTHER)
    assert verbs.run(verbs.owner_of()) == (Kind.ALIVE, "ann")
    assert verbs.run(verbs.owner_of(OTHER)) == (Kind.ALIVE, "")
    verbs.run(verbs.destroy())
    assert verbs.run(verbs.owner_of()) == (Kind.DESTROYED, "")


@pytest.mark.parametrize("ttl", [None, 1234.5])
@pytest.mark.parametrize("owner", ["", "ann"])
def test_what_is_loaded_tells_its_owner_and_its_own_ttl(
    redis: redis_py.Redis, owner: str, ttl: float | None
) -> None:
    now, _ = redis.time()
    tie = Tie(owner, (now + 5000) * 1000, binds=True) if owner else None
    verbs = Verbs(redis).made({"a": b"1"}, ttl=ttl, tie=tie)
    loaded = verbs.run(verbs.load())
    assert (loaded.owner, loaded.own_ttl) == (owner, ttl)
    assert (loaded.due, loaded.prolonged) == (0, False)


def test_what_is_anothers_is_not_destroyed(redis: redis_py.Redis) -> None:
    now, _ = redis.time()
    verbs = Verbs(redis).made({}, tie=Tie("ann", (now + 800) * 1000, binds=True))
    assert verbs.run(verbs.destroy(owner="bob")) == Destroyed(Kind.ALIVE, "", "ann")
    assert verbs.run(verbs.destroy(owner="ann")) == Destroyed(Kind.DESTROYED, "", "ann")


def test_destroying_nothing_makes_nothing(verbs: Verbs) -> None:
    assert verbs.run(verbs.destroy()) == Destroyed(Kind.ABSENT, "")
    assert verbs.client.dbsize() == 0


@pytest.mark.parametrize("end", [DESTROYED, Destroyed(Kind.MOVED, OTHER)])
def test_destroying_a_tombstone_does_not_prolong_it(
    verbs: Verbs, end: Destroyed
) -> None:
    verbs.made({})
    verbs.run(verbs.update(new_name=OTHER) if end.moved_to else verbs.destroy())
    verbs.client.pexpire(verbs.key(), 2_000)
    before = snapshot(verbs.client)
    assert verbs.run(verbs.destroy()) == end
    assert snapshot(verbs.client) == before
    assert 0 < verbs.ttl_ms() <= 2_000


def test_nothing_prolongs_a_tombstone(verbs: Verbs) -> None:
    verbs.made({})
    verbs.run(verbs.destroy())
    for call in (
        verbs.load(),
        verbs.update({"a": b"1"}, ttl=60),
        verbs.create({"a": b"1"}),
    ):
        verbs.client.pexpire(verbs.key(), 2_000)
        verbs.run(call)
        assert verbs.client.get(verbs.key()) == b"destroyed"
        assert 0 < verbs.ttl_ms() <= 2_000


def writes(session: Any) -> None:
    session["a"] = 2


def adds(session: Any) -> None:
    session.incr("n")


def rotates(session: Any) -> None:
    session.regenerate_id()


def prolongs(session: Any) -> None:
    session.set_ttl(60)


@pytest.mark.parametrize("tombstone", ["there", "ended"])
def test_a_writer_that_loaded_before_a_destroy_does_not_bring_it_back(
    store: SessionStore,
    backend: Backend,
    caplog: pytest.LogCaptureFixture,
    tombstone: str,
) -> None:
    client = backend.client
    for act in (writes, adds, rotates, prolongs):
        with one_case(client, act.__name__):
            caplog.clear()
            session_id = new_session(store, a=1)
            key = key_of(client)
            with store.open(session_id) as session:
                assert session["a"] == 1
                act(session)
                assert store.destroy(session_id)
                if tombstone == "ended":
                    client.delete(key)
                before = snapshot(client)
            assert snapshot(client) == before
            assert "is gone" in caplog.text
            with store.open(session_id) as session:
                assert dict(session) == {}


def test_a_blind_write_after_a_destroy_makes_another_session(
    store: SessionStore, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    client = backend.client
    for act, fields in ((writes, {"a": 2}), (adds, {"n": 1})):
        with one_case(client, act.__name__):
            caplog.clear()
            session_id = new_session(store, a=1)
            key = key_of(client)
            assert store.destroy(session_id)
            client.pexpire(key, 2_000)
            with store.open(session_id) as blind:
                act(blind)
            assert blind.id != session_id
            assert client.get(key) == b"destroyed"
            assert 0 < client.pttl(key) <= 2_000
            assert client.dbsize() == 2
            assert "is gone" not in caplog.text
            with store.open(blind.id) as session:
                assert dict(session) == fields
            with store.open(session_id) as session:
                assert dict(session) == {}


def test_blind_rotations_and_timeouts_after_a_destroy_make_nothing(
    store: SessionStore, backend: Backend
) -> None:
    for act in (rotates, prolongs):
        with one_case(backend.client, act.__name__):
            session_id = new_session(store, a=1)
            assert store.destroy(session_id)
            before = snapshot(backend.client)
            with store.open(session_id) as blind:
                act(blind)
            assert snapshot(backend.client) == before


def test_a_blind_write_after_a_rotation_is_dropped(
    store: SessionStore, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    for act in (writes, adds, rotates, prolongs):
        with one_case(backend.client, act.__name__):
            caplog.clear()
            old_id = new_session(store, a=1)
            with store.open(old_id) as session:
                session.regenerate_id()
            before = snapshot(backend.client)
            with store.open(old_id) as blind:
                act(blind)
            assert snapshot(backend.client) == before
            assert "is gone" in caplog.text
            with store.open(session.id) as session:
                assert dict(session) == {"a": 1}


def test_what_was_committed_blindly_is_gone_when_it_is_lost(
    store: SessionStore, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    client = backend.client
    acts = (writes, adds, rotates, prolongs)
    losses = ("destroyed", "evicted", "another incarnation")
    for act, loss in itertools.product(acts, losses):
        with one_case(client, (act.__name__, loss)):
            caplog.clear()
            session_id = new_session(store, a=1)
            key = key_of(client)
            with store.open(session_id) as blind:
                blind["b"] = 1
                blind.save()
                if loss == "destroyed":
                    assert store.destroy(session_id)
                elif loss == "evicted":
                    client.delete(key)
                else:
                    set_meta(client, key, incarnation=THEIRS)
                before = snapshot(client)
                act(blind)
            assert snapshot(client) == before
            assert "is gone" in caplog.text


def test_a_writer_does_not_reach_another_incarnation_at_its_key(verbs: Verbs) -> None:
    verbs.made({"a": b"1"})
    verbs.run(verbs.destroy())
    verbs.client.delete(verbs.key())
    verbs.made({"a": b"theirs"}, incarnation=THEIRS)
    before = snapshot(verbs.client)
    for new_name in (None, OTHER):
        call = verbs.update({"a": b"2"}, incarnation=MINE, new_name=new_name)
        assert verbs.run(call).outcome is Outcome.GONE
    assert snapshot(verbs.client) == before


def test_a_create_does_not_take_another_incarnation_for_its_own(verbs: Verbs) -> None:
    call = verbs.create({"a": b"1"})
    verbs.run(call)
    verbs.client.delete(verbs.key())
    verbs.made({"a": b"theirs"}, incarnation=THEIRS)
    assert verbs.run(call).outcome is Outcome.GONE
    assert verbs.fields() == {"a": b"theirs"}


# -- rotation --------------------------------------------------------------------------


def test_a_rotation_leaves_a_tombstone_and_keeps_everything(verbs: Verbs) -> None:
    verbs.made({"a": b"1", "b": b"2"}, ttl=500)
    before = verbs.run(verbs.load())
    verbs.run(verbs.update({"b": b"3"}, new_name=OTHER))
    after = verbs.run(verbs.load(OTHER))
    assert verbs.client.get(verbs.key()) == moved(verbs)
    assert verbs.run(verbs.load()) == Loaded(Kind.MOVED, moved_to=OTHER)
    assert after.fields == {"a": b"1", "b": b"3"}
    assert (after.incarnation, after.created) == (before.incarnation, before.created)
    assert after.version == 2
    assert 400_000 < verbs.ttl_ms(OTHER) <= 500_000


def test_of_two_rotations_one_wins(verbs: Verbs) -> None:
    verbs.made({"a": b"1"})
    first, second = (
        verbs.update({"by": name.encode()}, new_name=name)
        for name in (OTHER, "{slot}third")
    )
    assert verbs.run(first).outcome is Outcome.STORED
    assert verbs.run(second) == Committed(Outcome.MOVED, 0, b"", [OTHER])
    assert verbs.fields(OTHER)["by"] == OTHER.encode()
    assert not verbs.client.exists(verbs.key("{slot}third"))


@pytest.mark.parametrize("tombstone", ["there", "ended"])
def test_a_slow_writer_does_not_revive_a_moved_session(
    store: SessionStore, backend: Backend, tombstone: str
) -> None:
    client = backend.client
    old_id = new_session(store, a=1)
    key = key_of(client)
    with store.open(old_id) as slow:
        slow["a"] += 1
        with store.open(old_id) as login:
            login["user"] = "ann"
            login.regenerate_id()
        if tombstone == "ended":
            client.delete(key)
    follows = tombstone == "there"
    with store.open(login.id) as session:
        assert dict(session) == {"a": 1 + follows, "user": "ann"}
    with store.open(old_id) as session:
        assert dict(session) == {}
    assert client.type(key) == (b"string" if follows else b"none")
    assert client.dbsize() == 1 + follows


def test_two_rotations_at_once_leave_one_session(
    store: SessionStore, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    old_id = new_session(store, a=1)
    with store.open(old_id) as loser:
        assert loser["a"] == 1
        loser["b"] = 2
        loser.regenerate_id()
        with store.open(old_id) as winner:
            winner.regenerate_id()
    kinds = sorted(map(backend.client.type, backend.client.scan_iter()))
    assert kinds == [b"hash", b"string"]
    assert "is gone" not in caplog.text
    with store.open(winner.id) as session:
        assert dict(session) == {"a": 1, "b": 2}


def test_a_cluster_rotates_within_one_slot(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    with RedisCluster(host="127.0.0.1", port=first.port) as client:
        store = SessionStore.from_config(client=client)
        for number in range(20):
            old_id = new_session(store, number=number)
            with store.open(old_id) as loser, store.open(old_id) as winner:
                assert loser["number"] == winner["number"] == number
                winner.regenerate_id()
                winner.save()
                loser.regenerate_id()
            with store.open(winner.id) as session:
                assert session["number"] == number
                session.destroy()
            with store.open(old_id) as session:
                assert dict(session) == {}
    holders = 0
    for node in cluster.nodes:
        with node.client() as own:
            keys = list(own.scan_iter(match="session:*"))
            marks = [own.get(key) for key in keys]
            for mark in marks:
                _, _, target = mark.partition(b"moved 0 ")
                assert mark == b"destroyed" or own.get(target) == b"destroyed"
            assert marks.count(b"destroyed") == len(marks) / 2
            holders += bool(keys)
    assert holders > 1


# -- what is not ours ------------------------------------------------------------------


FOREIGN: dict[str, Callable[[Any, bytes], object]] = {
    "list": lambda client, key: client.rpush(key, "x"),
    "set": lambda client, key: client.sadd(key, "x"),
    "sorted set": lambda client, key: client.zadd(key, {"x": 1}),
    "string": lambda client, key: client.set(key, "x"),
    "empty string": lambda client, key: client.set(key, ""),
    "moved nowhere": lambda client, key: client.set(key, "moved"),
    "moved to nothing": lambda client, key: client.set(key, "moved 0 "),
    "moved for a while": lambda client, key: client.set(key, "moved soon there"),
    "pickle": lambda client, key: client.set(key, pickle.dumps({"user": "root"})),
    "plain hash": lambda client, key: client.hset(key, "user", "root"),
    "nearly ours": lambda client, key: client.hset(
        key, mapping={b"\xff": "1 1", "user": '"root"'}
    ),
}


def test_what_is_not_ours_is_an_empty_session_and_stays_as_it_is(
    store: SessionStore, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    client = backend.client
    for kind, put in FOREIGN.items():
        with one_case(client, kind):
            caplog.clear()
            session_id = new_session(store, user="ann")
            key = key_of(client)
            client.delete(key)
            put(client, key)
            client.pexpire(key, 60_000)
            before = snapshot(client)
            with store.open(session_id) as session:
                assert dict(session) == {}
            assert session_id not in caplog.text
            assert any(record.levelno >= logging.WARNING for record in caplog.records)
            assert not store.destroy(session_id)
            assert snapshot(client) == before
            assert 0 < client.pttl(key) <= 60_000
            with store.open(session_id) as session:
                session["user"] = "bob"
            assert session.id != session_id
            with store.open(session_id) as blind:
                blind.incr("n")
            assert {k: v for k, v in snapshot(client).items() if k == key} == before
            with store.open(session.id) as session:
                assert dict(session) == {"user": "bob"}


DAMAGE: list[tuple[str | None, bytes | None]] = [(None, None)]
DAMAGE += [(name, None) for name in PARTS]
DAMAGE += [
    (name, garbage)
    for name in ("version", "created", "size", "ttl", "since", "fresh")
    for garbage in (b"", b"\xff", b"1.5", b"nan", b"-1", b"1" + b"0" * 15)
]
DAMAGE += [("ttl", b"0")]


def damage(
    client: Any, key: bytes | str, name: str | None, garbage: bytes | None
) -> None:
    if name is None:
        client.hdel(key, META)
    else:
        set_meta(client, key, **{name: garbage})


def test_a_damaged_record_does_not_fail_for_ever(
    store: SessionStore, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    client = backend.client
    for name, garbage in DAMAGE:
        with one_case(client, (name, garbage)):
            caplog.clear()
            session_id = new_session(store, user="ann")
            key = key_of(client)
            damage(client, key, name, garbage)
            before = snapshot(client)
            with store.open(session_id) as reader:
                assert dict(reader) == {}
                reader["user"] = "bob"
            with store.open(session_id) as blind:
                blind["user"] = "eve"
            assert len({session_id, reader.id, blind.id}) == 3
            for made, user in ((reader, "bob"), (blind, "eve")):
                with store.open(made.id) as session:
                    assert dict(session) == {"user": user}
            assert not store.destroy(session_id)
            assert {k: v for k, v in snapshot(client).items() if k == key} == before
            assert session_id not in caplog.text


def test_no_script_touches_what_is_foreign_or_damaged(verbs: Verbs) -> None:
    client, key = verbs.client, verbs.key().encode()
    for case in [*FOREIGN, *DAMAGE]:
        with one_case(client, case):
            if isinstance(case, str):
                FOREIGN[case](client, key)
            else:
                verbs.made({"a": b"1", "n": b"1"})
                damage(client, key, *case)
            verbs.made({"a": b"1"}, name=OTHER)
            client.pexpire(key, 60_000)
            before = snapshot(client)
            assert verbs.run(verbs.load()) == Loaded(Kind.FOREIGN)
            assert verbs.run(verbs.create({"a": b"2"})).outcome is Outcome.GONE
            assert verbs.run(verbs.destroy()) == Destroyed(Kind.FOREIGN, "")
            for incarnation in (MINE, b""):
                for new_name in (None, "{slot}third"):
                    call = verbs.update(
                        {"a": b"2"},
                        {"b"},
                        {"n": 1},
                        ttl=900,
                        incarnation=incarnation,
                        new_name=new_name,
                    )
                    assert verbs.run(call).outcome is Outcome.ABSENT
            onto = verbs.update({"a": b"2"}, name=OTHER, new_name=NAME)
            assert verbs.run(onto).outcome is Outcome.GONE
            assert snapshot(client) == before
            assert 0 < client.pttl(key) <= 60_000


class Bomb:
    """Whoever unpickles it sets it off."""

    went_off = False

    def __reduce__(self) -> Any:
        return _set_off, ()


def _set_off() -> str:
    Bomb.went_off = True
    return "bang"


CORRUPT = [b"", b"\xff\xfe", b"{", b"nope", b'"half', pickle.dumps(Bomb()), b'"\xff"']


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_corrupt_bytes_are_an_empty_session_and_stay(
    backend: Backend, caplog: pytest.LogCaptureFixture, codec: str
) -> None:
    client = backend.client
    store = SessionStore.from_config(client=client, codec=codec)
    for raw in CORRUPT:
        with one_case(client, raw):
            caplog.clear()
            session_id = new_session(store, user="ann")
            key = key_of(client)
            client.hset(key, "user", raw)
            before = snapshot(client)
            with store.open(session_id) as session:
                assert dict(session) == {}
            assert "can't be decoded" in caplog.text
            assert session_id not in caplog.text
            assert not Bomb.went_off
            assert snapshot(client) == before
            with store.open(session_id) as session:
                assert session.get("user") is None
                session["user"] = "bob"
            assert snapshot(client)[key] == before[key]
            with store.open(session.id) as session:
                assert dict(session) == {"user": "bob"}


def test_a_field_whose_name_is_not_text_is_an_empty_session(
    store: SessionStore, backend: Backend
) -> None:
    for name, size in itertools.product((META, b"\xfe", b"user\xff"), (1, 20_000)):
        with one_case(backend.client, (name, size)):
            session_id = new_session(store, user="ann", large="x" * 20_000)
            backend.client.hset(key_of(backend.client), name, b"1" * size)
            before = snapshot(backend.client)
            with store.open(session_id) as session:
                assert dict(session) == {}
            assert snapshot(backend.client) == before


# -- commits that are sent again -------------------------------------------------------


def nonces(verbs: Verbs) -> list[int]:
    """How many commits a record knows: of late, and of before that."""
    meta = meta_of(verbs.client, verbs.key())
    fresh = int(meta["fresh"])
    return [fresh, len(meta["nonces"]) // 8 - fresh]


def test_a_commit_is_known_after_many_others_of_the_same_minute(verbs: Verbs) -> None:
    verbs.made({"n": b"0"})
    call = verbs.update({}, None, {"n": 1})
    assert verbs.run(call) == stored(2, b"1")
    for number in range(127):
        verbs.run(verbs.update({"x": b"%d" % number}))
    again = verbs.run(call)
    assert (again.outcome, again.version) == (Outcome.STORED, 2)
    assert verbs.fields()["n"] == b"1"
    assert verbs.run(verbs.load()).version == 129


def test_a_record_knows_no_more_than_256_commits(verbs: Verbs) -> None:
    verbs.made({})
    for number in range(400):
        verbs.run(verbs.update({"x": b"%d" % number}))
    assert nonces(verbs) == [401 - 3 * 128, 128]


@pytest.mark.parametrize(
    ("fresh", "age", "known"),
    [(32, 50, [33, 0]), (32, 70, [1, 32]), (32, 130, [1, 16]), (31, 130, [32, 0])],
)
def test_a_record_forgets_its_commits_after_a_minute_or_two(
    verbs: Verbs, fresh: int, age: int, known: list[int]
) -> None:
    """It looks at its clock at each sixteenth commit."""
    verbs.made({})
    now, _ = verbs.client.time()
    late = b"earlier." * fresh
    set_meta(verbs.client, verbs.key(), since=now - age, fresh=fresh, nonces=late)
    call = verbs.update({"x": b"%d" % age})
    first = verbs.run(call)
    assert first.outcome is Outcome.STORED
    assert nonces(verbs) == known
    assert verbs.run(call) == first


@pytest.mark.parametrize(
    ("nonce", "nonces", "later"),
    [
        (b"aaaaaaaa", b"xxxxxxxaaaaaaaaa", 1),
        (b"a+b/c+de", b"xxa+b/c+dexxxxxxa+b/c+de", 2),
    ],
)
def test_a_commit_is_not_known_by_parts_of_others(
    verbs: Verbs, nonce: bytes, nonces: bytes, later: int
) -> None:
    verbs.made({"n": b"5"})
    now, _ = verbs.client.time()
    known = {"since": now, "fresh": 3, "nonces": nonces}
    set_meta(verbs.client, verbs.key(), version=10, **known)
    call = verbs.bear(verbs.update({}, None, {"n": 1}), nonce)
    assert verbs.run(call) == stored(10 - later, b"5")


def test_a_creation_is_known_after_other_commits(verbs: Verbs) -> None:
    call = verbs.create({"n": b"0"})
    first = verbs.run(call)
    for number in range(20):
        verbs.run(verbs.update({"x": b"%d" % number}))
    assert verbs.run(call) == first
    assert verbs.fields()["x"] == b"19"


# -- names of fields -------------------------------------------------------------------


NAMES = [
    "@",
    "@@",
    "@version",
    "ÿ",
    "\0",
    "",
    " ",
    "a b",
    "line\nbreak\r\n",
    "nul\0",
    "ключ",
    "🔑",
    '"quoted"',
    "{slot}",
    "x" * 2000,
    "1",
    "-1",
]


def test_any_text_may_be_a_name(verbs: Verbs) -> None:
    for name in NAMES:
        with one_case(verbs.client, name):
            verbs.made({name: b"1", "plain": b"x"})
            assert verbs.fields() == {name: b"1", "plain": b"x"}
            verbs.run(verbs.update({name: b"2"}))
            assert verbs.fields() == {name: b"2", "plain": b"x"}
            added = verbs.run(verbs.update({}, None, {name: 5}))
            assert added == stored(3, b"7")
            assert verbs.fields() == {name: b"7", "plain": b"x"}
            assert verbs.run(verbs.update({}, {name})) == stored(4)
            assert verbs.fields() == {"plain": b"x"}
            loaded = verbs.run(verbs.load())
            assert (loaded.incarnation, loaded.version) == (MINE, 4)
            assert verbs.raw().keys() == {META, b"plain"}


def test_all_names_live_side_by_side(store: SessionStore) -> None:
    values = {name: f"of {name}" for name in NAMES}
    with store.open() as session:
        session.update(values)
    with store.open(session.id) as session:
        assert dict(session) == values
        for name in NAMES:
            session[name] += "!"
    with store.open(session.id) as session:
        assert dict(session) == {name: f"of {name}!" for name in NAMES}
        session.clear()
    with store.open(session.id) as session:
        assert dict(session) == {}
        assert not session.is_new


# -- max_size --------------------------------------------------------------------------


def test_a_session_may_be_exactly_as_large_as_allowed(backend: Backend) -> None:
    verbs = Verbs(backend.client, max_size=100).made({"a": b"x"})
    assert verbs.run(verbs.update({"b": b"y" * 97})).outcome is Outcome.STORED
    assert size_of(verbs.fields()) == 100
    assert verbs.run(verbs.update({"b": b"y" * 98})).outcome is Outcome.LARGE
    assert verbs.run(verbs.update({"c": b""})).outcome is Outcome.LARGE
    assert verbs.run(verbs.update({}, None, {"n": 1})).outcome is Outcome.LARGE
    assert verbs.run(verbs.update({"a": b"z"})).outcome is Outcome.STORED
    assert verbs.run(verbs.update({"cd": b""}, {"a"})).outcome is Outcome.STORED
    assert verbs.fields() == {"b": b"y" * 97, "cd": b""}


def test_a_session_that_is_too_large_already_may_shrink(backend: Backend) -> None:
    Verbs(backend.client, max_size=1000).made({"a": b"x" * 500, "b": b"y" * 400})
    verbs = Verbs(backend.client, max_size=100)
    assert verbs.run(verbs.update({"b": b"y" * 401})).outcome is Outcome.LARGE
    assert verbs.run(verbs.update({"b": b"z" * 400})).outcome is Outcome.STORED
    assert verbs.run(verbs.update({"b": b"y" * 399})).outcome is Outcome.STORED
    assert verbs.run(verbs.update({}, {"a"})).outcome is Outcome.STORED
    assert verbs.run(verbs.update({"b": b"y" * 99})).outcome is Outcome.STORED
    assert verbs.run(verbs.update({"b": b"y" * 100})).outcome is Outcome.LARGE


def test_what_is_too_large_is_refused_at_creation_and_later(backend: Backend) -> None:
    store = SessionStore.from_config(client=backend.client, max_size=100)
    with store.open() as session:
        session["a"] = "x" * 97  # two quotes, and the name
    with pytest.raises(SessionTooLarge), store.open() as fresh:
        fresh["a"] = "x" * 98
    assert backend.client.dbsize() == 1
    before = snapshot(backend.client)
    with pytest.raises(SessionTooLarge) as caught, store.open(session.id) as again:
        again["a"], again["b"] = "small", "y" * 100
    assert snapshot(backend.client) == before
    assert session.id not in str(caught.value)
    assert "yyy" not in str(caught.value)


def true_size(verbs: Verbs) -> int:
    return sum(len(n) + len(raw) for n, raw in fields_in(verbs.raw()).items())


def recorded_size(verbs: Verbs, name: str = NAME) -> int:
    return int(meta_of(verbs.client, verbs.key(name))["size"])


class Dice(random.Random):
    """Random commits over few fields, so that they meet."""

    TEXTS = ("a", "b", "@c", "ключ", "")
    NUMBERS = ("i", "@j", "f")

    def update(self, verbs: Verbs) -> Call[Any]:
        texts = self.sample(self.TEXTS, self.randrange(4))
        at = self.randrange(len(texts) + 1)
        sets = {name: self.randbytes(self.randrange(50)) for name in texts[:at]}
        names = self.sample(self.NUMBERS, self.randrange(3))
        additions = {name: self.number(name) for name in names}
        return verbs.update(sets, {*texts[at:]}, additions)

    def number(self, name: str) -> Number:
        if name == "f":
            return self.choice([0.1, -0.1, 1e-7, 2.5e20, -2.5e20, 1, -3])
        return self.randint(-(10 ** self.randrange(16)), 10 ** self.randrange(16))


def test_the_recorded_size_is_the_true_one(verbs: Verbs) -> None:
    for seed in range(5):
        dice = Dice(seed)
        with one_case(verbs.client, seed):
            verbs.made({"a": b"1", "@c": b"22", "ключ": b"333"})
            assert recorded_size(verbs) == true_size(verbs)
            for _ in range(60):
                assert verbs.run(dice.update(verbs)).outcome is Outcome.STORED
                true = true_size(verbs)
                assert recorded_size(verbs) == true == size_of(verbs.fields())


def test_a_rotation_keeps_the_size(verbs: Verbs) -> None:
    verbs.made({"a": b"12345"})
    verbs.run(verbs.update({"b": b"123"}, new_name=OTHER))
    assert recorded_size(verbs, OTHER) == 10


# -- numbers ---------------------------------------------------------------------------


E18 = 10**18
SUMS: list[tuple[str | None, Number, Number]] = [
    (None, 5, 5),
    (None, -5, -5),
    (None, 0.5, 0.5),
    ("5", 3, 8),
    ("5", -5, 0),
    ("0", 0, 0),
    ("-5", 3, -2),
    ("9", 1, 10),
    ("-10", 1, -9),
    ("9007199254740993", 2, 9007199254740995),
    ("9999999999999998", 1, 10**16 - 1),
    ("99999999999999999", 1, 10**17),
    (str(E18 - 2), 1, E18 - 1),
    ("0", E18 - 1, E18 - 1),
    (None, E18 - 1, E18 - 1),
    ("1", E18 - 2, E18 - 1),
    (str(E18 - 1), -1, E18 - 2),
    (str(E18 - 1), E18 - 1, 2 * E18 - 2),
    (str(2 - E18), -1, 1 - E18),
    ("0", 1 - E18, 1 - E18),
    (None, 1 - E18, 1 - E18),
    ("-1", 2 - E18, 1 - E18),
    (str(1 - E18), 1, 2 - E18),
    (str(1 - E18), E18 - 1, 0),
    (str(1 - E18), 1 - E18, 2 - 2 * E18),
    ("0.1", 0.2, 0.1 + 0.2),
    ("0.1", -0.1, 0.0),
    ("1", 0.5, 1.5),
    ("1.5", 1, 2.5),
    ("0.5", 0.5, 1.0),
    ("-0.0", 0, 0.0),
    ("1e+300", 1e300, 2e300),
    ("1e300", 1, 1e300),
    ("5e-324", 5e-324, 1e-323),
    ("1e-07", 1e-7, 2e-07),
    ("1.7976931348623157e+308", -1.7976931348623157e308, 0.0),
    ("123456789.125", 1e15, 1000000123456789.1),
    ("0.1", 1e16, 1e16),
]


def test_an_addition_is_exact_and_keeps_its_type(verbs: Verbs) -> None:
    for before, by, expected in SUMS:
        with one_case(verbs.client, (before, by)):
            verbs.made({} if before is None else {"n": before.encode()})
            committed = verbs.run(verbs.update({}, None, {"n": by}))
            raw = verbs.fields()["n"]
            assert committed == stored(2, raw)
            found = json.loads(raw)
            assert found == expected
            assert type(found) is type(expected)
            assert recorded_size(verbs) == true_size(verbs)


NO_NUMBERS = [
    b"",
    b" ",
    b'"5"',
    b"true",
    b"null",
    b"[1]",
    b"abc",
    b"5 ",
    b" 5",
    b"+5",
    b"05",
    b"-",
    b"-0x1",
    b"0x10",
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"5\n",
    b"5\0",
    str(E18).encode(),
    str(-E18).encode(),
    str(2**63).encode(),
]


def test_what_is_no_number_is_refused_before_anything_is_written(verbs: Verbs) -> None:
    for raw in NO_NUMBERS:
        with one_case(verbs.client, raw):
            verbs.made({"n": raw, "ok": b"1", "d": b"1"})
            before = snapshot(verbs.client)
            call = verbs.update({"a": b"2"}, {"d"}, {"ok": 1, "n": 1, "also": 1})
            assert verbs.run(call) == Committed(Outcome.NUMBER, 1, MINE, ["n"])
            assert snapshot(verbs.client) == before


def test_an_addend_of_19_digits_is_refused(verbs: Verbs) -> None:
    verbs.made({"n": b"1"})
    before = snapshot(verbs.client)
    for by in (E18, -E18, 2**63, 10**30):
        call = verbs.update({"a": b"2"}, None, {"n": by})
        assert verbs.run(call) == Committed(Outcome.NUMBER, 1, MINE, ["n"]), by
        assert snapshot(verbs.client) == before, by


def test_counting_what_can_not_be_counted_names_the_field(
    store: SessionStore, backend: Backend
) -> None:
    for value in ("5", True, None, [1], 10**18):
        with one_case(backend.client, value):
            session_id = new_session(store, n=value, a=1)
            before = snapshot(backend.client)
            with pytest.raises(EncodeError, match="'n'"):  # noqa: PT012, SIM117
                with store.open(session_id) as session:
                    session["a"] = 2
                    session.incr("n")
            assert snapshot(backend.client) == before


@pytest.mark.parametrize("codec", ["json", "msgpack", "pickle"])
def test_a_sum_is_what_python_would_have_made_of_it(
    backend: Backend, codec: str
) -> None:
    store = SessionStore.from_config(client=backend.client, codec=codec)
    firsts: list[Number] = [0, -(E18 - 1), E18 - 10, 0.1, 1e300]
    for first, by in itertools.product(firsts, (-7, 0.2)):
        with one_case(backend.client, (first, by)):
            session_id = new_session(store, n=first)
            with store.open(session_id) as session:
                session.incr("n", by)
            with store.open(session_id) as session:
                assert session["n"] == first + by
                assert type(session["n"]) is type(first + by)


# -- timeouts --------------------------------------------------------------------------


def test_the_idle_timeout_is_set_by_every_commit(backend: Backend) -> None:
    verbs = Verbs(backend.client, ttl=1000).made({})
    assert 990_000 < verbs.ttl_ms() <= 1_000_000
    verbs.client.pexpire(verbs.key(), 5_000)
    verbs.run(verbs.update({"a": b"1"}))
    assert 990_000 < verbs.ttl_ms() <= 1_000_000


def test_the_longest_timeouts_fit(backend: Backend) -> None:
    options = {"ttl": "36500d", "max_lifetime": "36500d", "delete_expiry": "36500d"}
    verbs = Verbs(backend.client, **options).made({"a": b"1"}, ttl=36500 * 86400)
    verbs.run(verbs.load())
    assert verbs.run(verbs.update({"a": b"2"}, ttl=36500 * 86400)).version == 2
    assert verbs.ttl_ms() > 36499 * 86400 * 1000
    verbs.run(verbs.destroy())
    assert verbs.ttl_ms() > 36499 * 86400 * 1000


def test_a_read_prolongs_at_most_every_touch_every(backend: Backend) -> None:
    verbs = Verbs(backend.client, ttl=1_000_000, touch_every=100_000).made({})
    lives = [(950_000, False), (900_010, False), (899_990, True), (5, True)]
    for left, prolongs in lives:
        verbs.client.pexpire(verbs.key(), left * 1000)
        assert verbs.run(verbs.load()).prolonged is prolongs
        assert (verbs.ttl_ms() > left * 1000) is prolongs
        assert verbs.ttl_ms() > (999_990_000 if prolongs else left * 1000 - 60_000)
        assert not verbs.run(verbs.load()).prolonged


def test_a_read_gives_a_record_without_an_expiry_one(backend: Backend) -> None:
    verbs = Verbs(backend.client, ttl=1000).made({})
    verbs.client.persist(verbs.key())
    assert verbs.run(verbs.load()).prolonged
    assert 990_000 < verbs.ttl_ms() <= 1_000_000


def test_a_lowered_timeout_reaches_the_sessions_that_are_there(
    backend: Backend,
) -> None:
    Verbs(backend.client, ttl=1000).made({})
    verbs = Verbs(backend.client, ttl=50)
    assert verbs.run(verbs.load()).prolonged
    assert 0 < verbs.ttl_ms() <= 50_000


@pytest.mark.parametrize("own", [50, 5000])
def test_a_session_keeps_a_timeout_of_its_own(backend: Backend, own: int) -> None:
    verbs = Verbs(backend.client, ttl=1000).made({})
    verbs.run(verbs.update(ttl=own))
    for step in (verbs.load(), verbs.update({"a": b"1"}), verbs.load()):
        verbs.client.pexpire(verbs.key(), own * 500)
        verbs.run(step)
        assert own * 900 < verbs.ttl_ms() <= own * 1000
    verbs.run(verbs.update(new_name=OTHER))
    assert own * 900 < verbs.ttl_ms(OTHER) <= own * 1000
    verbs.run(verbs.update(name=OTHER, ttl=20))
    assert 0 < verbs.ttl_ms(OTHER) <= 20_000


@pytest.mark.parametrize(("known", "left"), [(700, 700), (2000, 1000)])
def test_a_record_is_created_for_no_longer_than_its_owners_index_knows_it(
    backend: Backend, known: int, left: int
) -> None:
    verbs = Verbs(backend.client, ttl=1000)
    now, _ = verbs.client.time()
    verbs.made({}, tie=Tie("ann", (now + known) * 1000, binds=True))
    assert left - 60 < verbs.ttl_ms() / 1000 <= left


@pytest.mark.parametrize(("known", "left"), [(700, 700), (2000, 1000), (None, 800)])
def test_a_commit_lets_a_record_live_as_its_owners_index_knows_it(
    redis: redis_py.Redis, known: int | None, left: int
) -> None:
    verbs = Verbs(redis, ttl=1000).made({})
    now, _ = redis.time()
    call = verbs.update({}, tie=Tie("ann", (now + 800) * 1000, binds=True))
    assert verbs.run(call).outcome is Outcome.STORED
    assert meta_of(redis, verbs.key())["owner"] == b"ann"
    tie = Tie("ann", (now + known) * 1000, binds=False) if known else None
    again = verbs.run(verbs.update({"a": b"1"}, tie=tie))
    assert (again.outcome, again.owner) == (Outcome.STORED, "ann")
    assert left - 60 < verbs.ttl_ms() / 1000 <= left


def test_what_is_owned_gets_no_name_that_the_index_does_not_have(
    redis: redis_py.Redis,
) -> None:
    verbs = Verbs(redis)
    now, _ = redis.time()
    verbs.made({}, tie=Tie("ann", (now + 800) * 1000, binds=True))
    created = meta_of(redis, verbs.key())["created"]
    refused = verbs.run(verbs.update(new_name=OTHER))
    assert (refused.outcome, refused.owner) == (Outcome.OWNED, "ann")
    assert refused.detail == [0, created]


def test_a_lock_that_is_no_string_is_nobodys(redis: redis_py.Redis) -> None:
    verbs = Verbs(redis).made({})
    redis.rpush("lock", "x")
    redis.expire("lock", 60)
    call = verbs.update({"a": b"1"}, lock="lock", token=b"mine")
    assert verbs.run(call).outcome is Outcome.STORED


def test_a_session_is_created_with_a_timeout_of_its_own(
    store: SessionStore, backend: Backend
) -> None:
    with store.open() as session:
        session["a"] = 1
        session.set_ttl("50s")
    key = key_of(backend.client)
    assert 40_000 < backend.client.pttl(key) <= 50_000
    with store.open(session.id) as session:
        session["a"] = 2
    assert 40_000 < backend.client.pttl(key) <= 50_000
    with store.open(session.id) as session:
        session.set_ttl(5000)
    assert 4_900_000 < backend.client.pttl(key) <= 5_000_000


def test_a_timeout_of_its_own_is_touched_in_proportion(backend: Backend) -> None:
    verbs = Verbs(backend.client, ttl=1000, touch_every=500).made({}, ttl=100)
    verbs.client.pexpire(verbs.key(), 55_000)
    assert not verbs.run(verbs.load()).prolonged
    verbs.client.pexpire(verbs.key(), 45_000)
    assert verbs.run(verbs.load()).prolonged


def make_old(verbs: Verbs, seconds: float, name: str = NAME) -> None:
    """Let the record be that old, by the server's clock."""
    now, micro = verbs.client.time()
    created = now * 1000 + micro // 1000 - round(seconds * 1000)
    set_meta(verbs.client, verbs.key(name), created=created)


def test_activity_can_not_outlive_the_absolute_timeout(backend: Backend) -> None:
    verbs = Verbs(backend.client, ttl=1000, touch_every=0, max_lifetime=2000).made({})
    for age in (500, 1500, 1900, 1970):
        make_old(verbs, age)
        for own in (None, 5000):
            assert verbs.run(verbs.load()).kind is Kind.ALIVE
            assert 0 < verbs.ttl_ms() <= (2000 - age) * 1000
            committed = verbs.run(verbs.update({"a": b"%d" % age}, ttl=own))
            assert committed.outcome is Outcome.STORED
            assert 0 < verbs.ttl_ms() <= (2000 - age) * 1000


@pytest.mark.parametrize("verb", ["load", "update", "rotate"])
def test_a_session_past_its_absolute_timeout_is_gone(
    backend: Backend, verb: str
) -> None:
    verbs = Verbs(backend.client, ttl=1000, max_lifetime=2000).made({"a": b"1"})
    make_old(verbs, 2001)
    calls = {
        "load": (verbs.load(), Kind.ABSENT),
        "update": (verbs.update({"a": b"2"}), Outcome.ABSENT),
        "rotate": (verbs.update({"a": b"2"}, new_name=OTHER), Outcome.ABSENT),
    }
    call, expected = calls[verb]
    assert verbs.run(call)[0] is expected
    assert verbs.client.dbsize() == 0


def test_a_rotation_does_not_make_a_session_younger(backend: Backend) -> None:
    verbs = Verbs(backend.client, ttl=1000, max_lifetime=2000).made({"a": b"1"})
    make_old(verbs, 1900)
    verbs.run(verbs.update({"a": b"2"}, new_name=OTHER))
    assert 0 < verbs.ttl_ms(OTHER) <= 100_000


def test_a_new_session_lives_no_longer_than_the_absolute_timeout(
    backend: Backend,
) -> None:
    verbs = Verbs(backend.client, ttl=1000, max_lifetime=100)
    verbs.made({}).made({}, name=OTHER, ttl=5000)
    assert 0 < verbs.ttl_ms() <= 100_000
    assert 0 < verbs.ttl_ms(OTHER) <= 100_000


def test_an_absolute_timeout_reaches_the_sessions_that_are_there(
    backend: Backend,
) -> None:
    before = Verbs(backend.client, ttl=1000).made({})
    make_old(before, 900)
    verbs = Verbs(backend.client, ttl=1000, max_lifetime=950)
    verbs.run(verbs.load())
    assert 0 < verbs.ttl_ms() <= 50_000


# -- a full server ---------------------------------------------------------------------


@contextlib.contextmanager
def full(client: Any) -> Iterator[None]:
    """The server has no memory for anything more."""
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


UNDER_OOM: dict[str, Callable[[Verbs], Call[Any]]] = {
    "create": lambda verbs: verbs.create({"a": b"1", "b": b"2"}, name=OTHER, ttl=60),
    "set": lambda verbs: verbs.update({"a": b"9", "new": b"x" * 100}, ttl=60),
    "delete": lambda verbs: verbs.update({}, {"d"}),
    "add": lambda verbs: verbs.update({}, None, {"n": 1, "f": 0.5}),
    "rotate": lambda verbs: verbs.update({"a": b"9"}, new_name=OTHER),
}


@pytest.mark.parametrize("case", UNDER_OOM)
def test_a_full_server_writes_nothing_by_halves(real: Backend, case: str) -> None:
    verbs = Verbs(real.client)
    verbs.made({"a": b"1", "d": b"1", "n": b"1", "f": b"0.5"})
    before = snapshot(real.client)
    verbs.client.pexpire(verbs.key(), 60_000)
    call = UNDER_OOM[case](verbs)
    with full(real.client):
        with pytest.raises(StoreUnavailable, match=r"OOM|OutOfMemory"):
            verbs.run(call)
        assert snapshot(real.client) == before
        assert 0 < verbs.ttl_ms() <= 60_000
    assert verbs.run(call).outcome is Outcome.STORED


def test_a_full_server_still_reads(real: Backend) -> None:
    verbs = Verbs(real.client, touch_every=0).made({"a": b"1"})
    verbs.client.pexpire(verbs.key(), 60_000)
    with full(real.client):
        assert verbs.fields() == {"a": b"1"}
        assert verbs.ttl_ms() > 60_000


def test_logout_works_on_a_full_server(real: Backend) -> None:
    store = SessionStore.from_config(client=real.client)
    first, second = new_session(store, a=1), new_session(store, a=2)
    with full(real.client):
        with store.open(first) as session:
            assert session["a"] == 1
            session.destroy()
        assert store.destroy(second)
        assert sorted(snapshot(real.client).values()) == [b"destroyed"] * 2
        with store.open(first) as session:
            assert dict(session) == {}


def test_a_session_can_not_be_stored_on_a_full_server(real: Backend) -> None:
    store = SessionStore.from_config(client=real.client)
    session_id = new_session(store, a=1)
    before = snapshot(real.client)
    with full(real.client):
        for known in (session_id, None):
            with pytest.raises(StoreUnavailable), store.open(known) as session:
                session["a"] = 2
    assert snapshot(real.client) == before


# -- the id stays here -----------------------------------------------------------------


@pytest.mark.parametrize("lock", ["none", "single"])
def test_no_id_ever_reaches_redis_or_a_log(
    server: Server,
    redis: redis_py.Redis,
    caplog: pytest.LogCaptureFixture,
    lock: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    store = SessionStore.from_config(client=redis, lock=lock, max_size=1000)
    unknown, ids = "u" * 59, []
    with Monitor(server) as monitor:
        for _ in range(3):
            first = new_session(store, a=1, n=1)
            with store.open(first) as session:
                session["a"] += 1
                session.incr("n")
                session.save()
                session.regenerate_id()
                ids.append(session.id)
            with store.open(session.id) as session, session.lock():
                session["b"] = [1]
                session.set_ttl(60)
            with contextlib.suppress(SessionTooLarge), store.open(ids[-1]) as large:
                large["a"] = "x" * 1000
            with store.open(first) as late:
                late["a"] = 1
            with store.open(unknown) as stranger:
                stranger["a"] = 1
            with store.open(stranger.id) as going:
                going["a"] = 2
                store.destroy(going.id)
            redis.hset(store_key(redis), "a", b"\xff")
            with store.open(ids[-1]) as broken:
                ids += [repr(broken.get("a")), broken.id]
            ids += [first, late.id, stranger.id, going.id]
            store.destroy(ids[0])
            redis.flushall()
        lines = "\n".join(monitor.lines()) + caplog.text
    secret_parts = {part for known in ids if len(known) == 59 for part in (known,)}
    assert len(secret_parts) >= 9
    for known in [*secret_parts, unknown]:
        assert known not in lines
        assert known[:16] not in lines
        assert known[16:] not in lines
    assert '"session:{' in lines
    assert "is gone" in caplog.text


def store_key(client: Any) -> bytes:
    """The key of some session that is alive."""
    keys = client.scan_iter(match="session:*")
    return next(key for key in keys if client.type(key) == b"hash")


def test_names_that_are_made_up_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MOST_TEXTS", 500)
    texts = store_module._Texts()
    for _ in range(2):
        for n in range(1000):
            assert texts[f"n{n}".encode()] == f"n{n}"
        assert len(texts) == 500
