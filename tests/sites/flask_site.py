"""The shop in Flask."""

from flask import Flask, Response, flash, get_flashed_messages, jsonify, session

import sites
from smartredis_wsgi.integrations.flask import SmartRedisSessions

FLASHES = True


def site(**options):
    app = Flask(__name__, static_folder=None)
    app.secret_key = "not used"
    SmartRedisSessions(app, **options)

    @app.get("/")
    def show():
        return jsonify({name: session.get(name) for name in ("user", "cart")})

    @app.get("/static")
    def static():
        return "ok"

    @app.post("/login")
    def login():
        session.regenerate_id()
        session["user"] = "ada"
        return "ok"

    @app.post("/rename")
    def rename():
        session["user"] = "grace"
        return "ok"

    @app.post("/add")
    def add():
        cart = session.setdefault("cart", [])
        sites.meanwhile()
        cart.append("tea")
        return "ok"

    @app.post("/flash")
    def leave():
        flash("hello")
        return "ok"

    @app.get("/messages")
    def messages():
        return jsonify(get_flashed_messages())

    @app.post("/logout")
    def logout():
        session.destroy()
        return "ok"

    @app.get("/stream")
    def stream():
        session["user"] = "streamed"
        return Response(item for item in (b"a", b"b"))

    @app.get("/crash")
    def crash():
        session["user"] = "crashed"
        raise ZeroDivisionError

    @app.get("/error")
    def error():
        session["user"] = "broken"
        return "oh", 500

    return app
