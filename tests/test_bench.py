"""The benchmarks still run: each function once, with no look at the time it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 60.0

pytestmark = pytest.mark.usefixtures("server")  # where there is none: skipped


def output_of(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_every_benchmark_runs() -> None:
    flags = ["--benchmark-disable", "-p", "no:cacheprovider"]
    assert " passed" in output_of("-m", "pytest", "bench", "-q", *flags)


def test_the_ratios_are_printed() -> None:
    lines = output_of("bench/ratios.py", "--rounds", "3").splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert rows == ["request", "read", "write", "read and write", "incr", "create"]
    assert "valkey" in lines[-2]
