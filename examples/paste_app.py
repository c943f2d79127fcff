"""Visits, login and logout, put together by PasteDeploy from paste_app.ini.

pip install "smartredis_wsgi[embedded,paste]"
python paste_app.py  # http://127.0.0.1:8000
"""

import os
from contextlib import suppress
from pathlib import Path
from wsgiref.simple_server import make_server

from paste.deploy import loadapp
from webob import Request


def make_site(_global_conf):
    return site


def site(environ, start_response):
    session = environ["smartredis.session"]
    route = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if route == ("GET", "/"):
        session.incr("visits")
        text = f"Hello {session.get('user', 'stranger')}, visits: {session['visits']}\n"
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [text.encode()]
    if route == ("POST", "/login"):
        session.regenerate_id()  # who knew the id before the login is not let in by it
        session["user"] = Request(environ).POST.get("user", "ada")
    elif route == ("POST", "/logout"):
        session.destroy()
    start_response("303 See Other", [("Location", "/")])
    return [b""]


if __name__ == "__main__":
    ini = Path(__file__).with_name("paste_app.ini")
    url = os.environ.get("REDIS_URL", "embedded://")  # a server of its own
    app = loadapp(f"config:{ini}", global_conf={"redis_url": url})
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
