"""Sessions, as spans and events in OpenTelemetry's traces.

pip install "smartredis_wsgi[embedded,opentelemetry]"
python opentelemetry_events.py  # http://127.0.0.1:8000; spans go to the terminal
curl -b jar -c jar http://127.0.0.1:8000/
"""

import os
import time
from contextlib import suppress
from wsgiref.simple_server import make_server

from opentelemetry import trace
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from smartredis_wsgi import SessionMiddleware

provider = TracerProvider()  # at home: a BatchSpanProcessor with an OTLP exporter
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("smartredis_wsgi")


def record(event):
    name, facts = f"session {event.name}", {"session.handle": event.handle}
    if event.seconds is None:
        trace.get_current_span().add_event(name, facts)
    else:  # it began so many seconds ago, and ends now
        now = time.time_ns()
        begun = now - int(event.seconds * 1e9)
        tracer.start_span(name, attributes=facts, start_time=begun).end(now)


def site(environ, start_response):
    session = environ["smartredis.session"]
    session.incr("visits")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"visits: {session['visits']}\n".encode()]


url = os.environ.get("REDIS_URL", "embedded://")  # a server of its own, for trying out
app = SessionMiddleware(site, url=url, cookie_secure=False, on_event=record)
app = OpenTelemetryMiddleware(app)  # outside: the commit belongs to its span, too

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
