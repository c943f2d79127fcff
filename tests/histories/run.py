"""Histories of real processes, checked: ``python -m histories.run``, from tests/.

It plays rounds of requests under each lock, checks what became of each field, does the
same with two controls and some mutants, lets crowds of threads change one session, and
prints what was seen. The exit status is 1 if there was a violation, or a control or a
mutant went unseen.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from explorer.blob import BlobSessions
from explorer.run import Line
from servers import Server

import smartredis_wsgi
from smartredis_wsgi import SessionMiddleware

from . import crowd, hunt
from .checker import Undecided, Verdict, check
from .crew import Crew, job_list
from .history import History
from .model import MODELS
from .visitor import App, Deed, Request, Setting, Visitor

PARENT = 0
"""The number of the process that makes each session and reads it at the end."""
REDLOCK_SHARE = 5
"""So many times fewer rounds under Redlock."""
HUNT_ROUNDS = 300
QUIET_SECONDS = 15.0


class Refusal(NamedTuple):
    """A field's history that no order explains."""

    field: str
    verdict: Verdict

    def __str__(self) -> str:
        stuck = "\n      ".join(map(str, self.verdict.stuck))
        state = f"after {self.verdict.placed} operations it is {self.verdict.state!r}"
        return f"{self.field}: {state}, and none of these can be next:\n      {stuck}"


@dataclass
class Sum:
    """What came of the rounds of one kind."""

    rounds: int = 0
    requests: int = 0
    operations: int = 0
    unknown: int = 0
    dropped: int = 0
    fields: int = 0
    undecided: int = 0
    killed: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, history: History) -> None:
        """Check a round's history, field by field."""
        self.rounds += 1
        self.operations += history.operations
        self.unknown += history.unknown
        self.dropped += history.dropped
        for name, operations in history.by_field().items():
            self.fields += 1
            try:
                verdict = check(operations, MODELS[name])
            except Undecided:
                self.undecided += 1
                continue
            if not verdict.is_linearizable:
                self.refusals.append(Refusal(name, verdict))


class Ticker(Line):
    """The explorer's progress bar; where nobody looks, a plain line now and then."""

    def __init__(self, what: str, total: int) -> None:
        super().__init__(what, total)
        self._told = time.monotonic()

    def advance(self, note: str) -> None:
        super().advance(note)
        if not self._is_shown and time.monotonic() - self._told > QUIET_SECONDS:
            self._told = time.monotonic()
            done = f"{self._what} {self._done}/{self._total} {note}"
            print(done, file=sys.stderr, flush=True)


class Size(NamedTuple):
    """How much of it: processes, and requests of each in a round."""

    processes: int
    length: int
    seed: int = 0


def play(
    crew: Crew,
    settings: Sequence[Setting],
    rounds: int,
    size: Size,
    is_hunt: bool = False,
) -> Sum:
    """Play so many rounds, with the settings by turns, and check each.

    Args:
        is_hunt: The first refusal ends it.
    """
    total, killed = Sum(), crew.killed
    dice = random.Random(f"{size.seed} {settings[0].lock}")
    line = Ticker(f"{settings[0].store}, {settings[0].lock}", rounds)
    for turn in range(rounds):
        total.add(play_once(crew, settings[turn % len(settings)], size, dice))
        line.advance(f"rounds, {total.operations:,} operations")
        if is_hunt and total.refusals:
            break
    line.end()
    total.killed = crew.killed - killed
    total.requests = total.rounds * size.processes * size.length - total.killed
    return total


def play_once(crew: Crew, setting: Setting, size: Size, dice: random.Random) -> History:
    """One round: a fresh session, everybody at once, and a last look."""
    site, history = crew.sites[setting], History()
    cookie = site.make_session()
    jobs = job_list(setting, cookie, size.processes, size.length, dice)
    crew.play(jobs, history)
    look = Request(tuple(Deed("read", name) for name in MODELS))
    status = Visitor(PARENT, history.tell).visit(site, cookie, look)
    if status != "200 OK":
        raise RuntimeError(f"the last look: {status}")
    return history


class Servers:
    """The records' server, and three more for Redlock's locks."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self.records = self._open.enter_context(Server())
        nodes = [self._open.enter_context(Server()) for _ in range(3)]
        self._nodes = tuple(node.url for node in nodes)

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def settings(self, store: str, lock: str) -> list[Setting]:
        """With a client that gives up where a reply is lost, and one that does not."""
        nodes = self._nodes if lock == "redlock" else ()
        one = Setting(store, lock, self.records.port, nodes)
        return [one, one._replace(retries=True)]


# -- what is printed -----------------------------------------------------------------

COLUMNS = ("rounds", "requests", "operations", "unknown", "dropped", "killed", "fields")


def play_ours(servers: Servers, crew: Crew, rounds: int, size: Size) -> bool:
    """Play under each lock; returns whether all is well."""
    heads = [*COLUMNS, "violations"]
    print(f"{'lock':<9}" + "".join(f"{head:>11}" for head in heads))
    fine = True
    for lock in ("none", "single", "redlock"):
        times = -(-rounds // REDLOCK_SHARE) if lock == "redlock" else rounds
        total = play(crew, servers.settings("ours", lock), times, size)
        counts = [getattr(total, column) for column in COLUMNS]
        row = [*counts, len(total.refusals)]
        print(f"{lock:<9}" + "".join(f"{n:>11,}" for n in row), flush=True)
        if total.undecided:
            print(f"  undecided: {total.undecided}")
        for refusal in total.refusals[:3]:
            print(f"  {refusal}")
        fine &= not total.refusals and not total.undecided
    return fine


def play_controls(servers: Servers, crew: Crew, rounds: int, size: Size) -> bool:
    """Play with what loses updates; returns whether that was seen."""
    fine = True
    names = {"blob": "a whole-blob store", "overwrite": 'ours, conflict="overwrite"'}
    for store, name in names.items():
        # One that is sent again may well count twice in a blob: no retries.
        total = play(crew, servers.settings(store, "none")[:1], rounds, size)
        refused = [refusal.field for refusal in total.refusals]
        fields = ", ".join(f"{n} {refused.count(n)}" for n in sorted(set(refused)))
        found = f"{len(refused)} of {total.fields} histories refused ({fields})"
        print(f"control, {name}: {found}", flush=True)
        fine &= bool(refused)
    return fine


def play_crowds(servers: Servers, rounds: int) -> bool:
    """Crowds on our own and on a whole blob; returns whether all is as it should be."""
    fine = True
    for name, kind in crowd.KINDS.items():
        exact = _exact(name, kind, rounds, servers.records, is_ours=True)
        control = _exact(name, kind, rounds // 10 or 1, servers.records, is_ours=False)
        print(
            f"{crowd.THREADS} threads {name}: exact in {exact} of {rounds} rounds; "
            f"control, a whole-blob store: in {control} of {rounds // 10 or 1}",
            flush=True,
        )
        fine &= exact == rounds and control < (rounds // 10 or 1)
    return fine


def _exact(
    name: str, kind: crowd.Kind, rounds: int, server: Server, is_ours: bool
) -> int:
    line, exact = Ticker(name, rounds), 0

    def wrap(app: App) -> App:
        if is_ours:
            return SessionMiddleware(app, url=server.url)
        return BlobSessions(app, client)

    with server.client() as client:
        for was_exact in crowd.play(kind, wrap, rounds):
            exact += was_exact
            line.advance(f"rounds, {exact} exact")
    line.end()
    return exact


def play_all(servers: Servers, rounds: int, size: Size) -> bool:
    """Ours, the controls and the mutants; returns whether all is as it should be."""
    print(f"{size.processes} processes, {size.length} requests of each in a round")
    with Crew(size.processes) as crew:
        fine = play_ours(servers, crew, rounds, size)
        fine &= play_controls(servers, crew, rounds // 10 or 1, size)
    return hunt_mutants(max(rounds, HUNT_ROUNDS)) and fine


def hunt_mutants(rounds: int) -> bool:
    """Returns whether each was caught."""
    line, missed = Ticker("mutants", len(hunt.HUNTED)), 0
    for catch in hunt.hunt_all(rounds):
        line.advance(catch.name)
        missed += not catch.fields
        caught = f"refused in round {catch.rounds} ({catch.fields})"
        how = caught if catch.fields else f"not caught in {catch.rounds} rounds"
        print(f"mutant, {catch.name}: {how}", flush=True)
    line.end()
    return not missed


def hunt_here(servers: Servers, lock: str, rounds: int, size: Size) -> None:
    """Play until the first refusal; tell on one line what was seen."""
    with Crew(size.processes) as crew:
        total = play(crew, servers.settings("ours", lock), rounds, size, is_hunt=True)
    fields = ", ".join(refusal.field for refusal in total.refusals)
    told = {"rounds": total.rounds, "fields": fields}
    print(json.dumps({**told, "package": smartredis_wsgi.__file__}))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    size = Size(options.processes, options.length, options.seed)
    begun, fine = time.monotonic(), True
    with Servers() as servers:
        if options.hunt:
            hunt_here(servers, options.hunt, options.rounds, size)
            return 0
        if options.rounds:
            fine &= play_all(servers, options.rounds, size)
        if options.crowds:
            fine &= play_crowds(servers, options.crowds)
    print(f"{time.monotonic() - begun:.0f} s")
    return 0 if fine else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="histories", description=__doc__)
    parser.add_argument("--rounds", type=int, default=500, help="under each lock")
    parser.add_argument("--crowds", type=int, default=1000, help="rounds of each kind")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--length", type=int, default=10, help="requests, in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hunt", metavar="LOCK", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
