"""Our own code, broken in one place each: the explorer must see every one of them.

A zero proves nothing alone. Each mutant is a copy of the package in which one text is
replaced by another; the explorer walks some cases with it, in an interpreter of its
own, until the first anomaly.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "smartredis_wsgi"
SECONDS = 300.0


class MutantError(Exception):
    """A mutant that cannot be made, or does not run at all: it proves nothing."""


class Edit(NamedTuple):
    """A text that stands once in a file, and what it becomes.

    An ellipsis (one character) in it stands for the rest of a line, or a part of it.
    """

    file: str
    old: str
    new: str

    def made_in(self, text: str) -> str:
        """The text as it becomes.

        Raises:
            MutantError: What is to be replaced does not stand there exactly once.
        """
        pattern = ".*".join(map(re.escape, self.old.split("…")))
        made, times = re.subn(pattern, lambda _: self.new, text)
        if times != 1:
            raise MutantError(f"{times} times in {self.file}: {self.old!r}")
        return made


@dataclass(frozen=True)
class Mutant:
    name: str
    edits: tuple[Edit, ...]
    cases: tuple[str, ...]
    """As `run.py` reads them: read + set_own / none / expire."""


class Catch(NamedTuple):
    """What became of a mutant.

    The example: the order that caught it, or why it could not be explored.
    """

    mutant: Mutant
    is_caught: bool
    orders: int
    example: str


def _lua(name: str, old: str, new: str) -> Edit:
    return Edit(f"scripts/{name}.lua", old, new)


_ALIVE_ONLY = "if kind ~= 'alive' then return …"
_ANYTHING = """
if kind ~= 'alive' then
  meta = {incarnation = ARGV[1], marks = '', version = 0, created = 0, size = 0}
end
"""
_TOMBSTONE = """\
  redis.call('SET', record, string.format('moved %.0f %s', till, target),
    'PX', math.max(ARGV[8], ARGV[9]))
"""
_DROP_CHECKS = _lua("update", _ALIVE_ONLY, _ANYTHING)
_DROP_COMPARISON = _lua("update", "if conflict then return conflict end", "")
_DROP_TOMBSTONE = _lua("update", _TOMBSTONE, "")


MUTANTS = [
    Mutant(
        "an update does not check that there is a record",
        (_DROP_CHECKS,),
        ("look_set_own/none/expire",),
    ),
    Mutant(
        "an update is two round trips: one to check, one to write",
        (
            Edit(
                "life.py",
                "        name, ttl = self._address.record, self._ttl\n        new_name",
                "        look = self._engine.records.load(self._address.record)\n"
                "        self._engine.wire.run(look)\n"
                "        if look.result.kind is not Kind.ALIVE:\n"
                "            return self._become_gone()\n"
                "        name, ttl = self._address.record, self._ttl\n        new_name",
            ),
            _DROP_CHECKS,
        ),
        ("look_set_own/none/expire",),
    ),
    Mutant(
        "an update does not check the incarnation",
        (_lua("update", "if ARGV[1] ~= '' and ARGV[1]", "if false and ARGV[1]"),),
        ("look_set_own/none/replace",),
    ),
    Mutant(
        "a commit that is sent again is not recognised",
        (_lua("update", "if later then return", "if false then return"),),
        ("incr/none/lost reply",),
    ),
    Mutant(
        "a commit that is sent again is not looked for where the record was moved to",
        (_lua("update", "if its_kind ~= 'moved' then break end", "do break end"),),
        ("login + nest/none/lost reply", "login + look_incr/none/lost reply"),
    ),
    Mutant(
        "a creation that is sent again is not recognised",
        (_lua("create", "if kind == 'alive' and meta", "if false and meta"),),
        ("create/none/lost reply",),
    ),
    Mutant(
        "the version is not counted",
        (
            _lua(
                "update",
                "meta.version + 1, size, own",
                "meta.version, size, own",
            ),
        ),
        ("add_one + add_one/redlock/unlock",),
    ),
    Mutant(
        "the version is not checked",
        (_lua("update", "if ARGV[2] ~= '' and", "if false and"),),
        ("add_one + add_one/redlock/unlock",),
    ),
    Mutant(
        "a commit does not ask who holds the lock",
        (_lua("update", "holder ~= ARGV[3] then", "holder == 1 then"),),
        ("add_one + add_one/single/unlock",),
    ),
    Mutant(
        "a lock is released as soon as the record is loaded",
        (
            Edit(
                "hold.py",
                "self._exclusive = bool(load and self.lease)",
                "self.release()",
            ),
        ),
        ("add_one + add_one/single",),
    ),
    Mutant(
        "a lock is released without asking whose it is",
        (
            Edit(
                "locks/protocol.py",
                "bytes(UNLOCK_SCRIPT)",
                "bytes(UNLOCK_SCRIPT).replace(b'~= ARGV[1]', b'== nil')",
            ),
        ),
        ("add_one + add_one + add_one/single/unlock",),
    ),
    Mutant(
        "a lock is never released",
        (Edit("locks/protocol.py", "bytes(UNLOCK_SCRIPT)", "b'return 0'"),),
        ("read + read/single",),
    ),
    Mutant(
        "a lock is taken though another has it",
        (_lua("acquire", "'NX', 'PX', expiry)", "'PX', expiry)"),),
        ("add_one + add_one/single",),
    ),
    Mutant(
        "one's own lock is not recognised after a lost reply",
        (_lua("acquire", "or redis.call('GET', lock) == token", ""),),
        ("add_one/single/lost reply",),
    ),
    Mutant(
        "destroying leaves the record",
        (
            _lua("destroy", "  redis.call('UNLINK', record)\n", ""),
            _lua(
                "destroy",
                "  redis.call('SET', record, 'destroyed', 'PX', ARGV[1])\n",
                "",
            ),
        ),
        ("destroy + read/none",),
    ),
    Mutant(
        "destroying does not follow a rotation",
        (Edit("reading.py", "while found.moved_to:", "while False:"),),
        ("look_destroy + login/none",),
    ),
    Mutant(
        "a session that is gone is made anew under its old id",
        (
            Edit(
                "reading.py",
                '        self._rename("")\n        self.is_new',
                "        self.is_new",
            ),
        ),
        ("set_own/none/expire",),
    ),
    Mutant(
        "a rotation copies the record",
        (
            _lua("update", "'RENAME', record, target", "'COPY', record, target"),
            _DROP_TOMBSTONE,
        ),
        ("login + look_set_own/none",),
    ),
    Mutant(
        "a rotation leaves no tombstone",
        (_DROP_TOMBSTONE,),
        ("login + look_set_own/none",),
    ),
    Mutant(
        "whoever comes after a rotation, with the old id, may write",
        (
            Edit(
                "life.py",
                "elif outcome is Outcome.MOVED and …:",
                "elif outcome is Outcome.MOVED:",
            ),
        ),
        ("login + set_own/none",),
    ),
    Mutant(
        "what was loaded is not carried over after a rotation",
        (Edit("life.py", "elif outcome is Outcome.MOVED and …:", "elif False:"),),
        ("login + look_set_own/none",),
    ),
    Mutant(
        "what is stored is not compared with what was read",
        (_DROP_COMPARISON,),
        ("nest + nest/none",),
    ),
    Mutant(
        "of a conflict mine is taken, unmerged",
        (
            Edit(
                "fields.py",
                "merged = merge(base, self._value(raw), mine, self._is_same)",
                "merged = mine",
            ),
        ),
        ("nest + nest/none",),
    ),
    Mutant(
        "a second conflict meets what the first one made",
        (
            Edit(
                "life.py",
                "self._proposed = self._proposed or self._fields.changes()",
                "self._proposed = self._fields.changes()",
            ),
        ),
        ("nest + nest + delete_nest/none",),
    ),
    Mutant(
        "appended lists are taken as leaves",
        (Edit("merge.py", "[*theirs, *mine[size:]] if both_append else mine", "mine"),),
        ("append + append/none",),
    ),
    Mutant(
        "incr sets what it makes of the number that it read",
        (
            _lua(
                "update",
                "redis.call('HINCRBY', record, ARGV[i], ARGV[i + 1])",
                "redis.call('HSET', record, ARGV[i], 10 + ARGV[i + 1])",
            ),
        ),
        ("incr + incr/none",),
    ),
    Mutant(
        "a reader writes back all that it read",
        (
            Edit("fields.py", "if type(value) not in _FIXED:", "if True:"),
            Edit("fields.py", "if not is_same:", "if True:"),
            _DROP_COMPARISON,
        ),
        ("read + set_same/none",),
    ),
    Mutant(
        "a new record never expires",
        (_lua("create", "redis.call('PEXPIRE', record,", "math.abs(0 *"),),
        ("create/none",),
    ),
    Mutant(
        "the response begins before the commit",
        (
            Edit(
                "middleware.py",
                "        try:\n            self._end(keep)\n",
                "        if self._life and self._life.client_id:\n"
                "            self._start_server(status, headers)\n"
                "            return self._end(keep)\n"
                "        try:\n            self._end(keep)\n",
            ),
        ),
        ("look_set_own/none",),
    ),
    Mutant(
        "a script that the server lost is not sent again",
        (
            Edit(
                "wire.py",
                'if any(type(reply).__name__ == "NoScriptError" …:',
                "if False:",
            ),
        ),
        ("set_own/none/flush",),
    ),
]


@contextmanager
def mutated(mutant: Mutant) -> Iterator[Path]:
    """A folder that holds the package as the mutant has it.

    Raises:
        MutantError: A text to replace does not stand there exactly once.
    """
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        text = texts.get(edit.file) or (PACKAGE / edit.file).read_text("utf-8")
        texts[edit.file] = edit.made_in(text)
    with changed_package(texts) as folder:
        yield folder


@contextmanager
def changed_package(texts: Mapping[str, str]) -> Iterator[Path]:
    """A folder that holds the package, with these texts in place of some files'."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder, PACKAGE.name)
        shutil.copytree(PACKAGE, copy)
        for file, text in texts.items():
            (copy / file).write_text(text, "utf-8")
        yield Path(folder)


def hunt(mutant: Mutant) -> Catch:
    """Let the explorer look for it.

    Raises:
        MutantError: The explorer did not run to its end.
    """
    with mutated(mutant) as folder:
        command = [sys.executable, "-m", "explorer.run", "--hunt", *mutant.cases]
        environ = {**os.environ, "PYTHONPATH": str(folder)}
        ran = subprocess.run(
            command,
            cwd=TESTS,
            env=environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    lines = ran.stdout.splitlines()
    if ran.returncode or not lines:
        raise MutantError(ran.stderr[-2000:])
    told = json.loads(lines[-1])
    if not told["package"].startswith(str(folder)):
        raise MutantError(f"{told['package']} was explored")
    if any(slip in told["example"] for slip in ("AttributeError(", "NameError(")):
        raise MutantError(f"it fails by itself: {told['example']}")
    return Catch(mutant, told["anomalies"] > 0, told["orders"], told["example"])


def hunt_if_possible(mutant: Mutant) -> Catch:
    """As `hunt`; a mutant that proves nothing counts as not caught."""
    try:
        return hunt(mutant)
    except MutantError as error:
        return Catch(mutant, False, 0, str(error))


def hunt_all(workers: int) -> Iterator[Catch]:
    """Hunt all, so many at once."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(hunt_if_possible, MUTANTS)
