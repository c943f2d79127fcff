"""Django: the session engine, as Django's own middleware and views use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis as redis_py
from browser import Browser, commands
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware as DjangosOwn
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.utils import timezone
from doubles import counting_client
from servers import Server
from sites.django_site import site

from smartredis_wsgi import ConfigError, LockTimeout
from smartredis_wsgi.integrations.django import SessionMiddleware, SessionStore

WEEKS_2 = 14 * 86400
UNKNOWN = "a" * 59


@pytest.fixture(autouse=True)
def configured(server: Server) -> Iterator[None]:
    with override_settings(SMARTREDIS={"url": server.url}):
        yield


@pytest.fixture
def session() -> SessionStore:
    return SessionStore()


def stored(**fields: Any) -> SessionStore:
    """A session that an earlier request has saved."""
    session = SessionStore()
    session.update(fields)
    session.save()
    return session


def again(session: SessionStore) -> SessionStore:
    """The same session, in another request."""
    return SessionStore(session.session_key)


def lifetime(redis: redis_py.Redis) -> int:
    (key,) = redis.keys("session:*")
    return redis.ttl(key)


def answer(middleware: type[DjangosOwn], session: SessionStore, act: Any) -> Any:
    """One request through one middleware."""
    request = HttpRequest()
    request.COOKIES[settings.SESSION_COOKIE_NAME] = session.session_key

    def view(request: HttpRequest) -> HttpResponse:
        act(request.session)
        return HttpResponse("ok")

    return middleware(view)(request)


def change(session: SessionStore) -> None:
    session["a"] = 2


# -- what Django expects of a backend ------------------------------------------------


def test_a_new_one_is_empty_and_untouched(session: SessionStore) -> None:
    assert not session.modified
    assert not session.accessed
    assert session.is_empty()
    assert session.session_key is None


def test_it_is_a_dict(session: SessionStore) -> None:
    session["a"] = 1
    session.update({"b": 2})
    assert session.setdefault("c", 3) == 3
    assert session.pop("a") == 1
    assert session.pop("a", None) is None
    assert "b" in session
    assert session.has_key("c")
    assert [*session.keys()] == ["b", "c"]
    assert [*session.values()] == [2, 3]
    assert dict(session.items()) == {"b": 2, "c": 3}
    del session["b"]
    session.save()
    assert dict(again(session).items()) == {"c": 3}


@pytest.mark.parametrize("verb", ["keys", "values", "items"])
def test_an_empty_one_is_looked_at_without_a_change(
    session: SessionStore, verb: str
) -> None:
    assert [*getattr(session, verb)()] == []
    assert session.accessed
    assert not session.modified


def test_pop_without_a_default_is_a_key_error(session: SessionStore) -> None:
    assert session.pop("a", default="b") == "b"
    assert not session.modified
    with pytest.raises(KeyError):
        session.pop("a")


@pytest.mark.parametrize("key", ["", "1234567"])
def test_a_key_that_is_too_short_is_none(session: SessionStore, key: str) -> None:
    session._session_key = key
    assert session.session_key is None


def test_the_key_can_be_read_only(session: SessionStore) -> None:
    session._session_key = "12345678"
    assert session.session_key == "12345678"
    with pytest.raises(AttributeError):
        session.session_key = "other"


def test_it_encodes_and_decodes_as_django_does(session: SessionStore) -> None:
    assert session.decode(session.encode({"a": [1]})) == {"a": [1]}
    assert session.decode("of somebody else") == {}


@pytest.mark.parametrize("key", ["1", "some-unknown-key", UNKNOWN, "../" * 20, None])
def test_an_unknown_key_is_not_adopted(key: str | None, redis: redis_py.Redis) -> None:
    session = SessionStore(key)
    assert session.get("a") is None
    assert session.session_key is None
    assert redis.dbsize() == 0
    session["a"] = 1
    session.save()
    assert session.session_key not in (None, key)
    assert again(session)["a"] == 1


def test_saving_an_unknown_key_unread_makes_another() -> None:
    session = SessionStore(UNKNOWN)
    session.save()
    assert session.session_key not in (None, UNKNOWN)


def test_it_exists_from_the_save_to_the_end(session: SessionStore) -> None:
    assert not session.exists(UNKNOWN)
    session.save()
    assert session.exists(session.session_key)
    session.delete(session.session_key)
    assert not session.exists(session.session_key)
    session.delete(UNKNOWN)
    SessionStore().delete()


def test_create_stores_at_once(session: SessionStore) -> None:
    session.create()
    assert session.exists(session.session_key)
    first = session.session_key
    session["a"] = 1
    session.create()
    assert session.session_key != first
    assert again(session)["a"] == 1


def test_clear_leaves_the_key() -> None:
    session = again(stored(a=1, b=2))
    session.clear()
    session["c"] = 3
    session.save()
    assert dict(again(session).items()) == {"c": 3}


def test_flush_leaves_nothing() -> None:
    before = stored(a=1)
    session = again(before)
    session.flush()
    assert session.session_key is None
    assert session.is_empty()
    assert session.modified
    assert not before.exists(before.session_key)


def test_cycle_key_keeps_the_fields() -> None:
    before = stored(a=1)
    session = again(before)
    session["b"] = 2
    session.cycle_key()
    assert session.session_key != before.session_key
    assert not before.exists(before.session_key)
    assert dict(again(session).items()) == {"a": 1, "b": 2}
    assert session.modified


def test_a_new_key_is_sent_to_the_client() -> None:
    session = again(stored(a=1))
    session.cycle_key()
    assert session.modified
    session = SessionStore()
    session.create()
    assert session.modified


def test_cycle_key_of_what_nobody_has_read_keeps_the_fields() -> None:
    session = again(stored(a=1))
    session.cycle_key()
    assert session["a"] == 1


def test_cycle_key_of_a_new_one_makes_it(session: SessionStore) -> None:
    session["a"] = 1
    session.cycle_key()
    assert again(session)["a"] == 1


def test_who_comes_with_a_cycled_key_can_not_take_the_new_one_away() -> None:
    session, late = stored(a=1), HttpRequest()
    late.COOKIES[settings.SESSION_COOKIE_NAME] = session.session_key
    again(session).cycle_key()

    def look(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(request.session.get("a")))

    response = DjangosOwn(look)(late)
    assert response.content == b"None"
    assert not response.cookies
    with pytest.raises(SessionInterrupted):
        answer(DjangosOwn, session, change)


def test_a_request_that_was_under_way_keeps_its_changes_and_sends_no_old_key() -> None:
    session, cycled = stored(a=1), []

    def act(mine: SessionStore) -> None:
        assert mine["a"] == 1
        other = again(session)
        other.cycle_key()
        cycled.append(other)
        mine["b"] = 2

    response = answer(SessionMiddleware, session, act)
    assert response.status_code == 200
    assert not response.cookies
    assert dict(again(cycled[0]).items()) == {"a": 1, "b": 2}


def test_a_late_save_does_not_bring_it_back() -> None:
    session = stored(a=1)
    again(session).delete()
    session["a"] = 2
    with pytest.raises(UpdateError):
        session.save()
    assert session.load() == {}


def test_clear_expired_has_nothing_to_do() -> None:
    session = stored(a=1)
    SessionStore.clear_expired()
    assert session.exists(session.session_key)


# -- expiry --------------------------------------------------------------------------


def test_it_lives_as_long_as_django_says(redis: redis_py.Redis) -> None:
    session = stored(a=1)
    assert session.get_expiry_age() == WEEKS_2
    assert WEEKS_2 - 100 < lifetime(redis) <= WEEKS_2


@pytest.mark.parametrize("expiry", [500, timedelta(seconds=500)])
def test_set_expiry_is_the_records_too(expiry: Any, redis: redis_py.Redis) -> None:
    session = stored(a=1)
    session.set_expiry(expiry)
    session.save()
    assert 400 < lifetime(redis) <= 500
    assert 400 < again(session).get_expiry_age() <= 500
    session.set_expiry(None)
    session.save()
    assert lifetime(redis) > WEEKS_2 - 100


def test_set_expiry_0_is_until_the_browser_closes() -> None:
    session = stored(a=1)
    session.set_expiry(0)
    session.save()
    assert again(session).get_expire_at_browser_close()
    assert again(session).get_expiry_age() == WEEKS_2


@pytest.mark.parametrize("setting", [True, False])
def test_a_session_says_otherwise_than_the_setting(setting: bool) -> None:
    with override_settings(SESSION_EXPIRE_AT_BROWSER_CLOSE=setting):
        session = SessionStore()
        assert session.get_expire_at_browser_close() is setting
        session.set_expiry(0 if not setting else 10)
        assert session.get_expire_at_browser_close() is not setting
        session.set_expiry(None)
        assert session.get_expire_at_browser_close() is setting


@pytest.mark.parametrize("expiry", [-10, timedelta(seconds=-10)])
def test_an_expiry_in_the_past_is_the_end(expiry: Any) -> None:
    session = SessionStore()
    session["a"] = 1
    session.set_expiry(expiry)
    session.save()
    assert not session.exists(session.session_key)
    assert "a" not in again(session)


def test_reading_does_not_outlive_a_date(redis: redis_py.Redis) -> None:
    session = stored(a=1)
    session.set_expiry(timezone.now() + timedelta(seconds=100))
    session.save()
    (key,) = redis.keys("session:*")
    past = (timezone.now() - timedelta(seconds=1)).isoformat()
    redis.hset(key, "_session_expiry", f'"{past}"')
    assert again(session).get("a") is None
    assert not session.exists(session.session_key)


# -- async ---------------------------------------------------------------------------


def test_the_async_verbs_do_the_same() -> None:
    async def visit() -> None:
        session = SessionStore()
        await session.aset("a", 1)
        await session.asave()
        first = session.session_key
        assert await session.aexists(first)
        assert await SessionStore(first).aget("a") == 1
        await session.acycle_key()
        assert not await session.aexists(first)
        assert await SessionStore(session.session_key).aget("a") == 1
        second = session.session_key
        await session.aset_expiry(50)
        assert await session.aget_expiry_age() == 50
        await session.aflush()
        assert not await session.aexists(second)
        await SessionStore.aclear_expired()

    asyncio.run(visit())


def test_acycle_key_is_one_step(server: Server) -> None:
    SessionStore.cycle_key(stored())  # so that Redis knows the scripts
    session = again(stored(a=1))
    asyncio.run(session.aget("a"))
    with commands(server) as asked:
        asyncio.run(session.acycle_key())
    assert len([line for line in asked if '"eval' in line.lower()]) == 1


# -- fields, not blobs ---------------------------------------------------------------


def test_two_requests_that_set_different_keys_lose_nothing() -> None:
    session = stored(cart=["tea"], n=0)
    one, other = again(session), again(session)
    one["user"] = "ada"
    one["cart"].append("rice")
    other["theme"] = "dark"
    other["cart"].append("salt")
    other.save()
    one.save()
    assert dict(again(session).items()) == {
        "cart": ["tea", "salt", "rice"],
        "n": 0,
        "user": "ada",
        "theme": "dark",
    }


def test_only_what_changed_is_sent(server: Server) -> None:
    session = again(stored(a="first", b="second"))
    session["a"] = "third"
    session.get("b")
    with commands(server) as asked:
        session.save()
    (sent,) = [line for line in asked if '"hset"' in line.lower()]
    assert "third" in sent
    assert "second" not in sent


def test_a_save_is_one_round_trip(server: Server) -> None:
    client = counting_client(server.url)
    with client, override_settings(SMARTREDIS={"client": client}):
        session = stored(a=1)
        client.trips.reset()
        session = again(session)
        assert session["a"] == 1
        assert client.trips.count == 1
        session["a"] = 2
        session.save()
        assert client.trips.count == 2


def test_a_block_has_the_session_alone(server: Server) -> None:
    options = {"url": server.url, "lock": "single", "lock_wait": 0.05}
    with override_settings(SMARTREDIS=options):
        session = again(stored(credit=3))
        assert session["credit"] == 3
        with session.lock():
            session["credit"] -= 1
            with pytest.raises(LockTimeout), again(session).lock():
                pass
        assert again(session)["credit"] == 2
        with again(session).lock() as other:
            other["credit"] -= 1
        assert again(session)["credit"] == 1


def test_a_new_one_can_be_locked_too(session: SessionStore) -> None:
    session["a"] = 1
    with session.lock():
        session["a"] += 1
    assert again(session)["a"] == 2


def test_a_read_leaves_no_lock(server: Server, redis: redis_py.Redis) -> None:
    with override_settings(SMARTREDIS={"url": server.url, "lock": "single"}):
        session = again(stored(a=1))
        assert session["a"] == 1
        assert redis.keys("lock:*") == []
        session["a"] = 2
        session.save()
        assert redis.keys("lock:*") == []


# -- settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"cookie_name": "a"},
        {"secret": "a"},
        {"on_gone": "drop"},
        {"import_from": "beaker"},
        {"lock": "single", "lock_scope": "request"},
        {"lok": "single"},
    ],
)
def test_what_is_not_for_django_is_refused(server: Server, options: Any) -> None:
    with (
        override_settings(SMARTREDIS={"url": server.url, **options}),
        pytest.raises(ConfigError),
    ):
        SessionStore().save()


def test_without_an_address_it_says_what_is_missing() -> None:
    with override_settings(SMARTREDIS={}), pytest.raises(ConfigError, match="url"):
        SessionStore().save()


# -- the middleware ------------------------------------------------------------------


@pytest.mark.parametrize("middleware", [DjangosOwn, SessionMiddleware])
def test_a_logout_in_between_interrupts_the_request(middleware: Any) -> None:
    session = stored(a=1)

    def act(mine: SessionStore) -> None:
        mine["a"] = 2
        again(session).flush()

    with pytest.raises(SessionInterrupted):
        answer(middleware, session, act)


def test_djangos_own_middleware_will_do() -> None:
    session = stored(a=1)
    response = answer(DjangosOwn, session, change)
    assert settings.SESSION_COOKIE_NAME in response.cookies
    assert again(session)["a"] == 2


def test_what_changed_inside_a_value_is_saved() -> None:
    session = stored(cart=["tea"])
    answer(SessionMiddleware, session, lambda mine: mine["cart"].append("rice"))
    assert again(session)["cart"] == ["tea", "rice"]


def test_a_session_that_stays_locked_is_a_503(server: Server) -> None:
    options = {"url": server.url, "lock": "single", "lock_wait": 0.05}
    with override_settings(SMARTREDIS=options):
        session = stored(a=1)
        with again(session).lock():
            response = answer(SessionMiddleware, session, change)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "5"


def test_it_saves_every_request_if_django_says_so(server: Server) -> None:
    browser = Browser(site(url=server.url))
    browser.post("/login")
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True), commands(server) as asked:
        assert "Set-Cookie" in browser.ask("/static").headers
    assert [line for line in asked if '"evalsha"' in line.lower()]


# -- owners ----------------------------------------------------------------------------


def test_an_owner_is_logged_out_everywhere_but_here() -> None:
    here, elsewhere, bobs = stored(n=1), stored(n=2), stored(n=3)
    for session, owner in [(here, "ann"), (elsewhere, "ann"), (bobs, "bob")]:
        session.bind(owner, "a browser")
    assert [told.note for told in SessionStore.sessions_of("ann")] == ["a browser"] * 2
    assert SessionStore.log_out("ann", keep=again(here)) == 1
    assert again(here)["n"] == 1
    assert again(bobs)["n"] == 3
    assert "n" not in again(elsewhere)
    assert SessionStore.log_out("ann") == 1
    assert "n" not in again(here)


def test_a_session_that_is_not_stored_yet_is_by_binding_it(
    session: SessionStore,
) -> None:
    session["n"] = 1
    session.bind("ann")
    assert again(session)["n"] == 1
    assert len(SessionStore.sessions_of("ann")) == 1


def test_a_session_that_is_gone_is_bound_to_nobody() -> None:
    mine = again(stored(n=1))
    assert mine["n"] == 1
    again(mine).flush()
    with pytest.raises(UpdateError):
        mine.bind("ann")
    assert SessionStore.sessions_of("ann") == []
