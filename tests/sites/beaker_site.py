"""The shop as Beaker's users have it, but for the import."""

import json

import sites
from smartredis_wsgi.integrations.beaker import SessionMiddleware

FLASHES = False


def shop(environ, start_response):
    session, path = environ["beaker.session"], environ["PATH_INFO"]
    status, body = "200 OK", [b"ok"]
    if path == "/":
        shown = {name: session.get(name) for name in ("user", "cart")}
        body = [json.dumps(shown).encode()]
    elif path == "/login":
        session.regenerate_id()
        session["user"] = "ada"
        session.save()
    elif path == "/rename":
        session["user"] = "grace"
        session.save()
    elif path == "/add":
        cart = session.setdefault("cart", [])
        sites.meanwhile()
        cart.append("tea")
        session.save()
    elif path == "/logout":
        session.delete()
    elif path == "/stream":
        session["user"] = "streamed"
        session.save()
        body = (item for item in (b"a", b"b"))
    elif path == "/crash":
        session["user"] = "crashed"
        session.save()
        raise ZeroDivisionError
    elif path == "/error":
        session["user"] = "broken"
        session.save()
        status = "500 Internal Server Error"
    start_response(status, [("Content-Type", "text/plain")])
    return body


def site(**options):
    return SessionMiddleware(
        shop, {f"session.{name}": value for name, value in options.items()}
    )
