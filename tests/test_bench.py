"""The benchmarks still run: each of them once or so, with no look at their times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 300.0

Table = list[dict[str, str]]

pytestmark = pytest.mark.usefixtures("server")  # where there is none: skipped


def output_of(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def table_below(heading: str, page: str) -> Table:
    """The rows of the first table there, as dicts by the head's texts."""
    section = page.partition(f"{heading}\n")[2]
    first = section[section.index("|") :].partition("\n\n")[0]
    head, _, *rows = (
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in first.splitlines()
    )
    return [dict(zip(head, row, strict=True)) for row in rows]


def section_of(name: str, page: str) -> str:
    return page.partition(f"### {name}\n")[2].partition("\n#")[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run with few rounds writes."""
    folder = tmp_path_factory.mktemp("docs")
    output_of("bench/run.py", "--quick", "--rounds", "1", "--write", str(folder))
    return (folder / "benchmarks.md").read_text("utf-8")


def test_every_benchmark_runs() -> None:
    flags = ["--benchmark-disable", "-p", "no:cacheprovider"]
    assert " passed" in output_of("-m", "pytest", "bench", "-q", *flags)


def test_the_page_has_every_scenario(page: str) -> None:
    headings = [line for line in page.splitlines() if line.startswith("### ")]
    for name in output_of("bench/run.py", "--list").split():
        assert any(heading.startswith(f"### {name}") for heading in headings)


def test_who_is_not_in_a_table_is_said_not_to_be_measured(page: str) -> None:
    measured = {row["who"] for row in table_below("### read", page)}
    for peer in ("Beaker", "Flask-Session", "pyramid_session_redis", "naive JSON text"):
        is_absent = f"Not measured: {peer}, as" in section_of("read", page)
        assert is_absent == (peer not in measured)


def test_every_target_is_judged_where_it_was_measured(page: str) -> None:
    """Verdicts themselves are tested on given figures, see bench/test_targets.py."""
    targets = table_below("## Targets", page)
    for row in targets:
        verdicts = ("not measured",) if row["measured"] == "-" else ("yes", "**no**")
        assert row["met"] in verdicts
    own = [row for row in targets if "redis-py: HGETALL" in row["ratio of medians"]]
    assert [row["met"] for row in own if row["measured"] == "-"] == []


def test_round_trips_are_counted(page: str) -> None:
    trips = {row["who"]: row["round trips"] for row in table_below("### read", page)}
    assert trips["bare application"] == "0.0"
    assert trips["redis-py: HGETALL"] == trips["bare socket: HGETALL"] == "1.0"


def test_one_scenario_can_be_run_alone() -> None:
    printed = output_of("bench/run.py", "--only", "incr", "--rounds", "2")
    assert printed.count("###") == 1
