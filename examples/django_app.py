"""Visits, login and logout in Django: request.session is kept field by field.

pip install "smartredis_wsgi[embedded,django]"
python django_app.py  # http://127.0.0.1:8000
"""

import os
from contextlib import suppress
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY="put-a-secret-of-your-own-here",
    ROOT_URLCONF=__name__,
    SESSION_ENGINE="smartredis_wsgi.integrations.django",
    SMARTREDIS={"url": os.environ.get("REDIS_URL", "embedded://")},
    MIDDLEWARE=["smartredis_wsgi.integrations.django.SessionMiddleware"],
)


def home(request):
    visits = request.session["visits"] = request.session.get("visits", 0) + 1
    text = f"Hello {request.session.get('user', 'stranger')}, visits: {visits}\n"
    return HttpResponse(text, "text/plain; charset=utf-8")


def login(request):
    request.session.cycle_key()  # who knew the key before is not let in by it
    request.session["user"] = request.POST.get("user", "ada")
    return HttpResponse(status=303, headers={"Location": "/"})


def logout(request):
    request.session.flush()
    return HttpResponse(status=303, headers={"Location": "/"})


urlpatterns = [path("", home), path("login", login), path("logout", logout)]
app = get_wsgi_application()

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app) as server, suppress(KeyboardInterrupt):
        server.serve_forever()
