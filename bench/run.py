"""Measure everything, print the tables, write docs/benchmarks.md.

    python bench/run.py                           # as `make bench` does
    python bench/run.py --quick                   # a short run, nothing is written
    python bench/run.py --only read --rounds 500  # one scenario; its targets
    python bench/run.py --only 'in-process*' --only lock
    python bench/run.py --list                    # the scenarios' names

Client and server share one core, which repeats best; --core says which, --no-pin lets
the scheduler choose. A contender's turn is ten requests, one after the other; with
--turn 1 each request finds its code and data out of the processor's caches, as the
others have used them in between. Absolute times belong to the machine: the ratios are
the result.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from pathlib import Path

import report
from scenarios import (
    Measured,
    Plan,
    Scenario,
    in_process,
    inside,
    locks,
    requests,
    steps,
)
from world import World

SCENARIOS: list[Scenario] = [
    *requests.SCENARIOS,
    *steps.SCENARIOS,
    *inside.SCENARIOS,
    *in_process.SCENARIOS,
    *locks.SCENARIOS,
]
DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    options = _parser().parse_args()
    chosen = [each for each in SCENARIOS if _is_chosen(each.name, options.only)]
    if options.list or not chosen:
        print("\n".join(each.name for each in SCENARIOS))
        return
    plan = _plan(options)
    setting = report.circumstances(plan)
    results = _measure(chosen, plan)
    for each in results:
        print(report.of_scenario(each), "\n")
    print(report.of_targets(results, not options.only), "\n")
    print(setting)
    if folder := _folder(options):
        _write(folder, results, setting)


def _measure(chosen: list[Scenario], plan: Plan) -> list[Measured]:
    results: list[Measured] = []
    with World() as world:
        for scenario in chosen:
            print(scenario.name, file=sys.stderr)
            results += scenario.measure(world, plan)
    return results


def _write(folder: Path, results: list[Measured], setting: str) -> None:
    page = report.page(results, setting, _pictures(folder, results))
    (folder / "benchmarks.md").write_text(page, encoding="utf-8")
    print(f"\nwritten: {folder / 'benchmarks.md'}")


def _pictures(folder: Path, results: list[Measured]) -> dict[str, str]:
    """Paths, relative to the folder, by the scenarios' names."""
    try:
        import plots
    except ImportError as error:
        print(f"\nno pictures: {error.name} is not installed")
        return {}
    paths = plots.write(folder / "benchmarks", results)
    return {path.stem: path.relative_to(folder).as_posix() for path in paths}


def _is_chosen(name: str, patterns: list[str] | None) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, each) for each in patterns)


def _plan(options: argparse.Namespace) -> Plan:
    rounds, crowd_rounds = (60, 2) if options.quick else (300, 15)
    return Plan(
        options.rounds or rounds,
        min(options.rounds or crowd_rounds, crowd_rounds),
        None if options.no_pin else options.core,
        options.turn,
    )


def _folder(options: argparse.Namespace) -> Path | None:
    """Where to write; what is in docs/ is replaced only by a whole and long run."""
    if options.write or options.quick or options.only:
        return options.write
    return DOCS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="SCENARIO")
    parser.add_argument("--list", action="store_true", help="tell the scenarios")
    parser.add_argument("--quick", action="store_true", help="a minute, not many")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--turn", type=int, default=10, metavar="REQUESTS")
    parser.add_argument("--core", type=int, default=_last_core())
    parser.add_argument("--no-pin", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="instead of docs/")
    return parser


def _last_core() -> int | None:
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


if __name__ == "__main__":
    main()
