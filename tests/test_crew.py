"""Calls that nobody waits for any longer than he wants to."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import wait_until

from smartredis_wsgi.transport.crew import Crew, Job, Overdue, _Hand

SOON = 10.0


def hands() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "smartredis"}


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    before = hands()
    monkeypatch.setattr("smartredis_wsgi.transport.crew._IDLE_SECONDS", 0.2)
    yield Crew()
    wait_until(lambda: hands() <= before, SOON, "the threads' end")


@pytest.fixture
def endless(crew: Crew) -> Iterator[Callable[[], str]]:  # noqa: ARG001
    """A call that ends with the test, or when it is told to."""
    over = threading.Event()

    def call() -> str:
        assert over.wait(SOON)
        return "late"

    call.over = over  # type: ignore[attr-defined]
    yield call
    over.set()


def test_what_is_called_returns(crew: Crew) -> None:
    assert crew.run(lambda: 7, SOON) == 7


def test_what_is_raised_is_raised(crew: Crew) -> None:
    with pytest.raises(SystemExit, match="3"):
        crew.run(lambda: exit(3), SOON)
    assert crew.run(lambda: 7, SOON) == 7


def test_one_thread_does_one_call_after_the_other(crew: Crew) -> None:
    def name() -> tuple[int, bool]:
        return threading.get_ident(), threading.current_thread().daemon

    def is_idle() -> bool:
        return len(crew._idle) == 1

    seen = set()
    for _ in range(5):
        seen.add(crew.run(name, SOON))
        wait_until(is_idle, SOON, "the next call")
    assert len(seen) == 1
    assert {(threading.get_ident(), True)}.isdisjoint(seen)
    assert seen.pop()[1]


def test_a_thread_that_had_nothing_to_do_for_long_ends_and_another_begins(
    crew: Crew,
) -> None:
    before = hands()
    for _ in range(2):
        assert crew.run(lambda: 7, SOON) == 7
        wait_until(lambda: hands() <= before, SOON, "its end")
        assert not crew._idle


def test_a_thread_that_is_taken_as_it_is_about_to_end_does_what_it_was_taken_for() -> (
    None
):
    class Taken(queue.SimpleQueue[Job]):
        def get(self, *_: Any, timeout: float | None = None) -> Job:
            if timeout is None:
                return mine
            hand._idle.pop()  # whoever has taken it gives it work now
            raise queue.Empty

    mine, hand = Job(lambda: 7), _Hand.__new__(_Hand)  # of no thread
    hand._idle, hand.work = deque([hand]), Taken()
    assert hand._next() is mine


def test_a_call_that_takes_too_long_is_left(
    crew: Crew, endless: Callable[[], str]
) -> None:
    with pytest.raises(Overdue) as caught:
        crew.run(endless, 0.01)
    job = caught.value.job
    assert job
    assert not job.is_over
    assert crew.run(lambda: 7, SOON) == 7
    endless.over.set()  # type: ignore[attr-defined]
    wait_until(lambda: job.is_over, SOON, "its end")
    assert job.result == "late"
    assert crew.run(lambda: 8, SOON) == 8


def test_who_is_torn_away_leaves_his_call(
    crew: Crew, endless: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("smartredis_wsgi.transport.crew.Job.ends_within", torn)
        with pytest.raises(KeyboardInterrupt):
            crew.run(endless, SOON)
    assert [job.is_over for job in crew._left] == [False]
    assert crew.run(lambda: 7, SOON) == 7


def test_only_so_many_are_left(
    crew: Crew, endless: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartredis_wsgi.transport.crew._MOST_LEFT", 2)
    crew.leave(endless)
    with pytest.raises(Overdue):
        crew.run(endless, 0.01)
    for begin in (crew.leave, lambda call: crew.run(call, SOON)):
        with pytest.raises(Overdue) as caught:
            begin(endless)
        assert caught.value.job is None
    monkeypatch.setattr("smartredis_wsgi.transport.crew._MOST_LEFT", 1)
    with pytest.raises(Overdue):  # two who came at once were let in, say
        crew.leave(endless)
    endless.over.set()  # type: ignore[attr-defined]
    wait_until(lambda: all(job.is_over for job in crew._left), SOON, "their end")
    assert crew.run(lambda: 7, SOON) == 7


def test_a_call_sees_the_context_of_who_asks(crew: Crew) -> None:
    trace = contextvars.ContextVar[str]("trace")
    trace.set("mine")
    assert crew.run(trace.get, SOON) == "mine"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_threads_of_its_own(crew: Crew) -> None:
    assert crew.run(lambda: 7, SOON) == 7
    wait_until(lambda: bool(crew._idle), SOON, "an idle thread")
    child = os.fork()
    if child == 0:
        answer = 1
        try:
            answer = crew.run(lambda: 7, SOON)
        finally:
            os._exit(answer)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_what_a_failed_call_had_is_let_go_without_the_garbage_collector(
    crew: Crew,
) -> None:
    """A socket, say: in a circle it might be found unclosed."""
    seen: list[weakref.ref[Crew]] = []

    def call() -> None:
        had = Crew()
        seen.append(weakref.ref(had))
        raise ValueError

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            crew.run(call, SOON)
        wait_until(lambda: seen[0]() is None, SOON, "its end")
    finally:
        gc.enable()
