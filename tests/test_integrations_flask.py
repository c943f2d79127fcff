"""Flask: flask.session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis as redis_py
from browser import Browser
from flask import Flask, Response, session, stream_with_context
from servers import Server

from smartredis_wsgi import ConfigError, StoreUnavailable
from smartredis_wsgi.integrations.flask import SmartRedisSessions

DAYS_31 = 31 * 86400


def bare(**settings: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(settings)

    @app.get("/show")
    def show() -> str:
        return str(dict(session))

    @app.get("/login")
    def login() -> str:
        session["user"] = "ada"
        return ""

    @app.get("/stay")
    def stay() -> str:
        session.permanent = True
        return ""

    @app.get("/leave")
    def leave() -> str:
        session.permanent = False
        return ""

    return app


def site(server: Server, options: Any = None, **settings: Any) -> Browser:
    app = bare(**settings)
    SmartRedisSessions(app, url=server.url, **(options or {}))
    return Browser(app)


def set_cookie(browser: Browser, path: str) -> str | None:
    cookie: str | None = browser.ask(path).headers.get("Set-Cookie")
    return cookie


def lifetime(redis: redis_py.Redis) -> int:
    (key,) = redis.keys("session:*")
    return redis.ttl(key)


def let_time_pass(redis: redis_py.Redis) -> None:
    """Half of the session's idle time, at once: what is read then is prolonged."""
    (key,) = redis.keys("session:*")
    redis.pexpire(key, redis.pttl(key) // 2)


def test_its_cookie_is_as_flask_is_configured(server: Server) -> None:
    browser = site(
        server,
        SESSION_COOKIE_NAME="__Secure-shop",
        SESSION_COOKIE_DOMAIN="example.com",
        SESSION_COOKIE_PATH="/shop",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_PARTITIONED=True,
    )
    cookie = set_cookie(browser, "/login")
    assert cookie
    value, *attributes = cookie.split("; ")
    assert value.startswith("__Secure-shop=")
    assert {word.lower() for word in attributes} == {
        "domain=example.com",
        "path=/shop",
        "secure",
        "httponly",
        "samesite=strict",
        "partitioned",
    }


def test_its_cookie_is_flasks_where_nothing_is_configured(server: Server) -> None:
    cookie = set_cookie(site(server), "/login")
    assert cookie
    value, *attributes = cookie.split("; ")
    assert value.startswith("session=")
    assert attributes == ["Path=/", "HttpOnly"]


def test_a_permanent_session_outlives_the_browser(
    server: Server, redis: redis_py.Redis
) -> None:
    browser = site(server, {"ttl": 100})
    assert "Max-Age" not in str(set_cookie(browser, "/login"))
    assert 90 < lifetime(redis) <= 100
    assert f"Max-Age={DAYS_31}" in str(set_cookie(browser, "/stay"))
    assert DAYS_31 - 100 < lifetime(redis) <= DAYS_31
    assert browser.ask("/show").text == "{'user': 'ada', '_permanent': True}"
    browser.ask("/leave")
    assert 90 < lifetime(redis) <= 100


def test_the_lifetime_is_flasks(server: Server, redis: redis_py.Redis) -> None:
    browser = site(server, PERMANENT_SESSION_LIFETIME=timedelta(hours=1))
    assert "Max-Age=3600" in str(set_cookie(browser, "/stay"))
    assert 3500 < lifetime(redis) <= 3600


def test_a_permanent_cookie_is_renewed_by_use(
    server: Server, redis: redis_py.Redis
) -> None:
    browser = site(server)
    browser.ask("/stay")
    let_time_pass(redis)
    assert f"Max-Age={DAYS_31}" in str(set_cookie(browser, "/show"))


def test_a_browsers_cookie_is_sent_once(server: Server, redis: redis_py.Redis) -> None:
    browser = site(server)
    assert set_cookie(browser, "/login")
    for path in ("/login", "/show"):
        let_time_pass(redis)
        assert not set_cookie(browser, path)


def test_a_permanent_cookie_is_sent_once_if_flask_says_so(
    server: Server, redis: redis_py.Redis
) -> None:
    browser = site(server, SESSION_REFRESH_EACH_REQUEST=False)
    assert f"Max-Age={DAYS_31}" in str(set_cookie(browser, "/stay"))
    let_time_pass(redis)
    assert not set_cookie(browser, "/show")


def test_permanent_again_writes_nothing(server: Server, redis: redis_py.Redis) -> None:
    browser = site(server)
    browser.ask("/stay")
    (key,) = redis.keys("session:*")
    before = redis.hgetall(key)
    browser.ask("/stay")
    assert redis.hgetall(key) == before


def test_options_may_stand_in_the_configuration(
    server: Server, redis: redis_py.Redis
) -> None:
    app = bare(SMARTREDIS_URL=server.url, SMARTREDIS_PREFIX="one:")
    SmartRedisSessions(app)
    Browser(app).ask("/login")
    assert redis.keys("one:*")


def test_keywords_override_the_configuration(
    server: Server, redis: redis_py.Redis
) -> None:
    settings = {"SMARTREDIS_PREFIX": "one:", "SESSION_COOKIE_NAME": "one"}
    options = {"prefix": "two:", "cookie_name": "two", "cookie_max_age": 60}
    browser = site(server, options, **settings)
    assert "Max-Age=60" in str(set_cookie(browser, "/stay"))
    assert redis.keys("two:*")
    assert [*browser.cookies] == ["two"]


def test_one_extension_serves_several_applications(
    server: Server, redis: redis_py.Redis
) -> None:
    extension = SmartRedisSessions(url=server.url)
    for prefix in ("one:", "two:"):
        app = bare(SMARTREDIS_PREFIX=prefix)
        extension.init_app(app)
        Browser(app).ask("/login")
    assert len(redis.keys("one:*")) == len(redis.keys("two:*")) == 1


def test_a_wrong_option_is_refused_at_the_start(server: Server) -> None:
    with pytest.raises(ConfigError, match="lock"):
        site(server, SMARTREDIS_LOK="single")


def test_a_test_may_prepare_and_inspect_a_session(server: Server) -> None:
    client = site(server).app.test_client()
    with client.session_transaction() as prepared:
        prepared["user"] = "grace"
    assert client.get("/show").text == "{'user': 'grace'}"
    client.get("/login")
    with client.session_transaction() as seen:
        assert seen["user"] == "ada"


def test_a_transaction_that_touches_nothing_makes_no_session(
    server: Server, redis: redis_py.Redis
) -> None:
    client = site(server).app.test_client()
    with client.session_transaction():
        pass
    assert redis.dbsize() == 0


def test_an_error_page_in_a_request_context_drops_the_changes(
    server: Server, redis: redis_py.Redis
) -> None:
    app = site(server).app
    for status, stored in (500, 0), (200, 1):
        with app.test_request_context("/"):
            session["user"] = "ada"
            app.process_response(Response(status=status))
        assert redis.dbsize() == stored


def test_a_request_context_has_a_session(server: Server) -> None:
    with site(server).app.test_request_context("/"):
        assert session.new
        assert session.get("user") is None
        assert not session.modified
        session.modified = True
        assert session.modified


def test_a_stream_may_write_until_its_first_item(server: Server) -> None:
    browser = site(server)

    @browser.app.get("/stream")
    def stream() -> Response:
        def items() -> Iterator[bytes]:
            session["user"] = "streamed"
            yield b"a"

        return Response(stream_with_context(items()))

    assert browser.ask("/stream").text == "a"
    assert browser.ask("/show").text == "{'user': 'streamed'}"


def test_a_handler_of_its_own_answers_for_the_missing_store(server: Server) -> None:
    browser = site(server)

    @browser.app.errorhandler(StoreUnavailable)
    def apology(_: StoreUnavailable) -> tuple[str, int]:
        return "sorry", 503

    browser.ask("/login")
    server.stop()
    assert browser.ask("/show").text == "sorry"


def test_the_missing_store_is_told_by_any_response_class(server: Server) -> None:
    class Special(Response):
        pass

    app = bare()
    app.response_class = Special
    SmartRedisSessions(app, url=server.url)
    browser = Browser(app)
    browser.ask("/login")
    server.stop()
    assert "Retry-After" in browser.ask("/show").headers
