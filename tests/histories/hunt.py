"""Our own code, broken in one place each: do the histories show it?

The mutants are the explorer's. Each plays rounds, in an interpreter of its own, until
the first history that is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from explorer.mutants import MUTANTS, TESTS, MutantError, mutated

SECONDS = 600.0
HUNTED = {
    "what is stored is not compared with what was read": "none",
    "of a conflict mine is taken, unmerged": "none",
    "appended lists are taken as leaves": "none",
    "a commit that is sent again is not recognised": "none",
    "the response begins before the commit": "none",
    "the version is not checked": "single",
    "a lock is released as soon as the record is loaded": "single",
}
"""Mutants, and the lock under which each is looked for."""


class Catch(NamedTuple):
    """What became of a mutant: so many rounds, and the fields refused in the last."""

    name: str
    rounds: int
    fields: str


def hunt(name: str, most: int) -> Catch:
    """Play at most so many rounds with a mutant.

    Raises:
        MutantError: They were not played to their end.
    """
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    with mutated(mutant) as folder:
        lock = HUNTED[name]
        options = ["--hunt", lock, "--rounds", str(most)]
        ran = subprocess.run(
            [sys.executable, "-m", "histories.run", *options],
            cwd=TESTS,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    if ran.returncode:
        raise MutantError(ran.stderr[-2000:])
    told = json.loads(ran.stdout.splitlines()[-1])
    if not told["package"].startswith(str(folder)):
        raise MutantError(f"{told['package']} was played")
    return Catch(name, told["rounds"], told["fields"])


def hunt_all(most: int) -> Iterator[Catch]:
    for name in HUNTED:
        yield hunt(name, most)
