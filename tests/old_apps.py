"""Applications that keep their sessions with other libraries, in a server of the tests.

Each `Before` has an application in which /login makes a session of `values`, with flash
messages where the library has them, and the options by which we take it over.
connect-redis is JavaScript: what it stores, and the cookie of express-session, is made
here by the documented algorithm (node-cookie-signature).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import flask
import redis as redis_py
from beaker.middleware import SessionMiddleware as Beaker
from flask_session import Session as FlaskSession
from pyramid.config import Configurator
from pyramid.response import Response
from pyramid_session_redis import RedisSessionFactory
from servers import Server

SECRET = "a secret of the old application"
PLAIN = {"user": "ann", "cart": ["pear", {"name": "fig", "n": 2}], "rate": 1.5, "n": 3}
RICH = {
    **PLAIN,
    "since": datetime(2026, 11, 28, 12, 30, tzinfo=UTC),
    "naive": datetime(2026, 11, 28, 12, 30),
    "born": date(2000, 2, 29),
    "span": timedelta(days=1, seconds=5),
    "tags": {"a", "b"},
    "fixed": frozenset({1}),
    "pair": ("a", 1),
    "raw": b"\x00\xff",
    "price": Decimal("1.10"),
    "key": UUID(int=7),
    "none": None,
    "yes": True,
}


@dataclass
class Before:
    """An application of before the move."""

    name: str
    app: Any
    options: dict[str, Any]
    values: dict[str, Any]
    key: Callable[[redis_py.Redis], bytes]
    """Where the only session lies."""
    own: dict[str, Any] = field(default_factory=dict)
    """What else comes over, such as flash messages."""


def _only_key(client: redis_py.Redis, match: str) -> bytes:
    (key,) = [k for k in client.scan_iter(match=match) if b"{" not in k]
    return key


def flask_session(server: Server, **config: Any) -> Before:
    app = flask.Flask("before")
    app.config.update(
        SECRET_KEY=SECRET,
        SESSION_TYPE="redis",
        SESSION_REDIS=server.client(),
        **config,
    )
    FlaskSession(app)

    @app.get("/login")
    def login() -> str:
        flask.session.update(PLAIN)
        flask.flash("welcome", "news")
        return "in"

    @app.get("/")
    def home() -> str:
        return str(flask.session.get("user"))

    options: dict[str, Any] = {"import_from": "flask-session"}
    if config.get("SESSION_USE_SIGNER"):
        options["import_secret"] = SECRET
    own = {"_permanent": True, "_flashes": [["news", "welcome"]]}
    return Before(
        "flask-session", app, options, PLAIN, lambda c: _only_key(c, "session:*"), own
    )


def signed_flask_session(server: Server) -> Before:
    return flask_session(server, SESSION_USE_SIGNER=True)


def pyramid_session(server: Server, **given: Any) -> Before:
    def login(request: Any) -> Response:
        for name, value in values.items():
            request.session[name] = value
        request.session.flash("welcome")
        return Response("in")

    def home(request: Any) -> Response:
        return Response(str(request.session.get("user")))

    values = PLAIN if given else RICH
    with Configurator() as config:
        config.set_session_factory(
            RedisSessionFactory(SECRET, redis_url=server.url, **given)
        )
        for name, path, view in (("login", "/login", login), ("home", "/", home)):
            config.add_route(name, path)
            config.add_view(view, route_name=name)
        app = config.make_wsgi_app()
    options = {"import_from": "pyramid_session_redis", "import_secret": SECRET}
    if not given:
        options["import_pickle"] = "on"
    return Before(
        "pyramid_session_redis",
        app,
        options,
        values,
        lambda c: _only_key(c, "*"),
        {"_f_": ["welcome"]},
    )


def pyramid_session_in_json(server: Server) -> Before:
    return pyramid_session(
        server,
        serialize=lambda payload: json.dumps(payload).encode(),
        deserialize=json.loads,
    )


def beaker(server: Server, **given: Any) -> Before:
    values = PLAIN if given.get("data_serializer") == "json" else RICH

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        if environ["PATH_INFO"] == "/login":
            session.update(values)
            session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(session.get("user")).encode()]

    config = {"type": "ext:redis", "url": server.url, "timeout": 3600, **given}
    options: dict[str, Any] = {"import_from": "beaker"}
    if "secret" in given:
        options["import_secret"] = given["secret"]
    if values is RICH:
        options["import_pickle"] = True
    wrapped = Beaker(app, {f"session.{name}": v for name, v in config.items()})
    return Before(
        "beaker", wrapped, options, values, lambda c: _only_key(c, "beaker_cache:*")
    )


def signed_beaker(server: Server) -> Before:
    return beaker(server, secret=SECRET)


def beaker_in_json(server: Server) -> Before:
    return beaker(server, data_serializer="json")


def connect_redis(server: Server, name: str = "connect-redis") -> Before:
    """express-session and its store, as far as a login goes."""
    prefix = "sess:" if name == "connect-redis" else "session:"
    stored: dict[str, Any] = {**PLAIN, "flash": {"news": ["welcome"]}}
    if name == "connect-redis":
        stored["cookie"] = {
            "originalMaxAge": 86400000,
            "expires": _in_js(datetime.now(UTC) + timedelta(days=1)),
            "httpOnly": True,
            "path": "/",
        }

    def app(environ: Any, start_response: Any) -> list[bytes]:
        headers = [("Content-Type", "text/plain")]
        if environ["PATH_INFO"] == "/login":
            its_id = secrets.token_urlsafe(24)
            with server.client() as client:
                client.setex(prefix + its_id, 86400, json.dumps(stored))
            value = quote(f"s:{cookie_signature(its_id, SECRET)}", safe="")
            headers.append(("Set-Cookie", f"connect.sid={value}; Path=/; HttpOnly"))
        start_response("200 OK", headers)
        return [b"in"]

    options = {"import_from": name, "import_secret": ["another", SECRET]}
    own = {"flash": stored["flash"]}
    return Before(name, app, options, PLAIN, lambda c: _only_key(c, f"{prefix}*"), own)


def connect_smart_redis(server: Server) -> Before:
    return connect_redis(server, "connect-smart-redis")


def cookie_signature(its_id: str, secret: str) -> str:
    digest = hmac.new(secret.encode(), its_id.encode(), hashlib.sha256).digest()
    return f"{its_id}.{base64.b64encode(digest).decode().rstrip('=')}"


def _in_js(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def pickled_flask_session(client: redis_py.Redis, its_id: str) -> None:
    """As Flask-Session stored it before version 0.7."""
    client.setex(f"session:{its_id}", 600, pickle.dumps(dict(RICH)))


LIBRARIES = [
    flask_session,
    signed_flask_session,
    pyramid_session,
    pyramid_session_in_json,
    beaker,
    signed_beaker,
    beaker_in_json,
    connect_redis,
    connect_smart_redis,
]
