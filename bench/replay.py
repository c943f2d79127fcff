"""Clients that answer from memory, so that what is left is the in-process cost."""

from __future__ import annotations

import hashlib
from typing import Any

from redis import Redis


class Replay:
    """Stands in for a redis-py client of which scripts are asked.

    The first run of each script goes to the server; its answer is kept in a dict, and
    later runs get it again with the nonce that each of them expects. So every load
    finds the same record and every commit is the first one after it.

    Args:
        server: A redis-py client.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._answers: dict[object, Any] = {}

    def execute_command(self, name: str, script: Any, *operands: Any, **_: Any) -> Any:
        key = script if name == "EVALSHA" else hashlib.sha1(script).hexdigest()
        if key not in self._answers:
            answer = self._server.execute_command(name, script, *operands)
            self._answers[key] = answer
            return answer
        answer, nonce = self._answers[key], operands[-1]
        return [nonce, *answer[1:]] if isinstance(answer, list) else answer

    def pipeline(self, **_: Any) -> Pipeline:
        return Pipeline(self)


class Pipeline:
    """Answers at `execute` what it was asked before."""

    def __init__(self, client: Replay) -> None:
        self._client = client
        self._answers: list[Any] = []

    def execute_command(self, *command: Any, **options: Any) -> Pipeline:
        self._answers.append(self._client.execute_command(*command, **options))
        return self

    def execute(self, **_: Any) -> list[Any]:
        return self._answers


class Memory(Redis):
    """Stands in for a redis-py client of which whole values are asked: a dict."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self._values.get(name)

    def exists(self, name: str) -> bool:
        return name in self._values

    def set(self, name: str, value: bytes, **_: Any) -> bool:
        self._values[name] = value
        return True

    def setex(self, name: str, time: int, value: bytes) -> bool:  # noqa: ARG002
        return self.set(name, value)

    def delete(self, name: str) -> int:
        return int(self._values.pop(name, None) is not None)
