"""The scenarios of one client, by pytest-benchmark: one contender after the other.

For a look at one of them; ratios are better taken from run.py, which interleaves them.
"""

from __future__ import annotations

from typing import Any

import pytest
from scenarios import Maker, in_process, locks, requests, steps
from world import World

ALONE = [
    *requests.SCENARIOS,
    *steps.SCENARIOS,
    *in_process.SCENARIOS,
    *(each for each in locks.SCENARIOS if hasattr(each, "contenders")),
]
CONTENDERS = [
    pytest.param(each.name, make, id=f"{each.name}: {name}")
    for each in ALONE
    for name, make in each.contenders.items()
]


@pytest.mark.parametrize(("scenario", "make"), CONTENDERS)
def test_request(benchmark: Any, world: World, scenario: str, make: Maker) -> None:
    benchmark.group = scenario
    benchmark(make(world))
