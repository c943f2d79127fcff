"""How commands travel: on connections that are held here, or through any client.

Both answer a batch of commands in one round trip, and a refusal is an answer like any
other. Most of what a request costs is the client's own work around its socket. So with
a plain `redis.Redis`, Sentinel's too, connections like its own are made and held here,
beside its pool: redis-py's, with its TLS, its credentials, its parser. A client of
another kind, or of a class that does more, is asked itself: a Cluster's, fakeredis, an
instrumented one.
"""

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

Word = bytes | str | int | float
Command = Sequence[Word]

_IDLE_SECONDS = 60.0  # a connection that nobody needed for so long is closed
_NEARLY = 0.9  # of the timeout
_MOST_SILENCES = 5  # timeouts for which a server that was silent is not asked again
_LISTEN_SECONDS = 0.004  # so long each listens whether it is back
_NEVER_DECODE = {"NEVER_DECODE": True}  # whatever the client was configured for


class Transport(Protocol):
    """A way to one Redis. Threads, greenlets and forks share it."""

    def exchange(
        self, commands: Sequence[Command], seconds: float = math.inf
    ) -> list[Any]:
        """Replies in the commands' order; one round trip.

        A refusal is a reply. Any other failure is raised as it comes.

        Args:
            seconds: For how long to wait for them; a client of its own kind waits for
                as long as it does.
        """

    def wait(self, key: str, seconds: float) -> None:
        """Wait for a push to a list, at most as long as for a reply. One round trip.

        Its end without a push may be a timeout's, raised as it comes.
        """

    def tell(self, command: Command) -> None:
        """Let the server know, also a silent one: behind what it did not answer."""

    def drop(self) -> None:
        """Close all connections that nobody uses now; others are made at need."""


def transport_for(client: Any, timeout: float) -> Transport:
    """The fastest way that the client allows. No command is sent.

    Args:
        timeout: The longest wait for an answer on connections that are held here.
    """
    return _Connections(client, timeout) if _is_plain(client) else _AnyClient(client)


def is_refusal(reply: object) -> bool:
    """Whether it is an error that the server replied."""
    return _is_called(reply, "ResponseError")


def is_timeout(failure: object) -> bool:
    """Whether it says that no reply came in time."""
    return _is_called(failure, "TimeoutError")


def _is_called(error: object, name: str) -> bool:
    """Whether it is such an error, of whatever client's package."""
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _is_plain(client: Any) -> bool:
    """Whether all it does with a command is to send it on a connection of its pool."""
    kind = type(client)
    return (
        isinstance(client, Redis)
        and kind.execute_command is Redis.execute_command
        and kind.pipeline is Redis.pipeline
        and not {"execute_command", "pipeline"} & vars(client).keys()
        and type(client.connection_pool) in (ConnectionPool, SentinelConnectionPool)
        and "fakeredis" not in kind.__module__
    )


class _Connections:
    """Connections of our own: the one that was used last is used next.

    A connection is either in the stack or with one exchange, which drops it unless all
    its replies were read: no answer is ever left for somebody else to find.

    A server that gave no answer in time, to anybody, is *silent*: the next ones do not
    wait for it again, until the late answer comes, or for some time. Then one tries, on
    a connection of its own. Each try in vain makes the time longer.
    """

    _silent: "_Silence | None" = None
    _silences = 0  # one after the other
    _answered = 0.0  # when the last exchange had its replies

    def __init__(self, client: Redis, timeout: float) -> None:
        self._kind = client.connection_pool.connection_class
        self._options = _options(client, timeout)
        self._timeout = timeout
        self._idle: deque[tuple[float, Any]] = deque()
        self._telling = threading.Lock()
        self._pid = os.getpid()
        weakref.finalize(self, _close_all, self._idle)

    def exchange(
        self, commands: Sequence[Command], seconds: float = math.inf
    ) -> list[Any]:
        """As the interface; tries once more where a held connection turns out dead."""
        if self._pid != os.getpid():  # those of before the fork are the parent's
            self._idle.clear()
            self._silent, self._telling = None, threading.Lock()
            self._pid = os.getpid()
        if self._silent:
            self._break_silence(self._silent)
        held = self._take()
        if held is not None:
            try:
                return self._ask(held, commands, seconds)
            except RedisConnectionError:
                self.drop()  # the server has gone: so have the others
        return self._ask(self._make(), commands, seconds)

    def wait(self, key: str, seconds: float) -> None:
        pause = min(seconds, self._timeout / 2)
        (reply,) = self.exchange([("BLPOP", key, pause)], self._timeout)
        if is_refusal(reply):
            raise reply

    def tell(self, command: Command) -> None:
        connection = self._silent and self._silent.connection
        if connection is None or not connection.is_connected:
            self.exchange([command])
        elif self._telling.acquire(blocking=False):
            try:  # nobody will read the replies: the connection is never used again
                packed = connection.pack_command(*command)
                connection.send_packed_command(packed, check_health=False)
            finally:
                self._telling.release()

    def drop(self) -> None:
        _close_all(self._idle)

    def _take(self) -> Any:
        try:
            since, connection = self._idle.pop()
        except IndexError:
            return None
        if since < time.monotonic() - _IDLE_SECONDS:  # and so are the others
            connection.disconnect()
            self.drop()
            return None
        return connection

    def _make(self) -> Any:
        connection = self._kind(**self._options)
        begun = time.monotonic()
        try:
            connection.connect()
        except RedisTimeoutError:
            self._fall_silent(None, begun)
            raise
        except RedisConnectionError:
            self._silent = None  # nobody there: that takes no time to find out
            raise
        return connection

    def _ask(
        self, connection: Any, commands: Sequence[Command], seconds: float
    ) -> list[Any]:
        begun = time.monotonic()
        try:
            packed = [part for c in commands for part in connection.pack_command(*c)]
            connection.send_packed_command([b"".join(packed)], check_health=False)
            # The socket's own deadline will do, unless there is much less time.
            if seconds < _NEARLY * self._timeout and not connection.can_read(seconds):
                raise _Hurry
            replies = [_reply(connection) for _ in commands]
        except _Hurry:
            connection.disconnect()
            raise
        except RedisTimeoutError:
            self._fall_silent(connection, begun)
            raise
        except BaseException:
            connection.disconnect()
            raise
        self._silent, self._silences, self._answered = None, 0, time.monotonic()
        self._idle.append((self._answered, connection))
        if self._is_oldest_idle(self._answered):
            _close_oldest(self._idle)
        return replies

    def _fall_silent(self, connection: Any, begun: float) -> None:
        self.drop()
        if self._answered < begun:
            self._silences = min(self._silences + 1, _MOST_SILENCES)
            until = time.monotonic() + self._silences * self._timeout
            heard = self._silent and self._silent.connection
            self._silent = _Silence(connection or heard, until)
        elif connection:
            connection.disconnect()

    def _break_silence(self, silence: "_Silence") -> None:
        """Go on, if the late answer has come or it is time to try again.

        Raises:
            TimeoutError: It is not.
        """
        now = time.monotonic()
        if now < silence.until and not silence.has_ended():
            raise Unasked
        self._silent = _Silence(silence.connection, now + self._timeout)  # for others

    def _is_oldest_idle(self, now: float) -> bool:
        try:
            return self._idle[0][0] < now - _IDLE_SECONDS
        except IndexError:  # another thread has taken it
            return False


class Unasked(RedisTimeoutError):
    """The server is silent, so that it was not asked at all."""


class _Hurry(RedisTimeoutError):
    """There was less time than the server may take: that does not make it silent."""


class _Silence(NamedTuple):
    """No answer came on the connection, and nobody is to wait again until then."""

    connection: Any
    until: float

    def has_ended(self) -> bool:
        try:
            return self._hears()
        except Exception:  # it was closed, by the server or by another thread
            return True

    def _hears(self) -> bool:
        connection = self.connection
        if connection is None:
            return False
        if not connection.is_connected:
            return True
        return bool(connection.can_read(_LISTEN_SECONDS))


def _options(client: Redis, timeout: float) -> dict[str, Any]:
    """What the client makes connections of, but with deadlines and retries of ours."""
    given: dict[str, Any] = client.connection_pool.connection_kwargs
    ours = {
        "decode_responses": False,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
    }
    # Announced maintenance is for the pool: a connection that is cut is made anew here.
    kept = {k: v for k, v in given.items() if not k.startswith("maint_notifications")}
    return kept | ours


def _close_all(connections: deque[tuple[float, Any]]) -> None:
    while connections:
        _close_oldest(connections)


def _close_oldest(connections: deque[tuple[float, Any]]) -> None:
    try:
        _, connection = connections.popleft()
    except IndexError:  # another thread was faster
        return
    connection.disconnect()


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(
            disable_decoding=True, disconnect_on_error=False
        )
    except ResponseError as refusal:
        return refusal


class _AnyClient:
    """A client that is used as it is: its connections, its retries, its deadlines."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def exchange(
        self,
        commands: Sequence[Command],
        seconds: float = math.inf,  # noqa: ARG002
    ) -> list[Any]:
        if len(commands) == 1:
            return [self._execute(commands[0])]
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **_NEVER_DECODE)
        replies: list[Any] = pipe.execute(raise_on_error=False)
        return replies

    def wait(self, key: str, seconds: float) -> None:
        self._client.blpop([key], min(seconds, self._patience() / 2))

    def tell(self, command: Command) -> None:
        self.exchange([command])

    def drop(self) -> None:
        if hasattr(self._client, "disconnect_connection_pools"):
            self._client.disconnect_connection_pools()
        else:
            self._client.connection_pool.disconnect(inuse_connections=False)

    def _execute(self, command: Command) -> Any:
        try:
            return self._client.execute_command(*command, **_NEVER_DECODE)
        except Exception as failure:
            if is_refusal(failure):
                return failure
            raise

    def _patience(self) -> float:
        """For how long the client waits for a reply, in seconds."""
        seconds = self._client.get_connection_kwargs().get("socket_timeout")
        return math.inf if seconds is None else float(seconds)
