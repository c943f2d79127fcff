"""The seam to Redis: scripts by digest, batches in one round trip, errors as ours.

Whoever wants something of Redis makes a `Call` and has a `Wire` run it, alone or with
others: that is how a lock and a load, or a commit and a release, travel together while
`store` and `locks` stay strangers.

Every script may be run twice. So a batch is simply sent again, as source, where the
server knows a script no more (restart, SCRIPT FLUSH, failover), and a client may retry.
Each call bears a nonce that its script gives back first: an answer that belongs to
another call is seen, costs the connections and is handed to nobody.
"""

import binascii
import hashlib
import itertools
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from importlib import resources
from itertools import zip_longest
from typing import Any, Generic, NamedTuple, TypeVar

from .connect import client_for
from .errors import StoreUnavailable
from .events import Events
from .transport import (
    Command,
    HeldConnections,
    Unasked,
    Word,
    is_called,
    is_refusal,
    is_timeout,
    transport_for,
)

T = TypeVar("T")
_log = logging.getLogger("smartredis_wsgi")

# In what a refusal is called or says: redis-py's parser makes a name of the code.
_ELSEWHERE = re.compile(
    r"\b(READONLY|MASTERDOWN|LOADING|CLUSTERDOWN|(ReadOnly|MasterDown|ClusterDown)Error)\b"
)
_AT_ONCE, _SHORTLY = 0.05, 0.1  # of the timeout
_NONCE_BYTES = 6  # 8 characters; record.lua counts them
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


NO_SCRIPT = Script(b"", "")
_echoes = itertools.count(secrets.randbits(48))  # a fork has connections of its own


def in_ms(seconds: float) -> str:
    """Whole milliseconds, as an argument of a call."""
    return f"{round(seconds * 1000)}"


class Call(Generic[T]):
    """One run of a script: made by the store or a lock, sent by a wire, answered once.

    Args:
        read: Makes the result of the script's answer, the nonce taken off.
        echoes: The nonce goes in as the last argument and comes back first. Only a
            script that is not of this package does without.
        replicas: So many are to have what it writes, or it counts as not answered.
    """

    size = 1
    """How many replies it has."""

    def __init__(
        self,
        script: Script,
        keys: Sequence[bytes | str],
        arguments: Sequence[Word],
        read: Callable[[list[Any]], T],
        echoes: bool = True,
        replicas: int = 0,
    ) -> None:
        self.script, self.replicas = script, replicas
        self.nonce = binascii.b2a_base64(os.urandom(_NONCE_BYTES), newline=False)
        self._operands = f"{len(keys)}", *keys, *arguments, self.nonce
        self.commands: list[Command] = [("EVALSHA", script.digest, *self._operands)]
        """What to send to a server that knows the script."""
        self._read = read
        self._echoes = echoes

    @property
    def whole_commands(self) -> list[Command]:
        """What to send to any server."""
        return [("EVAL", self.script.source, *self._operands)]

    def takes(self, refusal: Exception) -> bool:  # noqa: ARG002
        """Whether it is an answer, as others are."""
        return False

    def answered(self, replies: Sequence[Any]) -> None:
        """Take the server's answer.

        Raises:
            ValueError: It is an answer to somebody else's question.
        """
        answer = replies[0]
        if self._echoes:
            if answer[0] != self.nonce:
                raise ValueError("not the answer to this call")
            answer = answer[1:]
        self.result: T = self._read(answer)


class Query(Call[T]):
    """Commands that read; ahead of them the server echoes the nonce.

    Where a script would do more than is needed they take less of the server's time. A
    refusal is an answer, too: what needs one must ask otherwise then.
    """

    def __init__(
        self, commands: Sequence[Command], read: Callable[[list[Any]], T]
    ) -> None:
        self.script, self.replicas = NO_SCRIPT, 0
        self.nonce, self.size = b"%012x" % next(_echoes), len(commands) + 1
        self.commands = [("ECHO", self.nonce), *commands]
        self._read = read

    @property
    def whole_commands(self) -> list[Command]:
        return self.commands

    def takes(self, refusal: Exception) -> bool:  # noqa: ARG002
        return True

    def answered(self, replies: Sequence[Any]) -> None:
        echo, *answers = replies
        if isinstance(echo, Exception):
            answers = [echo] * len(answers)
        elif echo != self.nonce:
            raise ValueError("not the answer to this call")
        self.result = self._read(answers)


class NotAsked(StoreUnavailable):
    """Redis was silent a moment ago, or the request's patience is used up."""


class Patience:
    """For how many seconds one request may still wait for Redis.

    Answers that come at once cost nothing, however many there are. Who has no time left
    after an answer may still ask shortly, so as to give back a lock. After a long pause
    there is new patience: a worker's session may be open for hours.
    """

    is_whole = True
    """Nothing is spent yet."""
    _is_answered = True
    _spent_at = 0.0

    def __init__(self, seconds: float) -> None:
        self.whole = self._left = seconds

    @property
    def seconds(self) -> float:
        if time.monotonic() - self._spent_at > self.whole:
            self._left = self.whole
        least = _SHORTLY * self.whole if self._is_answered else 0.0
        return max(self._left, least)

    def spend(self, seconds: float, is_answered: bool) -> None:
        self._is_answered, self.is_whole = is_answered, False
        if seconds > _AT_ONCE * self.whole:
            self._left -= seconds
            self._spent_at = time.monotonic()


class Wire:
    """One Redis, whatever client leads to it. Threads may share it."""

    def __init__(
        self, address: Any, timeout: float, events: Events | None = None
    ) -> None:
        """Check the address: a URL or a redis-py client. Costs no round trip.

        Args:
            timeout: The longest wait for an answer, in seconds.

        Raises:
            ConfigError: The address cannot serve.
        """
        self.address = address
        client = client_for(address, timeout)
        self.digests = "fakeredis" not in type(client).__module__  # redis.sha1hex
        self._timeout, self._at_once = timeout, _AT_ONCE * timeout
        self._transport = transport_for(client, timeout)
        # Whether several commands go to one server, whatever their keys.
        self.is_plain = isinstance(self._transport, HeldConnections)
        self._is_met = not self.is_plain
        self._events = events
        self._known = {NO_SCRIPT.digest}

    def run(self, *calls: Call[Any], patience: Patience | None = None) -> None:
        """Run the calls in their order; each holds its result then. One round trip.

        A server that lost the scripts costs one more.

        Args:
            patience: What the request has left; by itself it may wait for `timeout`.

        Raises:
            StoreUnavailable: No answer, an error, or an answer that is not ours. Or too
                few replicas have it in time; the calls hold their results then, too.
        """
        patience = patience or Patience(self._timeout)
        if not self._is_met:
            calls = (*calls, Query([("INFO", "memory")], self._meet))
        known, commands, replicas = self._known, [], 0
        for call in calls:
            is_known = call.script.digest in known
            commands += call.commands if is_known else call.whole_commands
            replicas = call.replicas or replicas
        replies = self._exchange(commands, patience, replicas)
        for reply in replies:
            if isinstance(reply, Exception):
                replies = self._once_more(calls, replies, patience, replicas)
                break
        having, at = replies.pop() if replicas else 0, 0
        try:
            for call in calls:
                call.answered(replies[at : at + call.size])
                known.add(call.script.digest)
                at += call.size
        except (ValueError, TypeError, LookupError):
            self._transport.drop()
            foreign = "Redis gave the answer to another question"
            failure = StoreUnavailable(f"{foreign}; the connection is closed")
            raise self._told(failure, name="foreign_reply") from None
        if having < replicas:
            told = f"{having} of {replicas} replicas told in time that they have it"
            late = StoreUnavailable(f"Redis has done it, and {told}; wait_replicas")
            raise self._told(late)

    def wait(self, key: str, seconds: float) -> None:
        """Wait for a push to a list, or for less. One round trip.

        Raises:
            StoreUnavailable: An error.
        """
        try:
            # Redis 6.2 takes less than a millisecond for 0, which is for ever.
            self._transport.wait(key, max(0.001, seconds))
        except Exception as failure:
            if not is_timeout(failure):
                raise self._told(_unavailable(failure)) from None

    def tell(self, call: Call[Any]) -> None:
        """Let the server know, whatever it answers, and also if it is silent.

        Raises:
            StoreUnavailable: It can't be reached.
        """
        try:
            self._transport.tell(call.whole_commands[0])
        except Exception as failure:
            raise self._told(_unavailable(failure)) from None

    def close(self) -> None:
        """Close connections that are idle; they are made again at need."""
        self._transport.drop()

    def _once_more(
        self,
        calls: Sequence[Call[Any]],
        replies: list[Any],
        patience: Patience,
        replicas: int,
    ) -> list[Any]:
        """Replies to the scripts' sources, where the server has forgotten a script."""
        if any(type(reply).__name__ == "NoScriptError" for reply in replies):
            commands = [command for call in calls for command in call.whole_commands]
            replies = self._exchange(commands, patience, replicas)
        takers = [call for call in calls for _ in range(call.size)]
        for call, reply in zip_longest(takers, replies):  # WAIT's reply is nobody's
            if isinstance(reply, Exception) and not (call and call.takes(reply)):
                if _ELSEWHERE.search(f"{type(reply).__name__} {reply}"):
                    self._transport.drop()  # others may lead to another master
                raise self._told(_unavailable(reply))
        return replies

    def _exchange(
        self, commands: list[Command], patience: Patience, replicas: int
    ) -> list[Any]:
        begun = time.monotonic()
        seconds = patience.whole if patience.is_whole else patience.seconds
        if seconds <= 0:
            late = NotAsked("Redis took too long for one request; timeout")
            raise self._told(late)
        try:
            replies = self._transport.exchange(commands, seconds, replicas)
        except BaseException as failure:
            patience.spend(time.monotonic() - begun, is_answered=False)
            if isinstance(failure, Unasked):
                unasked = NotAsked("Redis gave no answer a moment ago")
                raise self._told(unasked) from None
            if not isinstance(failure, self._transport.failures):
                raise  # it came from elsewhere, such as a signal
            raise self._told(_unavailable(failure), begun) from None
        waited = time.monotonic() - begun
        if waited > self._at_once or not patience.is_whole:
            patience.spend(waited, is_answered=True)
        return replies

    def _meet(self, answers: list[Any]) -> None:
        """Look at a server that is asked for the first time, if it lets us."""
        policy = re.search(rb"maxmemory_policy:(\S+)", _bytes(answers[0]))
        if policy and policy[1] != b"noeviction" and not self._is_met:
            _log.warning(
                "maxmemory-policy is %s: a server that is full ends sessions; "
                "noeviction keeps them",
                policy[1].decode(),
            )
        self._is_met = True

    def _told(
        self,
        failure: StoreUnavailable,
        since: float | None = None,
        name: str = "unavailable",
    ) -> StoreUnavailable:
        """The failure, of which the listener knows by now."""
        if self._events:
            self._events.tell(name, since=since)
        return failure


def _bytes(reply: object) -> bytes:
    return reply if isinstance(reply, bytes) else b""


def is_forbidden(reply: object) -> bool:
    """Whether the server refuses it to this user, or knows no such command."""
    is_unknown = is_refusal(reply) and "unknown command" in str(reply)
    return is_called(reply, "NoPermissionError") or is_unknown


def _unavailable(error: Exception) -> StoreUnavailable:
    """What went wrong, without Redis's own text: that may quote arguments."""
    code = _CODE.search(str(error)) if is_refusal(error) else None
    what = f" with {code[1]}" if code else ""
    return StoreUnavailable(f"Redis failed{what} ({type(error).__name__})")
