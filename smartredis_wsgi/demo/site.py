"""The page and its routes, on the stores that it compares."""

import json
import threading
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

from redis import Redis
from waitress.server import create_server
from webob import Request, Response

from ..connect import client_for
from ..ids import Address
from ..middleware import Application, SessionMiddleware, StartResponse
from . import naive
from .acts import Acts, Gate, sent, timed
from .crowd import REQUESTS, WORKS, Client, Work
from .sight import lies_at

_RECORDS, *_MASTERS = (f"embedded://{name}" for name in ("records", "a", "b", "c"))
_PREFIX = "session:"
_TOMBSTONE_SECONDS = 20  # long enough to be looked at
_THREADS = REQUESTS + 30  # a crowd's, and those of some tabs
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NAMES = "127.0.0.1", "localhost"
_OWN_SITES = "same-origin", "none"
_TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Site:
    """The application of all paths. Starts Valkey servers, which end with the process.

    Attributes:
        gates: Where the slow requests of each store wait.
    """

    def __init__(self) -> None:
        self.redis: Redis = client_for(_RECORDS, timeout=1)
        self.gates: dict[str, Gate] = {}
        self._stores: dict[str, Application] = {}
        self._crowds = threading.Lock()  # one after the other, or the picture is false
        redlock = {"lock": "redlock", "lock_nodes": _MASTERS}
        self._ours = self._keep("none", {"lock": "none"})
        self._keep("single", {"lock": "single"})
        self._keep("redlock", redlock)
        acts = Acts()
        self._mount("naive", acts, naive.BlobSessions(acts, self.redis))

    def _keep(self, name: str, options: dict[str, Any]) -> SessionMiddleware:
        acts = Acts()
        store = SessionMiddleware(
            acts,
            options,
            url=_RECORDS,
            prefix=_PREFIX,
            cookie_name=f"sid-{name}",
            cookie_secure=False,
            delete_expiry=_TOMBSTONE_SECONDS,
            lock_wait=30,
        )
        self._mount(name, acts, store)
        return store

    def _mount(self, name: str, acts: Acts, store: Application) -> None:
        self.gates[name], self._stores[name] = acts.gate, timed(store)

    @property
    def stores(self) -> list[str]:
        return list(self._stores)

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        request = Request(environ)
        refusal = _refusal_of(request)
        if refusal:
            return sent(refusal, environ, start_response)
        store = self._stores.get(request.path_info_peek())
        if store:
            request.path_info_pop()
            return store(environ, start_response)
        return sent(self._answer(request), environ, start_response)

    def _answer(self, request: Request) -> Response:
        match [request.method, *request.path_info.strip("/").split("/")]:
            case ["POST", "crowd", store, work] if store in self._stores:
                return self._crowd(Client(request.server_port, store), work)
            case ["POST", "goon"]:
                return self._let_go_on()
            case ["GET", "now"]:
                now = self._now(request)
                return Response(json_body=now, cache_control="no-store")
            case ["GET", name]:
                return _page(name or "index.html")
        return Response(status=404)

    # -- what lies in Redis ----------------------------------------------------------

    def _now(self, request: Request) -> dict[str, Any]:
        """What lies at the browser's keys, and at those that it says it had before."""
        own = self._ours.cookie.find(request.headers.get("Cookie", ""))
        key = _PREFIX + Address.of(own).record if own else None
        blob = request.cookies.get(naive.COOKIE)
        seen = [k for k in request.GET.getall("seen") if k.startswith(_PREFIX)]
        blob_key = naive.key_of(blob) if blob else None
        gates = [self.gates[name].waiting for name in ("none", "naive")]
        return {
            "ours": lies_at(self.redis, key, *seen),
            "naive": [naive.without_id(r) for r in lies_at(self.redis, blob_key)],
            "slow": min(gates),
        }

    def _let_go_on(self) -> Response:
        """Slow requests write what they have to write, and end; then the answer."""
        for gate in self.gates.values():
            gate.open()
        return Response(status=204)

    # -- crowds ----------------------------------------------------------------------

    def _crowd(self, client: Client, name: str) -> Response:
        work = WORKS.get(name)
        if not work:
            return Response(status=404)
        lines = self._lines(client, work)
        return Response(
            app_iter=(json.dumps(line).encode() + b"\n" for line in lines),
            content_type="application/x-ndjson",
            cache_control="no-store",
        )

    def _lines(self, client: Client, work: Work) -> Iterator[dict[str, Any]]:
        """One for each answer, and one for the session that is left."""
        with self._crowds:
            client.begin()
            for answer in client.crowd(work):
                yield answer._asdict()
            yield {"requests": REQUESTS, "kept": work.kept(client.show())}


def _refusal_of(request: Request) -> Response | None:
    """What other sites' pages get, also under a name of theirs that leads here."""
    hosts = [f"{name}:{request.server_port}" for name in _NAMES]
    origin = request.headers.get("Origin")
    is_own = origin in (None, f"http://{request.host}")
    is_own = is_own and request.headers.get("Sec-Fetch-Site", "none") in _OWN_SITES
    host = f"{request.domain}:{request.host_port}"
    if host not in hosts or not (is_own or request.method == "GET"):
        return Response(status=403)
    try:
        request.path_info, request.GET  # noqa: B018 - decoded here
    except UnicodeDecodeError:
        return Response(status=400)
    return None


def _page(name: str) -> Response:
    if name not in _TYPES:
        return Response(status=404)
    text = (resources.files(__package__) / "page" / name).read_bytes()
    response = Response(text, content_type=_TYPES[name], charset="utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.cache_control = "no-store"
    return response


def serve(port: int) -> tuple[Site, int]:
    """Serve a site, on this machine only, until the program ends; on which port.

    Args:
        port: 0 takes a free one.

    Raises:
        OSError: The port is taken.
    """
    site = Site()
    server = create_server(
        site, host="127.0.0.1", port=port, threads=_THREADS, connection_limit=200
    )
    threading.Thread(target=server.run, daemon=True).start()
    return site, int(server.effective_port)
