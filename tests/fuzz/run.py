"""Each property under a coverage-guided fuzzer: ``python -m fuzz.run``, from tests/.

Prints for each target how many inputs it has met, how many branches of the package they
took, and what failed; the input that did is kept. The exit status is 1 then.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from explorer.run import Line
from servers import Server

TARGETS = "cookie", "json", "msgpack", "config", "url", "record", "http"
_PULSE = re.compile(r"^#(\d+)\s.*cov: (\d+).*corp: (\d+)")
_END = re.compile(r"^stat::number_of_executed_units: *(\d+)")


class Run(NamedTuple):
    """What became of one target."""

    inputs: int
    branches: int
    kept: int  # inputs that each took another way
    failure: str


def fuzz(target: str, seconds: int, found: Path, server: Server) -> Run:
    """Fuzz one target in a process of its own; progress goes to stderr."""
    command = [sys.executable, "-m", "fuzz.under_atheris", target, str(seconds)]
    line, tail, begun = Line(target, seconds), list[str](), time.monotonic()
    inputs = branches = kept = told = 0
    running = subprocess.Popen(
        [*command, str(found), server.url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert running.stderr is not None
    for text in running.stderr:
        tail = [*tail[-40:], text]
        if pulse := _PULSE.match(text):
            inputs, branches, kept = map(int, pulse.groups())
            past = int(time.monotonic() - begun)
            line.advance(f"s, {inputs:,} inputs, {branches:,} branches", past - told)
            told = past
        elif end := _END.match(text):
            inputs = int(end[1])
    line.end()
    failed = running.wait() != 0
    return Run(inputs, branches, kept, "".join(tail) if failed else "")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", choices=TARGETS, action="append")
    chosen = parser.parse_args(words)
    found = Path(tempfile.mkdtemp(prefix="fuzz-"))
    failures: dict[str, str] = {}
    print(f"{'target':<9}{'inputs':>12}{'branches':>10}{'ways':>7}  failed", flush=True)
    with Server("valkey") as server:
        for target in chosen.only or TARGETS:
            run = fuzz(target, chosen.seconds, found, server)
            figures = f"{run.inputs:>12,}{run.branches:>10,}{run.kept:>7,}"
            print(
                f"{target:<9}{figures}  {'yes' * bool(run.failure) or 'no'}", flush=True
            )
            failures |= {target: run.failure} if run.failure else {}
    for target, text in failures.items():
        print(f"\n{target}; the input is in {found}\n{text}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
