"""The seam to Redis: wrong answers, lost answers, refusals and forgotten scripts."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from conftest import Backend
from doubles import CustomRedis, DeadRedis, FlakyProxy, Stuffed, counting_client
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HOST, Cluster, Server, wait_until

from smartredis_wsgi import (
    LockTimeout,
    Session,
    SessionMiddleware,
    SessionStore,
    StoreUnavailable,
)
from smartredis_wsgi.events import Event, Events
from smartredis_wsgi.transport import HeldConnections
from smartredis_wsgi.wire import Call, Patience, Query, Script, Wire, is_forbidden

LOCKS = ["none", "single"]
VALUE = "SWORDFISH-value"
SOON = 10.0


def new_session(store: SessionStore, **fields: Any) -> str:
    """A stored session's id."""
    with store.open() as session:
        session.update(fields)
    return session.id


def stored(client: Any, session_id: str) -> dict[str, Any]:
    """The session's fields as another client reads them."""
    with SessionStore.from_config(client=client).open(session_id) as session:
        return dict(session)


def echo(word: str) -> Call[Any]:
    """A call of a script of our own, whose result is the word."""
    script = Script.of(b"return {ARGV[#ARGV], ARGV[1]}")
    return Call(script, [], (word,), lambda answer: answer[0].decode())


# -- answers that are not ours ---------------------------------------------------------


class Gullible(redis_py.Connection):
    """A connection that is taken from the pool although an answer is still in it.

    So are Sentinel's connections after an exception out of the blue.
    """

    def can_read(self, timeout: float = 0) -> bool:  # noqa: ARG002
        return False


@pytest.fixture
def gullible(server: Server) -> Iterator[redis_py.Redis]:
    """A client of one connection, which does not look for answers left in it."""
    pool = redis_py.ConnectionPool.from_url(
        server.url,
        connection_class=Gullible,
        max_connections=1,
        retry=Retry(NoBackoff(), 0),
    )
    with CustomRedis(connection_pool=pool) as client:
        client.ping()
        yield client
    pool.disconnect()


def ask_and_leave(client: redis_py.Redis, *command: Any) -> None:
    """Send a command and give the connection back, its answer unread."""
    connection = client.connection_pool.get_connection()
    connection.send_command(*command)
    client.connection_pool.release(connection)


def leave_an_answer(
    client: redis_py.Redis, known: str, act: Callable[[Session], object]
) -> None:
    """Let the last answer to a request on the session be left in the connection."""
    with counting_client(client_url(client)) as spy:
        with SessionStore.from_config(client=spy).open(known) as session:
            act(session)
        ask_and_leave(client, *spy.trips.commands[-1])


def client_url(client: redis_py.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/0"


def test_the_double_hands_out_the_answer_to_another_question(
    gullible: redis_py.Redis,
) -> None:
    gullible.mset({"mine": "my secret", "theirs": "their secret"})
    ask_and_leave(gullible, "GET", "theirs")
    assert gullible.get("mine") == b"their secret"
    gullible.connection_pool.disconnect()
    gullible.delete("mine", "theirs")


def read(session: Session) -> None:
    assert dict(session) == {"user": "mine"}


def write(session: Session) -> None:
    session["more"] = 1


def destroy(session: Session) -> None:
    session.destroy()


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("left", [dict, write, destroy])
@pytest.mark.parametrize("act", [read, write, destroy])
def test_an_answer_to_another_question_reaches_nobody(
    gullible: redis_py.Redis, redis: redis_py.Redis, act: Any, left: Any, lock: str
) -> None:
    store = SessionStore.from_config(client=gullible, lock=lock)
    mine, theirs = new_session(store, user="mine"), new_session(store, user="theirs")
    before = gullible.client_id()
    leave_an_answer(gullible, theirs, left)
    with pytest.raises(StoreUnavailable), store.open(mine) as session:
        act(session)
    assert gullible.client_id() != before
    redis.delete("none", *redis.scan_iter(match="lock:*"))
    with store.open(mine) as session:
        assert session.get("user") in ("mine", None if act is destroy else "mine")
    assert stored(redis, theirs).get("user") in ("theirs", None)


def test_a_new_session_takes_no_answer_to_another_question(
    gullible: redis_py.Redis,
) -> None:
    store = SessionStore.from_config(client=gullible)
    theirs = new_session(store, user="theirs")
    leave_an_answer(gullible, theirs, dict)
    with pytest.raises(StoreUnavailable), store.open() as session:
        session["user"] = "mine"
    assert new_session(store, user="mine") != theirs


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("left", [dict, write, destroy])
@pytest.mark.parametrize("act", [read, write, destroy])
def test_an_answer_to_another_question_on_a_held_connection_reaches_nobody(
    server: Server, redis: redis_py.Redis, act: Any, left: Any, lock: str
) -> None:
    pool = redis_py.ConnectionPool.from_url(server.url, connection_class=Stuffed)
    store = SessionStore.from_config(
        client=redis_py.Redis(connection_pool=pool), lock=lock
    )
    mine, theirs = new_session(store, user="mine"), new_session(store, user="theirs")
    with counting_client(server.url) as spy:
        with SessionStore.from_config(client=spy).open(theirs) as session:
            left(session)
        Stuffed.stuffing.append(spy.trips.commands[-1])
    before = Stuffed.made
    with pytest.raises(StoreUnavailable), store.open(mine) as session:
        act(session)
    assert not Stuffed.stuffing
    redis.delete("none", *redis.scan_iter(match="lock:*"))
    with store.open(mine) as session:
        assert session.get("user") in ("mine", None if act is destroy else "mine")
    assert Stuffed.made > before, "the connection was used again"
    assert stored(redis, theirs).get("user") in ("theirs", None)
    close(store)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        0,
        1,
        b"",
        b"OK",
        "text",
        [],
        [None],
        [b"alive"],
        [b"AAAAAAAAAAAA", b"alive", 0],
        [[b"nested"]],
        {},
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_an_answer_of_any_other_shape_is_refused(
    redis: redis_py.Redis, answer: Any, batch: bool
) -> None:
    wire = Wire(Answering(redis, answer), 1.0)
    calls = [echo("one"), echo("two")] if batch else [echo("one")]
    with pytest.raises(StoreUnavailable):
        wire.run(*calls)


class Answering:
    """A client that gives one answer to everything."""

    def __init__(self, client: redis_py.Redis, answer: Any) -> None:
        self.connection_pool = client.connection_pool
        self._answer = answer
        self._asked = 0

    def execute_command(self, *_: Any, **__: Any) -> Any:
        self._asked += 1
        return self._answer

    def pipeline(self, **_: Any) -> Answering:
        self._asked = 0
        return self

    def execute(self, **_: Any) -> list[Any]:
        return [self._answer] * self._asked


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_with_too_few_or_too_many_answers_is_refused(
    redis: redis_py.Redis, count: int
) -> None:
    class Miscounting(Answering):
        def execute(self, **_: Any) -> list[Any]:
            return [[b"x"]] * count

    wire = Wire(Miscounting(redis, None), 1.0)
    with pytest.raises(StoreUnavailable):
        wire.run(echo("one"), echo("two"))


def test_answers_of_a_batch_in_another_order_are_refused(
    redis: redis_py.Redis,
) -> None:
    class Shuffling(redis_py.Redis):
        def pipeline(self, *words: Any, **options: Any) -> Any:
            pipe = super().pipeline(*words, **options)
            execute = pipe.execute
            pipe.execute = lambda **o: execute(**o)[::-1]  # type: ignore[method-assign]
            return pipe

    with Shuffling(connection_pool=redis.connection_pool) as shuffling:
        wire = Wire(shuffling, 1.0)
        calls = [echo("one"), echo("two")]
        with pytest.raises(StoreUnavailable):
            wire.run(*calls)


def test_a_batch_gives_each_call_its_own_answer(backend: Backend) -> None:
    wire = Wire(backend.client, 1.0)
    for _ in range(3):
        calls = [echo("one"), echo("two"), echo("three")]
        wire.run(*calls)
        assert [call.result for call in calls] == ["one", "two", "three"]


def test_a_wait_is_never_for_ever(server: Server) -> None:
    with counting_client(server.url) as client:
        wire = Wire(client, 1.0)
        for seconds in (0.0, 0.0001, 1e-9):
            wire.wait("signal", seconds)
        waits = [float(command[-1]) for command in client.trips.commands]
    assert waits == [0.001] * 3  # Redis 6.2 takes less for 0, which has no end
    wire.close()


# -- scripts that the server has forgotten ---------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
def test_a_script_flush_between_any_two_steps_is_invisible(
    backend: Backend, lock: str
) -> None:
    store = SessionStore.from_config(client=backend.client, lock=lock)
    forget = backend.client.script_flush
    for turn in range(3):
        session_id = new_session(store, user="ann", n=0)
        forget()
        with store.open(session_id) as session:
            assert session["user"] == "ann"
            forget()
            session["user"] = "bob"
            session.incr("n")
            forget()
            session.save()
            session.incr("n")
            forget()
        forget()
        with store.open(session_id) as session:
            session.incr("n", turn)
            forget()
            session.regenerate_id()
        forget()
        with store.open(session.id) as moved:
            forget()
            assert dict(moved) == {"user": "bob", "n": 2 + turn}
            with moved.lock():
                forget()
                moved["n"] += 1
                forget()
        assert stored(backend.client, session.id)["n"] == 3 + turn
        forget()
        assert store.destroy(session.id)
        assert stored(backend.client, session.id) == {}


def test_a_batch_of_which_one_script_is_forgotten_is_run_whole(
    backend: Backend,
) -> None:
    wire = Wire(backend.client, 1.0)
    other = Script.of(b"return {ARGV[#ARGV], 'other'}")

    def calls() -> list[Call[Any]]:
        return [echo("one"), Call(other, [], (), lambda answer: answer[0])]

    wire.run(*calls())
    backend.client.script_flush()
    wire.run(echo("known again"))
    both = calls()
    wire.run(*both)
    assert [call.result for call in both] == ["one", b"other"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_restart_without_scripts_is_invisible(server: Server, lock: str) -> None:
    with server.client(retry=Retry(NoBackoff(), 1)) as client:
        store = SessionStore.from_config(client=client, lock=lock)
        session_id = new_session(store, user="ann")
        for _ in range(2):
            with store.open(session_id) as session:
                session.incr("n")
        server.stop()
        server.start()
        with store.open(session_id) as session:
            assert dict(session) == {}
            session["user"] = "bob"
        assert stored(client, session.id) == {"user": "bob"}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_script_flush_costs_each_trip_once_more(server: Server, lock: str) -> None:
    with counting_client(server.url) as client:
        store = SessionStore.from_config(client=client, lock=lock)
        session_id = new_session(store, user="ann")
        for _ in range(2):
            with store.open(session_id) as session:
                session["user"] += "!"
        client.trips.reset()
        with store.open(session_id) as session:
            session["user"] += "!"
        usual = client.trips.count
        client.script_flush()
        client.trips.reset()
        with store.open(session_id) as session:
            assert session["user"] == "ann!!!"
        assert client.trips.count <= 2 * usual


# -- answers that are lost -------------------------------------------------------------


def increments(session: Session) -> None:
    session.incr("n", 1)
    session["seen"] = True


def rotates(session: Session) -> None:
    session.incr("n", 1)
    session.regenerate_id()


RETRIES = {"held": 0, "retries": 1, "gives up": 0}


def lossy(proxy: FlakyProxy, how: str) -> redis_py.Redis:
    """A client that goes by the proxy; with a plain one connections are held."""
    if how == "held":
        return redis_py.Redis.from_url(proxy.url)
    return proxy.client(retry=Retry(NoBackoff(), RETRIES[how]))


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("reads_first", [False, True])
@pytest.mark.parametrize("how", RETRIES)
def test_a_commit_whose_reply_is_lost_is_applied_once(
    server: Server, redis: redis_py.Redis, how: str, reads_first: bool, lock: str
) -> None:
    with FlakyProxy(server) as proxy, lossy(proxy, how) as client:
        store = SessionStore.from_config(client=client, lock=lock)
        session_id = new_session(store, n=0)
        with expecting(how), store.open(session_id) as session:
            if reads_first:
                assert session["n"] == 0
            increments(session)
            if lock == "single" and not reads_first:
                dict(session)  # the lock is there now: what is lost is the commit
            proxy.drop_next_reply()
        assert proxy.dropped == 1
    assert stored(redis, session_id) == {"n": 1, "seen": True}


class Breaking(redis_py.Redis):
    """A client whose next batch, once ``breaks``, is lost before it is sent."""

    breaks = False

    def pipeline(self, *words: Any, **options: Any) -> Any:
        if self.breaks:
            self.breaks = False
            raise redis_py.ConnectionError("the connection broke")
        return super().pipeline(*words, **options)


def test_a_lock_is_released_though_its_commit_is_lost(redis: redis_py.Redis) -> None:
    with Breaking(connection_pool=redis.connection_pool) as client:
        store = SessionStore.from_config(client=client, lock="single")
        session_id = new_session(store, n=0)
        with pytest.raises(StoreUnavailable), store.open(session_id) as session:  # noqa: PT012
            session["n"] += 1
            client.breaks = True
    assert stored(redis, session_id) == {"n": 0}
    assert not list(redis.scan_iter(match="lock:*"))


def expecting(how: str) -> Any:
    """A client that tries again has success, one that doesn't an error of ours."""
    if how != "gives up":
        return contextlib.nullcontext()
    return pytest.raises(StoreUnavailable)


@pytest.mark.parametrize("how", RETRIES)
def test_a_create_whose_reply_is_lost_is_applied_once(
    server: Server, redis: redis_py.Redis, how: str
) -> None:
    with FlakyProxy(server) as proxy, lossy(proxy, how) as client:
        store = SessionStore.from_config(client=client)
        new_session(store, warm=True)
        redis.flushdb()
        with expecting(how), store.open() as session:
            session["n"] = 1
            proxy.drop_next_reply()
        assert proxy.dropped == 1
    assert redis.dbsize() == 1
    if how != "gives up":
        assert stored(redis, session.id) == {"n": 1}


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("how", RETRIES)
def test_a_rotation_whose_reply_is_lost_is_applied_once(
    server: Server, redis: redis_py.Redis, how: str, lock: str
) -> None:
    with FlakyProxy(server) as proxy, lossy(proxy, how) as client:
        store = SessionStore.from_config(client=client, lock=lock)
        old_id = new_session(store, n=0)
        with expecting(how), store.open(old_id) as session:
            assert session["n"] == 0
            rotates(session)
            next_id = session.id
            proxy.drop_next_reply()
        assert proxy.dropped == 1
    assert stored(redis, next_id) == {"n": 1}
    assert stored(redis, old_id) == {}


@pytest.mark.parametrize("how", RETRIES)
def test_a_destroy_whose_reply_is_lost_has_destroyed(
    server: Server, redis: redis_py.Redis, how: str
) -> None:
    with FlakyProxy(server) as proxy, lossy(proxy, how) as client:
        store = SessionStore.from_config(client=client)
        session_id = new_session(store, n=0)
        proxy.drop_next_reply()
        with expecting(how):
            assert store.destroy(session_id)
        assert proxy.dropped == 1
    assert stored(redis, session_id) == {}


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("how", RETRIES)
def test_a_load_whose_reply_is_lost_harms_nobody(
    server: Server, redis: redis_py.Redis, how: str, lock: str
) -> None:
    with FlakyProxy(server) as proxy, lossy(proxy, how) as client:
        store = SessionStore.from_config(client=client, lock=lock)
        session_id = new_session(store, n=0)
        proxy.drop_next_reply()
        with expecting(how), store.open(session_id) as session:
            session["n"] += 1
        assert proxy.dropped == 1
        assert not list(redis.scan_iter(match="lock:*"))
        with store.open(session_id) as session:
            assert session["n"] == (how != "gives up")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_url_tries_again_where_a_reply_is_lost(
    server: Server, redis: redis_py.Redis, lock: str
) -> None:
    with FlakyProxy(server) as proxy:
        store = SessionStore.from_config(url=proxy.url, lock=lock)
        session_id = new_session(store, n=0)
        for turn in range(1, 4):
            with store.open(session_id) as session:
                session["seen"] = turn
                session.incr("n")
                proxy.drop_next_reply()
            assert proxy.dropped == turn
        close(store)
    assert stored(redis, session_id)["n"] == 3


def close(store: SessionStore) -> None:
    """Close the client that the store made for a URL."""
    store._engine.wire.close()


# -- refusals --------------------------------------------------------------------------


def assert_discreet(error: BaseException, *secrets: str) -> None:
    """Neither its text nor what would be logged of it holds a secret."""
    shown = "".join(traceback.format_exception(error)) + repr(error)
    for secret in (*secrets, VALUE, "SWORDFISH", "session:{"):
        assert secret not in shown


def fill(server: Server, client: redis_py.Redis) -> Callable[[], object]:
    assert server
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    return lambda: client.config_set("maxmemory", 0)


def make_replica(server: Server, client: redis_py.Redis) -> Callable[[], object]:
    client.execute_command("REPLICAOF", "127.0.0.1", server.port)
    return lambda: client.execute_command("REPLICAOF", "NO", "ONE")


def forbid(server: Server, client: redis_py.Redis) -> Callable[[], object]:
    assert server
    client.execute_command("ACL SETUSER default -hset -hincrby")
    return lambda: client.execute_command("ACL SETUSER default +@all")


def refuse_scripts(server: Server, client: redis_py.Redis) -> Callable[[], object]:
    assert server
    client.execute_command("ACL SETUSER default -eval -evalsha")
    return lambda: client.execute_command("ACL SETUSER default +@all")


ILLS = {
    "OOM": (fill, r"OOM|OutOfMemory"),
    "READONLY": (make_replica, r"READONLY|ReadOnly"),
    "NOPERM in a script": (forbid, r"NOPERM|NoPermission|ResponseError"),
    "NOPERM of scripts": (refuse_scripts, r"NOPERM|NoPermission"),
}


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("ill", ILLS)
def test_a_refusal_is_unavailability_and_tells_no_secret(
    real: Backend, caplog: pytest.LogCaptureFixture, ill: str, lock: str
) -> None:
    assert real.server
    store = SessionStore.from_config(client=real.client, lock=lock)
    session_id = new_session(store, n=0)
    harm, told = ILLS[ill]
    errors = []
    with real.server.client() as admin:
        heal = harm(real.server, admin)
        try:
            for known in (session_id, None):
                with (
                    pytest.raises(StoreUnavailable, match=told) as caught,
                    store.open(known) as session,
                ):
                    session[VALUE] = VALUE
                errors.append(caught.value)
        finally:
            heal()
    for error in errors:
        assert_discreet(error, session_id)
    assert session_id not in caplog.text
    assert VALUE not in caplog.text
    assert stored(real.client, session_id) == {"n": 0}
    with store.open(session_id) as session:
        session["n"] += 1
    assert stored(real.client, session_id) == {"n": 1}


def test_misconf_is_unavailability(real: Backend) -> None:
    options = ("--save", "3600", "1", "--dbfilename", "taken")
    with Server(real.name, *options) as sick, sick.client() as client:
        store = SessionStore.from_config(client=client)
        session_id = new_session(store, n=0)
        Path(client.config_get("dir")["dir"], "taken").mkdir()
        client.bgsave()
        wait_until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err",
            5,
            "a failed BGSAVE",
        )
        with (
            pytest.raises(StoreUnavailable, match="MISCONF") as caught,
            store.open(session_id) as session,
        ):
            session[VALUE] = VALUE
        assert_discreet(caught.value, session_id)
        assert stored(client, session_id) == {"n": 0}


@pytest.mark.parametrize("act", [read, write])
def test_a_lock_key_of_a_foreign_type_is_unavailability(
    real: Backend, act: Callable[[Session], None]
) -> None:
    store = SessionStore.from_config(client=real.client, lock="single")
    session_id = new_session(store, user="mine")
    real.client.rpush(f"lock:{store.lock_name(session_id)}", VALUE)
    real.client.expire(f"lock:{store.lock_name(session_id)}", 60)
    with pytest.raises((StoreUnavailable, LockTimeout)) as caught:  # noqa: SIM117
        with store.open(session_id) as session:
            act(session)
    assert_discreet(caught.value, session_id)
    real.client.delete(f"lock:{store.lock_name(session_id)}")
    assert stored(real.client, session_id) == {"user": "mine"}


TEXTS = {
    "Error running script (call to f_0f0): @user_script:30: @user_script: 30: "
    f"-OOM command not allowed. {VALUE}": "OOM",
    f"MISCONF Redis is configured to save RDB snapshots, {VALUE}": "MISCONF",
    f"-READONLY You can't write against a read only replica. {VALUE}": "READONLY",
    f"NOREPLICAS Not enough good replicas to write. {VALUE}": "NOREPLICAS",
    f"CLUSTERDOWN The cluster is down {VALUE}": "CLUSTERDOWN",
    f"LOADING Redis is loading the dataset in memory {VALUE}": "LOADING",
    f"unknown command 'EVALSHA', with args beginning with: '{VALUE}'": "",
    f"Error running script: attempt to compare nil with number: {VALUE}": "",
    f"value is not an integer: '{VALUE}'": "",
    f"{VALUE}": "",
    "": "",
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("batch", [False, True])
def test_an_error_is_told_by_its_code_only(
    redis: redis_py.Redis, text: str, batch: bool
) -> None:
    class Refusing(Answering):
        def execute_command(self, *words: Any, **options: Any) -> Any:
            if batch:
                return super().execute_command(*words, **options)
            raise redis_py.ResponseError(text)

    wire = Wire(Refusing(redis, redis_py.ResponseError(text)), 1.0)
    calls = [echo("one"), echo("two")] if batch else [echo("one")]
    with pytest.raises(StoreUnavailable) as caught:
        wire.run(*calls)
    assert TEXTS[text] in str(caught.value)
    assert_discreet(caught.value)


FAILURES = [
    redis_py.ConnectionError(f"Error 111 connecting to :{VALUE}@host:6379"),
    redis_py.TimeoutError(f"Timeout reading from {VALUE}"),
    redis_py.exceptions.ClusterDownError(f"CLUSTERDOWN {VALUE}"),
    redis_py.exceptions.BusyLoadingError(f"loading {VALUE}"),
    redis_py.exceptions.InvalidResponse(f"Protocol Error: {VALUE}"),
    redis_py.exceptions.MasterNotFoundError(f"No master found for {VALUE}")
    if hasattr(redis_py.exceptions, "MasterNotFoundError")
    else redis_py.ConnectionError(VALUE),
    redis_py.AuthenticationError(f"invalid password {VALUE}"),
    OSError(f"broken pipe {VALUE}"),
    ConnectionResetError(104, VALUE),
    TimeoutError(VALUE),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("batch", [False, True])
def test_every_failure_is_unavailability_and_tells_no_secret(
    redis: redis_py.Redis, failure: Exception, batch: bool
) -> None:
    class Failing(Answering):
        def execute_command(self, *words: Any, **options: Any) -> Any:
            if batch:
                return super().execute_command(*words, **options)
            raise failure

        def execute(self, **_: Any) -> list[Any]:
            raise failure

    wire = Wire(Failing(redis, None), 1.0)
    calls = [echo("one"), echo("two")] if batch else [echo("one")]
    with pytest.raises(StoreUnavailable) as caught:
        wire.run(*calls)
    assert_discreet(caught.value)


# -- clients of all sorts --------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_client_may_decode_responses(real: Backend, lock: str, protocol: int) -> None:
    assert real.server
    options: dict[str, Any] = {"decode_responses": True, "protocol": protocol}
    with real.server.client(**options) as client:
        assert isinstance(client.client_list()[0]["addr"], str)
        store = SessionStore.from_config(client=client, lock=lock)
        session_id = new_session(store, user="ann", raw=b"\xff\xfe", n=1)
        with store.open(session_id) as session:
            assert session["raw"] == b"\xff\xfe"
            session.incr("n", 2)
            session["user"] = "bøb"
            session.save()
            assert session["n"] == 3
            session.regenerate_id()
        with store.open(session.id) as again:
            expected = {"user": "bøb", "raw": b"\xff\xfe", "n": 3}
            assert dict(again) == expected
            again.destroy()
        assert client.type(next(client.scan_iter(match="session:*"))) == "string"


def test_a_cluster_runs_batches(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    with redis_py.RedisCluster(host="127.0.0.1", port=first.port) as client:
        store = SessionStore.from_config(client=client, lock="single")
        for number in range(10):
            session_id = new_session(store, n=number)
            for node in cluster.nodes:
                with node.client() as own:
                    own.script_flush()
            with store.open(session_id) as session:
                session["n"] += 1
            assert stored(client, session_id) == {"n": number + 1}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_dead_server_is_unavailability(lock: str) -> None:
    with DeadRedis() as client:
        store = SessionStore.from_config(client=client, lock=lock)
        for act in (dict, write, destroy, lambda session: session.incr("n")):
            with pytest.raises(StoreUnavailable), store.open("a" * 59) as session:
                act(session)
        with pytest.raises(StoreUnavailable), store.open() as session:
            write(session)
        with pytest.raises(StoreUnavailable):
            store.destroy("a" * 59)
        attempts = client.attempts
        with store.open("a" * 59):
            pass
        assert client.attempts == attempts


def test_a_dead_server_is_a_503_and_nothing_to_who_does_not_ask() -> None:
    touches = [True]

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if touches[0]:
            environ["smartredis.session"]["a"] = 1
        start_response("200 OK", [])
        return [b"done"]

    with DeadRedis() as client:
        app = SessionMiddleware(application, client=client)
        environ = {"REQUEST_METHOD": "GET"}
        answers: list[tuple[str, dict[str, str]]] = []

        def start_response(status: str, headers: Any, *_: Any) -> Any:
            answers.append((status, dict(headers)))

        list(app(dict(environ), start_response))
        touches[0] = False
        list(app(dict(environ), start_response))
    assert answers[0][0].startswith("503")
    assert "Retry-After" in answers[0][1]
    assert answers[1] == ("200 OK", {})


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_does_not_share_a_connection(server: Server) -> None:
    store = SessionStore.from_config(url=server.url)
    session_id = new_session(store, n=0)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(20):
                    with store.open(session_id) as session:
                        session.incr("n")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for _ in range(20):
        with store.open(session_id) as session:
            session.incr("n")
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    with store.open(session_id) as session:
        assert session["n"] == 80
    close(store)


# -- the first contact -----------------------------------------------------------------


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_evict_is_warned_of_once(
    server: Server, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    with counting_client(server.url) as client:
        client.config_set("maxmemory-policy", policy)
        try:
            client.trips.reset()
            store = SessionStore.from_config(client=client)
            assert not caplog.records
            for _ in range(3):
                with store.open() as session:
                    session["n"] = 1
            assert client.trips.count == 3
            assert client.trips.names == ["EVAL", "ECHO", "INFO", "EVALSHA", "EVALSHA"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    warned = [r.message for r in caplog.records if "maxmemory-policy" in r.message]
    assert len(warned) == (policy != "noeviction")
    assert all(f"is {policy}:" in line for line in warned)


def test_a_server_without_such_a_command_is_met_all_the_same() -> None:
    with Server("valkey", "--rename-command", "INFO", "") as server:
        store = SessionStore.from_config(url=server.url)
        for _ in range(2):
            with store.open() as session:
                session["n"] = 1


def test_a_server_that_does_not_tell_is_met_all_the_same(
    server: Server, redis: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    redis.acl_setuser(
        "ann", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"]
    )
    try:
        store = SessionStore.from_config(url=f"redis://ann:any@{HOST}:{server.port}")
        with store.open() as session:
            session["n"] = 1
        with store.open(session.id) as same:
            assert same["n"] == 1
    finally:
        redis.acl_deluser("ann")
        redis.config_set("maxmemory-policy", "noeviction")
    assert not caplog.records


# -- a request's patience --------------------------------------------------------------


class Paced(CustomRedis):
    """A client whose commands take as long as they are told to, on a clock of its own.

    It counts those that it was asked, and fails if it is to.
    """

    now, takes, asked = 1000.0, 0.0, 0
    fails = False

    def execute_command(self, *words: Any, **options: Any) -> Any:
        self.asked += 1
        self.now += self.takes
        if self.fails:
            raise redis_py.ConnectionError
        return super().execute_command(*words, **options)


@pytest.fixture
def paced(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paced]:
    with (
        Paced(port=server.port, socket_timeout=SOON, retry=None) as client,
        monkeypatch.context() as patch,
    ):
        patch.setattr(time, "monotonic", lambda: client.now)
        yield client


def test_what_comes_at_once_costs_no_patience_however_often(paced: Paced) -> None:
    wire, patience = Wire(paced, 10.0), Patience(10.0)
    for paced.takes in (0.0, 0.4, 0.0, 0.4, 0.2) * 10:
        wire.run(echo("x"), patience=patience)
    assert patience.seconds == 10.0
    assert patience.is_whole


def test_patience_is_what_the_waits_of_a_request_have_left(paced: Paced) -> None:
    wire, patience, left = Wire(paced, 10.0), Patience(10.0), []
    for paced.takes in (0.6, 3.0, 0.4, 5.0):
        wire.run(echo("x"), patience=patience)
        left.append(round(patience.seconds, 6))
    assert left == [9.4, 6.4, 6.4, 1.4]


def test_who_has_no_time_left_after_an_answer_asks_shortly(paced: Paced) -> None:
    wire, patience, left = Wire(paced, 10.0), Patience(10.0), []
    for paced.takes in (9.5, 0.0, 2.0, 2.0):
        wire.run(echo("x"), patience=patience)
        left.append(round(patience.seconds, 6))
    assert left == [1.0] * 4


def test_who_has_no_time_left_after_a_failure_asks_no_more_for_as_long(
    paced: Paced,
) -> None:
    told: list[Event] = []
    wire = Wire(paced, 10.0, Events(told.append))
    wire.run(echo("x"))
    patience, paced.takes, paced.fails = Patience(10.0), 10.0, True
    with pytest.raises(StoreUnavailable):
        wire.run(echo("x"), patience=patience)
    asked, paced.takes, paced.fails = paced.asked, 0.0, False
    for later in (0.0, 9.5):
        paced.now += later
        with pytest.raises(StoreUnavailable, match="timeout"):
            wire.run(echo("x"), patience=patience)
    assert paced.asked == asked
    assert [event.name for event in told] == ["unavailable"] * 3
    paced.now += 1.0
    wire.run(echo("x"), patience=patience)
    assert patience.seconds == 10.0


def test_a_failure_takes_what_it_took_and_an_answer_makes_up_for_it(
    paced: Paced,
) -> None:
    wire, patience = Wire(paced, 10.0), Patience(10.0)
    wire.run(echo("x"))
    for paced.takes, paced.fails in ((0.3, True), (9.5, True)):
        with pytest.raises(StoreUnavailable):
            wire.run(echo("x"), patience=patience)
    assert patience.seconds == 0.5
    paced.takes, paced.fails = 0.0, False
    wire.run(echo("x"), patience=patience)
    assert patience.seconds == 1.0


def test_a_request_waits_no_longer_though_the_wire_would(server: Server) -> None:
    """A lock on a server of its own has a timeout of its own."""
    wire = Wire(server.url, 3600)
    wire.run(echo("x"))
    server.pause()
    with ThreadPoolExecutor() as pool:
        late = pool.submit(wire.run, echo("y"), patience=Patience(0.2))
        try:
            assert isinstance(late.exception(SOON), StoreUnavailable)
        finally:
            server.resume()
    wire.close()


@pytest.mark.parametrize(
    ("having", "is_enough"), [(0, False), (1, False), (2, True), (3, True)]
)
def test_so_many_replicas_are_enough_or_more(
    redis: redis_py.Redis, having: int, is_enough: bool
) -> None:
    class Replicated(redis_py.Redis):
        def pipeline(self, *words: Any, **options: Any) -> Any:
            pipe = super().pipeline(*words, **options)
            execute = pipe.execute
            pipe.execute = lambda **o: [*execute(**o)[:-1], having]  # type: ignore[method-assign]
            return pipe

    script = Script.of(b"return {ARGV[#ARGV], ARGV[1]}")
    call = Call(script, [], ("x",), list, replicas=2)
    told = pytest.raises(StoreUnavailable, match=f"{having} of 2 replicas")
    outcome: Any = contextlib.nullcontext() if is_enough else told
    with Replicated(connection_pool=redis.connection_pool) as client, outcome:
        Wire(client, 0.5).run(call)
    assert call.result == [b"x"]


# -- what is sent once, and on which connection ----------------------------------------


class Slow(redis_py.Connection):
    """A connection that is asked by its own methods, as without hiredis."""

    def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        super().send_packed_command(*arguments, **options)


@pytest.mark.parametrize("kind", [redis_py.Connection, Slow])
@pytest.mark.parametrize(
    ("refusal", "is_kept"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("READONLY You can't write against a read only replica.", False),
        ("MASTERDOWN Link with MASTER is down", False),
        ("CLUSTERDOWN The cluster is down", False),
    ],
)
def test_who_is_refused_asks_no_second_time_and_elsewhere_if_that_may_help(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    refusal: str,
    is_kept: bool,
    kind: type[redis_py.Connection],
) -> None:
    seen: list[str] = []
    exchange = HeldConnections.exchange

    def noting(*words: Any, **options: Any) -> Any:
        seen.append("asked")
        return exchange(*words, **options)

    class Noting(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            seen.append("connected")
            super().connect()

    monkeypatch.setattr(HeldConnections, "exchange", noting)
    with FlakyProxy(server) as proxy:
        pool = redis_py.ConnectionPool.from_url(proxy.url, connection_class=Noting)
        wire = Wire(redis_py.Redis(connection_pool=pool), 5.0)
        wire.run(echo("one"))
        proxy.refuse(refusal)
        seen.clear()
        with pytest.raises(StoreUnavailable):
            wire.run(echo("one"), echo("two"))
        assert seen == ["asked"]
        proxy.restore()
        wire.run(echo("one"))
        assert seen[1:] == (["asked"] if is_kept else ["asked", "connected"])
        wire.close()


def test_what_cant_be_told_or_waited_for_is_unavailability(server: Server) -> None:
    wire = Wire(server.url, 5.0)
    server.stop()
    for act in (lambda: wire.wait("signal", 0.1), lambda: wire.tell(echo("x"))):
        with pytest.raises(StoreUnavailable):
            act()


def test_what_is_told_is_done(server: Server, redis: redis_py.Redis) -> None:
    wire = Wire(server.url, 5.0)
    script = Script.of(b"return redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)")
    wire.tell(Call(script, ["told"], ("1",), list))
    wait_until(lambda: redis.get("told") == b"1", SOON, "what it was told")
    wire.close()


def test_a_wait_that_nobody_ends_is_no_failure(server: Server) -> None:
    wire = Wire(server.url, 0.2)
    wire.run(echo("x"))
    server.pause()
    assert wire.wait("signal", 0.1) is None
    server.resume()
    wire.close()


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("is_query", [True, False])
def test_an_answer_is_to_another_question_whatever_its_nonce(
    redis: redis_py.Redis, change: int, is_query: bool
) -> None:
    def others(nonce: bytes) -> bytes:
        return nonce[:-1] + bytes([nonce[-1] + change])

    class Gossiping(redis_py.Redis):
        """What it answers first another one has asked."""

        def pipeline(self, *words: Any, **options: Any) -> Any:
            pipe = super().pipeline(*words, **options)
            execute = pipe.execute

            def changed(**options: Any) -> Any:
                first, *answers = execute(**options)
                if is_query:
                    return [others(first), *answers]
                return [[others(first[0]), *first[1:]], *answers]

            pipe.execute = changed  # type: ignore[method-assign]
            return pipe

    call: Call[Any] = Query([("PING",)], list) if is_query else echo("mine")
    with Gossiping(connection_pool=redis.connection_pool) as client:
        wire = Wire(client, 5.0)
        with pytest.raises(StoreUnavailable, match="another question"):
            wire.run(call, echo("another"))
    assert not hasattr(call, "result")


def test_a_query_whose_echo_is_refused_has_refusals_as_its_answers(
    server: Server, redis: redis_py.Redis
) -> None:
    redis.acl_setuser(
        "ann", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-echo"]
    )
    try:
        wire = Wire(f"redis://ann:any@{HOST}:{server.port}", 5.0)
        query = Query([("GET", "a"), ("GET", "b")], list)
        wire.run(query, whole := echo("x"))
        assert [is_forbidden(answer) for answer in query.result] == [True, True]
        assert whole.result == "x"
        wire.close()
    finally:
        redis.acl_deluser("ann")


def test_only_who_is_not_allowed_or_understood_is_forbidden() -> None:
    unknown = redis_py.ResponseError("unknown command 'ECHO', with args")
    assert is_forbidden(unknown)
    assert is_forbidden(redis_py.exceptions.NoPermissionError("ECHO"))
    assert not is_forbidden(redis_py.ResponseError("OOM command not allowed"))
    assert not is_forbidden(b"unknown command")
