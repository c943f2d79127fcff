"""What a listener is told of sessions, when, and in which words."""

# ruff: noqa: PT012 - a block is what commits, so it is a block that raises

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis as redis_py
from browser import Browser
from doubles import CustomRedis, FlakyProxy, Stuffed, counting_client
from pages import ROOT, tokens_of
from servers import HOST, Server, free_port

from smartredis_wsgi import (
    LockLost,
    LockTimeout,
    SessionConflict,
    SessionGone,
    SessionMiddleware,
    SessionStore,
    SingleNodeLock,
    StoreUnavailable,
    events,
)
from smartredis_wsgi.events import MEANINGS, Event
from smartredis_wsgi.ids import Address, new_id, stand_in

PATIENCE = 0.3


@dataclass
class Stage:
    """A store whose events are told, and another one that changes its sessions."""

    server: Server
    others: SessionStore
    redis: redis_py.Redis
    listener: Callable[[Event], object] | None = None
    told: list[Event] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)

    def listen(self, event: Event) -> None:
        self.told.append(event)
        self.threads.add(threading.get_ident())

    def store(self, **options: Any) -> SessionStore:
        address = {} if "client" in options else {"url": self.server.url}
        options = {**address, "on_event": self.listener, **options}
        return SessionStore.from_config(options)

    def a_session(self) -> str:
        with self.others.open() as session:
            session.update(n=1, tags=["a"])
        self.ids.append(session.id)
        return session.id

    def change(self, session_id: str) -> None:
        with self.others.open(session_id) as session:
            session["tags"].append("theirs")


@pytest.fixture
def stage(server: Server, redis: redis_py.Redis) -> Stage:
    stage = Stage(server, SessionStore.from_config(url=server.url), redis)
    stage.listener = stage.listen
    return stage


# -- what happens --------------------------------------------------------------------


def load(stage: Stage) -> None:
    with stage.store().open(stage.a_session()) as session:
        assert session["n"] == 1


def look_for_what_is_not_there(stage: Stage) -> None:
    stage.ids.append(new_id())
    with stage.store().open(stage.ids[-1]) as session:
        assert not session


def create(stage: Stage) -> None:
    with stage.store().open() as session:
        session["n"] = 1
    stage.ids.append(session.id)


def write(stage: Stage) -> None:
    with stage.store().open(stage.a_session()) as session:
        session.update(n=2, m=3)


def merge(stage: Stage) -> None:
    session_id = stage.a_session()
    with stage.store().open(session_id) as session:
        session["tags"].append("mine")
        stage.change(session_id)


def conflict(stage: Stage) -> None:
    session_id = stage.a_session()
    store = stage.store(conflict="raise")
    with pytest.raises(SessionConflict), store.open(session_id) as session:
        session["tags"].append("mine")
        stage.change(session_id)


def take_over(stage: Stage) -> None:
    stage.redis.set("session:theirs", b'{"n": 1, "tags": []}', ex=60)
    store = stage.store(import_from="flask-session")
    life = store.begin(lambda _: None, cookies="session=theirs")
    assert life.value_of("n") == 1
    life.end(keep=True)
    stage.ids.append(stand_in("theirs"))


def rotate(stage: Stage) -> None:
    with stage.store().open(stage.a_session()) as session:
        session.regenerate_id()
        stage.ids.append(session.id)  # loads it


def destroy(stage: Stage) -> None:
    with stage.store().open(stage.a_session()) as session:
        session.destroy()


def come_too_late(stage: Stage) -> None:
    session_id = stage.a_session()
    with stage.store().open(session_id) as session:
        assert session["n"] == 1
        stage.others.destroy(session_id)
        session["n"] = 2


def read_again_what_is_gone(stage: Stage) -> None:
    session_id = stage.a_session()
    store = stage.store(on_gone="raise")
    with pytest.raises(SessionGone), store.open(session_id) as session:
        assert session["n"] == 1
        stage.others.destroy(session_id)
        session.reload()
        assert not session
        session["n"] = 2


def lock(stage: Stage) -> None:
    with stage.store(lock="single").open(stage.a_session()) as session:
        session["n"] += 1


def lock_elsewhere(stage: Stage) -> None:
    with stage.store(lock=elsewhere(stage.server)).open(stage.a_session()) as session:
        session["n"] += 1


def elsewhere(server: Server, **options: Any) -> SingleNodeLock:
    """A lock on another database: it travels by itself."""
    return SingleNodeLock(redis_py.Redis(host=HOST, port=server.port, db=1), **options)


def wait_in_vain(stage: Stage) -> None:
    session_id = stage.a_session()
    store = stage.store(lock="single", lock_wait=0)
    holder = SessionStore.from_config(url=stage.server.url, lock="single")
    with holder.open(session_id) as theirs:
        assert theirs["n"] == 1
        with pytest.raises(LockTimeout), store.open(session_id) as session:
            session["n"] = 2


def lose_the_lock(stage: Stage) -> None:
    session_id = stage.a_session()
    store = stage.store(lock="single")
    with pytest.raises(LockLost), store.open(session_id) as session:
        session["n"] += 1
        stage.redis.delete(*stage.redis.keys("lock:*"))
        stage.change(session_id)


@dataclass
class Overdue:
    """A strategy of somebody's own, whose leases are over at once."""

    deadline: float = 0.0

    def acquire(self, key: str) -> Overdue:  # noqa: ARG002
        return self

    def release(self) -> None:
        pass

    def extend(self) -> None:
        raise AssertionError("nobody asked for that")


def outlive_the_lock(stage: Stage) -> None:
    store = stage.store(lock=Overdue())
    with pytest.raises(LockLost), store.open(stage.a_session()) as session:
        session["n"] += 1


def find_no_server(stage: Stage) -> None:
    session_id = stage.a_session()
    store = stage.store(url=f"redis://{HOST}:{free_port()}/0")
    with pytest.raises(StoreUnavailable), store.open(session_id) as session:
        session["n"] = 2


def find_no_server_of_locks(stage: Stage) -> None:
    nowhere = redis_py.Redis(host=HOST, port=free_port())
    store = stage.store(lock=SingleNodeLock(nowhere))
    with pytest.raises(StoreUnavailable), store.open(stage.a_session()) as session:
        session["n"] += 1


def lack_replicas(stage: Stage) -> None:
    store = stage.store(wait_replicas=1, timeout=PATIENCE)
    with pytest.raises(StoreUnavailable), store.open(stage.a_session()) as session:
        session.destroy()


class Deserted(CustomRedis):
    """A client that loses Redis as soon as it waits for a lock."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        if words[0] == "BLPOP":
            raise redis_py.ConnectionError
        return super().execute_command(*words, **options)


def lose_redis_while_waiting_for_the_lock(stage: Stage) -> None:
    session_id = stage.a_session()
    client = Deserted.from_url(stage.server.url)
    holder = SessionStore.from_config(url=stage.server.url, lock="single")
    with holder.open(session_id) as theirs:
        assert theirs["n"] == 1
        store = stage.store(client=client, lock="single")
        with pytest.raises(StoreUnavailable), store.open(session_id) as session:
            session["n"] = 2


def be_refused(stage: Stage) -> None:
    with FlakyProxy(stage.server) as proxy:
        session_id, store = stage.a_session(), stage.store(client=proxy.client())
        proxy.refuse("OOM command not allowed when used memory > 'maxmemory'.")
        with pytest.raises(StoreUnavailable), store.open(session_id) as session:
            session["n"] = 2


def ask_a_silent_server_twice(stage: Stage) -> None:
    session_id, store = stage.a_session(), stage.store(timeout=PATIENCE)
    stage.server.pause()
    for _ in range(2):
        with pytest.raises(StoreUnavailable), store.open(session_id) as session:
            session["n"] = 2
    stage.server.resume()


def get_the_answer_to_another_question(stage: Stage) -> None:
    pool = redis_py.ConnectionPool.from_url(stage.server.url, connection_class=Stuffed)
    store = stage.store(client=redis_py.Redis(connection_pool=pool))
    mine, theirs = stage.a_session(), stage.a_session()
    with store.open(mine) as session:  # connects, and greets
        assert session["n"] == 1
    with counting_client(stage.server.url) as spy:
        with SessionStore.from_config(client=spy).open(theirs) as session:
            assert session["n"] == 1
        Stuffed.stuffing.append(spy.trips.commands[-1])
    with pytest.raises(StoreUnavailable), store.open(mine) as session:
        session.get("n")


SCENES: dict[Callable[[Stage], None], list[str]] = {
    load: ["loaded"],
    look_for_what_is_not_there: ["missing"],
    create: ["created"],
    write: ["committed"],
    merge: ["loaded", "merged", "committed"],
    conflict: ["loaded", "conflict"],
    take_over: ["imported", "committed", "rotated"],
    rotate: ["loaded", "committed", "rotated"],
    destroy: ["destroyed"],
    come_too_late: ["loaded", "gone", "dropped"],
    read_again_what_is_gone: ["loaded", "gone", "dropped"],
    lock: ["locked", "loaded", "committed"],
    lock_elsewhere: ["locked", "loaded", "committed"],
    wait_in_vain: ["lock_timeout"],
    lose_the_lock: ["locked", "loaded", "lock_lost"],
    outlive_the_lock: ["locked", "loaded", "lock_lost"],
    find_no_server: ["unavailable"],
    find_no_server_of_locks: ["unavailable"],
    lack_replicas: ["unavailable"],
    lose_redis_while_waiting_for_the_lock: ["unavailable"],
    be_refused: ["unavailable"],
    ask_a_silent_server_twice: ["unavailable", "unavailable"],
    get_the_answer_to_another_question: ["loaded", "foreign_reply"],
}
TIMED = {"loaded", "created", "committed", "destroyed", "locked", "lock_timeout"}
COUNTED = {"loaded": 2, "created": 1, "merged": 1, "conflict": 1, "imported": 2}
OF_NO_SESSION = {"unavailable", "foreign_reply"}
scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)


@scenes
def test_the_listener_is_told_what_happens_in_its_order(
    stage: Stage, scene: Callable[[Stage], None]
) -> None:
    scene(stage)
    assert [event.name for event in stage.told] == SCENES[scene]
    assert stage.threads == {threading.get_ident()}


def test_every_event_is_seen_in_some_scene() -> None:
    assert {name for names in SCENES.values() for name in names} == MEANINGS.keys()


@scenes
def test_an_event_has_a_handle_and_figures_and_nothing_that_is_secret(
    stage: Stage, scene: Callable[[Stage], None]
) -> None:
    begun = time.monotonic()
    scene(stage)
    whole = time.monotonic() - begun
    handles = {Address.of(session_id).handle for session_id in stage.ids}
    for name, handle, seconds, fields in stage.told:
        assert not handle if name in OF_NO_SESSION else handle in handles
        assert name in TIMED | {"unavailable"} or seconds is None
        assert name not in TIMED or 0 <= seconds <= whole
        assert fields == COUNTED.get(name, fields)
    secrets = [session_id[-43:] for session_id in stage.ids]
    secrets += [Address.of(session_id).record[-64:] for session_id in stage.ids]
    secrets += ["tags", "theirs"]
    for secret in secrets:
        assert secret not in repr(stage.told)


@pytest.mark.parametrize(
    ("scene", "is_timed"),
    [
        (find_no_server, [True]),
        (find_no_server_of_locks, [True]),
        (be_refused, [False]),
        (ask_a_silent_server_twice, [True, False]),
    ],
)
def test_what_was_waited_for_a_redis_that_failed_is_told(
    stage: Stage, scene: Callable[[Stage], None], is_timed: list[bool]
) -> None:
    scene(stage)
    assert [event.seconds is not None for event in stage.told] == is_timed


def test_a_commit_tells_how_many_fields_were_changed(stage: Stage) -> None:
    write(stage)
    (event,) = stage.told
    assert event.fields == 2


def test_a_rotation_bears_the_handle_before_it(stage: Stage) -> None:
    rotate(stage)
    before, _ = stage.ids
    assert {event.handle for event in stage.told} == {Address.of(before).handle}


def test_an_event_is_told_after_it_has_happened(stage: Stage) -> None:
    def look(event: Event) -> None:
        seen.append((event.name, stage.redis.dbsize()))

    seen: list[tuple[str, int]] = []
    stage.listener = look
    create(stage)
    assert seen == [("created", 1)]


def test_a_story_of_requests_is_told_from_beginning_to_end(stage: Stage) -> None:
    def site(environ: dict[str, Any], start: Any) -> list[bytes]:
        session = environ["smartredis.session"]
        path = environ["PATH_INFO"]
        if path == "/login":
            session.regenerate_id()
            session["user"] = "ada"
        elif path == "/read":
            session.get("user")
        elif path == "/logout":
            session.destroy()
        start("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    browser = Browser(
        SessionMiddleware(
            site, url=stage.server.url, cookie_secure=False, on_event=stage.listener
        )
    )
    story = {
        "/static": [],
        "/login": ["created"],
        "/read": ["loaded"],
        "/logout": ["destroyed"],
    }
    for path, names in story.items():
        stage.told.clear()
        browser.ask(path)
        assert [event.name for event in stage.told] == names


# -- a listener that fails, and none -------------------------------------------------


@scenes
def test_a_listener_that_raises_changes_nothing(
    stage: Stage, scene: Callable[[Stage], None], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        stage.listen(event)
        raise ZeroDivisionError

    stage.listener = fail
    scene(stage)
    assert [event.name for event in stage.told] == SCENES[scene]
    failures = [record for record in caplog.records if record.exc_info]
    assert len(failures) == 1
    assert failures[0].levelname == "ERROR"


def test_each_kind_of_a_listeners_failure_is_logged_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = [
        KeyError("a"),
        ValueError("b"),
        KeyError("c"),
        ValueError("d"),
    ]

    def fail(_: Event) -> None:
        raise failures.pop(0)

    store, session_id = stage.store(on_event=fail), stage.a_session()
    for _ in range(4):
        with store.open(session_id) as session:
            session.get("n")
    assert not failures
    told = [record.exc_info for record in caplog.records]
    assert [repr(info[1]) for info in told if info] == [
        "KeyError('a')",
        "ValueError('b')",
    ]
    assert "in fail" in caplog.text


@scenes
def test_where_nobody_listens_no_event_is_made(
    stage: Stage, scene: Callable[[Stage], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an event, for nobody")

    monkeypatch.setattr(events.Event, "__new__", refuse)
    monkeypatch.setattr(events.Events, "tell", refuse)
    stage.listener = None
    scene(stage)


# -- the page and the log ------------------------------------------------------------


def rows_of(page: str) -> Iterator[list[str]]:
    """The cells of all rows of a page's tables, as they are written."""
    cells: list[str] = []
    for token in tokens_of(ROOT / "docs" / page):
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline":
            cells.append(token.content)
        elif token.type == "tr_close":
            yield cells


def test_the_page_says_of_each_event_what_the_code_says() -> None:
    rows = [tuple(cells) for cells in rows_of("events.md") if len(cells) == 2]
    table = rows[rows.index(("name", "what happened")) + 1 :][: len(MEANINGS)]
    assert table == [(f"`{name}`", meaning) for name, meaning in MEANINGS.items()]


def test_the_page_explains_each_attribute_of_an_event() -> None:
    explained = [cells[0] for cells in rows_of("events.md")]
    for name in Event._fields:
        assert f"`{name}`" in explained


def test_the_page_shows_the_examples_listeners() -> None:
    page = (ROOT / "docs" / "events.md").read_text("utf-8")
    for path in (ROOT / "examples").glob("*_events.py"):
        (listener,) = re.findall(
            r"^def \w+\(event\):\n(?: .*\n)+", path.read_text(), re.M
        )
        assert listener in page, path.name


def test_what_goes_well_leaves_nothing_in_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.NOTSET, "smartredis_wsgi")
    what_goes_well = load, create, write, merge, rotate, destroy, lock
    for scene in (*what_goes_well, look_for_what_is_not_there):
        scene(stage)
    assert [r for r in caplog.records if r.name.startswith("smartredis_wsgi")] == []


WITHOUT_LOGGING = """
import sys
from wsgiref.util import setup_testing_defaults
from smartredis_wsgi import SessionMiddleware

def site(environ, start_response):
    environ["smartredis.session"]["n"] = 1
    start_response("200 OK", [])
    return []

def fail(event):
    raise ZeroDivisionError

environ = {}
setup_testing_defaults(environ)
app = SessionMiddleware(site, url=sys.argv[1], on_event=fail)
list(app(environ, lambda status, headers, exc_info=None: print(status)))
"""


def test_where_nobody_has_configured_logging_nothing_is_printed() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOGGING, f"redis://{HOST}:{free_port()}/0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout == "503 Service Unavailable\n"
    assert ran.stderr == ""


def test_the_logger_is_left_to_the_application() -> None:
    logger = logging.getLogger("smartredis_wsgi")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert logger.propagate
