"""A client that is asked itself, for no longer than we have time."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .crew import Crew, Job, Overdue
from .protocol import NEARLY, Command, Word, is_called, is_refusal, is_timeout, wait_for
from .silence import Late, Silence

_NEVER_DECODE = {"NEVER_DECODE": True}  # whatever the client was configured for


class AnyClient:
    """A client that is asked itself: on its connections, as often as it likes.

    One that might wait for longer than we do is asked on a thread, which is left to it
    when our time is over. The nodes of a Cluster are silent one by one.
    """

    failures = (Exception,)  # each client's package has errors of its own

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
            return self._ask_and_wait(commands, wait_for(replicas, longest), key)

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
            elif seconds >= min(NEARLY * self._timeout, self._patience):
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
            if is_called(reply, "AskError"):  # which a MovedError is, too
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


def _first_key(command: Command) -> Word:
    """Of a script's run; each has one."""
    return command[3] if len(command) > 3 else ""


class _LateAnswer(NamedTuple):
    """The answer, or failure, of a client that took too long."""

    job: Job

    def has_come(self) -> bool:
        return self.job.is_over and not is_timeout(self.job.failure)

    def close(self) -> None:
        """Its thread ends by itself."""


def _late_answer(failure: Exception) -> Late | None:
    """Of a call that is not over yet."""
    job = failure.job if isinstance(failure, Overdue) else None
    return _LateAnswer(job) if job else None
