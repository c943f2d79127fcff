"""Beaker: an application moves by changing one import."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
import redis as redis_py
from beaker.middleware import SessionMiddleware as BeakersOwn
from browser import Browser, commands
from servers import Server

from smartredis_wsgi import ConfigError
from smartredis_wsgi import SessionMiddleware as Core
from smartredis_wsgi.integrations.beaker import SessionMiddleware, translated


def app_of(act: Any, status: str = "200 OK") -> Any:
    """An application that answers with what `act` makes of the session."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        answer = act(environ["beaker.session"])
        start_response(status, [("Content-Type", "text/plain")])
        return [str(answer).encode()]

    return app


class Visitor(Browser):
    """A browser whose every visit is another application, with the same sessions."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(None)
        self.options = {"session.url": server.url}
        self.options |= {f"session.{name}": v for name, v in options.items()}

    def visit(self, act: Any, status: str = "200 OK") -> str:
        self.app = SessionMiddleware(app_of(act, status), self.options)
        return self.ask().text


@pytest.fixture
def visitor(server: Server) -> Visitor:
    return Visitor(server)


def put(name: str, value: Any, save: bool = True) -> Any:
    def act(session: Any) -> None:
        session[name] = value
        if save:
            session.save()

    return act


# -- what is said about options ------------------------------------------------------


def test_options_are_ours_by_their_own_names() -> None:
    options, notes, auto = translated(
        {
            "key": "shop",
            "timeout": "600",
            "secure": "true",
            "httponly": "true",
            "samesite": "Strict",
            "cookie_domain": "example.com",
            "cookie_path": "/shop",
            "secret": "words",
            "data_serializer": "json",
            "lock": "single",
        }
    )
    assert options == {
        "cookie_name": "shop",
        "ttl": "600",
        "cookie_secure": "true",
        "cookie_httponly": "true",
        "cookie_samesite": "Strict",
        "cookie_domain": "example.com",
        "cookie_path": "/shop",
        "secret": "words",
        "codec": "json",
        "lock": "single",
    }
    assert len(notes) == 10
    assert "timeout is ttl" in notes
    assert "lock is kept" in notes
    assert not auto


def test_what_beaker_stored_has_the_cookie_and_secret_that_it_had() -> None:
    options = translated({"import_from": "beaker", "key": "shop", "secret": "words"})
    assert options.options["import_cookie"] == "shop"
    assert options.options["import_secret"] == "words"
    others = translated(
        {"import_from": "beaker", "import_cookie": "old", "secret": "new"}
        | {"import_secret": "older"}
    )
    assert others.options["import_cookie"] == "old"
    assert others.options["import_secret"] == "older"
    assert "import_cookie" not in translated({"import_from": "flask-session"}).options


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (True, None),
        ("true", None),
        (False, 400 * 86400),
        (3600, 3600),
        ("3600", 3600),
        (timedelta(hours=1), 3600),
    ],
)
def test_cookie_expires_is_an_age(value: Any, seconds: Any) -> None:
    assert translated({"cookie_expires": value}).options["cookie_max_age"] == seconds


@pytest.mark.parametrize("name", ["type", "data_dir", "lock_dir", "invalidate_corrupt"])
def test_what_is_not_needed_is_ignored_and_said(name: str) -> None:
    options, notes, _ = translated({name: "x"})
    assert options.keys() == {"cookie_name", "cookie_secure"}
    (note,) = notes
    assert note.startswith(f"{name} is ignored: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encrypt_key", "k"),
        ("session_class", object),
        ("use_cookies", "false"),
        ("cookie_expires", "next year"),
    ],
)
def test_what_can_not_be_had_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        translated({name: value})


def test_what_is_not_set_has_our_default(server: Server) -> None:
    around = SessionMiddleware(app_of(len), url=server.url, timeout=None, secret=None)
    assert around._core.config.ttl == 1800


def test_the_log_says_what_became_of_each(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smartredis_wsgi")
    config = {"session.type": "ext:redis", "beaker.session.timeout": 60, "debug": "x"}
    SessionMiddleware(app_of(len), config | {"session.url": server.url})
    assert sorted(caplog.messages) == [
        "beaker: timeout is ttl",
        "beaker: type is ignored: sessions are in Redis",
        "beaker: url is kept",
    ]


def test_its_cookie_is_as_beakers(visitor: Visitor) -> None:
    visitor.app = SessionMiddleware(app_of(put("a", 1)), visitor.options)
    value, *attributes = visitor.ask().headers["Set-Cookie"].split("; ")
    assert value.startswith("beaker.session.id=")
    assert {word.lower() for word in attributes} == {
        "path=/",
        "httponly",
        "samesite=lax",
    }


def test_an_unknown_option_is_refused(server: Server) -> None:
    with pytest.raises(ConfigError, match="timout"):
        SessionMiddleware(app_of(len), {"session.timout": 1, "session.url": server.url})


def test_options_without_a_prefix_are_taken_if_none_has_one(server: Server) -> None:
    around = SessionMiddleware(app_of(len), {"url": server.url, "timeout": 60})
    assert around._core.config.ttl == 60


# -- the session ---------------------------------------------------------------------


def test_what_is_not_saved_is_not_stored(visitor: Visitor) -> None:
    visitor.visit(put("a", 1))
    visitor.visit(put("a", 2, save=False))
    assert visitor.visit(lambda session: session["a"]) == "1"


def test_with_auto_everything_is_stored(server: Server) -> None:
    visitor = Visitor(server, auto="true")
    visitor.visit(put("a", 1, save=False))
    assert visitor.visit(lambda session: session["a"]) == "1"


def test_saving_what_was_not_touched_makes_no_session(
    visitor: Visitor, redis: redis_py.Redis
) -> None:
    visitor.visit(lambda session: session.save())
    assert redis.dbsize() == 0


@pytest.mark.parametrize("auto", ["true", "false"])
def test_an_access_alone_writes_nothing(
    server: Server, redis: redis_py.Redis, auto: str
) -> None:
    visitor = Visitor(server, auto=auto)
    visitor.visit(put("a", 1))
    (key,) = redis.keys("session:*")
    before = redis.hgetall(key)
    with commands(server) as asked:
        assert visitor.visit(lambda session: session["a"]) == "1"
    assert not [line for line in asked if '"hset"' in line.lower()]
    assert redis.hgetall(key) == before


def test_last_accessed_is_the_last_save(visitor: Visitor) -> None:
    assert visitor.visit(lambda session: session.last_accessed) == "None"
    visitor.visit(put("a", 1))
    first = float(visitor.visit(lambda session: session.last_accessed))
    assert float(visitor.visit(lambda session: session.last_accessed)) == first
    visitor.visit(lambda session: (session.get("a"), session.save()))
    assert float(visitor.visit(lambda session: session.last_accessed)) > first


def test_an_error_drops_what_was_saved(visitor: Visitor) -> None:
    visitor.visit(put("a", 1))
    visitor.visit(put("a", 2), "500 Internal Server Error")
    assert visitor.visit(lambda session: session["a"]) == "1"


def test_revert_drops_what_was_changed(visitor: Visitor) -> None:
    def change(session: Any) -> Any:
        put("a", 2)(session)
        session.revert()
        return session["a"]

    visitor.visit(put("a", 1))
    assert visitor.visit(change) == "1"
    assert visitor.visit(lambda session: session["a"]) == "1"


@pytest.mark.parametrize("verb", ["delete", "invalidate"])
def test_who_leaves_stays_out(visitor: Visitor, verb: str) -> None:
    visitor.visit(put("a", 1))
    cookies = dict(visitor.cookies)
    visitor.visit(lambda session: (getattr(session, verb)(), session.save()))
    visitor.cookies = cookies
    assert visitor.visit(lambda session: session.get("a")) == "None"


def test_regenerate_id_keeps_the_fields(visitor: Visitor) -> None:
    visitor.visit(put("a", 1))
    before = dict(visitor.cookies)
    visitor.visit(lambda session: (session.regenerate_id(), session.save()))
    assert visitor.cookies != before
    assert visitor.visit(lambda session: session["a"]) == "1"


@pytest.mark.parametrize("lock", ["none", "single"])
def test_another_session_is_had_by_its_id(
    server: Server, redis: redis_py.Redis, lock: str
) -> None:
    other, visitor = Visitor(server, lock=lock), Visitor(server, lock=lock)
    other.visit(put("a", 1))
    visitor.visit(put("a", 2))
    known = other.visit(lambda session: session.id)
    assert visitor.visit(lambda session: session.get_by_id(known)["a"]) == "1"
    assert redis.keys("lock:*") == []

    def change(session: Any) -> None:
        found = session.get_by_id(known)
        put("a", 3)(found)
        put("b", 4, save=False)(found)

    visitor.visit(change)
    assert other.visit(lambda session: (session["a"], session.get("b"))) == "(3, None)"
    assert visitor.visit(lambda session: session.get_by_id("a" * 59)) == "None"
    assert visitor.visit(lambda session: session.get_by_id("../a")) == "None"


def test_an_error_releases_what_was_had_by_its_id(
    server: Server, redis: redis_py.Redis
) -> None:
    visitor = Visitor(server, lock="single")
    visitor.visit(put("a", 1))
    known = visitor.visit(lambda session: session.id)

    def act(session: Any) -> None:
        assert session.get_by_id(known)["a"] == 1
        assert len(redis.keys("lock:*")) == 1
        raise ZeroDivisionError

    visitor.cookies.clear()
    with pytest.raises(ZeroDivisionError):
        visitor.visit(act)
    assert redis.keys("lock:*") == []


def test_ones_own_id_gives_oneself(server: Server) -> None:
    visitor = Visitor(server, lock="single", lock_wait="100ms")
    visitor.visit(put("a", 1))
    assert visitor.visit(lambda s: s.get_by_id(s.id) is s) == "True"


def test_it_says_what_was_done_to_it(visitor: Visitor) -> None:
    def watch(session: Any) -> Any:
        told = [session.accessed()]
        session.get("a")
        told += [session.accessed(), session.dirty(), session.has_key("a")]
        session.save()
        return [*told, session.dirty(), session.is_new]

    assert visitor.visit(watch) == "[False, True, False, False, True, True]"


def test_what_it_has_not_is_refused(visitor: Visitor) -> None:
    def act(session: Any) -> None:
        session.domain = "example.com"

    with pytest.raises(AttributeError):
        visitor.visit(act)


def test_the_middleware_itself_may_take_beakers_place(server: Server) -> None:
    app = Core(
        app_of(lambda session: session.setdefault("a", 1)),
        url=server.url,
        cookie_secure=False,
        environ_key="beaker.session",
    )
    assert Browser(app).ask().text == "1"


# -- the same application, with Beaker and without ------------------------------------


def shop(environ: Any, start_response: Any) -> list[bytes]:
    """As Beaker's documentation has it; each page shows what was there before."""
    session = environ["beaker.session"]
    shown = {name: v for name, v in session.items() if not name.startswith("_")}
    page = environ["PATH_INFO"]
    if page == "/login":
        session["user"] = "ada"
        session.regenerate_id()
        session.save()
    elif page == "/count":
        session["n"] = session.get("n", 0) + 1
        session.save()
    elif page == "/forgot-to-save":
        session["n"] = 100
    elif page == "/nested":
        session.setdefault("cart", []).append("tea")
        session.save()
    elif page == "/revert":
        session["n"] = 200
        session.revert()
        session.save()
    elif page == "/logout":
        session.delete()
    elif page == "/invalidate":
        session.invalidate()
        session.save()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(sorted(shown.items())).encode()]


VISIT = ["/", "/count", "/count", "/forgot-to-save", "/nested", "/nested", "/login"]
LATER = ["/count", "/revert", "/", "/logout", "/", "/count", "/invalidate", "/"]


def test_the_same_pages_show_the_same(server: Server) -> None:
    ours = Browser(SessionMiddleware(shop, {"session.url": server.url}))
    theirs = Browser(BeakersOwn(shop, {"session.type": "memory"}))
    for page in [*VISIT, *LATER, *VISIT]:
        assert (page, ours.ask(page).text) == (page, theirs.ask(page).text)
