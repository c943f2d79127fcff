"""Cookie headers that no browser sends, through the whole middleware."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple

from doubles import CountedRedis
from fuzz.targets import split_ids

from smartredis_wsgi import SessionMiddleware
from smartredis_wsgi.config import Config
from smartredis_wsgi.cookie import Cookie
from smartredis_wsgi.ids import new_id

from .control import NAME, Trusting

Find = Callable[[str], object]
SIZES = 1024, 4096, 16384, 65536
_PIECES = [
    NAME,
    f"{NAME}=",
    ";",
    "; ",
    ",",
    ", ",
    "=",
    '"',
    "\\",
    '\\"',
    " ",
    "\t",
    "\0",
]
_PIECES += ["a=b", 'a="b;c"', "$Version=1", "é=ü", "\r\n", "{", "}", "[", "]", "\x7f"]
_PIECES += ["__host-sid=", "x__Host-sid=", "Path=/", "\\075", '{"json":1}', "b@d=1"]
WHOLE = f"{NAME}=" + "a" * 59
ONE_PIECE = [*_PIECES, f"{WHOLE} ", f"; {WHOLE}.", f";{WHOLE[:-1]};", 'a="b\\']
"""Of each a whole header is made."""


def hostile(count: int, seed: int, signed: bool) -> Iterator[str]:
    """Headers of which none holds an id that is to be asked for.

    Args:
        signed: Ids are well-formed, too, and some have a signature; no right one.
    """
    chance = random.Random(seed)
    while count:
        header = _header(chance, signed)
        if signed or not split_ids(header):
            count -= 1
            yield header


def _header(chance: random.Random, signed: bool) -> str:
    size = chance.choice((4, 16, 64))
    words = chance.choices(_PIECES, k=size)
    for _ in range(size // 4):
        words[chance.randrange(size)] = _id_like(chance, signed)
        words[chance.randrange(size)] = chr(chance.randrange(256)) * chance.randrange(9)
    return "".join(words)


def _id_like(chance: random.Random, signed: bool) -> str:
    value = new_id()
    if signed:
        return f";{NAME}={value}.{value[:43]};" if chance.random() < 0.5 else value
    cut = chance.randrange(59)
    return f";{NAME}={value[:cut]}{chance.choice(('', '=', '%', value))};"


class Tally(NamedTuple):
    """What became of so many headers."""

    headers: int
    failures: int  # responses of 5xx, and exceptions, which servers make one of
    commands: int


def serve(app: Any, client: CountedRedis, headers: Iterable[str]) -> Tally:
    """Serve a request for each header; the application reads its session."""
    client.trips.reset()
    count = failures = 0

    def start(status: str, _: Any) -> Callable[[bytes], object]:
        nonlocal failures
        failures += status.startswith("5")
        return lambda _: None

    for header in headers:
        count += 1
        try:
            app({"REQUEST_METHOD": "GET", "HTTP_COOKIE": header}, start)
        except CookieError:
            failures += 1
    return Tally(count, failures, len(client.trips.commands))


def reads(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    dict(environ["smartredis.session"])
    start_response("200 OK", [])
    return [b""]


def attack(client: CountedRedis, count: int, seed: int, secret: str | None) -> Tally:
    app = SessionMiddleware(reads, client=client, secret=secret)
    return serve(app, client, hostile(count, seed, signed=bool(secret)))


def attack_control(client: CountedRedis, count: int, seed: int, signed: bool) -> Tally:
    return serve(Trusting(reads, client), client, hostile(count, seed, signed))


# -- time ----------------------------------------------------------------------------


def slowest(finders: Iterable[Find], size: int, tries: int) -> float:
    """The most seconds of CPU that any finder needs for a header of one piece."""
    found = 0.0
    for finder in finders:
        for piece in ONE_PIECE:
            header = f'{NAME}="' + (piece * size)[: size - 12] + '"'
            found = max(found, min(_timed(finder, header) for _ in range(tries)))
    return found


def _timed(finder: Find, header: str) -> float:
    begun = time.thread_time()
    with suppress(CookieError):
        finder(header)
    return time.thread_time() - begun


def ours() -> list[Find]:
    """Without a secret, and with one."""
    options = ({}, {"secret": "s"})
    return [Cookie(Config.build(url="redis://nowhere", **o)).find for o in options]


def theirs() -> list[Find]:
    return [SimpleCookie]
