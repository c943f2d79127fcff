"""Visits, login and logout as an application of Beaker's has it, but for one import.

pip install "smartredis_wsgi[embedded]"
python beaker_app.py  # http://127.0.0.1:8000
"""

import os
from contextlib import suppress
from wsgiref.simple_server import make_server

from webob import Request

from smartredis_wsgi.integrations.beaker import SessionMiddleware  # was beaker's


def site(environ, start_response):
    session = environ["beaker.session"]
    route = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if route == ("GET", "/"):
        session["visits"] = session.get("visits", 0) + 1
        session.save()
        text = f"Hello {session.get('user', 'stranger')}, visits: {session['visits']}\n"
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [text.encode()]
    if route == ("POST", "/login"):
        session.regenerate_id()  # who knew the id before the login is not let in by it
        session["user"] = Request(environ).POST.get("user", "ada")
        session.save()
    elif route == ("POST", "/logout"):
        session.delete()
    start_response("303 See Other", [("Location", "/")])
    return [b""]


app = SessionMiddleware(
    site,
    {
        "session.type": "ext:redis",
        "session.url": os.environ.get("REDIS_URL", "embedded://"),
        "session.timeout": 600,
    },
)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
