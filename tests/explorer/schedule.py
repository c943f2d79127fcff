"""Several threads and one baton: who has it runs, up to its next exchange with Redis.

An *actor* is a thread. It *parks* before each exchange and goes on when it is chosen,
so at any time exactly one runs, and an order is a list of choices. `walk` makes them
all, depth first: it plays an order from the beginning, then again with the last choice
that can be made otherwise made otherwise.

An actor that found a lock taken parks as one that *waits*: to try again would be in
vain, and the tree of orders endless, until what it saw has changed. So it can be chosen
only then.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from unittest import mock

from redis.exceptions import RedisError

T = TypeVar("T")
SECONDS = 60.0  # for which an actor may run on: far too long, so it hangs

GO, LOSE = "", "reply lost"


class Diverged(Exception):
    """An order that is played again offers other choices than before."""


class Hanging(Exception):
    """An actor neither parks nor ends."""


class _Abandoned(BaseException):
    """Unwinds an actor of an order that is not played to its end."""


class Choice(NamedTuple):
    """Who goes on, and how: with its answer, or without."""

    actor: str
    how: str = GO


class Step(NamedTuple):
    """One exchange: whose, what, and what could be seen before and after it."""

    actor: str
    what: str
    before: Any
    after: Any


_here = threading.local()
_NOTHING_YET = object()


class Actor:
    """A thread that runs while it has the baton."""

    def __init__(self, name: str, act: Callable[[], object]) -> None:
        self.name = self.alias = name
        self.what: str | None = None  # what it is parked before; None once it has ended
        self.waits = False  # having tried a lock that was taken
        self.saw: Any = _NOTHING_YET  # when it tried that
        self.can_lose = False
        self.error: BaseException | None = None
        self._act = act
        self._how = GO
        self._abandoned = False
        self._mine, self._back = threading.Lock(), threading.Lock()
        self._mine.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._await()

    def go_on(self, how: str) -> None:
        """Let it do its exchange and run to the next one, or to its end."""
        self._how, self.waits, self.saw = how, False, _NOTHING_YET
        self._mine.release()
        self._await()

    def abandon(self) -> None:
        self._abandoned = True
        if self.what is not None:
            self.go_on(GO)

    def park(self, what: str, can_lose: bool = False) -> str:
        """Give the baton back; returns how to go on, once it comes again."""
        if self._abandoned:
            raise _Abandoned
        self.what, self.can_lose = what, can_lose
        self._back.release()
        self._mine.acquire()
        if self._abandoned:
            raise _Abandoned
        return self._how

    def _await(self) -> None:
        if not self._back.acquire(timeout=SECONDS):
            raise Hanging(f"{self.name} hangs after {self.what}")
        if self.what is None:
            self._thread.join(SECONDS)

    def _run(self) -> None:
        _here.actor = self
        try:
            self._act()
        except _Abandoned:
            pass
        except BaseException as error:
            self.error = error
        self.what = None
        self._back.release()


def go_on_as(alias: str) -> None:
    """What this actor does from now on is another's, say its next request's."""
    actor: Actor | None = getattr(_here, "actor", None)
    if actor is not None:
        actor.alias = alias


def exchange(what: str, act: Callable[[], T]) -> T:
    """An exchange with Redis, made when its turn comes; at once outside of actors.

    Where the reply is lost, it is made, and once more when its turn comes again.
    """
    actor: Actor | None = getattr(_here, "actor", None)
    if actor is None:
        return act()
    if actor.park(what, can_lose=True) == LOSE:
        with contextlib.suppress(RedisError):
            act()
        actor.park(f"{what} again")
    return act()


def step(what: str, act: Callable[[], T]) -> T:
    """As `exchange`, but its reply is never lost."""
    actor: Actor | None = getattr(_here, "actor", None)
    if actor is not None:
        actor.park(what)
    return act()


def wait(what: str, act: Callable[[], T]) -> T:
    """As `step`, but its turn comes only once something has changed."""
    actor: Actor | None = getattr(_here, "actor", None)
    if actor is not None:
        actor.waits = True
    return step(what, act)


@contextlib.contextmanager
def no_naps() -> Iterator[None]:
    """Actors do not sleep: what may happen meanwhile, the order says."""
    nap = time.sleep

    def sleep(seconds: float) -> None:
        if getattr(_here, "actor", None) is None:
            nap(seconds)

    with mock.patch("time.sleep", sleep):
        yield


class Play:
    """One order, played from its beginning to its end.

    Args:
        acts: What the actors do, by name.
        events: What may happen at any time, once each, by name.
        observe: What can be seen in Redis.
        losses: How many replies may be lost.
    """

    def __init__(
        self,
        acts: dict[str, Callable[[], object]],
        events: dict[str, Callable[[], object]],
        observe: Callable[[], Any],
        losses: int = 0,
    ) -> None:
        self.steps: list[Step] = []
        self.begun = 0
        self.is_stuck = False
        self._actors = {name: Actor(name, act) for name, act in acts.items()}
        self._events = dict(events)
        self._observe = observe
        self._losses = losses

    def run(self, choose: Callable[[Sequence[Choice]], Choice]) -> list[Step]:
        """Play it; an actor's own error is raised at the end."""
        seen = self._observe()
        try:
            for actor in self._actors.values():
                actor.start()
            while options := self._options(seen):
                seen = self._take(choose(options), seen)
            self.is_stuck = any(a.what is not None for a in self._actors.values())
        finally:
            for actor in self._actors.values():
                actor.abandon()
        for actor in self._actors.values():
            if actor.error:
                raise actor.error
        return self.steps

    def _options(self, seen: Any) -> list[Choice]:
        parked = [actor for actor in self._actors.values() if actor.what is not None]
        for actor in parked:
            if actor.waits and actor.saw is _NOTHING_YET:
                actor.saw = seen
        able = [a for a in parked if not a.waits or a.saw != seen]
        options = [Choice(actor.name) for actor in able]
        if self._losses:
            options += [Choice(actor.name, LOSE) for actor in able if actor.can_lose]
        if parked:
            options += [Choice(name) for name in self._events]
        return options

    def _take(self, choice: Choice, before: Any) -> Any:
        self.begun += 1
        if choice.actor in self._events:
            what = who = choice.actor
            self._events.pop(choice.actor)()
        else:
            actor = self._actors[choice.actor]
            who = actor.alias
            what = f"{actor.what} ({choice.how})" if choice.how else actor.what or ""
            self._losses -= choice.how == LOSE
            actor.go_on(choice.how)
        after = self._observe()
        self.steps.append(Step(who, what, before, after))
        return after


class _Fork:
    """One choice of an order, and which of the options it is."""

    def __init__(self, options: Sequence[Choice]) -> None:
        self.options = list(options)
        self.at = 0


def walk(play: Callable[[Callable[[Sequence[Choice]], Choice]], T]) -> Iterator[T]:
    """Play all orders, each from the beginning; gives what each play returns.

    Raises:
        Diverged: What is played again does not go as before.
    """
    path: list[_Fork] = []
    while True:
        yield play(_chooser(path))
        while path and path[-1].at + 1 == len(path[-1].options):
            path.pop()
        if not path:
            return
        path[-1].at += 1


def _chooser(path: list[_Fork]) -> Callable[[Sequence[Choice]], Choice]:
    """Chooses as the path says, then always the first, and notes that on the path."""
    depth = 0

    def choose(options: Sequence[Choice]) -> Choice:
        nonlocal depth
        if depth == len(path):
            path.append(_Fork(options))
        fork = path[depth]
        if fork.options != list(options):
            raise Diverged(f"{fork.options} became {options}")
        depth += 1
        return fork.options[fork.at]

    return choose


def told(steps: Iterable[Step]) -> str:
    """An order as a reader can follow it."""
    return "; ".join(f"{step.actor}: {step.what}" for step in steps)
