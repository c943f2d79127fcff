"""A client that follows each redirect at once, on connections that it keeps.

It has the headers of an answer, and asks for what it has just written before it has
read the body, on another connection, which is open already where the server keeps it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse

from apps import SHAPES
from servers import HOST

SECONDS = 30.0
REDIRECTS_PER_SESSION = 20

WAYS = [("POST", shape.__name__) for shape in SHAPES]
WAYS += [("POST", "a_file_on_disk"), ("HEAD", "a_list"), ("HEAD", "a_late_generator")]
"""The method, and the kind of body."""


@dataclass
class Tally:
    """How many redirects were followed, how many reads were stale, by their ways."""

    followed: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.followed.update(other.followed)
        self.stale.update(other.stale)


class Client:
    """One client of the site on ``port``; now and then it is a new one."""

    def __init__(self, port: int) -> None:
        self._writing = HTTPConnection(HOST, port, timeout=SECONDS)
        self._reading = HTTPConnection(HOST, port, timeout=SECONDS)
        self._cookie = ""
        self.tally = Tally()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._writing.close()
        self._reading.close()

    def follow(self, first: int, count: int) -> Tally:
        """So many redirects, the numbers from ``first`` on, in each way by turns."""
        for number in range(first, first + count):
            if number % REDIRECTS_PER_SESSION == 0:
                self._cookie = ""
            method, body = WAYS[number % len(WAYS)]
            way = body if method == "POST" else f"{body}, {method}"
            self.tally.followed[way] += 1
            self.tally.stale[way] += self._follow(method, body, number) != number
        return self.tally

    def _follow(self, method: str, body: str, number: int) -> int:
        """What is shown to who has just written this number."""
        answer = self._ask(self._writing, method, f"/{body}?{number}")
        assert answer.status in (204, 303), answer.status
        place = answer.headers["Location"]
        self._cookie = answer.headers.get("Set-Cookie", self._cookie).partition(";")[0]
        shown = self._ask(self._reading, "GET", place)
        assert shown.status == 200, shown.status
        read = int(shown.read())
        answer.read()
        return read

    def _ask(self, connection: HTTPConnection, method: str, path: str) -> HTTPResponse:
        connection.request(method, path, headers={"Cookie": self._cookie})
        return connection.getresponse()
