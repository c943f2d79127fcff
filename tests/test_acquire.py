"""One attempt at a lock, by the script alone: who has it, who waits, who leaves."""

from __future__ import annotations

import pytest
import redis as redis_py

from smartredis_wsgi.locks.protocol import lock_key, signal_key, waiters_key
from smartredis_wsgi.wire import Call, Script, Wire

LOCK, SIGNAL, WAITERS = lock_key("blue"), signal_key("blue"), waiters_key("blue")
TURN = 1100  # ms for which a waiter counts as one unless it comes back
_ACQUIRE = Script.named("acquire")


class Attempts:
    """At one lock, with tokens that are names."""

    def __init__(self, client: redis_py.Redis) -> None:
        self.redis = client
        self._wire = Wire(client, 5.0)

    def __call__(
        self, token: str, *, turn: int = TURN, most: int = 0, record: str = LOCK
    ) -> str:
        keys, words = [LOCK, WAITERS, record, SIGNAL], (token, "60000", str(most))
        call = Call(_ACQUIRE, keys, (*words, str(turn)), lambda answer: answer[0])
        self._wire.run(call)
        return str(call.result, "ascii")

    def waits(self, *tokens: str, score: float = 1e15) -> None:
        self.redis.zadd(WAITERS, dict.fromkeys(tokens, score))
        self.redis.expire(WAITERS, 60)

    @property
    def holder(self) -> str:
        return (self.redis.get(LOCK) or b"").decode()

    @property
    def waiting(self) -> list[str]:
        return sorted(token.decode() for token in self.redis.zrange(WAITERS, 0, -1))

    @property
    def now_ms(self) -> int:
        seconds, micro = self.redis.time()
        return int(seconds * 1000 + micro // 1000)


@pytest.fixture
def attempt(redis: redis_py.Redis) -> Attempts:
    return Attempts(redis)


def test_who_comes_first_has_it_for_an_expiry(attempt: Attempts) -> None:
    assert attempt("ann") == "held"
    assert attempt.holder == "ann"
    assert 50_000 < attempt.redis.pttl(LOCK) <= 60_000
    assert attempt.redis.keys("*") == [LOCK.encode()]


def test_who_comes_next_waits_and_counts_for_a_turn(attempt: Attempts) -> None:
    attempt("ann")
    for number, token in enumerate(["bob", "carl"]):
        before = attempt.now_ms
        assert attempt(token) == "busy"
        until = attempt.redis.zscore(WAITERS, token)
        assert before <= until - TURN <= attempt.now_ms
        assert len(attempt.waiting) == number + 1
        assert TURN < attempt.redis.pttl(WAITERS) <= TURN + 1000
    assert attempt.holder == "ann"


def test_who_has_it_is_told_so_again(attempt: Attempts) -> None:
    attempt("ann")
    attempt.waits("ann", "bob")
    assert attempt("ann") == "held"
    assert attempt.waiting == ["bob"]


def test_who_waits_gets_it_and_waits_no_more(attempt: Attempts) -> None:
    attempt.waits("bob", "carl")
    assert attempt("bob") == "held"
    assert (attempt.holder, attempt.waiting) == ("bob", ["carl"])


def test_who_comes_later_waits_though_it_is_free(attempt: Attempts) -> None:
    attempt.waits("bob")
    assert attempt("dora") == "busy"
    assert (attempt.holder, attempt.waiting) == ("", ["bob", "dora"])


def test_who_can_not_wait_takes_it_or_leaves(attempt: Attempts) -> None:
    attempt.waits("bob")
    assert attempt("dora", turn=0) == "held"
    assert attempt.waiting == ["bob"]
    attempt.waits("emil")
    assert attempt("emil", turn=0) == "busy"
    assert (attempt.holder, attempt.waiting) == ("dora", ["bob"])


def test_who_does_not_come_back_waits_no_more(attempt: Attempts) -> None:
    attempt.waits("dead", score=attempt.now_ms - 1)
    assert attempt("bob") == "held"
    attempt.waits("dead", score=attempt.now_ms - 1)
    assert attempt("carl", most=1) == "busy"
    assert attempt.waiting == ["carl"]


def test_where_enough_wait_nobody_else_does(attempt: Attempts) -> None:
    attempt("ann")
    attempt.waits("bob", "carl")
    assert attempt("dora", most=2) == "crowded"
    assert attempt("dora", most=1) == "crowded"
    assert attempt.waiting == ["bob", "carl"]
    assert attempt("carl", most=1) == "busy"
    assert attempt("dora", most=3) == "busy"
    assert attempt("emil") == "busy"
    assert attempt.waiting == ["bob", "carl", "dora", "emil"]


def test_where_one_may_wait_one_does(attempt: Attempts) -> None:
    attempt("ann")
    assert attempt("bob", most=1) == "busy"
    assert attempt("carl", most=1) == "crowded"


def test_a_record_that_is_there_is_no_hindrance(attempt: Attempts) -> None:
    attempt.redis.hset("record", "a", "b")
    attempt.redis.expire("record", 60)
    assert attempt("ann", record="record") == "held"
    assert attempt("bob", record="record") == "busy"


@pytest.mark.parametrize("is_string", [False, True])
def test_without_a_record_there_is_nothing_to_lock(
    attempt: Attempts, is_string: bool
) -> None:
    if is_string:
        attempt.redis.set("record", "destroyed", ex=60)
    assert attempt("ann", record="record") == "nothing"
    assert not attempt.redis.exists(LOCK, SIGNAL, WAITERS)


def test_who_finds_no_record_any_more_gives_the_lock_back(attempt: Attempts) -> None:
    attempt("ann")
    assert attempt("bob", record="record") == "nothing"
    assert attempt.holder == "ann"
    assert attempt("ann", record="record") == "nothing"
    assert attempt.holder == ""
    assert not attempt.redis.exists(SIGNAL)


def test_who_was_woken_and_finds_no_record_wakes_the_next(attempt: Attempts) -> None:
    attempt.waits("bob", "carl")
    attempt.redis.rpush(SIGNAL, "old")
    assert attempt("bob", record="record") == "nothing"
    assert attempt.waiting == ["carl"]
    assert attempt.redis.lrange(SIGNAL, 0, -1) == [b"1"]
    assert 900 < attempt.redis.pttl(SIGNAL) <= 1000
