"""The interface of a transport, and how errors of any client are told apart."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol

import redis

Word = bytes | str
"""No number: hiredis crashes where a signal's exception comes while it packs one."""
Command = tuple[Word, ...]
NEARLY = 0.9  # of the timeout
_REDIS_PY = str(Path(redis.__file__).parent)
_PATIENT = 0.7  # of what is left, for replicas; so the server's answer is in time


class Transport(Protocol):
    """A way to one Redis. Threads, greenlets and forks share it."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What it raises where the server can't be had."""

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


def is_refusal(reply: object) -> bool:
    """Whether it is an error that the server replied."""
    return is_called(reply, "ResponseError")


def is_timeout(failure: object) -> bool:
    """Whether it says that no reply came in time."""
    return is_called(failure, "TimeoutError")


def is_called(error: object, name: str) -> bool:
    """Whether it is such an error, of whatever client's package."""
    return any(kind.__name__ == name for kind in type(error).__mro__)


def is_redis_pys(method: Any) -> bool:
    """Whether it is redis-py's own, and no tracer's in its place."""
    is_function = isinstance(method, FunctionType)
    return is_function and method.__code__.co_filename.startswith(_REDIS_PY)


def wait_for(replicas: int, seconds: float) -> Command:
    """The command that answers how many have what its connection has written."""
    return "WAIT", f"{replicas}", f"{max(1, round(_PATIENT * seconds * 1000))}"
