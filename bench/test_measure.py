"""The arithmetic, and that every contender has its turn in every round."""

from __future__ import annotations

import os

import pytest
from driver import FILL, Browser, bare
from measure import in_rounds, pinned, ratio, timed, traffic
from world import World


def test_a_ratio_is_that_of_the_medians_and_the_median_of_each_rounds_own() -> None:
    found = ratio([1.0, 4.0, 9.0], [2.0, 4.0, 3.0])
    assert found == (4.0 / 3.0, 1.0)


def test_what_belongs_to_neither_is_taken_off_each() -> None:
    found = ratio([5.0] * 3, [9.0] * 3, less=[3.0] * 3, reference_less=[1.0] * 3)
    assert found == (0.25, 0.25)


def test_each_round_runs_everybody_once() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    results = in_rounds(runs, rounds=5, warm_up=2)
    rounds = [sorted(order[at : at + 3]) for at in range(0, len(order), 3)]
    assert rounds == [["a", "b", "c"]] * 7
    assert [len(each) for each in results.values()] == [5, 5, 5]


def test_a_figure_is_of_one_request() -> None:
    runs: list[None] = []
    assert timed(lambda: runs.append(None), times=4, requests=5)() > 0
    assert len(runs) == 4


def test_traffic_is_that_of_one_request(world: World) -> None:
    client = world.client()
    client.ping()
    seen = traffic([world.client()], client.ping, requests=1, times=100)
    assert (seen.trips, seen.commands) == (1, 1)
    assert seen.received == len("*1\r\n$4\r\nPING\r\n")
    assert abs(seen.sent - len("+PONG\r\n")) < 1  # an INFO is not always as long


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_pins_are_taken_off() -> None:
    before = os.sched_getaffinity(0)
    with pinned(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_an_answer_other_than_200_is_an_error() -> None:
    def broken(environ: dict[str, object], start_response: object) -> list[bytes]:
        return bare(environ, lambda _, headers: start_response("503 No", headers))

    with pytest.raises(RuntimeError, match="503"):
        Browser(broken).request(FILL)
