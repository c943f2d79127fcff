"""A slice of the redirects that are followed at once, and its control."""

from __future__ import annotations

import pytest
from app_servers import COMMANDS
from redirects.client import WAYS
from redirects.run import follow
from servers import Server

REDIRECTS, CONTROL = 140, 42


@pytest.mark.parametrize("kind", COMMANDS)
def test_who_follows_a_redirect_at_once_reads_what_he_wrote(
    kind: str, server: Server
) -> None:
    tally = follow(kind, "ours", server, REDIRECTS)
    assert tally.followed.total() == REDIRECTS
    assert len(tally.followed) == len(WAYS)
    assert not +tally.stale


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_session_that_is_stored_after_the_body_is_seen_stale(
    kind: str, server: Server
) -> None:
    assert follow(kind, "late", server, CONTROL).stale.total()
