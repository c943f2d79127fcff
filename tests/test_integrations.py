"""One story of a browser, told in each framework."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
import redis as redis_py
import sites
from browser import Browser, commands
from servers import Server
from webob import Request

from smartredis_wsgi import SessionStore

NAMES = ["plain", "pyramid", "flask", "bottle", "django", "paste", "beaker"]
SITES = {
    name: importlib.import_module(f"sites.{name}{'' if name == 'plain' else '_site'}")
    for name in NAMES
}


def shown(browser: Browser) -> dict[str, Any]:
    """What the first page reads in the session."""
    response = browser.ask("/")
    assert response.status_int == 200, response
    fields: dict[str, Any] = json.loads(response.body)
    return fields


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return SITES[request.param]


@pytest.fixture
def browser(module: ModuleType, server: Server) -> Browser:
    return Browser(module.site(url=server.url))


def crash(browser: Browser) -> None:
    """A page that raises: the error is the server's, or the framework has a page."""
    with suppress(ZeroDivisionError):
        assert browser.ask("/crash").status_int == 500


def test_a_visit_from_login_to_logout(browser: Browser) -> None:
    assert shown(browser) == {"user": None, "cart": None}
    assert not browser.cookies
    for _ in range(3):
        browser.post("/add")
    stranger = dict(browser.cookies)
    assert stranger
    browser.post("/login")
    assert browser.cookies.keys() == stranger.keys()
    assert browser.cookies != stranger
    assert shown(browser) == {"user": "ada", "cart": ["tea"] * 3}
    user = dict(browser.cookies)
    browser.post("/logout")
    assert not browser.cookies
    for old in (stranger, user):
        browser.cookies = dict(old)
        assert shown(browser) == {"user": None, "cart": None}


def test_a_message_is_shown_once(module: ModuleType, browser: Browser) -> None:
    if not module.FLASHES:
        assert browser.post("/flash").status_int in (200, 404)
        return
    browser.post("/flash")
    assert "hello" in browser.ask("/messages").text
    assert "hello" not in browser.ask("/messages").text


def test_a_streamed_response_has_stored_what_it_says(browser: Browser) -> None:
    response = browser.ask("/stream")
    assert response.body == b"ab"
    assert shown(browser)["user"] == "streamed"


def test_an_error_drops_the_changes(browser: Browser) -> None:
    browser.post("/login")
    crash(browser)
    assert shown(browser)["user"] == "ada"
    assert browser.ask("/error").status_int == 500
    assert shown(browser)["user"] == "ada"


def test_an_error_makes_no_session(browser: Browser, redis: redis_py.Redis) -> None:
    crash(browser)
    browser.ask("/error")
    assert not browser.cookies
    assert redis.dbsize() == 0


def test_what_does_not_touch_the_session_costs_nothing(
    browser: Browser, server: Server
) -> None:
    browser.post("/login")
    with commands(server) as asked:
        response = browser.ask("/static")
    assert asked == []
    assert "Set-Cookie" not in response.headers
    assert "Cookie" not in response.headers.get("Vary", "")


def test_what_only_reads_writes_nothing(
    browser: Browser, server: Server, redis: redis_py.Redis
) -> None:
    browser.post("/login")
    (key,) = redis.keys("session:*")
    before = redis.hgetall(key)
    with commands(server) as asked:
        assert shown(browser)["user"] == "ada"
    assert len([line for line in asked if "EVAL" in line.upper()]) == 1
    assert redis.hgetall(key) == before


def test_it_says_that_the_page_depends_on_the_cookie(browser: Browser) -> None:
    browser.post("/login")
    assert "Cookie" in browser.ask("/").headers["Vary"]


@pytest.mark.parametrize("path", ["/", "/add", "/stream"])
def test_without_redis_there_is_a_503(
    browser: Browser, server: Server, path: str
) -> None:
    browser.post("/login")
    cookies = dict(browser.cookies)
    server.stop()
    response = browser.ask(path, "POST" if path == "/add" else "GET")
    assert response.status_int == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert browser.cookies == cookies
    assert browser.ask("/static").status_int == 200


def test_the_headers_leave_after_the_commit(
    module: ModuleType, server: Server, redis: redis_py.Redis
) -> None:
    stored = []

    def start_response(*_: Any) -> Any:
        stored.append(redis.dbsize())
        return print

    app = module.site(url=server.url)
    body = app(Request.blank("/stream").environ, start_response)
    assert b"".join(body) == b"ab"
    body.close()
    assert stored == [1]


LOCK = {"lock": "single", "lock_wait": "50ms"}
PAGES = ["/", "/static", "/stream", "/crash", "/error"]


@pytest.mark.parametrize("path", PAGES)
def test_no_request_leaves_a_lock(
    module: ModuleType, server: Server, redis: redis_py.Redis, path: str
) -> None:
    browser = Browser(module.site(url=server.url, **LOCK))
    browser.post("/login")
    assert redis.keys("lock:*") == []
    with suppress(ZeroDivisionError):
        browser.ask(path)
    assert redis.keys("lock:*") == []


def test_while_another_has_the_lock_there_is_a_503(
    module: ModuleType, server: Server
) -> None:
    browser = Browser(module.site(url=server.url, **LOCK))
    browser.post("/add")
    (session_id,) = browser.cookies.values()
    store = SessionStore.from_config(url=server.url, **LOCK)
    with store.open(session_id) as session, session.lock():
        response = browser.post("/add")
    assert response.status_int == 503
    assert response.headers["Retry-After"] == "5"
    assert shown(browser)["cart"] == ["tea"]


def meanwhile(browser: Browser, monkeypatch: pytest.MonkeyPatch, *pages: str) -> None:
    """Add to the cart; once it is read, and not changed yet, others go on."""
    other = Browser(browser.app)
    other.cookies = dict(browser.cookies)

    def act() -> None:
        monkeypatch.undo()
        with ThreadPoolExecutor(1) as thread:
            for page in pages:
                assert thread.submit(other.post, page).result().status_int == 200

    monkeypatch.setattr(sites, "meanwhile", act)
    browser.post("/add")


def test_two_requests_at_once_both_keep_their_changes(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.post("/add")
    meanwhile(browser, monkeypatch, "/add", "/rename")
    assert shown(browser) == {"user": "grace", "cart": ["tea", "tea", "tea"]}


def test_who_logs_out_during_a_slow_request_stays_out(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, redis: redis_py.Redis
) -> None:
    browser.post("/add")
    cookies = dict(browser.cookies)
    meanwhile(browser, monkeypatch, "/logout")
    browser.cookies = cookies
    assert shown(browser) == {"user": None, "cart": None}
    assert [redis.type(key) for key in redis.keys("session:*")] == [b"string"]


def test_the_package_imports_no_framework() -> None:
    program = (
        "import sys, smartredis_wsgi\n"
        "names = 'pyramid flask bottle django paste.deploy beaker'.split()\n"
        "print([name for name in names if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
