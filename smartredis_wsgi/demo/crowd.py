"""Many requests at once from one client, over HTTP, and what became of them."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPConnection
from typing import Any, NamedTuple

from .acts import TIMES

REQUESTS = 50


class Answer(NamedTuple):
    """What one request met. Its moments are seconds of the server's clock."""

    status: int
    arrived: float
    read: float
    stored: float


class Work(NamedTuple):
    """What each request of a crowd does.

    Args:
        code: As an application writes it.
        path: Of the act, with its number for a number of its own.
        kept: How much of the crowd's work is in the session.
    """

    code: str
    path: str
    kept: Callable[[dict[str, Any]], int]


WORKS = {
    "incr": Work('session.incr("n")', "incr/n", lambda kept: int(kept.get("n", 0))),
    "add": Work('session["n"] += 1', "add/n", lambda kept: int(kept.get("n", 0))),
    "append": Work(
        'session["l"].append(1)', "append/l", lambda kept: len(kept.get("l", ()))
    ),
    "set": Work(
        "session[another] = 1",
        "set/f{number}",
        lambda kept: sum(name.startswith("f") for name in kept),
    ),
}


class Client:
    """One client's requests to one store, with its cookie."""

    def __init__(self, port: int, store: str) -> None:
        self._port, self._store = port, store
        self.cookie = ""

    def begin(self) -> None:
        """Have a session, that the requests to come have in common."""
        self.post("set/user")

    def post(self, act: str, ready: Callable[[], object] = bool) -> Answer:
        """Connect, be ready, ask.

        Raises:
            OSError: No answer.
        """
        with self._asking("POST", act, ready) as answer:
            fresh = answer.getheader("Set-Cookie")
            self.cookie = fresh.partition(";")[0] if fresh else self.cookie
            moments = map(float, answer.getheader(TIMES, "0 0 0").split())
            return Answer(answer.status, *moments)

    def show(self) -> dict[str, Any]:
        with self._asking("GET", "show") as answer:
            return dict(json.loads(answer.read()))

    @contextlib.contextmanager
    def _asking(
        self, method: str, act: str, ready: Callable[[], object] = bool
    ) -> Iterator[Any]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        with contextlib.closing(connection):
            connection.connect()
            ready()
            path = f"/{self._store}/{act}"
            connection.request(method, path, headers={"Cookie": self.cookie})
            yield connection.getresponse()

    def crowd(self, work: Work) -> Iterator[Answer]:
        """All of a crowd's answers, as they come."""
        together = threading.Barrier(REQUESTS)
        acts = [work.path.format(number=number) for number in range(REQUESTS)]
        with ThreadPoolExecutor(REQUESTS) as pool:
            asked = [pool.submit(self.post, act, together.wait) for act in acts]
            for done in as_completed(asked):
                yield done.result()
