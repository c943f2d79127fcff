"""The shop in Bottle."""

from bottle import Bottle, response

import sites
from smartredis_wsgi.integrations.bottle import SmartRedisPlugin

FLASHES = False


def site(**options):
    app = Bottle()
    app.install(SmartRedisPlugin(cookie_secure=False, **options))

    @app.get("/")
    def show(session):
        return {name: session.get(name) for name in ("user", "cart")}

    @app.get("/static")
    def static():
        return "ok"

    @app.post("/login")
    def login(session):
        session.regenerate_id()
        session["user"] = "ada"
        return "ok"

    @app.post("/rename")
    def rename(session):
        session["user"] = "grace"
        return "ok"

    @app.post("/add")
    def add(session):
        cart = session.setdefault("cart", [])
        sites.meanwhile()
        cart.append("tea")
        return "ok"

    @app.post("/logout")
    def logout(session):
        session.destroy()
        return "ok"

    @app.get("/stream")
    def stream(session):
        session["user"] = "streamed"
        yield b"a"
        yield b"b"

    @app.get("/crash")
    def crash(session):
        session["user"] = "crashed"
        raise ZeroDivisionError

    @app.get("/error")
    def error(session):
        session["user"] = "broken"
        response.status = 500
        return "oh"

    return app
