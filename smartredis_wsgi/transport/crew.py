"""Threads on which calls run, so that nobody waits longer for one than he wants to.

What can't be told when to stop is left to its thread, and whoever asked goes on: the
answer, should it come, is nobody's. Threads are made at need; they are used again, the
last one first, and end with the process, or when there was nothing to do for some time.
Where gevent has taken the place of threads they are greenlets.
"""

import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.exceptions import TimeoutError as RedisTimeoutError

from .forks import begins_anew_in_forks

_IDLE_SECONDS = 60.0
_MOST_LEFT = 64  # calls that nobody waits for; each has a thread


class Job:
    """A call on its way; afterwards, what it returned or raised."""

    result: Any = None
    failure: BaseException | None = None
    is_over = False

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._context = contextvars.copy_context()  # as tracing would have it
        self._running = threading.Lock()  # a third of what an Event costs
        self._running.acquire()

    def run(self) -> None:
        try:
            self.result = self._context.run(self._call)
        except BaseException as failure:
            self.failure = failure
        self.is_over = True
        self._running.release()
        del self  # lest the failure's traceback leads back to the failure

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end; for one who waits, once."""
        return self._running.acquire(timeout=seconds)


class Overdue(RedisTimeoutError):
    """The call did not end in time; its job is left to end by itself."""

    def __init__(self, job: Job | None = None) -> None:
        super().__init__("no answer in time")
        self.job = job


class Crew:
    """Threads for calls. Other threads, and forks, may share it."""

    def __init__(self) -> None:
        self.begin_anew()
        begins_anew_in_forks(self)

    def begin_anew(self) -> None:
        self._idle: deque[_Hand] = deque()
        self._left: list[Job] = []

    def run(self, call: Callable[[], Any], seconds: float) -> Any:
        """What the call returns, or raises.

        Raises:
            Overdue: It takes longer, or too many did that are not over yet.
        """
        job = self._begin(call)
        is_over = False
        try:
            is_over = job.ends_within(seconds)
        finally:
            if not is_over:
                self._left.append(job)
        if not is_over:
            raise Overdue(job)
        try:
            if job.failure:
                raise job.failure
            return job.result
        finally:
            del job  # as there

    def leave(self, call: Callable[[], Any]) -> None:
        """Have a call run that nobody waits for.

        Raises:
            Overdue: There are too many of them.
        """
        self._left.append(self._begin(call))

    def _begin(self, call: Callable[[], Any]) -> Job:
        if self._left:
            self._left = [job for job in self._left if not job.is_over]
            if len(self._left) >= _MOST_LEFT:
                raise Overdue
        job = Job(call)
        try:
            hand = self._idle.pop()
        except IndexError:
            hand = _Hand(self._idle)
        hand.work.put(job)
        return job


class _Hand:
    """A thread that does one job after the other, and waits among the idle for it."""

    def __init__(self, idle: deque["_Hand"]) -> None:
        self.work: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._idle = idle
        threading.Thread(target=self._run, name="smartredis", daemon=True).start()

    def _run(self) -> None:
        while job := self._next():
            job.run()
            del job  # lest it keeps an answer for as long as there is no other
            self._idle.append(self)

    def _next(self) -> Job | None:
        try:
            return self.work.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            pass
        try:
            self._idle.remove(self)
        except ValueError:  # somebody has just taken it
            return self.work.get()
        return None
