"""Mutants, and whether the tests see them: ``python -m mutation``, from tests/.

Prints each mutant that the tests do not see, with the reason if there is one, and at
the end for each file how many were tried and seen. The exit status is 1 if one that was
not seen is not explained.
"""

from __future__ import annotations

import argparse
import difflib
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import redis
from explorer.mutants import PACKAGE, changed_package
from explorer.run import Line
from servers import Server

from . import lua
from .explained import reason
from .reach import that_reach
from .trial import SECONDS, Chosen, passes

_RECORDS = ["store", "familiar", "round_trips", "conflicts"]
_OWNERS = ("owner", "owner_confirm", "owner_enter", "owner_forget", "owner_tell")
_OF_OWNERS = (*_OWNERS, "prolong")
_SESSIONS = ["session", "conflicts", "rotation", "events", "owners", "moving"]
_BY_OWNER = ["owners", "moving", "owner_orders"]
TESTED_BY = {
    "ids.py": ["ids"],
    "cookie.py": ["cookie"],
    "merge.py": ["merge"],
    "codec.py": ["codec"],
    "fields.py": ["fields", "conflicts"],
    "store.py": [*_RECORDS, "owners", "events", "session"],
    "familiar.py": ["familiar"],
    "engine.py": ["connect", "events", "session", "locks"],
    "life.py": [*_SESSIONS, "round_trips", "middleware"],
    "hold.py": ["locks", "events", "acquire", "session"],
    "session.py": ["session", "rotation"],
    "session_store.py": ["session", "owners", "integrations"],
    "reading.py": ["round_trips", *_SESSIONS],
    "middleware.py": ["middleware", "integrations", "session"],
    "belonging.py": _BY_OWNER,
    "owners.py": [*_BY_OWNER, "replicas"],
    "everywhere.py": _BY_OWNER,
    "wire.py": ["wire", "events", "store"],
    "config.py": ["config", "middleware"],
    "connect.py": ["connect", "config"],
    "embedded.py": ["connect"],
    "events.py": ["events"],
    "locks/single.py": ["acquire", "locks", "round_trips"],
    "locks/redlock.py": ["locks", "illness"],
    "locks/strategy.py": ["locks", "config"],
    "locks/protocol.py": ["locks"],
    "transport/__init__.py": ["transport"],
    "transport/any_client.py": ["transport", "replicas"],
    "transport/crew.py": ["crew", "transport"],
    "transport/forks.py": ["crew"],
    "transport/held.py": ["transport", "replicas"],
    "transport/idle.py": ["transport"],
    "transport/link.py": ["transport"],
    "transport/protocol.py": ["transport", "wire"],
    "transport/silence.py": ["silence", "transport"],
    "scripts/record.lua": _RECORDS,
    "scripts/load.lua": _RECORDS,
    "scripts/create.lua": _RECORDS,
    "scripts/update.lua": _RECORDS,
    "scripts/destroy.lua": [*_RECORDS, "owners"],
    **{f"scripts/{name}.lua": ["owners"] for name in _OF_OWNERS},
    "scripts/end.lua": ["moving"],
    "scripts/peek.lua": ["moving"],
    "scripts/acquire.lua": ["acquire", "locks"],
    "scripts/extend.lua": ["round_trips", "locks"],
    "scripts/glance.lua": ["cli"],
}
"""The files that are mutated, and the test files that are to see it, fastest first."""

STARTED = {
    "config.py": ("redlock", "master", "cluster"),
    "locks/redlock.py": ("redlock", "master"),
    "transport/any_client.py": ("cluster",),
    "wire.py": ("cluster",),
    "connect.py": ("cluster", "master"),
}
"""Of what tests need several servers for, what they need for a file."""

ELSEWHERE = {"transport/forks.py"}
"""What runs in a test's child process, of which coverage.py notes nothing."""


class Mutant(NamedTuple):
    file: str
    text: str

    @property
    def change(self) -> tuple[str, str]:
        """The lines that differ, before and now."""
        before = (PACKAGE / self.file).read_text("utf-8").splitlines()
        lines = list(difflib.ndiff(before, self.text.splitlines()))
        old = [line[2:].strip() for line in lines if line.startswith("- ")]
        new = [line[2:].strip() for line in lines if line.startswith("+ ")]
        return " ".join(filter(None, old)), " ".join(filter(None, new))

    @property
    def lines(self) -> set[int]:
        """Those that are changed, as they are numbered in the file as it is."""
        before = (PACKAGE / self.file).read_text("utf-8").splitlines()
        pairs = difflib.SequenceMatcher(None, before, self.text.splitlines())
        changed = set(range(1, len(before) + 1))
        for block in pairs.get_matching_blocks():
            changed -= set(range(block.a + 1, block.a + 1 + block.size))
        return changed

    @property
    def reason(self) -> str | None:
        """Why nobody can see it, if somebody has thought of it."""
        return reason(self.file, *self.change)


def mutants_of(file: str, client: redis.Redis) -> Iterator[Mutant]:
    """All of a file that can be read by what runs it."""
    text = (PACKAGE / file).read_text("utf-8")
    if file.endswith(".py"):
        from . import python  # which needs cosmic-ray

        yield from (Mutant(file, made) for made in python.mutants(text))
        return
    is_beginning = file == "scripts/record.lua"
    beginning = "" if is_beginning else (PACKAGE / "scripts/record.lua").read_text()
    for made in lua.mutants(text):
        with suppress(redis.ResponseError):  # it does not compile
            client.script_load(beginning + made)
            yield Mutant(file, made)


def is_seen(mutant: Mutant, names: Sequence[str]) -> bool:
    """Whether a test fails, or does not come to an end. The files are run in turn."""
    with changed_package({mutant.file: mutant.text}) as folder:
        for name in names:
            tests, only = Chosen(name, STARTED.get(mutant.file, ())), None
            if mutant.file.endswith(".py") and mutant.file not in ELSEWHERE:
                only = that_reach(mutant.lines, mutant.file, tests)
            within = _within.get(tests, SECONDS)
            if only != set() and not passes(folder, tests, within, only):
                return True
    return False


_within: dict[Chosen, float] = {}
"""Seconds in which they pass or hang."""


def assert_passes(tests: Chosen) -> None:
    """Raises AssertionError where tests fail without a mutant: they prove nothing."""
    if tests in _within:
        return
    begun = time.monotonic()
    with changed_package({}) as folder:
        assert passes(folder, tests, SECONDS), f"{tests}: failed without a mutant"
    _within[tests] = 20 + 6 * (time.monotonic() - begun)


class Count(NamedTuple):
    """What came of a file's mutants."""

    file: str
    made: int
    tried: int
    seen: int
    explained: int

    @property
    def unseen(self) -> int:
        return self.tried - self.seen - self.explained


def count(file: str, made: int, tried: Sequence[Mutant], names: Sequence[str]) -> Count:
    """Try mutants of a file on test files, and print those that are not seen."""
    line, seen, explained = Line(file, len(tried)), 0, 0
    for name in names:
        assert_passes(Chosen(name, STARTED.get(file, ())))
    for mutant in tried:
        if is_seen(mutant, names):
            seen += 1
        else:
            explained += mutant.reason is not None
            old, new = mutant.change
            print(f"- {old}\n+ {new}\n  {mutant.reason or '?'}", flush=True)
        line.advance(f"mutants, {seen} seen")
    line.end()
    return Count(file, made, len(tried), seen, explained)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="at most so many of each file")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    parser.add_argument("--file", choices=TESTED_BY, action="append")
    parser.add_argument("--line", help="only of lines with this text")
    parser.add_argument("--test", action="append", help="not all of a file's tests")
    chosen = parser.parse_args(words)
    counts: list[Count] = []
    with Server("valkey") as server, server.client() as client:
        for file in chosen.file or TESTED_BY:
            print(file, flush=True)
            made = tried = list(mutants_of(file, client))
            if chosen.line:
                tried = [one for one in made if chosen.line in one.change[0]]
            if chosen.sample is not None and chosen.sample < len(tried):
                tried = random.Random(chosen.seed).sample(tried, chosen.sample)
            counts.append(count(file, len(made), tried, chosen.test or TESTED_BY[file]))
    print(f"{'file':<24}{'mutants':>9}{'tried':>7}{'seen':>7}{'explained':>11}  unseen")
    for row in counts:
        numbers = f"{row.made:>9,}{row.tried:>7,}{row.seen:>7,}{row.explained:>11,}"
        print(f"{row.file:<24}{numbers}{row.unseen:>8,}")
    return 1 if any(row.unseen for row in counts) else 0
