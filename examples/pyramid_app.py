"""Visits, login and logout in Pyramid: the settings say where request.session lives.

pip install "smartredis_wsgi[embedded,pyramid]"
python pyramid_app.py  # http://127.0.0.1:8000
"""

import os
from contextlib import suppress
from wsgiref.simple_server import make_server

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.response import Response


def home(request):
    session = request.session
    session.incr("visits")
    text = f"Hello {session.get('user', 'stranger')}, visits: {session['visits']}\n"
    return Response(text, content_type="text/plain", charset="utf-8")


def login(request):
    request.session.regenerate_id()  # who knew the old id is not let in by it
    request.session["user"] = request.POST.get("user", "ada")
    return HTTPSeeOther("/")


def logout(request):
    request.session.invalidate()
    return HTTPSeeOther("/")


settings = {  # or in the ini file
    "session.url": os.environ.get("REDIS_URL", "embedded://"),  # a server of its own
    "session.cookie_secure": "false",  # plain http only
}
with Configurator(settings=settings) as config:
    config.include("smartredis_wsgi.integrations.pyramid")
    for path, method, view in [
        ("/", "GET", home), ("/login", "POST", login), ("/logout", "POST", logout)
    ]:  # fmt: skip
        config.add_route(path, path, request_method=method)
        config.add_view(view, route_name=path)
    app = config.make_wsgi_app()

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
