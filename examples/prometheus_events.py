"""Sessions, counted and timed for Prometheus.

pip install "smartredis_wsgi[embedded,prometheus]"
python prometheus_events.py  # http://127.0.0.1:8000

curl -b jar -c jar http://127.0.0.1:8000/
curl http://127.0.0.1:8000/metrics
"""

import os
from contextlib import suppress
from wsgiref.simple_server import make_server

from prometheus_client import Counter, Histogram, make_wsgi_app

from smartredis_wsgi import SessionMiddleware
from smartredis_wsgi.events import MEANINGS

EVENTS = Counter("session_events", "What happened to sessions", ["event"])
BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
SECONDS = Histogram("session_seconds", "How long it took", ["event"], buckets=BUCKETS)
for name in MEANINGS:
    EVENTS.labels(name)  # 0 from the start, so that the first one is an increase


def count(event):
    EVENTS.labels(event.name).inc()
    if event.seconds is not None:
        SECONDS.labels(event.name).observe(event.seconds)


def site(environ, start_response):
    if environ["PATH_INFO"] == "/metrics":
        return metrics(environ, start_response)  # touches no session: costs nothing
    session = environ["smartredis.session"]
    session.incr("visits")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"visits: {session['visits']}\n".encode()]


metrics = make_wsgi_app()
url = os.environ.get("REDIS_URL", "embedded://")  # a server of its own, for trying out
app = SessionMiddleware(site, url=url, cookie_secure=False, on_event=count)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
