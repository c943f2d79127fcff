"""One request after the other, through the WSGI callable, with a server on loopback."""

from __future__ import annotations

from functools import partial
from typing import Any

import floors
from driver import (
    FILL,
    INCR,
    READ,
    READ_AND_WRITE,
    WRITE,
    Act,
    Browser,
    bare,
    fill_beside,
)
from measure import Run
from peers import OTHERS, OURS, Peer
from world import World

from . import SIZES, Alone, Maker

LOCKED = "ours, lock=single"
BARE = "bare application"
INSTALLED = [OURS, *(peer for peer in OTHERS if not peer.missing)]
ABSENT = {peer.name: peer.missing for peer in OTHERS if peer.missing}


def request(peer: Peer, act: Act | None, fill: Act = FILL, **options: Any) -> Maker:
    """One request of a browser whose session is there."""

    def make(world: World) -> Run:
        return partial(world.browser(peer, fill, **options).request, act)

    return make


def mix(peer: Peer, **options: Any) -> Maker:
    """Four requests that read, and one that writes."""

    def make(world: World) -> Run:
        browser = world.browser(peer, **options)

        def run() -> None:
            for act in (READ, READ, READ, READ, READ_AND_WRITE):
                browser.request(act)

        return run

    return make


def create(peer: Peer) -> Maker:
    """A request without a cookie, whose session is filled."""

    def make(world: World) -> Run:
        browser = world.browser(peer)

        def run() -> None:
            browser.cookie = ""
            browser.request(FILL)

        return run

    return make


def by_everybody(act: Act) -> dict[str, Maker]:
    return {peer.name: request(peer, act) for peer in INSTALLED}


def without_sessions() -> dict[str, Maker]:
    """The same requests on the same frameworks, where there are no sessions."""
    frameworks = [peer for peer in INSTALLED if peer.framework]
    bare_ones = {BARE: lambda _: partial(Browser(bare).request, None)}
    return bare_ones | {
        f"bare {peer.framework}": partial(_bare, peer) for peer in frameworks
    }


def _bare(peer: Peer, _: World) -> Run:
    return partial(Browser(peer.bare()).request, None)


def beside(act: Act) -> dict[str, Maker]:
    return {
        f"{peer.name}, {beside}": request(peer, act, fill_beside(size))
        for peer in INSTALLED
        for beside, size in SIZES.items()
    }


SCENARIOS = [
    Alone(
        "untouched",
        "The application does not touch the session.",
        {peer.name: request(peer, None) for peer in INSTALLED} | without_sessions(),
        ABSENT,
        times=20,
    ),
    Alone(
        "read",
        "One field is read.",
        by_everybody(READ)
        | {LOCKED: request(OURS, READ, lock="single")}
        | {floors.SOCKET: floors.socket_read, floors.READ: floors.read}
        | without_sessions(),
        ABSENT,
    ),
    Alone(
        "read-and-write",
        "One field is read, another one is written.",
        by_everybody(READ_AND_WRITE)
        | {LOCKED: request(OURS, READ_AND_WRITE, lock="single")}
        | {floors.READ_AND_WRITE: floors.read_and_write}
        | without_sessions(),
        ABSENT,
    ),
    Alone(
        "incr",
        "A number is raised: by `incr`, or read, changed and written.",
        by_everybody(INCR)
        | {LOCKED: request(OURS, INCR, lock="single"), floors.INCR: floors.incr},
        ABSENT,
    ),
    Alone(
        "mix",
        "Four of five requests read, one reads and writes; per request.",
        {peer.name: mix(peer) for peer in INSTALLED}
        | {LOCKED: mix(OURS, lock="single")},
        ABSENT,
        times=2,
        requests=5,
        share=0.4,
    ),
    Alone(
        "create",
        "A client without a cookie gets a session of ten fields.",
        {peer.name: create(peer) for peer in INSTALLED},
        ABSENT,
        share=0.5,
    ),
    Alone(
        "small-read-beside",
        "One small field is read, beside one value of some size.",
        beside(READ),
        ABSENT,
        times=3,
        share=0.1,
    ),
    Alone(
        "small-write-beside",
        "One small field is written, not read, beside one value of some size.",
        beside(WRITE),
        ABSENT,
        times=3,
        share=0.1,
    ),
]
