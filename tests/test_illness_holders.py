"""Nobody overwrites another who holds the same lock; a slice of ``make holders``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from illness.holders import CASES, Found, Ground, run


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    "case", range(len(CASES)), ids=[f"{why}, {lock}" for why, lock, _ in CASES]
)
def test_of_two_holders_one_is_told_so(ground: Ground, case: int) -> None:
    assert run(ground, case, "ours", 1) == Found(1, refused=1, overwrote=0)
    assert run(ground, case, "control", 1) == Found(1, refused=0, overwrote=1)
