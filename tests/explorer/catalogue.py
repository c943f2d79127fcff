"""What requests do to a session, written as applications write it.

Each body is played twice: on a real `Session`, and by the model on a `Plain` dict,
which tells what it should come to. All of one case begin with the same `FIXTURE`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FIXTURE: dict[str, Any] = {
    "seed": "original",  # nobody changes it: who has it descends from the first record
    "shared": "before",
    "nest": {"kept": 0, "deep": {"kept": 0}},
    "items": ["first"],
    "doomed": "soon gone",
    "count": 10,
    "total": 0,
}


class Me:
    """A request's own name, and what it notes on its way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def look(self, session: Any, whole: bool = False) -> None:
        """Read the session, and note what was there."""
        names = list(session) if whole else ["seed"]
        self.noted({name: session[name] for name in names if name in session})

    def noted(self, sight: dict[str, Any]) -> None:
        """What was seen; overridden by who wants to know it."""

    def destroyed(self) -> None:
        """The destruction has returned."""


class Plain(dict[str, Any]):
    """A dict with a session's verbs; remembers what each commit would store."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(copy.deepcopy(fields))
        self.commits: list[dict[str, Any]] = []
        self.counted: set[str] = set()

    def incr(self, name: str, by: int = 1) -> None:
        self[name] = self.get(name, 0) + by
        self.counted.add(name)

    def save(self) -> None:
        self.commits.append(copy.deepcopy(dict(self)))

    def destroy(self) -> None:
        self.clear()

    def regenerate_id(self) -> None:
        """The fields stay."""


@dataclass(frozen=True)
class Body:
    """What a request does, and what is known of it without playing it."""

    name: str
    act: Callable[[Any, Me], object] = field(repr=False, compare=False)
    looks: bool = False
    """It reads before it writes, and notes it."""
    destroys: bool = False
    rotates: bool = False
    has_cookie: bool = True
    status: str = "200 OK"

    def played_on(self, fields: dict[str, Any], name: str) -> Plain:
        """What it makes of a plain dict; each commit and, last, the end."""
        plain = Plain(fields)
        self.act(plain, Me(name))
        plain.save()
        return plain


BODIES: dict[str, Body] = {}


def body(**known: Any) -> Callable[[Callable[[Any, Me], object]], Body]:
    def enter(act: Callable[[Any, Me], object]) -> Body:
        made = BODIES[act.__name__] = Body(act.__name__, act, **known)
        return made

    return enter


@body(looks=True)
def read(session: Any, me: Me) -> None:
    me.look(session, whole=True)


@body()
def set_own(session: Any, me: Me) -> None:
    session[f"own {me.name}"] = me.name


@body(looks=True)
def look_set_own(session: Any, me: Me) -> None:
    me.look(session)
    session[f"own {me.name}"] = me.name


@body()
def set_same(session: Any, me: Me) -> None:
    session["shared"] = me.name


@body(looks=True)
def look_set_same(session: Any, me: Me) -> None:
    me.look(session, whole=True)
    session["shared"] = me.name


@body(looks=True)
def nest(session: Any, me: Me) -> None:
    me.look(session)
    session.setdefault("nest", {})[me.name] = 1


@body(looks=True)
def nest_deep(session: Any, me: Me) -> None:
    me.look(session)
    session.setdefault("nest", {}).setdefault("deep", {})[me.name] = 1


@body(looks=True)
def nest_same(session: Any, me: Me) -> None:
    me.look(session)
    session.setdefault("nest", {}).setdefault("deep", {})["same"] = me.name


@body(looks=True)
def append(session: Any, me: Me) -> None:
    me.look(session)
    session.setdefault("items", []).append(me.name)


@body(looks=True)
def delete(session: Any, me: Me) -> None:
    me.look(session)
    session.pop("doomed", None)


@body(looks=True)
def delete_nest(session: Any, me: Me) -> None:
    me.look(session)
    session.pop("nest", None)


@body()
def incr(session: Any, me: Me) -> None:  # noqa: ARG001
    session.incr("count")


@body(looks=True)
def look_incr(session: Any, me: Me) -> None:
    me.look(session, whole=True)
    session.incr("count")


@body(looks=True)
def add_one(session: Any, me: Me) -> None:
    """Read-modify-write: exact under a lock only."""
    me.look(session)
    session["total"] = session.get("total", 0) + 1


@body(looks=True)
def mix(session: Any, me: Me) -> None:
    me.look(session)
    session.setdefault("nest", {})[me.name] = 1
    session.setdefault("items", []).append(me.name)
    session[f"own {me.name}"] = me.name
    session.incr("count")
    session.pop("doomed", None)


@body()
def save_twice(session: Any, me: Me) -> None:
    session[f"own {me.name} 1"] = 1
    session.save()
    session[f"own {me.name} 2"] = 2


@body(destroys=True)
def destroy(session: Any, me: Me) -> None:
    session.destroy()
    me.destroyed()


@body(destroys=True, looks=True)
def look_destroy(session: Any, me: Me) -> None:
    me.look(session)
    session.destroy()
    me.destroyed()


@body(destroys=True)
def destroy_write(session: Any, me: Me) -> None:
    session.destroy()
    me.destroyed()
    session[f"own {me.name}"] = me.name


@body(rotates=True)
def regenerate(session: Any, me: Me) -> None:  # noqa: ARG001
    session.regenerate_id()


@body(rotates=True, looks=True)
def login(session: Any, me: Me) -> None:
    me.look(session)
    session[f"own {me.name}"] = me.name
    session.regenerate_id()


@body(has_cookie=False)
def create(session: Any, me: Me) -> None:
    session[f"own {me.name}"] = me.name


@body(looks=True, status="500 Internal Server Error")
def fail(session: Any, me: Me) -> None:
    me.look(session)
    session[f"own {me.name}"] = me.name
