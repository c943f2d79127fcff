"""Visits, login and logout in Flask: flask.session is in Redis.

pip install "smartredis_wsgi[embedded,flask]"
python flask_app.py  # http://127.0.0.1:8000
"""

import os
from contextlib import suppress
from wsgiref.simple_server import make_server

from flask import Flask, redirect, request, session

from smartredis_wsgi.integrations.flask import SmartRedisSessions

app = Flask(__name__)
url = os.environ.get("REDIS_URL", "embedded://")  # a server of its own, for trying out
SmartRedisSessions(app, url=url)


@app.get("/")
def home():
    session.incr("visits")
    text = f"Hello {session.get('user', 'stranger')}, visits: {session['visits']}\n"
    return text, {"Content-Type": "text/plain; charset=utf-8"}


@app.post("/login")
def login():
    session.regenerate_id()  # who knew the id before the login is not let in by it
    session["user"] = request.form.get("user", "ada")
    return redirect("/", 303)


@app.post("/logout")
def logout():
    session.destroy()
    return redirect("/", 303)


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
