"""Bottle: a callback's session argument."""

from __future__ import annotations

from typing import Any

import bottle
import pytest
from bottle import Bottle, PluginError
from browser import Browser, commands
from servers import Server

from smartredis_wsgi import ConfigError, Session
from smartredis_wsgi.integrations.bottle import SmartRedisPlugin


def site(server: Server, keyword: str = "session", **options: Any) -> Bottle:
    app = Bottle()
    options = {"url": server.url, "cookie_secure": False, **options}
    app.install(SmartRedisPlugin(keyword, **options))
    return app


def test_a_callback_that_asks_is_given_the_session(server: Server) -> None:
    app = site(server)

    @app.get("/add/<item>")
    def add(item: str, session: Session) -> str:
        session.setdefault("items", []).append(item)
        return str(session["items"])

    @app.get("/plain")
    def plain(**named: Any) -> str:
        return str(named)

    browser = Browser(app)
    browser.ask("/add/tea")
    assert browser.ask("/add/rice").text == "['tea', 'rice']"
    assert browser.ask("/plain").text == "{}"


def test_the_argument_may_have_another_name(server: Server) -> None:
    app = site(server, "basket")

    @app.get("/")
    def home(basket: Session) -> str:
        return str(len(basket))

    assert Browser(app).ask().text == "0"


def test_hooks_find_it_in_environ(server: Server) -> None:
    app = site(server)

    @app.hook("before_request")
    def count() -> None:
        bottle.request.environ["smartredis.session"].incr("n")

    @app.get("/")
    def home(session: Session) -> str:
        return str(session["n"])

    browser = Browser(app)
    assert [browser.ask().text for _ in range(2)] == ["1", "2"]


def test_a_raised_redirect_keeps_the_changes(server: Server) -> None:
    app = site(server)

    @app.get("/login")
    def login(session: Session) -> None:
        session["user"] = "ada"
        bottle.redirect("/")

    @app.get("/")
    def home(session: Session) -> str:
        return str(session["user"])

    browser = Browser(app)
    assert browser.ask("/login").status_int == 302
    assert browser.ask("/").text == "ada"


def test_options_may_stand_in_the_configuration(server: Server) -> None:
    app = Bottle()
    app.config.load_dict(
        {"smartredis": {"url": server.url, "cookie_secure": "no", "cookie_name": "c"}}
    )
    app.install(SmartRedisPlugin())
    app.get("/", callback=lambda session: session.setdefault("a", "b"))
    browser = Browser(app)
    browser.ask()
    assert [*browser.cookies] == ["c"]


def test_a_second_one_is_refused(server: Server) -> None:
    app = site(server)
    with pytest.raises(PluginError, match="already"):
        app.install(SmartRedisPlugin(url=server.url))


def test_a_mounted_application_has_the_outer_ones_session(server: Server) -> None:
    outer, inner = site(server), site(server)

    @outer.get("/")
    def home(session: Session) -> str:
        session["a"] = 1
        return ""

    @inner.get("/show")
    def show(session: Session) -> str:
        return str(session["a"])

    outer.mount("/inner/", inner)
    browser = Browser(outer)
    browser.ask()
    assert browser.ask("/inner/show").text == "1"


def test_a_wrong_option_is_refused_at_the_start(server: Server) -> None:
    with pytest.raises(ConfigError, match="lock"):
        site(server, lok="single")


def test_an_error_of_another_kind_stays_bottles(server: Server) -> None:
    app = site(server)

    @app.get("/")
    def home(session: Session) -> None:
        session["a"] = 1
        raise ZeroDivisionError

    with commands(server) as asked:
        response = Browser(app).ask()
    assert response.status_int == 500
    assert "Internal Server Error" in response.text
    assert asked == []
