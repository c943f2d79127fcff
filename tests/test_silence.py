"""Whom a silent server keeps waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from smartredis_wsgi.transport.silence import Silence, Unasked

TIMEOUT = 2.0


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@dataclass
class Answer:
    is_there: bool = False
    is_closed: bool = False

    def has_come(self) -> bool:
        return self.is_there

    def close(self) -> None:
        self.is_closed = True


def is_asked(silence: Silence) -> bool:
    try:
        silence.check()
    except Unasked:
        return False
    return True


def test_a_server_that_nobody_asked_is_not_silent(clock: Clock) -> None:  # noqa: ARG001
    silence = Silence(TIMEOUT)
    assert is_asked(silence)
    assert is_asked(silence)


def test_a_silent_server_is_asked_by_one_when_its_time_is_over(clock: Clock) -> None:
    silence = Silence(TIMEOUT)
    assert silence.begin(clock.now - TIMEOUT, None)
    clock.now += 0.9 * TIMEOUT
    assert not is_asked(silence)
    clock.now += 0.2 * TIMEOUT
    assert is_asked(silence)
    assert not is_asked(silence)


def test_each_try_in_vain_makes_the_time_longer_up_to_five_timeouts(
    clock: Clock,
) -> None:
    silence = Silence(TIMEOUT)
    waited = []
    for _ in range(7):
        silence.begin(clock.now - TIMEOUT, None)
        since = clock.now
        while not is_asked(silence):
            clock.now += TIMEOUT / 4
        waited.append(clock.now - since)
    assert waited == [TIMEOUT * tries for tries in (1, 2, 3, 4, 5, 5, 5)]


def test_a_late_answer_ends_it(clock: Clock) -> None:
    silence, answer = Silence(TIMEOUT), Answer()
    silence.begin(clock.now - TIMEOUT, answer)
    assert not is_asked(silence)
    answer.is_there = True
    assert is_asked(silence)
    silence.end()
    assert answer.is_closed
    assert silence.late is None
    assert is_asked(silence)
    assert is_asked(silence)


def test_an_answer_makes_the_next_silence_a_short_one(clock: Clock) -> None:
    silence = Silence(TIMEOUT)
    for _ in range(2):
        silence.begin(clock.now - TIMEOUT, None)
    silence.end()
    clock.now += TIMEOUT
    silence.begin(clock.now - TIMEOUT / 2, None)
    clock.now += 0.9 * TIMEOUT
    assert not is_asked(silence)
    clock.now += 0.2 * TIMEOUT
    assert is_asked(silence)


def test_a_try_in_vain_goes_on_listening_for_what_was_late_first(
    clock: Clock,
) -> None:
    silence, answer = Silence(TIMEOUT), Answer()
    silence.begin(clock.now - TIMEOUT, answer)
    silence.begin(clock.now - TIMEOUT, None)
    answer.is_there = True
    assert is_asked(silence)


def test_what_another_has_heard_meanwhile_is_no_silence(clock: Clock) -> None:
    silence = Silence(TIMEOUT)
    since = clock.now
    clock.now += TIMEOUT / 2
    silence.end()
    clock.now += TIMEOUT / 2
    assert not silence.begin(since, None)
    assert is_asked(silence)
