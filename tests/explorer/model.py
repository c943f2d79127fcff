"""Whether what was seen in one order is what the promises allow. Pure.

It knows what each request meant to do (its body, played on a plain dict), the picture
of Redis before and after each step, and what each request was told. It knows nothing of
the package. Each rule is a method below that says what is wrong:

* A key that never expires, a lock that is left, a request that waits for ever.
* Two living records of one descent; one that lives again; one that ends without cause.
* A step that changes anything but what its request is still to commit. A commit has to
  be exactly the request's own edit, made to what is stored *then*: that is what it is
  to lose nothing of others, down to a nested key.
* An answer 200 without its commit, unless the session was gone; a commit without 200.
* A failure, other than `LockLost` where a lock was really lost.
* A cookie of a record that the request did not make or move, or none of one that it
  did; an expired one where nothing was destroyed.
* A request that reads what was not stored.
* A session that lives on after its destruction was reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

Fields = Mapping[str, Any]
_NTH = "", 2, 3


class Case(NamedTuple):
    """What is let loose on each other.

    A client may make several requests, one after the other: "login > add_one".
    """

    bodies: tuple[str, ...]
    lock: str
    event: str = ""

    @property
    def requests(self) -> list[dict[str, str]]:
        """For each client its bodies by the requests' names: a, a2, b, ..."""
        chains = [body.split(" > ") for body in self.bodies]
        return [
            {
                f"{client}{nth or ''}": body
                for nth, body in zip(_NTH, chain, strict=False)
            }
            for client, chain in zip("abc", chains, strict=False)
        ]

    def __str__(self) -> str:
        what = " | ".join(self.bodies)
        return f"{what} [{self.lock}{', ' + self.event if self.event else ''}]"


class Picture(NamedTuple):
    """What lies in Redis: living records by name, keys without expiry, locks, rest."""

    records: Mapping[str, Fields]
    immortal: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    nodes: int = 0

    @property
    def descendants(self) -> list[str]:
        """The records that descend from the original."""
        return [name for name, fields in self.records.items() if "seed" in fields]


class Sight(NamedTuple):
    """What a request saw, and how many steps had begun by then."""

    at: int
    fields: Fields


@dataclass
class Response:
    """What a request sent, and what it was told.

    Cookie: None if there was none, "" if it was expired. Sent and record: what the
    records are called that the two cookies stand for; "" for none.
    """

    sent: str = ""
    status: str = ""
    error: str = ""
    detail: str = ""
    cookie: str | None = None
    record: str = ""
    at: int = 0
    sights: list[Sight] = field(default_factory=list)
    destroyed_at: int = 0

    @property
    def is_good(self) -> bool:
        return self.status.startswith("200") and not self.error


class Known(Protocol):
    """What the model asks of a body."""

    name: str
    looks: bool
    destroys: bool
    rotates: bool
    status: str

    def played_on(self, fields: Any, name: str) -> Any: ...


class Step(Protocol):
    actor: str
    what: str
    before: Picture
    after: Picture


class Trial(NamedTuple):
    """One order, as it went."""

    case: Case
    bodies: Mapping[str, Known]
    steps: Sequence[Step]
    responses: Mapping[str, Response]
    is_stuck: bool = False
    locks_left: Sequence[str] = ()


def judge(trial: Trial) -> list[str]:
    """What is wrong with it; empty if nothing is."""
    return list(_Judgement(trial).all())


class Change(NamedTuple):
    """What one step did to the records."""

    at: int
    actor: str
    created: list[str]
    removed: list[str]
    changed: list[str]


class _Request:
    """One request of a trial: what it meant, what it met, what it did."""

    def __init__(self, trial: Trial, name: str) -> None:
        self.trial, self.name = trial, name
        self.body, self.response = trial.bodies[name], trial.responses[name]
        self.steps = [i for i, step in enumerate(trial.steps) if step.actor == name]
        self.stored: list[int] = []  # steps that committed to what was there
        self.made: list[int] = []  # steps that created a record
        self.added: list[int] = []  # steps that committed to what it had created
        self.own: set[str] = set()  # what it created
        self.destroyed: list[int] = []  # steps that removed one

    @cached_property
    def look(self) -> int | None:
        """The step in which it loaded; None for one that did not look."""
        sights = self.response.sights
        return sights[0].at - 1 if sights else None

    @property
    def saw_the_original(self) -> bool:
        return any("seed" in sight.fields for sight in self.response.sights[:1])

    @cached_property
    def seen(self) -> Fields:
        """What was stored under its id when it looked."""
        if self.look is None:
            return {}
        return self.trial.steps[self.look].after.records.get(self.response.sent, {})

    def commits_on(self, stored: Fields) -> list[dict[str, Any]]:
        """What each of its commits has to make of what is stored."""
        redone = self.body.played_on(stored, self.name)
        if self.trial.case.lock != "none":
            return list(redone.commits)
        mine = self.body.played_on(self.seen, self.name)
        pairs = zip(redone.commits, mine.commits, strict=True)
        seen = {n: v for n, v in self.seen.items() if n not in mine.counted}
        new = mine.commits[-1].keys() - self.seen.keys() - mine.counted
        leaves = [n for n in new if not isinstance(stored.get(n, {}), dict | list)]
        return [
            _merged(seen, stored, redo, own) | {n: own[n] for n in leaves if n in own}
            for redo, own in pairs
        ]

    @property
    def news(self) -> list[dict[str, Any]]:
        """What its commits are to be for a new record."""
        return [c for c in self.body.played_on({}, self.name).commits if c]


def _merged(seen: Fields, stored: Fields, redone: Fields, mine: Fields) -> Any:
    """The edit as made to what is stored; but of a leaf, or of what is deleted, mine.

    Args:
        seen: What it was to the request, before it made mine of it.
        redone: What the same edit makes of what is stored.
    """
    merged = dict(redone)
    for name in seen:
        if name not in mine:
            merged.pop(name, None)
        elif seen[name] == mine[name] or name not in redone:
            continue
        elif name not in stored or not isinstance(mine[name], dict | list):
            merged[name] = mine[name]
        elif isinstance(mine[name], dict):
            parts = (fields[name] for fields in (seen, stored, redone, mine))
            merged[name] = _merged(*parts)
    return merged


class _Judgement:
    def __init__(self, trial: Trial) -> None:
        self.trial, self.case, self.steps = trial, trial.case, trial.steps
        self.requests = {name: _Request(trial, name) for name in trial.bodies}
        self.moves: list[tuple[int, str, str]] = []  # step, old name, new name

    def all(self) -> Iterator[str]:
        """The rules, in an order in which the later ones may use what was found."""
        yield from self.leftovers()
        yield from self.lives()
        for change in self.changes():
            yield from self.explained(change)
        for request in self.requests.values():
            yield from self.told(request)
            yield from self.failed(request)
            yield from self.cookie(request)
            yield from self.sights(request)
            yield from self.destroyed(request)

    # -- the whole -------------------------------------------------------------------

    def leftovers(self) -> Iterator[str]:
        immortal = {key for step in self.steps for key in step.after.immortal}
        yield from (f"key {key} never expires" for key in immortal)
        yield from (f"lock {key} is left" for key in self.trial.locks_left)
        if self.trial.is_stuck:
            yield "a request waits for a lock for ever"

    def lives(self) -> Iterator[str]:
        """At most one of the descent lives, and nothing lives twice."""
        ended: set[str] = set()
        for step in self.steps:
            alive = step.after.records.keys()
            ended |= step.before.records.keys() - alive
            if len(step.after.descendants) > 1:
                yield f"two sessions of one descent live after {step.actor}"
            if ended & alive:
                yield f"a session lives again after {step.actor}: {step.what}"
            if step.after.descendants and not step.before.descendants:
                yield f"the session was gone and is back after {step.actor}"

    def changes(self) -> Iterator[Change]:
        for at, step in enumerate(self.steps):
            before, after = step.before.records, step.after.records
            created = [name for name in after if name not in before]
            removed = [name for name in before if name not in after]
            kept = [name for name in after if name in before]
            changed = [name for name in kept if before[name] != after[name]]
            if created or removed or changed:
                yield Change(at, step.actor, created, removed, changed)

    # -- each step -------------------------------------------------------------------

    def explained(self, change: Change) -> Iterator[str]:
        """Nothing changes but by an event, or as one request is to change it."""
        request = self.requests.get(change.actor)
        if request is None:
            return
        ways: dict[tuple[int, int, int], Callable[[_Request, Change], Iterator[str]]]
        ways = {
            (0, 0, 1): self._commit,
            (1, 1, 0): self._move,
            (0, 1, 0): self._removal,
            (1, 0, 0): self._creation,
        }
        shape = len(change.created), len(change.removed), len(change.changed)
        if shape in ways:
            yield from ways[shape](request, change)
        else:
            yield f"{change.actor} does several things in one step: {change}"

    def _commit(self, request: _Request, change: Change) -> Iterator[str]:
        yield from self._right_commit(request, change, change.changed[0])

    def _move(self, request: _Request, change: Change) -> Iterator[str]:
        (old,), (new,) = change.removed, change.created
        self.moves.append((change.at, old, new))
        if not request.body.rotates:
            yield f"{request.name} moves a session"
        yield from self._right_commit(request, change, new, old)

    def _removal(self, request: _Request, change: Change) -> Iterator[str]:
        request.destroyed.append(change.at)
        if not request.body.destroys:
            yield f"{request.name} removes a session"

    def _creation(self, request: _Request, change: Change) -> Iterator[str]:
        request.made.append(change.at)
        request.own.add(change.created[0])
        record = self.steps[change.at].after.records[change.created[0]]
        if record not in request.news:
            yield f"{request.name} creates {record}, not {request.news}"

    def _right_commit(
        self, request: _Request, change: Change, name: str, old: str = ""
    ) -> Iterator[str]:
        """The commit makes of what was stored what the request meant."""
        step = self.steps[change.at]
        stored, made = step.before.records[old or name], step.after.records[name]
        if name in request.own:
            wanted, nth = request.news, len(request.made) + len(request.added)
            request.added.append(change.at)
        else:
            wanted, nth = request.commits_on(stored), len(request.stored)
            request.stored.append(change.at)
        yield from self._may_commit(request, change.at, old or name)
        if nth >= len(wanted):
            yield f"{request.name} commits once more than it should"
        elif made != wanted[nth]:
            right, wrong = (_difference(stored, f) for f in (wanted[nth], made))
            yield f"{request.name} makes {wrong}, not {right}"

    def _may_commit(self, request: _Request, at: int, name: str) -> Iterator[str]:
        """It is the session that it knows, and the answer is 200."""
        is_promise = len(request.stored) < len(request.commits_on({}))  # by save()
        if not request.response.is_good and not is_promise:
            yield f"{request.name} was not told 200, but changed the session"
        stored = self.steps[at].before.records[name]
        if request.saw_the_original and "seed" not in stored:
            yield f"{request.name} changed another session than it had read"
        is_another = name not in {request.response.sent, *request.own}
        if is_another and self._moved_before(request, request.steps[0]):
            yield f"{request.name} came after the rotation, but changed the session"

    # -- each request ----------------------------------------------------------------

    def told(self, request: _Request) -> Iterator[str]:
        """Whoever was told 200 has its work in the store, unless that was gone."""
        if not request.response.is_good:
            return
        commits = request.stored + request.made + request.added
        if any(at >= request.response.at for at in commits):
            yield f"{request.name} was answered before its commit"
        is_twice = request.made and request.stored and self.case.event != "lost reply"
        if len(request.made) > 1 or is_twice:
            yield f"{request.name} is stored twice"
        if not (self._is_stored(request) or self._is_made(request)):
            yield from self._lost(request)

    def _is_stored(self, request: _Request) -> bool:
        if request.body.destroys or not request.response.sent:
            return False
        wanted = request.body.played_on({"seed": 1}, request.name).commits
        return len(request.stored) == len(wanted) or self._has_nothing_to_do(request)

    def _has_nothing_to_do(self, request: _Request) -> bool:
        """At one of its steps what is stored is what it would make of it."""
        if request.body.rotates:
            return False
        for at in request.steps:
            picture = self.steps[at].before
            for name in {request.response.sent, *picture.descendants}:
                stored = picture.records.get(name, {})
                if stored and all(
                    wanted == stored for wanted in request.commits_on(stored)
                ):
                    return True
        return False

    def _is_made(self, request: _Request) -> bool:
        return bool(request.made) and (
            len(request.made) + len(request.added) == len(request.news)
        )

    def _lost(self, request: _Request) -> Iterator[str]:
        """Its changes went nowhere: may they?"""
        if not request.news:
            return
        if not request.response.sent or request.body.destroys:
            yield f"{request.name} was told 200, but no new session was stored"
        elif request.saw_the_original or request.stored:
            yield from self._lost_though_known(request)
        else:
            yield from self._lost_unknown(request)

    def _lost_though_known(self, request: _Request) -> Iterator[str]:
        """It knew the session: then that has to be gone, or moved by another."""
        known = min([request.look or 0, *request.stored])
        gone = any(self._is_gone(request, at) for at in request.steps if at > known)
        last = request.steps[-1]
        outdone = request.body.rotates and self._moved_before(request, last)
        if not gone and not outdone:
            yield f"{request.name} was told 200, but its changes are not stored"

    def _lost_unknown(self, request: _Request) -> Iterator[str]:
        """It was moved away; or gone after the request may have loaded it unseen."""
        moved = any(self._moved_before(request, at) for at in request.steps)
        lives = [self._life(request, at) for at in request.steps]
        has_ended = any(
            life and other != life
            for at, life in enumerate(lives)
            for other in lives[at:]
        )
        may_have_loaded = self.case.lock != "none" or self.case.event
        if not moved and not (has_ended and may_have_loaded):
            yield f"{request.name} was told 200, but its changes are nowhere"

    def _life(self, request: _Request, at: int) -> str:
        """Which session lives under the id that was sent, before this step."""
        fields = self.steps[at].before.records.get(request.response.sent)
        if fields is None:
            return ""
        return "the original" if "seed" in fields else "another"

    def _is_gone(self, request: _Request, at: int) -> bool:
        """Before this step, the session lives no more; or could not be found."""
        return self._lost_way(request, at) or not self.steps[at].before.descendants

    def _lost_way(self, request: _Request, at: int) -> bool:
        """Before this step, the session was moved, and what told whereto is lost."""
        return self.case.event == "forget" and self._moved_before(request, at)

    def _moved_before(self, request: _Request, at: int) -> bool:
        sent = request.response.sent
        return any(when < at and old == sent for when, old, _ in self.moves)

    def failed(self, request: _Request) -> Iterator[str]:
        response, body = request.response, request.body
        if response.status == body.status and not response.error:
            return
        if self.trial.is_stuck:
            return
        if response.error == "LockLost" and self._may_lose_lock(request):
            return
        yield f"{request.name} fails: {response.status} {response.detail}"

    def _may_lose_lock(self, request: _Request) -> bool:
        """Its lock was taken away while it was on its way.

        With Redlock, its masters' memory of it: then the holder may come too early, and
        it is the next one that finds the record changed.
        """
        taken = [at for at, step in enumerate(self.steps) if step.actor == "unlock"]
        if self.case.lock == "redlock":
            return bool(taken)
        return bool(taken) and request.steps[0] < taken[0]

    def cookie(self, request: _Request) -> Iterator[str]:
        """It names what the request made or moved, and expires what it destroyed."""
        response = request.response
        mine = request.own | {
            new for at, _, new in self.moves if self.steps[at].actor == request.name
        }
        if response.record and response.record not in mine:
            yield f"{request.name} gets the cookie of a record that it did not make"
        alive = self.steps[response.at - 1].after.records if response.at else {}
        if response.is_good and alive.keys() & (mine - {response.record}):
            yield f"{request.name} made a record, but gets no cookie for it"
        if response.cookie == "" and not request.body.destroys:
            yield f"{request.name} has its cookie expired"

    def sights(self, request: _Request) -> Iterator[str]:
        """It reads what is stored under its id, or nothing where nothing is."""
        for sight in request.response.sights:
            picture = self.steps[sight.at - 1].after if sight.at else None
            stored = picture.records.get(request.response.sent, {}) if picture else {}
            wrong = {n: v for n, v in sight.fields.items() if stored.get(n) != v}
            if wrong or ("shared" in sight.fields and sight.fields != stored):
                yield f"{request.name} reads {sight.fields}, but stored is {stored}"

    def destroyed(self, request: _Request) -> Iterator[str]:
        """When the destruction has returned, what the request had is dead."""
        if not request.response.destroyed_at:
            return
        at = request.response.destroyed_at
        picture = self.steps[at - 1].after
        if request.response.sent in picture.records:
            yield f"{request.name} destroyed the session, which lives"
        elif not picture.descendants or self._lost_way(request, at):
            return
        elif request.saw_the_original:
            yield f"{request.name} destroyed the session, which lives on, moved"
        elif request.response.cookie == "":
            yield f"{request.name} has a living session's cookie expired"


def _difference(old: Fields, new: Fields) -> dict[str, Any]:
    names = sorted(old.keys() | new.keys())
    return {n: new.get(n, "(none)") for n in names if old.get(n) != new.get(n)}
