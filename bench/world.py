"""The servers that one run of the benchmarks has, and what is connected to them."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from driver import FILL, Act, Browser
from peers import Peer
from redis import Redis

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from servers import Server, version_of

MASTERS = 5


def server_version() -> str:
    return f"valkey {version_of('valkey')}"


class World:
    """A server for the records, masters for Redlock: started at their first use."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def url(self) -> str:
        return self._stack.enter_context(Server("valkey")).url

    @cached_property
    def masters(self) -> list[str]:
        started = (Server("valkey") for _ in range(MASTERS))
        return [self._stack.enter_context(server).url for server in started]

    def client(self, url: str = "") -> Redis:
        """A client as everybody has it who asks redis-py for one."""
        return self._stack.enter_context(Redis.from_url(url or self.url))

    def socket(self) -> socket.socket:
        """A bare connection to the records' server."""
        address = urlsplit(self.url)
        link = socket.create_connection((address.hostname, address.port))
        return self._stack.enter_context(link)

    @property
    def servers(self) -> list[Redis]:
        """A new client for each server that was started, to look at it with."""
        urls = [self.url, *self.__dict__.get("masters", [])]
        return [self.client(url) for url in urls]

    def browser(self, peer: Peer, fill: Act = FILL, **options: Any) -> Browser:
        """A client of a new site of this peer, whose session is filled."""
        browser = Browser(peer.sessions(self.url, **options))
        browser.request(fill)
        return browser
