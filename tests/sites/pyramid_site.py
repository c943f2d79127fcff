"""The shop in Pyramid."""

from pyramid.config import Configurator
from pyramid.response import Response

import sites

FLASHES = True


def show(request):
    return {name: request.session.get(name) for name in ("user", "cart")}


def static(_request):
    return "ok"


def login(request):
    request.session.regenerate_id()
    request.session["user"] = "ada"
    return "ok"


def rename(request):
    request.session["user"] = "grace"
    return "ok"


def add(request):
    cart = request.session.setdefault("cart", [])
    sites.meanwhile()
    cart.append("tea")
    return "ok"


def flash(request):
    request.session.flash("hello")
    return "ok"


def messages(request):
    return request.session.pop_flash()


def logout(request):
    request.session.invalidate()
    return "ok"


def stream(request):
    request.session["user"] = "streamed"
    return Response(app_iter=(item for item in (b"a", b"b")))


def crash(request):
    request.session["user"] = "crashed"
    raise ZeroDivisionError


def error(request):
    request.session["user"] = "broken"
    request.response.status = 500
    return "oh"


VIEWS = static, login, rename, add, flash, messages, logout, stream, crash, error


def site(**options):
    given = {**options, "cookie_secure": "false"}
    settings = {f"session.{name}": value for name, value in given.items()}
    with Configurator(settings=settings) as config:
        config.include("smartredis_wsgi.integrations.pyramid")
        config.add_route("show", "/")
        config.add_view(show, route_name="show", renderer="json")
        for view in VIEWS:
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, renderer="json")
        return config.make_wsgi_app()
