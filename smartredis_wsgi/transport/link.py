"""One connection: redis-py makes it, and it is asked by its methods or at its socket.

redis-py opens it, with its TLS, its credentials and its database. After that it is
bytes out and replies in, and most of what an exchange costs in process is what lies in
between. So where the connection's class does nothing of its own with them, and hiredis
is installed, they go straight between the socket and hiredis's parser. Any other
connection is asked by its own methods.
"""

import math
import select
import socket
import time
from collections.abc import Sequence
from ssl import SSLWantReadError
from types import BuiltinFunctionType
from typing import Any

from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from .protocol import Command, is_redis_pys

try:
    import hiredis
except ImportError:  # an extra of redis-py's
    hiredis = None  # type: ignore[assignment]

_packed: Any = getattr(hiredis, "pack_command", None)  # since 3.0
_REFUSALS = {"NOSCRIPT": NoScriptError, "NOPERM": NoPermissionError}
_PIECE = 65536
_poll: Any = getattr(select, "poll", None)
_can_poll = isinstance(_poll, BuiltinFunctionType)  # gevent's own would let others run
_MORE = object()  # than what was read is needed for a reply


class Link:
    """A connection that is asked by its own methods. One thread at a time.

    What it raises is redis-py's `ConnectionError` or `TimeoutError`; whoever gets one
    has to close it, as there may be replies to come.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Replies in the commands' order, within the connection's timeout."""
        self.send(self.pack(commands))
        return self.receive(len(commands))

    def pack(self, commands: Sequence[Command]) -> bytes:
        packed = self._connection.pack_command
        return b"".join([part for command in commands for part in packed(*command)])

    def send(self, packed: bytes) -> None:
        self._connection.send_packed_command([packed], check_health=False)

    def receive(self, count: int = 1) -> list[Any]:
        """So many replies, within the connection's timeout; a refusal is one."""
        replies: list[Any] = []
        end = time.monotonic() + (self._connection.socket_timeout or math.inf)
        while len(replies) < count:
            if time.monotonic() > end:
                raise RedisTimeoutError("Timeout reading from socket")
            replies.append(self._reply())
        return replies

    def _reply(self) -> Any:
        try:
            return self._connection.read_response(
                disable_decoding=True, disconnect_on_error=False
            )
        except ResponseError as refusal:
            return refusal

    def hears(self, seconds: float) -> bool:
        """Whether something has come, or comes within so many seconds."""
        return bool(self._connection.can_read(seconds))

    @property
    def is_open(self) -> bool:
        return self._connection._sock is not None  # public since redis-py 8.0

    def close(self) -> None:
        self._connection.disconnect()


class SocketLink(Link):
    """The same at the socket, without redis-py in between."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._socket = connection._sock
        self._timeout = self._socket.gettimeout()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=_refusal, notEnoughData=_MORE
        )

    def pack(self, commands: Sequence[Command]) -> bytes:
        return b"".join(map(_packed, commands))

    def send(self, packed: bytes) -> None:
        try:
            self._socket.sendall(packed)
        except OSError as failure:
            self.close()  # lest something follows the half of a command
            raise _told(failure) from None

    def receive(self, count: int = 1) -> list[Any]:
        replies, next_reply = [], self._reader.gets
        begun, is_begun = time.monotonic(), False
        for _ in range(count):
            while (reply := next_reply()) is _MORE:
                if not is_begun:
                    self._read()
                    is_begun = True
                elif not self._hears_until(begun + self._timeout):
                    raise RedisTimeoutError("Timeout at the socket")
            replies.append(reply)
        return replies

    def _hears_until(self, end: float) -> bool:
        left = end - time.monotonic()
        return left > 0 and self.hears(left)

    def hears(self, seconds: float) -> bool:
        if not seconds and _is_quiet(self._socket):
            return False
        self._socket.settimeout(seconds)
        try:
            self._read()
        except (RedisTimeoutError, BlockingIOError, SSLWantReadError):
            return False
        finally:
            self._socket.settimeout(self._timeout)
        return True

    def _read(self) -> None:
        try:
            piece = self._socket.recv(_PIECE)
        except (BlockingIOError, SSLWantReadError):
            raise
        except OSError as failure:
            raise _told(failure) from None
        if not piece:
            raise RedisConnectionError("Connection closed by server.")
        self._reader.feed(piece)


def _is_quiet(link: socket.socket) -> bool:
    """Whether nothing is there to read, if a poll can tell; reading takes longer."""
    if not _can_poll:
        return False
    waiting = _poll()
    waiting.register(link, select.POLLIN)
    return not waiting.poll(0)


def link_of(connection: Any) -> Link:
    """The fastest link that an open connection's class allows."""
    kind = type(connection)
    is_plain = (
        _packed is not None
        and kind.send_packed_command is AbstractConnection.send_packed_command
        and kind.read_response is AbstractConnection.read_response
        and is_redis_pys(kind.send_packed_command)
        and is_redis_pys(kind.read_response)
    )
    return SocketLink(connection) if is_plain else Link(connection)


def _refusal(text: str) -> ResponseError:
    return _REFUSALS.get(text.partition(" ")[0], ResponseError)(text)


def _told(failure: OSError) -> RedisConnectionError | RedisTimeoutError:
    """The failure, as redis-py would tell it."""
    if isinstance(failure, TimeoutError):
        return RedisTimeoutError("Timeout at the socket")
    return RedisConnectionError(f"Error at the socket ({type(failure).__name__})")
