"""The shop in Django."""

import django
from django.conf import settings
from django.contrib import messages as flashes
from django.core.signals import setting_changed
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

import sites

FLASHES = True

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of a test",
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        SESSION_ENGINE="smartredis_wsgi.integrations.django",
        MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
        MIDDLEWARE=[
            "smartredis_wsgi.integrations.django.SessionMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        LOGGING_CONFIG=None,
    )
    django.setup()


def show(request):
    return JsonResponse({name: request.session.get(name) for name in ("user", "cart")})


def static(_request):
    return HttpResponse("ok")


def login(request):
    request.session.cycle_key()
    request.session["user"] = "ada"
    return HttpResponse("ok")


def rename(request):
    request.session["user"] = "grace"
    return HttpResponse("ok")


def add(request):
    cart = request.session.setdefault("cart", [])
    sites.meanwhile()
    cart.append("tea")
    return HttpResponse("ok")


def flash(request):
    flashes.info(request, "hello")
    return HttpResponse("ok")


def messages(request):
    found = [message.message for message in flashes.get_messages(request)]
    return JsonResponse(found, safe=False)


def logout(request):
    request.session.flush()
    return HttpResponse("ok")


def stream(request):
    request.session["user"] = "streamed"
    return StreamingHttpResponse(item for item in (b"a", b"b"))


def crash(request):
    request.session["user"] = "crashed"
    raise ZeroDivisionError


def error(request):
    request.session["user"] = "broken"
    return HttpResponse("oh", status=500)


views = static, login, rename, add, flash, messages, logout, stream, crash, error
urlpatterns = [path("", show), *(path(view.__name__, view) for view in views)]


def site(**options):
    settings.SMARTREDIS = options
    setting_changed.send(None, setting="SMARTREDIS", value=options, enter=True)
    return get_wsgi_application()
