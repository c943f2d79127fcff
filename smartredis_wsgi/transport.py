"""How commands travel: on connections that are held here, or through any client.

Both answer a batch of commands in one round trip, and a refusal is an answer like any
other. Most of what a request costs is the client's own work around its socket. So with
a plain `redis.Redis`, Sentinel's too, connections like its own are made and held here,
beside its pool: redis-py's, with its TLS, its credentials, its parser. A client of
another kind, or of a class that does more, is asked itself: a Cluster's, fakeredis, an
instrumented one. Whatever it is, nobody waits for it any longer than `timeout`.
"""

import math
import os
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from .crew import Crew, Job, Overdue
from .silence import Late, Silence

Word = bytes | str | int | float
Command = Sequence[Word]

_IDLE_SECONDS = 60.0  # a connection that nobody needed for so long is closed
_NEARLY = 0.9  # of the timeout
_PATIENT = 0.7  # of what is left, for replicas; so the server's answer is in time
_LISTEN_SECONDS = 0.004  # so long each listens whether a silent server is back
_NEVER_DECODE = {"NEVER_DECODE": True}  # whatever the client was configured for


class Transport(Protocol):
    """A way to one Redis. Threads, greenlets and forks share it."""

    def exchange(
        self, commands: Sequence[Command], seconds: float = math.inf, replicas: int = 0
    ) -> list[Any]:
        """Replies in the commands' order; one round trip.

        A refusal is a reply. Any other failure is raised as it comes.

        Args:
            seconds: For how long to wait for them, at most as long as `timeout`.
            replicas: So many are waited for, too, if that does not take too long. The
                last reply is how many have what was written.
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
        timeout: The longest wait for an answer, in seconds.
    """
    kind = _Connections if _is_plain(client) else _AnyClient
    return kind(client, timeout)


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

    One on which no answer came in time is listened to while the server is silent.
    """

    def __init__(self, client: Redis, timeout: float) -> None:
        self._kind = client.connection_pool.connection_class
        self._options = _options(client, timeout)
        self._timeout = timeout
        self._idle: deque[tuple[float, Any]] = deque()
        self._telling = threading.Lock()
        self._silence = Silence(timeout)
        self._pid = os.getpid()
        weakref.finalize(self, _close_all, self._idle)

    def exchange(
        self, commands: Sequence[Command], seconds: float = math.inf, replicas: int = 0
    ) -> list[Any]:
        """As the interface; tries once more where a held connection turns out dead."""
        if replicas:
            commands = [*commands, _wait_for(replicas, min(seconds, self._timeout))]
        if self._pid != os.getpid():  # those of before the fork are the parent's
            self._idle.clear()
            self._silence, self._telling = Silence(self._timeout), threading.Lock()
            self._pid = os.getpid()
        self._silence.check()
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
        late = self._silence.late
        if not isinstance(late, _LateReply) or not late.connection.is_connected:
            self.exchange([command])
        elif self._telling.acquire(blocking=False):
            try:  # nobody will read the replies: the connection is never used again
                packed = late.connection.pack_command(*command)
                late.connection.send_packed_command(packed, check_health=False)
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
            self._silence.end()  # nobody there: that takes no time to find out
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
        now = self._silence.end()
        self._idle.append((now, connection))
        if self._is_oldest_idle(now):
            _close_oldest(self._idle)
        return replies

    def _fall_silent(self, connection: Any, begun: float) -> None:
        self.drop()
        late = _LateReply(connection) if connection else None
        if not self._silence.begin(begun, late) and connection:
            connection.disconnect()

    def _is_oldest_idle(self, now: float) -> bool:
        try:
            return self._idle[0][0] < now - _IDLE_SECONDS
        except IndexError:  # another thread has taken it
            return False


class _Hurry(RedisTimeoutError):
    """There was less time than the server may take: that does not make it silent."""


class _LateReply(NamedTuple):
    """On a connection on which no answer came in time."""

    connection: Any

    def has_come(self) -> bool:
        try:
            return self._is_heard()
        except Exception:  # it was closed, by the server or by another thread
            return True

    def _is_heard(self) -> bool:
        if not self.connection.is_connected:
            return True
        return bool(self.connection.can_read(_LISTEN_SECONDS))


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
    """A client that is asked itself: on its connections, as often as it likes.

    One that might wait for longer than we do is asked on a thread, which is left to it
    when our time is over. The nodes of a Cluster are silent one by one.
    """

    def __init__(self, client: Any, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._patience = _patience_of(client)
        self._crew = Crew()
        silent_for = min(timeout, self._patience)
        self._silences = defaultdict[str, Silence](lambda: Silence(silent_for))

    def exchange(
        self, commands: Sequence[Command], seconds: float = math.inf, replicas: int = 0
    ) -> list[Any]:
        key = _first_key(commands[0])

        def ask() -> list[Any]:
            if not replicas:
                return self._ask(commands)
            longest = min(seconds, self._timeout, self._reply_seconds())
            return self._ask_and_wait(commands, _wait_for(replicas, longest), key)

        replies: list[Any] = self._within(seconds, key, ask)
        return replies

    def wait(self, key: str, seconds: float) -> None:
        def listen() -> None:
            pause = min(self._timeout, self._reply_seconds()) / 2
            self._client.blpop([key], min(seconds, pause))

        self._within(self._timeout, key, listen)

    def tell(self, command: Command) -> None:
        self._crew.leave(lambda: self._ask([command]))

    def drop(self) -> None:
        if hasattr(self._client, "disconnect_connection_pools"):
            self._client.disconnect_connection_pools()
        else:
            self._client.connection_pool.disconnect(inuse_connections=False)

    def _within(self, seconds: float, key: Word, ask: Callable[[], Any]) -> Any:
        """What it answers, in time, unless it is silent."""
        silence = self._silences[self._node_of(key)]
        silence.check()
        begun, seconds = time.monotonic(), min(seconds, self._timeout)
        try:
            is_quick = self._patience <= seconds
            answer = ask() if is_quick else self._crew.run(ask, seconds)
        except Exception as failure:
            if not is_timeout(failure):
                silence.end()
            elif seconds >= min(_NEARLY * self._timeout, self._patience):
                silence.begin(begun, _late_answer(failure))
            raise
        silence.end()
        return answer

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            return [self._execute(commands[0])]
        return _at_once(self._client, commands)

    def _ask_and_wait(
        self, commands: Sequence[Command], wait: Command, key: Word
    ) -> list[Any]:
        """All on one connection: the replicas are asked for what it has written.

        A Cluster's client would send each command to a node of its own, and where one
        is redirected leave the other behind.
        """
        if not hasattr(type(self._client), "get_node_from_key"):
            return _at_once(self._client, [*commands, wait])
        try:
            return self._ask_node(key, [*commands, wait])
        except Exception:  # it is another's now: the client finds that out
            self._ask(commands)
            return self._ask_node(key, [*commands, wait])

    def _ask_node(self, key: Word, commands: Sequence[Command]) -> list[Any]:
        node = self._client.get_node_from_key(key)
        is_redis = hasattr(self._client, "get_redis_connection")
        name = "get_redis_connection" if is_redis else "get_valkey_connection"
        replies = _at_once(getattr(self._client, name)(node), commands)
        for reply in replies:
            if _is_called(reply, "AskError"):  # which a MovedError is, too
                raise reply
        return replies

    def _execute(self, command: Command) -> Any:
        try:
            return self._client.execute_command(*command, **_NEVER_DECODE)
        except Exception as failure:
            if is_refusal(failure):
                return failure
            raise

    def _node_of(self, key: Word) -> str:
        """The name of a Cluster's node, as far as it is known; nobody is asked."""
        find = getattr(type(self._client), "get_node_from_key", None)
        try:
            return str(find(self._client, key).name) if find else ""
        except Exception:  # each client's package has errors of its own
            return ""

    def _reply_seconds(self) -> float:
        """For how long the client waits for a reply."""
        seconds = self._client.get_connection_kwargs().get("socket_timeout")
        return math.inf if seconds is None else float(seconds)


def _patience_of(client: Any) -> float:
    """For how long it might wait for a dead server, in seconds, as far as it tells."""
    if "fakeredis" in type(client).__module__:
        return 0.0
    pool = vars(client).get("connection_pool")
    if type(pool).__name__ != "ConnectionPool":  # others wait for more than the server
        return math.inf
    options = pool.connection_kwargs
    retry = options.get("retry")
    repeats = options.get("retry_on_timeout") or options.get("retry_on_error")
    if repeats or (retry and getattr(retry, "_retries", True)):
        return math.inf
    seconds = options.get("socket_timeout")
    if seconds is None:
        return math.inf
    return float(max(seconds, options.get("socket_connect_timeout") or 0))


def _at_once(client: Any, commands: Sequence[Command]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command, **_NEVER_DECODE)
    replies: list[Any] = pipe.execute(raise_on_error=False)
    return replies


def _wait_for(replicas: int, seconds: float) -> Command:
    """The command that answers how many have what its connection has written."""
    return "WAIT", replicas, max(1, round(_PATIENT * seconds * 1000))


def _first_key(command: Command) -> Word:
    """Of a script's run; each has one."""
    return command[3] if len(command) > 3 else ""


class _LateAnswer(NamedTuple):
    """The answer, or failure, of a client that took too long."""

    job: Job

    def has_come(self) -> bool:
        return self.job.is_over and not is_timeout(self.job.failure)


def _late_answer(failure: Exception) -> Late | None:
    """Of a call that is not over yet."""
    job = failure.job if isinstance(failure, Overdue) else None
    return _LateAnswer(job) if job else None
