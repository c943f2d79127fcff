"""Flask with Flask-Session on Redis."""

from __future__ import annotations

from typing import Any

import flask
import flask_session
from driver import App
from redis import Redis

PACKAGES = ["Flask", "Flask-Session"]


def sessions(address: Any) -> App:
    app = _site()
    client = Redis.from_url(address) if isinstance(address, str) else address
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=client)
    flask_session.Session(app)
    return app


def bare() -> App:
    return _site()


def _site() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.route("/")
    def page() -> str:
        act = flask.request.environ["bench.act"]
        if act is not None:
            act.run(flask.session)
        return "ok"

    return app
