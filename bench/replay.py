"""Clients that answer from memory, so that what is left is the in-process cost."""

from __future__ import annotations

import socket
from typing import Any

from redis import Connection, ConnectionPool, Redis

_ECHO, _ECHO_SIZE = b"*2\r\n$4\r\nECHO\r\n$12\r\n", 12
_NONCE_SIZE, _ENOUGH = 8, 64  # bytes of a question that tell it from others
_MOST_KINDS = 8


class Replay(Connection):
    """Stands in for a connection, at whose socket scripts and queries are asked.

    The first question of each kind goes to the server; its answer is kept in a dict,
    and later ones get it again with the nonce that each of them expects. So every load
    finds the same record and every commit is the first one after it.
    """

    def connect(self) -> None:
        super().connect()
        self._sock = _ReplaySocket(self._sock)


def replay(url: str) -> Redis:
    return Redis(connection_pool=ConnectionPool.from_url(url, connection_class=Replay))


class _ReplaySocket:
    """Answers at `recv` what it was asked before."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._answers: dict[bytes, list[bytes]] = {}
        self._answer = b""

    def sendall(self, question: bytes) -> None:
        if question.startswith(_ECHO):
            kind, nonce = _ECHO, question[len(_ECHO) : len(_ECHO) + _ECHO_SIZE]
        else:
            kind, nonce = question[:_ENOUGH], question[-_NONCE_SIZE - 2 : -2]
        if kind not in self._answers:
            self._link.sendall(question)
            self._answers[kind] = self._link.recv(65536).split(nonce)
            if len(self._answers) > _MOST_KINDS:
                raise RuntimeError("the stub takes each question for a new one")
        self._answer = nonce.join(self._answers[kind])

    def recv(self, _: int) -> bytes:
        return self._answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


class Memory(Redis):
    """Stands in for a redis-py client of which whole values are asked: a dict."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self._values.get(name)

    def exists(self, name: str) -> bool:
        return name in self._values

    def set(self, name: str, value: bytes, **_: Any) -> bool:
        self._values[name] = value
        return True

    def setex(self, name: str, time: int, value: bytes) -> bool:  # noqa: ARG002
        return self.set(name, value)

    def delete(self, name: str) -> int:
        return int(self._values.pop(name, None) is not None)
