"""Everybody really does what is measured: what a request wrote, the next one reads."""

from __future__ import annotations

from typing import Any

import pytest
from driver import CONTENT, FILL, INCR, READ, READ_AND_WRITE, WRITE, Act, App, Browser
from peers import Peer
from replay import Memory
from scenarios.in_process import PEERS as STUBBED
from scenarios.requests import INSTALLED
from world import World


def named(peers: list[Peer]) -> list[Any]:
    return [pytest.param(peer, id=peer.name) for peer in peers if not peer.missing]


@pytest.mark.parametrize("peer", named(INSTALLED))
def test_sessions_keep_what_was_written(peer: Peer, world: World) -> None:
    assert_kept(peer.sessions(world.url))


@pytest.mark.parametrize("peer", named(STUBBED))
def test_sessions_in_memory_keep_what_was_written(peer: Peer) -> None:
    assert_kept(peer.sessions(Memory()))


def assert_kept(app: App) -> None:
    browser = Browser(app)
    for act in (FILL, READ, INCR, INCR, WRITE):
        browser.request(act)
    written = content(browser)
    assert written == {**CONTENT, "visits": 2, "seen": written["seen"]}
    browser.request(READ_AND_WRITE)
    assert content(browser)["seen"] > written["seen"] > 0


def content(browser: Browser) -> dict[str, Any]:
    found: dict[str, Any] = {}
    browser.request(Act(lambda session: found.update({n: session[n] for n in CONTENT})))
    return found
