"""The explorer's command line: ``python -m explorer.run``, from tests/.

It walks the cases of a slice, the control and the mutants, and prints how many orders
were walked, how many anomalies were seen, and how many mutants. The exit status is 1 if
there was an anomaly, or a mutant or the control went unseen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

import smartredis_wsgi

from .cases import LOCKS, SLICES
from .model import Case
from .mutants import MUTANTS, hunt_all
from .walker import Tally, Walker

SHOWN = 12
SECONDS_BETWEEN = 60  # two lines of progress


@dataclass
class Sum:
    """What came of the cases of one lock."""

    cases: int = 0
    orders: int = 0
    steps: int = 0
    anomalies: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, tally: Tally) -> None:
        self.cases += 1
        self.orders += tally.orders
        self.steps += tally.steps
        self.anomalies += tally.anomalies
        if tally.examples:
            self.examples.append(f"{tally.case}\n    {tally.examples[0]}")


class Line:
    """A progress bar on one line, where somebody looks; else a line now and then."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._is_shown = sys.stderr.isatty()
        self._begun = self._told = time.monotonic()

    def advance(self, note: str, by: int = 1) -> None:
        self._done = min(self._done + by, self._total)
        if self._is_shown:
            self._draw(note)
        elif time.monotonic() - self._told > SECONDS_BETWEEN:
            self._told = time.monotonic()
            told = f"{self._what}: {self._done} of {self._total} {note}"
            print(told, file=sys.stderr, flush=True)

    def _draw(self, note: str) -> None:
        share = self._done / self._total
        bar = "#" * round(30 * share) + "." * (30 - round(30 * share))
        left = (time.monotonic() - self._begun) * (1 / share - 1)
        text = (
            f"{self._what} [{bar}] {self._done}/{self._total} {note}, {left:.0f} s left"
        )
        print(f"\r{text[:99]:<99}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_shown:
            print(f"\r{'':<99}\r", end="", file=sys.stderr, flush=True)


_walker: Walker


def _begin() -> None:
    """A worker of its own servers."""
    global _walker
    _walker = Walker()


def _walk(case: Case) -> Tally:
    return _walker.walk(case)


def walked(cases: Sequence[Case], workers: int) -> Iterator[Tally]:
    """Walk the cases, in so many interpreters of their own."""
    shuffled = random.Random(0).sample(list(cases), len(cases))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _begin) as pool:
        for future in as_completed([pool.submit(_walk, case) for case in shuffled]):
            yield future.result()


def explore(what: str, cases: Sequence[Case], workers: int) -> dict[str, Sum]:
    sums: dict[str, Sum] = defaultdict(Sum)
    line, orders = Line(what, len(cases)), 0
    for tally in walked(cases, workers):
        sums[tally.case.lock].add(tally)
        orders += tally.orders
        line.advance(f"cases, {orders:,} orders")
    line.end()
    return sums


def print_table(sums: dict[str, Sum], locks: Iterable[str]) -> None:
    print(f"{'lock':<10}{'cases':>8}{'orders':>10}{'exchanges':>11}{'anomalies':>11}")
    rows = [(lock, sums[lock]) for lock in locks]
    for name, row in [*rows, ("all", _total(row for _, row in rows))]:
        counts = f"{row.cases:>8,}{row.orders:>10,}{row.steps:>11,}{row.anomalies:>11,}"
        print(f"{name:<10}{counts}")


def _total(sums: Iterable[Sum]) -> Sum:
    total = Sum()
    for one in sums:
        total.cases += one.cases
        total.orders += one.orders
        total.steps += one.steps
        total.anomalies += one.anomalies
    return total


def explore_ours(cases: Sequence[Case], workers: int) -> bool:
    """Walk our own; returns whether all is well."""
    sums = explore("orders", cases, workers)
    print_table(sums, LOCKS)
    examples = [text for lock in LOCKS for text in sums[lock].examples]
    for text in examples[:SHOWN]:
        print(f"  {text}")
    if len(examples) > SHOWN:
        print(f"  ... and {len(examples) - SHOWN} more cases")
    return not examples


def explore_control(workers: int) -> bool:
    """Walk a whole-blob store; returns whether anomalies were seen."""
    blob = explore("control", SLICES["control"](), workers)["blob"]
    found = f"{blob.anomalies:,} anomalies in {blob.orders:,} orders"
    print(f"control, a whole-blob store: {found}")
    return blob.anomalies > 0


def hunt_mutants(workers: int) -> bool:
    """Returns whether each was caught."""
    line, caught = Line("mutants", len(MUTANTS)), 0
    for catch in hunt_all(workers):
        line.advance(catch.mutant.name)
        caught += catch.is_caught
        if not catch.is_caught:
            print(f"  not caught in {catch.orders:,} orders: {catch.mutant.name}")
            print(f"    {catch.example}")
    line.end()
    print(f"mutants caught: {caught} of {len(MUTANTS)}")
    return caught == len(MUTANTS)


def case_of(text: str) -> Case:
    """A case as the command line has it: ``read + set_own / none / expire``."""
    bodies, lock, *event = [part.strip() for part in text.split("/")]
    return Case(tuple(map(str.strip, bodies.split("+"))), lock, *event)


def hunt_here(texts: Sequence[str]) -> None:
    """Walk cases until the first anomaly; tell on one line what was seen."""
    orders, example = 0, ""
    with Walker(is_patient=False) as walker:
        for text in texts:
            tally = walker.walk(case_of(text))
            orders += tally.orders
            if tally.anomalies:
                example = f"{tally.case}: {tally.examples[0]}"
                break
    told = {"orders": orders, "anomalies": int(bool(example)), "example": example}
    print(json.dumps({**told, "package": smartredis_wsgi.__file__}))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.hunt:
        hunt_here(options.hunt)
        return 0
    begun = time.monotonic()
    cases = list(map(case_of, options.case or [])) or SLICES[options.slice]()
    if options.sample is not None and options.sample < len(cases):
        cases = random.Random(options.seed).sample(cases, options.sample)
    fine = explore_ours(cases, options.workers)
    if not options.case:
        fine &= explore_control(options.workers)
        fine &= hunt_mutants(options.workers)
    print(f"{time.monotonic() - begun:.0f} s, {options.workers} workers")
    return 0 if fine else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="explorer", description=__doc__)
    parser.add_argument("--slice", choices=["fast", "full"], default="full")
    parser.add_argument("--sample", type=int, help="so many of its cases, at random")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--case", action="append", metavar="BODY+BODY/LOCK[/EVENT]")
    parser.add_argument("--hunt", nargs="+", metavar="CASE", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
