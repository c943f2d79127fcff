"""The command line, on real servers."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from click.testing import CliRunner
from million import MOST_MB, all_run
from servers import Monitor, free_port

from smartredis_wsgi import SessionStore
from smartredis_wsgi.cli import main, sight
from smartredis_wsgi.cli.sight import Sight
from smartredis_wsgi.cli.stats import Sums
from smartredis_wsgi.everywhere import living_of
from smartredis_wsgi.ids import Address
from smartredis_wsgi.locks import SingleNodeLock, protocol

purge = sys.modules["smartredis_wsgi.cli.purge"]  # as a module: the command hides it
MODULE = [sys.executable, "-W", "ignore", "-m", "smartredis_wsgi"]
SESSIONS_INI = Path(__file__).parent.parent / "examples" / "sessions.ini"


class Line:
    """The command line with the options that lead to one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = SessionStore.from_config(url=url)

    def __call__(self, *words: str, url: str | None = None, **options):
        return CliRunner().invoke(main, ["--url", url or self.url, *words], **options)

    def told(self, *words: str):
        ran = self(*words, "--json")
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    def rows(self, *words: str):
        ran = self("list", "--json", *words)
        assert ran.exit_code == 0, ran.output
        return [json.loads(line) for line in ran.stdout.splitlines()]

    def new(self, **fields) -> str:
        """A session's id."""
        with self.store.open() as session:
            session.update(fields)
            return session.id


def handle_of(session_id: str) -> str:
    return Address.of(session_id).record[-64:][:12]


def key_of(session_id: str) -> str:
    return f"session:{Address.of(session_id).record}"


@pytest.fixture
def line(server):
    return Line(server.url)


def assert_is_refused(ran, *words: str, status: int = 1) -> None:
    """One line on stderr, and nothing on stdout."""
    assert ran.exit_code == status, ran.output
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert "Traceback" not in ran.stderr
    for word in words:
        assert word in ran.stderr


# -- owners --------------------------------------------------------------------------


def bound(line, owner="ann", note=None):
    with line.store.open() as session:
        session.bind(owner, note)
    return session.id


def test_an_owners_sessions_are_listed_with_their_notes(line):
    first, second = bound(line, note="a \x1b[31m phone"), bound(line)
    bound(line, "bob")
    rows = {row["handle"]: row for row in line.rows("--owner", "ann")}
    assert rows.keys() == {handle_of(first), handle_of(second)}
    assert rows[handle_of(first)]["note"] == "a \x1b[31m phone"
    assert {*rows[handle_of(second)]} == {"handle", "created", "last_used", "note"}
    ran = line("list", "--owner", "ann")
    assert len(ran.stdout.splitlines()) == 3
    assert "\x1b" not in ran.stdout
    assert len(line("list", "--owner", "carl").stdout.splitlines()) == 1


def test_an_owner_is_logged_out_everywhere(line):
    ids = [bound(line) for _ in range(3)] + [bound(line, "bob")]
    assert line("destroy", "--owner", "ann", input="n\n").exit_code == 1
    assert len(line.store.sessions_of("ann")) == 3
    assert line.told("destroy", "--owner", "ann", "--yes") == {"destroyed": 3}
    assert line.store.sessions_of("ann") == []
    assert [row["state"] for row in line.rows()].count("alive") == 1
    ran = line("destroy", handle_of(ids[3]), "--yes")
    assert ran.exit_code == 0
    assert line.store.sessions_of("bob") == []


@pytest.mark.parametrize(
    "words", [[], ["abcdef0123", "--owner", "ann"], ["--owner", ""]]
)
def test_what_is_to_be_destroyed_is_one_thing(line, words):
    ran = line("destroy", "--yes", *words)
    assert ran.exit_code == 2
    assert "Traceback" not in ran.output


def with_old_entries(line, redis, owners, each, gone):
    """Sessions of some owners, bound an hour ago, of which some are no more."""
    for owner in range(owners):
        ids = [bound(line, f"user {owner}") for _ in range(each)]
        redis.delete(*map(key_of, ids[:gone]))
    for index in redis.scan_iter(match="session:owner:*"):
        for slot, entry in redis.hgetall(index).items():
            parts = entry.split(b" ", 5)
            parts[4] = b"%d" % (int(parts[4]) - 3_600_000)
            redis.hset(index, slot, b" ".join(parts))


def test_what_is_left_of_sessions_that_are_no_more_is_purged(line, redis):
    with_old_entries(line, redis, owners=4, each=3, gone=2)
    told = line.told("purge", "--expired-index")
    assert told == {"complete": True, "owners": 4, "living": 4, "purged": 8}
    assert sum(map(redis.hlen, redis.keys("session:owner:*"))) == 4
    assert line.told("purge", "--expired-index")["purged"] == 0
    assert "purged:   0" in line("purge", "--expired-index").stdout
    assert line("purge").exit_code == 2


def test_a_purge_can_be_stopped_and_gone_on_with(line, redis, monkeypatch):
    monkeypatch.setattr(sight, "PAGE", 1)
    with_old_entries(line, redis, owners=5, each=1, gone=1)
    looked = []

    def look(place, told):
        looked.append(told)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return living_of(place, told)

    monkeypatch.setattr(purge, "living_of", look)
    ran = line("purge", "--expired-index", "--json")
    told = json.loads(ran.stdout)
    assert (ran.exit_code, told["complete"], told["purged"]) == (130, False, 2)
    assert "stopped" in ran.stderr
    assert line.told("purge", "--expired-index")["purged"] == 3
    assert redis.keys("session:owner:*") == []


def test_a_million_sessions_in_small():
    ran = [*all_run(sessions=3000)]
    for one in ran:
        assert one.megabytes < MOST_MB
        assert b"\x1b[" in one.shown  # a bar was drawn
    first, second = ran[1].told, ran[2].told
    assert (first["owners"], first["living"], first["purged"]) == (300, 2700, 300)
    assert second["purged"] == 0


# -- list ----------------------------------------------------------------------------


def test_list_shows_handles_and_neither_ids_nor_values(line):
    made = [line.new(user="ann-the-value", n=n) for n in range(3)]
    ran = line("list")
    lines = ran.stdout.splitlines()
    assert {row.split()[0] for row in lines[1:]} == {handle_of(i) for i in made}
    assert not any(session_id in ran.output for session_id in made)
    assert "ann-the-value" not in ran.output


def test_list_tells_state_size_and_number_of_fields(line):
    session_id, destroyed = line.new(a=1, bc="four"), line.new(a=1)
    line.store.destroy(destroyed)
    rows = {row["handle"]: row for row in line.rows()}
    row = rows[handle_of(session_id)]
    assert (row["state"], row["fields"]) == ("alive", 2)
    assert row["size"] == len('a1bc"four"')
    assert 1700 < row["expires_in"] <= 1800
    assert rows[handle_of(destroyed)]["state"] == "destroyed"


def test_list_tells_where_a_session_has_moved(server):
    line, before, after = moved(server)
    rows = {row["handle"]: row for row in line.rows()}
    assert rows[handle_of(before)]["state"] == "moved"
    assert rows[handle_of(before)]["moved_to"] == handle_of(after)
    assert 0 < rows[handle_of(before)]["expires_in"] <= 60
    assert rows[handle_of(after)]["state"] == "alive"


def moved(server):
    """A command line, and a session's id before a rotation and after it."""
    line = Line(server.url)
    line.store = SessionStore.from_config(url=server.url, rotate_grace=60)
    before = line.new(a=1)
    with line.store.open(before) as session:
        session.regenerate_id()
    return line, before, session.id


def test_idle_is_what_its_expiry_leaves_of_the_ttl(line, redis):
    session_id = line.new(a=1)
    redis.pexpire(key_of(session_id), 1_000_000)
    (row,) = line.rows()
    assert 800 <= row["idle"] < 810


def test_idle_is_not_told_where_the_end_is_that_of_the_lifetime(server, tmp_path):
    ini = tmp_path / "site.ini"
    ini.write_text("[session]\nttl = 1h\nmax_lifetime = 1h\n")
    line = Line(server.url)
    line.store = SessionStore.from_config(url=server.url, ttl="1h", max_lifetime="1h")
    line.new(a=1)
    (row,) = line.rows("--config", str(ini))
    assert row["idle"] is None
    (row,) = line.rows()
    assert row["idle"] is not None


def test_list_passes_by_what_is_no_session(line, redis):
    session_id = line.new(a=1)
    redis.set(f"session:{{{'0' * 16}}}{'x' * 64}", "destroyed", ex=60)
    redis.set(f"lock:session:{Address.of(session_id).lock}", "x", ex=60)
    assert [row["handle"] for row in line.rows()] == [handle_of(session_id)]


def test_list_takes_a_prefix_by_the_letter(server):
    plain, odd = Line(server.url), Line(server.url)
    odd.store = SessionStore.from_config(url=server.url, prefix="s[a-z]*:")
    session_id = odd.new(a=1)
    plain.store = SessionStore.from_config(url=server.url, prefix="sb:")
    plain.new(a=1)
    rows = odd.rows("--prefix", "s[a-z]*:")
    assert [row["handle"] for row in rows] == [handle_of(session_id)]


def test_list_ends_at_its_limit_and_says_so(line):
    for n in range(5):
        line.new(n=n)
    ran = line("list", "--json", "--limit", "3")
    assert len(ran.stdout.splitlines()) == 3
    assert "--limit 0" in ran.stderr
    assert len(line.rows("--limit", "0")) == 5
    assert line("list", "--limit", "5").stderr == ""


def test_looking_uses_scan_and_prolongs_nothing(line, server, redis):
    session_id = line.new(a=1)
    redis.pexpire(key_of(session_id), 60_000)
    with Monitor(server) as monitor:
        line.rows()
        line.told("stats")
        line.told("show", handle_of(session_id))
        line.told("locks")
    commands = {re.findall(r'"(\w+)"', row)[0].upper() for row in monitor.lines()}
    assert "SCAN" in commands
    assert not commands & {"KEYS", "PEXPIRE", "EXPIRE", "HSET", "SET"}
    assert redis.pttl(key_of(session_id)) <= 60_000


# -- show and destroy ----------------------------------------------------------------


def test_show_tells_values_only_where_it_is_asked_to(line):
    session_id = line.new(user="ann-the-value", tags=("a", "b"))
    ran = line("show", handle_of(session_id))
    assert "user" in ran.stdout
    assert "ann-the-value" not in ran.output
    assert session_id not in ran.output
    told = line("show", handle_of(session_id), "--values").stdout
    assert "'ann-the-value'" in told
    assert "('a', 'b')" in told


def test_show_as_json_has_sizes_and_values(line):
    session_id = line.new(user="ann")
    assert line.told("show", handle_of(session_id))["content"] == [
        {"name": "user", "size": 5}
    ]
    assert line.told("show", handle_of(session_id), "--values")["content"] == [
        {"name": "user", "size": 5, "value": "ann"}
    ]


@pytest.mark.parametrize("value", [{1, 2}, {(1, 2): 3}, b"raw"], ids=repr)
def test_what_json_lacks_is_shown_as_python_writes_it(line, value):
    handle = handle_of(line.new(field=value))
    (field,) = line.told("show", handle, "--values")["content"]
    assert field["value"] == repr(value)


def test_show_tells_of_bytes_that_the_codec_did_not_write(line, redis):
    session_id = line.new(field=1)
    redis.hset(key_of(session_id), "field", b"{")
    ran = line("show", handle_of(session_id), "--values")
    assert ran.exit_code == 0
    assert "not written by this codec" in ran.stdout


def test_show_lets_no_terminal_obey_a_name_or_value(line):
    session_id = line.new(**{"\a": "\b"})
    output = line("show", handle_of(session_id), "--values").output
    assert r"'\x07'" in output
    assert not {"\a", "\b"} & {*output}


def test_a_handle_that_is_none_unknown_or_ambiguous_is_refused_in_a_line(line, redis):
    assert_is_refused(line("show", "ann"), "handle")
    assert_is_refused(line("show", "0" * 8), "0" * 8)
    for last in "ab":
        redis.set(f"session:{{{'0' * 16}}}{'0' * 63}{last}", "destroyed", ex=60)
    assert_is_refused(line("destroy", "0" * 8, "--yes"), "ambiguous")
    assert redis.dbsize() == 2
    assert line("show", "0" * 63 + "a").exit_code == 0


def test_destroy_leaves_a_tombstone(line, redis):
    session_id, other = line.new(a=1), line.new(a=1)
    ran = line("destroy", handle_of(session_id), "--yes")
    assert (ran.exit_code, ran.stdout) == (0, f"destroyed {handle_of(session_id)}\n")
    assert redis.get(key_of(session_id)) == b"destroyed"
    assert 0 < redis.pttl(key_of(session_id)) <= 5000
    assert redis.type(key_of(other)) == b"hash"


def test_destroy_leaves_what_is_not_ours_and_says_so(line, redis):
    key = f"session:{{{'0' * 16}}}{'0' * 64}"
    redis.hset(key, "not", "ours")
    redis.expire(key, 60)
    assert_is_refused(line("destroy", "0" * 8, "--yes"), "foreign")
    assert redis.hgetall(key) == {b"not": b"ours"}


@pytest.mark.parametrize(("answer", "kind"), [("n", b"hash"), ("y", b"string")])
def test_destroy_asks_first(line, redis, answer, kind):
    session_id = line.new(a=1)
    ran = line("destroy", handle_of(session_id), input=answer)
    assert "Destroy" in ran.stderr
    assert ran.exit_code == (answer == "n")
    assert redis.type(key_of(session_id)) == kind


def test_destroy_says_where_a_session_has_moved(server):
    line, before, after = moved(server)
    ran = line("destroy", handle_of(before), "--yes")
    assert_is_refused(ran, handle_of(after))


# -- stats and locks -----------------------------------------------------------------


def test_stats_counts_and_finds_the_biggest_fields(line):
    for n in range(12):
        line.new(small=n, **{f"big{n}": "x" * 10 * n})
    line.store.destroy(line.new(a=1))
    told = line.told("stats")
    assert told["complete"] is True
    assert told["sessions"] == {"alive": 12, "destroyed": 1, "moved": 0, "foreign": 0}
    biggest = [(big["field"], big["size"]) for big in told["biggest_fields"]]
    assert biggest[:2] == [("big11", 112), ("big10", 102)]
    assert len(biggest) == 10
    assert told["bytes"] == sum(row.get("size", 0) for row in line.rows())
    assert told["ages_up_to"]["1 minute"] == 12
    assert told["mean_fields"] == 2.0


def test_stats_holds_a_page_at_a_time(line, monkeypatch):
    monkeypatch.setattr(sight, "PAGE", 5)
    seen, held = [], weakref.WeakSet()

    def watched(self, key, of_fields):
        call = original(self, key, of_fields)
        held.add(call)
        seen.append(len(held))
        return call

    original = Sight._glance
    monkeypatch.setattr(Sight, "_glance", watched)
    for n in range(50):
        line.new(n=n)
    assert line.told("stats")["sessions"]["alive"] == 50
    assert len(seen) == 50
    assert max(seen) <= 10


def test_stats_that_is_stopped_tells_what_it_found(line, monkeypatch):
    monkeypatch.setattr(sight, "PAGE", 5)
    for n in range(50):
        line.new(n=n)
    added = []

    def add(self, seen):
        added.append(seen)
        if len(added) == 8:
            raise KeyboardInterrupt
        original(self, seen)

    original = Sums.add
    monkeypatch.setattr(Sums, "add", add)
    ran = line("stats", "--json")
    told = json.loads(ran.stdout)
    assert (ran.exit_code, told["complete"]) == (130, False)
    assert told["sessions"]["alive"] == 7
    assert "stopped" in ran.stderr


def test_each_kind_of_server_serves(real):
    line = Line(real.url)
    handle = handle_of(line.new(user="ann"))
    assert [row["handle"] for row in line.rows()] == [handle]
    assert line.told("stats")["sessions"]["alive"] == 1
    assert line.told("show", handle, "--values")["content"][0]["value"] == "ann"
    assert line.told("locks") == []
    assert real.server.version in line.told("check")["servers"][0]["version"]
    assert line.told("destroy", handle, "--yes")["state"] == "destroyed"


def test_stats_and_list_see_all_of_a_cluster(cluster):
    line = Line(cluster.url)
    made = {handle_of(line.new(n=n)) for n in range(20)}
    assert {row["handle"] for row in line.rows()} == made
    assert line.told("stats")["sessions"]["alive"] == 20
    assert line.told("show", min(made))["handle"] == min(made)
    assert len(line.told("check")["servers"]) == 3


def test_locks_tells_holder_waiters_and_session(line, redis):
    session_id = line.new(a=1)
    name = line.store.lock_name(session_id)
    assert line.told("locks") == []
    lease = SingleNodeLock(redis, expiry=5).acquire(name)
    redis.zadd(protocol.waiters_key(name), {"x": 2**52, "y": 2**52, "gone": 1})
    redis.expire(protocol.waiters_key(name), 60)
    (row,) = line.told("locks")
    assert row["token"] == lease.token.decode()
    assert (row["handle"], row["waiting"]) == (handle_of(session_id), 2)
    assert 0 < row["expires_in"] <= 5
    assert lease.token.decode() in line("locks").stdout
    shown = line.told("show", handle_of(session_id))
    assert shown["lock"]["token"] == lease.token.decode()


def test_locks_of_redlock_are_counted_on_its_masters(server, masters, tmp_path):
    nodes = [master.url for master in masters[:3]]
    ini = tmp_path / "site.ini"
    ini.write_text(
        f"[site]\nsession.url = {server.url}\nsession.lock = redlock\n"
        f"session.lock_nodes = {' '.join(nodes)}\n"
    )
    line = Line(server.url)
    session_id = line.new(a=1)
    for master in masters[:2]:
        with master.client() as client:
            name = protocol.lock_key(line.store.lock_name(session_id))
            client.set(name, "token", px=60_000)
    (row,) = line.told("--config", str(ini), "locks")
    assert (row["token"], row["nodes"]) == ("token", 2)
    assert row["handle"] == handle_of(session_id)


# -- check ---------------------------------------------------------------------------


def checked(*words: str, **env: str):
    ran = CliRunner().invoke(main, ["check", *words, "--json"], env=env)
    told = json.loads(ran.stdout)
    assert ran.exit_code == bool(told["problems"])
    return told


def options_of(told) -> dict[str, tuple]:
    return {row["option"]: (row["value"], row["origin"]) for row in told["options"]}


def test_check_tells_each_options_value_and_origin(server, tmp_path):
    ini = tmp_path / "site.ini"
    ini.write_text("[a]\nsession.url=redis://x\nsession.ttl=1h\nsession.prefix=a:\n")
    told = checked("--config", str(ini), "--prefix", "b:", SMARTREDIS_URL=server.url)
    options = options_of(told)
    assert options["ttl"] == (3600, "file")
    assert options["prefix"] == ("b:", "command line")
    assert options["url"] == (server.url, "SMARTREDIS_URL")
    assert options["lock"] == ("none", "default")
    assert told["servers"][0]["version"] == f"valkey {server.version}"


def test_check_writes_values_as_an_ini_file_has_them(server, tmp_path):
    ini = tmp_path / "site.ini"
    ini.write_text(f"[site]\nsession.url = {server.url}\nsession.lock_wait = 0.5\n")
    lines = CliRunner().invoke(main, ["check", "--config", str(ini)]).stdout
    told = dict(line.split()[:2] for line in lines.splitlines())
    assert (told["lock_wait"], told["ttl"]) == ("0.5", "1800")
    assert (told["cookie_secure"], told["lock_renew"]) == ("on", "off")
    assert (told["max_lifetime"], told["lock_nodes"]) == ("none", "none")


def test_check_advises_where_sessions_may_be_evicted_or_end_with_a_restart(
    server, redis
):
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        evicts, persists = checked("--url", server.url)["advice"]
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
    assert "noeviction" in evicts
    assert "persistence" in persists
    assert checked("--url", server.url)["advice"] == [persists]


FOUR = "redis://a redis://b redis://c redis://d"


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("url = http://localhost", "url"),
        ("url = redis://127.0.0.1:{port}", "127.0.0.1"),
        ("tll = 5", "did you mean ttl"),
        ("cookie_name = __Host-shop\nsession.cookie_domain = a.example", "__Host-"),
        (f"lock = redlock\nsession.lock_nodes = {FOUR}", "odd"),
    ],
    ids=["no address", "nobody there", "no option", "__Host- and domain", "four nodes"],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_check_finds_a_mistake(server, tmp_path, mistake, told, as_json):
    lines = mistake.format(port=free_port())
    if not lines.startswith("url"):
        lines = f"url = {server.url}\nsession.{lines}"
    ini = tmp_path / "site.ini"
    ini.write_text(f"[site]\nsession.{lines}\n")
    words = ["check", "--config", str(ini), *(["--json"] if as_json else [])]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 1
    if as_json:
        (problem,) = json.loads(ran.stdout)["problems"]
    else:
        (problem,) = ran.stderr.splitlines()
    assert told in problem


def test_check_tells_all_problems_of_a_file_a_line_each(tmp_path):
    ini = tmp_path / "site.ini"
    ini.write_text(
        "[site]\nsession.url = http://localhost\nsession.tll = 5\n"
        "session.lock = redlock\nsession.cookie_domain = example.com\n"
        "session.lock_nodes = redis://a redis://b redis://c redis://d\n"
    )
    ran = CliRunner().invoke(main, ["check", "--config", str(ini)])
    problems = ran.stderr.splitlines()
    assert ran.exit_code == 1
    assert len(problems) == 4
    for word in ("url: ", "did you mean ttl", "cookie_domain", "lock_nodes"):
        assert sum(word in problem for problem in problems) == 1, word


def test_check_tells_of_an_option_once(tmp_path):
    ini = tmp_path / "site.ini"
    nodes = "redis://a redis://b redis://c"
    ini.write_text(
        f"[a]\nsession.url = embedded://\nsession.lock_nodes = {nodes}\n"
        "session.touch_every = 2h\n"
    )
    first, second = checked("--config", str(ini))["problems"]
    assert "touch_every" in first
    assert "lock_nodes" in second


def test_check_names_the_master_that_does_not_answer(server, masters, tmp_path):
    nodes = [m.url for m in masters[:2]] + [f"redis://:pw@127.0.0.1:{free_port()}"]
    ini = tmp_path / "site.ini"
    ini.write_text(
        f"[site]\nsession.url = {server.url}\nsession.lock = redlock\n"
        f"session.lock_nodes = {' '.join(nodes)}\n"
    )
    ran = CliRunner().invoke(main, ["check", "--config", str(ini)])
    assert ran.exit_code == 1
    (problem,) = ran.stderr.splitlines()
    assert nodes[2].rpartition(":")[2] in problem
    assert ":pw@" not in ran.output


def test_no_password_or_secret_is_shown(tmp_path):
    ini = tmp_path / "site.ini"
    ini.write_text(
        "[site]\nsession.secret = hush-hush\nsession.import_secret = hush\n"
        "session.import_from = beaker\n"
        "session.import_url = redis://bob:hidden@127.0.0.1/1\n"
    )
    url = f"redis://ann:hidden@127.0.0.1:{free_port()}/0"
    for words in (["check"], ["list"], ["check", "--json"]):
        ran = CliRunner().invoke(main, ["--config", str(ini), "--url", url, *words])
        assert ran.exit_code == 1
        assert "hidden" not in ran.output
        assert "hush" not in ran.output


def test_check_tells_of_a_secret_of_the_old_cookie_that_is_missing(server, tmp_path):
    ini = tmp_path / "site.ini"
    ini.write_text(f"[session]\nurl = {server.url}\nimport_from = connect-redis\n")
    ran = CliRunner().invoke(main, ["--config", str(ini), "check"])
    assert ran.exit_code == 1
    assert "problem: option import_secret" in ran.stderr


def test_check_takes_the_examples_file():
    told = checked("--config", str(SESSIONS_INI))
    assert told["problems"] == []
    assert options_of(told)["lock_wait"] == (3, "file")


# -- mistakes ------------------------------------------------------------------------


def test_a_server_that_is_down_is_told_in_a_line(line):
    url = f"redis://127.0.0.1:{free_port()}"
    for words in (["list"], ["show", "0" * 8], ["stats"], ["locks"]):
        assert_is_refused(line(*words, url=url), "127.0.0.1")


@pytest.mark.parametrize("kind", ["redis+sentinel", "redis+cluster"])
def test_a_sentinel_or_cluster_that_is_down_is_told_in_a_line(line, kind):
    place = "/main" if kind == "redis+sentinel" else ""
    ran = line("list", url=f"{kind}://ann:hidden@127.0.0.1:{free_port()}{place}")
    assert_is_refused(ran)
    assert len(ran.stderr) < 200
    assert "hidden" not in ran.stderr


def test_a_wrong_address_or_none_is_told_in_a_line(line):
    assert_is_refused(line("stats", url="http://x"), "url")
    assert_is_refused(line("list", url="embedded://"), "embedded")
    none = CliRunner().invoke(main, ["list"], env={"SMARTREDIS_URL": ""})
    assert_is_refused(none, "SMARTREDIS_URL")


def test_usage_has_status_2(line):
    assert line("list", "--nope").exit_code == 2
    assert line("show").exit_code == 2
    assert line("list", "--config", "/no/such/file").exit_code == 2


def test_a_file_that_is_none_is_told_in_a_line(line, tmp_path):
    ini = tmp_path / "site.ini"
    for text in ("no section\n", "[site]\nother = 1\n"):
        ini.write_text(text)
        assert_is_refused(line("list", "--config", str(ini)), "site.ini")


# -- as a program --------------------------------------------------------------------


def test_ctrl_c_ends_a_long_list_with_what_was_found_so_far(line):
    many = 3000  # more than a pipe holds, so that it can't have ended
    for n in range(many):
        line.new(n=n)
    command = [*MODULE, "list", "--limit", "0", "--json", "--url", line.url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        first = running.stdout.readline()
        running.send_signal(signal.SIGINT)
        rest, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert err == "stopped: this is what was found so far\n"
    assert 0 < len([first, *rest.splitlines()]) < many


def test_a_list_that_is_paused_goes_on_though_its_connections_are_gone(line, redis):
    handles = {handle_of(line.new(n=n)) for n in range(3000)}
    command = [*MODULE, "list", "--limit", "0", "--json", "--url", line.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        first = running.stdout.readline()
        running.send_signal(signal.SIGSTOP)  # as Ctrl-Z does; it can't be handled
        redis.client_kill_filter(_type="normal", skipme=True)
        running.send_signal(signal.SIGCONT)
        rest = running.stdout.read()
    assert running.returncode == 0
    rows = [json.loads(row) for row in (first, *rest.splitlines())]
    assert {row["handle"] for row in rows} == handles


def test_a_bar_is_drawn_on_a_terminal_and_stdout_stays_clean(line):
    line.new(n=1)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*MODULE, "stats", "--json", "--url", line.url],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    ) as running:
        os.close(theirs)
        out, _ = running.communicate(timeout=30)
    with open(ours, "rb", buffering=0) as terminal:
        drawn = terminal.read(4096)
    assert running.returncode == 0
    assert json.loads(out)["sessions"]["alive"] == 1
    assert b"sessions" in drawn


def test_without_click_it_says_what_to_install(tmp_path):
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(name='click')")
    ran = subprocess.run(
        [*MODULE, "list"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [
        "smartredis-wsgi: click is not installed; pip install 'smartredis_wsgi[cli]'"
    ]


def test_the_demo_gets_its_own_arguments():
    ran = subprocess.run(
        [*MODULE, "demo", "--help"], capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 0
    assert "--once" in ran.stdout


def test_the_script_is_installed():
    program = Path(sys.executable).with_name("smartredis-wsgi")
    ran = subprocess.run([program, "--help"], capture_output=True, text=True)
    assert ran.returncode == 0
    commands = "list", "show", "destroy", "stats", "locks", "check", "import", "demo"
    commands += ("purge",)
    assert all(f"  {name} " in ran.stdout for name in commands)
