"""Mutants, and whether the tests see them: ``python -m mutation``, from tests/.

Prints for each file how many mutants were tried and how many the tests saw, then each
that they did not see. The exit status is 1 if one of those is not explained.
"""

from __future__ import annotations

import argparse
import difflib
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import redis
from explorer.mutants import PACKAGE, changed_package
from explorer.run import Line
from servers import Server

from . import lua
from .explained import reason
from .trial import passes

_RECORDS = ["store", "familiar", "round_trips", "conflicts"]
_OWNERS = ("owner", "owner_confirm", "owner_enter", "owner_forget", "owner_tell")
_OF_OWNERS = (*_OWNERS, "prolong")
TESTED_BY = {
    "ids.py": ["ids"],
    "cookie.py": ["cookie"],
    "merge.py": ["merge"],
    "codec.py": ["codec"],
    "fields.py": ["fields", "conflicts"],
    "store.py": _RECORDS,
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
        return " ".join(old), " ".join(new)

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


def is_seen(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether a test fails, or does not come to an end. The files are run in turn."""
    with changed_package({mutant.file: mutant.text}) as folder:
        return not all(passes(folder, test) for test in tests)


@cache
def assert_passes(test: str) -> None:
    """Raises AssertionError where tests fail without a mutant: they prove nothing."""
    with changed_package({}) as folder:
        assert passes(folder, test), f"{test}: failed without a mutant"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="at most so many of each file")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    parser.add_argument("--file", choices=TESTED_BY, action="append")
    chosen = parser.parse_args(words)
    unseen: list[Mutant] = []
    print(f"{'file':<22}{'mutants':>9}{'tried':>7}{'seen':>6}{'explained':>11}  unseen")
    with Server("valkey") as server, server.client() as client:
        for file in chosen.file or TESTED_BY:
            everything = list(mutants_of(file, client))
            tried = everything
            if chosen.sample is not None and chosen.sample < len(everything):
                tried = random.Random(chosen.seed).sample(everything, chosen.sample)
            line, lost = Line(file, len(tried)), list[Mutant]()
            for test in TESTED_BY[file]:
                assert_passes(test)
            for mutant in tried:
                if not is_seen(mutant, TESTED_BY[file]):
                    lost.append(mutant)
                line.advance(f"mutants, {len(lost)} not seen")
            line.end()
            told = sum(mutant.reason is not None for mutant in lost)
            counts = (
                f"{len(everything):>9,}{len(tried):>7,}{len(tried) - len(lost):>6,}"
            )
            print(f"{file:<22}{counts}{told:>11,}{len(lost) - told:>8,}", flush=True)
            for mutant in lost:
                old, new = mutant.change
                print(f"- {old}\n+ {new}\n  {mutant.reason or '?'}", flush=True)
            unseen += [mutant for mutant in lost if mutant.reason is None]
    return 1 if unseen else 0
