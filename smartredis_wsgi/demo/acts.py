"""The application in each of the stores: a request does one thing to its session."""

import threading
import time
from collections.abc import Iterable
from typing import Any

from webob import Request, Response

from ..middleware import Application, StartResponse

_WORK_SECONDS = 0.02  # what a request of a crowd does beside its session
_SLOW_SECONDS = 60.0  # a slow request's end, if nobody lets it go on before
TIMES = "Demo-Times"  # the header: when it arrived, had the session, had stored it
_SECONDS = 10.0  # for slow requests to come, and to leave
_READ_AT, _LEAVE = "demo.read_at", "demo.leave"


class Gate:
    """Where slow requests wait until somebody opens it."""

    def __init__(self) -> None:
        self.waiting = 0  # or on their way out
        self._changed = threading.Condition()
        self._opened = 0

    def wait(self, seconds: float) -> None:
        """Wait for the next opening, or so long. Who has waited, leaves later."""
        with self._changed:
            turn = self._opened
            self.waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._opened > turn, seconds)

    def leave(self) -> None:
        with self._changed:
            self.waiting -= 1
            self._changed.notify_all()

    def open(self) -> None:
        """Let them go, and wait until they have left."""
        with self._changed:
            self._opened += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self.waiting, _SECONDS)

    def wait_for_somebody(self) -> None:
        """Raises TimeoutError where nobody comes to wait."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.waiting, _SECONDS):
                raise TimeoutError("no slow request came")


class Acts:
    """``POST /count`` and so on; ``GET /show`` answers with the session's fields."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        request, session = Request(environ), environ["smartredis.session"]
        act, _, name = request.path_info.strip("/").partition("/")
        verb = getattr(self, f"{request.method}_{act}", None)
        if verb is None or request.method not in ("GET", "POST"):
            return sent(Response(status=404), environ, start_response)
        shown = verb(session, environ, name)
        response = Response(status=204) if shown is None else Response(json_body=shown)
        return sent(response, environ, start_response)

    def GET_show(self, session: Any, *_: Any) -> dict[str, Any]:
        return dict(session)

    # -- buttons of the page ---------------------------------------------------------

    def POST_count(self, session: Any, *_: Any) -> None:
        session.incr("count")

    def POST_login(self, session: Any, *_: Any) -> None:
        session.regenerate_id()
        session["user"] = "ann"

    def POST_logout(self, session: Any, *_: Any) -> None:
        session.destroy()

    def POST_put(self, session: Any, *_: Any) -> None:
        cart = session.setdefault("cart", [])
        cart.append(("tea", "bread", "honey", "figs")[len(cart) % 4])

    def POST_turn(self, session: Any, *_: Any) -> None:
        look = session.setdefault("look", {"theme": "dark", "size": 16})
        look["theme"] = "light" if look["theme"] == "dark" else "dark"

    # -- a crowd's -------------------------------------------------------------------

    def POST_incr(self, session: Any, environ: dict[str, Any], name: str) -> None:
        _read_and_work(session, environ)
        session.incr(name)

    def POST_add(self, session: Any, environ: dict[str, Any], name: str) -> None:
        before = session.get(name, 0)
        _read_and_work(session, environ)
        session[name] = before + 1

    def POST_set(self, session: Any, environ: dict[str, Any], name: str) -> None:
        _read_and_work(session, environ)
        session[name] = 1

    def POST_append(self, session: Any, environ: dict[str, Any], name: str) -> None:
        items = session.setdefault(name, [])
        _read_and_work(session, environ)
        items.append(1)

    # -- a slow request --------------------------------------------------------------

    def POST_slow(self, session: Any, environ: dict[str, Any], name: str) -> None:
        """Read, wait at the gate, write; leave it when that is stored, or refused."""
        len(session)
        environ[_LEAVE] = self.gate.leave
        self.gate.wait(_SLOW_SECONDS)
        session[name] = 1


def _read_and_work(session: Any, environ: dict[str, Any]) -> None:
    len(session)
    environ[_READ_AT] = time.monotonic()
    time.sleep(_WORK_SECONDS)


def timed(app: Application) -> Application:
    """Tell the client three moments, on this process's clock, in seconds."""

    def call(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        arrived = time.monotonic()

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            stored = time.monotonic()
            environ.pop(_LEAVE, int)()
            moments = arrived, environ.get(_READ_AT, stored), stored
            text = " ".join(f"{moment:.6f}" for moment in moments)
            return start_response(status, [*headers, (TIMES, text)], *rest)

        return app(environ, start)

    return call


def sent(
    response: Response, environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    body: Iterable[bytes] = response(environ, start_response)
    return body
