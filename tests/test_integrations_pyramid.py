"""Pyramid: request.session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py
from browser import Browser, commands
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.interfaces import ISession
from pyramid.request import Request
from pyramid.response import Response
from pyramid.testing import DummyRequest
from pyramid_retry import RetryableException
from servers import Server
from zope.interface.verify import verifyObject

from smartredis_wsgi import ConfigError, SessionMiddleware, StoreUnavailable
from smartredis_wsgi.integrations.pyramid import PyramidSession, session_factory

INCLUDE = "smartredis_wsgi.integrations.pyramid"
View = Callable[[Any], Any]


def site(server: Server, *views: View, **more: Any) -> Browser:
    """Views that return text, each at a path of its own name."""
    options = {"session.url": server.url, "session.cookie_secure": "false"}
    with Configurator(settings={**options, **more}) as config:
        config.include(INCLUDE)
        for view in views:
            add(config, view)
        return Browser(config.make_wsgi_app())


def add(config: Configurator, view: View) -> None:
    config.add_route(view.__name__, f"/{view.__name__}")
    config.add_view(view, route_name=view.__name__, renderer="string")


@pytest.fixture
def session() -> PyramidSession:
    return session_factory(url="memory://")(DummyRequest())


def test_it_is_an_isession(session: PyramidSession) -> None:
    assert verifyObject(ISession, session)
    assert session.new is True
    assert type(session.created) is int


def test_messages_wait_in_queues(session: PyramidSession) -> None:
    session.flash("one")
    session.flash("one")
    session.flash("one", allow_duplicate=False)
    session.flash("another", "errors")
    assert session.peek_flash() == ["one", "one"]
    assert session.pop_flash() == ["one", "one"]
    assert session.pop_flash() == session.peek_flash() == []
    assert session.peek_flash("errors") == ["another"]
    assert session.pop_flash("errors") == ["another"]


def test_a_csrf_token_stays_until_another_is_made(session: PyramidSession) -> None:
    token = session.get_csrf_token()
    assert session.get_csrf_token() == token
    assert len(token) == 40
    assert session.new_csrf_token() != token
    assert session.get_csrf_token() != token


def test_in_a_unit_test_save_stores_it(redis: redis_py.Redis) -> None:
    request = DummyRequest()
    request.session = session_factory(client=redis)(request)
    request.session["user"] = "ada"
    assert redis.dbsize() == 0
    request.session.save()
    assert redis.dbsize() == 1


def test_the_factory_alone_is_refused_at_the_first_request(server: Server) -> None:
    def touch(request: Any) -> str:
        return repr(request.session)

    factory = session_factory(url=server.url)
    with Configurator(session_factory=factory) as config:
        add(config, touch)
        browser = Browser(config.make_wsgi_app())
    with pytest.raises(RuntimeError, match=r"config\.include"):
        browser.ask("/touch")


def test_the_factory_finds_the_session_of_a_middleware(server: Server) -> None:
    def count(request: Any) -> int:
        request.session.flash("hello")
        return len(request.session.peek_flash())

    options = {"url": server.url, "cookie_secure": False}
    with Configurator(session_factory=session_factory(**options)) as config:
        add(config, count)
        browser = Browser(SessionMiddleware(config.make_wsgi_app(), options))
    assert [browser.ask("/count").text for _ in range(2)] == ["1", "2"]


def test_a_middleware_around_it_is_used(server: Server) -> None:
    def fill(request: Any) -> str:
        request.environ["smartredis.session"]["a"] = 1
        return str(request.session["a"])

    browser = site(server, fill)
    options = {"url": server.url, "cookie_secure": False}
    browser.app = SessionMiddleware(browser.app, options)
    response = browser.ask("/fill")
    assert response.text == "1"
    assert len(response.headers.getall("Set-Cookie")) == 1


def test_a_wrong_setting_is_refused_at_the_start(server: Server) -> None:
    with pytest.raises(ConfigError, match="lock"):
        site(server, **{"session.lok": "single"})


def test_tweens_and_callbacks_come_before_the_commit(server: Server) -> None:
    def show(request: Any) -> str:
        return "".join(sorted(request.session))

    def fill(request: Any) -> str:
        request.add_response_callback(late)
        request.add_finished_callback(last)
        request.session["view"] = 1
        return ""

    def late(request: Any, _response: Any) -> None:
        request.session["-callback"] = 1

    def last(request: Any) -> None:
        request.session["-finished"] = 1

    browser = site(server, fill, show, **{"pyramid.tweens": TWEENS})
    browser.ask("/fill")
    assert browser.ask("/show").text == "-callback-finished-tweenview"


TWEENS = f"{__name__}.writing_tween pyramid.tweens.excview_tween_factory"


def writing_tween(handle: View, _registry: Any) -> View:
    def tween(request: Any) -> Any:
        response = handle(request)
        if request.path == "/fill":
            request.session["-tween"] = 1
        return response

    return tween


def test_a_raised_redirect_keeps_the_changes(server: Server) -> None:
    def login(request: Any) -> None:
        request.session["user"] = "ada"
        raise HTTPFound("/")

    def show(request: Any) -> str:
        return str(request.session["user"])

    browser = site(server, login, show)
    assert browser.ask("/login").status_int == 302
    assert browser.ask("/show").text == "ada"


def test_a_stream_may_write_until_its_first_item(server: Server) -> None:
    def stream(request: Any) -> Response:
        def items() -> Any:
            request.session["n"] = 1
            yield b"a"
            request.session["n"] = 2

        return Response(app_iter=items())

    browser = site(server, stream)
    with pytest.raises(RuntimeError, match="response has begun"):
        browser.ask("/stream")


@pytest.mark.parametrize("path", ["/read", "/crash", "/error", "/stream"])
def test_the_lock_is_free_after_each_request(
    server: Server, redis: redis_py.Redis, path: str
) -> None:
    def login(request: Any) -> str:
        request.session["user"] = "ada"
        return ""

    def read(request: Any) -> str:
        return str(request.session["user"]) + str(locks())

    def crash(request: Any) -> None:
        raise ZeroDivisionError(read(request))

    def error(request: Any) -> str:
        request.response.status = 500
        return read(request)

    def stream(request: Any) -> Response:
        return Response(app_iter=iter([read(request).encode()]))

    def locks() -> int:
        return len(redis.keys("lock:*"))

    views = login, read, crash, error, stream
    browser = site(server, *views, **{"session.lock": "single"})
    browser.ask("/login")
    if path == "/crash":
        with pytest.raises(ZeroDivisionError, match="ada1"):
            browser.ask(path)
    else:
        assert browser.ask(path).text == "ada1"
    assert locks() == 0


def test_a_request_that_is_tried_again_counts_once(server: Server) -> None:
    tries = []

    def count(request: Any) -> str:
        tries.append(request.session.get("n", 0))
        request.session.incr("n")
        if len(tries) == 1:
            raise RetryableException
        return str(request.session["n"])

    settings = {"pyramid.includes": "pyramid_retry", "retry.attempts": "3"}
    browser = site(server, count, **settings)
    assert browser.ask("/count").text == "1"
    assert tries == [0, 0]


def test_a_new_try_costs_nothing_where_nothing_was_touched(server: Server) -> None:
    tries = []

    def plain(_request: Any) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise RetryableException
        return ""

    settings = {"pyramid.includes": "pyramid_retry", "retry.attempts": "3"}
    browser = site(server, plain, **settings)
    browser.cookies = {"sid": "a" * 59}
    with commands(server) as asked:
        browser.ask("/plain")
    assert len(tries) == 2
    assert asked == []


def test_it_may_have_another_place_in_environ(server: Server) -> None:
    def fill(request: Any) -> str:
        request.session["a"] = 1
        return str(request.environ["shop"]["a"])

    assert (
        site(server, fill, **{"session.environ_key": "shop"}).ask("/fill").text == "1"
    )


def test_a_subrequest_has_the_session_that_it_is_given(server: Server) -> None:
    def inner(request: Any) -> str:
        request.session["a"] = 1
        return ""

    def outer(request: Any) -> str:
        subrequest = Request.blank("/inner")
        with pytest.raises(RuntimeError, match="environ"):
            request.invoke_subrequest(subrequest)
        place = "smartredis.session"
        subrequest.environ[place] = request.environ[place]
        request.invoke_subrequest(subrequest)
        return str(request.session["a"])

    browser = site(server, inner, outer)
    assert browser.ask("/outer").text == "1"
    assert len(browser.cookies) == 1


def test_a_view_may_answer_for_the_missing_store(server: Server) -> None:
    def touch(request: Any) -> int:
        return len(request.session)

    def apology(_error: Any, _request: Request) -> Response:
        return Response("sorry", status=503)

    options = {"session.url": server.url, "session.cookie_secure": "false"}
    with Configurator(settings=options) as config:
        config.include(INCLUDE)
        add(config, touch)
        config.add_exception_view(apology, context=StoreUnavailable)
        browser = Browser(config.make_wsgi_app())
    browser.cookies = {"sid": "a" * 59}
    server.stop()
    assert browser.ask("/touch").text == "sorry"
