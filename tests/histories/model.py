"""What a field is when one request follows the other: the promise, as plain values.

A model is where a field begins, and what an operation makes of it. States can be
hashed: a list is a tuple here, and a dict the frozenset of its items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any, NamedTuple


class Illegal(Enum):
    """The operation cannot have had this result here."""

    ILLEGAL = "illegal"


ILLEGAL = Illegal.ILLEGAL
UNKNOWN = math.inf
"""When an operation returned of which nobody heard: later than everything."""


class Operation(NamedTuple):
    """What one request did to one field: from when on, and until when at the latest.

    Times are ns on the clock that all processes share. An operation of UNKNOWN outcome
    takes effect once, at any time after it was invoked, or never.
    """

    verb: str
    argument: Any
    result: Any
    invoked: int
    returned: float = UNKNOWN


class Model(NamedTuple):
    initial: Hashable
    step: Callable[[Any, Operation], Hashable]


def register(state: Any, operation: Operation) -> Hashable:
    """A value that is set blindly, or deleted; None is none."""
    match operation.verb:
        case "set":
            return operation.argument
        case "delete":
            return None
    return _read(state, operation)


def counter(state: int, operation: Operation) -> Hashable:
    """A number. To bump it is to write the sum that was made of what was read."""
    match operation.verb:
        case "add":
            return state + operation.argument
        case "bump":
            is_exact = operation.result == state
            return state + operation.argument if is_exact else ILLEGAL
    return _read(state, operation)


def log(state: tuple[Any, ...], operation: Operation) -> Hashable:
    """A list that is appended to."""
    if operation.verb == "append":
        return (*state, operation.argument)
    return _read(state, operation)


def nest(state: frozenset[tuple[str, Any]], operation: Operation) -> Hashable:
    """A dict, key by key."""
    match operation.verb:
        case "put":
            return frozenset((dict(state) | dict([operation.argument])).items())
        case "drop":
            return frozenset(item for item in state if item[0] != operation.argument)
    return _read(state, operation)


def _read(state: Any, operation: Operation) -> Hashable:
    if operation.verb != "read":
        raise ValueError(f"no such verb: {operation.verb}")
    return state if operation.result == state else ILLEGAL


MODELS = {
    "name": Model(None, register),
    "count": Model(0, counter),
    "log": Model((), log),
    "nest": Model(frozenset(), nest),
    "pair": Model(None, register),  # two fields that every request sets to the same
}
