"""Where the time of a read goes: each step has the ones before it inside."""

from __future__ import annotations

import select
import socket
from typing import Any

import floors
from driver import CONTENT, READ
from measure import Run
from peers import OURS
from redis import Redis
from world import World

from smartredis_wsgi import SessionStore
from smartredis_wsgi.transport import transport_for

from . import Alone, Maker
from .requests import request

NOTHING = b"return {ARGV[1]}"


def on_socket(*commands: list[Any]) -> Maker:
    """The commands' bytes on a blocking socket, until as many answers are there."""

    def make(world: World) -> Run:
        question = b"".join(_packed(world, command) for command in commands)
        return floors.on_socket(world, question, _size_of_answer)

    return make


def _size_of_answer(link: socket.socket, question: bytes) -> int:
    """All that comes within a moment: the answers are small."""
    link.sendall(question)
    size = len(link.recv(65536))
    while select.select([link], [], [], 0.05)[0]:
        size += len(link.recv(65536))
    return size


def plain(world: World) -> Run:
    """What would do for a small session: a mark of the answer, fields, time left."""
    key = _load_command(world)[3]
    return on_socket(["ECHO", "mark"], ["HGETALL", key], ["PTTL", key])(world)


def script(world: World) -> Run:
    return on_socket(["EVALSHA", world.client().script_load(NOTHING), 0, "x"])(world)


def load(world: World) -> Run:
    """The script that loads a session of ten small fields."""
    return on_socket(_load_command(world))(world)


def held_load(world: World) -> Run:
    """The same on a connection that is held, by way of redis-py's `Connection`."""
    transport = transport_for(Redis.from_url(world.url), 1.0)
    command = _load_command(world)
    return lambda: transport.exchange([tuple(command)])


def opened(world: World) -> Run:
    """The same as a session: opened, read, ended."""
    store = SessionStore.from_config(url=world.url)
    session_id = _stored(store)

    def run() -> None:
        with store.open(session_id) as session:
            READ.run(session)

    return run


def _stored(store: SessionStore) -> str:
    with store.open() as session:
        session.update(CONTENT)
        return session.id


def _load_command(world: World) -> list[Any]:
    """What the client of a session sends when it loads."""
    sent: list[Any] = []

    class Noting(Redis):
        def execute_command(self, *words: Any, **options: Any) -> Any:
            sent.append(words)
            return super().execute_command(*words, **options)

    with Noting.from_url(world.url) as client:
        store = SessionStore.from_config(client=client)
        session_id = _stored(store)
        for _ in range(2):  # the first time the script goes as source
            with store.open(session_id) as session:
                READ.run(session)
    return list(sent[-1])


def _packed(world: World, command: list[Any]) -> bytes:
    connection = world.client().connection_pool.get_connection()
    return b"".join(connection.pack_command(*command))


SCENARIOS = [
    Alone(
        "steps-of-a-read",
        "Where a read's time goes, step by step; redis-py's own read beside.",
        {
            "bare socket: PING": on_socket(["PING"]),
            floors.SOCKET: floors.socket_read,
            "bare socket: ECHO, HGETALL and PTTL": plain,
            "bare socket: a script that does nothing": script,
            "bare socket: our script that loads": load,
            "held connection: the same": held_load,
            "SessionStore.open, and a field read": opened,
            "ours, the whole request": request(OURS, READ),
            floors.READ: floors.read,
        },
        is_counted=False,
    )
]
