"""Who was destroyed stays so, also when memory was short; a slice of ``make evict``."""

from __future__ import annotations

import pytest
from illness.eviction import POLICIES, run
from servers import Server

COUNT = 40


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_is_back_whose_tombstone_was_evicted(
    server: Server, policy: str
) -> None:
    found = run(server, policy, COUNT)
    assert (found.refused, found.back) == (COUNT, 0)
    assert bool(found.evicted) == bool(found.control_back) == (policy != "noeviction")
