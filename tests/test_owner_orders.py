"""Every order of the exchanges of those who bind, rotate, use and destroy an owner's.

The explorer's schedule makes the orders; what is judged is the promise of owners.py:
the index knows each living session of its owner at every step, and who has destroyed
all of them has missed none that was bound before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import pytest
from explorer import schedule
from explorer.stage import SteppingRedis
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import Server, version_of

from smartredis_wsgi import SessionStore, TooManySessions
from smartredis_wsgi.ids import Address
from smartredis_wsgi.owners import digest_of, entries_in

ANN = digest_of("ann")
LEFT = 600  # seconds that a session has at first: its use is to prolong it
LONG = 600.0  # while an actor is stopped it seems to wait for Redis
TOLERANCE_MS = 5  # of a script's clock and its commands'

# Returns for each living record of an owner {name, owner, expiry in ms}, and for each
# index {owner, expiry in ms, content}; then the keys that never expire.
OBSERVE = """
local records, indexes, immortal = {}, {}, {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left == -1 then table.insert(immortal, key) end
  if redis.call('TYPE', key).ok == 'hash' then
    if string.find(key, '^session:owner:') then
      table.insert(indexes, {string.sub(key, 15), left, redis.call('HGETALL', key)})
    else
      local owner = string.match(redis.call('HGET', key, '\\255'), '^%S+ %S+ %S+ (%S+)')
      table.insert(records, {string.sub(key, 9), owner, left})
    end
  end
end
return {records, indexes, immortal}
"""


class Picture(NamedTuple):
    """What lies in Redis. Expiries are ms, and left out where pictures are compared."""

    alive: dict[str, str]  # names of records, and whose they are
    known: dict[str, frozenset[str]]  # of each owner, the names in the index
    is_early: bool  # an index ends before a session of its owner
    immortal: bool

    def unknown(self, owner: str) -> set[str]:
        """Living sessions of an owner that no index tells of."""
        of_owner = {name for name, its in self.alive.items() if its == owner}
        return of_owner - self.known.get(owner, frozenset())


class Played(NamedTuple):
    """One order, and what came of it."""

    steps: list[schedule.Step]
    last: Picture
    results: dict[str, Any]

    def __str__(self) -> str:
        return f"{schedule.told(self.steps)}: {self.last} {self.results}"


Act = Callable[["Ground"], Any]


class Ground:
    """A server, a store on it whose client stops before each exchange, some sessions.

    ``ids`` are those of a session that is bound, of one that is not, and of another
    one's. Each order begins with them as they were dumped.
    """

    def __init__(self, server: Server, **options: Any) -> None:
        self._open = ExitStack()
        self.admin = self._open.enter_context(server.client())
        client = SteppingRedis.from_url(
            server.url, retry=Retry(NoBackoff(), 0), socket_timeout=schedule.SECONDS
        )
        client.scripts = {}
        self._open.callback(client.close)
        options = {"touch_every": 900, **options}
        self.store = SessionStore.from_config(client=client, timeout=LONG, **options)
        self.admin.flushdb()
        self.ids = {name: self._made(name) for name in ("bound", "free", "other")}
        self.slots = {name: Address.of(i).lock for name, i in self.ids.items()}
        keys = self.admin.keys("*")
        self._dumps = [(key, self.admin.dump(key)) for key in keys]

    def _made(self, name: str) -> str:
        with self.store.open() as session:
            session["seed"] = name
            if name != "free":
                session.bind({"bound": "ann", "other": "bob"}[name], name)
        return session.id

    def close(self) -> None:
        self._open.close()

    def reset(self) -> None:
        self.admin.flushdb()
        seconds, _ = self.admin.time()
        for key, dump in self._dumps:
            ends = (seconds + LEFT) * 1000  # for all of them at once
            self.admin.restore(key, ends, dump, absttl=True)

    def picture(self) -> Picture:
        records, indexes, immortal = self.admin.eval(OBSERVE, 0)
        alive = {name.decode(): owner.decode() for name, owner, _ in records}
        ends = {owner.decode(): left for owner, left, _ in indexes}
        known = {
            owner.decode(): frozenset(n for e in entries_in(flat) for n in e.names)
            for owner, _, flat in indexes
        }
        is_early = any(
            left > ends.get(owner.decode(), left) + TOLERANCE_MS
            for _, owner, left in records
        )
        return Picture(alive, known, is_early, bool(immortal))

    def orders(self, acts: dict[str, Act], losses: int = 0) -> Iterator[Played]:
        with schedule.no_naps():
            yield from schedule.walk(functools.partial(self._play, acts, losses))

    def _play(self, acts: dict[str, Act], losses: int, choose: Any) -> Played:
        self.reset()
        results: dict[str, Any] = {}

        def run(name: str, act: Act) -> None:
            results[name] = act(self)

        running = {n: functools.partial(run, n, act) for n, act in acts.items()}
        play = schedule.Play(running, {}, self.picture, losses)
        steps = play.run(choose)
        return Played(steps, self.picture(), results)

    def is_alive(self, name: str, alive: Any) -> bool:
        return any(other.startswith(self.slots[name]) for other in alive)


def in_session(name: str | None, *acts: Callable[[Any], object]) -> Act:
    def act(ground: Ground) -> str:
        with ground.store.open(name and ground.ids[name]) as session:
            for one in acts:
                one(session)
        return "alive" if session._life.stored_id else "gone"

    return act


def destroy_owner(ground: Ground) -> int:
    return ground.store.destroy_owner("ann")


def read(session: Any) -> None:
    session.get("seed")


def write(session: Any) -> None:
    session["wrote"] = 1


def bind(session: Any) -> None:
    session.bind("ann", "anew")


def rotate(session: Any) -> None:
    session.regenerate_id()


def shorten(session: Any) -> None:
    session.set_ttl(60)


def log_out(session: Any) -> None:
    session.destroy()


ACTS: dict[str, Act] = {
    "read": in_session("bound", read),
    "write": in_session("bound", write),
    "look and write": in_session("bound", read, write),
    "rotate": in_session("bound", rotate),
    "look and rotate": in_session("bound", read, rotate),
    "shorten": in_session("bound", shorten),
    "log out": in_session("bound", log_out),
    "bind again": in_session("bound", bind),
    "bind again and rotate": in_session("bound", bind, rotate),
    "bind another": in_session("free", bind),
    "bind another and rotate": in_session("free", bind, rotate),
    "rotate another": in_session("free", rotate),
    "take over": in_session("other", bind),
    "create": in_session(None, write, bind),
}


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    version_of("valkey")
    with Server("valkey") as server:
        ground = Ground(server)
        yield ground
        ground.close()


def problems(ground: Ground, played: Played) -> Iterator[str]:
    for step in played.steps:
        if step.after.is_early:
            yield f"an index ends before its sessions after {step.what}"
        if step.after.immortal:
            yield f"a key never expires after {step.what}"
    if played.last.unknown(ANN):
        yield "a session of the owner is in no index"
    if "destroy" in played.results and ground.is_alive("bound", played.last.alive):
        yield "a session that was bound before lives on"


LOSING = "read", "rotate", "bind another", "create", "log out"  # of one of each kind
CASES = [(name, 0) for name in ACTS] + [(name, 1) for name in LOSING]


@pytest.mark.parametrize(("name", "losses"), CASES)
def test_who_destroys_all_of_an_owners_sessions_misses_none(
    ground: Ground, name: str, losses: int
) -> None:
    orders = 0
    for played in ground.orders({"act": ACTS[name], "destroy": destroy_owner}, losses):
        orders += 1
        assert [*problems(ground, played)] == [], str(played)
        ground.store.destroy_owner("ann")
        left = ground.picture()
        assert ANN not in left.alive.values(), str(played)
        assert ANN not in left.known, str(played)
        assert ground.is_alive("other", left.alive) or name == "take over", str(played)
    assert orders >= 4


PAIRS = [
    ("rotate", "read"),
    ("rotate", "rotate"),
    ("look and rotate", "write"),
    ("rotate", "bind again"),
    ("bind another", "rotate another"),
    ("bind another", "bind another and rotate"),
    ("bind another and rotate", "bind another and rotate"),
    ("shorten", "read"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_who_use_a_session_at_once_do_not_end_it(
    ground: Ground, first: str, second: str
) -> None:
    which = "free" if "another" in first else "bound"
    for played in ground.orders({"first": ACTS[first], "second": ACTS[second]}):
        assert [*problems(ground, played)] == [], str(played)
        assert ground.is_alive(which, played.last.alive), str(played)
        is_owned = which == "bound" or played.results["first"] == "alive"
        owned = 1 + (which == "free" and is_owned)
        assert owned <= ground.store.destroy_owner("ann") <= 2, str(played)
        left = ground.picture()
        assert ANN not in left.alive.values(), str(played)


def test_a_session_that_logs_out_leaves_the_index(ground: Ground) -> None:
    for name in ("read", "look and write", "rotate"):
        acts = {"act": ACTS[name], "leave": ACTS["log out"]}
        for played in ground.orders(acts):
            assert not ground.is_alive("bound", played.last.alive), str(played)
            assert ground.store.sessions_of("ann") == [], str(played)


@pytest.mark.parametrize("overflow", ["oldest", "refuse"])
def test_no_order_of_logins_leaves_an_owner_with_too_many(overflow: str) -> None:
    def log_in(ground: Ground) -> str:
        with suppress(TooManySessions):
            return in_session(None, write, bind)(ground)
        return "refused"

    with Server("valkey") as server:
        ground = Ground(server, max_per_owner=2, owner_overflow=overflow)
        seen = set()
        for played in ground.orders({"first": log_in, "second": log_in}):
            if played.steps[0].actor == "second":
                break  # from there on all is the same again, mirrored
            mine = [n for n, owner in played.last.alive.items() if owner == ANN]
            assert len(mine) <= 2, str(played)
            assert played.last.unknown(ANN) == set(), str(played)
            seen.add((*sorted(played.results.values()), len(mine)))
        ground.close()
    expected = {
        "oldest": {("alive", "alive", 2)},
        "refuse": {("alive", "refused", 2)},
    }
    assert seen == expected[overflow]
