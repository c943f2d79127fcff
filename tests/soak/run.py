"""Faults without end: ``python -m soak.run``, from tests/.

Rounds of requests by several processes, which are hit by faults, on servers that are,
too: first on one server, then in a Cluster. After each round everything is well again,
and what was acknowledged is compared with what is stored. A whole-blob store goes
through the same, and so do some of the explorer's mutants. The exit status is 1 if
there was a violation, or a control or a mutant did not show what it should.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from explorer.blob import BlobSession
from explorer.mutants import MUTANTS, TESTS, MutantError, mutated
from histories.crew import Crew
from histories.visitor import COOKIE
from redis import RedisCluster
from servers import HOST, Cluster, Server, assert_sessions_expire

import smartredis_wsgi
from smartredis_wsgi import SessionStore

from .chaos import KEEPING, Chaos
from .ledger import BORN, Ledger, Tally
from .worker import Place, Stint, work

STORIES = 6
REQUESTS = 60
TELL_SECONDS = 15.0
LOCKS = ("none", "single")
CLIENTS = {
    "server": ("held", "retries", "gives up"),
    "cluster": ("retries", "gives up"),
}
CONTROL_SECONDS, CONTROL_SHARE = 10.0, 14
"""Each control has so long, or so many times less than ours if that is longer."""
MUTANT_SHOWS = {
    "appended lists are taken as leaves": "lost",
    "a commit that is sent again is not recognised": "twice",
    "destroying leaves the record": "back",
    "a rotation copies the record": "back",
}
"""Mutants of the explorer's, and what each has to show."""


class Size(NamedTuple):
    """How many processes, and how many of their requests are hit."""

    processes: int = 4
    risk: float = 0.5
    seed: int = 0


class Ground:
    """Servers to play on: one, or a Cluster."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._open = ExitStack()
        if kind == "cluster":
            cluster = self._open.enter_context(Cluster("valkey"))
            self.servers: Sequence[Server] = cluster.nodes
        else:
            self.servers = [self._open.enter_context(Server("valkey", *KEEPING))]
        self.client: Any = self._open.enter_context(self._client())

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _client(self) -> Any:
        if self.kind == "cluster":
            return RedisCluster(host=HOST, port=self.servers[0].port)
        return self.servers[0].client()

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(server.port for server in self.servers)

    def clear(self) -> None:
        """Look whether all keys expire, and delete them."""
        for server in self.servers:
            with server.client() as admin:
                assert_sessions_expire(admin)
                admin.flushall()


class Records:
    """The sessions of a store as the ledger looks at them: by cookie, directly."""

    def __init__(self, store: str, client: Any) -> None:
        self._is_blob, self._client = store == "blob", client
        self._store = SessionStore.from_config(client=client)

    def make(self) -> str:
        """A new session's cookie."""
        if self._is_blob:
            blob = BlobSession(self._client, "")
            blob.update(BORN)
            blob.save()
            return f"{COOKIE}={blob.id}"
        with self._store.open() as session:
            session.update(BORN)
        return f"{COOKIE}={session.id}"

    def look(self, cookie: str) -> Mapping[str, Any]:
        session_id = cookie.partition("=")[2]
        if self._is_blob:
            return BlobSession(self._client, session_id)
        with self._store.open(session_id) as session:
            return dict(session)


class Progress:
    """Tells on stderr, now and then, how far it is."""

    def __init__(self, what: str, seconds: float) -> None:
        self._what, self._seconds = what, seconds
        self._begun = self._told = time.monotonic()

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self._begun >= self._seconds

    def tell(self, total: Tally) -> None:
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        print(
            f"{self._what}: {now - self._begun:.0f} of {self._seconds:.0f} s, "
            f"{total.requests:,} requests, {total.faults:,} faults, "
            f"{total.violations} violations",
            file=sys.stderr,
            flush=True,
        )


def soak(ground: Ground, store: str, seconds: float, size: Size) -> Tally:
    """Play rounds for so long, at least one."""
    total, progress = Tally(), Progress(f"{store}, {ground.kind}", seconds)
    dice = random.Random(f"{size.seed} {store} {ground.kind}")
    clients = CLIENTS[ground.kind] if store == "ours" else ("gives up",)
    ways = [(lock, client) for client in clients for lock in LOCKS]
    with Crew(size.processes, work) as crew:
        while not (total.rounds and progress.is_over):
            lock, client = ways[total.rounds % len(ways)]
            place = Place(store, lock, client, ground.ports)
            total.add(play(crew, ground, place, size, dice))
            progress.tell(total)
    return total


def play(
    crew: Crew, ground: Ground, place: Place, size: Size, dice: random.Random
) -> Tally:
    """One round: new sessions, everybody at once, and the judgement."""
    records = Records(place.store, ground.client)
    cookies = {f"{number}": records.make() for number in range(STORIES)}
    ledger = Ledger(cookies)
    with Chaos(ground.servers, dice) as chaos:
        crew.play(stints(place, cookies, size, dice), ledger)
    ledger.tally.faults += chaos.done.total()
    ledger.tally.kinds.update(chaos.done)
    tally = ledger.judge(records.look)
    ground.clear()
    return tally


def stints(
    place: Place, cookies: dict[str, str], size: Size, dice: random.Random
) -> list[Stint]:
    """Each process's part: every session has one owner."""
    return [
        Stint(
            place,
            cookies,
            frozenset(n for n in cookies if int(n) % size.processes == number),
            REQUESTS,
            size.risk,
            f"{dice.random()}",
        )
        for number in range(size.processes)
    ]


def soak_mutant(name: str, seconds: float, size: Size) -> Tally:
    """The same on one server, in an interpreter of its own, with broken code.

    Raises:
        MutantError: It was not played to its end.
    """
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    with mutated(mutant) as folder:
        options = ["--alone", f"{seconds}", "--processes", f"{size.processes}"]
        ran = subprocess.run(
            [sys.executable, "-m", "soak.run", *options, "--risk", f"{size.risk}"],
            cwd=TESTS,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=10 * seconds + 60,
            check=False,
        )
        if ran.returncode:
            raise MutantError(ran.stderr[-2000:])
        told = json.loads(ran.stdout.splitlines()[-1])
        if not told.pop("package").startswith(str(folder)):
            raise MutantError("another package was played")
    return Tally(**{**told, "kinds": Counter(told["kinds"])})


def soak_alone(seconds: float, size: Size) -> None:
    """On one server, ours, whatever package that is; told on one line."""
    with Ground("server") as ground:
        total = soak(ground, "ours", seconds, size)
    print(json.dumps({**vars(total), "package": smartredis_wsgi.__file__}))


# -- what is printed -----------------------------------------------------------------

SEEN = ("requests", "faults", "acked", "unknown", "stored", "dropped")
WRONG = ("lost", "twice", "back", "denied", "torn", "stale")


def head() -> str:
    return _line("", (*SEEN, *WRONG))


def row(name: str, total: Tally) -> str:
    return _line(name, [f"{getattr(total, part):,}" for part in (*SEEN, *WRONG)])


def _line(name: str, cells: Sequence[str]) -> str:
    seen, wrong = cells[: len(SEEN)], cells[len(SEEN) :]
    return f"{name:<9}" + "".join(
        [f"{cell:>9}" for cell in seen] + [f"{cell:>7}" for cell in wrong]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    size = Size(options.processes, options.risk, options.seed)
    if options.alone is not None:
        soak_alone(options.alone, size)
        return 0
    share = 60 * options.minutes / 2
    kinds: Counter[str] = Counter()
    print(f"{size.processes} processes\n{head()}", flush=True)
    fine = True
    for kind in CLIENTS:
        with Ground(kind) as ground:
            ours = soak(ground, "ours", share, size)
        print(row(kind, ours), flush=True)
        kinds.update(ours.kinds)
        fine &= not ours.violations
    print("faults: " + ", ".join(f"{kind} {n:,}" for kind, n in kinds.most_common()))
    were_found = play_controls(max(CONTROL_SECONDS, share / CONTROL_SHARE), size)
    return 0 if fine and were_found else 1


def play_controls(seconds: float, size: Size) -> bool:
    """A blob, and mutants, for so long each; returns whether each was found out."""
    with Ground("server") as ground:
        blob = soak(ground, "blob", seconds, size)
    print(f"control, a whole-blob store:\n{row('', blob)}", flush=True)
    fine = bool(blob.lost and blob.back)
    for name, wrong in MUTANT_SHOWS.items():
        total = soak_mutant(name, seconds, size)
        print(f"mutant, {name}:\n{row('', total)}", flush=True)
        fine &= bool(getattr(total, wrong))
    return fine


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of both together")
    parser.add_argument("--processes", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--risk", type=float, default=0.5, help="share of hit requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
