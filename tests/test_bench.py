"""The benchmarks still run: each of them once or so, with no look at the time it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 300.0

pytestmark = pytest.mark.usefixtures("server")  # where there is none: skipped


def output_of(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, its head not counted."""
    lines = iter(text[text.index(heading) :].splitlines())
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_benchmark_runs() -> None:
    flags = ["--benchmark-disable", "-p", "no:cacheprovider"]
    assert " passed" in output_of("-m", "pytest", "bench", "-q", *flags)


def test_a_run_writes_a_page_with_every_scenario_and_target(tmp_path: Path) -> None:
    names = output_of("bench/run.py", "--list").split()
    output_of("bench/run.py", "--quick", "--rounds", "2", "--write", str(tmp_path))
    page = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert all(f"### {name}" in page for name in names)
