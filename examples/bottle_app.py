"""Visits, login and logout in Bottle: a callback that asks for a session gets it.

pip install "smartredis_wsgi[embedded,bottle]"
python bottle_app.py  # http://127.0.0.1:8000
"""

import os

from bottle import Bottle, redirect, request, response

from smartredis_wsgi.integrations.bottle import SmartRedisPlugin

app = Bottle()
url = os.environ.get("REDIS_URL", "embedded://")  # a server of its own, for trying out
app.install(SmartRedisPlugin(url=url, cookie_secure=False))  # False: plain http only


@app.get("/")
def home(session):
    session.incr("visits")
    response.content_type = "text/plain; charset=utf-8"
    return f"Hello {session.get('user', 'stranger')}, visits: {session['visits']}\n"


@app.post("/login")
def login(session):
    session.regenerate_id()  # who knew the id before the login is not let in by it
    session["user"] = request.forms.user or "ada"
    redirect("/")


@app.post("/logout")
def logout(session):
    session.destroy()
    redirect("/")


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
