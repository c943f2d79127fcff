"""Visits, login and logout in plain WSGI.

pip install "smartredis_wsgi[embedded]"
python plain.py  # http://127.0.0.1:8000

curl -b jar -c jar http://127.0.0.1:8000/
curl -b jar -c jar -L -d user=ada http://127.0.0.1:8000/login
curl -b jar -c jar -L -d "" http://127.0.0.1:8000/logout
"""

import os
from contextlib import suppress
from urllib.parse import parse_qs
from wsgiref.simple_server import make_server

from smartredis_wsgi import SessionMiddleware


def site(environ, start_response):
    session = environ["smartredis.session"]
    route = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if route == ("GET", "/"):
        session.incr("visits")
        user = session.get("user", "stranger")
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"Hello {user}, visits: {session['visits']}\n".encode()]
    if route == ("POST", "/login"):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        form = parse_qs(environ["wsgi.input"].read(length).decode())
        session.regenerate_id()  # who knew the id before the login is not let in by it
        session["user"] = form.get("user", ["ada"])[0]
    elif route == ("POST", "/logout"):
        session.destroy()
    else:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Not here\n"]
    start_response("303 See Other", [("Location", "/")])
    return [b""]


url = os.environ.get("REDIS_URL", "embedded://")  # a server of its own, for trying out
app = SessionMiddleware(site, url=url, cookie_secure=False)  # False: plain http only

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
