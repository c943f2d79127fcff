"""Tickets that are never sold twice: records on one server, Redlock on three masters.

pip install "smartredis_wsgi[embedded]"
for port in 6380 6381 6382; do
    redis-server --port $port --save "" --daemonize yes
done
python redlock.py  # http://127.0.0.1:8000

curl -b jar -c jar -L -d "" http://127.0.0.1:8000/login
curl -b jar -c jar -L -d "" http://127.0.0.1:8000/buy
"""

import os
from contextlib import suppress
from wsgiref.simple_server import make_server

from smartredis_wsgi import SessionMiddleware


def site(environ, start_response):
    session = environ["smartredis.session"]
    action = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"]
    if action == "/login":
        session.regenerate_id()
        session.update(credit=3, tickets=0)
    elif action == "/buy" and session.get("credit", 0) > 0:
        session["credit"] -= 1  # exact: until the answer, nobody else is in here
        session["tickets"] += 1
    elif action == "/logout":
        session.destroy()
    elif not action:  # a GET takes no lock, so it waits for nobody
        credit, tickets = session.get("credit", 0), session.get("tickets", 0)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"credit: {credit}, tickets: {tickets}\n".encode()]
    start_response("303 See Other", [("Location", "/")])
    return [b""]


url = os.environ.get("REDIS_URL", "embedded://")  # a server of its own, for trying out
ports = "redis://localhost:6380 redis://localhost:6381 redis://localhost:6382"
lock = {"lock": "redlock", "lock_nodes": os.environ.get("REDLOCK_NODES", ports)}
lock |= {"lock_methods": "POST", "lock_wait": "2s"}  # after 2 s the answer is a 503
app = SessionMiddleware(site, lock, url=url, cookie_secure=False)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
