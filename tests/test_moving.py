"""Sessions of other libraries are taken over, and nobody is logged out."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import flask
import old_apps
import pytest
import redis as redis_py
from beaker.middleware import SessionMiddleware as BeakersOwn
from browser import Browser, commands
from doubles import counting_client
from old_apps import LIBRARIES, PLAIN, RICH, SECRET, Before
from pyramid.config import Configurator
from servers import Server

from smartredis_wsgi import (
    ConfigError,
    SessionConflict,
    SessionMiddleware,
    SessionStore,
    StoreUnavailable,
    ids,
)
from smartredis_wsgi.belonging import Belonging
from smartredis_wsgi.config import Config
from smartredis_wsgi.ids import Address
from smartredis_wsgi.integrations.beaker import SessionMiddleware as OurBeaker
from smartredis_wsgi.integrations.flask import SmartRedisSessions
from smartredis_wsgi.moving.cookies import OldCookie
from smartredis_wsgi.moving.records import Found, OldRecords

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}:DeprecationWarning")
    for text in ("The 'use_signer' option", "Call to deprecated setex")
]

Act = Callable[[Any], object]


class After(Browser):
    """A browser whose every visit does something with a session of ours."""

    def __init__(self, server: Server, before: Before | None = None, **options: Any):
        super().__init__(None)
        given = {"url": server.url, "cookie_secure": False, "timeout": 10, **options}
        self.options = {**(before.options if before else {}), **given}
        self.status = "200 OK"
        self._middleware = SessionMiddleware(self._run, self.options)
        self._acts: list[Act] = []

    def _run(self, environ: Any, start_response: Any) -> list[bytes]:
        told = self._acts.pop()(environ["smartredis.session"])
        start_response(self.status, [("Content-Type", "text/plain")])
        return [str(told).encode()]

    def visit(self, act: Act = dict, status: str = "200 OK") -> Any:
        """What `act` told of the session."""
        told: list[Any] = []
        self.app, self.status = self._middleware, status
        self._acts.append(lambda session: told.append(act(session)))
        self.ask()
        return told[0]

    def other(self, *names: str) -> After:
        """Another browser that has only these cookies."""
        twin = object.__new__(type(self))
        twin.__dict__ |= self.__dict__
        twin.cookies = {n: v for n, v in self.cookies.items() if n in names}
        twin._middleware = SessionMiddleware(twin._run, self.options)
        twin._acts = []
        return twin


def put(name: str, value: Any) -> Act:
    return lambda session: session.update({name: value})


def destroy(session: Any) -> None:
    session.destroy()


@pytest.fixture(params=LIBRARIES, ids=lambda make: make.__name__)
def before(request: pytest.FixtureRequest, server: Server) -> Before:
    made: Before = request.param(server)
    return made


@pytest.fixture
def moved(before: Before, server: Server) -> After:
    """A client that is logged in there, at the door here."""
    return moved_in(server, before)


def moved_in(server: Server, before: Before, **options: Any) -> After:
    client = After(server, before, **options)
    client.app = before.app
    client.ask("/login")
    assert client.ask("/").status_int == 200
    return client


@pytest.fixture
def ann(server: Server) -> After:
    """One of them, where it does not matter which."""
    return moved_in(server, old_apps.connect_redis(server))


OLD = "connect.sid"


def its_id(client: After) -> str:
    return client.cookies["sid"]


def settle(client: After) -> None:
    """Do what `import` does, or a request that dies before its commit."""
    old = client._middleware.store._engine.old
    assert old
    its_id = old.cookie.find(f"{OLD}={client.cookies[OLD]}")
    assert its_id
    (found,) = old.records.look([its_id])
    assert isinstance(found, Found)
    old.records.settle([found])


# -- nobody is logged out ------------------------------------------------------------


def test_a_live_session_goes_on_with_equal_values(
    before: Before, moved: After, redis: redis_py.Redis
) -> None:
    found = moved.visit()
    found.pop("_accessed_time", None)
    assert found == {**before.values, **before.own}
    assert all(type(found[n]) is type(v) for n, v in before.values.items())
    assert not redis.exists(*[k for k in redis.keys("*") if b"{" not in k] or ["none"])


def test_its_id_is_fresh_and_the_next_request_has_it(moved: After) -> None:
    old = dict(moved.cookies)
    moved.visit(put("n", 4))
    assert its_id(moved) not in old.values()
    again = moved.other("sid")
    assert again.visit(lambda session: (session["n"], session.is_new)) == (4, False)
    assert its_id(again) == its_id(moved)


def test_logout_stays_logout(moved: After, redis: Any) -> None:
    old = tuple(moved.cookies)
    moved.visit()
    twin = moved.other(*old)
    moved.visit(destroy)
    assert moved.visit() == {}
    assert twin.visit() == {}
    for key in redis.scan_iter("*"):  # also when the marks are no more
        redis.delete(key)
    assert twin.visit() == {}


def test_logging_out_with_the_first_request_is_logging_out(
    moved: After, redis: Any
) -> None:
    old = tuple(moved.cookies)
    moved.visit(destroy)
    assert moved.other(*old).visit() == {}
    assert not [key for key in redis.keys("*") if redis.type(key) == b"hash"]


def test_a_request_that_fails_leaves_it_where_it_was(
    before: Before, moved: After, redis: Any
) -> None:
    key = before.key(redis)
    stored = redis.get(key)
    cookies = dict(moved.cookies)
    moved.visit(put("n", 4), status="500 Internal Server Error")
    assert redis.get(key) == stored
    assert moved.cookies == cookies
    assert moved.visit()["n"] == 3


def test_without_the_option_nothing_is_looked_for(
    before: Before, server: Server
) -> None:
    client = moved_in(server, before)
    client.options = {"url": server.url, "cookie_secure": False}
    client._middleware = SessionMiddleware(client._run, client.options)
    with commands(server) as asked:
        assert client.visit() == {}
    assert not asked


# -- what it costs -------------------------------------------------------------------


def test_a_session_that_is_not_touched_is_not_looked_for(
    moved: After, server: Server
) -> None:
    with commands(server) as asked:
        moved.visit(lambda _: None)
    assert not asked


def forged(value: str) -> Iterator[str]:
    yield value[:30] + ("A" if value[30] != "A" else "B") + value[31:]
    yield value[1:]
    yield "x" * 60
    yield "s:x.y"
    yield "\xff"
    yield "%00" + value


@pytest.mark.parametrize(
    "make",
    [
        old_apps.signed_flask_session,
        old_apps.pyramid_session,
        old_apps.signed_beaker,
        old_apps.connect_redis,
    ],
    ids=lambda make: make.__name__,
)
def test_a_forged_cookie_costs_no_command(make: Any, server: Server) -> None:
    moved = moved_in(server, make(server))
    ((name, value),) = moved.cookies.items()
    with commands(server) as asked:
        for wrong in forged(value):
            moved.cookies[name] = wrong
            assert moved.visit() == {}
    assert not asked


def test_one_that_has_moved_in_costs_what_any_session_costs(
    ann: After, server: Server
) -> None:
    ann.visit()
    with commands(server) as asked:
        ann.visit()
    assert len([line for line in asked if "EVAL" in line.upper()]) == 1


@pytest.mark.parametrize(
    ("act", "trips"),
    [(dict, 6), (put("n", 4), 6), (destroy, 4)],
    ids=["read", "write", "destroy"],
)
def test_the_first_request_costs_five_round_trips_more(
    server: Server, act: Act, trips: int
) -> None:
    before = old_apps.connect_redis(server)
    with counting_client(server.url) as spy:
        moved = moved_in(server, before, url=None, client=spy)
        spy.trips.reset()
        moved.visit(act)
        assert spy.trips.count == trips
        moved.cookies.pop("sid", None)
        spy.trips.reset()
        moved.visit(lambda _: None)
        assert spy.trips.count == 0


def test_a_visitor_with_an_old_cookie_that_leads_nowhere_costs_two(
    server: Server, redis: Any
) -> None:
    before = old_apps.connect_redis(server)
    with counting_client(server.url) as spy:
        moved = moved_in(server, before, url=None, client=spy)
        redis.flushdb()
        spy.trips.reset()
        assert moved.visit() == {}
        assert spy.trips.count == 2


@pytest.mark.parametrize("junk", ["connect.sid=s:", "connect.sid=", '="', ",;", "s:.;"])
def test_a_hostile_header_is_searched_in_one_go(junk: str) -> None:
    options = {"url": "redis://localhost", "import_from": "connect-redis"}
    cookie = OldCookie(Config.build({**options, "import_secret": SECRET}))
    value = old_apps.cookie_signature("x" * 32, SECRET)
    assert cookie.find(junk * 20_000) is None
    assert cookie.find(f"bad[name]=1; connect.sid=s:x.y;connect.sid=s:{value}") == (
        "x" * 32
    )
    assert cookie.find(f"a=1, connect.sid=s%3A{value}, b=2") == "x" * 32
    assert cookie.find(f"xconnect.sid=s:{value}") is None


# -- requests at once ----------------------------------------------------------------


def test_two_first_requests_at_once_make_one_session_with_both_changes(
    ann: After,
) -> None:
    twin = ann.other(OLD)

    def slowly(session: Any) -> None:
        session["cart"].append("kiwi")
        session.incr("n")
        twin.visit(lambda other: (other["cart"].append("plum"), other.incr("n", 5)))

    ann.visit(slowly)
    assert its_id(ann) == its_id(twin)
    here = ann.visit()
    assert here["cart"] == [*PLAIN["cart"], "plum", "kiwi"]
    assert here["n"] == 9


def test_who_missed_the_response_is_told_the_id_once_more(ann: After) -> None:
    late = ann.other(OLD)
    ann.visit()
    assert late.visit()["user"] == "ann"
    assert its_id(late) == its_id(ann)


def test_after_a_minute_the_old_cookie_leads_nowhere(ann: After, redis: Any) -> None:
    late = ann.other(OLD)
    ann.visit()
    marks = [key for key in redis.scan_iter("*") if redis.type(key) == b"string"]
    assert len(marks) == 2
    assert all(50_000 < redis.pttl(mark) <= 60_000 for mark in marks)
    redis.delete(*marks)
    assert late.visit() == {}
    assert ann.visit()["user"] == "ann"


def test_an_id_that_the_application_asks_for_is_told_to_nobody_else(ann: After) -> None:
    late = ann.other(OLD)
    ann.visit(lambda session: session.regenerate_id())
    assert late.visit() == {}
    assert "sid" not in late.cookies
    assert ann.visit()["user"] == "ann"


def test_a_login_in_the_second_request_shuts_out_the_old_cookie(ann: After) -> None:
    late = ann.other(OLD)
    ann.visit()
    ann.visit(lambda session: session.regenerate_id())
    assert late.visit() == {}
    assert "sid" not in late.cookies


def log_in(session: Any) -> None:
    session.regenerate_id()
    session["user"] = "bob"


def test_a_login_by_the_old_cookie_shuts_out_who_came_before(ann: After) -> None:
    thief = ann.other(OLD)
    thief.visit()
    ann.visit(log_in)
    assert its_id(ann) != its_id(thief)
    assert ann.other("sid").visit()["user"] == "bob"
    assert thief.other("sid").visit() == {}
    assert thief.other(OLD).visit() == {}


@pytest.mark.parametrize("first", ["read", "login"])
def test_a_login_by_the_old_cookie_shuts_out_who_comes_meanwhile(
    ann: After, first: str
) -> None:
    thief = ann.other(OLD)

    def slowly(session: Any) -> None:
        if first == "login":
            log_in(session)
        assert session["user"]
        thief.visit()
        log_in(session)

    ann.visit(slowly)
    assert its_id(ann) != its_id(thief)
    assert ann.other("sid").visit()["user"] == "bob"
    assert thief.other("sid").visit() == {}
    assert thief.other(OLD).visit() == {}


def test_of_two_logins_by_the_old_cookie_one_has_the_session(ann: After) -> None:
    early, twin = ann.other(OLD), ann.other(OLD)
    early.visit()

    def slowly(session: Any) -> None:
        log_in(session)
        assert session["n"] == 3
        twin.visit(log_in)

    ann.visit(slowly)
    assert "sid" not in ann.cookies
    assert twin.other("sid").visit()["user"] == "bob"
    assert early.other("sid").visit() == {}


def test_a_logout_during_a_slow_first_request_stays_so(ann: After, redis: Any) -> None:
    twin = ann.other(OLD)

    def slowly(session: Any) -> None:
        session["late"] = session["user"]
        twin.visit(destroy)

    ann.visit(slowly)
    assert "sid" not in ann.cookies
    assert ann.visit() == {}
    assert not [key for key in redis.keys("*") if redis.type(key) == b"hash"]


@pytest.mark.parametrize("acts", [[destroy], [log_in, destroy], [log_in]])
def test_a_slow_first_request_makes_no_second_session_when_tombstones_are_over(
    ann: After, redis: Any, acts: list[Act]
) -> None:
    twin = ann.other(OLD)

    def slowly(session: Any) -> None:
        session["late"] = session["user"]
        settle(ann)
        for act in acts:
            twin.visit(act)
        for key in redis.scan_iter("*"):
            if redis.type(key) == b"string" and redis.pttl(key) < 50_000:
                redis.delete(key)

    ann.visit(slowly)
    assert "sid" not in ann.cookies
    assert ann.other(OLD).visit() == {}
    logged_in = twin.visit()
    assert logged_in == {} or logged_in["late"] == "ann"


def test_a_first_request_that_the_other_has_overtaken_goes_nowhere_after_a_logout(
    ann: After, redis: Any
) -> None:
    twin = ann.other(OLD)

    def slowly(session: Any) -> None:
        session["late"] = session["user"]
        twin.visit()
        twin.visit(destroy)

    ann.visit(slowly)
    assert ann.visit() == {}
    assert not [key for key in redis.keys("*") if redis.type(key) == b"hash"]


def test_a_change_under_way_is_carried_over_to_an_id_that_another_asked_for(
    ann: After,
) -> None:
    twin = ann.other(OLD)

    def slowly(session: Any) -> None:
        session["cart"].append("kiwi")
        twin.visit(lambda other: (other.regenerate_id(), other["cart"].append("plum")))

    ann.visit(slowly)
    assert "sid" not in ann.cookies
    assert twin.visit()["cart"] == [*PLAIN["cart"], "plum", "kiwi"]


def test_a_request_that_overtakes_another_as_that_one_stores_it_logs_nobody_out(
    ann: After, monkeypatch: pytest.MonkeyPatch
) -> None:
    peek, peeks, quick = OldRecords._peek, [], ann.other(OLD)

    def late(self: OldRecords, old_id: str) -> Any:
        peeks.append(old_id)
        if len(peeks) == 2:  # it is stored, and the old one is not ended yet
            quick.visit(put("n", 4))
        return peek(self, old_id)

    monkeypatch.setattr(OldRecords, "_peek", late)
    ann.visit(put("late", True))
    assert its_id(ann) == its_id(quick)
    assert ann.visit(lambda session: (session["n"], session["late"])) == (4, True)


def test_who_logs_out_as_it_is_stored_is_out_wherever_it_was_taken(
    ann: After, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    peek, peeks, quick = OldRecords._peek, [], ann.other(OLD)

    def late(self: OldRecords, old_id: str) -> Any:
        peeks.append(old_id)
        if len(peeks) == 2:  # what is found is stored, and looked at once more
            redis.delete(f"sess:{old_id}")
            assert quick.visit()["user"] == "ann"
        return peek(self, old_id)

    monkeypatch.setattr(OldRecords, "_peek", late)
    ann.visit()
    assert quick.visit() == {}
    assert ann.visit() == {}


def test_its_id_is_known_before_it_is_stored(ann: After) -> None:
    told = ann.visit(lambda session: session.id)
    assert told == its_id(ann)


def test_what_an_interrupted_request_has_stored_is_found(
    ann: After, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ann._middleware.store._engine.old.records

    def fail(*_: object) -> None:
        raise StoreUnavailable("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(old, "end", fail)
        ann.visit(put("n", 4))
    assert "sid" not in ann.cookies
    assert redis.keys("sess:*")
    assert ann.visit()["n"] == 3
    assert not redis.keys("sess:*")
    assert ann.other("sid").visit()["user"] == "ann"


# -- sessions of ours beside it ------------------------------------------------------


def test_a_blind_write_with_an_id_that_leads_nowhere_is_added_to_the_old_session(
    ann: After,
) -> None:
    ann.cookies["sid"] = ids.new_id()
    ann.visit(put("seen", True))
    assert ann.visit() == {**PLAIN, "flash": {"news": ["welcome"]}, "seen": True}


def test_a_session_of_ours_is_preferred(ann: After, server: Server, redis: Any) -> None:
    fresh = After(server)
    fresh.visit(put("user", "bob"))
    ann.cookies["sid"] = its_id(fresh)
    assert ann.visit() == {"user": "bob"}
    assert redis.keys("sess:*")


@pytest.mark.parametrize("where", ["there", "imported", "moved"])
@pytest.mark.parametrize("reads", [False, True])
def test_who_logs_out_of_ours_is_not_in_the_old_session_after_it(
    ann: After, server: Server, where: str, reads: bool
) -> None:
    bob = After(server)
    bob.visit(put("user", "bob"))
    if where == "imported":
        settle(ann)
    if where == "moved":
        ann.other(OLD).visit()
    ann.cookies["sid"] = its_id(bob)
    ann.visit(lambda session: (reads and session["user"], session.destroy()))
    assert ann.visit() == {}
    assert bob.visit() == {}


def test_a_logout_beside_an_old_cookie_costs_two_round_trips_more(
    server: Server, redis: Any
) -> None:
    before = old_apps.connect_redis(server)
    with counting_client(server.url) as spy:
        ann = moved_in(server, before, url=None, client=spy)
        ann.visit()
        spy.trips.reset()
        ann.visit(destroy)
        assert spy.trips.count == 4  # for a minute it is followed where it has moved
        ann.visit(put("n", 1))
        for key in redis.scan_iter("*"):
            if redis.type(key) == b"string":
                redis.delete(key)
        spy.trips.reset()
        ann.visit(destroy)
        assert spy.trips.count == 3


def test_no_cookie_can_hold_a_stand_in(ann: After, server: Server) -> None:
    ann.visit()
    ann.cookies["sid"] = ids.stand_in("x")
    with commands(server) as asked:
        ann.other("sid").visit()
    assert not asked


def test_forget_keeps_the_session_and_no_change(ann: After) -> None:
    ann.visit(
        lambda session: (session.update(n=9), session.forget(), session.update(n=8))
    )
    assert ann.other("sid").visit()["n"] == 3


def test_methods_that_may_not_write_read_it_where_it_is(
    server: Server, redis: Any
) -> None:
    before = old_apps.connect_redis(server)
    moved = moved_in(server, before, lock="single", lock_methods="POST")
    assert moved.visit()["user"] == "ann"
    assert redis.exists(before.key(redis))
    assert "sid" not in moved.cookies


@pytest.mark.parametrize("lock_scope", ["request", "commit", "manual"])
def test_it_moves_in_with_a_lock_too(server: Server, lock_scope: str) -> None:
    before = old_apps.connect_redis(server)
    moved = moved_in(server, before, lock="single", lock_scope=lock_scope)

    def locked(session: Any) -> None:
        with session.lock():
            session["n"] += 1

    moved.visit(locked)
    assert moved.other("sid").visit()["n"] == 4


def test_the_listener_hears_of_it(server: Server) -> None:
    heard: list[Any] = []
    moved = moved_in(server, old_apps.connect_redis(server), on_event=heard.append)
    moved.visit()
    assert [event.name for event in heard] == ["imported", "committed", "rotated"]
    assert heard[0].fields == len(PLAIN) + 1


def test_the_listener_hears_of_a_logout_with_the_first_request(server: Server) -> None:
    heard: list[Any] = []
    moved = moved_in(server, old_apps.connect_redis(server), on_event=heard.append)
    moved.visit(destroy)
    assert [event.name for event in heard] == ["destroyed"]


def test_it_may_lie_on_another_server(server: Server, masters: list[Server]) -> None:
    other = masters[0]
    moved = moved_in(server, old_apps.connect_redis(other), import_url=other.url)
    with other.client() as client:
        assert client.keys("sess:*")
        assert moved.visit()["user"] == "ann"
        assert not client.keys("sess:*")
    assert moved.other("sid").visit()["user"] == "ann"


def test_it_moves_into_a_cluster(cluster: Any, server: Server) -> None:
    before = old_apps.connect_redis(server)
    moved = moved_in(server, before, url=cluster.url, import_url=server.url)
    moved.visit(put("n", 4))
    assert moved.other("sid").visit()["n"] == 4


# -- time ----------------------------------------------------------------------------


def test_it_lives_for_as_long_as_it_had_left(ann: After, redis: Any) -> None:
    ann.visit()
    key = "session:" + Address.of(its_id(ann)).record
    assert redis.pttl(key) > 86_000_000
    ann.visit(put("n", 4))
    assert redis.pttl(key) > 86_000_000


def test_a_short_one_gets_the_usual_ttl(ann: After, redis: Any) -> None:
    (key,) = redis.keys("sess:*")
    redis.pexpire(key, 60_000)
    ann.visit()
    assert redis.pttl("session:" + Address.of(its_id(ann)).record) > 1_700_000


def test_what_the_old_library_would_not_take_any_more_is_not_taken(
    server: Server, redis: Any
) -> None:
    moved = moved_in(server, old_apps.beaker(server))
    (key,) = redis.keys("beaker_cache:*")
    redis.pexpire(key, 119_000)  # Beaker keeps it for two minutes longer than it counts
    assert moved.visit() == {}
    ann = moved_in(server, old_apps.connect_redis(server))
    (key,) = redis.keys("sess:*")
    past = redis.get(key).replace(b'"expires": "2', b'"expires": "1')
    redis.set(key, past, keepttl=True)
    assert ann.visit() == {}


@pytest.mark.parametrize("ends", [1e15, 1e300])
def test_one_that_never_ends_gets_ten_years(
    server: Server, redis: Any, ends: float
) -> None:
    client = moved_in(server, old_apps.pyramid_session(server))
    (key,) = [key for key in redis.scan_iter("*") if b"{" not in key]
    redis.set(key, pickle.dumps({"v": 1, "m": {"user": "ann"}, "x": ends}))
    assert client.visit() == client.visit() == {"user": "ann"}
    left = redis.pttl("session:" + Address.of(its_id(client)).record) / 1000
    assert 9 * 365 * 86400 < left < 10 * 366 * 86400


def test_redis_may_have_it_for_very_long(ann: After, redis: Any) -> None:
    (key,) = redis.keys("sess:*")
    redis.set(key, b'{"user": "ann"}', px=2 * 10**15)
    assert ann.visit() == ann.visit() == {"user": "ann"}


@pytest.mark.parametrize("ends", [float("inf"), float("nan"), 10**400], ids=str)
def test_an_end_that_is_no_time_is_refused(
    server: Server, redis: Any, ends: float, caplog: Any
) -> None:
    client = moved_in(server, old_apps.pyramid_session(server))
    (key,) = [key for key in redis.scan_iter("*") if b"{" not in key]
    redis.set(key, pickle.dumps({"v": 1, "m": {"user": "ann"}, "x": ends}))
    assert client.visit() == {}
    assert redis.exists(key)
    assert "can't be taken over" in caplog.text


# -- what can't be read --------------------------------------------------------------


class Planted:
    """A pickle that would call something."""

    def __init__(self, *call: Any) -> None:
        self._call = call

    def __reduce__(self) -> Any:
        return self._call[0], self._call[1:]


BAD = {
    "bytes": b"\x93\x01",
    "nothing": b"",
    "a list": b"[1, 2]",
    "a name that is none": b'{"a": 1}'.replace(b'"a"', b"1"),
    "a pickle": pickle.dumps({"user": "eve"}),
    "a planted pickle": pickle.dumps(Planted(print, "executed")),
    "half a character": b'{"\\ud800": 1}',
    "half a character within": b'{"a": ["\\ud800"]}',
    "too large": b'{"a": "' + b"x" * 2_200_000 + b'"}',
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_what_can_not_be_read_is_an_empty_session_and_stays_where_it_is(
    ann: After, redis: Any, raw: bytes, caplog: Any, capsys: Any
) -> None:
    (key,) = redis.keys("sess:*")
    redis.set(key, raw, ex=600)
    assert ann.visit() == {}
    assert redis.get(key) == raw
    assert capsys.readouterr().out == ""
    assert "can't be taken over" in caplog.text
    assert key.decode().removeprefix("sess:") not in caplog.text


def test_one_that_is_no_string_stays_where_it_is(
    ann: After, redis: Any, caplog: Any
) -> None:
    (key,) = redis.keys("sess:*")
    redis.delete(key)
    redis.hset(key, "not", "theirs")
    redis.expire(key, 600)
    assert ann.visit() == {}
    assert redis.hgetall(key) == {b"not": b"theirs"}
    assert "can't be taken over: no string" in caplog.text


def test_one_that_is_too_large_does_not_even_come(
    server: Server, redis: Any, caplog: Any
) -> None:
    client = moved_in(server, old_apps.connect_redis(server), max_size=100)
    (key,) = redis.keys("sess:*")
    redis.set(key, b'{"user": "ann"}'.ljust(201), ex=600)
    assert client.visit() == {}
    assert "can't be taken over: too large" in caplog.text
    redis.set(key, b'{"user": "ann"}'.ljust(200), ex=600)
    assert client.visit() == {"user": "ann"}


def test_what_would_be_too_large_when_unpacked_is_not_unpacked(
    server: Server, redis: Any, caplog: Any
) -> None:
    moved = moved_in(server, old_apps.beaker_in_json(server))
    (key,) = redis.keys("beaker_cache:*")
    bomb = zlib.compress(b'{"a": ["' + b"x" * 3_000_000 + b'"]}')
    redis.set(key, pickle.dumps(base64.b64encode(bomb).decode()), ex=3600)
    with mock.patch.object(json, "loads") as parse:
        assert moved.visit() == {}
    assert not parse.called
    assert "too large" in caplog.text


def test_pickles_are_read_by_opt_in_only(
    server: Server, redis: Any, caplog: Any
) -> None:
    client = After(server, import_from="flask-session", cookie_name="ours")
    old_apps.pickled_flask_session(redis, "s" * 43)
    client.cookies["session"] = "s" * 43
    assert client.visit() == {}
    assert "import_pickle is off" in caplog.text
    options = {"import_from": "flask-session", "import_pickle": "on"}
    willing = After(server, cookie_name="ours", **options)
    willing.cookies["session"] = "s" * 43
    assert willing.visit() == RICH


def test_a_planted_pickle_is_refused_with_the_opt_in_too(
    server: Server, redis: Any, capsys: Any
) -> None:
    options = {"import_from": "flask-session", "import_pickle": "on"}
    client = After(server, cookie_name="ours", **options)
    redis.set(b"session:" + b"s" * 43, BAD["a planted pickle"], ex=60)
    client.cookies["session"] = "s" * 43
    assert client.visit() == {}
    assert capsys.readouterr().out == ""


# -- options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"import_from": "passport"}, "import_from"),
        ({"import_from": "connect-redis"}, "import_secret"),
        ({"import_from": "pyramid_session_redis"}, "import_secret"),
        ({"import_secret": "s"}, "import_secret: the value given"),
        ({"import_pickle": True}, "import_pickle"),
        ({"import_from": "beaker", "import_url": "http://x"}, "^option import_url: it"),
    ],
)
def test_what_is_missing_or_too_much_is_refused_at_start(
    server: Server, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        SessionMiddleware(lambda *_: [], {"url": server.url, **options})


def test_text_of_an_ini_file_will_do(server: Server) -> None:
    before = old_apps.connect_redis(server)
    client = moved_in(server, before)
    settings = {
        "session.url": server.url,
        "session.cookie_secure": "off",
        "session.import_from": "connect-redis",
        "session.import_secret": f"another\n{SECRET}",
        "session.import_prefix": "sess:",
        "session.import_cookie": "connect.sid",
        "session.import_pickle": "off",
    }
    client._middleware = SessionMiddleware.from_settings(client._run, settings)
    assert client.visit()["user"] == "ann"


# -- in frameworks -------------------------------------------------------------------


class Visitor(Browser):
    """A browser that goes from an application to the one that takes its place."""

    def __init__(self, before: Before) -> None:
        super().__init__(before.app)
        self.ask("/login")
        self.cookies_before = dict(self.cookies)


@pytest.mark.parametrize(
    "make", [old_apps.flask_session, old_apps.signed_flask_session]
)
def test_flask_goes_on_with_its_session_and_flash_messages(
    make: Any, server: Server, redis: Any
) -> None:
    before = make(server)
    visitor = Visitor(before)
    app = flask.Flask("after")
    SmartRedisSessions(app, url=server.url, **before.options)

    @app.get("/")
    def home() -> Any:
        flashes = flask.get_flashed_messages(with_categories=True)
        return {"user": flask.session.get("user"), "flashes": flashes}

    @app.get("/logout")
    def logout() -> str:
        flask.session.destroy()  # type: ignore[attr-defined]
        return "out"

    visitor.app = app
    told = visitor.ask().json
    assert told == {"user": "ann", "flashes": [["news", "welcome"]]}
    assert visitor.cookies["session"] != visitor.cookies_before["session"]
    assert visitor.ask().json == {"user": "ann", "flashes": []}
    (key,) = [key for key in redis.scan_iter("*") if redis.type(key) == b"hash"]
    assert redis.ttl(key) > 30 * 86400  # as it was permanent
    visitor.ask("/logout")
    visitor.cookies = visitor.cookies_before
    assert visitor.ask().json["user"] is None


def test_pyramid_goes_on_with_its_session_flash_messages_and_token(
    server: Server,
) -> None:
    visitor = Visitor(old_apps.pyramid_session(server))
    settings = {
        "session.url": server.url,
        "session.cookie_name": "session",
        "session.cookie_secure": "off",
        "session.import_from": "pyramid_session_redis",
        "session.import_secret": SECRET,
        "session.import_pickle": "true",
    }
    with Configurator(settings=settings) as config:
        config.include("smartredis_wsgi.integrations.pyramid")
        for path, view in (("/", _pyramid_home), ("/logout", _pyramid_logout)):
            config.add_route(path, path)
            config.add_view(view, route_name=path, renderer="json")
        visitor.app = config.make_wsgi_app()
    assert visitor.ask().json == {"user": "ann", "new": False, "flash": ["welcome"]}
    assert visitor.cookies["session"] != visitor.cookies_before["session"]
    assert visitor.ask().json["flash"] == []
    visitor.ask("/logout")
    visitor.cookies = visitor.cookies_before
    assert visitor.ask().json["user"] is None


def _pyramid_home(request: Any) -> dict[str, Any]:
    session = request.session
    user, flash = session.get("user"), session.pop_flash()
    return {"user": user, "new": session.new, "flash": flash}


def _pyramid_logout(request: Any) -> dict[str, Any]:
    request.session.invalidate()
    return {}


@pytest.mark.parametrize("secret", [{}, {"session.secret": SECRET}], ids=["", "signed"])
def test_a_beaker_application_goes_on_by_one_import_and_two_options(
    server: Server, secret: dict[str, str]
) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        if environ["PATH_INFO"] == "/login":
            session["user"], session["since"] = "ann", RICH["since"]
            session.save()
        elif environ["PATH_INFO"] == "/logout":
            session.delete()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{session.get('user')} {session.get('since')}".encode()]

    options = {"session.type": "ext:redis", "session.url": server.url, **secret}
    browser = Browser(BeakersOwn(app, options))
    browser.ask("/login")
    stayed, seen = dict(browser.cookies), browser.ask().text
    assert seen.startswith("ann 2026")

    moving = {"session.import_from": "beaker", "session.import_pickle": "true"}
    browser.app = OurBeaker(app, {**options, **moving})
    assert browser.ask().text == seen  # it only reads, and does not save
    assert browser.cookies.keys() == stayed.keys() == {"beaker.session.id"}
    assert browser.cookies != stayed
    assert browser.ask().text == seen
    browser.ask("/logout")
    browser.cookies = stayed
    assert browser.ask().text == "None None"


# -- owners --------------------------------------------------------------------------


def test_a_first_request_that_fails_takes_no_entry_of_another_first_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = moved_in(server, old_apps.connect_redis(server), conflict="raise")
    second, enter = first.other(OLD), Belonging.enter

    def count_and_bind(session: Any) -> None:
        session["n"] = session.get("n", 0) + 1
        session.bind("ann")

    def late(*args: Any, **named: Any) -> Any:
        monkeypatch.setattr(Belonging, "enter", enter)
        tie = enter(*args, **named)
        second.visit(count_and_bind)
        return tie

    monkeypatch.setattr(Belonging, "enter", late)
    with pytest.raises(SessionConflict):
        first.visit(count_and_bind)
    store = SessionStore.from_config(second.options)
    assert len(store.sessions_of("ann")) == 1
    assert store.destroy_owner("ann") == 1
    assert second.visit() == {}
