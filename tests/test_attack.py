"""A slice of the attacks of attack/, and their controls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attack import flood, headers, lookup
from doubles import CountedRedis, counting_client
from fuzz.targets import split_ids
from servers import Server

from smartredis_wsgi import SessionMiddleware, SessionStore, SessionTooLarge
from smartredis_wsgi.ids import Address

HEADERS, IDS = 2000, 200


@pytest.fixture
def counted(server: Server) -> Iterator[CountedRedis]:
    with counting_client(server.url) as client:
        yield client


@pytest.mark.parametrize("secret", [None, "s"])
def test_no_hostile_header_is_a_5xx_or_costs_a_command(
    counted: CountedRedis, secret: str | None
) -> None:
    tally = headers.attack(counted, HEADERS, 1, secret)
    assert tally == (HEADERS, 0, 0)


def test_a_cookie_parser_fails_on_the_same_headers(counted: CountedRedis) -> None:
    tally = headers.attack_control(counted, HEADERS, 1, signed=False)
    assert tally.failures
    assert tally.commands


def test_hostile_headers_with_signatures_have_well_formed_ids() -> None:
    whole = [header for header in headers.hostile(HEADERS, 1, True) if "." in header]
    assert any(split_ids(header.replace(".", ";")) for header in whole)


def test_a_flood_of_unknown_ids_leaves_nothing(counted: CountedRedis) -> None:
    read = flood.attack(counted, IDS)
    assert read[1:4] == (IDS, 0, 0)
    locked = flood.attack(counted, IDS, lock="single")
    assert locked[1:4] == (2 * IDS, 0, 0)  # in one round trip


def test_a_flood_of_forged_ids_costs_no_command(counted: CountedRedis) -> None:
    assert flood.attack(counted, IDS, secret="s")[1:4] == (0, 0, 0)


def test_no_id_of_the_client_s_choice_is_adopted_from_a_flood(
    counted: CountedRedis,
) -> None:
    assert flood.attack(counted, IDS, flood.writes)[2:4] == (IDS, 0)
    assert flood.attack_control(counted, IDS, flood.writes)[2:4] == (IDS, IDS)


def test_the_comparison_of_look_ups_can_tell() -> None:
    def loop(count: str) -> None:
        for _ in range(int(count)):
            pass

    assert lookup.compare(loop, "1", "10000", 100, 1).deviations > 4


def test_nothing_of_an_id_is_a_part_of_what_redis_compares(server: Server) -> None:
    # Two ids that differ in the last character have digests that have nothing in common
    # but their label's, which is no secret: the session is not found by degrees.
    *_, label, nearly = lookup.guesses(
        lookup.filled(SessionStore.from_config(url=server.url))
    )
    one, other = Address.of(label).record, Address.of(nearly).record
    assert one.partition("}")[0] == other.partition("}")[0]
    assert sum(a == b for a, b in zip(one[18:], other[18:], strict=True)) < 20


# -- ids that are not the client's ---------------------------------------------------


def ask(app: SessionMiddleware, cookie: str) -> str | None:
    """One request, with this Cookie header; what its Set-Cookie header says."""
    told: list[tuple[str, str]] = []
    environ = {"REQUEST_METHOD": "GET", "HTTP_COOKIE": cookie}
    app(environ, lambda _, given: told.extend(given))
    return dict(told).get("Set-Cookie")


def test_an_id_of_another_prefix_is_as_none(counted: CountedRedis) -> None:
    with SessionStore.from_config(client=counted, prefix="a:").open() as session:
        session["user"] = "ann"
    seen = []

    def app(environ, start_response):
        seen.append(dict(environ["smartredis.session"]))
        environ["smartredis.session"]["n"] = 1
        start_response("200 OK", [])
        return [b""]

    other = SessionMiddleware(app, client=counted, prefix="b:")
    given = ask(other, f"__Host-sid={session.id}")
    assert seen == [{}]
    assert given is not None
    assert session.id not in given


def test_a_replayed_id_is_as_none_after_logout_and_after_rotation(
    counted: CountedRedis,
) -> None:
    store = SessionStore.from_config(client=counted)
    with store.open() as session:
        session["user"] = "ann"
    first = session.id
    with store.open(first) as session:
        session.regenerate_id()
    second = session.id
    with store.open(first) as replayed:
        assert dict(replayed) == {}
    with store.open(second) as session:
        assert dict(session) == {"user": "ann"}
        session.destroy()
    for replay in (first, second):
        with store.open(replay) as replayed:
            assert dict(replayed) == {}
            replayed["n"] = 1
    for replay in (first, second):
        with store.open(replay) as replayed:
            assert dict(replayed) == {}
        assert counted.type(f"session:{Address.of(replay).record}") == b"string"


# -- bounds --------------------------------------------------------------------------


def test_a_session_of_max_size_is_served_and_no_byte_more(
    counted: CountedRedis,
) -> None:
    store = SessionStore.from_config(client=counted, max_size="64k")
    with store.open() as session:
        session["x"] = "y" * (65536 - 3)  # its name, and two quotes
    with store.open(session.id) as again:
        assert len(again["x"]) == 65536 - 3
    with pytest.raises(SessionTooLarge), store.open(session.id) as again:
        again["z"] = 1
    with pytest.raises(SessionTooLarge), store.open() as another:
        another["x"] = "y" * (65536 - 2)
    assert counted.dbsize() == 1
