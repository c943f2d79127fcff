"""Real clients, real servers: what arrives over HTTP."""

from __future__ import annotations

import http.client
import re
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.cookiejar import Cookie, CookieJar

import pytest
import redis as redis_py
from app_servers import COMMANDS, FOLLOWERS, AppServer
from servers import HOST, Server

REQUEST_SECONDS = 20.0
HAND_ON_THE_LAST = {"cheroot"}  # of several Cookie headers; no browser sends several

# The application, as a module for whatever server imports it.
MODULE = '''
import os
import time
from wsgiref.validate import validator

from smartredis_wsgi import SessionMiddleware

PLAIN = [("Content-Type", "text/plain")]


def counter(environ, start_response):
    session = environ["smartredis.session"]
    act = ACTS.get(environ["PATH_INFO"])
    if act is None:
        start_response("404 Not Found", PLAIN)
        return [b"no such page"]
    return act(environ, session, start_response)


def count(environ, session, start_response):
    session.incr("n")
    body = b"%d" % session["n"]
    start_response("200 OK", PLAIN)
    return [body]


def show(environ, session, start_response):
    body = session.get("text", "").encode() + b" %d" % session.get("n", 0)
    start_response("200 OK", PLAIN)
    yield body


def put(environ, session, start_response):
    """Answers with a redirect; the body of a slow one ends when a file says so."""
    text = session["text"] = environ["QUERY_STRING"]
    start_response("303 See Other", [*PLAIN, ("Location", "/show")])
    yield b"x" * 1000
    deadline = time.monotonic() + 10
    while text.startswith("slow") and not os.path.exists(text):
        if time.monotonic() > deadline:
            raise TimeoutError(text)
        time.sleep(0.002)
    yield b"x" * 1000


def log_out(environ, session, start_response):
    session.destroy()
    start_response("303 See Other", [*PLAIN, ("Location", "/show")])
    return [b""]


def untouched(environ, session, start_response):
    start_response("200 OK", PLAIN)
    return [b"%d" % os.getpid()]


ACTS = {"/": count, "/show": show, "/put": put, "/logout": log_out, "/pid": untouched}

application = SessionMiddleware(
    validator(counter), url=os.environ["RECORDS"], cookie_secure=False
)
checked = validator(application)
'''


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, AppServer]]:
    """The application servers that tests have started."""
    servers: dict[str, AppServer] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture(params=COMMANDS)
def app(
    request: pytest.FixtureRequest,
    server: Server,
    running: dict[str, AppServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AppServer]:
    """Each kind of application server in turn, on records that are empty."""
    kind = request.param
    if kind not in running:
        folder = tmp_path_factory.mktemp(kind)
        (folder / "counter.py").write_text(MODULE)
        app = AppServer(kind, "counter:checked", folder, server.url)
        running[kind] = app.start()
    yield running[kind]
    assert "Traceback" not in running[kind].log


@dataclass
class Browser:
    """A client that keeps cookies and follows redirects."""

    jar: CookieJar = field(default_factory=CookieJar)

    def get(self, url: str, data: bytes | None = None) -> str:
        cookies = urllib.request.HTTPCookieProcessor(self.jar)
        no_proxy = urllib.request.ProxyHandler({})
        opener = urllib.request.build_opener(cookies, no_proxy)
        with opener.open(url, data, REQUEST_SECONDS) as response:
            text: str = response.read().decode()
        return text

    @property
    def cookie(self) -> Cookie | None:
        cookies = list(self.jar)
        assert len(cookies) <= 1
        return cookies[0] if cookies else None

    @property
    def id(self) -> str:
        assert self.cookie is not None
        assert self.cookie.name == "sid"
        assert self.cookie.value
        return self.cookie.value


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    @property
    def cookies(self) -> list[str]:
        return [value for name, value in self.headers if name == "Set-Cookie"]


def send(app: AppServer, method: str, path: str, *cookies: str) -> Answer:
    """One request on a connection of its own, with these Cookie headers."""
    connection = http.client.HTTPConnection(HOST, app.port, timeout=REQUEST_SECONDS)
    try:
        connection.putrequest(method, path)
        for cookie in cookies:
            connection.putheader("Cookie", cookie)
        connection.endheaders()
        with connection.getresponse() as response:
            body = response.read()
            return Answer(response.status, response.getheaders(), body)
    finally:
        connection.close()


def test_a_browser_s_counter_counts(app: AppServer) -> None:
    browser, other = Browser(), Browser()
    assert browser.get(app.url) == "1"
    session_id = browser.id
    assert [browser.get(app.url), browser.get(app.url)] == ["2", "3"]
    assert other.get(app.url) == "1"
    assert browser.get(app.url) == "4"
    assert browser.id == session_id != other.id


def test_a_cookie_is_set_once_and_kept_from_scripts_and_caches(app: AppServer) -> None:
    first = send(app, "GET", "/")
    (cookie,) = first.cookies
    assert re.fullmatch(r"sid=[\w-]+; Path=/; HttpOnly; SameSite=Lax", cookie)
    assert ("Vary", "Cookie") in first.headers
    assert ("Cache-Control", "no-store") in first.headers
    second = send(app, "GET", "/", cookie.partition(";")[0])
    assert (second.body, second.cookies) == (b"2", [])
    assert ("Vary", "Cookie") in second.headers
    names = {name for name, _ in send(app, "GET", "/pid").headers}
    assert not names & {"Set-Cookie", "Vary", "Cache-Control"}


def test_a_session_survives_a_restart_of_the_application(app: AppServer) -> None:
    browser = Browser()
    assert browser.get(app.url) == "1"
    session_id = browser.id
    before = browser.get(f"{app.url}/pid")
    app.stop()
    app.start()
    assert browser.get(f"{app.url}/pid") != before
    assert browser.get(app.url) == "2"
    assert browser.id == session_id


def test_a_session_ends_at_logout_and_its_old_id_counts_from_1_under_a_new_one(
    app: AppServer, redis: redis_py.Redis
) -> None:
    browser = Browser()
    assert [browser.get(app.url), browser.get(app.url)] == ["1", "2"]
    old = browser.id
    assert browser.get(f"{app.url}/logout", b"") == " 0"
    assert browser.cookie is None
    for _ in range(2):
        answer = send(app, "GET", "/", f"sid={old}")
        assert answer.body == b"1"
        (cookie,) = answer.cookies
        assert cookie.startswith("sid=")
        assert old not in cookie
    assert browser.get(app.url) == "1"
    assert browser.id != old
    keys = list(redis.scan_iter())
    assert keys, "control: there are keys to look at"
    assert not any(old.encode() in key for key in keys)


def follow(app: AppServer, text: str, cookie: str) -> bytes:
    """What a client is shown that follows a redirect while its body still comes."""
    connection = http.client.HTTPConnection(HOST, app.port, timeout=REQUEST_SECONDS)
    try:
        connection.request("POST", f"/put?{text}", headers={"Cookie": cookie})
        with connection.getresponse() as response:
            assert response.status == 303
            shown = send(app, "GET", response.headers["Location"], cookie)
            (app.folder / text).touch()
            response.read()
        return shown.body
    finally:
        connection.close()


def test_a_client_that_follows_a_redirect_at_once_reads_its_write(
    app: AppServer,
) -> None:
    browsers = [Browser() for _ in range(FOLLOWERS)]
    for browser in browsers:
        browser.get(app.url)

    def follow_25_times(browser: Browser) -> list[bytes]:
        cookie = f"sid={browser.id}"
        name = f"slow-{browsers.index(browser)}"
        return [follow(app, f"{name}-{turn}", cookie) for turn in range(25)]

    with ThreadPoolExecutor(FOLLOWERS) as threads:
        shown = list(threads.map(follow_25_times, browsers))
    assert shown == [
        [f"slow-{place}-{turn} 1".encode() for turn in range(25)]
        for place in range(FOLLOWERS)
    ]


def test_parallel_increments_all_count(app: AppServer) -> None:
    browser = Browser()
    assert browser.get(app.url) == "1"
    cookie = f"sid={browser.id}"
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: send(app, "GET", "/", cookie), range(20)))
    assert {(answer.status, len(answer.cookies)) for answer in answers} == {(200, 0)}
    assert browser.get(f"{app.url}/show") == " 21"


def test_cookie_headers_that_a_server_joins_still_hold_our_cookie(
    app: AppServer,
) -> None:
    browser = Browser()
    assert browser.get(app.url) == "1"
    ours = f"sid={browser.id}"
    joined = b" 0" if app.kind in HAND_ON_THE_LAST else b" 1"
    assert send(app, "GET", "/show", "a=1", ours, '{"json":1}; b@d=2').body == joined
    assert send(app, "GET", "/show", ours, "a=1").body == joined
    assert send(app, "GET", "/show", "a=1", "foo", ours).body == b" 1"
    assert send(app, "GET", "/show", "=" + ours).body == b" 0"


def test_bad_cookies_are_as_none(app: AppServer) -> None:
    browser = Browser()
    browser.get(app.url)
    good = browser.id
    for bad in ("", good[:-1], f"{good}x", f'"{good}"', good[:-1] + "é", good * 99):
        answer = send(app, "GET", "/show", f"sid={bad}")
        assert (answer.status, answer.body, answer.cookies) == (200, b" 0", [])


def test_a_head_request_has_its_write_stored_and_no_body(app: AppServer) -> None:
    browser = Browser()
    browser.get(app.url)
    answer = send(app, "HEAD", "/put?by-head", f"sid={browser.id}")
    assert (answer.status, answer.body) == (303, b"")
    assert browser.get(f"{app.url}/show") == "by-head 1"


def test_a_client_that_goes_away_leaves_its_write(app: AppServer) -> None:
    browser = Browser()
    browser.get(app.url)
    with socket.create_connection((HOST, app.port), REQUEST_SECONDS) as connection:
        request = (
            f"GET /put?gone HTTP/1.1\r\nHost: x\r\nCookie: sid={browser.id}\r\n\r\n"
        )
        connection.sendall(request.encode())
        assert connection.recv(9).startswith(b"HTTP/1")
    assert browser.get(f"{app.url}/show") == "gone 1"


def test_a_redis_that_is_down_is_a_503_and_back_again_without_a_restart(
    app: AppServer, server: Server
) -> None:
    browser = Browser()
    assert browser.get(app.url) == "1"
    server.kill()
    answer = send(app, "GET", "/", f"sid={browser.id}")
    assert answer.status == 503
    assert int(dict(answer.headers)["Retry-After"]) >= 1
    assert answer.cookies == []
    assert send(app, "GET", "/pid", f"sid={browser.id}").status == 200
    server.start()
    answer = send(app, "GET", "/", f"sid={browser.id}")
    assert (answer.status, answer.body) == (200, b"1")
