"""Does the time of a look-up tell how much of an id is right?

Pairs of look-ups, in an order by chance: of an id that nothing is right of, and of one
that is right but for its last character. Were the better guess slower, it would be the
slower of its pair more often than not: the sign test. The controls are a comparison
character by character, and a look-up that takes 10 µs longer for the better guess.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from smartredis_wsgi import SessionStore
from smartredis_wsgi.config import Config
from smartredis_wsgi.cookie import Cookie
from smartredis_wsgi.ids import new_id

OTHERS, LONGER = 1000, 10e-6
Look = Callable[[str], object]


class Pairs(NamedTuple):
    """Medians in seconds, and by how many standard deviations the better guess was
    slower more often than the worse one; beyond 4 chance is no explanation."""

    worse: float
    better: float
    deviations: float


def compare(look: Look, worse: str, better: str, pairs: int, seed: int) -> Pairs:
    chance = random.Random(seed)
    times: dict[str, list[float]] = {worse: [], better: []}
    for _ in range(pairs):
        for guess in chance.sample([worse, better], 2):
            begun = time.perf_counter()
            look(guess)
            times[guess].append(time.perf_counter() - begun)
    slower = [b > w for w, b in zip(*times.values(), strict=True)]
    deviations = (sum(slower) - pairs / 2) / math.sqrt(pairs / 4)
    middle = statistics.median
    return Pairs(middle(times[worse]), middle(times[better]), deviations)


def guesses(session_id: str) -> tuple[str, str, str]:
    """Of an id: one wherein nothing is right, one with its label, one all but right."""
    wrong = "".join("A" if character != "A" else "B" for character in session_id)
    return wrong, session_id[:16] + wrong[16:], session_id[:-1] + wrong[-1]


def in_store(store: SessionStore) -> Look:
    """As a request does that reads."""

    def look(session_id: str) -> None:
        with store.open(session_id) as session:
            assert "n" not in session

    return look


def in_cookie(secret: str) -> tuple[Look, str, str]:
    """Verifying a signature, and a wrong and a nearly right one."""
    cookie = Cookie(Config.build(url="redis://nowhere", secret=secret))
    right = cookie.header(new_id())[1].partition(";")[0]
    head, _, mac = right.partition(".")
    wrong = "".join("A" if character != "A" else "B" for character in mac)
    nearly = mac[:-2] + wrong[-2] + mac[-1]
    return cookie.find, f"{head}.{wrong[:-1]}{mac[-1]}", f"{head}.{nearly}"


def in_loop(session_id: str) -> Look:
    """A control: ids are compared character by character, with no Redis at all."""

    def compare_them(guess: str) -> bool:
        for one, other in zip(session_id, guess, strict=True):  # noqa: SIM110
            if one != other:
                return False
        return True

    return compare_them


def slower_for(better: str, store: SessionStore) -> Look:
    """A control: a look-up that takes a little longer for the better guess."""
    look = in_store(store)

    def look_longer(guess: str) -> None:
        look(guess)
        end = time.perf_counter() + (LONGER if guess == better else 0)
        while time.perf_counter() < end:
            pass

    return look_longer


def filled(store: SessionStore) -> str:
    """Put some sessions there; the id of one."""
    for _ in range(OTHERS):
        with store.open() as session:
            session["n"] = 1
    return session.id
