"""Nobody gets another's answer where waits are torn; a slice of ``make replies``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from illness.replies import places, tear
from illness.torn import HOWS

COUNT = 40
PLACES = ("plain", "sentinel", "cluster")


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with places() as ports:
        yield ports


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", HOWS)
def test_who_is_torn_out_of_a_wait_leaves_no_answer_to_others(
    ports: dict[str, int], how: str, place: str
) -> None:
    found = tear(how, place, ports[place], COUNT)
    for ours in (found["url"], found["client"]):
        assert ours.torn >= COUNT
        assert ours.own
        assert not ours.foreign
    assert not found["url"].noticed  # there was none to be noticed
    if place == "sentinel":
        assert found["control"].foreign
