"""Visits, login and logout in Bottle.

pip install "smartredis_wsgi[embedded]" bottle
python bottle_app.py  # http://127.0.0.1:8000
"""

import os

from bottle import Bottle, redirect, request, response, run

from smartredis_wsgi import SessionMiddleware

site = Bottle()


@site.get("/")
def home():
    session = request.environ["smartredis.session"]
    session.incr("visits")
    response.content_type = "text/plain; charset=utf-8"
    return f"Hello {session.get('user', 'stranger')}, visits: {session['visits']}\n"


@site.post("/login")
def login():
    session = request.environ["smartredis.session"]
    session.regenerate_id()  # who knew the id before the login is not let in by it
    session["user"] = request.forms.user or "ada"
    redirect("/")


@site.post("/logout")
def logout():
    request.environ["smartredis.session"].destroy()
    redirect("/")


url = os.environ.get("REDIS_URL", "embedded://")  # a server of its own, for trying out
app = SessionMiddleware(site, url=url, cookie_secure=False)  # False: plain http only

if __name__ == "__main__":
    run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
