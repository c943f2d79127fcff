"""Requests whose answers come from memory: no network, no server."""

from __future__ import annotations

from functools import partial
from typing import Any

from driver import FILL, INCR, READ, READ_AND_WRITE, Act, Browser
from measure import Run
from peers import OTHERS, OURS, Peer
from replay import Memory, replay

from . import Alone, Maker
from .requests import BARE, without_sessions

STUBBED = {"Beaker", "Flask-Session"}  # who take a client instead of a URL
PEERS = [peer for peer in OTHERS if peer.name in STUBBED]


def replayed(act: Act) -> Maker:
    return lambda world: _request(OURS, act, replay(world.url))


def remembered(peer: Peer, act: Act) -> Maker:
    return lambda _: _request(peer, act, Memory())


def _request(peer: Peer, act: Act, client: Any) -> Run:
    browser = Browser(peer.sessions(client))
    browser.request(FILL)
    return partial(browser.request, act)


def _scenario(name: str, about: str, act: Act) -> Alone:
    others = {p.name: remembered(p, act) for p in PEERS if not p.missing}
    contenders = {OURS.name: replayed(act), **others, BARE: without_sessions()[BARE]}
    absent = {peer.name: peer.missing for peer in PEERS if peer.missing}
    return Alone(f"in-process-{name}", about, contenders, absent, is_counted=False)


SCENARIOS = [
    _scenario("read", "One field is read; a stub answers.", READ),
    _scenario(
        "read-and-write",
        "One field is read, another one written; a stub answers.",
        READ_AND_WRITE,
    ),
    _scenario("incr", "A number is raised; a stub answers.", INCR),
]
