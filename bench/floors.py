"""What the least that could be done costs: no session at all, only the exchange.

Each of them works on a hash of the ten small fields.
"""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable

from driver import CONTENT
from measure import Run
from redis import Redis
from world import World

TTL = 1800

SOCKET = "bare socket: HGETALL"
READ = "redis-py: HGETALL"
READ_AND_WRITE = "redis-py: HGETALL, then HSET and EXPIRE"
INCR = "redis-py: HINCRBY and EXPIRE"


def socket_read(world: World) -> Run:
    """The bytes of an HGETALL, on a blocking socket, until the answer is whole."""
    name = _filled(world.client(), "socket")
    question = f"*2\r\n$7\r\nHGETALL\r\n${len(name)}\r\n{name}\r\n".encode()
    return on_socket(world, question, _size_of_answer)


def on_socket(
    world: World, question: bytes, size_of_answer: Callable[[socket.socket, bytes], int]
) -> Run:
    """A question's bytes, until an answer of the size of the first one is there."""
    link = world.socket()
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    size = size_of_answer(link, question)

    def run() -> None:
        link.sendall(question)
        left = size
        while left:
            left -= len(link.recv(65536))

    return run


def _size_of_answer(link: socket.socket, question: bytes) -> int:
    """One line for the whole, and two for each name and each value."""
    link.sendall(question)
    with link.makefile("rb") as answer:
        return sum(len(answer.readline()) for _ in range(1 + 4 * len(CONTENT)))


def read(world: World) -> Run:
    client = world.client()
    name = _filled(client, "read")
    return lambda: client.hgetall(name)


def read_and_write(world: World) -> Run:
    """The second round trip is a pipeline, without MULTI, which would cost more."""
    client, numbers = world.client(), itertools.count()
    name = _filled(client, "read-and-write")

    def run() -> None:
        client.hgetall(name)
        pipe = client.pipeline(transaction=False)
        pipe.hset(name, "seen", next(numbers))
        pipe.expire(name, TTL)
        pipe.execute()

    return run


def incr(world: World) -> Run:
    client = world.client()
    name = _filled(client, "incr")

    def run() -> None:
        pipe = client.pipeline(transaction=False)
        pipe.hincrby(name, "visits", 1)
        pipe.expire(name, TTL)
        pipe.execute()

    return run


def _filled(client: Redis, name: str) -> str:
    content = {field: json.dumps(value) for field, value in CONTENT.items()}
    client.hset(f"floor:{name}", mapping=content)
    return f"floor:{name}"
