"""Django with its cache sessions on django-redis.

Django is configured once for a process, so all sites of a process share one address.
"""

from __future__ import annotations

from typing import Any

import django
import django_redis  # noqa: F401  # what the settings name
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from driver import App

PACKAGES = ["Django", "django-redis"]


def sessions(address: Any) -> App:
    _use(address)
    return _site("django.contrib.sessions.middleware.SessionMiddleware")


def bare() -> App:
    return _site()


def page(request: HttpRequest) -> HttpResponse:
    act = request.environ["bench.act"]
    if act is not None:
        act.run(request.session)
    return HttpResponse("ok")


urlpatterns = [path("", page)]


def _site(*middleware: str) -> App:
    with override_settings(MIDDLEWARE=list(middleware)):
        return WSGIHandler()


def _use(address: str) -> None:
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": address}
    override_settings(CACHES={"default": cache}).enable()


if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="a secret",
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
    )
    django.setup()
