"""A target is met or not, by figures that are given here."""

from __future__ import annotations

import pytest
import report
from measure import Seconds
from scenarios import Measured
from targets import NOTES, TARGETS, Target

LIMIT = TARGETS[1]  # read: at most 0.6 of redis-py's HGETALL


def row_of(target: Target, seconds: Seconds) -> list[str]:
    """The target's cells, where only its scenario was measured."""
    measured = [Measured(target.scenario, "", seconds)]
    lines = report.of_targets(measured, is_whole=False).splitlines()
    [line] = [line for line in lines if f" {target} | {target.limit:g} " in line]
    return line.strip("| ").split(" | ")


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.5, "yes"), (0.6, "yes"), (0.6001, "**no**")]
)
def test_a_target_is_met_up_to_its_limit(ours: float, verdict: str) -> None:
    cells = row_of(LIMIT, {"ours": [ours] * 3, LIMIT.reference: [1.0] * 3})
    assert cells[-1] == verdict


def test_a_target_whose_reference_is_not_there_is_not_measured() -> None:
    assert row_of(LIMIT, {"ours": [0.1] * 3})[-3:] == ["-", "-", "not measured"]


def test_a_scenario_that_was_not_run_is_not_measured() -> None:
    lines = report.of_targets([], is_whole=True).splitlines()
    rows = [line for line in lines if line.endswith("| not measured |")]
    assert len(rows) == len(TARGETS) + len(NOTES)
