"""Connections that are held here, each with a deadline of ours."""

import math
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from .forks import begins_anew_in_forks
from .idle import Idle
from .link import Link, link_of
from .protocol import NEARLY, Command, is_refusal, wait_for
from .silence import Silence

_LISTEN_SECONDS = 0.004  # so long each listens whether a silent server is back
_LEAST_SECONDS = 0.001  # for who has used up all the time


class HeldConnections:
    """Connections of our own.

    A connection is either idle or with one exchange, which drops it unless all
    its replies were read: no answer is ever left for somebody else to find.

    One on which no answer came in time is listened to while the server is silent.
    """

    failures = (RedisError, OSError)

    def __init__(self, client: Redis, timeout: float) -> None:
        self._kind = client.connection_pool.connection_class
        self._options = connection_options(client, timeout)
        self._timeout, self._nearly = timeout, NEARLY * timeout
        self._idle = Idle()
        self.begin_anew()
        begins_anew_in_forks(self)

    def begin_anew(self) -> None:
        self._telling = threading.Lock()
        self._silence = Silence(self._timeout)

    def exchange(
        self, commands: Sequence[Command], seconds: float = math.inf, replicas: int = 0
    ) -> list[Any]:
        """As the interface; tries once more where a held connection turns out dead."""
        if replicas:
            commands = [*commands, wait_for(replicas, min(seconds, self._timeout))]
        if self._silence.until:
            self._silence.check()
        begun = time.monotonic()
        held = self._idle.take(begun)
        if held is not None:
            try:
                return self._ask(held, commands, seconds, begun)
            except RedisConnectionError:
                self.drop()  # the server has gone: so have the others
        end = begun + min(seconds, self._timeout)
        link = self._make(max(_LEAST_SECONDS, end - time.monotonic()))
        now = time.monotonic()
        return self._ask(link, commands, max(_LEAST_SECONDS, end - now), now)

    def wait(self, key: str, seconds: float) -> None:
        pause = min(seconds, self._timeout / 2)
        (reply,) = self.exchange([("BLPOP", key, f"{pause:f}")], self._timeout)
        if is_refusal(reply):
            raise reply

    def tell(self, command: Command) -> None:
        late = self._silence.late
        if not isinstance(late, _LateReply) or not late.link.is_open:
            self.exchange([command])
        elif self._telling.acquire(blocking=False):
            try:  # nobody will read the replies: the connection is never used again
                late.link.send(late.link.pack([command]))
            finally:
                self._telling.release()

    def drop(self) -> None:
        self._idle.close()

    def _make(self, seconds: float) -> Link:
        options = self._options | {"socket_connect_timeout": seconds}
        connection = self._kind(**options)
        begun = time.monotonic()
        try:
            connect(connection, begun + seconds)
        except RedisTimeoutError:
            if seconds >= self._nearly:
                self._fall_silent(None, begun)
            raise
        except RedisConnectionError:
            self._silence.end()  # nobody there: that takes no time to find out
            raise
        return link_of(connection)

    def _ask(
        self, link: Link, commands: Sequence[Command], seconds: float, begun: float
    ) -> list[Any]:
        try:
            # The socket's own deadline will do, unless there is much less time.
            if seconds >= self._nearly:
                replies = link.ask(commands)
            else:
                link.send(link.pack(commands))
                if not link.hears(seconds):
                    raise _Hurry
                replies = link.receive(len(commands))
        except _Hurry:
            link.close()
            raise
        except RedisTimeoutError:
            self._fall_silent(link, begun)
            raise
        except BaseException:
            link.close()
            raise
        self._silence.answered = now = time.monotonic()
        if self._silence.until:
            self._silence.end()
        self._idle.give(link, now)
        return replies

    def _fall_silent(self, link: Link | None, begun: float) -> None:
        self.drop()
        late = _LateReply(link) if link and link.is_open else None
        if not self._silence.begin(begun, late) and link:
            link.close()


class _Hurry(RedisTimeoutError):
    """There was less time than the server may take: that does not make it silent."""


class _LateReply(NamedTuple):
    """On a connection on which no answer came in time."""

    link: Link

    def has_come(self) -> bool:
        try:
            return not self.link.is_open or self.link.hears(_LISTEN_SECONDS)
        except Exception:  # it was closed, by the server or by another thread
            return True

    def close(self) -> None:
        self.link.close()


def connect(connection: Any, end: float) -> None:
    """Connect and shake hands, all of it in time: redis-py gives each step as much."""
    read_response = connection.read_response

    def read_in_time(*arguments: Any, **options: Any) -> Any:
        left = end - time.monotonic()
        if left <= 0:
            raise RedisTimeoutError("Timeout connecting to server")
        connection._sock.settimeout(left)
        return read_response(*arguments, **options)

    connection.read_response = read_in_time
    try:
        connection.connect()
    finally:
        del connection.read_response
    connection._sock.settimeout(connection.socket_timeout)


def connection_options(client: Redis, timeout: float) -> dict[str, Any]:
    """What the client makes connections of, but with deadlines and retries of ours."""
    given: dict[str, Any] = client.connection_pool.connection_kwargs
    ours = {
        "decode_responses": False,
        "protocol": 2,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
    }
    # Announced maintenance is for the pool: a connection that is cut is made anew here.
    kept = {k: v for k, v in given.items() if not k.startswith("maint_notifications")}
    return kept | ours
