"""Visits, login and logout, configured by sessions.ini beside this file.

pip install "smartredis_wsgi[embedded]"
python from_ini.py  # http://127.0.0.1:8000
"""

import os
from configparser import ConfigParser
from contextlib import suppress
from pathlib import Path
from wsgiref.simple_server import make_server

from webob import Request

from smartredis_wsgi import SessionMiddleware

ini = ConfigParser(interpolation=None)  # a secret may hold a %
ini.read_string(Path(__file__).with_name("sessions.ini").read_text())
settings = dict(ini["site"])
settings["session.url"] = os.environ.get("REDIS_URL", settings["session.url"])


def site(environ, start_response):
    session = environ["smartredis.session"]
    route = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if route == ("GET", "/"):
        session.incr("visits")
        name, visits = session.get("user", "stranger"), session["visits"]
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{settings['greeting']} {name}, visits: {visits}\n".encode()]
    if route == ("POST", "/login"):
        session.regenerate_id()  # who knew the id before the login is not let in by it
        session["user"] = Request(environ).POST.get("user", "ada")
    elif route == ("POST", "/logout"):
        session.destroy()
    start_response("303 See Other", [("Location", "/")])
    return [b""]


app = SessionMiddleware.from_settings(site, settings)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
