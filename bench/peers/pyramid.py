"""Pyramid with pyramid_session_redis."""

from __future__ import annotations

from typing import Any

from driver import App
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid_session_redis import RedisSessionFactory

PACKAGES = ["pyramid", "pyramid_session_redis"]


def sessions(address: Any) -> App:
    return _site(RedisSessionFactory(secret="a secret", redis_url=address))


def bare() -> App:
    return _site(None)


def _site(session_factory: Any) -> App:
    with Configurator(session_factory=session_factory) as config:
        config.add_route("page", "/")
        config.add_view(_page, route_name="page")
        return config.make_wsgi_app()


def _page(request: Request) -> Response:
    act = request.environ["bench.act"]
    if act is not None:
        act.run(request.session)
    return Response("ok")
