"""The seam to Redis: scripts by digest, batches in one round trip, errors as ours.

Whoever wants something of Redis makes a `Call` and has a `Wire` run it, alone or with
others: that is how a lock and a load, or a commit and a release, travel together while
`store` and `locks` stay strangers.

Every script may be run twice. So a batch is simply sent again, as source, where the
server knows a script no more (restart, SCRIPT FLUSH, failover), and a client may retry.
Each call bears a nonce that its script gives back first: an answer that belongs to
another call is seen, costs the connections and is handed to nobody.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Generic, NamedTuple, TypeVar

from redis.exceptions import (
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from .connect import client_for
from .errors import StoreUnavailable

T = TypeVar("T")
Text = bytes | str
Argument = bytes | str | int | float

_NEVER_DECODE = {"NEVER_DECODE": True}  # whatever the client was configured for
_FAILURES = (RedisError, RedisClusterException, OSError)
# Redis 6.2 puts a script's error into a sentence: the code may stand anywhere.
_CODE = re.compile(
    r"\b(OOM|READONLY|LOADING|MISCONF|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|NOPERM|NOAUTH|"
    r"WRONGPASS|WRONGTYPE|CROSSSLOT|TRYAGAIN|MOVED|ASK|BUSY|NOSCRIPT)\b"
)


class Script(NamedTuple):
    """A Lua script and the digest by which Redis knows it."""

    source: bytes
    digest: str

    @classmethod
    def named(cls, *names: str) -> "Script":
        """The script that stands in scripts/<name>.lua; or several, in one."""
        folder = resources.files(__package__) / "scripts"
        return cls.of(b"".join((folder / f"{n}.lua").read_bytes() for n in names))

    @classmethod
    def of(cls, source: bytes) -> "Script":
        return cls(source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


class Call(Generic[T]):
    """One run of a script: made by the store or a lock, sent by a wire, answered once.

    Args:
        read: Makes the result of the script's answer, the nonce taken off.
        echoes: The nonce goes in as the last argument and comes back first. Only a
            script that is not of this package does without.
    """

    def __init__(
        self,
        script: Script,
        keys: Sequence[Text],
        arguments: Sequence[Argument],
        read: Callable[[list[Any]], T],
        echoes: bool = True,
    ) -> None:
        self.script = script
        self.nonce = secrets.token_urlsafe(9).encode()
        self._operands = (len(keys), *keys, *arguments, self.nonce)
        self._read = read
        self._echoes = echoes

    def by_digest(self) -> tuple[Argument, ...]:
        return "EVALSHA", self.script.digest, *self._operands

    def by_source(self) -> tuple[Argument, ...]:
        return "EVAL", self.script.source, *self._operands

    def answered(self, answer: Any) -> None:
        """Take the server's answer.

        Raises:
            ValueError: It is an answer to somebody else's question.
        """
        parts = answer if isinstance(answer, list) else [answer]
        if self._echoes:
            if not parts or parts[0] != self.nonce:
                raise ValueError("not the answer to this call")
            parts = parts[1:]
        self.result: T = self._read(parts)


class Wire:
    """One Redis, whatever client leads to it. Threads may share it."""

    def __init__(self, address: Any, timeout: float) -> None:
        """Check the address: a URL or a redis-py client. Costs no round trip.

        Args:
            timeout: The longest wait for an answer, in seconds, for clients made here.

        Raises:
            ConfigError: The address cannot serve.
        """
        self.address = address
        self.client = client_for(address, timeout)
        self.digests = "fakeredis" not in type(self.client).__module__  # redis.sha1hex
        self._timeout = timeout
        self._known: set[str] = set()

    def run(self, *calls: Call[Any]) -> None:
        """Run the calls in their order; each holds its result then. One round trip.

        A server that lost the scripts costs one more.

        Raises:
            StoreUnavailable: No answer, an error, or an answer that is not ours.
        """
        replies = self._exchange(
            [c.by_digest() if self._knows(c) else c.by_source() for c in calls]
        )
        if any(isinstance(reply, NoScriptError) for reply in replies):
            replies = self._exchange([call.by_source() for call in calls])
        for reply in replies:
            if isinstance(reply, Exception):
                raise _unavailable(reply)
        self._known.update(call.script.digest for call in calls)
        self._deliver(calls, replies)

    def wait(self, key: str, seconds: float) -> None:
        """Wait for a push to a list. One round trip.

        A client that is less patient waits for as long as it does.

        Raises:
            StoreUnavailable: An error.
        """
        try:
            # Redis 6.2 takes less than a millisecond for 0, which is for ever.
            pause = max(0.001, min(seconds, self._timeout / 2))
            self.client.blpop([key], pause)
        except RedisTimeoutError:
            return
        except _FAILURES as failure:
            raise _unavailable(failure) from None

    def _knows(self, call: Call[Any]) -> bool:
        return call.script.digest in self._known

    def _exchange(self, commands: list[tuple[Argument, ...]]) -> list[Any]:
        """Replies in the commands' order; a refusal is a reply, a failure an error."""
        try:
            if len(commands) == 1:
                try:
                    return [self.client.execute_command(*commands[0], **_NEVER_DECODE)]
                except ResponseError as refusal:
                    return [refusal]
            pipe = self.client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command, **_NEVER_DECODE)
            replies: list[Any] = pipe.execute(raise_on_error=False)
            return replies
        except _FAILURES as failure:
            raise _unavailable(failure) from None

    def _deliver(self, calls: Sequence[Call[Any]], replies: list[Any]) -> None:
        try:
            for call, reply in zip(calls, replies, strict=True):
                call.answered(reply)
        except (ValueError, TypeError, IndexError):
            self._disconnect()
            raise StoreUnavailable(
                "Redis gave the answer to another question; the connection is closed"
            ) from None

    def _disconnect(self) -> None:
        if hasattr(self.client, "disconnect_connection_pools"):
            self.client.disconnect_connection_pools()
        else:
            self.client.connection_pool.disconnect(inuse_connections=False)


def _unavailable(error: Exception) -> StoreUnavailable:
    """What went wrong, without Redis's own text: that may quote arguments."""
    code = _CODE.search(str(error)) if isinstance(error, ResponseError) else None
    what = f" with {code[1]}" if code else ""
    return StoreUnavailable(f"Redis failed{what} ({type(error).__name__})")
