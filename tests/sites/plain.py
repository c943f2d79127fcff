"""The shop in plain WSGI: what all others are held against."""

import json

import sites
from smartredis_wsgi import SessionMiddleware

FLASHES = False


def shop(environ, start_response):
    session, path = environ["smartredis.session"], environ["PATH_INFO"]
    status, body = "200 OK", [b"ok"]
    if path == "/":
        shown = {name: session.get(name) for name in ("user", "cart")}
        body = [json.dumps(shown).encode()]
    elif path == "/login":
        session.regenerate_id()
        session["user"] = "ada"
    elif path == "/rename":
        session["user"] = "grace"
    elif path == "/add":
        cart = session.setdefault("cart", [])
        sites.meanwhile()
        cart.append("tea")
    elif path == "/logout":
        session.destroy()
    elif path == "/stream":
        session["user"] = "streamed"
        body = (item for item in (b"a", b"b"))
    elif path == "/crash":
        session["user"] = "crashed"
        raise ZeroDivisionError
    elif path == "/error":
        session["user"] = "broken"
        status = "500 Internal Server Error"
    start_response(status, [("Content-Type", "text/plain")])
    return body


def site(**options):
    return SessionMiddleware(shop, options, cookie_secure=False)
