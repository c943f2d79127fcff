"""All sessions of another library are taken over at once, by the command line."""

from __future__ import annotations

import json
import pickle
from typing import Any

import old_apps
import pytest
import redis as redis_py
from click.testing import CliRunner, Result
from old_apps import LIBRARIES, PLAIN, Before
from servers import Server
from test_moving import After, destroy, moved_in, pytestmark  # noqa: F401

from smartredis_wsgi.cli import main, sight
from smartredis_wsgi.moving.records import OldRecords


def run(server: Server, *words: str) -> Result:
    return CliRunner().invoke(main, ["--url", server.url, "import", *words])


def told(server: Server, *words: str) -> dict[str, Any]:
    ran = run(server, "--json", *words)
    assert ran.exit_code == 0, ran.output
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def words_for(before: Before) -> list[str]:
    pickled = ["--pickle"] if "import_pickle" in before.options else []
    return [before.name, *pickled]


@pytest.fixture(params=LIBRARIES, ids=lambda make: make.__name__)
def before(request: pytest.FixtureRequest, server: Server) -> Before:
    made: Before = request.param(server)
    return made


def test_a_session_that_was_moved_goes_on_by_its_old_cookie(
    before: Before, server: Server
) -> None:
    client = moved_in(server, before)
    assert told(server, *words_for(before))["moved"] == 1
    with server.client() as redis:
        assert not [key for key in redis.keys("*") if b"{" not in key]
    found = client.visit()
    found.pop("_accessed_time", None)
    assert found == {**before.values, **before.own}


def test_its_id_is_fresh_and_logout_stays_logout(
    before: Before, server: Server, redis: redis_py.Redis
) -> None:
    client = moved_in(server, before)
    told(server, *words_for(before))
    twin = client.other(*client.cookies)
    client.visit()
    assert client.cookies["sid"] not in twin.cookies.values()
    assert client.other("sid").visit()["user"] == "ann"
    client.visit(destroy)
    for key in redis.scan_iter("*"):
        redis.delete(key)
    assert twin.visit() == {}


def test_pickles_need_no_opt_in_afterwards(server: Server) -> None:
    before = old_apps.beaker(server)
    client = moved_in(server, before)
    told(server, *words_for(before))
    options = {**before.options, "import_pickle": False}
    other = After(server, **options)
    other.cookies = client.cookies
    assert other.visit()["user"] == "ann"


def test_two_first_requests_at_once_make_one_session_with_both_changes(
    server: Server,
) -> None:
    client = ann(server)
    told(server, "connect-redis")
    twin = client.other("connect.sid")

    def slowly(session: Any) -> None:
        session["cart"].append("kiwi")
        twin.visit(lambda other: other["cart"].append("plum"))

    client.visit(slowly)
    assert client.cookies["sid"] == twin.cookies["sid"]
    assert client.visit()["cart"] == [*PLAIN["cart"], "plum", "kiwi"]


def ann(server: Server) -> After:
    return moved_in(server, old_apps.connect_redis(server))


def test_a_dry_run_changes_nothing(server: Server, redis: redis_py.Redis) -> None:
    ann(server)
    keys = redis.keys("*")
    assert told(server, "connect-redis", "--dry-run") == {
        "complete": True,
        "dry_run": True,
        "moved": 1,
        "there_already": 0,
        "ended_meanwhile": 0,
        "left": {},
    }
    assert redis.keys("*") == keys


def test_what_is_kept_ends_when_its_client_comes(
    server: Server, redis: redis_py.Redis
) -> None:
    client = ann(server)
    assert told(server, "connect-redis", "--keep")["moved"] == 1
    assert told(server, "connect-redis", "--keep")["there_already"] == 1
    assert redis.keys("sess:*")
    assert client.visit()["user"] == "ann"
    assert not redis.keys("sess:*")


def test_it_may_come_from_another_server_and_prefix(
    server: Server, masters: list[Server]
) -> None:
    other = masters[0]
    moved_in(server, old_apps.connect_redis(other), import_url=other.url)
    words = ["--from-url", other.url, "--from-prefix"]
    assert told(server, "connect-redis", *words, "shop:")["moved"] == 0
    assert told(server, "connect-redis", *words, "sess:")["moved"] == 1


def test_what_can_not_be_read_is_counted_by_reason_and_left(
    server: Server, redis: redis_py.Redis
) -> None:
    ann(server)
    redis.set("sess:a", b"nonsense", ex=60)
    redis.set("sess:b", b"[]", ex=60)
    redis.set("sess:d", b'{"\\ud800": 1}', ex=60)
    redis.rpush("sess:c", "x")
    ran = run(server, "connect-redis")
    first, second, *others = ran.stdout.splitlines()
    assert (first, second) == ("1 moved", "2 left: no session of this library")
    assert sorted(others) == ["1 left: no string", "1 left: no text"]
    assert redis.exists("sess:a", "sess:b", "sess:c") == 3
    redis.delete("sess:c")


def test_pickles_are_left_without_the_word(
    server: Server, redis: redis_py.Redis
) -> None:
    redis.set("session:abc", pickle.dumps({"user": "ann"}), ex=60)
    reason = "a pickle; import_pickle is off"
    assert told(server, "flask-session")["left"] == {reason: 1}
    assert told(server, "flask-session", "--pickle")["moved"] == 1


def test_sessions_of_ours_are_none_of_theirs(server: Server) -> None:
    After(server).visit(lambda session: session.update(n=1))
    assert told(server, "flask-session", "--dry-run")["moved"] == 0
    assert told(server, "flask-session", "--dry-run")["left"] == {}


def test_one_that_is_logged_out_meanwhile_is_not_brought_back(
    server: Server, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ann(server)
    settle = OldRecords.settle

    def late(self: OldRecords, found: Any, **options: Any) -> Any:
        monkeypatch.undo()
        client.other("connect.sid").visit(destroy)
        return settle(self, found, **options)

    monkeypatch.setattr(OldRecords, "settle", late)
    assert told(server, "connect-redis")["ended_meanwhile"] == 1
    assert client.visit() == {}
    assert not [key for key in redis.keys("*") if redis.type(key) == b"hash"]


def test_it_can_be_stopped_and_gone_on_with(
    server: Server, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        redis.set(f"sess:{n}", json.dumps({"n": n}), ex=60)
    settle, pages = OldRecords.settle, []

    def stop(self: OldRecords, found: Any, **options: Any) -> Any:
        pages.append(found)
        if len(pages) == 3:
            raise KeyboardInterrupt
        return settle(self, found, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sight, "PAGE", 5)
        patch.setattr(OldRecords, "settle", stop)
        ran = run(server, "connect-redis", "--json")
    first = json.loads(ran.stdout)
    assert (ran.exit_code, first["complete"]) == (130, False)
    assert 0 < first["moved"] < 20
    assert first["moved"] + told(server, "connect-redis")["moved"] == 20


def test_it_moves_into_a_cluster(cluster: Any, server: Server) -> None:
    with server.client() as redis:
        for n in range(20):
            redis.set(f"sess:{n}", json.dumps({**PLAIN, "n": n}), ex=60)
    words = ["--url", cluster.url, "import", "connect-redis", "--json"]
    ran = CliRunner().invoke(main, [*words, "--from-url", server.url])
    assert json.loads(ran.stdout)["moved"] == 20


@pytest.mark.parametrize("words", [["passport"], [], ["beaker", "--from-url", "x"]])
def test_a_mistake_is_told_without_a_traceback(
    server: Server, words: list[str]
) -> None:
    ran = run(server, *words)
    assert ran.exit_code in (1, 2)
    assert "Traceback" not in ran.output
