"""Clients and connections that count, lose replies, hang or are dead."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from servers import HOST, Server

if TYPE_CHECKING:
    import pytest

Command = tuple[Any, ...]


def parse_commands(request: bytes) -> Iterator[Command]:
    """The commands in a RESP request: the name as upper-case str, then bytes.

    Raises ValueError where the request does not end with a command's end.
    """
    at = 0
    while at < len(request):
        count, at = _number(request, at)
        words: list[bytes] = []
        for _ in range(count):
            length, at = _number(request, at)
            words.append(request[at : at + length])
            at += length + 2
        if at > len(request):
            raise ValueError("a piece of a command")
        yield (words[0].decode().upper(), *words[1:])


def _number(request: bytes, at: int) -> tuple[int, int]:
    """Reads ``*3`` or ``$3`` at ``at``: the number, and where the next line is."""
    end = request.index(b"\r\n", at)
    return int(request[at + 1 : end]), end + 2


class Trips:
    """What a client has sent, leaving out the handshakes of its connections.

    One request, however many commands it carries, is one trip: a pipeline
    counts as one, a transaction too. A request counts once it is sent, so one
    that is repeated counts again, and one that could not be sent does not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.count = 0
            self.bytes_sent = 0
            self.commands: list[Command] = []

    def add(self, request: bytes) -> None:
        commands = list(parse_commands(request))
        with self._lock:
            self.count += 1
            self.bytes_sent += len(request)
            self.commands += commands

    @property
    def names(self) -> list[str]:
        """The names of the commands sent, in order: ``["GET", "MULTI", ...]``."""
        return [command[0] for command in self.commands]


class CountedConnection(redis.Connection):
    """A connection that reports to ``trips`` what it sends after its handshake."""

    def __init__(self, *, trips: Trips, **options: Any) -> None:
        self._trips = trips
        self._greeting = 0
        super().__init__(**options)

    @contextlib.contextmanager
    def _handshake(self) -> Iterator[None]:
        self._greeting += 1
        try:
            yield
        finally:
            self._greeting -= 1

    def on_connect(self, *arguments: Any, **options: Any) -> Any:
        with self._handshake():
            return super().on_connect(*arguments, **options)

    def on_connect_check_health(self, *arguments: Any, **options: Any) -> Any:
        with self._handshake():
            return super().on_connect_check_health(*arguments, **options)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        super().send_packed_command(command, check_health)
        if not self._greeting:
            self._trips.add(_joined(command))


def _joined(command: str | Iterable[bytes]) -> bytes:
    """A packed request as redis-py passes it, text or pieces, as bytes."""
    return command.encode() if isinstance(command, str) else b"".join(command)


class CountedRedis(redis.Redis):
    """A client with ``trips``; made by ``counting_client``."""

    trips: Trips


def counting_client(url: str, **options: Any) -> CountedRedis:
    """A new client for ``url`` that counts its trips; the caller closes it.

    It never retries unless ``options`` tell it to.
    """
    trips = Trips()
    client = CountedRedis.from_url(
        url,
        connection_class=CountedConnection,
        trips=trips,
        **{"retry": Retry(NoBackoff(), 0), **options},
    )
    assert isinstance(client, CountedRedis)
    client.trips = trips
    return client


class CustomRedis(redis.Redis):
    """A client of somebody's own class: whatever is asked goes through it."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        return super().execute_command(*words, **options)


def slow_connection(clock: pytest.MonkeyPatch, seconds: float) -> type:
    """A kind of connection whose replies take so long each; all else takes no time.

    `time.monotonic` says so from now on.
    """
    now = 0.0

    class Slow(redis.Connection):
        def read_response(self, *arguments: Any, **options: Any) -> Any:
            nonlocal now
            now += seconds
            return super().read_response(*arguments, **options)

    clock.setattr("time.monotonic", lambda: now)
    return Slow


class Stuffed(redis.Connection):
    """A connection that asks something else first, once it is stuffed with that."""

    stuffing: ClassVar[list[Any]] = []
    made = 0

    def connect(self) -> None:
        super().connect()
        Stuffed.made += 1

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        while self.stuffing:
            first = self.pack_command(*self.stuffing.pop())
            super().send_packed_command(first, check_health)
        super().send_packed_command(command, check_health)


def _close(connection: socket.socket | None) -> None:
    """Closes a socket, also waking up the thread that waits on it."""
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


class Fault(Enum):
    """What befalls the next request that passes a `FlakyProxy`, or its reply."""

    NO_REQUEST = "request lost"
    NO_REPLY = "reply lost"
    HALF_REPLY = "half a reply"
    LATE_REPLY = "reply late"


REPLY_FAULTS = (Fault.NO_REPLY, Fault.HALF_REPLY, Fault.LATE_REPLY)


class _Link:
    """One client's connection through the proxy, a thread for each direction."""

    HANDSHAKE = frozenset({b"HELLO", b"AUTH", b"CLIENT", b"SELECT"})
    FIRST_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n")

    def __init__(self, proxy: FlakyProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._upstream: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._in_handshake = False
        self._is_closed = False
        self._refused = b""
        self.has_lost = False

    def open(self) -> None:
        """Connects to the server; closes the client if nothing listens there."""
        try:
            self._upstream = socket.create_connection(self._proxy.target)
        except OSError:
            _close(self._client)
            return
        for pump in (self._forward_requests, self._forward_replies):
            self._threads.append(threading.Thread(target=pump, daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        self._is_closed = True
        _close(self._client)
        _close(self._upstream)

    @property
    def is_over(self) -> bool:
        return self._is_closed and not any(t.is_alive() for t in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _forward_requests(self) -> None:
        assert self._upstream is not None
        self._pump(self._client, self._pass_request)
        with contextlib.suppress(OSError):
            self._upstream.shutdown(socket.SHUT_WR)

    def _forward_replies(self) -> None:
        assert self._upstream is not None
        if self._pump(self._upstream, self._pass_reply):
            self._let_server_finish(self._upstream)
        self.close()

    def _pump(self, source: socket.socket, pass_on: Callable[[bytes], bool]) -> bool:
        """Copies until either side ends; true if ``pass_on`` refused a piece."""
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if self._proxy.is_black_hole:
                    self.has_lost = True
                elif not pass_on(piece):
                    return True
        return False

    def _pass_request(self, piece: bytes) -> bool:
        assert self._upstream is not None
        first = self.FIRST_COMMAND.match(piece)
        if first is not None:
            self._in_handshake = first[1].upper() in self.HANDSHAKE
        if not self._in_handshake:
            if self._proxy.refusal:
                self._refuse(piece)
                return True
            if self._proxy.takes(Fault.NO_REQUEST):
                return False
        self._upstream.sendall(piece)
        return True

    def _refuse(self, piece: bytes) -> None:
        """Answers whole requests only; a large one comes in several pieces."""
        self._refused += piece
        with contextlib.suppress(ValueError):
            count = len(list(parse_commands(self._refused)))
            self._refused = b""
            self._client.sendall(self._proxy.refusal * count)

    def _pass_reply(self, piece: bytes) -> bool:
        fault = None if self._in_handshake else self._proxy.takes(*REPLY_FAULTS)
        if fault is Fault.NO_REPLY:
            return False
        if fault is Fault.HALF_REPLY:
            self._client.sendall(piece[: len(piece) // 2])
            return False
        if fault is Fault.LATE_REPLY:
            self._proxy.delay()
        self._client.sendall(piece)
        return True

    def _let_server_finish(self, upstream: socket.socket) -> None:
        """Returns when the server has read all it was sent and has hung up.

        Closing at once would reset the connection, and with it might take
        requests from the server which it has not read yet.
        """
        with contextlib.suppress(OSError):
            upstream.shutdown(socket.SHUT_WR)
            while upstream.recv(65536):
                pass


class FlakyProxy:
    """A TCP proxy before a server, on its own port, that misbehaves on demand.

    Without a demand it forwards both ways, and closes the one side of a
    connection when the other side closes.
    """

    def __init__(self, server: Server) -> None:
        self.target = (HOST, server.port)
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._armed: Fault | None = None
        self._closed = threading.Event()
        self._late = 0.0
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.hits: Counter[Fault] = Counter()
        """How often each fault has befallen somebody so far."""
        self.is_black_hole = False
        self.is_cut = False
        self.refusal = b""
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> FlakyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def client(self, **options: Any) -> CustomRedis:
        """A new client by way of the proxy; it never retries by default."""
        options = {"retry": Retry(NoBackoff(), 0), **options}
        return CustomRedis(host=HOST, port=self.port, **options)

    def close(self) -> None:
        """Closes every connection and waits for the threads; idempotent."""
        if not self._closed.is_set():
            self._closed.set()
            self._wake()
            self._thread.join()
            self._listener.close()
        for link in self._links:
            link.close()
            link.join()

    def _wake(self) -> None:
        """Ends the wait for a connection, which closing the listener may not."""
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, self.port)).close()

    def drop_next_reply(self) -> None:
        """The next reply is swallowed, then the client's connection is closed.

        The client notices only after the server has executed everything which
        the proxy had passed on by then. Replies to HELLO, AUTH, CLIENT and
        SELECT pass: the loss hits the first reply to a real request.
        """
        self.arm(Fault.NO_REPLY)

    def arm(self, fault: Fault, late: float = 0.0) -> None:
        """The fault hits the next request, or reply, that is no handshake; once.

        A half reply, too, ends with the client's connection, and only after the
        server has executed the request. A lost request is never executed.

        Args:
            late: How many seconds a late reply is late.
        """
        with self._lock:
            self._armed, self._late = fault, late

    def disarm(self) -> bool:
        """Whether a fault was armed that has hit nobody; none is any more."""
        with self._lock:
            armed, self._armed = self._armed, None
            return armed is not None

    def takes(self, *faults: Fault) -> Fault | None:
        """The fault, one of these, that hits what is at hand; asked by the links."""
        with self._lock:
            if self._armed not in faults:
                return None
            fault, self._armed = self._armed, None
            self.hits[fault] += 1
            return fault

    @property
    def dropped(self) -> int:
        """How many replies were swallowed so far."""
        return self.hits[Fault.NO_REPLY]

    def delay(self) -> None:
        """Returns when a late reply may go on; asked by the links."""
        self._closed.wait(self._late)

    def black_hole(self) -> None:
        """From now on connections are accepted but nothing is passed on.

        A request that is under way in another thread may still get through.
        """
        self.is_black_hole = True

    def cut(self) -> None:
        """Closes all connections; new ones are closed at once."""
        with self._lock:
            self.is_cut = True
            links = list(self._links)
        for link in links:
            link.close()

    def refuse(self, text: str) -> None:
        """From now on each command but a handshake's gets this error as its reply."""
        self.refusal = f"-{text}\r\n".encode()

    def restore(self) -> None:
        """Ends ``black_hole()``, ``cut()`` and ``refuse()``.

        What was sent meanwhile is never delivered: the connections that lost
        something, or were opened meanwhile, are closed.
        """
        with self._lock:
            self.is_black_hole = self.is_cut = False
            self.refusal = b""
            lost = [link for link in self._links if link.has_lost]
        for link in lost:
            link.close()

    def _accept(self) -> None:
        """Takes connections until the proxy is closed."""
        while True:
            client, _ = self._listener.accept()
            if self._closed.is_set():
                client.close()
                return
            self._add(_Link(self, client))

    def _add(self, link: _Link) -> None:
        with self._lock:
            self._links = [link for link in self._links if not link.is_over]
            self._links.append(link)
            link.has_lost = self.is_black_hole
        if self.is_cut:
            link.close()
        elif not link.has_lost:
            link.open()


class _DeadConnection(redis.Connection):
    """A connection that can never be made."""

    def connect(self, *_: Any, **__: Any) -> NoReturn:
        raise redis.ConnectionError("the server is dead")

    connect_check_health = connect


class _DeadPipeline(Pipeline):
    """A pipeline whose ``execute()`` fails, even when it is empty."""

    def execute(self, raise_on_error: bool = True) -> NoReturn:  # noqa: ARG002
        self.reset()
        raise redis.ConnectionError("the server is dead")


class DeadRedis(redis.Redis):
    """A client of which everything raises ``redis.ConnectionError`` at once.

    That goes for ``execute_command``, for a pipeline's ``execute()`` and
    ``watch()``, and for pub/sub. It opens no socket. ``attempts`` counts the
    calls of ``execute_command`` and the pipelines asked for.
    """

    def __init__(self, **options: Any) -> None:
        options = {"retry": Retry(NoBackoff(), 0), **options}
        pool = redis.ConnectionPool(connection_class=_DeadConnection, **options)
        super().__init__(connection_pool=pool)
        self.attempts = 0

    def execute_command(self, *_: Any, **__: Any) -> NoReturn:
        self.attempts += 1
        raise redis.ConnectionError("the server is dead")

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Pipeline:
        self.attempts += 1
        return _DeadPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
