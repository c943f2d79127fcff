"""Masters that die and slots that move while requests run; see ``make failover``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from illness.failover import SCENES, without_replica
from illness.groups import SentinelGroup
from servers import HOST, free_port

from smartredis_wsgi import SessionStore, StoreUnavailable

ENOUGH = 60


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    with SentinelGroup() as group:
        yield group


@pytest.mark.parametrize("scene", SCENES)
def test_what_redis_has_kept_is_there_once_and_nobody_is_back(scene: str) -> None:
    tally = SCENES[scene](ENOUGH)
    assert tally.acked >= 2 * ENOUGH
    assert not tally.violations, tally


def test_what_no_replica_has_is_lost_and_the_ledger_sees_it() -> None:
    assert without_replica(ENOUGH).lost


def test_a_logout_that_a_failover_undoes_is_told_where_replicas_are_waited_for(
    group: SentinelGroup,
) -> None:
    careless = SessionStore.from_config(url=group.url)
    careful = SessionStore.from_config(url=group.url, wait_replicas=1)
    kept, undone, told, moved = (new_session(careless) for _ in range(4))
    assert careful.destroy(kept)  # so that the others are with the replica, too
    with group.replica.client() as admin:
        admin.replicaof(HOST, free_port())
    assert careless.destroy(undone)
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        careful.destroy(told)
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        rotate(careful, moved)
    group.fail_over()
    after = SessionStore.from_config(url=group.replica.url)
    assert [is_there(after, session_id) for session_id in (kept, undone)] == [0, 1]
    assert all(is_there(after, session_id) for session_id in (told, moved))


def new_session(store: SessionStore) -> str:
    with store.open() as session:
        session["n"] = 1
    return session.id


def rotate(store: SessionStore, session_id: str) -> None:
    with store.open(session_id) as session:
        session.regenerate_id()


def is_there(store: SessionStore, session_id: str) -> bool:
    with store.open(session_id) as session:
        return bool(session)
